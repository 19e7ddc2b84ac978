"""Texts with ``{{variables}}``, as other tools write them, and what fills them in.

Only names are filled in; what else a template language can do is nobody's business here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PLACEHOLDER = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")


def names_in(text: str) -> list[str]:
    """Return the variables of a text, each once, in their order."""
    return list(dict.fromkeys(PLACEHOLDER.findall(text)))


def filled(text: str, value_of: Callable[[str], str]) -> str:
    """Return a text with its variables filled in."""
    return PLACEHOLDER.sub(lambda found: value_of(found[1]), text)


def parts_of(text: str) -> tuple[str, str, str]:
    """Return what stands before a text's variables, what they span, and what stands after them."""
    found = list(PLACEHOLDER.finditer(text))
    if not found:
        return text, "", ""
    start, end = found[0].start(), found[-1].end()
    return text[:start], text[start:end], text[end:]


def value_at(values: object, name: str) -> object:
    """Return the value of a variable, whose name may lead into mappings (``a.b``); ``None`` where there is none."""
    if isinstance(values, dict) and name in values:
        return values[name]
    first, dot, rest = name.partition(".")
    return value_at(values.get(first), rest) if dot and isinstance(values, dict) else None
