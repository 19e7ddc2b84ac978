"""What the name of a column says: words that people use for texts, labels, ids and row numbers."""

from __future__ import annotations

import re
from typing import TypeAlias

Rank: TypeAlias = tuple[int, int]
"""How well a name fits, smaller is better: how telling the word is, and whether it is the whole name."""

LABEL_WORDS = (
    "label labels target gold class expected",
    "category sentiment intent topic emotion polarity stance tag output toxic spam v1 y",
    "type kind rating stars score status priority answer verdict decision is",
)
TEXT_WORDS = (
    "text texts",
    "sentence question review content body message tweet utterance query document comment post input prompt email "
    "sms passage statement article transcript request complaint feedback premise hypothesis claim v2",
    "title subject headline description summary abstract snippet name",
)
ID_WORDS = {"id", "ids", "uid", "uuid", "guid", "qid", "key", "hash", "sha"}
INDEX_NAMES = {"", "index", "idx", "row", "line", "no", "nr", "number", "unnamed", "unnamed_0", "level_0"}
PADDING = {"name", "text", "value", "str", "column"}
"""Words behind a label's own word that add nothing: ``label_text``, ``category_name``."""


def words_in(name: str) -> list[str]:
    """Return the words of a name: ``questionText`` and ``question_text`` are ``question``, ``text``."""
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [part.casefold() for part in re.findall(r"[^\W_]+", parts)]


def is_id(name: str) -> bool:
    """Tell whether a name is that of ids."""
    return bool(words := words_in(name)) and words[-1] in ID_WORDS


def is_index(name: str) -> bool:
    """Tell whether a name is that of row numbers."""
    return "_".join(words_in(name)) in INDEX_NAMES


def rank_of_label(name: str) -> Rank | None:
    """Return how well a name fits labels."""
    words = words_in(name)
    while len(words) > 1 and words[-1] in PADDING:
        words.pop()
    if words and words[0] in ("is", "has") and len(words) > 1:
        words = ["is"]
    return _rank(words, LABEL_WORDS)


def rank_of_text(name: str) -> Rank | None:
    """Return how well a name fits texts."""
    return _rank(words_in(name), TEXT_WORDS)


def _rank(words: list[str], tiers: tuple[str, ...]) -> Rank | None:
    # The last word says what a column is: text_length is a length.
    last = words[-1] if words else ""
    # question1 and question2 are both questions; v1 and v2 are names of their own.
    forms = {last, last.rstrip("0123456789")}
    for tier, known in enumerate(tiers):
        if forms & set(known.split()):
            return tier, int(len(words) > 1)
    return None
