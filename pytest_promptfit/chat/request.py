"""What a model is asked: prompt + text → request, whatever the API; and the messages in a body that either sent.

What is read from a body is for a person, or an estimate, to look at.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pytest_promptfit.prompts.labels import DEFAULT_EXTRACT, in_order, noted, words_of
from pytest_promptfit.prompts.model import ASKING_FIELDS, OURS, Example, NearestExamples

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pytest_promptfit.chat.nearest import ChoosesExamples
    from pytest_promptfit.prompts.labels import Extract
    from pytest_promptfit.prompts.model import Prompt

Role = Literal["user", "assistant"]

ASKS_FOR_PREFIX = "\nBegin your reply with: "
"""What the user turn says before the reply prefix where the API does not go on from a trailing assistant turn."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What is asked, whatever the API: constant parts first, so that providers' prompt caches hit.

    ``turns`` are the few-shot examples and, last, the user's turn that carries the text to classify.
    ``reply_prefix`` are words put in the model's mouth. ``params`` are sent to the API as they are. With
    ``examples_vary`` the examples are of this text alone, and nothing after the system prompt is constant; with
    ``system_varies`` that is not, either.
    """

    model: str
    system: str
    turns: tuple[Turn, ...]
    reply_prefix: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    examples_vary: bool = False
    system_varies: bool = False
    choices: Mapping[str, str] = field(default_factory=dict)
    """What a decision model chooses from: ``{label word: what it means}``, ``""`` where nothing says so."""


class _Texts(NamedTuple):
    """The texts of a prompt with labels in the place of ``{labels}``."""

    system: str
    prefix: str
    suffix: str


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
        chooses: ChoosesExamples | None = None,
        decides: bool = False,
    ) -> None:
        """``chooses`` finds the samples that are shown before a text, where the prompt wants those nearest to it.

        A model that ``decides`` is given the labels apart, with their notes, and neither examples nor a reply prefix.
        """
        self._labels = in_order(labels, prompt.label_order)
        self._words = words_of(self._labels, prompt.label_words)
        self._choices: dict[str, str] = {}
        if decides:
            self._choices = {word: prompt.label_notes.get(label, "") for label, word in self._words.items()}
            prompt = prompt.model_copy(update={"label_notes": {}, "examples": (), "bot_reply_prefix": ""})
        self._prompt = prompt
        texts = _filled(prompt, self._words)
        self.reply_prefix = texts.pop()
        self._asked = f"{ASKS_FOR_PREFIX}{self.reply_prefix}" if self.reply_prefix and not continues else ""
        self._texts = _Texts(*texts)
        self._model = model
        self._params = params
        self._extract = extract
        self._examples = self._turns(prompt.fixed_examples, self._texts)
        self._nearest = prompt.examples if isinstance(prompt.examples, NearestExamples) else None
        self._chooses = chooses

    def request(self, text: str) -> ChatRequest:
        """Return the request that classifies ``text``."""
        if self._nearest is None:
            return self._request(text, self._texts, self._examples)
        if self._chooses is None:
            raise ValueError("a prompt with nearest examples needs what chooses them")
        texts, likeliest = self._texts, None
        if self._nearest.shortlist is not None:
            likeliest = set(self._chooses.likeliest(text, self._nearest.shortlist)) or set(self._labels)
            words = {label: word for label, word in self._words.items() if label in likeliest}
            texts = _Texts(*_filled(self._prompt, words)[:-1])
        chosen = self._chooses.of(text, self._nearest.nearest, likeliest)
        examples = [Example(text=sample.text, label=sample.label) for sample in chosen]
        return self._request(text, texts, self._turns(examples, texts))

    def _request(self, text: str, texts: _Texts, examples: Sequence[Turn]) -> ChatRequest:
        return ChatRequest(
            self._model,
            texts.system,
            (*examples, Turn("user", self._user_turn(text, texts))),
            self.reply_prefix,
            self._params,
            examples_vary=self._nearest is not None,
            system_varies=texts.system != self._texts.system,
            choices=self._choices,
        )

    def _turns(self, examples: Iterable[Example], texts: _Texts) -> tuple[Turn, ...]:
        return tuple(
            turn
            for example in examples
            for turn in (
                Turn("user", self._user_turn(example.text, texts)),
                Turn("assistant", example.reply or self._example_reply(self._words.get(example.label, example.label))),
            )
        )

    def _user_turn(self, text: str, texts: _Texts) -> str:
        return f"{texts.prefix}{text}{texts.suffix}{self._asked}"

    def _example_reply(self, word: str) -> str:
        """Return the shortest reply that the prompt's own format asks for: ``Label: <label>word</label>``."""
        if not isinstance(self._extract, str):
            said = json.dumps(self._extract.put(word), ensure_ascii=False)
            return said if said.startswith(self.reply_prefix) else f"{self.reply_prefix}{word}"
        if "<label>" in self.reply_prefix:
            return f"{self.reply_prefix}{word}</label>"
        asked = _TAG.search(self._texts.suffix) or _TAG.search(self._texts.system)
        return f"{self.reply_prefix}{asked[1]}<label>{word}</label>" if asked else f"{self.reply_prefix}{word}"


