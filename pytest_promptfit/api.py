"""A prompt file in Python: a classifier for production, and the plugin's runs for scripts and notebooks.

A classifier's calls go to the model; nothing is recorded and nothing is replayed. It imports neither pytest nor pandas
nor vcrpy, so what ``evaluate`` and ``tune`` need beyond it is imported there.
"""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from pydantic import ValidationError

from pytest_promptfit.cassettes.where import Where
from pytest_promptfit.chat.decision import Decided
from pytest_promptfit.errors import CallError, PromptfitError
from pytest_promptfit.prompts.model import ModelSpec
from pytest_promptfit.prompts.read import ParsedPrompt, parse_prompt_file, under_model
from pytest_promptfit.prompts.samples import Sample, check_prompt_labels, given_samples, read_samples
from pytest_promptfit.providers.background import Background
from pytest_promptfit.providers.own import OURS, Custom
from pytest_promptfit.providers.usage import reply_usd
from pytest_promptfit.providers.wire import Wire, refuse_keys
from pytest_promptfit.text import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

    from pytest_promptfit.chat.reply import ChatReply
    from pytest_promptfit.evaluation.forward import RecordMode
    from pytest_promptfit.evaluation.outcomes import Evaluation
    from pytest_promptfit.providers import Send
    from pytest_promptfit.providers.own import Extract, MakeClient
    from pytest_promptfit.tuning.result import TuneResult

    OnCall = Callable[["Call"], None]
    """Told of every call when it has ended, in the thread that asks: it must not wait for anything."""

MAX_RETRIES = 4

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The label of a text, ``None`` when none could be read or it was held back, with its reply and what that took.

    ``model`` is the one that answered, as the API names it; ``request_id`` what the provider's support asks for,
    ``""`` where the server sent none; ``seconds`` those until the reply was there, retries and all; ``usd`` is
    ``None`` where the price is not known.
    """

    label: str | None
    reply: ChatReply
    model: str = ""
    request_id: str = ""
    seconds: float = 0.0
    usd: float | None = None
    decided: Decided = field(default=Decided(None, None), repr=False)

    @property
    def probabilities(self) -> Mapping[str, float]:
        """How likely each label is, summing up to 1; empty where that is not asked for, or not told."""
        return self.decided.probabilities

    @property
    def confidence(self) -> float | None:
        """How likely the label is, 0 to 1, or the one that was held back; ``None`` where that is not known."""
        return self.decided.confidence

    @property
    def abstained(self) -> bool:
        """Whether the label was held back because its probability is below the prompt file's ``abstain_below``."""
        return self.decided.abstained

    @property
    def input_tokens(self) -> int:
        """Tokens that were sent, as the API counts them."""
        return self.reply.input_tokens

    @property
    def output_tokens(self) -> int:
        """Tokens that the model wrote, as the API counts them."""
        return self.reply.output_tokens


@dataclass(frozen=True, slots=True)
class Call:
    """A call that has ended, for logs and traces: one of ``prediction`` and ``error`` is there.

    The text is not: what people write does not belong into logs. ``prompt`` is the prompt file's name, ``model``
    the one that was asked, such as ``openai/gpt-4.1-nano``, ``seconds`` how long it took, ``request_id`` that of
    its last response, an error's too.
    """

    prompt: str
    model: str
    seconds: float
    request_id: str = ""
    prediction: Prediction | None = None
    error: PromptfitError | None = None


