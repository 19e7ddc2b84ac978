"""The forms in which models answer: tags, a line that says it, JSON; and which words of a reply are the sample's.

Pure functions whose time grows with the reply alone, whatever stands in it. Labels are not known here.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_ANSWERS = 1000
"""Answers of one form that are looked at in a reply, the last ones."""

LAST_WORDS = 20_000
"""Characters at the end of a reply, and at its beginning, in which lines that answer are looked for."""

_LONGEST_LINE = 400


class Answer(NamedTuple):
    """What a reply says at one place: ``text`` is the whole form, from ``start``, and ``said`` the words in it.

    ``at`` is where those words begin, -1 where they are none of the reply's text. ``lead`` is what stands before
    the form on its line. ``framed`` tells that there is more to the form than the words: a sample that has all of
    it has it on purpose.
    """

    text: str
    start: int
    said: str
    at: int
    lead: str = ""
    framed: bool = True

    @property
    def end(self) -> int:
        """Where the form ends."""
        return self.start + len(self.text)


_LESS = r"(?:<|\\<|&[lL][tT];|&#0*60;|&#[xX]0*3[cC];|\\u003[cC])"
_MORE = r"(?:\\?>|&[gG][tT];|&#0*62;|&#[xX]0*3[eE];|\\u003[eE])"
# Each way begins with a character of its own and no flag stands for the case: else all of a reply is tried.
_LABEL_TAG = re.compile(rf"{_LESS}\s{{0,8}}(\\?/\s{{0,8}})?[lL][aA][bB][eE][lL]\s{{0,8}}{_MORE}")


def tagged(reply: str) -> list[Answer]:
    """Return what stands between label tags, in any case and escaped or not; the last ones of very many.

    An opening tag that is only talked about hides nothing: the one that is nearest to the closing tag counts.
    """
    found: deque[Answer] = deque(maxlen=MOST_ANSWERS)
    opened: re.Match[str] | None = None
    for tag in _LABEL_TAG.finditer(reply):
        if not tag[1]:
            opened = tag
        elif opened is not None:
            # A backslash before the end escapes it where it escapes the beginning: else it may be the label.
            escapes = tag[0][0] == "\\" != opened[0][0]
            said = reply[opened.end() : tag.start() + escapes]
            lead = reply[max(0, opened.start() - 60) : opened.start()].rpartition("\n")[2]
            text = reply[opened.start() : tag.end()]
            found.append(Answer(text, opened.start(), said, opened.end() + _blanks(said), lead))
            opened = None
    return list(found)


def _blanks(said: str) -> int:
    return len(said) - len(said.lstrip())


# What an answer is called before it is said.
_KEYS = frozenset(
    [
        "label",
        "labels",
        "answer",
        "answers",
        "class",
        "category",
        "categories",
        "classification",
        "prediction",
        "verdict",
        "result",
        "output",
        "decision",
        "conclusion",
        "response",
        "sentiment",
        "intent",
        "topic",
        "judgment",
        "judgement",
        "choice",
    ]
)

_NEGATIONS = frozenset(
    ["not", "no", "never", "wrong", "incorrect", "isn", "don", "doesn", "can", "cannot", "unlike", "false", "rejected"]
)
_SEPARATOR = re.compile(r"[:：=]|->|→|\s(?:is|are)\b:?", re.IGNORECASE)  # noqa: RUF001
_SENTENCE_END = re.compile(r"[.!?;,)\]]\s+")
_WORD = re.compile(r"[^\W_]+")
_LATEX = re.compile(r"\\(?:boxed|text|textbf|textit|mathrm|mathbf)\s*(?=\{)")
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_MOST_LEAD_WORDS, _MOST_HEADING_WORDS, _MOST_SEPARATORS = 6, 3, 12


def is_named(lead: str) -> bool:
    """Tell whether the words before an answer call it one: ``Label:``, ``the final answer is``."""
    return any(word.casefold() in _KEYS for word in _WORD.findall(lead))


def answer_lines(reply: str, is_label: Callable[[str], bool], *, whole: bool = False) -> Iterator[Answer | None]:
    """Yield what each line with a word in it answers, the last line first; ``None`` for a line that does not.

    ``is_label`` tells what an answer may say. Only the end of a long reply is looked at, and with ``whole``
    its beginning too.
    """
    tail = max(0, len(reply) - LAST_WORDS)
    yield from _lines(reply, tail, len(reply), is_label)
    if whole and tail:
        yield from _lines(reply, 0, min(tail, LAST_WORDS), is_label)


def _lines(reply: str, start: int, end: int, is_label: Callable[[str], bool]) -> Iterator[Answer | None]:
    while start < end:
        at = max(reply.rfind("\n", start, end) + 1, start)
        line = reply[at:end]
        if _WORD.search(line):
            answer = _line_answer(line, at, is_label) if len(line) <= _LONGEST_LINE else None
            if answer and not answer.lead:
                # A label alone answers nothing where it goes on with the sentence of the line before.
                before = reply[max(0, at - 80) : max(0, at - 1)].rstrip(" \t\r")
                heading = before.rpartition("\n")[2]
                is_heading = is_named(heading) and len(_WORD.findall(heading)) <= _MOST_HEADING_WORDS
                answer = None if before[-1:].isalnum() and line[0].isalnum() and not is_heading else answer
            yield answer
        end = at - 1


def _line_answer(line: str, at: int, is_label: Callable[[str], bool]) -> Answer | None:
    for boxed in _BOXED.finditer(line):
        said = plain_words(boxed[1])
        if is_label(said):
            return Answer(boxed[0], at + boxed.start(), said, at + line.find(said.strip(), boxed.start()), "answer")
    words = plain_words(line).strip()
    if is_label(words):
        start = at + _blanks(line)
        return Answer(line.strip(), start, words, max(start, at + line.find(words)), framed=False)
    for count, separator in enumerate(_SEPARATOR.finditer(line)):
        if count == _MOST_SEPARATORS:
            break
        said = plain_words(line[separator.end() :])
        lead = _lead(line[: separator.start()], separator[0], said) if is_label(said) else ""
        if lead:
            start = separator.start() - len(lead)
            begins = separator.end() + _blanks(line[separator.end() :])
            return Answer(line[start:].rstrip(" .\t\r"), at + start, said, at + begins, lead)
    return None


def plain_words(said: str) -> str:
    r"""Return words without LaTeX's frames around them: ``positive`` of ``\boxed{\text{positive}}``."""
    return _LATEX.sub("", said) if "\\" in said else said


