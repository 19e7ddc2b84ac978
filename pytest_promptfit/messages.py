"""The messages of a JSON body, in the form of either protocol: what a person, or an estimate, looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_promptfit.providers.shared import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def messages_of(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return role and text of each message in the order they are sent, the system prompt first."""
    system = text_of(payload.get("system"))
    turns = [(str(message["role"]), text_of(message["content"])) for message in payload["messages"]]
    return [("system", system), *turns] if system else turns


def size_of(payload: Mapping[str, Any]) -> int:
    """Return the bytes of all messages."""
    return sum(len(text.encode("utf-8", "surrogatepass")) for _, text in messages_of(payload))
