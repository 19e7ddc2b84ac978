"""One question to a model and its answer, as values: prompt + text → request; reply → label.

Pure functions only: what an API's JSON looks like lives in ``providers``, and asking in ``forward``.
"""

from __future__ import annotations

import math
import re
import string
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import regex

from pytest_promptfit.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_promptfit.prompt_file import Prompt

Role = Literal["user", "assistant"]
StopReason = Literal["stop", "length", "content_filter", "other"]

DEFAULT_EXTRACT = "<label>(.*?)</label>"

PATTERN_SECONDS = 2.0
"""Seconds of processor time that a pattern may take on one reply; Python's own ``re`` could not be stopped."""

MOST_COPIES = 100_000
"""Copies that the counted repeats of a pattern may make of its parts: each takes memory before anything is read."""

_COUNTED_REPEAT = re.compile(r"\{(\d+)(?:,\d*)?\}")

MARKS = string.punctuation + "‘’‚“”„‹›«»–—…·¡¿、。《》「」『』【】！（），．：；？،؛؟۔।"  # noqa: RUF001
"""Marks that may stand around a label: ASCII, quotes and dashes, full-width, Arabic and Hindi ones."""

_QUOTES = frozenset("\"'`‘’‚“”„‹›«»「」『』")  # noqa: RUF001
QUOTED_CONTEXT = 12
"""Characters of its surroundings that a label must share with the sample to count as a quotation of it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What is asked, whatever the API: constant parts first, so that providers' prompt caches hit.

    ``turns`` are the few-shot examples and, last, the user's turn that carries the text to classify.
    ``reply_prefix`` are words put in the model's mouth. ``params`` are sent to the API as they are.
    """

    model: str
    system: str
    turns: tuple[Turn, ...]
    reply_prefix: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back: the text (starting with the reply prefix), token counts and why the model stopped.

    ``cached_tokens`` are those of the ``input_tokens`` that the provider read from its prompt cache.
    """

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    stop_reason: StopReason = "stop"
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """One token of a reply and what the model could have said in its place, with natural log-probabilities."""

    text: str
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()


def words_of(labels: Sequence[str], label_words: Mapping[str, str]) -> dict[str, str]:
    """Return ``{label: the word the model says for it}``, in the order of ``labels``."""
    return {label: label_words.get(label, label) for label in labels}


class ChatBuilder:
    """Builds the requests of one prompt: everything constant is made once, the text is put in per sample."""

    def __init__(
        self, prompt: Prompt, labels: Sequence[str], *, model: str, params: Mapping[str, Any], continues: bool
    ) -> None:
        words = words_of(labels, prompt.label_words)
        listed = ", ".join(words.values())
        asked = "" if continues or not prompt.bot_reply_prefix else _ask_for(prompt.bot_reply_prefix)
        self._prefix = prompt.user_prompt_prefix.replace("{labels}", listed)
        self._suffix = prompt.user_prompt_suffix.replace("{labels}", listed) + asked.replace("{labels}", listed)
        self._system = prompt.system_prompt.replace("{labels}", listed)
        self.reply_prefix = prompt.bot_reply_prefix.replace("{labels}", listed)
        self._model = model
        self._params = params
        self._examples = tuple(self._example_turns(prompt, words))

    def request(self, text: str) -> ChatRequest:
        """Return the request that classifies ``text``."""
        turns = (*self._examples, Turn("user", self._user_turn(text)))
        return ChatRequest(self._model, self._system, turns, self.reply_prefix, self._params)

    def _user_turn(self, text: str) -> str:
        return f"{self._prefix}{text}{self._suffix}"

    def _example_turns(self, prompt: Prompt, words: Mapping[str, str]) -> Iterable[Turn]:
        for example in prompt.examples:
            word = words.get(example.label, example.label)
            yield Turn("user", self._user_turn(example.text))
            yield Turn("assistant", example.reply or self._example_reply(word))

    def _example_reply(self, word: str) -> str:
        """Return the shortest reply that the prompt's own format asks for: ``Label: <label>word</label>``."""
        if "<label>" in self.reply_prefix:
            return f"{self.reply_prefix}{word}</label>"
        asked = _TAG.search(self._suffix) or _TAG.search(self._system)
        return f"{self.reply_prefix}{asked[1]}<label>{word}</label>" if asked else f"{self.reply_prefix}{word}"


_TAG = re.compile(r"((?:\w+: ?)?)<label>")
"""The tag that a prompt asks for, with the word before it: ``Label: <label>``."""


def _ask_for(reply_prefix: str) -> str:
    return f"\nBegin your reply with: {reply_prefix}"


class LabelReader:
    """Reads the label out of a reply; ``None`` where no label can be read."""

    def __init__(self, extract: str, labels: Sequence[str], label_words: Mapping[str, str]) -> None:
        self._pattern = compiled(extract)
        self._exact: dict[str, str] = {}
        for label in labels:
            self._exact.setdefault(label, label)
        self._exact.update({word: label for label, word in words_of(labels, label_words).items()})
        self._cased = _unambiguous(self._exact, "")
        self._bare = _unambiguous(self._exact, MARKS)

    def read(self, reply: str, text: str) -> str | None:
        """Return the label of the last match in ``reply``, else of the whole reply if it is just a label.

        ``text`` is the sample: a match that the reply quotes from it, together with some of its
        surroundings, is the sample talking and not the model, and does not count. Raises CallError when the
        pattern takes too long on this reply.
        """
        return self.locate(reply, text)[0]

    def locate(self, reply: str, text: str) -> tuple[str | None, int]:
        """Return what ``read`` does, and where in ``reply`` the words that it was read from begin."""
        for match in reversed(matches_of(self._pattern, reply)):
            start, said = answer_of(match)
            if match.end() > start and not _is_quoted(reply, start, match.end(), text):
                return self._label_of(said), reply.index(said, start)
        return self._label_of(reply), 0

    def _label_of(self, said: str) -> str | None:
        said = said.strip()
        return self._exact.get(said) or self._cased.get(_folded(said)) or self._bare.get(_folded(said, MARKS))


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


def _is_quoted(reply: str, start: int, end: int, text: str) -> bool:
    if reply[start:end] not in text:
        return False
    if reply[start - 1 : start] in _QUOTES and reply[end : end + 1] in _QUOTES:
        return True
    return _shares_context(reply, start, end, text)


def _shares_context(reply: str, start: int, end: int, text: str) -> bool:
    """Tell whether ``reply[start:end]`` stands in ``text`` too, among enough of the same characters or as all there is.

    Each way to take those characters from before and after is looked for: that is fast where a long sample,
    full of labels, is repeated whole.
    """
    for before in range(QUOTED_CONTEXT + 1):
        left, right = start - before, end + QUOTED_CONTEXT - before
        if left >= 0 and right <= len(reply) and reply[left:right] in text:
            return True
    if not end - start < len(text) < end - start + QUOTED_CONTEXT:
        return False
    return any(reply.startswith(text, at) for at in range(max(0, end - len(text)), start + 1))


def _folded(said: str, marks: str = "") -> str:
    """Return the words without case, line breaks and the ``marks`` around them."""
    return " ".join(unicodedata.normalize("NFC", said).strip(marks + string.whitespace).casefold().split())


def _unambiguous(exact: Mapping[str, str], marks: str) -> dict[str, str]:
    """Map folded words to labels where folding leaves them apart; ``a`` and ``A`` as two labels stay exact."""
    folded: dict[str, set[str]] = {}
    for word, label in exact.items():
        folded.setdefault(_folded(word, marks), set()).add(label)
    return {word: labels.pop() for word, labels in folded.items() if word and len(labels) == 1}
