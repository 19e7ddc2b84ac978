"""What all providers share and replay needs too: keys, addresses, and reading what came back."""

from __future__ import annotations

import json
import os
import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_promptfit.chat.body import parts_of, texts
from pytest_promptfit.chat.reply import ToolCall
from pytest_promptfit.errors import CallError
from pytest_promptfit.text import scrubber

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_promptfit.chat.reply import StopReason
    from pytest_promptfit.prompts.model_spec import ModelSpec
    from pytest_promptfit.providers.provider import Provider

LONGEST_QUOTE = 200
"""Characters of a server's own words that fit into a message."""


LIMITS = ("max_completion_tokens", "max_tokens")
"""Parameters that limit a reply."""

THOUGHT_PARTS = ("thinking", "reasoning", "reasoning.text", "reasoning.summary")
HIDDEN_PARTS = ("redacted_thinking", "reasoning.encrypted")
"""Types of the parts of a reply that are thoughts; APIs spell some of them in a way that only they can read."""

THOUGHT_FIELDS = ("thinking", "reasoning", "text", "summary", "content")
REDACTED = "(a thought that the API does not show)"

DEEPEST_ERROR = 8
"""Levels of an error object that are looked into for its words."""

MOST_FIELDS = 5
"""Refused fields of a request that a message names."""


class NoReplyError(CallError):
    """The request went out, but no reply could be read: it may have been paid for all the same."""


class Tries:
    """What is told of the tries of one call, since a retry may cost as much as the first; this one takes no note.

    ``begin`` waits until a try may be sent, or raises what forbids it; ``end`` says that it is not under way any
    more, ``lose`` that it may be paid for and brought no reply.
    """

    async def begin(self) -> None:
        """Wait until the next try may be sent."""

    def end(self) -> None:
        """Take note that the try is over."""

    def lose(self) -> None:
        """Take note that the try may be paid for all the same."""


TRIES: ContextVar[Tries] = ContextVar("promptfit_tries", default=Tries())  # noqa: B039 - it holds nothing
"""The tries of the call that the current task makes."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Where the key of a model comes from; the environment is read when the key is needed, not before.

    ``own_url`` is the provider's own endpoint: its key goes there and to no other server.
    """

    spec: ModelSpec
    variables: tuple[str, ...]
    own_url: str

    def names(self) -> tuple[str, ...]:
        """Return the environment variables that may hold the key, in order; none where no key is needed."""
        if self.spec.api_key_env:
            return (self.spec.api_key_env,)
        return self.variables if is_own(self.spec, self.own_url) else ()

    def value(self) -> str | None:
        """Return the key, ``None`` where none is needed; raise a fatal ``CallError`` when it is missing."""
        names = self.names()
        found = next(iter(self.secrets()), None)
        if found is None and names:
            raise CallError(f"{self.spec}: no API key: {self._how_to_set(names[0])}", fatal=True)
        if found is not None and not (found.isascii() and found.isprintable()):
            raise CallError(f"{self.spec}: the API key holds characters that no key has", fatal=True)
        return found

    def secrets(self) -> tuple[str, ...]:
        """Return the values of all these variables that are set."""
        return tuple(value for name in self.names() if (value := self._read(name)))

    def _how_to_set(self, name: str) -> str:
        if self.spec.api_key_env:
            return f"set {name}, the variable that model.api_key_env names"
        return f"set {name} (or name another variable with model.api_key_env)"

    @staticmethod
    def _read(name: str) -> str:
        return os.environ.get(name, "").strip()


def is_own(spec: ModelSpec, own_url: str) -> bool:
    """Tell whether the model is asked at its provider's own endpoint, ``own_url`` or a region of it."""
    if spec.base_url is None:
        return True
    host = f".{_host_of(own_url)}"
    return spec.base_url.startswith("https://") and f".{_host_of(spec.base_url)}".endswith(host)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def where_a_key_goes(spec: ModelSpec) -> list[str]:
    """Return the line that names the server of a key which the prompt file chose for it, if there is one.

    The file may be a stranger's.
    """
    if not (spec.api_key_env and spec.base_url):
        return []
    return [f"the key in {spec.api_key_env} was sent to {urlsplit(spec.base_url).netloc}"]


def check_base_url(spec: ModelSpec) -> None:
    """Raise a fatal ``CallError`` when ``base_url`` is not a plain http(s) URL."""
    if spec.base_url is None:
        return
    wrong = _what_is_wrong(spec.base_url)
    if wrong:
        raise CallError(f"{spec}: model.base_url {wrong}", fatal=True)


def _what_is_wrong(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"is not a URL: {one_line(str(error))}"
    if parts.scheme not in {"http", "https"} or not host or not base_url.isprintable() or " " in base_url:
        return f"{one_line(base_url)!r} is not a URL such as http://localhost:11434/v1"
    return ""


def endpoint(base_url: str, path: str) -> str:
    """Return the URL of ``path`` below ``base_url``, whose query stays where it belongs."""
    base, question_mark, query = base_url.partition("?")
    return f"{base.rstrip('/')}{path}{question_mark}{query}"


def one_line(text: str, limit: int = LONGEST_QUOTE) -> str:
    """Return ``text`` on one line, without control characters, cut to ``limit`` characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: limit * 20]).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


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
    hidden = [REDACTED for part in parts_of(content) if part.get("type") in HIDDEN_PARTS]
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


def count(usage: Mapping[str, object], name: str) -> int:
    """Return a token count of a reply's ``usage``; 0 where the server does not say."""
    value = usage.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def reply_limit(payload: Mapping[str, object]) -> int | None:
    """Return the most tokens that a reply to a JSON body may have; ``None`` where it sets no limit."""
    limits = (payload.get(name) for name in LIMITS)
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)


def limit_named(payload: Mapping[str, object]) -> str:
    """Return the parameter that limits a reply to a JSON body, with its value; where there is none, what may."""
    named = (f"{name} ({payload[name]})" for name in LIMITS if payload.get(name))
    return next(named, f"{LIMITS[1]} ({LIMITS[0]} for models that think)")


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
    says_nothing = _is_empty_choice(body, choice) if "choices" in body else _is_empty_message(body)
    return 502 if choice.get("finish_reason") == "error" or says_nothing else None


def _is_empty_choice(body: Mapping[str, object], choice: Mapping[str, object]) -> bool:
    """Tell whether there is no choice, or one that holds nothing and for which no token was written."""
    if not body["choices"]:
        return True
    message = choice.get("message")
    if not isinstance(message, dict) or any(value for name, value in message.items() if name != "role"):
        return False
    return choice.get("finish_reason") is None or _wrote_nothing(body, "completion_tokens", choice["finish_reason"])


def _is_empty_message(body: Mapping[str, object]) -> bool:
    """Tell whether a message of Anthropic's form holds nothing and no token was written for it."""
    if "content" not in body or body["content"]:
        return False
    return body.get("stop_reason") is None or _wrote_nothing(body, "output_tokens", body["stop_reason"])


def _wrote_nothing(body: Mapping[str, object], name: str, why: object) -> bool:
    usage = body.get("usage")
    return isinstance(usage, dict) and usage.get(name) == 0 and why in {"stop", "end_turn"}


def described(error: BaseException) -> str:
    """Return an exception on one line."""
    text = one_line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shown(value: object) -> str:
    """Return a value that nobody asked for, with its type, on one line."""
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{one_line(repr(value), 80)} ({name})"