class Classifier:
    """A prompt file as a function from text to label; safe to call from threads and event loops alike.

    The connection is opened by the first call and lives on in a thread of its own; ``close`` ends it, and so does
    the end of a ``with`` or ``async with`` block.
    """

    def __init__(
        self, parsed: ParsedPrompt, labels: tuple[str, ...], custom: Custom = OURS, on_call: OnCall | None = None
    ) -> None:
        self.path = parsed.path
        self.name = parsed.name
        self.labels = labels
        self.custom = custom
        self._on_call = on_call
        self._wire = wire = Wire.of(parsed, labels, custom=custom)
        if parsed.config.asks_for_probabilities and not wire.asks_for_logprobs:
            _LOG.warning("%s: %s has no log-probabilities: labels are given as they are read", self.name, wire.model)
        if wire.pool_file:
            wire.payload("")  # builds the index of the examples now, and not while the first text waits

        # It names the wire alone: holding the classifier, it would keep its own thread alive for ever.
        @asynccontextmanager
        async def connect() -> AsyncIterator[Send]:
            # With the first call, not with the first import: it brings the HTTP client.
            from pytest_promptfit.cassettes.transport import WatchingTransport

            wire.provider.check()
            async with wire.provider.connect(wrap=WatchingTransport, max_retries=MAX_RETRIES) as send:
                yield send

        self._background = Background(connect)

    def __call__(self, text: str) -> Prediction:
        """Classify a text; raise CallError when the model cannot be asked."""
        return self._background.run(lambda send: self._classify(send, text))

    async def acall(self, text: str) -> Prediction:
        """Classify a text from async code."""
        return await self._background.arun(lambda send: self._classify(send, text))

    @overload
    def batch(
        self, texts: Iterable[str], *, concurrency: int = 16, return_exceptions: Literal[False] = False
    ) -> list[Prediction]: ...

    @overload
    def batch(
        self, texts: Iterable[str], *, concurrency: int = 16, return_exceptions: bool
    ) -> list[Prediction | PromptfitError]: ...

    def batch(self, texts: Iterable[str], *, concurrency: int = 16, return_exceptions: bool = False) -> Any:
        """Classify texts, ``concurrency`` at a time, and return the predictions in their order.

        The first text that cannot be classified ends it: its error is raised and nothing more is sent. With
        ``return_exceptions``, as ``asyncio.gather`` has it, an error stands in the place of its prediction; after
        one that every other text would meet too, such as a refused key, it stands in the place of all the rest.
        """
        listed = _listed(texts, concurrency)
        return self._background.run(lambda send: self._classify_all(send, listed, concurrency, return_exceptions))

    @overload
    async def abatch(
        self, texts: Iterable[str], *, concurrency: int = 16, return_exceptions: Literal[False] = False
    ) -> list[Prediction]: ...

    @overload
    async def abatch(
        self, texts: Iterable[str], *, concurrency: int = 16, return_exceptions: bool
    ) -> list[Prediction | PromptfitError]: ...

    async def abatch(self, texts: Iterable[str], *, concurrency: int = 16, return_exceptions: bool = False) -> Any:
        """Classify texts from async code, as ``batch`` does."""
        listed = _listed(texts, concurrency)
        return await self._background.arun(
            lambda send: self._classify_all(send, listed, concurrency, return_exceptions)
        )

    def messages(self, text: str) -> list[dict[str, Any]]:
        """Return the chat messages for a text, for people who call the model themselves.

        Raises PromptfitError where a decision model is asked, which takes none: ``payload`` has all that is sent.
        """
        if self._wire.model.decides:
            raise PromptfitError(f"{self._wire.model}: a decision model takes no messages: use payload(text)")
        payload = self._wire.payload(text)
        system = payload.get("system")
        return [*([{"role": "system", "content": system}] if system else []), *payload["messages"]]

    def payload(self, text: str) -> dict[str, Any]:
        """Return the whole JSON body that is sent for a text."""
        return self._wire.payload(text)

    def close(self) -> None:
        """Close the connection at once: calls in flight raise CallError; a later call opens it anew."""
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def _classify(self, send: Send, text: str) -> Prediction:
        from pytest_promptfit.cassettes.transport import watching

        started, spec = time.perf_counter(), self._wire.model
        with watching() as headers:
            try:
                body = await send(self._wire.payload(_text(text)))
                reply, decided = self._wire.read(body, text)
            except PromptfitError as error:
                self._tell(Call(self.name, str(spec), time.perf_counter() - started, headers.request_id, error=error))
                raise
        seconds = time.perf_counter() - started
        answered_by, usd = reply.model or spec.name, reply_usd(spec, reply)
        prediction = Prediction(decided.label, reply, answered_by, headers.request_id, seconds, usd, decided)
        self._tell(Call(self.name, str(spec), seconds, headers.request_id, prediction))
        return prediction

    def _tell(self, call: Call) -> None:
        try:
            if self._on_call is not None:
                self._on_call(call)
        except Exception:  # the reply was paid for: a log that fails must not lose it
            _LOG.exception("on_call failed for a call of %s", self.name)

    async def _classify_all(
        self, send: Send, texts: list[str], concurrency: int, return_exceptions: bool
    ) -> list[Prediction | PromptfitError]:
        import asyncio

        found: dict[int, Prediction | PromptfitError] = {}
        stopped: list[CallError] = []

        async def work(left: Iterator[tuple[int, str]]) -> None:
            for at, text in left:
                try:
                    found[at] = stopped[0] if stopped else await self._classify(send, text)
                except PromptfitError as error:
                    if not return_exceptions:
                        raise
                    found[at] = error
                    # Every other text would meet the same, so the rest is told of it and not asked.
                    if isinstance(error, CallError) and error.fatal:
                        stopped.append(CallError(f"not asked: {error}", fatal=True))

        left = iter(enumerate(texts))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(texts))):
                    group.create_task(work(left))
        except BaseExceptionGroup as errors:
            # Who asks for one label after the other expects an error, not a group of them.
            raise errors.exceptions[0] from None
        return [found[at] for at in range(len(texts))]


