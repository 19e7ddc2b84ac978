"""How well probabilities tell what is right: calibration, and how much can be answered at how much error.

Pure functions; the figures of labels are in ``metrics``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeAlias

from pytest_promptfit.chat.decision import LEAST, decide, scaled
from pytest_promptfit.prompts.split import rng

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_promptfit.chat.decision import Decided
    from pytest_promptfit.prompts.model import Decision

Answer: TypeAlias = "tuple[float, bool]"
"""How sure an answer is, from 0 to 1, and whether it is right."""

Judged: TypeAlias = "tuple[Decided, str]"
"""What became of a reply whose probabilities are known, and the right label."""

BINS: Final = 10

FOLDS: Final = 5
"""Parts of dev, each judged by what was fitted on the others."""

ENOUGH_TO_FIT: Final = 30
"""Samples of dev; from fewer nothing is fitted, nor a temperature without ``ENOUGH_WRONG`` wrong ones."""

ENOUGH_WRONG: Final = 3

MOST_TO_FIT: Final = 1000
"""Samples that a temperature is fitted on: more of them take seconds, and move it in the third digit."""

COLDEST, HOTTEST, HALVINGS = 0.05, 20.0, 10
"""Temperatures from and to, and how often the logarithms between them are halved: 0.6 % are left."""

RESAMPLES: Final = 500

MOST_POINTS: Final = 200
"""Points of a curve that are told."""


@dataclass(frozen=True, slots=True)
class Bin:
    """The answers whose confidence is in one tenth: how many, their mean confidence, and the share that is right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Point:
    """The answers from a confidence on: the share of all samples that they are, and the share of them that is wrong."""

    confidence: float
    coverage: float
    error: float


@dataclass(frozen=True, slots=True)
class Scaling:
    """A temperature fitted on dev, and the calibration error of its ``samples`` before and after.

    After is by folds: each sample at the temperature of the folds that it is not in.
    """

    temperature: float
    samples: int
    before: float
    after: float


