"""What came back from an API, whichever protocol it speaks: the pieces of a reply, what is none, and refusals.

A refusal is an error status: who else would meet it, and what to do. Pure: nothing is sent here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_promptfit.chat.reply import ToolCall
from pytest_promptfit.chat.request import params_of, parts_of, question_of, texts
from pytest_promptfit.errors import CallError
from pytest_promptfit.text import one_line, scrubber

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_promptfit.chat.reply import StopReason
    from pytest_promptfit.prompts.model import ModelSpec
    from pytest_promptfit.providers import Provider


LIMIT_PARAMETERS = ("max_completion_tokens", "max_tokens")
"""Parameters that limit a reply."""

THOUGHT_PARTS = ("thinking", "reasoning", "reasoning.text", "reasoning.summary")
HIDDEN_PARTS = ("redacted_thinking", "reasoning.encrypted")
"""Types of the parts of a reply that are thoughts; APIs spell some of them in a way that only they can read."""

THOUGHT_FIELDS = ("thinking", "reasoning", "text", "summary", "content")
HIDDEN_THOUGHT = "(a thought that the API does not show)"

DEEPEST_ERROR = 8
"""Levels of an error object that are looked into for its words."""

LONGEST_NAME = 200
"""Characters of a model's name."""

MOST_FIELDS = 5
"""Refused fields of a request that a message names."""

FORBIDDEN_FIRST = 3
"""So many 403s, and no reply, say that the key may not do this, whatever the first ones are worded like."""

REFUSED_FIRST = 20
"""So many refusals of another kind, and no reply, say that it is not the samples."""

# Not compiled here: every replay imports this, and hardly any run is refused something.
_SAYS_KEY = r"(?i)\b(api[ _-]?key|credentials?|authenticat\w+|unauthori[sz]ed|access token)\b"
_BAD_KEY = r"(?i)api[ _-]?key\b.*\b(not valid|invalid|incorrect)|\b(invalid|incorrect) api[ _-]?key"
_TOO_LONG = r"(?i)context.(length|window)|too (long|many tokens)|input tokens|prompt tokens"
_PREFILL = (
    r"(?i)prefill|continue_final_message|add_generation_prompt|last (role|message)|assistant message"
    r"|(end|final|finish)\w* with (a|an) (user|assistant)|must end with|assistant with prefix"
)
_KEY_CODES = frozenset({"invalid_api_key", "authentication_error", "invalid_authentication", "unauthorized"})
_FILTER_CODES = frozenset(
    {"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation", "moderation_blocked"}
)


class NoReplyError(CallError):
    """The request went out, but no reply could be read: it may have been paid for all the same."""


def with_prefix(text: str, reply_prefix: str) -> str:
    """Return ``text`` starting with ``reply_prefix``, whether or not the server echoed it.

    Some APIs refuse white space at the end of a turn, so the prefix went out without it: then neither
    the echo nor the continuation has to repeat it in the same form.
    """
    bare = reply_prefix.rstrip()
    if not bare or text.startswith(reply_prefix):
        return text if bare else f"{reply_prefix}{text.removeprefix(reply_prefix)}"
    rest = text.removeprefix(bare)
    return f"{reply_prefix}{rest if bare == reply_prefix else rest.lstrip()}"


def thought_of(content: object) -> str:
    """Return the thoughts among the parts of a message's content; some may be told of and not shown."""
    if not isinstance(content, list):
        return ""
    found = texts(parts_of(content), THOUGHT_PARTS, THOUGHT_FIELDS)
    hidden = [HIDDEN_THOUGHT for part in parts_of(content) if part.get("type") in HIDDEN_PARTS]
    return "\n\n".join([*filter(str.strip, found), *hidden])


def first_text(message: Mapping[str, object], names: Iterable[str]) -> str:
    """Return the text of the first field that has one."""
    for name in names:
        text = message.get(name)
        if isinstance(text, str) and text.strip():
            return text
    return ""