def _text(text: object) -> str:
    if isinstance(text, str):
        return text
    raise PromptfitError(f"expected a text to classify, found {shown(text)}")


def _listed(texts: Iterable[str], concurrency: int) -> list[str]:
    if isinstance(texts, str):
        raise PromptfitError(
            "batch: expected several texts, found one: call the classifier with it, or put it in a list"
        )
    if concurrency < 1:
        raise PromptfitError(f"batch: concurrency: {shown(concurrency)}: expected at least 1")
    return list(texts)


def load_prompt(
    path: str | Path,
    *,
    client: MakeClient | None = None,
    extract: Extract | None = None,
    on_call: OnCall | None = None,
    timeout: float | None = None,
    deadline: float | None = None,
    max_retries: int | None = None,
) -> Classifier:
    """Read a prompt file and return its classifier.

    The samples are read only when the file does not list its ``labels``.

    Args:
        path: the prompt file.
        client: returns a new client, or a function that is the model, as the hook ``pytest_promptfit_client``
            does: called with the ``ModelSpec`` when a connection is opened; ``close`` closes what it returned.
        extract: reads the label of ``(reply, text)``, as the hook ``pytest_promptfit_extract`` does.
        on_call: told of every ``Call`` when it has ended, for logs and traces.
        timeout: seconds that one try of a call may take; here and below the default is the prompt file's.
        deadline: seconds that all tries of a call may take together.
        max_retries: how often a call is tried again.

    Raises:
        PromptFileError: the prompt file is wrong.
        PromptfitError: one of the limits is no such number.
    """
    parsed = parse_prompt_file(Path(path))
    limits = {"timeout": timeout, "deadline": deadline, "max_retries": max_retries}
    parsed = _limited(parsed, {name: value for name, value in limits.items() if value is not None})
    labels = parsed.config.labels
    if labels:
        check_prompt_labels(parsed, labels)
    else:
        labels = read_samples(parsed).labels
    refuse_keys(parsed, labels)
    return Classifier(parsed, labels, Custom(client, extract), on_call)


def _limited(parsed: ParsedPrompt, limits: dict[str, float]) -> ParsedPrompt:
    """Return the prompt file with other limits of its model's calls."""
    if not limits:
        return parsed
    try:
        model = ModelSpec.model_validate({**parsed.config.model.model_dump(), **limits})
    except ValidationError as error:
        first = error.errors()[0]
        raise PromptfitError(f"load_prompt: {first['loc'][0]}: {first['msg'].lower()}") from None
    config = parsed.config.model_copy(update={"model": model})
    return ParsedPrompt(config, parsed.source)


