"""What may replace the incumbent: the sequential paired gate, pruning, canonical samples; and what the file.

A pair is one sample answered under both prompts: it is fixed when only the candidate is right, broken when only the
incumbent is; the other pairs say nothing. Where candidates come from is up to ``proposals``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

from pytest_promptfit.evaluation.metrics import least_broken, mcnemar_midp
from pytest_promptfit.tuning.arena import changed, compared, expected_cost, is_mistake, known_outcomes
from pytest_promptfit.tuning.candidates import Candidate, nearest_told
from pytest_promptfit.tuning.memory import UNDECIDED
from pytest_promptfit.tuning.meter import OutOfBudget
from pytest_promptfit.tuning.result import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from random import Random

    from pytest_promptfit.prompts.model import Example, NearestExamples, Prompt
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.tuning.arena import Arena
    from pytest_promptfit.tuning.meter import History
    from pytest_promptfit.tuning.weights import Weighing


Ruling = Literal["accept", "reject", "go on"]

ALPHA: Final = 0.10
"""How often the gate may accept a candidate that is no better: a guide within the run, which decides nothing."""

RUN_ALPHA: Final = 0.05
"""How often a whole run may rewrite the file with a prompt that is no better."""

BLOCK: Final = 10
"""So many samples are asked between two looks."""

EARLY_SHARE: Final = 0.25
"""The part of alpha that an early look may spend, times the share of dev seen so far.

