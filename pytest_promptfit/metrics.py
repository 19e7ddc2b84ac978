"""What is counted from outcomes: the confusion and its figures, an interval, the paired test and its power.

Pure functions over plain values and the standard library only, since every replayed run imports this;
what decides with these figures (gates, the baseline) lives in ``baseline``.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MISSING: Final = "(missing)"
"""The name in a confusion table for "no label could be read", so no label may be called that."""

BISECTIONS: Final = 60
"""Halvings of [0, 1]: they find a difference to 1e-18."""


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a proportion, by Wilson (1927), without continuity correction.

    ``correct`` of ``total`` are counts, ``confidence`` is the two-sided coverage in (0, 1). The bounds lie
    in [0, 1]; no observation at all says nothing, so the interval is then (0.0, 1.0).
    Raises ``ValueError`` when the counts or the confidence are out of range.
    """
    if not 0 <= correct <= total:
        raise ValueError(f"correct must be in 0..total, got {correct} of {total}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    if total == 0:
        return 0.0, 1.0
    z = _z(0.5 + confidence / 2)
    share = correct / total
    shrink = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # At the ends the formula gives exactly 0 and 1, which rounding would miss.
    return (0.0 if correct == 0 else centre - half), (1.0 if correct == total else centre + half)


def mcnemar_midp(worse: int, better: int) -> float:
    """Return the one-sided mid-p of the paired test, by Fagerland, Lydersen and Laake (2013).

    ``worse`` and ``better`` count the pairs whose outcome changed for the worse and for the better.
    With X ~ Binomial(worse + better, 1/2) it is P(X > worse) + P(X = worse) / 2: small when more pairs
    got worse than chance explains, and 0.5, no evidence either way, when no pair changed.
    The binomial itself, no approximation; ``mcnemar_midp(a, b) + mcnemar_midp(b, a)`` is 1 but for
    rounding. Raises ``ValueError`` for a negative count.
    """
    if min(worse, better) < 0:
        raise ValueError(f"worse and better must not be negative, got {worse} and {better}")
    if worse < better:
        return 1.0 - mcnemar_midp(better, worse)
    pairs = worse + better
    # Dividing integers rounds once and cannot overflow; what is too small for a float becomes 0.
    return math.comb(pairs, worse) / (1 << pairs) * _tail_over_mass(worse, better)


def _tail_over_mass(worse: int, better: int) -> float:
    """Return (P(X > worse) + P(X = worse) / 2) / P(X = worse), for worse >= better: terms only shrink."""
    total, term = 0.5, 1.0
    for step in range(better):
        term *= (better - step) / (worse + 1 + step)
        total += term
        if term < 1e-18 * total:
            break
    return total


def paired_difference_interval(worse: int, better: int, pairs: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a change in accuracy between paired outcomes, by Agresti and Min (2005).

    ``worse`` and ``better`` of ``pairs`` changed their outcome; ``confidence`` is the two-sided coverage in
    (0, 1). The bounds lie in [-1, 1]. It is Wald's interval after half a pair was added to each of the four
    kinds of pairs (Statistics in Medicine 24, p. 729), which keeps its coverage with few pairs.
    Raises ``ValueError`` when the counts or the confidence are out of range.
    """
    if min(worse, better) < 0 or worse + better > pairs:
        raise ValueError(f"worse + better must be in 0..pairs, got {worse} + {better} of {pairs}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    change, total = better - worse, pairs + 2
    half = _z(0.5 + confidence / 2) * math.sqrt(worse + better + 1 - change * change / total) / total
    return max(-1.0, change / total - half), min(1.0, change / total + half)


def pairs_needed(difference: float, *, alpha: float, power: float = 0.8, discordant: float = 0.2) -> int:
    """Return how many pairs a one-sided paired test needs to find a difference in accuracy.

    ``difference`` in (0, 1] is the drop in accuracy, ``alpha`` in (0, 1) the level of the test, ``power``
    in [0.5, 1) the chance to find the drop, ``discordant`` in [0, 1] the share of pairs whose outcome
    changes at all; it cannot be below the difference and is raised to it.
    Normal approximation n = (z_a sqrt(d) + z_b sqrt(d - difference^2))^2 / difference^2, rounded up and at
    least 1, by Connor (1987, Biometrics 43, p. 209). Raises ``ValueError`` when an argument is out of range.
    """
    if not 0 < difference <= 1:
        raise ValueError(f"difference must be in (0, 1], got {difference}")
    z_alpha, z_power = _z_of_test(alpha, power, discordant)
    return max(1, math.ceil(_pairs(difference, z_alpha, z_power, discordant)))


def detectable_difference(pairs: int, *, alpha: float, power: float = 0.8, discordant: float = 0.2) -> float:
    """Return the smallest difference in accuracy, 0 to 1, that a one-sided paired test on ``pairs`` finds.

    The inverse of ``pairs_needed``, whose other arguments and source it shares, by bisection: fewer pairs
    are needed the larger the difference. 1.0 where even that is not reachable with so few pairs.
    Raises ``ValueError`` when an argument is out of range.
    """
    z_alpha, z_power = _z_of_test(alpha, power, discordant)
    missed, found = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (missed + found) / 2
        if _pairs(middle, z_alpha, z_power, discordant) <= pairs:
            found = middle
        else:
            missed = middle
    return found


def _pairs(difference: float, z_alpha: float, z_power: float, discordant: float) -> float:
    changed = max(discordant, difference)
    # An alpha above the power (z_alpha < -z_power) is reached by chance alone, hence not below 0.
    effect = z_alpha * math.sqrt(changed) + z_power * math.sqrt(changed - difference * difference)
    return (max(0.0, effect) / difference) ** 2


def _z_of_test(alpha: float, power: float, discordant: float) -> tuple[float, float]:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    # Below a power of one half the number of pairs no longer falls steadily with the difference.
    if not 0.5 <= power < 1:
        raise ValueError(f"power must be in [0.5, 1), got {power}")
    if not 0 <= discordant <= 1:
        raise ValueError(f"discordant must be in [0, 1], got {discordant}")
    return -_z(alpha), _z(power)


def _z(probability: float) -> float:
    """Return the standard normal quantile of a probability in (0, 1)."""
    from statistics import NormalDist  # costs more to import than all else here

    return NormalDist().inv_cdf(probability)


@dataclass(frozen=True, slots=True)
class LabelMetrics:
    """The figures of one label; each is 0.0 where it is undefined, as scikit-learn's ``zero_division=0``.

    ``precision`` = right / predicted, ``recall`` = right / gold, ``f1`` = 2 right / (gold + predicted),
    ``support`` = how many samples have the label as gold.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each gold label was answered with each predicted label; made by ``count``.

    ``cells`` maps (gold, predicted) to a count above zero, ordered by ``labels``; a predicted ``None``
    means that no label could be read. It comes last, and it is a wrong answer in every figure.
    """

    labels: tuple[str, ...]
    cells: Mapping[tuple[str, str | None], int]

    @property
    def total(self) -> int:
        """Return how many pairs were counted."""
        return sum(self.cells.values())

    @property
    def correct(self) -> int:
        """Return how many predictions are the gold label."""
        return sum(n for (gold, predicted), n in self.cells.items() if gold == predicted)

    @property
    def missing(self) -> int:
        """Return how many pairs have no readable prediction."""
        return sum(n for (_, predicted), n in self.cells.items() if predicted is None)

    @property
    def accuracy(self) -> float | None:
        """Return correct / total, or ``None`` when nothing was counted."""
        return self.correct / self.total if self.cells else None

    @property
    def by_label(self) -> dict[str, LabelMetrics]:
        """Return the figures of every label, in the order of ``labels``, also of those that never occur."""
        golds, predictions = self._margins()
        return {
            label: _label_metrics(self.cells.get((label, label), 0), golds[label], predictions[label])
            for label in self.labels
        }

    @property
    def macro_f1(self) -> float | None:
        """Return the plain mean of F1 over the labels that occur, or ``None`` when nothing was counted.

        A label occurs when it is gold or predicted at least once; those that never do are left out instead
        of counting as 0, and a missing prediction is no label. That is scikit-learn's
        ``f1_score(gold, predicted, average="macro", zero_division=0, labels=those that occur)``.
        """
        golds, predictions = self._margins()
        scores = [m.f1 for label, m in self.by_label.items() if golds[label] or predictions[label]]
        return math.fsum(scores) / len(scores) if scores else None

    @property
    def table(self) -> dict[str, dict[str, int]]:
        """Return ``{gold: {predicted: count}}`` without zeros, ordered by ``labels``, ``MISSING`` last."""
        rows: dict[str, dict[str, int]] = {}
        for (gold, predicted), n in self.cells.items():
            rows.setdefault(gold, {})[MISSING if predicted is None else predicted] = n
        return rows

    def _margins(self) -> tuple[Counter[str], Counter[str | None]]:
        golds: Counter[str] = Counter()
        predictions: Counter[str | None] = Counter()
        for (gold, predicted), n in self.cells.items():
            golds[gold] += n
            predictions[predicted] += n
        return golds, predictions


def count(pairs: Iterable[tuple[str, str | None]], labels: Sequence[str]) -> Confusion:
    """Count pairs of (gold, predicted) labels; a predicted ``None`` means that no label could be read.

    ``labels`` are all labels there are, in the order to show them. Raises ``ValueError`` for a pair
    with any other label, and for a label called ``MISSING``, which a table could not tell from ``None``.
    """
    if MISSING in labels:
        raise ValueError(f"{MISSING!r} stands for a missing label and cannot be a label itself")
    place: dict[str | None, int] = {label: at for at, label in enumerate(dict.fromkeys(labels))}
    place[None] = len(place)
    counted = Counter(pairs)
    for pair in counted:
        _check_known(pair, labels)
    ordered = sorted(counted.items(), key=lambda cell: (place[cell[0][0]], place[cell[0][1]]))
    return Confusion(tuple(dict.fromkeys(labels)), dict(ordered))


def _check_known(pair: tuple[str, str | None], labels: Sequence[str]) -> None:
    gold, predicted = pair
    if gold not in labels or (predicted is not None and predicted not in labels):
        raise ValueError(f"expected labels out of {list(labels)}, got gold {gold!r}, predicted {predicted!r}")


def _label_metrics(right: int, gold: int, predicted: int) -> LabelMetrics:
    return LabelMetrics(
        precision=_ratio(right, predicted),
        recall=_ratio(right, gold),
        f1=_ratio(2 * right, gold + predicted),
        support=gold,
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