def evaluate(
    prompt: str | Path | Classifier,
    samples: Iterable[Sample | tuple[str, str]] | None = None,
    *,
    model: str | None = None,
    record: RecordMode | None = None,
    cassettes: str | Path | None = None,
    concurrency: int = 16,
    max_calls: int | None = None,
    max_usd: float | None = None,
    client: MakeClient | None = None,
    extract: Extract | None = None,
) -> Evaluation:
    """Run a prompt file over samples and return the same Evaluation as the plugin's.

    Args:
        prompt: a prompt file's path, or the classifier that ``load_prompt`` made of it.
        samples: ``Sample`` or ``(text, label)``; default: those of the prompt file.
        model: ``provider/name``, asked instead of the file's own, as ``promptfit compare --model`` does.
        record: ``"missing"`` or ``"all"`` to ask the model; default: replay only, without network.
        cassettes: the folder of all recordings; default: where pytest has them (``where``).
        concurrency: calls in flight at once while recording.
        max_calls: stop asking after so many calls.
        max_usd: stop asking before so much is spent.
        client: returns a new client or model for a ``ModelSpec``, as in ``load_prompt``; default: the
            classifier's, else ours.
        extract: reads the label of ``(reply, text)``, as in ``load_prompt``; default: the same.

    Raises:
        PromptfitError: the prompt file or a sample is wrong, or the model cannot be asked.
    """
    from pytest_promptfit.evaluation.forward import Asking, forward
    from pytest_promptfit.providers.usage import Limits

    path = Path(prompt) if isinstance(prompt, str | Path) else prompt.path
    parsed = parse_prompt_file(path)
    parsed = under_model(parsed, model) if model is not None else parsed
    sample_set = read_samples(parsed) if samples is None else given_samples(parsed, samples)
    refuse_keys(parsed, sample_set.labels, sample_set.samples)
    folder = _where(cassettes).of(path, parsed.name, parsed.other_model)
    theirs = OURS if isinstance(prompt, str | Path) else prompt.custom
    custom = replace(theirs, client=client or theirs.client, extract=extract or theirs.extract)
    asking = None
    if record is not None:
        limits = Limits(max_calls, max_usd, calls_option="max_calls", usd_option="max_usd")
        asking = Asking(limits, mode=record, concurrency=concurrency)
    return forward(parsed, sample_set, sample_set.samples, folder, asking=asking, custom=custom)


def tune(
    prompt_path: str | Path,
    *,
    seed: int = 0,
    engine: Literal["promptfit", "gepa"] = "promptfit",
    iterations: int | None = None,
    take: int | None = None,
    cassettes: str | Path | None = None,
    concurrency: int = 16,
    client: MakeClient | None = None,
    extract: Extract | None = None,
) -> TuneResult:
    """Improve a prompt file as ``pytest --tune`` does: the YAML is rewritten where that is earned.

    Args:
        prompt_path: the prompt file.
        seed: where all random choices start from.
        engine: who says what is tried: the stages of pytest-promptfit, or GEPA, which the extra ``gepa`` installs.
        iterations: rounds of reflection; default: the file's ``tune.iterations``.
        take: the step, from 1, whose candidate is written although it is not proven to be better.
        cassettes: the folder of all recordings; default: where pytest has them (``where``).
        concurrency: calls in flight at once.
        client: returns a new client or model for a ``ModelSpec``, the optimizer's too, as in ``load_prompt``.
        extract: reads the label of ``(reply, text)``, as in ``load_prompt``.

    Raises:
        PromptfitError: the prompt file is wrong, or a model cannot be asked; the file is then as it was.
    """
    from pytest_promptfit.tuning.run import TuneOptions, tune_prompt

    path = Path(prompt_path)
    parsed = parse_prompt_file(path)
    folder = _where(cassettes).of(path, parsed.name)
    custom = Custom(client, extract)
    options = TuneOptions(
        seed=seed, engine=engine, iterations=iterations, take=take, concurrency=concurrency, custom=custom
    )
    sample_set = read_samples(parsed)
    refuse_keys(parsed, sample_set.labels, sample_set.samples)
    return tune_prompt(parsed, sample_set, folder, options)


def _where(cassettes: str | Path | None) -> Where:
    return Where(Path(cassettes) if cassettes is not None else None)
