"""One question to a model and its answer, as values: prompt + text → request; reply → label.

Pure functions only: what an API's JSON looks like lives in ``providers``, and asking in ``forward``.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import regex

from pytest_promptfit.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_promptfit.extraction import Extract
    from pytest_promptfit.prompt_file import Prompt

Role = Literal["user", "assistant"]
StopReason = Literal["stop", "length", "content_filter", "other"]

DEFAULT_EXTRACT = "<label>(.*?)</label>"

ASKS_FOR_PREFIX = "\nBegin your reply with: "
"""What the user turn says before the reply prefix where the API does not go on from a trailing assistant turn."""

PATTERN_SECONDS = 2.0
"""Seconds of processor time that a pattern may take on one reply; Python's own ``re`` could not be stopped."""

MOST_COPIES = 100_000
"""Copies that the counted repeats of a pattern may make of its parts: each takes memory before anything is read."""

_COUNTED_REPEAT = re.compile(r"\{(\d+)(?:,\d*)?\}")


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
class ToolCall:
    """A tool that the model called instead of, or besides, saying something; ``arguments`` is JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back: the text (starting with the reply prefix), token counts and why the model stopped.

    ``cached_tokens`` are those of the ``input_tokens`` that the provider read from its prompt cache, and
    ``written_tokens`` those that it put there.
    ``thought`` is what the model thought aloud: for people, no label is read from it.
    """

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    stop_reason: StopReason = "stop"
    cached_tokens: int = 0
    thought: str = ""
    calls: tuple[ToolCall, ...] = ()
    written_tokens: int = 0

    @property
    def shown(self) -> str:
        """The reply as people read it: its words, and the tools that it calls."""
        return "\n".join([*filter(None, [self.text]), *(f"{call.name}({call.arguments})" for call in self.calls)])


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
        self,
        prompt: Prompt,
        labels: Sequence[str],
        *,
        model: str,
        params: Mapping[str, Any],
        continues: bool,
        extract: Extract = DEFAULT_EXTRACT,
    ) -> None:
        words = words_of(labels, prompt.label_words)
        listed = ", ".join(words.values())
        asked = "" if continues or not prompt.bot_reply_prefix else f"{ASKS_FOR_PREFIX}{prompt.bot_reply_prefix}"
        self._prefix = prompt.user_prompt_prefix.replace("{labels}", listed)
        self._suffix = prompt.user_prompt_suffix.replace("{labels}", listed) + asked.replace("{labels}", listed)
        self._system = prompt.system_prompt.replace("{labels}", listed)
        self.reply_prefix = prompt.bot_reply_prefix.replace("{labels}", listed)
        self._model = model
        self._params = params
        self._extract = extract
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
        if not isinstance(self._extract, str):
            said = json.dumps(self._extract.put(word), ensure_ascii=False)
            return said if said.startswith(self.reply_prefix) else f"{self.reply_prefix}{word}"
        if "<label>" in self.reply_prefix:
            return f"{self.reply_prefix}{word}</label>"
        asked = _TAG.search(self._suffix) or _TAG.search(self._system)
        return f"{self.reply_prefix}{asked[1]}<label>{word}</label>" if asked else f"{self.reply_prefix}{word}"


_TAG = re.compile(r"((?:\w+: ?)?)<label>")
"""The tag that a prompt asks for, with the word before it: ``Label: <label>``."""


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
