"""Where candidates meet samples: recorded replies first, then the model, within the budget; and how they compare.

All that is asked is recorded apart from the harness's own replies, so a run that is killed goes on where it
stopped, and a finished one can be replayed to the same decisions.
"""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Final

from pytest_promptfit.chat.request import size_of
from pytest_promptfit.errors import CallError, PromptfitError
from pytest_promptfit.evaluation.outcomes import Outcome
from pytest_promptfit.providers.asking import ask_and_record
from pytest_promptfit.providers.own import OURS
from pytest_promptfit.providers.replies import is_reply, parsed_body
from pytest_promptfit.providers.usage import BYTES_PER_TOKEN, UNSEEN_REPLY_TOKENS, Estimate, Usage, cost_usd, reply_usd
from pytest_promptfit.providers.wire import Wire
from pytest_promptfit.tuning.meter import OutOfBudget, Rates, amounts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_promptfit.cassettes.cassette import Asked, Cassette, Recorded
    from pytest_promptfit.cassettes.recorder import Recorder
    from pytest_promptfit.chat.nearest import ChoosesExamples
    from pytest_promptfit.prompts.model import ModelSpec, Prompt
    from pytest_promptfit.prompts.read import ParsedPrompt
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.providers.asking import Answer
    from pytest_promptfit.providers.own import Custom
    from pytest_promptfit.tuning.meter import Amounts, Meter


SUSPECT_AFTER: Final = 3
"""Candidates that must have been asked for a case before its label is doubted."""

ALTERNATIVES: Final = 3
"""Tokens asked for at each place; each takes about a hundred bytes of a recording."""

OUTAGE = 3
"""So many calls that fail in a passing way, and a tenth of those made at once, end the run: it can go on later."""


