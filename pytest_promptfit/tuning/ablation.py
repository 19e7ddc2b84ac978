"""What each sentence and each example of a prompt is good for: the prompt without it, on the same samples.

Recorded replies first, the harness's and the tuner's; what is asked besides is kept with the tuner's, so nobody pays
for it twice. Nothing is decided here and no prompt is changed.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Final, Literal

from pytest_promptfit.cassettes.recorder import Recorder
from pytest_promptfit.chat.nearest import Neighbours
from pytest_promptfit.errors import BudgetExceeded, CallError
from pytest_promptfit.evaluation.forward import others_of
from pytest_promptfit.evaluation.metrics import benjamini_hochberg, two_sided_midp
from pytest_promptfit.evaluation.outcomes import Outcome
from pytest_promptfit.prompts.pool import pool_of
from pytest_promptfit.prompts.split import rng, shuffled, split, stratified_order
from pytest_promptfit.providers.asking import Answered
from pytest_promptfit.providers.usage import Usage, estimate
from pytest_promptfit.providers.wire import Wire, secrets_of
from pytest_promptfit.tuning.arena import ALTERNATIVES
from pytest_promptfit.tuning.candidates import balanced
from pytest_promptfit.tuning.steps import pieces_of, why_it_stays

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from pytest_promptfit.cassettes.cassette import Asked, Cassette
    from pytest_promptfit.chat.reply import ChatReply
    from pytest_promptfit.errors import PromptfitError
    from pytest_promptfit.evaluation.forward import Asking
    from pytest_promptfit.prompts.read import ParsedPrompt
    from pytest_promptfit.prompts.samples import Sample, SampleSet
    from pytest_promptfit.providers import Provider
    from pytest_promptfit.providers.usage import Estimate
    from pytest_promptfit.tuning.steps import Piece


MOST_SAMPLES: Final = 200
"""Labeled samples that each piece is left out for, unless somebody wants more."""

ENOUGH: Final = 20
"""Samples from which a p-value is told, of a set that has more."""

FIRST_LOOK: Final = 10
"""Samples that every piece is left out for before any is left out for twice as many."""

ALPHA: Final = 0.05
"""The share of wrong ones among the pieces that are said to help or to harm."""

ORDER: Final = (
    "system_prompt",
    "label_notes",
    "examples",
    "user_prompt_prefix",
    "user_prompt_suffix",
    "bot_reply_prefix",
)
"""The pieces are told in the order in which they are sent."""

Verdict = Literal["stays", "helps", "harms", "dead", "unclear", "unknown"]


@dataclass(frozen=True, slots=True)
class Effect:
    """What leaving out one piece did, on the samples whose replies with and without it are known.

    ``stays`` says why it is not left out at all. ``carries`` are the cases that are right with it alone, ``harms``
    those that are right without it alone. ``input_tokens`` is what it takes a call, ``None`` where nobody knows.
    """

    piece: Piece
    stays: str | None
    samples: int
    seen: int = 0
    carries: tuple[str, ...] = ()
    harms: tuple[str, ...] = ()
    input_tokens: float | None = None

    @property
    def p_value(self) -> float | None:
        """How often a piece that does nothing flips as many one way, two-sided; ``None`` where too little is known.

        Nobody knew beforehand whether it helps or harms.
        """
        if self.stays or self.seen < min(ENOUGH, self.samples):
            return None
        return two_sided_midp(len(self.harms), len(self.carries))


def verdicts(effects: Sequence[Effect]) -> list[Verdict]:
    """Return what is to be said of each piece; that one helps or harms holds for the table as a whole.

    A piece is dead where all samples were seen and none is right with it alone.
    """
    told = [effect.p_value for effect in effects if effect.p_value is not None]
    level = benjamini_hochberg(told, [ALPHA] * len(told))[0] if told else 0.0
    return [_verdict(effect, level) for effect in effects]


def _verdict(effect: Effect, level: float) -> Verdict:
    if effect.stays:
        return "stays"
    if effect.p_value is not None and effect.p_value <= level:
        return "helps" if len(effect.carries) > len(effect.harms) else "harms"
    if not effect.seen:
        return "unknown"
    return "dead" if not effect.carries and effect.seen == effect.samples else "unclear"


def chosen(sample_set: SampleSet, most: int = MOST_SAMPLES) -> list[Sample]:
    """Return the samples that pieces are left out for: all canonical ones, and up to ``most`` labeled ones.

    Of more, a balanced draw: the labels in turn. Tuning's dev samples come first, because most is recorded for them.
    """
    parts = split(sample_set.samples)
    others = [*shuffled([*parts.train, *parts.holdout], rng(0, 0, "why"))]
    order = [*stratified_order(parts.dev, 0), *others]
    known = set(order)
    order += [sample for sample in sample_set.labeled if sample not in known]  # with the text of a canonical one
    few = order if len(order) <= most else balanced(order, sample_set.labels, most)
    return [*(sample for sample in sample_set.samples if sample.canonical), *few]


@dataclass
class Ablation:
    """A prompt, whole and without each of its pieces, and what is recorded of all that for some samples."""

    parsed: ParsedPrompt
    sample_set: SampleSet
    samples: Sequence[Sample]
    harness: Cassette
    tuner: Cassette
    _outcomes: dict[tuple[int, str], Outcome] = field(default_factory=dict)
    """By piece, from 1, and case; the whole prompt is 0."""
    _keys: dict[tuple[int, str], tuple[str, ...]] = field(default_factory=dict)
    """What each of them is recorded under; reckoned once, because it takes the whole request."""

    def __post_init__(self) -> None:
        """Take the prompt apart."""
        config, labels = self.parsed.config, self.sample_set.labels
        self.pieces = sorted(pieces_of(config.prompt), key=lambda piece: ORDER.index(piece.field))
        decides = config.model.decides
        self.stays = [
            why_it_stays(config.prompt, piece.without, labels, config.extract, decides=decides) for piece in self.pieces
        ]
        chooses = Neighbours(pool_of(self.parsed, labels))
        prompts = [config.prompt, *(piece.without for piece in self.pieces)]

        def wire(at: int, alternatives: int) -> Wire:
            folder = self.parsed.path.parent
            return Wire(config, labels, folder, prompt=prompts[at], alternatives=alternatives, chooses=chooses)

        # A race asks for log-probabilities too, which makes another request of it.
        self._wires = [[wire(at, alternatives) for alternatives in (0, ALTERNATIVES)] for at in range(len(prompts))]

    @property
    def tried(self) -> list[int]:
        """The numbers, from 1, of the pieces that may be left out."""
        return [at for at, stays in enumerate(self.stays, 1) if not stays]

    @property
    def provider(self) -> Provider:
        """Who is asked."""
        return self._wires[0][0].provider

    @property
    def whole(self) -> list[Outcome]:
        """What is known of the prompt as it is."""
        found = (self._outcome(0, sample) for sample in self.samples)
        return [outcome for outcome in found if outcome is not None]

    @property
    def input_tokens(self) -> float | None:
        """What a call takes on average; ``None`` where no reply says so."""
        counts = [outcome.reply.input_tokens for outcome in self.whole if outcome.reply and outcome.reply.input_tokens]
        return fmean(counts) if counts else None

    @property
    def seen(self) -> list[tuple[Mapping[str, Any], ChatReply]]:
        """The bodies to which a reply is known, with it: what an estimate rests on."""
        wire = self._wires[0][0]
        return [(wire.payload(o.sample.text), o.reply) for o in self.whole if o.reply is not None]

    def missing(self, at: int, samples: Iterable[Sample]) -> dict[str, Asked]:
        """Return what has to be asked about a prompt, by case."""
        wire = self._wires[at][0]
        return {s.case_name: wire.asked(s) for s in samples if self._outcome(at, s) is None}

    def effects(self) -> list[Effect]:
        """Return what is known of each piece, in the order in which they are sent."""
        return [
            Effect(piece, stays, len(self.samples), input_tokens=self._tokens(at)) if stays else self._effect(at)
            for at, (piece, stays) in enumerate(zip(self.pieces, self.stays, strict=True), 1)
        ]

    def unknown(self) -> Estimate:
        """Return what asking for all that is not known takes."""
        missing = [asked for at in (0, *self.tried) for asked in self.missing(at, self.samples).values()]
        return estimate(self.parsed.config.model, [asked.payload for asked in missing], self.seen)

    def rounds(self) -> Iterator[list[Asked]]:
        """Yield what is to be asked next, given what is known by then; the most promising first.

        Every piece is left out for the same samples before more are taken, twice as many each time: so a limit that
        ends it half-way leaves comparisons of all pieces. Those that no sample has needed so far come first, the
        longest of them before the others; one that is needed beyond chance waits for the end.
        """
        size, total = FIRST_LOOK, len(self.samples)
        while size < total:
            effects = {at: self._effect(at) for at in self.tried}
            yield self._round([at for at in self.tried if not _is_needed(effects[at])], effects, size)
            size *= 2
        yield self._round(self.tried, {at: self._effect(at) for at in self.tried}, total)

    def _round(self, pieces: Iterable[int], effects: Mapping[int, Effect], size: int) -> list[Asked]:
        first = sorted(pieces, key=lambda at: (bool(effects[at].carries), -len(effects[at].piece.said), at))
        return [asked for at in first for asked in self.missing(at, self.samples[:size]).values()]

    def _effect(self, at: int) -> Effect:
        pairs = sorted(self._pairs(at), key=lambda pair: self._rows[pair[0].sample.case_name])
        carries = [o.sample.case_name for o, without in pairs if o.correct and not without.correct]
        harms = [o.sample.case_name for o, without in pairs if without.correct and not o.correct]
        tokens = self._tokens(at)
        piece = self.pieces[at - 1]
        return Effect(piece, None, len(self.samples), len(pairs), tuple(carries), tuple(harms), tokens)

    def _tokens(self, at: int) -> float | None:
        """Return what a piece takes of a call: as the replies count it, else by its length and what a byte takes."""
        counted = [(o.reply, w.reply) for o, w in self._pairs(at) if o.reply and w.reply and w.reply.input_tokens]
        if counted:
            return fmean(reply.input_tokens - without.input_tokens for reply, without in counted)
        if not self.samples:
            return None
        text = self.samples[0].text
        bodies = [self._wires[place][0].payload(text) for place in (0, at)]
        whole, less = (estimate(self.parsed.config.model, [body], self._some_seen).input_tokens for body in bodies)
        return float(whole - less)

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Where each sample stands in its file: people look for them there."""
        return {sample.case_name: row for row, sample in enumerate(self.sample_set.samples)}

    @cached_property
    def _some_seen(self) -> list[tuple[Mapping[str, Any], ChatReply]]:
        return self.seen[:ENOUGH]

    def _pairs(self, at: int) -> Iterator[tuple[Outcome, Outcome]]:
        for sample in self.samples:
            whole, without = self._outcome(0, sample), self._outcome(at, sample)
            if whole is not None and without is not None:
                yield whole, without

    def _outcome(self, at: int, sample: Sample) -> Outcome | None:
        key = (at, sample.case_name)
        if key not in self._outcomes:
            found = next(self._recorded(at, sample), None)
            if found is None:
                return None
            self._outcomes[key] = found
        return self._outcomes[key]

    def _recorded(self, at: int, sample: Sample) -> Iterator[Outcome]:
        place = (at, sample.case_name)
        if place not in self._keys:
            self._keys[place] = tuple(dict.fromkeys(wire.asked(sample).key for wire in self._wires[at]))
        for wire, key in zip(self._wires[at], self._keys[place], strict=False):
            for recorded in filter(None, (self.harness.find(key), self.tuner.find(key))):
                with suppress(CallError):  # what stands in the place of a reply is none
                    reply, decided = wire.read(recorded.body, sample.text)
                    yield Outcome(sample, reply, decided.label, replayed=True, decided=decided)


