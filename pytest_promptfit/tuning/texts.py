"""How words are put into one of a prompt's texts and taken out, so that white space stays as a person would have it."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_promptfit.prompts.model import TextField

LONGEST_WORD: Final = 12
"""Characters that count as a word where nothing separates words."""


def words_pattern(find: str) -> re.Pattern[str]:
    """Return what matches the words with any white space between them, and never a part of a longer word."""
    words = find.split()
    first, last = words[0][0], words[-1][-1]
    # Only where white space separates words: Chinese goes on without any.
    opening = r"(?<![A-Za-z0-9_])" if first.isascii() and first.isalnum() else ""
    closing = r"(?![A-Za-z0-9_])" if last.isascii() and last.isalnum() else ""
    return re.compile(opening + r"\s+".join(map(re.escape, words)) + closing)


def appended(text: str, words: str) -> str:
    """Return the text with words at its end, before the white space there."""
    body = text.rstrip()
    return inserted(body, words, text[len(body) :])


def inserted(left: str, text: str, right: str) -> str:
    """Return ``text`` between its neighbours: on a line of its own after a line of many, else after a space."""
    own_line = right.startswith("\n") or (not right and "\n" in left)
    text = text.rstrip() if text[:1].isspace() else text.strip()
    before = "" if not left or left[-1].isspace() or text[:1].isspace() else "\n" if own_line else " "
    after = "" if not right or right[0].isspace() or right[0] in ".,;:!?)" else " "
    return left + before + text + after + right


def closed(left: str, right: str) -> str:
    """Return what is left when the words in between are gone, with white space for one gap."""
    before, after = left[len(left.rstrip()) :], right[: len(right) - len(right.lstrip())]
    gap = max((before, after), key=lambda space: (space.count("\n"), len(space)))
    if not left.strip() or not right.strip():
        gap = after if left.strip() else before
    return left.rstrip() + gap + right.lstrip()


def kept_apart(field: TextField, before: str, after: str) -> str:
    """Return the text with a line break towards the sample where its last or first words are new."""
    if field == "user_prompt_prefix" and after and before[-1:] != after[-1] and not after[-1].isspace():
        return after + "\n"
    if field == "user_prompt_suffix" and after and before[:1] != after[0] and not after[0].isspace():
        return "\n" + after
    return after


def word_count(text: str) -> int:
    """Return how many words a text has, also where nothing separates them."""
    return max(len(text.split()), len(text) // LONGEST_WORD)


def cleaned(text: str) -> str:
    """Return the text without control characters and halves of surrogate pairs."""
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs"))
