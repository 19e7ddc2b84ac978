"""Where lines start and end in a file's text, and edits of parts of it; no YAML is parsed here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Edit = tuple[int, int, str]
"""What stands from one place of the text to another gives way to this."""

BREAK = re.compile(r"\r\n|\r|\n")


def indent_of(body: str) -> int:
    """Return how far the first line that is not blank is indented."""
    found = re.search(r"^( *)[^ \r\n]", body, re.MULTILINE)
    return len(found[1]) if found else 0


def line_end(text: str, at: int) -> int:
    """Return where the line of ``at`` ends, before its line break."""
    found = BREAK.search(text, at)
    return found.start() if found else len(text)


def before_line(text: str, at: int) -> int:
    """Return where the line break before the line of ``at`` starts."""
    start = max(text.rfind("\n", 0, at), text.rfind("\r", 0, at))
    return start - 1 if text[start - 1 : start + 1] == "\r\n" else max(start, 0)


def applied(text: str, edits: Iterable[Edit], start: int = 0, end: int | None = None) -> str:
    """Return the text, or the part from ``start`` to ``end``, with the edits made."""
    parts, at = [], start
    for first, last, new in sorted(edits, key=lambda edit: edit[0]):
        parts += [text[at:first], new]
        at = max(at, last)
    return "".join((*parts, text[at:end]))
