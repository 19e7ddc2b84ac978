"""From a reply to its label: what the model itself says counts, what it quotes from the sample does not.

Pure; thoughts were set aside before. Why a reply has no label is told in ``missing``.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pytest_promptfit.chat import answers
from pytest_promptfit.chat.answers import INVISIBLE, Answer, Source, spells_a_tag
from pytest_promptfit.prompts.labels import (
    DEFAULT_EXTRACT,
    answer_of,
    compiled,
    fields,
    json_objects,
    json_value,
    matches_of,
    scalar,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_promptfit.chat.reply import ToolCall
    from pytest_promptfit.prompts.labels import Extract

MARKS = string.punctuation + "‘’‚“”„‹›«»–—…·¡¿、。《》「」『』【】！（），．：；？،؛؟۔।"  # noqa: RUF001
"""Marks that may stand around a label: ASCII, quotes and dashes, full-width, Arabic and Hindi ones."""

Doubt = Literal["", "word", "contradiction"]
"""What stands in the way of a label in the form that it is read from: another word there, or two answers."""

# What joins two answers to one choice, ``or`` in any language, and is no sentence between them.
_ONE_MORE = re.compile(r"[^\w.:;!?]*(?:\w+[^\w.:;!?]*)?")

_LONGEST_JOIN = 24


class Reading(NamedTuple):
    """The label of a reply, where in the reply its words begin (-1: not in the text), and what made it missing."""

    label: str | None
    start: int = 0
    doubt: Doubt = ""
    said: str = ""
    """The words that are no label, or the answers that contradict each other."""


NOTHING = Reading(None)

Rivals = Callable[[str, Answer, Answer], bool]
"""Tells whether an answer of a reply denies a later one that says another label."""


class LabelReader:
    """Reads the label out of a reply; ``None`` where no label can be read."""

    def __init__(self, extract: Extract, labels: Sequence[str], label_words: Mapping[str, str]) -> None:
        self.extract = extract
        self._labels, self._label_words = labels, label_words
        self._pattern = compiled(extract) if isinstance(extract, str) and extract != DEFAULT_EXTRACT else None
        self._exact: dict[str, str] = {}
        for label in labels:
            self._exact.setdefault(label, label)
        # A word wins over another label of that name: it is what the model was told to say.
        self._exact.update({word: label for label, word in words_of(labels, label_words).items()})
        self._cased = _unambiguous(self._exact, "")
        self._bare = _unambiguous(self._exact, MARKS)
        # Whole replies are asked for too, and folding a long one takes time: room for marks and letters in pieces.
        self._longest = 4 * max(map(len, self._exact), default=0) + 64

    def read(self, reply: str, text: str, calls: Sequence[ToolCall] = ()) -> str | None:
        """Return the label that ``reading`` finds."""
        return self.reading(reply, text, calls).label

    def reading(self, reply: str, text: str, calls: Sequence[ToolCall] = ()) -> Reading:
        """Return the label of a reply to the sample ``text``, which may have come with tool ``calls``.

        With a pattern, its last match says the label; with a path, the field of the last JSON object that has
        it, else that of the last call. By default it is what stands in the label's tag, else the last line
        that says it, else the one field of a JSON object that is a label, else that of a call. In any case a
        reply that is nothing but a label is one. What stands in the sample too is the sample talking while
        the model says another label, and wherever it is quoted. Raises CallError when a pattern takes too long.
        """
        if self.extract == DEFAULT_EXTRACT and (plain := self._plain(reply, text)):
            return plain
        source = Source(text)
        quotable: list[Answer] = []
        for found, rivals in self._forms(reply, calls):
            # A word that is no label answers too where it is the last: before an answer it is talk.
            said = [
                a for a in found[-answers.MOST_ANSWERS :] if self._is_label(a.said) or any(map(str.isalnum, a.said))
            ]
            own = []
            for answer in said:
                if _is_of(source, reply, answer):
                    quotable.append(answer)
                elif self._is_label(answer.said) or answer is said[-1]:
                    own.append(answer)
            if own:
                return self._last(own, rivals, reply)
        return self._of_the_sample(reply, source, quotable) if quotable else NOTHING

    def _plain(self, reply: str, text: str) -> Reading | None:
        """Read what most replies are: a label and nothing else, or one tag where the sample can hold none.

        All else is left to the whole way, which reads these too and takes ten times as long.
        """
        label = self._exact.get(reply.strip())
        if label is not None:
            return Reading(label, len(reply) - len(reply.lstrip()))
        start = reply.find("<label>") + 7
        end = reply.find("</label>", start)
        if not 7 <= start <= end or reply.count("<") != 2 or "&" in reply or "\\" in reply or spells_a_tag(text):
            return None
        label = self._exact.get(reply[start:end])
        return None if label is None else Reading(label, start)

    @property
    def words(self) -> tuple[str, ...]:
        """What the model may say for the labels."""
        return tuple(words_of(self._labels, self._label_words).values())

    def like(self, extract: Extract) -> LabelReader:
        """Return a reader of the same labels that finds them in another way."""
        return LabelReader(extract, self._labels, self._label_words)

    def label_of(self, said: str) -> str | None:
        """Return the label that words say, whatever their case and the marks around them."""
        said = said.strip()
        if said in self._exact:
            return self._exact[said]
        if len(said) > self._longest:
            said = said.strip(MARKS + string.whitespace)
            if len(said) > self._longest:
                return None
        return self._cased.get(_folded(said)) or self._bare.get(_folded(said, MARKS))

    def mentioned(self, reply: str) -> set[str]:
        """Return the labels whose words occur in a reply, at its beginning or its end."""
        ends = (
            reply
            if len(reply) <= 2 * answers.LAST_WORDS
            else reply[: answers.LAST_WORDS] + reply[-answers.LAST_WORDS :]
        )
        words = "|".join(map(re.escape, sorted(self._exact, key=len, reverse=True)))
        found = re.findall(rf"(?<!\w)(?:{words})(?!\w)", ends, re.IGNORECASE)
        return {label for word in found if (label := self.label_of(word)) is not None}

    def _forms(self, reply: str, calls: Sequence[ToolCall]) -> Iterator[tuple[list[Answer], Rivals]]:
        """Yield what a reply answers in each form that counts, in the order in which the forms count."""
        if not isinstance(self.extract, str):
            # The calls come after the text.
            values = [*_objects(reply), *((call.arguments, -1, json_value(call.arguments)) for call in calls)]
            words = ((text, start, scalar(self.extract.find(value))) for text, start, value in values)
            yield [_in_json(text, start, said) for text, start, said in words if said is not None], _never
        elif self._pattern:
            matched = []
            for match in matches_of(self._pattern, reply):
                start, said = answer_of(match)
                if text := reply[start : match.end()]:
                    framed = any(map(str.isalnum, text.replace(said, "", 1)))
                    matched.append(Answer(text, start, said, reply.index(said.strip(), start), framed=framed))
            yield matched, _never
        else:
            yield answers.tagged(reply), _same_form
        if self._is_label(reply):
            yield [Answer(reply, 0, reply, len(reply) - len(reply.lstrip()), framed=False)], _never
        if self.extract == DEFAULT_EXTRACT:
            lines = answers.answer_lines(reply, self._is_label)
            last = next(lines, None)  # where the last line with a word in it is no answer, none before it is one
            yield [answer for answer in (last, *lines) if answer][::-1] if last else [], _same_form
            yield [answer for found in _objects(reply) for answer in self._in_fields(*found)], _always
            arguments = [call.arguments for call in calls]
            yield [answer for text in arguments for answer in self._in_fields(text, -1, json_value(text))], _always

    def _is_label(self, said: str) -> bool:
        return self.label_of(said) is not None

    def _in_fields(self, text: str, start: int, value: object) -> list[Answer]:
        """Return what the fields of a JSON object say: those that are named as an answer, else all of them."""
        for level in fields(value):
            found = [(path, said) for path, said in level if self._is_label(said)]
            named = [(path, said) for path, said in found if answers.is_named(path.rpartition(".")[2])]
            if found:
                return [_in_json(text, start, said) for _, said in named or found]
        return []

    def _last(self, own: Sequence[Answer], rivals: Rivals, reply: str) -> Reading:
        """Return what the last answer says, unless a rival of it says another label."""
        last = own[-1]
        label = self.label_of(last.said)
        if label is None:
            return Reading(None, 0, "word", last.said.strip())
        denied = [a for a in own[:-1] if self.label_of(a.said) not in (label, None) and rivals(reply, a, last)]
        if denied:
            return Reading(None, 0, "contradiction", f"{denied[-1].said.strip()}, {last.said.strip()}")
        return Reading(label, last.at)

    def _of_the_sample(self, reply: str, source: Source, others: Sequence[Answer]) -> Reading:
        """Read an answer that stands in the sample too: a model that says just this, and no other, may mean it."""
        meant = [a for a in others if not source.quotes(reply, a.start, a.end)]
        if not meant:
            return NOTHING
        reading = self._last(meant, _same_form, reply)
        if reading.label is None:
            return reading
        stated = {
            self.label_of(a.said)
            for a in answers.answer_lines(reply, self._is_label, whole=True)
            if a and not _is_of(source, reply, a)
        }
        last = meant[-1]
        if not stated and answers.is_named(last.lead) and not source.holds(f"{last.lead}{last.text}"):
            return reading
        named: set[str | None] = set(stated)
        if not stated:  # then what the rest of the reply names counts
            kept, at = [], 0
            for answer in sorted((a for a in others if a.start >= 0), key=lambda a: a.start):
                kept.append(reply[at : max(at, answer.start)])
                at = max(at, answer.end)
            named.update(self.mentioned(" ".join([*kept, reply[at:]])))
        if not named - {reading.label}:
            return reading
        if len(stated) == 1:
            return Reading(stated.pop(), -1)
        return Reading(None, 0, "contradiction", ", ".join(sorted({*map(str, named), reading.label})))


def _is_of(source: Source, reply: str, answer: Answer) -> bool:
    """Tell whether an answer is the sample talking: a mere word is where it is quoted, all else where it stands.

    What is not in the text, a tool call, is the model's own, and so is a word that is all of the reply.
    """
    if answer.start < 0 or len(answer.text) == len(reply):
        return answer.framed and answer.start >= 0 and source.holds(answer.text)
    return source.holds(answer.text) if answer.framed else source.quotes(reply, answer.start, answer.end)


def _in_json(text: str, start: int, said: str) -> Answer:
    found = re.search(rf'[:\[,]\s*"?({re.escape(said)})', text) if start >= 0 else None
    return Answer(text, start, said, start + found.start(1) if found else start)


def _objects(reply: str) -> list[tuple[str, int, Any]]:
    """Return the JSON objects of a reply: the text of each, where it starts, and its value."""
    return [(reply[start:end], start, value) for start, end, value in json_objects(reply)]


def _never(_reply: str, _answer: Answer, _last: Answer) -> bool:
    return False


def _always(_reply: str, _answer: Answer, _last: Answer) -> bool:
    return True


def _same_form(reply: str, answer: Answer, last: Answer) -> bool:
    """Tell whether two answers stand side by side, or are said in the same words: neither takes back the other."""
    if _folded(answer.lead, MARKS) == _folded(last.lead, MARKS):
        return True
    between = reply[answer.end : last.start]
    return len(between) <= _LONGEST_JOIN and _ONE_MORE.fullmatch(between) is not None


def _folded(said: str, marks: str = "") -> str:
    """Return the words without case, line breaks, invisible characters and the ``marks`` around them."""
    if not said.isascii():
        said = unicodedata.normalize("NFC", INVISIBLE.sub("", said))
    return " ".join(said.strip(marks + string.whitespace).casefold().split())


def _unambiguous(exact: Mapping[str, str], marks: str) -> dict[str, str]:
    """Map folded words to labels where folding leaves them apart; ``a`` and ``A`` as two labels stay exact."""
    folded: dict[str, set[str]] = {}
    for word, label in exact.items():
        folded.setdefault(_folded(word, marks), set()).add(label)
    return {word: labels.pop() for word, labels in folded.items() if word and len(labels) == 1}
