"""The messages of a JSON body, in the form of either protocol: what a person, or an estimate, looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence


def messages_of(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return role and text of each message in the order they are sent, the system prompt first."""
    system = text_of(payload.get("system"))
    turns = [(str(message["role"]), text_of(message["content"])) for message in payload["messages"]]
    return [("system", system), *turns] if system else turns


def size_of(payload: Mapping[str, Any]) -> int:
    """Return the bytes of all messages."""
    return sum(len(text.encode("utf-8", "surrogatepass")) for _, text in messages_of(payload))


def text_of(content: object, kinds: Collection[str] = ("text", "output_text"), names: Sequence[str] = ("text",)) -> str:
    """Return the text of a message's content: a string, a list of parts of some ``kinds``, or nothing at all."""
    if isinstance(content, str):
        return content
    return "".join(texts(parts_of(content), kinds, names))


def parts_of(content: object) -> list[dict[str, object]]:
    """Return the parts of a message's content that have a form; none of a mere string."""
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def texts(parts: Iterable[Mapping[str, object]], kinds: Collection[str], names: Sequence[str]) -> Iterator[str]:
    """Yield the words of the parts of some ``kinds``: of the first field of ``names`` that each has."""
    for part in parts:
        if part.get("type") in kinds:
            yield from _words(next((part[name] for name in names if part.get(name)), ""))


def _words(value: object) -> Iterator[str]:
    """Yield the words of a part's field: text, or parts with text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str))
