"""Finding the best of many candidates with few calls: sequential halving on growing prefixes of dev.

Pure functions: the plan of the rounds, who stays, and the order of dev that makes its prefixes fair. All
candidates of a round have seen the same samples, so their scores are paired. The winner of a race is no
accepted candidate: it was picked by its answers, and whether it beats the incumbent is up to the gate.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

from pytest_promptfit.prompts.samples import normal_form
from pytest_promptfit.tuning.split import rng

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_promptfit.prompts.samples import Sample

FIRST_PREFIX: Final = 3
"""Nobody is dropped on fewer samples than this, unless dev has fewer."""


@dataclass(frozen=True, slots=True)
class Round:
    """The ``keep`` best candidates so far have been asked the first ``samples`` samples of dev."""

    keep: int
    samples: int


@dataclass(frozen=True, slots=True)
class CandidateScore:
    """What a candidate did on the samples of a round.

    ``right`` is a count, ``log_loss`` the mean over the same samples (lower is better) or ``None`` where
    the API tells no probabilities, ``length`` the size of the prompt with its examples.
    """

    right: int
    log_loss: float | None
    length: int


def rounds(candidates: int, dev: int, budget: int) -> list[Round]:
    """Plan a race of ``candidates`` on ``dev`` samples for at most ``budget`` calls.

    In each round the ``keep`` best candidates so far answer what they have not seen of the first
    ``samples`` of dev; ``survivors`` picks the next round's, and the winner after the last. The field
    halves down to two; every round costs about the same, until a prefix is all of dev: then the rest of
    the budget makes the earlier rounds longer, and rounds that would ask nothing new are left out.

    The first round's ``keep`` is how many start: fewer than ``candidates`` (take the first ones) where the
    budget does not give each of them ``FIRST_PREFIX`` samples. One alone has won without a call, so the
    plan is then ``[Round(1, 0)]``; it is empty only without candidates. Raises ``ValueError`` for a
    negative argument. Source: Karnin, Koren and Somekh (2013), whose rounds forget earlier answers.
    """
    if min(candidates, dev, budget) < 0:
        raise ValueError(f"expected counts, got {candidates} candidates, {dev} samples, {budget} calls")
    prefix = min(FIRST_PREFIX, dev)
    affordable = min(candidates, budget // prefix) if prefix else 0
    for start in range(affordable, 1, -1):
        share = _share(start, dev, budget)
        if share >= start * prefix:
            return _rounds(start, dev, share)
    return [Round(1, 0)] if candidates else []


def calls(plan: Sequence[Round]) -> int:
    """Return how many calls a race costs: each candidate is asked each sample once."""
    steps = pairwise([Round(0, 0), *plan])
    return sum(now.keep * (now.samples - before.samples) for before, now in steps)


def survivors(scores: Sequence[CandidateScore], keep: int) -> list[int]:
    """Return the indices of the ``keep`` best candidates, best first; all scores are on the same samples.

    More right answers come first; then the lower log-loss, and who has none after those who have; then the
    shorter prompt; then the earlier candidate. Raises ``ValueError`` for a negative ``keep``.
    """
    if keep < 0:
        raise ValueError(f"keep must not be negative, got {keep}")

    def place(at: int) -> tuple[int, float, int, int]:
        score = scores[at]
        unknown = score.log_loss is None or math.isnan(score.log_loss)
        return -score.right, math.inf if unknown else score.log_loss or 0.0, score.length, at

    return sorted(range(len(scores)), key=place)[:keep]


def stratified_order(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Return the samples in a random order in which every prefix has the labels in their shares of the whole.

    The n samples of a label are spread evenly: the i-th of them, from 0, goes to (i + 1/2) / n. With two or
    three labels a prefix is off by less than one sample in each. The order depends on the seed and the
    texts, not on the order given, and adding samples leaves the old ones of a label in their order.
    """
    drawn = sorted(samples, key=lambda sample: (_draw(sample, seed), sample.id))
    of_label = Counter(sample.label for sample in samples)
    before: Counter[str] = Counter()
    places: list[Fraction] = []
    for sample in drawn:
        places.append(Fraction(2 * before[sample.label] + 1, 2 * of_label[sample.label]))
        before[sample.label] += 1
    return [drawn[at] for at in sorted(range(len(drawn)), key=lambda at: (places[at], at))]


def _draw(sample: Sample, seed: int) -> float:
    return rng(seed, 0, f"order of {normal_form(sample.text)}").random()


def _share(start: int, dev: int, budget: int) -> int:
    """Return the most calls that a round may cost: the cost of a race never falls with it."""
    shares = range(start * dev + 1)
    return bisect_right(shares, budget, key=lambda share: calls(_rounds(start, dev, share))) - 1


def _rounds(start: int, dev: int, share: int) -> list[Round]:
    """Return the rounds of which each costs ``share`` calls, as far as dev goes."""
    keeps = [start]
    while keeps[-1] > 2:
        keeps.append(-(-keeps[-1] // 2))
    reached = accumulate(Fraction(share, keep) for keep in keeps)
    plan = [Round(keep, min(dev, int(samples))) for keep, samples in zip(keeps, reached, strict=True)]
    return [plan[0], *(now for before, now in pairwise(plan) if now.samples > before.samples)]
