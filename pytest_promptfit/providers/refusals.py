"""What an API means by an error status: who else would meet it, and what to do. Pure: nothing is sent here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_promptfit.errors import CallError
from pytest_promptfit.providers.shared import error_message, one_line

FORBIDDEN_FIRST = 3
"""So many 403s, and no reply, say that the key may not do this, whatever the first ones are worded like."""

REFUSED_FIRST = 20
"""So many refusals of another kind, and no reply, say that it is not the samples."""

_KEY_CODES = frozenset({"invalid_api_key", "authentication_error", "invalid_authentication", "unauthorized"})
_SAYS_KEY = re.compile(r"\b(api[ _-]?key|credentials?|authenticat\w+|unauthori[sz]ed|access token)\b", re.IGNORECASE)
_BAD_KEY = re.compile(
    r"api[ _-]?key\b.*\b(not valid|invalid|incorrect)|\b(invalid|incorrect) api[ _-]?key", re.IGNORECASE
)
_FILTER_CODES = frozenset(
    {"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation", "moderation_blocked"}
)
_TOO_LONG = re.compile(r"context.(length|window)|too (long|many tokens)|input tokens|prompt tokens", re.IGNORECASE)
_PREFILL = re.compile(
    r"prefill|continue_final_message|add_generation_prompt|last (role|message)|assistant message"
    r"|(end|final|finish)\w* with (a|an) (user|assistant)|must end with|assistant with prefix",
    re.IGNORECASE,
)
_NO_PARAMETERS = frozenset({"model", "messages", "system"})


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
            return CallError(f"{who}: refused by the content filter {place}{said}{self._reasons}")
        if self._is_key:
            return CallError(f"{who}: {key} was refused {place}{said}", fatal=True)
        if self.status == 403:
            what = f"the API does not let this one pass {place}{said}"
            return CallError(f"{who}: {what}", hopeless_after=FORBIDDEN_FIRST)
        if self.status == 429:
            what = f"over the rate limit, still after the retries {place}{said}; send fewer at once, or wait"
            return CallError(f"{who}: {what}", too_many=True)
        if self.status >= 500:
            what = f"the server failed, still after the retries {place}{said}; try again later"
            return CallError(f"{who}: {what}", passing=True)
        cure = self.cure
        what = f"the API does not take the request {place}{said}{f'; {cure}' if cure else ''}"
        return CallError(f"{who}: {what}", hopeless_after=self._hopeless_after(cure))

    @property
    def cure(self) -> str:
        """What to write in the prompt file where the API refuses a parameter, or a trailing assistant turn."""
        if self.status not in {400, 422} or _TOO_LONG.search(self.said):
            return ""
        name = self._parameter
        if name == "max_tokens" and "max_completion_tokens" in self.said:
            return "write max_completion_tokens in the place of max_tokens in params"
        if name:
            return f"leave {name} out of params, or give it a value that this model takes"
        if self._ends_with_assistant and _PREFILL.search(self.said):
            return "write reply_prefix: ask under model, so that the user turn asks for the bot_reply_prefix"
        return ""

    def _hopeless_after(self, cure: str) -> int:
        if cure:
            return 1
        return 0 if _TOO_LONG.search(self.said) else REFUSED_FIRST

    @property
    def _parameter(self) -> str:
        """The parameter of the request that is refused; ``""`` where none is named."""
        sent = [name for name in self.payload if name not in _NO_PARAMETERS]
        named = _fields(self.body)
        for name in sent:
            if name in named:
                return name
        # A message may list what it would take: what it names first is what it refuses.
        places = ((match.start(), name) for name in sent if (match := _naming(name).search(self.said)))
        return min(places, default=(0, ""))[1]

    @property
    def _ends_with_assistant(self) -> bool:
        messages = self.payload.get("messages")
        last = messages[-1] if isinstance(messages, list) and messages else None
        return isinstance(last, Mapping) and last.get("role") == "assistant"

    @property
    def _codes(self) -> frozenset[str]:
        error = _error_of(self.body)
        inner = _mapping(error.get("innererror")) or _mapping(error.get("inner_error"))
        return frozenset(c for c in (error.get("code"), error.get("type"), inner.get("code")) if isinstance(c, str))

    @property
    def _reasons(self) -> str:
        reasons = _mapping(_error_of(self.body).get("metadata")).get("reasons")
        listed = [reason for reason in reasons if isinstance(reason, str)] if isinstance(reasons, list) else []
        return f" ({one_line(', '.join(listed), 80)})" if listed else ""

    @property
    def _is_filter(self) -> bool:
        if self.status not in {400, 403, 422}:
            return False
        flagged = isinstance(_mapping(_error_of(self.body).get("metadata")).get("reasons"), list)
        return flagged or bool(self._codes & _FILTER_CODES)

    @property
    def _is_key(self) -> bool:
        if self.status == 403:
            return bool(self._codes & _KEY_CODES or _SAYS_KEY.search(self.said))
        return self.status == 401 or (self.status == 400 and bool(_BAD_KEY.search(self.said)))

    @property
    def _is_quota(self) -> bool:
        no_credit = "credit balance" in self.said.lower()
        return self.status == 402 or no_credit or bool(self._codes & {"insufficient_quota", "billing_error"})


def refusal_of(
    status: int, body: object, payload: Mapping[str, Any], *, said: str | None = None, shown: str = ""
) -> Refusal:
    """Return what an error status says; ``said`` is its message where something had to be cut out of it."""
    return Refusal(status, body, one_line(error_message(body) if said is None else said), payload, shown)


def _naming(name: str) -> re.Pattern[str]:
    """Return what finds a parameter in a message, where ``user``, ``stop`` or ``n`` may be words like any other."""
    marked = r"" if "_" in name else r"(?:^|[\"'`.]|(?:argument|parameter|supplied|field|name)s?:? ?)"
    return re.compile(rf"{marked}(?<!\w){re.escape(name)}\b")


def _error_of(body: object) -> Mapping[str, Any]:
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
