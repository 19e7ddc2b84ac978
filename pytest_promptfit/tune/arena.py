"""Where candidates meet samples: recorded replies first, then the model, within the budget.

All that is asked is recorded apart from the harness's own replies, so a run that is killed goes on where it
stopped, and a finished one can be replayed to the same decisions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_promptfit.asking import Question, ask
from pytest_promptfit.errors import BudgetExceeded, CallError, PromptfitError
from pytest_promptfit.evaluation import Outcome
from pytest_promptfit.prices import price_usd
from pytest_promptfit.transport import RecordingTransport, recording_for
from pytest_promptfit.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_promptfit.asking import Answer
    from pytest_promptfit.cassette import Cassette, Recorded
    from pytest_promptfit.prompt_file import ParsedPrompt, Prompt
    from pytest_promptfit.recorder import Recorder
    from pytest_promptfit.samples import Sample
    from pytest_promptfit.tune.meter import Meter


class Arena:
    """Evaluates candidates on samples; the same question is never asked twice."""

    def __init__(
        self,
        parsed: ParsedPrompt,
        labels: Sequence[str],
        recorder: Recorder,
        harness: Cassette,
        meter: Meter,
        *,
        concurrency: int,
        on_call: Callable[[], None],
    ) -> None:
        self.parsed = parsed
        self.labels = tuple(labels)
        self.meter = meter
        self.recorder = recorder
        self._harness = harness
        self._concurrency = concurrency
        self._on_call = on_call
        self._counted: set[str] = set()
        self._asked: set[str] = set()
        self._outcomes: dict[tuple[str, str], Outcome] = {}
        self._wires: dict[str, Wire] = {}

    def wire(self, candidate: Prompt) -> Wire:
        """Return the wire format of a candidate."""
        name = candidate.content_hash
        if name not in self._wires:
            folder = self.parsed.path.parent
            self._wires[name] = Wire(self.parsed.config, self.labels, folder, prompt=candidate)
        return self._wires[name]

    def outcomes(self, candidate: Prompt, samples: Sequence[Sample]) -> list[Outcome]:
        """Return the candidate's outcomes on the samples, in their order.

        Raises OutOfBudget before anything is asked that would pass a limit, and CallError when the model
        cannot be asked at all.
        """
        name = candidate.content_hash
        missing = [sample for sample in samples if (name, sample.case_name) not in self._outcomes]
        if missing:
            self._evaluate(candidate, missing)
        return [self._outcomes[name, sample.case_name] for sample in samples]

    def right(self, candidate: Prompt, samples: Sequence[Sample]) -> list[bool]:
        """Return for each sample whether the candidate gets it right."""
        return [outcome.correct for outcome in self.outcomes(candidate, samples)]

    def seen(self) -> dict[tuple[str, str], Outcome]:
        """Return every outcome of the run by candidate and case."""
        return dict(self._outcomes)

    def _evaluate(self, candidate: Prompt, samples: Sequence[Sample]) -> None:
        wire = self.wire(candidate)
        keyed = [(sample, payload, wire.key(payload)) for sample in samples for payload in (wire.payload(sample.text),)]
        new = list(dict.fromkeys(key for _, _, key in keyed if key not in self._counted))
        self.meter.check_task(len(new))
        wanted = {key: Question(sample.id, payload) for sample, payload, key in keyed if not self._is_recorded(key)}
        errors = self._ask(wire, wanted) if wanted else {}
        self._count(wire, new)
        for sample, _, key in keyed:
            self._outcomes[candidate.content_hash, sample.case_name] = self._outcome(wire, sample, key, errors)

    def _is_recorded(self, key: str) -> bool:
        """Tell whether a reply is recorded; one of the harness's is taken over, so that a replay needs no other."""
        if key in self.recorder.cassette:
            return True
        found = self._harness.find(key)
        if found is not None:
            keep(self.recorder, found)
        return found is not None

    def _ask(self, wire: Wire, wanted: dict[str, Question]) -> dict[str, str]:
        wire.provider.check()
        keys = list(wanted)
        errors: dict[str, str] = {}

        def on_answer(index: int, answer: Answer) -> None:
            if isinstance(answer, BudgetExceeded) or (isinstance(answer, CallError) and answer.fatal):
                raise answer
            if isinstance(answer, PromptfitError):
                errors[keys[index]] = str(answer)
            self._asked.add(keys[index])
            self._on_call()

        ask(
            list(wanted.values()),
            wire.provider,
            wire.model,
            wrap=lambda inner: RecordingTransport(inner, self.recorder, keep=wire.is_reply),
            concurrency=self._concurrency,
            before_send=lambda question: recording_for(question.sample, question.repeat),
            on_answer=on_answer,
        )
        return errors

    def _count(self, wire: Wire, keys: Sequence[str]) -> None:
        found = [(key, recorded) for key in keys if (recorded := self.recorder.cassette.find(key)) is not None]
        self._counted.update(keys)
        self.meter.task_calls += len(keys)
        self.meter.replayed += sum(key not in self._asked for key, _ in found)
        self.meter.seconds += math.fsum(recorded.seconds or 0.0 for _, recorded in found) / self._concurrency
        for key, recorded in found:
            usd = _count_tokens(self.meter, wire, recorded)
            self.meter.task_usd += usd
            self.meter.paid_usd += usd if key in self._asked else 0.0

    def _outcome(self, wire: Wire, sample: Sample, key: str, errors: dict[str, str]) -> Outcome:
        recorded = self.recorder.cassette.find(key)
        if recorded is None:
            return Outcome(sample, error=errors.get(key, "no reply"))
        try:
            reply, predicted = wire.read(recorded.body, sample.text)
        except CallError as error:
            return Outcome(sample, error=str(error))
        return Outcome(sample, reply, predicted, seconds=recorded.seconds)


def _count_tokens(meter: Meter, wire: Wire, recorded: Recorded) -> float:
    """Add a reply's tokens and return its price in USD, 0 where it is unknown."""
    try:
        reply, _ = wire.read(recorded.body, "")
    except CallError:
        return 0.0
    meter.input_tokens += reply.input_tokens
    meter.output_tokens += reply.output_tokens
    return price_usd(wire.model, reply.input_tokens, reply.output_tokens, reply.cached_tokens) or 0.0


def keep(recorder: Recorder, recorded: Recorded) -> None:
    """Put a reply that is recorded elsewhere into a recording."""
    recorder.append(
        method=recorded.method,
        url=recorded.url,
        body=recorded.request_body,
        response_status=recorded.status,
        response_text=recorded.body,
        response_content_type=recorded.content_type,
        sample=recorded.sample,
        seconds=recorded.seconds,
        repeat=recorded.repeat,
    )
