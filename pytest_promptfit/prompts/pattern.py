"""The pattern that a label is read with: compiled and searched within limits of time and memory."""

from __future__ import annotations

import math
import re
from typing import Any

import regex

from pytest_promptfit.errors import CallError

DEFAULT_EXTRACT = "<label>(.*?)</label>"

PATTERN_SECONDS = 2.0
"""Seconds of processor time that a pattern may take on one reply; Python's own ``re`` could not be stopped."""

MOST_COPIES = 100_000
"""Copies that the counted repeats of a pattern may make of its parts: each takes memory before anything is read."""

_COUNTED_REPEAT = re.compile(r"\{(\d+)(?:,\d*)?\}")


def compiled(extract: str) -> Any:
    """Return a pattern as labels are read with it; raise ``regex.error`` or RecursionError when it is none."""
    copies = math.prod(max(1, int(least)) for least in _COUNTED_REPEAT.findall(extract))
    if copies > MOST_COPIES:
        raise regex.error(f"its counted repeats make more than {MOST_COPIES:,} copies")
    return regex.compile(extract, regex.DOTALL | regex.VERSION0)


def matches_of(pattern: Any, reply: str) -> list[re.Match[str]]:
    """Return the matches of a compiled pattern in a reply; raise CallError when that takes too long."""
    try:
        return list(pattern.finditer(reply, timeout=PATTERN_SECONDS))
    except TimeoutError:
        raise CallError(
            f"extract: the pattern takes more than {PATTERN_SECONDS:g} s on this reply of {len(reply):,} characters: "
            r"a repeat in a repeat, such as (\w+\s?)*, or a choice of the same, such as (.|\n)*, tries for ever"
        ) from None


def answer_of(match: re.Match[str]) -> tuple[int, str]:
    """Return where the answer of a match starts, and what it says.

    It is said by the first group that took part. Words that the pattern found before that group open the
    answer anew each time they occur: the answer in ``<label> tags, so: <label>spam</label>`` is ``spam``.
    """
    group = next((n for n, said in enumerate(match.groups(), 1) if said is not None), 0)
    opening = match.string[match.start() : match.start(group)]
    if not any(char.isalnum() for char in opening):
        return match.start(), match[group]
    skipped, again, said = match[group].rpartition(opening)
    return match.start() + len(skipped + again), said