REFUSED_PREFIX = "reply-prefix-refused.txt"
"""Beside the tuner's recordings: which model does not go on from a reply prefix, though it should."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One candidate on one sample, as it is sent."""

    candidate: str
    wire: Wire
    sample: Sample
    asked: Asked


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
        on_wait: Callable[[str], None] = lambda _message: None,
        custom: Custom = OURS,
        chooses: ChoosesExamples | None = None,
    ) -> None:
        """``chooses`` finds the examples of candidates that want those nearest to a text."""
        self._chooses = chooses
        self._custom = custom
        self.parsed = parsed
        self.labels = tuple(labels)
        self.meter = meter
        self.recorder = recorder
        self._harness = harness
        self._concurrency = concurrency
        # Seconds are told from recordings, the same on every machine: how many llama.cpp works on differs.
        self._at_once = 1 if parsed.config.model.provider == "local" else concurrency
        self._on_call = on_call
        self._on_wait = on_wait
        self._rates = Rates(parsed.config.model)
        self._counted: set[str] = set()
        self._asked: set[str] = set()
        self._replied: set[str] = set()
        """Keys whose recordings are replies, which is read once."""
        self._outcomes: dict[tuple[str, str], Outcome] = {}
        self._wires: dict[str, Wire] = {}
        self._is_answering = False

    def wire(self, candidate: Prompt) -> Wire:
        """Return the wire format of a candidate."""
        name = candidate.content_hash
        if name not in self._wires:
            self._wires[name] = self.new_wire(candidate)
        return self._wires[name]

    def recorded(self, candidate: Prompt, sample: Sample) -> Recorded | None:
        """Return the reply to a candidate's request for a sample, in the wire format it is asked in."""
        wire = self.wire(candidate)
        return self.recorder.cassette.find(wire.asked(sample).key)

    def is_recorded(self, candidate: Prompt, sample: Sample) -> bool:
        """Tell whether a candidate's reply to a sample is there without a call."""
        wire = self.wire(candidate)
        return self._is_recorded(wire, wire.asked(sample).key)

    def use(self, candidate: Prompt, wire: Wire) -> None:
        """Ask a candidate in another wire format; one that was asked already keeps its own."""
        if candidate.content_hash not in {name for name, _ in self._outcomes}:
            self._wires[candidate.content_hash] = wire

    def new_wire(self, candidate: Prompt, *, alternatives: int = 0) -> Wire:
        """Return a wire format of a candidate, with so many alternatives to each token of the reply."""
        folder = self.parsed.path.parent
        config, labels, custom = self.parsed.config, self.labels, self._custom
        return Wire(
            config,
            labels,
            folder,
            prompt=candidate,
            alternatives=alternatives,
            custom=custom,
            chooses=self._chooses,
        )

    def takes(self, wire: Wire, sample: Sample) -> bool:
        """Tell whether the API answers a request in this form, which is asked unless it is recorded."""
        asked = wire.asked(sample)
        if not self._is_recorded(wire, asked.key):
            self.meter.check_task(1, amounts_of([self._rates.foresee(asked.payload)]))
            self._ask(wire, [asked])
        return self._is_recorded(wire, asked.key)

    def takes_prefix(self, candidate: Prompt, sample: Sample, also: Sequence[Sample]) -> bool:
        """Tell whether the API goes on from a candidate's reply prefix: tried once, and kept beside the recordings.

        A refusal is no reply, so a replay would not find it among those. What an earlier run has asked the
        candidate, about ``also`` too, shows without asking. Where nobody can be asked it is taken for granted.
        """
        wire = self.wire(candidate)
        model = f"{wire.provider.url} {wire.model}\n"
        if self.recorder.note(REFUSED_PREFIX) == model:
            return False
        forms = (wire, self.new_wire(candidate, alternatives=ALTERNATIVES))
        keys = (form.asked(about).key for form in forms for about in (sample, *also))
        if any(key in self.recorder.cassette for key in keys):
            return True
        asked = wire.asked(sample)
        self.meter.check_task(1, amounts_of([self._rates.foresee(asked.payload)]))
        try:
            error = self._ask(wire, [asked]).get(asked.key)
        except CallError:
            return True
        is_refused = isinstance(error, CallError) and error.hopeless_after == 1
        if is_refused:
            self.recorder.keep_note(REFUSED_PREFIX, model)
        return not is_refused

    def outcomes(self, candidate: Prompt, samples: Sequence[Sample]) -> list[Outcome]:
        """Return the candidate's outcomes on the samples, in their order.

        Raises OutOfBudget before anything is asked that would pass a limit, and CallError when the model
        cannot be asked at all.
        """
        self.ask_together([candidate], samples)
        name = candidate.content_hash
        return [self._outcomes[name, sample.case_name] for sample in samples]

    def ask_together(self, candidates: Sequence[Prompt], samples: Sequence[Sample]) -> None:
        """Have the outcomes of several candidates on the same samples, asking for all of them at once.

        Raises as ``outcomes`` does.
        """
        calls = []
        for candidate in candidates:
            name, wire = candidate.content_hash, self.wire(candidate)
            new = [sample for sample in samples if (name, sample.case_name) not in self._outcomes]
            calls += [_Call(name, wire, sample, wire.asked(sample)) for sample in new]
        if self.meter.limits and not self._rates.replies:
            # What a call takes is known from the first one, which may take all that it can.
            self._evaluate(calls[:1])
            calls = calls[1:]
        self._evaluate(calls)

    def right(self, candidate: Prompt, samples: Sequence[Sample]) -> list[bool]:
        """Return for each sample whether the candidate gets it right."""
        return [outcome.correct for outcome in self.outcomes(candidate, samples)]

    @property
    def has_asked(self) -> bool:
        """Whether the model was asked in this run."""
        return bool(self._asked)

    def seen(self) -> dict[tuple[str, str], Outcome]:
        """Return every outcome of the run by candidate and case."""
        return dict(self._outcomes)

    def affordable(self, candidates: Sequence[Prompt], sample: Sample) -> int:
        """Return how many task calls fit into the budget if they take what the candidates do on the sample."""
        calls = [self._rates.foresee(self.wire(candidate).payload(sample.text)) for candidate in candidates]
        together = amounts_of(calls, self._concurrency)
        return self.meter.affordable({name: amount / max(1, len(calls)) for name, amount in together.items()})

    def ask_again(self, candidate: Prompt, samples: Sequence[Sample]) -> None:
        """Ask a candidate for the further answers to samples that the file's ``repeats`` want; none is looked at.

        Raises as ``outcomes`` does.
        """
        name, wire, repeats = candidate.content_hash, self.wire(candidate), self.parsed.config.repeats
        questions = [(sample, asked) for sample in samples for asked in wire.questions(sample, repeats)[1:]]
        self._answered([_Call(name, wire, sample, asked) for sample, asked in questions])

    def _evaluate(self, calls: Sequence[_Call]) -> None:
        errors = self._answered(calls)
        for call in calls:
            self._outcomes[call.candidate, call.sample.case_name] = self._outcome(call, errors)

    def _answered(self, calls: Sequence[_Call]) -> dict[str, PromptfitError]:
        """Have the replies to calls recorded, within the budget; return why there is none, by key."""
        if not calls:
            return {}
        new = {call.asked.key: call for call in calls if call.asked.key not in self._counted}
        self.meter.check_task(len(new), self._foreseen(new.values()))
        wanted = {c.asked.key: c.asked for c in calls if not self._is_recorded(c.wire, c.asked.key)}
        errors = self._ask(calls[0].wire, list(wanted.values())) if wanted else {}
        self._count(new)
        return errors

    def _foreseen(self, calls: Iterable[_Call]) -> Amounts:
        """Return what calls at once are expected to take, and take note of the dearest."""
        if not self.meter.limits:
            return {}
        each = [self._rates.foresee(call.asked.payload) for call in calls]
        if self._rates.replies:
            for call in each:
                self.meter.expect(amounts_of([call], self._at_once))
        together = amounts_of(each, self._at_once)
        return {**together, "seconds": max([together["seconds"], *(call.seconds or 0.0 for call in each)])}

    def _is_recorded(self, wire: Wire, key: str) -> bool:
        """Tell whether a reply is recorded; one of the harness's is taken over, so that a replay needs no other."""
        if key in self._replied:
            return True
        recorded = self.recorder.cassette.find(key)
        if recorded is None or not is_reply(wire.provider, recorded.body):
            recorded = self._harness.find(key)
            if recorded is None or not is_reply(wire.provider, recorded.body):
                return False
            self.recorder.keep(recorded)
        self._replied.add(key)
        return True

    def _ask(self, wire: Wire, wanted: Sequence[Asked]) -> dict[str, PromptfitError]:
        def on_answer(asked: Asked, answer: Answer) -> None:
            if isinstance(answer, CallError) and answer.fatal:
                raise answer
            if not isinstance(answer, PromptfitError):
                self._is_answering = True
            self._asked.add(asked.key)
            self.meter.answered += 1
            self._on_call()

        errors = ask_and_record(
            wanted,
            wire.provider,
            self.recorder,
            concurrency=self._concurrency,
            first_alone=not self._is_answering,
            on_answer=on_answer,
            on_wait=self._on_wait,
        ).errors
        passing = [error for error in errors.values() if isinstance(error, CallError) and error.passing]
        if len(passing) >= max(OUTAGE, len(wanted) / 10):
            raise PromptfitError(
                f"{len(passing)} of {len(wanted)} calls failed, the last one: {passing[-1]}; "
                "the replies are kept: run pytest --tune again to go on"
            )
        return errors

    def _count(self, calls: Mapping[str, _Call]) -> None:
        """Count the replies to calls that were not counted yet; one without a reply counts as a call alone."""
        meter = self.meter
        meter.task += Usage(len(calls))
        meter.answered = 0
        latencies = [0.0]
        for key, call in calls.items():
            recorded = self.recorder.cassette.find(key)
            if recorded is None:
                continue
            self._counted.add(key)
            is_replayed = key not in self._asked
            meter.task += Usage(replayed=int(is_replayed))
            latencies.append(recorded.seconds or 0.0)
            try:
                reply = call.wire.provider.reply(parsed_body(recorded.body), "")
            except CallError:
                continue
            self._rates.see(recorded.request_body, reply, recorded.seconds or 0.0)
            usd = reply_usd(self._rates.spec, reply)
            meter.task += Usage(0, 0, reply.input_tokens, reply.output_tokens, usd)
            meter.pay(0.0 if is_replayed else usd)
        meter.seconds += max(max(latencies), math.fsum(latencies) / self._at_once)

    def _outcome(self, call: _Call, errors: Mapping[str, PromptfitError]) -> Outcome:
        sample = call.sample
        recorded = self.recorder.cassette.find(call.asked.key)
        if recorded is None:
            return Outcome(sample, error=str(errors.get(call.asked.key, "no reply")))
        try:
            reply, decided = call.wire.read(recorded.body, sample.text)
        except CallError as error:
            return Outcome(sample, error=str(error))
        return Outcome(sample, reply, decided.label, seconds=recorded.seconds, decided=decided)