def _lead(before: str, separator: str, said: str) -> str:
    """Return the words that lead to an answer; ``""`` where they say something else."""
    ends = [found.end() for found in _SENTENCE_END.finditer(before)]
    sentence = before[ends[-1] :] if ends else before
    sentence = sentence.lstrip(" \t>#-+•*_`")
    words = _WORD.findall(sentence)
    if not 1 <= len(words) <= _MOST_LEAD_WORDS or any(word.casefold() in _NEGATIONS for word in words):
        return ""
    if any(mark in sentence for mark in '"{}<>'):
        return ""
    if is_named(sentence):
        return sentence
    # What a number or another sentence's end belongs to is known only where it is named.
    is_line = not ends and separator.strip() in {":", "：", "="} and len(words) <= 4  # noqa: RUF001
    return sentence if is_line and any(char.isalpha() for char in said) else ""


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

# Characters that are normalised at once: on a run of combining characters that takes the square of their number.
_PIECE = 512


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
            if words in self.text:
                found = True
            elif "<" in words and not spells_a_tag(self.text):
                found = False
            else:
                said = folded(words)
                found = bool(said) and said in self._folded
            self._known[words] = found
        return self._known[words]

    def quotes(self, reply: str, start: int, end: int) -> bool:
        """Tell whether ``reply[start:end]`` is a quotation: in quotes or brackets, or with its surroundings."""
        if not self.holds(reply[start:end]):
            return False
        if reply[start - 1 : start] in _AROUND and reply[end : end + 1] in _AROUND:
            return True
        # Each way to take the characters around it from before and after is looked for as it stands: that is fast
        # where a long sample, full of labels, is repeated whole.
        text = self.text
        for before in range(QUOTED_CONTEXT + 1):
            left, right = start - before, end + QUOTED_CONTEXT - before
            if left >= 0 and right <= len(reply) and reply[left:right] in text:
                return True
        if end - start < len(text) < end - start + QUOTED_CONTEXT and any(
            reply.startswith(text, at) for at in range(max(0, end - len(text)), start + 1)
        ):  # it stands among all that the sample has
            return True
        room = 4 * QUOTED_CONTEXT
        head, tail = folded(reply[max(0, start - room) : start]), folded(reply[end : end + room])
        said = folded(reply[start:end])
        befores = range(max(0, QUOTED_CONTEXT - len(tail)), min(QUOTED_CONTEXT, len(head)) + 1)
        windows = (f"{head[len(head) - before :]}{said}{tail[: QUOTED_CONTEXT - before]}" for before in befores)
        return any(window in self._folded for window in windows)

    @cached_property
    def _folded(self) -> str:
        return folded(self.text)