The gate as a whole then stays at alpha: computed exactly for 5 to 160 samples of which 10 to 50 % are
discordant, it accepts a candidate that is no better 9.98 % of the time at most.
"""

FLIPS = 1000
"""So many exchanges tell a p-value of .05 to two thirds of a point."""

USUAL_RIVALS = 16
"""Candidates of a race."""

SMALLEST = 1e-15
"""A p-value next to which none is told from 0."""

FUTILITY = 3
"""So many more broken than fixed after which a shorter prompt is not looked at further."""

LEAST_FIXED = least_broken(ALPHA)
"""So many fixed, and none broken, open the gate."""


def judge(
    fixed: int,
    broken: int,
    seen: int,
    total: int,
    *,
    alpha: float = ALPHA,
    futility: int = 3,
    min_discordant: int = 6,
) -> Ruling:
    """Say whether the candidate replaces the incumbent, after ``seen`` of ``total`` dev samples.

    At the end it is accepted if the one-sided mid-p McNemar of what it fixed and broke is at most ``alpha``.
    Before, it is rejected when it could not get there if it fixed all that is left, or when it has fallen
    behind: by ``futility`` more broken than fixed at the start, by fewer as less is left to make up for them, and from
    three quarters on unless it is ahead. It is accepted early with at least ``min_discordant`` fixed and
    broken together and a p of at most a quarter of ``alpha`` times the share seen. The falling limit costs
    a point of power and saves a sixth of the calls on candidates that are no better.

    Meant to be asked after each ``BLOCK`` samples; looking more often accepts more often by chance. So
    does a candidate that was chosen by its answers on the same samples: of 16 equally good ones, raced on
    dev, the winner passes 34 to 42 % of the time at an ``alpha`` of .10, which the end of the run sees to.
    Raises ``ValueError`` for counts that cannot be.
    """
    if min(fixed, broken) < 0 or not fixed + broken <= seen <= total:
        raise ValueError(f"expected fixed + broken <= seen <= total, got {fixed} + {broken}, {seen}, {total}")
    p = mcnemar_midp(fixed, broken)
    if seen == total:
        return "accept" if p <= alpha else "reject"
    # broken - fixed >= futility * (1 - 4/3 * seen / total); in integers, so equal is equal
    is_behind = 3 * total * (broken - fixed) >= futility * (3 * total - 4 * seen)
    if is_behind or mcnemar_midp(fixed + total - seen, broken) > alpha:
        return "reject"
    convincing = p <= alpha * EARLY_SHARE * seen / total
    return "accept" if convincing and fixed + broken >= min_discordant else "go on"


def not_worse(fixed: int, broken: int, p: float = 0.2) -> bool:
    """Say whether a shorter prompt may stay: no evidence, at level ``p``, that it is worse.

    The one-sided mid-p McNemar for "worse" must be above ``p``: at .2 one loss without a win may be, two
    may not. Finding nothing is weak evidence on a small dev set, so pruning step by step must compare with
    the prompt as it was before the first step; otherwise small losses add up unseen.
    """
    return mcnemar_midp(broken, fixed) > p


@dataclass(frozen=True)
class Pairs:
    """What a candidate fixed and broke against one prompt: a bit for each sample, the same for all candidates."""

    fixed: int = 0
    broken: int = 0

    def p_value_flipped(self, which: int) -> float:
        """Return the one-sided mid-p of the paired test with winner and loser exchanged on some samples."""
        crossed = (self.fixed ^ self.broken) & which
        return _midp((self.fixed ^ crossed).bit_count(), (self.broken ^ crossed).bit_count())


_midp = cache(mcnemar_midp)


def best_of(p_value: float, rivals: Sequence[Pairs], samples: int, draw: Random) -> float:
    """Return how often the best of the rivals looks as good as ``p_value`` where none is better.

    Which of two prompts won a sample is exchanged at random, on each sample for all rivals at once: that keeps how
    alike they are, so that many of a kind count as one. One that was dropped early has few pairs, and counts little.
    Source: Westfall and Young (1993), the step with the smallest p; equal ones count half, as in the mid-p.
    """
    if not rivals:
        return p_value
    found = 0.0
    for _ in range(FLIPS):
        which = sum((draw.random() < 0.5) << at for at in range(samples))
        smallest = min(pairs.p_value_flipped(which) for pairs in rivals)
        found += 1.0 if smallest < p_value - 1e-12 else 0.5 if smallest <= p_value + 1e-12 else 0.0
    return (found + 0.5) / (FLIPS + 1)


def least_mistakes(dev: int, fresh: int) -> int:
    """Return how many mistakes on ``dev`` samples a run must find to be able to rewrite the file.

    A prompt that mends all of them, as the best of ``USUAL_RIVALS``, and as large a share of the ``fresh`` samples,
    must pass for better.
    """
    for wrong in range(1, dev + 1):
        p_dev = -math.expm1(USUAL_RIVALS * math.log1p(-mcnemar_midp(wrong, 0)))
        p_fresh = mcnemar_midp(round(wrong * fresh / dev), 0)
        if combined([(p_dev, dev), (p_fresh, fresh)]) <= RUN_ALPHA:
            return wrong
    return dev + 1


def combined(parts: Iterable[tuple[float, int]]) -> float:
    """Return one p-value of independent ones, each with its number of samples, by Stouffer, weighted by their roots.

    Without samples there is no evidence: .5. Source: Zaykin (2011), Journal of Evolutionary Biology 24, p. 1836.
    """
    from statistics import NormalDist  # costs more to import than all else here

    normal = NormalDist()
    known = [(min(max(p_value, SMALLEST), 1 - SMALLEST), samples) for p_value, samples in parts if samples]
    total = sum(samples for _, samples in known)
    if not total:
        return 0.5
    reach = sum(math.sqrt(samples / total) * normal.inv_cdf(p_value) for p_value, samples in known)
    return normal.cdf(reach)


def holds_up(fixed: int, broken: int) -> bool:
    """Say whether the final prompt may be written, by fresh samples: it broke no more than it fixed of the initial one.

    That is stricter than "not worse beyond chance", which it implies (mid-p for "worse" is then at least
    .5): nobody would publish a figure that went down, however few samples say so. No pair, no objection.
    """
    return broken <= fixed


def keeps_canonicals(before: Mapping[str, bool], after: Mapping[str, bool]) -> bool:
    """Say whether every canonical sample that passed still passes; ``{id: passed}``, one not asked has not."""
    return all(after.get(sample, False) for sample, passed in before.items() if passed)


def canonical_gain(before: Mapping[str, bool], after: Mapping[str, bool]) -> int:
    """Return how many canonical samples pass now and did not before; ``{id: passed}``, as ``keeps_canonicals``."""
    return sum(passed and not before.get(sample, False) for sample, passed in after.items())


@dataclass(frozen=True)
class Tally:
    """A candidate against the incumbent on the dev samples seen so far."""

    fixed: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    right: int = 0
    seen: int = 0

    @property
    def pairs(self) -> tuple[int, int]:
        """How many it fixed and broke."""
        return len(self.fixed), len(self.broken)


UNSEEN = Tally()


@dataclass
class Duels:
    """The incumbent, and what it takes to get into its place."""

    arena: Arena
    history: History
    incumbent: Prompt
    dev: Sequence[Sample]
    canonical: Sequence[Sample]
    made_of: set[str] = field(default_factory=set)
    """The ids of the train samples that the incumbent's texts were written from."""
    too_dear: set[str] = field(default_factory=set)
    """The candidates, by name, of which a call costs more than ``tune.max_cost_ratio`` allows."""

    def __post_init__(self) -> None:
        """Start from the incumbent, which is what costs are compared with."""
        self._initial = self.incumbent

    def is_too_dear(self, prompt: Prompt) -> bool:
        """Tell whether a call costs more than is allowed: by its text, and by its replies as far as there are some."""
        most = self.arena.parsed.config.tune.max_cost_ratio
        if most is None or not self.dev:
            return False
        cost, before = (expected_cost(self.arena, one, self.dev[0], self._initial) for one in (prompt, self._initial))
        if cost > most * before:
            self.too_dear.add(prompt.content_hash)
        return cost > most * before

    def can_gain(self, least: int = LEAST_FIXED) -> bool:
        """Tell whether a canonical sample is wrong, or at least so many of dev: what it takes to be accepted."""
        if not all(outcome.correct for outcome in self.arena.outcomes(self.incumbent, self.canonical)):
            return True
        wrong = 0
        for start in range(0, len(self.dev), BLOCK):
            wrong += sum(map(is_mistake, self.arena.outcomes(self.incumbent, self.dev[start : start + BLOCK])))
            if wrong >= least:
                return True
        return False

    def turn_down(self, candidate: Candidate, why: str) -> None:
        """Note a candidate on which no dev sample was spent."""
        self._note(candidate, why)

    def passes_screen(self, candidate: Candidate, samples: Sequence[Sample]) -> bool:
        """Try a candidate on those of the samples that it was made for, before dev is spent on it."""
        aimed = [sample for sample in samples if sample.id in candidate.targets]
        if not aimed:
            return True
        gained = sum(self.arena.right(candidate.prompt, aimed)) - sum(self.arena.right(self.incumbent, aimed))
        if gained <= 0:
            self._note(candidate, "fixes none of the samples it was made for")
        return gained > 0

    def fight(self, candidate: Candidate, *, pruned_from: Prompt | None = None) -> bool:
        """Put a candidate against the incumbent, take it over when it earns it, and tell whether it did.

        It must be better at the level ``ALPHA``; one that was pruned must not be worse than the incumbent, nor
        than the prompt it was ``pruned_from``. The winner of a race has looked good on the same samples already: that
        is seen to at the end of the run. A stricter level here costs power: with a true gain of 10 points .02 found it
        in 43 of 60 runs, .10 in 83 of 100; with none .10 rewrote the file in 4 of 131.
        """
        try:
            accepted, verdict, tally = self._decided(candidate.prompt, pruned_from)
        except OutOfBudget:
            self._note(candidate, UNDECIDED)
            raise
        self._note(candidate, verdict, tally, accepted=accepted)
        if accepted:
            self.incumbent = candidate.prompt
            self.made_of.update(candidate.made_of)
        return accepted

    def _decided(self, candidate: Prompt, pruned_from: Prompt | None) -> tuple[bool, str, Tally]:
        """Return whether a candidate is accepted, why, and what it did on dev."""
        kept, gained = self._canonicals(candidate)
        if not kept:
            return False, "loses a canonical sample", UNSEEN
        verdict: Ruling = "go on"
        tally = UNSEEN
        while verdict == "go on" and tally.seen < len(self.dev):
            tally = self._after_next_block(candidate, tally)
            if self.is_too_dear(candidate):
                return False, "a call costs too much", tally
            if pruned_from is None:
                decision = judge(*tally.pairs, tally.seen, len(self.dev))
                # What mends a canonical sample may still be taken for not being worse on all of dev.
                is_early = decision == "reject" and gained and tally.seen < len(self.dev)
                verdict = "go on" if is_early else decision
            else:
                verdict = "reject" if len(tally.broken) - len(tally.fixed) >= FUTILITY else "go on"
        if pruned_from is not None and verdict == "go on":
            holds = self._is_not_worse(candidate, pruned_from)
            return holds, "accept" if holds else "reject", tally
        if gained and verdict != "accept" and not_worse(*tally.pairs):
            return True, f"fixes {gained} canonical samples", tally
        return verdict == "accept", verdict, tally

    def _canonicals(self, prompt: Prompt) -> tuple[bool, int]:
        """Return whether every canonical sample that passes still does, and how many more do."""
        self.arena.ask_together([self.incumbent, prompt], self.canonical)
        answered = [o for o in self.arena.outcomes(self.incumbent, self.canonical) if o.reply is not None]
        before = {o.sample.id: o.correct for o in answered}
        after = {o.sample.id: o.correct for o in self.arena.outcomes(prompt, [o.sample for o in answered])}
        return keeps_canonicals(before, after), canonical_gain(before, after)

    def _after_next_block(self, candidate: Prompt, tally: Tally) -> Tally:
        block = self.dev[tally.seen : tally.seen + BLOCK]
        fixed, broken = compared(self.arena, self.incumbent, candidate, block)
        right = tally.right + sum(self.arena.right(candidate, block))
        return Tally((*tally.fixed, *fixed), (*tally.broken, *broken), right, tally.seen + len(block))

    def _is_not_worse(self, pruned: Prompt, start: Prompt) -> bool:
        """Tell whether a pruned prompt holds against the incumbent, and has no net loss to where pruning started.

        Small losses would add up unseen, and take away what the verdict on the run stands on.
        """
        fixed, broken = compared(self.arena, self.incumbent, pruned, self.dev)
        if not not_worse(len(fixed), len(broken)):
            return False
        fixed, broken = compared(self.arena, start, pruned, self.dev)
        return holds_up(len(fixed), len(broken))

    def weigh(self, weighing: Weighing, weights: Mapping[str, float]) -> bool:
        """Put other weights against the incumbent's own ``weights``, and tell whether they earn their place.

        Both are compared on what is known of dev, each sample by weights that it had no part in.
        """
        known = known_outcomes(self.arena, self.incumbent, self.dev)
        canonical = known_outcomes(self.arena, self.incumbent, self.canonical)
        now = [weighing.held_out(outcome) for outcome in known]
        fixed, broken = changed(known, now)
        verdict: str = judge(len(fixed), len(broken), len(now), len(now))
        if any(before.correct and not weighing.held_out(before).correct for before in canonical):
            verdict = "loses a canonical sample"
        tally = Tally(tuple(fixed), tuple(broken), sum(outcome.correct for outcome in now), len(now))
        diff = f"decision.weights:\n- {dict(weights)!r}\n+ {weighing.decision.weights!r}"
        accepted = verdict == "accept"
        self._note(Candidate(self.incumbent, weighing.summary), verdict, tally, accepted=accepted, diff=diff)
        return accepted

    def _note(
        self,
        candidate: Candidate,
        verdict: str,
        tally: Tally = UNSEEN,
        *,
        accepted: bool = False,
        diff: str = "",
    ) -> None:
        step = Step(
            self.history.stage,
            candidate.summary,
            diff=diff or "\n".join(prompt_diff(self.incumbent, candidate.prompt)),
            fixed=tally.fixed,
            broken=tally.broken,
            accepted=accepted,
            verdict=verdict,
            targets=candidate.targets,
            calls=self.arena.meter.task.calls,
            right=tally.right,
            seen=tally.seen,
        )
        self.history.steps.append(step)
        self.history.candidates.append(candidate.prompt)
        self.history.incumbents.append(self.incumbent)


def prompt_diff(old: Prompt, new: Prompt) -> Iterator[str]:
    """Yield the fields that differ, as lines of a diff."""
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            told = _examples_told if name == "examples" else repr
            yield from (f"{name}:", f"- {told(before)}", f"+ {told(after)}")


def _examples_told(examples: tuple[Example, ...] | NearestExamples) -> str:
    return f"{len(examples)} examples" if isinstance(examples, tuple) else f"the {nearest_told(examples)}"