def known_outcomes(arena: Arena, prompt: Prompt, samples: Sequence[Sample]) -> list[Outcome]:
    """Return what is known already of a prompt on samples; nothing is asked."""
    seen = arena.seen()
    found = (seen.get((prompt.content_hash, sample.case_name)) for sample in samples)
    return [outcome for outcome in found if outcome is not None]


def ask_what_fits(arena: Arena, prompt: Prompt, samples: Sequence[Sample]) -> None:
    """Ask a prompt, as far as the budget goes, about those of the samples that it was not asked about yet."""
    known = {outcome.sample for outcome in known_outcomes(arena, prompt, samples)}
    unknown = [sample for sample in samples if sample not in known]
    if unknown:
        fitting = arena.affordable([prompt], max(unknown, key=lambda sample: len(sample.text)))
        with suppress(OutOfBudget):
            arena.outcomes(prompt, unknown[:fitting])


def ask_again_what_fits(arena: Arena, prompt: Prompt, samples: Sequence[Sample]) -> None:
    """Ask a prompt for the further answers that the file's ``repeats`` want, as far as the budget goes."""
    further = arena.parsed.config.repeats - 1
    if further and samples:
        fitting = arena.affordable([prompt], max(samples, key=lambda sample: len(sample.text))) // further
        with suppress(OutOfBudget):
            arena.ask_again(prompt, samples[:fitting])


