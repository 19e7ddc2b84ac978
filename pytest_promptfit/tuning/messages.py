"""Messages to the optimizer and the JSON in its answers.

Samples are data that strangers wrote: each stands on one line as JSON, so that none can pose as an instruction.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

LONGEST_MESSAGE: Final = 9000
"""Characters of a message: in English it fits with the answer into a context of 4,096 tokens."""

LONGEST_NOTE: Final = 200
"""Characters of a note, and of a text that is shown in short."""

MAX_FAILED: Final = 1000
"""Brackets of an answer that may open no JSON; so many are no answer, and each costs time."""

_UNSAFE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff`]|<(?=\\|)")


def fitted(
    groups: Sequence[Sequence[str]],
    render: Callable[[list[list[str]]], str],
    *,
    length: int = LONGEST_MESSAGE,
    lines: int | None = None,
    spare_first: bool = False,
) -> str:
    """Return the text with at most so many characters, and lines in its groups; the longest group loses first.

    The first group may be spared as long as there is another.
    """
    kept = [list(group) for group in groups]
    most = sum(map(len, kept)) if lines is None else lines
    while any(kept) and (sum(map(len, kept)) > most or len(render(kept)) > length):
        spared = 1 if spare_first and any(kept[1:]) else 0
        max(kept[spared:], key=len).pop()
    return render(kept)


def joined(parts: Iterable[str]) -> str:
    """Return a message of those parts that are not empty."""
    return "\n\n".join(part for part in parts if part)


def sections(headings: Sequence[str], groups: Sequence[Sequence[str]]) -> list[str]:
    """Return each heading with its lines below it, but none without lines."""
    return ["\n".join([heading, *lines]) for heading, lines in zip(headings, groups, strict=True) if lines]


def cut(text: str, limit: int) -> str:
    """Return the beginning of a text, at most ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def cut_middle(text: str, limit: int) -> str:
    """Return the beginning and the end of a text, at most ``limit`` characters together."""
    half = (limit - 3) // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def one_line(value: object) -> str:
    """Return JSON on one line that no sample can end: nothing in it breaks a line, a code fence or a chat template."""
    dumped = json.dumps(value, ensure_ascii=False)
    return _UNSAFE.sub(lambda char: f"\\u{ord(char[0]):04x}", dumped)


def json_values(answer: str, wanted: Callable[[object], bool]) -> Iterator[Any]:
    """Yield the outermost JSON objects and lists of an answer that are wanted, whatever stands around them."""
    # Line breaks inside strings are what weak models write.
    decoder = json.JSONDecoder(strict=False)
    end = failed = 0
    for opening in re.finditer(r"[\[{]", answer):
        if opening.start() < end or failed > MAX_FAILED:
            continue
        try:
            value, after = decoder.raw_decode(answer, opening.start())
        except (ValueError, RecursionError):
            failed += 1
            continue
        if wanted(value):
            yield value
            end = after