@dataclass(frozen=True)
class Calibration:
    """How far confidence is from accuracy on the ``samples`` that have a probability.

    ``error`` is the expected calibration error, from 0 to 1: the mean distance of confidence and accuracy in ten bins,
    weighted by their counts (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017). ``curve`` is error against coverage.
    """

    samples: int
    error: float
    bins: tuple[Bin, ...]
    curve: tuple[Point, ...]
    scaling: Scaling | None

    @property
    def told_curve(self) -> tuple[Point, ...]:
        """The curve, thinned out where it has many points."""
        step = -(-len(self.curve) // MOST_POINTS)
        return (*self.curve[: -1 : max(1, step)], *self.curve[-1:])


def calibration_of(judged: Sequence[Judged], total: int, dev: Sequence[Judged], decision: Decision) -> Calibration:
    """Return how well the confidence of answers tells what is right.

    ``total`` counts the samples with and without probabilities, ``dev`` are those that a temperature may be fitted on.
    """
    answers = sure_answers(judged)
    bins = reliability(answers)
    curve = coverage_curve(answers, total)
    return Calibration(len(answers), calibration_error(bins), bins, curve, _scaling(dev[:MOST_TO_FIT], decision))


def sure_answers(judged: Sequence[Judged]) -> list[Answer]:
    """Return how sure each answer is, before any is held back, and whether it is right."""
    return [(decided.confidence or 0.0, decided.best == label) for decided, label in judged]


def reliability(answers: Sequence[Answer]) -> tuple[Bin, ...]:
    """Return the answers in ``BINS`` bins of equal width, as far as there are any in them."""
    parts: list[list[Answer]] = [[] for _ in range(BINS)]
    for answer in answers:
        parts[min(BINS - 1, int(answer[0] * BINS))].append(answer)
    return tuple(
        Bin(
            at / BINS,
            (at + 1) / BINS,
            len(part),
            math.fsum(confidence for confidence, _ in part) / len(part),
            sum(right for _, right in part) / len(part),
        )
        for at, part in enumerate(parts)
        if part
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error, 0 to 1."""
    total = sum(one.count for one in bins)
    return math.fsum(one.count * abs(one.accuracy - one.confidence) for one in bins) / total if total else 0.0


def coverage_curve(answers: Sequence[Answer], total: int) -> tuple[Point, ...]:
    """Return error against coverage of ``total`` samples, the surest first; equally sure ones are answered together."""
    points, covered, wrong = [], 0, 0
    for confidence, group in groupby(sorted(answers, reverse=True), key=lambda answer: answer[0]):
        tied = [right for _, right in group]
        covered, wrong = covered + len(tied), wrong + tied.count(False)
        points.append(Point(confidence, covered / total, wrong / covered))
    return tuple(points)


def most_covered(curve: Sequence[Point], at_error: float) -> Point | None:
    """Return where the most is answered and at most such a share is wrong; ``None`` where even the surest are not."""
    return max((point for point in curve if point.error <= at_error), key=lambda one: one.coverage, default=None)


def coverage_interval(answers: Sequence[Answer], total: int, at_error: float) -> tuple[float, float]:
    """Return the 95 % interval of the coverage at an error, by the percentiles of samples drawn anew with replacement.

    The threshold is chosen anew in each draw, so that the interval holds what choosing it adds. Source: Efron (1979).
    """
    draw = rng(0, 0, "coverage").random
    ordered = [*sorted(answers, reverse=True), *[(-1.0, False)] * (total - len(answers))]
    ends = [at + 1 == len(answers) or ordered[at][0] != ordered[at + 1][0] for at in range(len(answers))]
    found = []
    for _ in range(max(100, min(RESAMPLES, 1_000_000 // total))):
        times = [0] * total
        for _ in range(total):
            times[int(draw() * total)] += 1
        best = covered = wrong = 0
        for at, is_end in enumerate(ends):
            covered += times[at]
            wrong += 0 if ordered[at][1] else times[at]
            if is_end and wrong <= at_error * covered:
                best = covered
        found.append(best / total)
    found.sort()
    return found[int(0.025 * len(found))], found[min(len(found) - 1, int(0.975 * len(found)))]


def fitted_temperature(told: Sequence[tuple[Mapping[str, float], str]], weights: Mapping[str, float]) -> float:
    """Return the temperature that makes the right labels likeliest; ``told`` are probabilities and the right label.

    The loss is convex in 1 / temperature, so halving finds where it is flat. Source: Guo et al. (2017), section 4.2.
    """
    logs = [({label: math.log(max(p, LEAST)) for label, p in one.items()}, right) for one, right in told]

    def slope(temperature: float) -> float:
        found = 0.0
        for (one, _), (log, right) in zip(told, logs, strict=True):
            found += math.fsum(p * log[label] for label, p in scaled(one, temperature, weights).items()) - log[right]
        return found

    low, high = math.log(1 / HOTTEST), math.log(1 / COLDEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if slope(math.exp(-middle)) > 0:
            high = middle
        else:
            low = middle
    return math.exp(-(low + high) / 2)


def _scaling(dev: Sequence[Judged], decision: Decision) -> Scaling | None:
    """Return the temperature for the answers of dev; ``None`` where they are too few, or too few of them wrong."""
    answers = sure_answers(dev)
    if len(dev) < ENOUGH_TO_FIT or sum(not right for _, right in answers) < ENOUGH_WRONG:
        return None

    def fit(some: Sequence[Judged]) -> float:
        return fitted_temperature([(decided.told, label) for decided, label in some], decision.weights)

    after: list[Answer] = []
    for fold in range(FOLDS):
        temperature = fit([one for at, one in enumerate(dev) if at % FOLDS != fold])
        warm = decision.model_copy(update={"temperature": temperature})
        after += sure_answers([(decide(d.read, d.told, warm), label) for d, label in dev[fold::FOLDS]])
    before, now = (calibration_error(reliability(some)) for some in (answers, after))
    return Scaling(float(f"{fit(dev):.2g}"), len(dev), before, now)
