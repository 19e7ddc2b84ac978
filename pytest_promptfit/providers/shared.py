"""What all providers share and replay needs too: keys, addresses, and reading what came back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_promptfit.errors import CallError
from pytest_promptfit.scrubbing import scrubber

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_promptfit.chat import StopReason
    from pytest_promptfit.model_spec import ModelSpec

LONGEST_QUOTE = 200
"""Characters of a server's own words that fit into a message."""


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


def text_of(content: object) -> str:
    """Return the text of a message's content: a string, a list of parts, or nothing at all."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(_texts(part for part in parts if isinstance(part, dict)))


def _texts(parts: Iterable[Mapping[str, object]]) -> Iterable[str]:
    for part in parts:
        text = part.get("text")
        if part.get("type") in ("text", "output_text") and isinstance(text, str):
            yield text


def count(usage: Mapping[str, object], name: str) -> int:
    """Return a token count of a reply's ``usage``; 0 where the server does not say."""
    value = usage.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def reply_limit(payload: Mapping[str, object]) -> int | None:
    """Return the most tokens that a reply to a JSON body may have; ``None`` where it sets no limit."""
    limits = (payload.get("max_completion_tokens"), payload.get("max_tokens"))
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)


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