def _is_needed(effect: Effect) -> bool:
    p_value = effect.p_value
    return p_value is not None and p_value <= ALPHA and len(effect.carries) > len(effect.harms)


def record(ablation: Ablation, cassettes: Path, folder: Path, asking: Asking) -> Answered:
    """Ask for what is not known, within limits; return what was used, and what went wrong.

    Replies to the prompt as it is are recorded in ``cassettes``, where the harness looks for them, the others in
    ``folder``. Raises PromptfitError where the model cannot be asked at all.
    """
    answered = Answered({}, Usage())
    whole = list(ablation.missing(0, ablation.samples).values())
    if whole:
        beside = others_of(ablation.parsed, cassettes)
        with Recorder.open(
            cassettes, secrets_of(ablation.parsed), on_wait=asking.on_wait, elsewhere=beside
        ) as recorder:
            ablation.harness = recorder.cassette
            answered = _asked([whole], ablation, recorder, asking, answered)
    with Recorder.open(folder, secrets_of(ablation.parsed), on_wait=asking.on_wait) as recorder:
        ablation.tuner = recorder.cassette
        return _asked(ablation.rounds(), ablation, recorder, asking, answered)


def _asked(
    rounds: Iterable[list[Asked]], ablation: Ablation, recorder: Recorder, asking: Asking, before: Answered
) -> Answered:
    errors, usage = dict(before.errors), before.usage
    for questions in rounds:
        # Two examples that are the same leave the same prompt; and what was refused once is refused again.
        wanted = {asked.key: asked for asked in questions if asked.key not in errors}
        if any(isinstance(error, BudgetExceeded) or _is_fatal(error) for error in errors.values()):
            break
        answered = asking.ask(list(wanted.values()), ablation.provider, recorder, first_alone=not usage.calls)
        errors |= answered.errors
        usage += answered.usage
    return Answered(errors, usage)


def _is_fatal(error: PromptfitError) -> bool:
    return isinstance(error, CallError) and error.fatal