def unreadable_share(arena: Arena, prompt: Prompt, samples: Sequence[Sample]) -> float:
    """Return the share of a prompt's replies, from 0 to 1, that carry no label."""
    outcomes = [o for o in arena.outcomes(prompt, samples) if o.reply is not None]
    return sum(o.best is None for o in outcomes) / len(outcomes) if outcomes else 0.0


def compared(arena: Arena, old: Prompt, new: Prompt, samples: Sequence[Sample]) -> tuple[list[str], list[str]]:
    """Return the cases that the new prompt fixes and those that it breaks.

    A sample that the old prompt got no reply to is not fixed by getting one: the server may have been down.
    """
    arena.ask_together([old, new], samples)
    return changed(arena.outcomes(old, samples), arena.outcomes(new, samples))


def changed(before: Sequence[Outcome], now: Sequence[Outcome]) -> tuple[list[str], list[str]]:
    """Return the cases that are right now and were not, and the reverse; both are of the same samples."""
    pairs = list(zip(before, now, strict=True))
    fixed = [o.sample.case_name for o, n in pairs if n.correct and not o.correct and o.reply is not None]
    broken = [o.sample.case_name for o, n in pairs if o.correct and not n.correct]
    return fixed, broken


def call_cost(spec: ModelSpec, outcomes: Sequence[Outcome]) -> Estimate | None:
    """Return what a call took on average; ``None`` without a reply."""
    replies = [outcome.reply for outcome in outcomes if outcome.reply is not None]
    if not replies:
        return None
    usd = [reply_usd(spec, reply) for reply in replies]
    seconds = [outcome.seconds for outcome in outcomes if outcome.reply is not None and outcome.seconds is not None]
    return Estimate(
        1,
        fmean(reply.input_tokens for reply in replies),
        fmean(reply.output_tokens for reply in replies),
        None if None in usd else fmean(one or 0.0 for one in usd),
        measured_on=len(replies),
        seconds=fmean(seconds) if seconds else None,
    )


def expected_cost(arena: Arena, prompt: Prompt, sample: Sample, like: Prompt) -> float:
    """Return what a call is worth: USD or, where the model is free or its price unknown, tokens in and out.

    What goes in is told by the length of the texts, what comes out by the replies so far, before there are any by those
    to a prompt ``like`` it. So a replay decides alike.
    """
    payload = arena.wire(prompt).payload(sample.text)
    given = size_of(payload) // BYTES_PER_TOKEN
    written = _reply_tokens(arena, prompt) or _reply_tokens(arena, like) or UNSEEN_REPLY_TOKENS
    return cost_usd(arena.parsed.config.model, given, round(written)) or given + written


def _reply_tokens(arena: Arena, prompt: Prompt) -> float:
    """Return the tokens of a prompt's replies on average; 0 where none is known."""
    name = prompt.content_hash
    counts = [o.reply.output_tokens for (asked, _), o in arena.seen().items() if asked == name and o.reply]
    return fmean(counts) if counts else 0.0


def suspects(arena: Arena, samples: Sequence[Sample]) -> list[str]:
    """Return the cases that each of at least ``SUSPECT_AFTER`` candidates got wrong."""
    met: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for (_, case), outcome in arena.seen().items():
        met[case] += outcome.reply is not None
        missed[case] += outcome.status == "wrong"
    return [
        s.case_name for s in samples if met[s.case_name] >= SUSPECT_AFTER and met[s.case_name] == missed[s.case_name]
    ]


def is_mistake(outcome: Outcome) -> bool:
    """Tell whether the reply is wrong or cannot be read; where there is none, the prompt may not be to blame."""
    return outcome.status in ("wrong", "missing")