def _filled(prompt: Prompt, words: Mapping[str, str]) -> list[str]:
    """Return the texts in the order of a request, with the label words in the place of ``{labels}``."""
    bare, texts = ", ".join(words.values()), []
    notes = noted(words, prompt.label_notes) if prompt.label_notes else ""
    for name in (*ASKING_FIELDS, "bot_reply_prefix"):
        left, place, right = getattr(prompt, name).partition("{labels}")
        listed = bare if place else ""
        if place and notes and name in ASKING_FIELDS:
            left, right = _on_own_lines(name, left, right)
            listed, notes = notes, ""  # they are told once
        texts.append(f"{left}{listed}{right.replace('{labels}', bare)}")
    return texts


def _on_own_lines(name: str, left: str, right: str) -> tuple[str, str]:
    """Return what stands around a list of labels with notes, so that the list has its lines for itself."""
    left, right = left.rstrip(" \t"), _AFTER_LIST.sub("", right)
    opens = "" if left.endswith("\n") or (not left and name != "user_prompt_suffix") else "\n"
    closes = "" if right.startswith("\n") or (not right and name != "user_prompt_prefix") else "\n"
    return f"{left}{opens}", f"{closes}{right}"


# The end of the sentence that ends with the list, and the gap to the next one.
_AFTER_LIST = re.compile(r"\A(?:[.,;:?!](?=\s|\Z))?[ \t]*")

# The tag that a prompt asks for, with the word before it: ``Label: <label>``.
_TAG = re.compile(r"((?:\w+: ?)?)<label>")


@dataclass(frozen=True, slots=True)
class Question:
    """What a decision model is asked: ``choices`` are ``{label word: what it means}``."""

    instructions: str
    choices: Mapping[str, str]
    text: str


def question_of(payload: Mapping[str, Any]) -> Question | None:
    """Return the question in a body to a decision model, in OpenAI's form or System One's; ``None`` in any other."""
    questions = payload.get("questions")
    asked = next(iter(questions.values() if isinstance(questions, dict) else parts_of(questions)), None)
    if not isinstance(asked, dict):
        return None
    listed = {str(part.get("value")): part.get("description") for part in parts_of(asked.get("choices"))}
    criteria = asked.get("criteria")
    choices = criteria if isinstance(criteria, dict) else listed
    return Question(
        text_of(asked.get("instructions")),
        {word: text_of(note) for word, note in choices.items()},
        text_of(payload.get("state", payload.get("input"))),
    )


def params_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a body says besides the prompt."""
    return {name: value for name, value in payload.items() if name not in OURS}


def messages_of(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return role and text of each message in the order they are sent, the system prompt first.

    Of a question to a decision model its parts, as if they were messages.
    """
    if question := question_of(payload):
        listed = noted({word: word for word in question.choices}, {w: n for w, n in question.choices.items() if n})
        return [("instructions", question.instructions), ("choices", listed), ("input", question.text)]
    system = text_of(payload.get("system"))
    turns = [(str(message["role"]), text_of(message["content"])) for message in payload["messages"]]
    return [("system", system), *turns] if system else turns


def size_of(payload: Mapping[str, Any]) -> int:
    """Return the bytes of all messages."""
    return sum(len(text.encode("utf-8", "surrogatepass")) for _, text in messages_of(payload))


def text_of(content: object, kinds: Collection[str] = ("text", "output_text"), names: Sequence[str] = ("text",)) -> str:
    """Return the text of a message's content: a string, a list of parts of some ``kinds``, or nothing at all."""
    if isinstance(content, str):
        return content
    return "".join(texts(parts_of(content), kinds, names))


def parts_of(content: object) -> list[dict[str, object]]:
    """Return the parts of a message's content that have a form; none of a mere string."""
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def texts(parts: Iterable[Mapping[str, object]], kinds: Collection[str], names: Sequence[str]) -> Iterator[str]:
    """Yield the words of the parts of some ``kinds``: of the first field of ``names`` that each has."""
    for part in parts:
        if part.get("type") in kinds:
            words = next((part[name] for name in names if part.get(name)), "")
            said = [words] if isinstance(words, str) else [inner.get("text") for inner in parts_of(words)]
            yield from (text for text in said if isinstance(text, str))
