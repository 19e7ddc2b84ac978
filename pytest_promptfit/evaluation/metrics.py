"""What is counted from outcomes: the confusion and its figures, an interval, the paired test and its power.

Pure functions over plain values and the standard library only, since every replayed run imports this;
what decides with these figures (gates, the baseline) lives in ``baseline``.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pytest_promptfit.prompts.labels import ABSTAINED, MISSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


BISECTIONS: Final = 14
"""Halvings of [0, 1]: they find a drop to 0.01 points."""

MOST_EXACT_PAIRS: Final = 100
"""Above this the exact power takes over 20 ms, and the normal approximation is off by at most half a point."""


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
    # (P(X > worse) + P(X = worse) / 2) / P(X = worse): as worse >= better, its terms only shrink.
    tail, term = 0.5, 1.0
    for step in range(better):
        term *= (better - step) / (worse + 1 + step)
        tail += term
        if term < 1e-18 * tail:
            break
    # Dividing integers rounds once and cannot overflow; what is too small for a float becomes 0.
    return math.comb(pairs, worse) / (1 << pairs) * tail


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


@dataclass(frozen=True)
class Paired:
    """Outcomes of the same samples before and now: all that a paired test needs of them.

    ``before`` counts those of the ``shared`` samples that were right; ``fixed`` and ``broken`` name the cases that
    are right now and were not, and the reverse.
    """

    before: int
    fixed: tuple[str, ...]
    broken: tuple[str, ...]
    shared: int

    @property
    def now(self) -> int:
        """How many of the shared samples are right now."""
        return self.before + len(self.fixed) - len(self.broken)

    @property
    def is_unchanged(self) -> bool:
        """Whether each shared sample came out as before."""
        return not (self.fixed or self.broken)

    @property
    def change(self) -> float:
        """The change of accuracy over the shared samples, -1 to 1."""
        return (len(self.fixed) - len(self.broken)) / self.shared if self.shared else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of ``change``."""
        return paired_difference_interval(len(self.broken), len(self.fixed), self.shared)

    @property
    def p_value(self) -> float:
        """One-sided mid-p: how probable so many broken against fixed cases are when nothing got worse."""
        return mcnemar_midp(len(self.broken), len(self.fixed))

    @property
    def p_of_change(self) -> float:
        """The one-sided mid-p of the way it went: of a gain where more cases were fixed than broken."""
        return mcnemar_midp(*sorted((len(self.broken), len(self.fixed)), reverse=True))


def benjamini_hochberg(p_values: Sequence[float], levels: Sequence[float]) -> list[float]:
    """Return for each of several tests the level that its p must not exceed for it to be a discovery.

    ``levels`` are what the tests have alone, each in (0, 1). Of m tests ordered by p / level, the first k are
    discoveries, with k the largest for which the k-th ratio is at most k / m: so the expected share of false
    ones among them stays below the level, and where nothing changed at all so does the chance of any, by
    Benjamini and Hochberg (1995, JRSS B 57, p. 289). The returned level is level * max(k, 1) / m.
    """
    count = len(p_values)
    ratios = sorted(p / level for p, level in zip(p_values, levels, strict=True))
    found = max((at for at, ratio in enumerate(ratios, 1) if ratio <= at / count), default=1)
    return [level * found / count for level in levels]


