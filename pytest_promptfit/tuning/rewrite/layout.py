"""How values are written as YAML: in which quotes, on one line or as a block; where they go is not known here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Value = str | list[dict[str, Any]] | Mapping[str, Any]

_UNPRINTABLE = re.compile("[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""What no reader takes as it is, or takes for a line break; a tab too, because nobody sees it."""

_PLAIN = re.compile(r"""[^\s\-?:,\[\]{}#&*!|>'"%@`.=~](?:[^:#]|:(?=\S)|(?<=\S)#)*""")
_FLOW_MARKS = re.compile(r"[,\[\]{}:?#]")
_NO_TEXT = re.compile(r"(?:y|n|yes|no|on|off|true|false|null|<<)|[-+]?[0-9][-+.:_0-9a-fox tz]*", re.IGNORECASE)
"""Plain words that some reader, of YAML 1.1 or 1.2, takes for something other than text."""


@dataclass(frozen=True, slots=True)
class Written:
    """A value as YAML: what stands on its key's line, and the lines below."""

    head: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file indents, and which of ``|-``, ``|`` and ``|+`` what follows the value allows."""

    step: int
    chomps: tuple[str, ...] = ("-", "", "+")

    def block(self, value: Value, column: int) -> Written:
        """Write a value of a block mapping whose keys stand in ``column``."""
        if isinstance(value, str):
            return self.scalar(value, column)
        if not value:
            return Written(flow(value))
        inner = column + self.step
        if isinstance(value, Mapping):
            return Written("", tuple(self.entries(value, inner)))
        return Written("", tuple(line for item in value for line in self.item(item, inner, inner + 2)))

    def entries(self, mapping: Mapping[str, Value], column: int) -> Iterator[str]:
        """Write the lines of a mapping whose keys stand in ``column``."""
        for key, value in mapping.items():
            written = self.block(value, column)
            yield f"{' ' * column}{inline(key)}: {written.head}".rstrip(" ")
            yield from written.lines

    def item(self, item: Mapping[str, Value], dash: int, column: int) -> Iterator[str]:
        """Write the lines of a list's item, its dash in one column and its keys in another."""
        first, *rest = self.entries(item, column)
        yield f"{' ' * dash}-".ljust(column) + first.lstrip(" ")
        yield from rest

    def scalar(self, value: str, column: int, old: str = "", indent: int = 0) -> Written:
        """Write a text: several lines as a block, one line in the ``old`` style where that can hold it."""
        one_line = "\n" not in value.rstrip("\n")
        if ("\n" in value and not (one_line and old == '"')) or old in ("|", ">"):
            written = self._block_scalar(value, column, indent or column + self.step)
            if written:
                folds = old == ">" and one_line
                return replace(written, head=written.head.replace("|", ">")) if folds else written
        return Written(inline(value, old))

    def _block_scalar(self, value: str, column: int, indent: int) -> Written | None:
        body = value.rstrip("\n")
        chomp = "-" if body == value else "" if value == f"{body}\n" else "+"
        if chomp not in self.chomps or not _fits_block(value) or not 0 < indent - column < 10:
            return None
        lines = (" " * indent + line if line else "" for line in value.removesuffix("\n").split("\n"))
        return Written(f"|{indent - column if value[0] == ' ' else ''}{chomp}", tuple(lines))


def _fits_block(value: str) -> bool:
    trailing = re.search(r" (?:\n|\Z)", value)
    return bool(value) and value[0] != "\n" and not trailing and not _UNPRINTABLE.search(value)


def inline(value: str, old: str = "", *, is_flow: bool = False) -> str:
    """Write a text on one line: in the ``old`` quotes if they can hold it, else in the mildest that can."""
    if old == '"' or "\n" in value or _UNPRINTABLE.search(value):
        return _double(value)
    if old != "'" and _is_plain(value, is_flow=is_flow):
        return value
    escapes = '"' in value or "\\" in value
    return "'" + value.replace("'", "''") + "'" if old == "'" or escapes else _double(value)


def _is_plain(value: str, *, is_flow: bool) -> bool:
    if value != value.strip() or not _PLAIN.fullmatch(value) or _NO_TEXT.fullmatch(value):
        return False
    return not (is_flow and _FLOW_MARKS.search(value))


def _double(value: str) -> str:
    return _UNPRINTABLE.sub(lambda char: f"\\u{ord(char[0]):04x}", json.dumps(value, ensure_ascii=False))


def flow(value: Value, *, quoted: bool = False) -> str:
    """Write a value on one line; ``quoted`` for a file that is JSON."""
    if isinstance(value, str):
        return _double(value) if quoted else inline(value, is_flow=True)
    if isinstance(value, Mapping):
        pairs = (f"{flow(key, quoted=quoted)}: {flow(item, quoted=quoted)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    return "[" + ", ".join(flow(item, quoted=quoted) for item in value) + "]"
