"""A unified diff as the page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True)
class DiffLine:
    """A line of a diff: added, removed, where it stands, or around it."""

    kind: str
    text: str


def diff_view(lines: Iterable[str]) -> Iterator[DiffLine]:
    """Yield the lines of a diff with what each of them is."""
    kinds = {"+": "added", "-": "removed", "@": "place"}
    for line in lines:
        is_file = line.startswith(("+++ ", "--- "))
        yield DiffLine("place" if is_file else kinds.get(line[:1], "around"), line)
