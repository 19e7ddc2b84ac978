"""How one prompt is put on the wire: text → JSON body, and JSON body → reply and label.

What the harness, production code and the optimizer share; nothing here sends or records.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from pytest_promptfit.cassettes.cassette import Asked
from pytest_promptfit.chat.decision import Decided, decide
from pytest_promptfit.chat.label import LabelReader
from pytest_promptfit.chat.nearest import Neighbours
from pytest_promptfit.chat.reply import by_label, has_thought_tag, label_probabilities, without_thought
from pytest_promptfit.chat.request import ChatBuilder
from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.prompts.labels import DEFAULT_EXTRACT, words_of
from pytest_promptfit.prompts.model import Decision
from pytest_promptfit.prompts.pool import pool_of
from pytest_promptfit.providers.own import OURS
from pytest_promptfit.providers.replies import limit_named, parsed_body
from pytest_promptfit.text import scrubber

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pytest_promptfit.chat.missing import Missing
    from pytest_promptfit.chat.nearest import ChoosesExamples
    from pytest_promptfit.chat.reply import ChatReply
    from pytest_promptfit.prompts.model import ModelSpec, Prompt, PromptConfig
    from pytest_promptfit.prompts.read import ParsedPrompt
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.providers import Provider
    from pytest_promptfit.providers.own import Custom


MOST_ALTERNATIVES = 20
"""Tokens that are told at each place: the most that OpenAI, Gemini and vLLM tell."""


class Wire:
    """The wire format of a prompt: exactly what is sent for a text, and how the reply to it is read."""

    def __init__(
        self,
        config: PromptConfig,
        labels: Sequence[str],
        folder: Path,
        prompt: Prompt | None = None,
        *,
        alternatives: int = 0,
        custom: Custom = OURS,
        chooses: ChoosesExamples | None = None,
    ) -> None:
        """Take ``prompt`` in the place of the file's own; ask for so many ``alternatives`` to each token.

        A file that asks for log-probabilities itself is asked with its own number of them.
        ``chooses`` finds the examples of a prompt that wants those nearest to a text.
        """
        prompt = prompt or config.prompt
        self.model = config.model
        self.provider = custom.provider(provider_of(config.model, folder))
        self._words = words_of(labels, prompt.label_words)
        params = config.all_params
        if config.asks_for_probabilities:
            params = {**self.provider.asking_for_logprobs(MOST_ALTERNATIVES), **params}
        if alternatives and not params.get("logprobs"):
            params |= self.provider.asking_for_logprobs(alternatives)
        decides = config.model.decides
        # A decision model tells how likely each label is unasked.
        self.asks_for_logprobs = bool(params.get("logprobs")) or decides
        self._decision = config.decision or Decision()
        # What a decision model chose is the whole reply, and needs no pattern.
        extract = DEFAULT_EXTRACT if decides else config.extract
        self._builder = ChatBuilder(
            prompt,
            labels,
            model=config.model.name,
            params=params,
            continues=self.provider.continues_prefix,
            extract=extract,
            chooses=chooses,
            decides=decides,
        )
        self._reader = LabelReader(extract, labels, prompt.label_words)
        self._custom = custom
        self._labels = tuple(labels)
        self._reply_prefix = self._builder.reply_prefix
        self._mouthed = self._reply_prefix if self.provider.continues_prefix else ""
        # A pattern that speaks of a thought's tags wants to see them.
        self._sets_thoughts_aside = not (decides or (isinstance(extract, str) and has_thought_tag(extract)))
        self.asks_for_prefix = bool(self._reply_prefix) and not self.provider.continues_prefix
        self.unsent = tuple(name for name in config.model.unsent if getattr(prompt, name))
        """What the prompt says and a decision model is not given."""

    @classmethod
    def of(cls, parsed: ParsedPrompt, labels: Sequence[str], *, custom: Custom = OURS) -> Self:
        """Return the wire format of a prompt file; raise PromptFileError where its pool of examples is wrong."""
        pool = pool_of(parsed, tuple(labels))
        wire = cls(parsed.config, labels, parsed.path.parent, custom=custom, chooses=Neighbours(pool))
        wire.pool_file, wire.lists_few = pool.name, bool(parsed.config.prompt.shortlist)
        return wire

    pool_file = ""
    """The name of the file that the examples are drawn from, where they are those nearest to a text."""
    lists_few = False
    """Whether each text has a shortlist of labels."""

    def payload(self, text: str) -> dict[str, Any]:
        """Return the JSON body that classifies ``text``."""
        return self.provider.payload(self._builder.request(text))

    def asked(self, sample: Sample) -> Asked:
        """Return the request that classifies a sample, with the key that its reply is recorded under."""
        return self.questions(sample, 1)[0]

    def questions(self, sample: Sample, repeats: int) -> tuple[Asked, ...]:
        """Return the requests that ask for so many answers to a sample; the first one is ``asked``."""
        payload = self.payload(sample.text)
        return tuple(Asked.of(self.provider.url, payload, sample.id, repeat=repeat) for repeat in range(repeats))

    def read(self, body: str | dict[str, Any], text: str) -> tuple[ChatReply, Decided]:
        """Return the reply in a response body and what became of its label; raise CallError if there is no reply.

        Raises HookError when a user's own way to read labels fails.
        """
        body = parsed_body(body) if isinstance(body, str) else body
        reply = self._reply(body, text)
        label = self.label(reply, text)
        return reply, decide(label, self._told(body, reply, text, label), self._decision)

    def label(self, reply: ChatReply, text: str) -> str | None:
        """Return the label of the reply to ``text``; raise PromptfitError where a pattern or a hook cannot tell."""
        return self._custom.label(reply, text, self._reader, self._labels)

    def why_missing(self, reply: ChatReply, text: str) -> Missing:
        """Return why no label was read from a reply to ``text``."""
        from pytest_promptfit.chat.missing import why_missing

        limit = limit_named(self.payload(text))
        return why_missing(reply, text, self._reader, prefix=self._mouthed, limit=limit)

    def _told(self, body: dict[str, Any], reply: ChatReply, text: str, label: str | None) -> dict[str, float]:
        """Return how likely each label was where the reply says its ``label``; ``{}`` where that is not known."""
        if label is not None and reply.probabilities:
            return by_label(reply.probabilities, self._words)
        tokens = self.provider.logprobs(body) if label is not None else ()
        read = self._reader.reading(reply.text, text, reply.calls) if tokens else None
        # A label that a hook has read may stand anywhere.
        if read is None or read.label != label:
            return {}
        return label_probabilities(tokens, reply.text, read.start, self._words)

    def _reply(self, body: dict[str, Any], text: str) -> ChatReply:
        reply = self.provider.reply(body, self._reply_prefix)
        return without_thought(reply, text, prefix=self._mouthed) if self._sets_thoughts_aside else reply


def provider_of(spec: ModelSpec, folder: Path) -> Provider:
    """Return the provider of ``spec``; ``folder`` is where the prompt file is, for relative GGUF paths."""
    if spec.provider == "anthropic":
        from pytest_promptfit.providers.anthropic import AnthropicProvider

        return AnthropicProvider(spec)
    if spec.provider == "local":
        from pytest_promptfit.providers.local import LocalProvider

        return LocalProvider(spec, folder)
    if spec.decides:
        from pytest_promptfit.providers.decisions import OpenAIDecisions, SystemOne

        return SystemOne(spec) if spec.provider == "systemone" else OpenAIDecisions(spec)
    from pytest_promptfit.providers.openai import OpenAIProvider

    return OpenAIProvider(spec)


def secrets_of(parsed: ParsedPrompt) -> tuple[str, ...]:
    """Return the keys, as far as the environment holds them, of all models that a prompt file names."""
    folder = parsed.path.parent
    return tuple(secret for model in parsed.config.models for secret in provider_of(model, folder).secrets())


def refuse_keys(parsed: ParsedPrompt, labels: tuple[str, ...], samples: Iterable[Sample] = ()) -> None:
    """Raise PromptFileError where a key stands in what is sent: the file, ``samples``, or its pool of examples.

    It would be shown with the request, and a recording, which it is cut out of, would never be found again.
    """
    scrub, config, tune = scrubber(secrets_of(parsed)), parsed.config, parsed.config.tune
    sent: list[tuple[tuple[str, ...], str]] = [
        (("model",), f"{provider_of(config.model, parsed.path.parent).url} {config.model.name}"),
        (("model", "params"), json.dumps(config.model.params)),
        (("params",), json.dumps(config.params)),
        (("prompt",), config.prompt.model_dump_json()),
        (("labels",), json.dumps(config.labels)),
        (("tune", "params"), json.dumps(tune.params)),
    ]
    if tune.model is not None:
        sent.append((("tune", "model"), json.dumps([tune.model.base_url, tune.model.name, tune.model.params])))
    for place, text in sent:
        if scrub(text) != text:
            raise parsed.error(f"{'.'.join(place)}: {_KEY_INSIDE}", *place)
    for sample in (*samples, *pool_of(parsed, labels).rows):
        said = f"{sample.text}\n{sample.note}\n{sample.label}\n{sample.id}"
        if scrub(said) != said:
            raise PromptFileError(f"{sample.place}: {_KEY_INSIDE}")


_KEY_INSIDE = (
    "holds the API key that the environment has: it is cut out of what is recorded, so no reply would ever be found; "
    "take it out, or set a key that stands nowhere else"
)
