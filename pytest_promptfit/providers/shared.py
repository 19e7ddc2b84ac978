"""What all providers share and replay needs too: keys, addresses, and reading what came back."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_promptfit.chat import ToolCall
from pytest_promptfit.errors import CallError
from pytest_promptfit.scrubbing import scrubber

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pytest_promptfit.chat import StopReason
    from pytest_promptfit.model_spec import ModelSpec

LONGEST_QUOTE = 200
"""Characters of a server's own words that fit into a message."""


LIMITS = ("max_completion_tokens", "max_tokens")
"""Parameters that limit a reply."""

THOUGHT_PARTS = ("thinking", "reasoning", "reasoning.text", "reasoning.summary")
HIDDEN_PARTS = ("redacted_thinking", "reasoning.encrypted")
"""Types of the parts of a reply that are thoughts; APIs spell some of them in a way that only they can read."""

THOUGHT_FIELDS = ("thinking", "reasoning", "text", "summary", "content")
REDACTED = "(a thought that the API does not show)"


class NoReplyError(CallError):
    """The request went out, but no reply could be read: it may have been paid for all the same."""


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
    if parts.username or parts.password:
        return "must not hold a password: name a variable with model.api_key_env"
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


def text_of(content: object, kinds: Collection[str] = ("text", "output_text"), names: Sequence[str] = ("text",)) -> str:
    """Return the text of a message's content: a string, a list of parts of some ``kinds``, or nothing at all."""
    if isinstance(content, str):
        return content
    return "".join(_texts(_parts(content), kinds, names))


def thought_of(content: object) -> str:
    """Return the thoughts among the parts of a message's content; some may be told of and not shown."""
    if not isinstance(content, list):
        return ""
    found = _texts(_parts(content), THOUGHT_PARTS, THOUGHT_FIELDS)
    hidden = [REDACTED for part in _parts(content) if part.get("type") in HIDDEN_PARTS]
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


def _parts(content: object) -> list[dict[str, object]]:
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _texts(parts: Iterable[Mapping[str, object]], kinds: Collection[str], names: Sequence[str]) -> Iterator[str]:
    for part in parts:
        if part.get("type") in kinds:
            yield from _words(next((part[name] for name in names if part.get(name)), ""))


def _words(value: object) -> Iterator[str]:
    """Yield the words of a part's field: text, or parts with text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str))


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


def error_message(body: object) -> str:
    """Return the words of an error object, in any of the forms that APIs and servers use; else ``""``."""
    if isinstance(body, list):
        body = body[0] if body else None
    if not isinstance(body, dict):
        return body if isinstance(body, str) else ""
    error = body.get("error", body)
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""