def least_broken(alpha: float) -> int:
    """Return how many pairs must get worse, none better, for the paired test to fail at all: 2^-(n+1) <= alpha."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    return max(1, math.ceil(-math.log2(alpha) - 1 - 1e-12))


def two_sided_midp(worse: int, better: int) -> float:
    """Return twice the one-sided mid-p of the way it went: where nobody said beforehand which way it should go."""
    return min(1.0, 2 * mcnemar_midp(max(worse, better), min(worse, better)))


@lru_cache(maxsize=1024)
def detectable_drop(pairs: int, *, alpha: float, flips: float = 0.0, power: float = 0.8) -> float | None:
    """Return the smallest drop in accuracy, 0 to 1, that the paired test on ``pairs`` finds with ``power``.

    ``flips`` in [0, 0.5) is the share of pairs that get better, and as many worse, by noise alone; the drop
    comes on top: P(worse) = flips + drop. Power is that of the exact test at ``alpha`` up to 100 pairs, summed
    over how many pairs change; above it Connor's normal approximation (1987, Biometrics 43, p. 209).
    ``None`` where no drop can be found with so few pairs. Raises ``ValueError`` when an argument is out of range.
    """
    if pairs < 0 or not 0 <= flips < 0.5 or not 0 < power < 1:
        raise ValueError(f"expected pairs >= 0, flips in [0, 0.5), power in (0, 1): {pairs}, {flips}, {power}")
    missed, found = 0.0, 1.0 - 2 * flips
    if pairs < least_broken(alpha) or _power(pairs, found, flips, alpha) < power:
        return None
    for _ in range(BISECTIONS):
        middle = (missed + found) / 2
        if _power(pairs, middle, flips, alpha) >= power:
            found = middle
        else:
            missed = middle
    return found


def _power(pairs: int, drop: float, flips: float, alpha: float) -> float:
    """Return P(the test fails) where a pair gets worse with flips + drop, and better with flips."""
    changed = 2 * flips + drop
    if pairs > MOST_EXACT_PAIRS:
        from statistics import NormalDist

        spread = math.sqrt(changed - drop * drop)
        reach = drop * math.sqrt(pairs) + _z(alpha) * math.sqrt(changed)
        return NormalDist().cdf(reach / spread) if spread else float(reach > 0)
    changed = min(1.0, changed)
    worse_share = (flips + drop) / changed if changed else 0.0
    found, least = 0.0, 0
    for count, weight in enumerate(_binomial(pairs, changed)):
        # So many of the changed pairs must be worse for the test to fail: never fewer where more have changed.
        while least <= count and mcnemar_midp(least, count - least) > alpha:
            least += 1
        if weight > 1e-12 and least <= count:
            found += weight * sum(_binomial(count, worse_share)[least:])
    return found


def _binomial(count: int, share: float) -> list[float]:
    if share in (0.0, 1.0):
        return [float(hits == count * share) for hits in range(count + 1)]
    log_yes, log_no = math.log(share), math.log1p(-share)
    whole = math.lgamma(count + 1)
    return [
        math.exp(
            whole - math.lgamma(hits + 1) - math.lgamma(count - hits + 1) + hits * log_yes + (count - hits) * log_no
        )
        for hits in range(count + 1)
    ]


def binomial_tail(hits: int, count: int, share: float) -> float:
    """Return P(X >= hits) for X ~ Binomial(count, share): exact, ``share`` in [0, 1]."""
    return min(1.0, math.fsum(_binomial(count, share)[max(0, hits) :]))


def beta_binomial_tail(hits: int, count: int, a: float, b: float) -> float:
    """Return P(X >= hits) for X ~ Binomial(count, S), where S itself is Beta(a, b); both above 0."""

    def log_beta(a: float, b: float) -> float:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    return min(
        1.0,
        math.fsum(
            math.exp(log_beta(some + a, count - some + b) - log_beta(a, b) - log_beta(some + 1, count - some + 1))
            / (count + 1)
            for some in range(max(0, hits), count + 1)
        ),
    )


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
    means that no label could be read, ``ABSTAINED`` that one was held back. They come last, and are no right answer
    in any figure.
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
    def abstained(self) -> int:
        """Return of how many pairs the prediction was held back."""
        return sum(n for (_, predicted), n in self.cells.items() if predicted == ABSTAINED)

    @property
    def accuracy(self) -> float | None:
        """Return correct / total, or ``None`` when nothing was counted."""
        return self.correct / self.total if self.cells else None

    @property
    def by_label(self) -> dict[str, LabelMetrics]:
        """Return the figures of every label, in the order of ``labels``, also of those that never occur."""
        golds, predictions = self._margins()
        found = {}
        for label in self.labels:
            right, gold, predicted = self.cells.get((label, label), 0), golds[label], predictions[label]
            f1 = _ratio(2 * right, gold + predicted)
            found[label] = LabelMetrics(_ratio(right, predicted), _ratio(right, gold), f1, support=gold)
        return found

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
        """Return ``{gold: {predicted: count}}`` without zeros, by ``labels``, then ``ABSTAINED``, ``MISSING`` last."""
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

    ``labels`` are all labels there are, in the order to show them; a predicted ``ABSTAINED`` is none of them. Raises
    ``ValueError`` for a pair with any other label, and for a label called so or ``MISSING``, which a table could not
    tell from ``None``.
    """
    if reserved := {MISSING, ABSTAINED}.intersection(labels):
        raise ValueError(f"{reserved.pop()!r} stands for a missing label and cannot be a label itself")
    place: dict[str | None, int] = {label: at for at, label in enumerate(dict.fromkeys(labels))}
    place |= {ABSTAINED: len(place), None: len(place) + 1}
    counted = Counter(pairs)
    for gold, predicted in counted:
        if gold not in labels or predicted not in place:
            raise ValueError(f"expected labels out of {list(labels)}, got gold {gold!r}, predicted {predicted!r}")
    ordered = sorted(counted.items(), key=lambda cell: (place[cell[0][0]], place[cell[0][1]]))
    return Confusion(tuple(dict.fromkeys(labels)), dict(ordered))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