def tool_call(name: object, arguments: object) -> ToolCall:
    """Return the call of a tool; servers send its arguments as JSON or as what JSON says."""
    said = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(name if isinstance(name, str) else "", said)


def count(usage: object, *path: str) -> int:
    """Return a token count of a reply's ``usage``; 0 where the server does not say."""
    for name in path:
        usage = usage.get(name) if isinstance(usage, dict) else None
    return usage if isinstance(usage, int) and usage > 0 else 0


def name_in(body: Mapping[str, object], name: str) -> str:
    """Return what a reply calls the model that made it, or its setup; ``""`` where it does not say."""
    said = body.get(name)
    # JSON may spell half a surrogate pair, which no file takes.
    return said.encode("utf-8", "replace").decode()[:LONGEST_NAME] if isinstance(said, str) else ""


def reply_limit(payload: Mapping[str, object]) -> int | None:
    """Return the most tokens that a reply to a JSON body may have; ``None`` where it sets no limit.

    A decision model writes none.
    """
    if question_of(payload):
        return 0
    limits = (payload.get(name) for name in LIMIT_PARAMETERS)
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)


def limit_named(payload: Mapping[str, object]) -> str:
    """Return the parameter that limits a reply to a JSON body, with its value; where there is none, what may."""
    named = (f"{name} ({payload[name]})" for name in LIMIT_PARAMETERS if payload.get(name))
    return next(named, f"{LIMIT_PARAMETERS[1]} ({LIMIT_PARAMETERS[0]} for models that think)")


def stop_reason(reasons: Mapping[str, StopReason], reason: object) -> StopReason:
    """Return what the API's own stop reason means."""
    return reasons.get(reason, "other") if isinstance(reason, str) else "other"


def unreadable(spec: ModelSpec, body: object, secrets: Sequence[str]) -> NoReplyError:
    """Return the error for a 2xx reply that is none: HTML, nothing, or an error object; a key in it is cut out."""
    said = scrubber(secrets)(error_message(body))
    what = f"says: {one_line(said)}" if said else "is not in the form this API has; is base_url right?"
    return NoReplyError(f"{spec}: the reply {what}")


