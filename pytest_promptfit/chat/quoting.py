"""Whose words are these: does a piece of a reply stand in the sample, however it is written there?

Pure functions over texts; labels are not known here.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import cached_property

QUOTED_CONTEXT = 12
"""Characters of its surroundings that a piece must share with the sample to count as a quotation of it."""

INVISIBLE = re.compile(
    "[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
"""Characters without a width, which split a word for a program and not for a reader."""

_QUOTES = "\"'`´‘’‚“”„‹›«»「」『』"  # noqa: RUF001
_AROUND = frozenset(_QUOTES + "[](){}")
_DROPPED = dict.fromkeys(map(ord, _QUOTES + "[](){}\\*_"))
_JSON_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")

_PIECE = 512
"""Characters that are normalised at once: on a run of combining characters that takes the square of their number."""


def folded(text: str) -> str:
    """Return what a text says without case, escapes, white space, marks of quotation and invisible characters."""
    if "&" in text:
        text = html.unescape(html.unescape(text))
    if "\\u" in text:
        text = _JSON_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    if not text.isascii():
        text = INVISIBLE.sub("", text)
        pieces = (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
        text = "".join(unicodedata.normalize("NFKC", piece) for piece in pieces)
    return "".join(text.translate(_DROPPED).casefold().split())


def spells_a_tag(text: str) -> bool:
    """Tell fast whether a text may hold a tag, in whatever spelling."""
    return "<" in text or "&" in text or "\\" in text or not text.isascii()


class Source:
    """The text of a sample, asked what of a reply comes from it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._known: dict[str, bool] = {}

    def holds(self, words: str) -> bool:
        """Tell whether words stand in the sample, however they are written in either."""
        if words not in self._known:
            self._known[words] = self._holds(words)
        return self._known[words]

    def quotes(self, reply: str, start: int, end: int) -> bool:
        """Tell whether ``reply[start:end]`` is a quotation: in quotes or brackets, or with its surroundings."""
        if not self.holds(reply[start:end]):
            return False
        if reply[start - 1 : start] in _AROUND and reply[end : end + 1] in _AROUND:
            return True
        return self._shares_context(reply, start, end) or self._shares_folded_context(reply, start, end)

    @cached_property
    def _folded(self) -> str:
        return folded(self.text)

    def _holds(self, words: str) -> bool:
        if words in self.text:
            return True
        if "<" in words and not spells_a_tag(self.text):
            return False
        said = folded(words)
        return bool(said) and said in self._folded

    def _shares_context(self, reply: str, start: int, end: int) -> bool:
        """Tell whether the piece stands in the sample among enough of the same characters, or as all there is.

        Each way to take those characters from before and after is looked for: that is fast where a long
        sample, full of labels, is repeated whole.
        """
        text = self.text
        for before in range(QUOTED_CONTEXT + 1):
            left, right = start - before, end + QUOTED_CONTEXT - before
            if left >= 0 and right <= len(reply) and reply[left:right] in text:
                return True
        if not end - start < len(text) < end - start + QUOTED_CONTEXT:
            return False
        return any(reply.startswith(text, at) for at in range(max(0, end - len(text)), start + 1))

    def _shares_folded_context(self, reply: str, start: int, end: int) -> bool:
        room = 4 * QUOTED_CONTEXT
        left, right = folded(reply[max(0, start - room) : start]), folded(reply[end : end + room])
        said = folded(reply[start:end])
        for before in range(QUOTED_CONTEXT + 1):
            after = QUOTED_CONTEXT - before
            if before <= len(left) and after <= len(right):
                window = f"{left[len(left) - before :]}{said}{right[:after]}"
                if window in self._folded:
                    return True
        return False
