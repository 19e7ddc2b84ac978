"""Decision models, which choose a label and write nothing: OpenAI's ``/decisions``, System One's ``/v1/systemone``."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_promptfit.chat.reply import ChatReply
from pytest_promptfit.chat.request import parts_of
from pytest_promptfit.providers import ApiKey, endpoint
from pytest_promptfit.providers.openai import OpenAISdkProvider
from pytest_promptfit.providers.replies import NoReplyError, count, failure_status, name_in, unreadable
from pytest_promptfit.text import scrubber, short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_promptfit.chat.reply import TokenLogprobs
    from pytest_promptfit.chat.request import ChatRequest

QUESTION = "label"
"""What the one question is called."""

ROUNDING = 1e-6
"""How far a probability may be beyond 0 or 1."""


@dataclass(frozen=True)
class DecisionProvider(OpenAISdkProvider):
    """A decision model; a subclass says how a question is put. Both APIs want the key where OpenAI's client puts it."""

    own_url: ClassVar[str]
    key_variable: ClassVar[str]

    @property
    def continues_prefix(self) -> bool:
        """Whether the API goes on from a trailing assistant turn: there is no text to go on with."""
        return False

    @abstractmethod
    def payload(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON body as the API wants it."""

    def reply(self, body: Mapping[str, Any], reply_prefix: str) -> ChatReply:  # noqa: ARG002 - it writes nothing
        """Return the word that was chosen, with the probabilities of all; raise ``CallError`` when it is no answer."""
        answers = body.get("answers") if isinstance(body, dict) else None
        found = parts_of([*answers.values()] if isinstance(answers, dict) else answers)
        if not found or failure_status(body) is not None:
            raise unreadable(self.spec, body, self.secrets())
        chosen, usage = found[0].get("choice"), body.get("usage")
        refused = found[0].get("type") == "refusal"
        if not (refused or isinstance(chosen, str)):
            raise self._no_answer(f"holds no choice, but {short(found[0])}")
        return ChatReply(
            chosen if isinstance(chosen, str) and not refused else "",
            input_tokens=count(usage, "input_tokens"),
            output_tokens=count(usage, "output_tokens"),
            stop_reason="content_filter" if refused else "stop",
            cached_tokens=count(usage, "input_tokens_details", "cached_tokens"),
            written_tokens=count(usage, "input_tokens_details", "cache_write_tokens"),
            model=name_in(body, "model"),
            probabilities=self._probabilities(found[0].get("probabilities")),
        )

    def _probabilities(self, told: Any) -> dict[str, float]:
        """Return ``{label word: probability}``: OpenAI lists values, System One maps them."""
        if not isinstance(told, dict):
            told = {str(part.get("value")): part.get("probability") for part in parts_of(told)}
        for word, probability in told.items():
            is_number = isinstance(probability, int | float) and not isinstance(probability, bool)
            if not (is_number and -ROUNDING <= probability <= 1 + ROUNDING):  # so it holds for NaN, too
                what = f"the probability of {short(word)} is {short(probability)}, expected 0 to 1"
                raise self._no_answer(f"cannot be right: {what}")
        return {word: min(1.0, max(0.0, probability)) for word, probability in told.items()}

    def _no_answer(self, what: str) -> NoReplyError:
        """Return the error for a reply that ``what`` says the fault of; a key in it is cut out."""
        return NoReplyError(f"{self.spec}: the reply {scrubber(self.secrets())(what)}")

    def asking_for_logprobs(self, count: int) -> dict[str, Any]:  # noqa: ARG002 - it says more than that unasked
        """Return nothing: probabilities come unasked."""
        return {}

    def logprobs(self, body: Mapping[str, Any]) -> tuple[TokenLogprobs, ...]:  # noqa: ARG002
        """Return nothing: there are no tokens."""
        return ()

    def _batch_api(self) -> None:
        return None

    @property
    def _key(self) -> ApiKey:
        return ApiKey(self.spec, (self.key_variable,), self.own_url)


@dataclass(frozen=True)
class OpenAIDecisions(DecisionProvider):
    """A model behind OpenAI's ``/decisions``."""

    own_url: ClassVar[str] = "https://api.openai.com/v1"
    key_variable: ClassVar[str] = "OPENAI_API_KEY"

    @property
    def _base_url(self) -> str:
        return self.spec.base_url or self.own_url

    @property
    def url(self) -> str:
        """The URL that is recorded."""
        return endpoint(self._base_url, "/decisions")

    def payload(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON body as the API wants it."""
        choices = [
            {"value": word, "description": note} if note else {"value": word} for word, note in request.choices.items()
        ]
        question = {"type": "choice", "name": QUESTION, "instructions": request.system, "choices": choices}
        return {
            "model": request.model,
            "input": request.turns[-1].text,
            "questions": [question],
            **request.params,
        }


@dataclass(frozen=True)
class SystemOne(DecisionProvider):
    """A model behind ``/v1/systemone``: TypeSafe's, llama.cpp's server, and others."""

    own_url: ClassVar[str] = "https://api.typesafe.ai/v1"
    key_variable: ClassVar[str] = "TYPESAFE_API_KEY"

    @property
    def _base_url(self) -> str:
        """The address with ``/v1`` at its end, whether or not ``base_url`` has it: both are usual."""
        base, mark, query = (self.spec.base_url or self.own_url).partition("?")
        return f"{base.rstrip('/').removesuffix('/v1')}/v1{mark}{query}"

    @property
    def url(self) -> str:
        """The URL that is recorded."""
        return endpoint(self._base_url, "/systemone")

    def payload(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON body as the API wants it; a choice without a description is null.

        The choices are sorted: they are a JSON object, and recordings are found whatever the order of one is.
        """
        criteria = {word: request.choices[word] or None for word in sorted(request.choices)}
        question = {"type": "choice", "instructions": request.system, "criteria": criteria}
        return {
            "state": request.turns[-1].text,
            "model": request.model,
            "questions": {QUESTION: question},
            **request.params,
        }