def parsed_body(body: str) -> dict[str, Any]:
    """Return the JSON object of a response body; raise NoReplyError when it is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):  # a number of thousands of digits is a plain ValueError
        value = None
    if not isinstance(value, dict):
        start = " ".join(body[:80].split()) or "an empty body"
        raise NoReplyError(f"the API answered no JSON object: {start!r}")
    return value


def is_reply(provider: Provider, body: str) -> bool:
    """Tell whether a response body holds a reply, so that it is worth keeping."""
    try:
        provider.reply(parsed_body(body), "")
    except CallError:
        return False
    return True


def error_message(body: object, depth: int = 0) -> str:
    """Return the words of an error object, in any of the forms that APIs and servers use; else ``""``.

    Those are OpenAI's and Anthropic's ``error.message``, a bare ``message``, FastAPI's ``detail`` (a text, or a list
    of fields), which Mistral puts into ``message``, and the error that a router puts into a choice.
    """
    if isinstance(body, str):
        return body
    if depth == DEEPEST_ERROR or not isinstance(body, dict | list):
        return ""
    if isinstance(body, list):
        return "; ".join(filter(None, (_field_message(detail, depth + 1) for detail in body[:MOST_FIELDS])))
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    found = (body.get("error"), body.get("message"), body.get("detail"), choice)
    said = next(filter(None, (error_message(value, depth + 1) for value in found)), "")
    metadata = body.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None  # what a router was told itself
    return f"{said} ({raw})" if said and isinstance(raw, str) and raw else said


def _field_message(detail: object, depth: int) -> str:
    """Return what is wrong with one field of a request, as FastAPI tells it, or the words of a listed error."""
    if not isinstance(detail, dict) or not isinstance(detail.get("msg"), str):
        return error_message(detail, depth)
    place = detail.get("loc")
    name = place[-1] if isinstance(place, list) and place else ""
    return f"{name}: {detail['msg']}" if name else str(detail["msg"])


def failure_status(body: object) -> int | None:
    """Return the status that a 2xx reply should have had: it carries an error, or nothing at all; else ``None``.

    An error's own code is that status where it is one (a router's ``{"error": {"code": 429}}``); else it is 502.
    """
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    choice = choice if isinstance(choice, dict) else {}
    failed = body.get("error") or choice.get("error")
    if failed:
        code = str(failed.get("code")) if isinstance(failed, dict) else ""
        return int(code) if re.fullmatch("[45][0-9][0-9]", code) else 502
    return 502 if choice.get("finish_reason") == "error" or _says_nothing(body, choice) else None


def _says_nothing(body: Mapping[str, Any], choice: Mapping[str, Any]) -> bool:
    """Tell whether there is no choice, or a choice or a message that holds nothing and cost no token."""
    if "choices" in body:
        if not body["choices"]:
            return True
        message = choice.get("message")
        holds = not isinstance(message, dict) or any(value for name, value in message.items() if name != "role")
        why, written = choice.get("finish_reason"), "completion_tokens"
    else:  # Anthropic's form
        holds = "content" not in body or bool(body["content"])
        why, written = body.get("stop_reason"), "output_tokens"
    if holds or why is None:
        return not holds
    return _mapping(body.get("usage")).get(written) == 0 and why in {"stop", "end_turn"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error status, what the server said about it, and the JSON body that it was said of.

    ``body`` is the reply's JSON, or its text where it is none; ``said`` is its message on one line, without keys.
    ``shown`` is the status as a person reads it.
    """

    status: int
    body: object
    said: str
    payload: Mapping[str, Any]
    shown: str = ""

    def error(self, who: str, *, url: str, key: str) -> CallError:
        """Return the error for this: one line that says whose it is, what, and what to do.

        ``key`` names where the key comes from.
        """
        place, said = f"({self.shown or self.status})", f": {self.said}" if self.said else ""
        if self._is_quota:
            return CallError(
                f"{who}: the account has no quota left {place}{said}; add credit or use another key", fatal=True
            )
        if self.status == 404 or "model_not_found" in self._codes:
            what = f"not found at {url} {place}{said}; check the model's name and base_url"
            return CallError(f"{who}: {what}", fatal=True)
        if self._is_filter:
            listed = ", ".join(reason for reason in self._reasons or () if isinstance(reason, str))
            reasons = f" ({one_line(listed, 80)})" if listed else ""
            return CallError(f"{who}: refused by the content filter {place}{said}{reasons}")
        if self._is_key:
            return CallError(f"{who}: {key} was refused {place}{said}", fatal=True)
        if self.status == 403:
            what = f"the API does not let this one pass {place}{said}"
            return CallError(f"{who}: {what}", hopeless_after=FORBIDDEN_FIRST)
        if self.status == 429:
            what = f"over the rate limit, still after the retries {place}{said}; send fewer at once, or wait"
            return CallError(f"{who}: {what}", too_many=True)
        if self.status == 501:
            what = f"{url} does not do this {place}{said}; ask it for a model that can, or set base_url"
            return CallError(f"{who}: {what}", fatal=True)
        if self.status >= 500:
            what = f"the server failed, still after the retries {place}{said}; try again later"
            return CallError(f"{who}: {what}", passing=True)
        cure = self.cure
        what = f"the API does not take the request {place}{said}{f'; {cure}' if cure else ''}"
        hopeless_after = 1 if cure else 0 if self._is_too_long else REFUSED_FIRST
        return CallError(f"{who}: {what}", hopeless_after=hopeless_after)

    @property
    def cure(self) -> str:
        """What to write in the prompt file where the API refuses a parameter, or a trailing assistant turn."""
        if self.status not in {400, 422} or self._is_too_long:
            return ""
        name = self._parameter
        if name == "max_tokens" and "max_completion_tokens" in self.said:
            return "write max_completion_tokens in the place of max_tokens in params"
        if name in ("logprobs", "top_logprobs"):
            return f"this model tells no log-probabilities: leave out probabilities, decision and {name}"
        if name:
            return f"leave {name} out of params, or give it a value that this model takes"
        messages = parts_of(self.payload.get("messages"))
        if messages and messages[-1].get("role") == "assistant" and re.search(_PREFILL, self.said):
            return "write reply_prefix: ask under model, so that the user turn asks for the bot_reply_prefix"
        return ""

    @property
    def _is_too_long(self) -> bool:
        return re.search(_TOO_LONG, self.said) is not None

    @property
    def _parameter(self) -> str:
        """The parameter of the request that is refused; ``""`` where none is named."""
        sent = [*params_of(self.payload)]
        named = _fields(self.body)
        for name in sent:
            if name in named:
                return name
        found = []
        for name in sent:
            # `user`, `stop` and `n` may be words like any other.
            marked = "" if "_" in name else r"(?:^|[\"'`.]|(?:argument|parameter|supplied|field|name)s?:? ?)"
            if match := re.search(rf"{marked}(?<!\w){re.escape(name)}\b", self.said):
                found.append((match.start(), name))
        # A message may list what it would take: what it names first is what it refuses.
        return min(found, default=(0, ""))[1]

    @property
    def _codes(self) -> frozenset[str]:
        error = _error_of(self.body)
        inner = _mapping(error.get("innererror")) or _mapping(error.get("inner_error"))
        return frozenset(c for c in (error.get("code"), error.get("type"), inner.get("code")) if isinstance(c, str))

    @property
    def _reasons(self) -> list[object] | None:
        """What a router's content filter found, where it says so."""
        reasons = _mapping(_error_of(self.body).get("metadata")).get("reasons")
        return reasons if isinstance(reasons, list) else None

    @property
    def _is_filter(self) -> bool:
        flagged = self._reasons is not None or bool(self._codes & _FILTER_CODES)
        return flagged and self.status in {400, 403, 422}

    @property
    def _is_key(self) -> bool:
        if self.status == 403:
            return bool(self._codes & _KEY_CODES or re.search(_SAYS_KEY, self.said))
        return self.status == 401 or (self.status == 400 and bool(re.search(_BAD_KEY, self.said)))

    @property
    def _is_quota(self) -> bool:
        no_credit = "credit balance" in self.said.lower()
        return self.status == 402 or no_credit or bool(self._codes & {"insufficient_quota", "billing_error"})


def refusal_of(
    status: int, body: object, payload: Mapping[str, Any], *, said: str | None = None, shown: str = ""
) -> Refusal:
    """Return what an error status says; ``said`` is its message where something had to be cut out of it."""
    return Refusal(status, body, one_line(error_message(body) if said is None else said), payload, shown)


def _error_of(body: object) -> Mapping[str, Any]:
    # Gemini puts the error object into a list.
    if isinstance(body, list):
        body = body[0] if body else None
    found = _mapping(body)
    return _mapping(found.get("error")) or found


def _fields(body: object) -> frozenset[str]:
    """Return the fields of a request that an error names: OpenAI's ``param``, FastAPI's and Mistral's ``loc``."""
    error = _error_of(body)
    message = _mapping(error.get("message"))
    details = error.get("detail") or message.get("detail")
    places = (_mapping(detail).get("loc") for detail in details) if isinstance(details, list) else ()
    named = {str(part) for place in places if isinstance(place, list) for part in place}
    param = error.get("param")
    return frozenset({*named, param.partition(".")[0]} if isinstance(param, str) else named)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
