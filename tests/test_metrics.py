"""The figures, held to scipy and scikit-learn, and to the definitions where those have no equal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from pytest_promptfit.metrics import (
    MISSING,
    LabelMetrics,
    count,
    detectable_difference,
    mcnemar_midp,
    paired_difference_interval,
    pairs_needed,
    wilson_interval,
)

if TYPE_CHECKING:
    from random import Random

LABELS = ("b", "a", "c", "never")
"""Not in alphabetical order, and one that the generated pairs do not use."""

Pairs = list[tuple[str, str | None]]

no_deadline = settings(deadline=None)
"""Time says nothing about a figure, and the first call into scipy or scikit-learn is slow."""


def scipy_midp(worse: int, better: int) -> float:
    changed = stats.binom(worse + better, 0.5)
    return float(changed.sf(worse) + 0.5 * changed.pmf(worse))


class TestPairedDifferenceInterval:
    @pytest.mark.parametrize(("worse", "better"), [(0.05, 0.05), (0.02, 0.2), (0.3, 0.1), (0.0, 0.02)])
    @pytest.mark.parametrize("pairs", [20, 60, 150])
    def test_covers_the_true_change_about_as_often_as_it_says(self, worse: float, better: float, pairs: int) -> None:
        drawn = np.random.default_rng(7).multinomial(pairs, [worse, better, 1 - worse - better], size=3000)
        bounds = [paired_difference_interval(int(b), int(c), pairs) for b, c, _ in drawn]
        covered = sum(low <= better - worse <= high for low, high in bounds) / len(bounds)
        assert covered >= 0.92

    @no_deadline
    @given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 2000))
    def test_is_the_same_seen_from_the_other_side(self, worse: int, better: int, unchanged: int) -> None:
        pairs = worse + better + unchanged
        low, high = paired_difference_interval(worse, better, pairs)
        assert -1 <= low < high <= 1
        assert paired_difference_interval(better, worse, pairs) == pytest.approx((-high, -low))

    def test_is_wald_with_half_a_pair_more_of_each_kind(self) -> None:
        b, c, n = 4.5, 12.5, 52
        half = 1.959964 * math.sqrt((b + c) / n - ((c - b) / n) ** 2) / math.sqrt(n)
        assert paired_difference_interval(4, 12, 50) == pytest.approx(
            ((c - b) / n - half, (c - b) / n + half), rel=1e-6
        )

    @pytest.mark.parametrize("arguments", [(-1, 0, 5), (3, 3, 5), (1, 1, 5, 1.0)])
    def test_refuses_what_cannot_be(self, arguments: tuple[int, int, int]) -> None:
        with pytest.raises(ValueError, match="got"):
            paired_difference_interval(*arguments)


class TestWilsonInterval:
    @no_deadline
    @given(
        st.integers(1, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))),
        st.sampled_from([0.5, 0.8, 0.95, 0.999]),
    )
    @example((0, 1), 0.95)
    @example((1, 1), 0.95)
    def test_agrees_with_scipy(self, counts: tuple[int, int], confidence: float) -> None:
        expected = stats.binomtest(*counts).proportion_ci(confidence_level=confidence, method="wilson")

        assert wilson_interval(*counts, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)

    @no_deadline
    @given(st.integers(1, 10**6))
    def test_ends_are_exact(self, total: int) -> None:
        assert wilson_interval(0, total)[0] == 0.0
        assert wilson_interval(total, total)[1] == 1.0

    def test_no_observation_says_nothing(self) -> None:
        assert wilson_interval(0, 0) == (0.0, 1.0)

    @pytest.mark.parametrize(("correct", "total"), [(-1, 5), (6, 5), (0, -1)])
    def test_refuses_impossible_counts(self, correct: int, total: int) -> None:
        with pytest.raises(ValueError, match="correct"):
            wilson_interval(correct, total)

    @pytest.mark.parametrize("confidence", [-0.5, 0.0, 1.0, math.nan])
    def test_refuses_an_impossible_confidence(self, confidence: float) -> None:
        with pytest.raises(ValueError, match="confidence"):
            wilson_interval(1, 2, confidence)


class TestMcnemarMidp:
    @no_deadline
    @given(st.integers(0, 2000), st.integers(0, 2000))
    def test_agrees_with_scipy(self, worse: int, better: int) -> None:
        assert mcnemar_midp(worse, better) == pytest.approx(scipy_midp(worse, better), abs=1e-9)

    @pytest.mark.parametrize(
        ("worse", "better"),
        [(50_000, 50_000), (50_400, 49_600), (49_700, 50_300), (100_000, 0), (0, 100_000)],
    )
    def test_agrees_with_scipy_for_very_many_pairs(self, worse: int, better: int) -> None:
        assert mcnemar_midp(worse, better) == pytest.approx(scipy_midp(worse, better), abs=1e-9)

    @pytest.mark.parametrize(("worse", "better"), [(9, 1), (40, 4), (300, 100), (1000, 20)])
    def test_small_values_are_relatively_exact(self, worse: int, better: int) -> None:
        pairs = worse + better
        above = sum(math.comb(pairs, more) for more in range(worse + 1, pairs + 1))
        expected = (2 * above + math.comb(pairs, worse)) / 2 ** (pairs + 1)

        assert mcnemar_midp(worse, better) == pytest.approx(expected, rel=1e-12)

    def test_no_changed_pair_is_no_evidence(self) -> None:
        assert mcnemar_midp(0, 0) == 0.5

    def test_one_changed_pair_by_hand(self) -> None:
        assert (mcnemar_midp(1, 0), mcnemar_midp(0, 1)) == (0.25, 0.75)

    def test_small_only_for_the_worse(self) -> None:
        assert mcnemar_midp(12, 2) < 0.01
        assert mcnemar_midp(2, 12) > 0.99

    @no_deadline
    @given(st.integers(0, 500), st.integers(0, 500))
    def test_both_directions_share_one_whole(self, worse: int, better: int) -> None:
        assert mcnemar_midp(worse, better) + mcnemar_midp(better, worse) == pytest.approx(1.0, abs=1e-12)

    @pytest.mark.parametrize(("worse", "better"), [(-1, 3), (3, -1)])
    def test_refuses_negative_counts(self, worse: int, better: int) -> None:
        with pytest.raises(ValueError, match="negative"):
            mcnemar_midp(worse, better)


class TestPairsNeeded:
    @pytest.mark.parametrize(("difference", "pairs"), [(0.10, 89), (0.08, 140), (0.05, 359)])
    def test_known_values(self, difference: float, pairs: int) -> None:
        assert pairs_needed(difference, alpha=0.10) == pairs

    @pytest.mark.parametrize(("alpha", "power"), [(0.05, 0.90), (0.025, 0.80)])
    def test_example_of_published_calculators(self, alpha: float, power: float) -> None:
        """Of powerandsamplesize.com: outcomes change with 0.45 one way and 0.05 the other; 23 pairs."""
        assert pairs_needed(0.40, alpha=alpha, power=power, discordant=0.50) == 23

    @pytest.mark.parametrize("discordant", [0.0, 0.1, 0.2, 0.39])
    def test_discordant_share_is_at_least_the_difference(self, discordant: float) -> None:
        expected = pairs_needed(0.4, alpha=0.05, discordant=0.4)

        assert pairs_needed(0.4, alpha=0.05, discordant=discordant) == expected

    def test_power_is_what_the_test_has_on_drawn_outcomes(self) -> None:
        """Outcomes drawn with that difference are found at the stated rate, those without at the level."""
        alpha, power, discordant, difference = 0.10, 0.8, 0.2, 0.08
        pairs = pairs_needed(difference, alpha=alpha, power=power, discordant=discordant)

        assert found_share(pairs, difference, discordant, alpha) == pytest.approx(power, abs=0.03)
        assert found_share(pairs, 0.0, discordant, alpha) == pytest.approx(alpha, abs=0.02)

    @pytest.mark.parametrize("difference", [0.0, -0.1, 1.01, math.nan])
    def test_refuses_an_impossible_difference(self, difference: float) -> None:
        with pytest.raises(ValueError, match="difference"):
            pairs_needed(difference, alpha=0.05)

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("alpha", 0.0),
            ("alpha", 1.0),
            ("power", 0.49),
            ("power", 1.0),
            ("discordant", -0.1),
            ("discordant", 1.1),
        ],
    )
    def test_refuses_impossible_settings(self, argument: str, value: float) -> None:
        settings = {"alpha": 0.05, argument: value}

        with pytest.raises(ValueError, match=argument):
            pairs_needed(0.1, **settings)
        with pytest.raises(ValueError, match=argument):
            detectable_difference(100, **settings)


def found_share(pairs: int, difference: float, discordant: float, alpha: float) -> float:
    """Return how often the paired test finds ``difference`` in 4,000 drawn runs of ``pairs`` samples."""
    worse, better = (discordant + difference) / 2, (discordant - difference) / 2
    drawn = np.random.default_rng(20).multinomial(pairs, [worse, better, 1 - discordant], size=4000)
    changed, times = np.unique(drawn[:, :2], axis=0, return_counts=True)
    found = [mcnemar_midp(int(w), int(b)) <= alpha for w, b in changed]
    return float(times[found].sum() / times.sum())


class TestDetectableDifference:
    @no_deadline
    @given(
        st.integers(20, 20_000),
        st.sampled_from([0.01, 0.05, 0.10]),
        st.sampled_from([0.5, 0.8, 0.95]),
        st.sampled_from([0.0, 0.05, 0.2, 1.0]),
    )
    def test_is_the_inverse_of_pairs_needed(self, pairs: int, alpha: float, power: float, discordant: float) -> None:
        smallest = detectable_difference(pairs, alpha=alpha, power=power, discordant=discordant)

        assert 0 < smallest < 1
        assert pairs_needed(smallest, alpha=alpha, power=power, discordant=discordant) == pairs
        assert pairs_needed(smallest * (1 - 1e-9), alpha=alpha, power=power, discordant=discordant) > pairs

    @pytest.mark.parametrize("pairs", [0, 1, 2])
    def test_unreachable_is_one(self, pairs: int) -> None:
        assert detectable_difference(pairs, alpha=0.05) == 1.0

    def test_reachable_only_by_changing_almost_every_pair(self) -> None:
        assert 0.5 < detectable_difference(4, alpha=0.05) < 1

    @no_deadline
    @given(st.integers(0, 5000), st.integers(1, 500))
    def test_more_pairs_never_find_less(self, pairs: int, more: int) -> None:
        assert detectable_difference(pairs + more, alpha=0.05) <= detectable_difference(pairs, alpha=0.05)

    def test_level_above_the_power_finds_any_difference(self) -> None:
        assert detectable_difference(1, alpha=0.9) == pytest.approx(0.0, abs=1e-12)
        assert pairs_needed(0.01, alpha=0.9) == 1


some_pairs = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["a", "b", "c", None])),
    min_size=1,
    max_size=60,
)
drawn_labels = np.random.default_rng(4).choice(["a", "b", "c", "?"], p=[0.6, 0.25, 0.1, 0.05], size=(3000, 2))
many_pairs: Pairs = [(str(g), None if p == "?" else str(p)) for g, p in drawn_labels if g != "?"]


def as_columns(pairs: Pairs) -> tuple[list[str], list[str]]:
    """Return gold and predicted as scikit-learn wants them: a missing prediction is one more class."""
    return [gold for gold, _ in pairs], ["?" if predicted is None else predicted for _, predicted in pairs]


class TestConfusion:
    @no_deadline
    @given(some_pairs)
    @example(many_pairs)
    def test_totals_agree_with_scikit_learn(self, pairs: Pairs) -> None:
        confusion = count(pairs, LABELS)
        gold, predicted = as_columns(pairs)

        assert (confusion.total, confusion.missing) == (len(pairs), predicted.count("?"))
        assert confusion.correct == accuracy_score(gold, predicted, normalize=False)
        assert confusion.accuracy == pytest.approx(accuracy_score(gold, predicted))

    @no_deadline
    @given(some_pairs)
    @example(many_pairs)
    def test_labels_agree_with_scikit_learn(self, pairs: Pairs) -> None:
        expected = precision_recall_fscore_support(*as_columns(pairs), labels=list(LABELS), zero_division=0)

        by_label = count(pairs, LABELS).by_label

        assert tuple(by_label) == LABELS
        for at, metrics in enumerate(by_label.values()):
            figures = (metrics.precision, metrics.recall, metrics.f1, metrics.support)
            assert figures == pytest.approx([column[at] for column in expected], abs=1e-12)

    @no_deadline
    @given(some_pairs)
    @example(many_pairs)
    def test_macro_f1_agrees_with_scikit_learn(self, pairs: Pairs) -> None:
        gold, predicted = as_columns(pairs)
        occurring = [label for label in LABELS if label in gold or label in predicted]
        expected = f1_score(gold, predicted, average="macro", labels=occurring, zero_division=0)

        assert count(pairs, LABELS).macro_f1 == pytest.approx(expected, abs=1e-12)

    @no_deadline
    @given(some_pairs)
    @example(many_pairs)
    def test_table_agrees_with_scikit_learn(self, pairs: Pairs) -> None:
        matrix = confusion_matrix(*as_columns(pairs), labels=[*LABELS, "?"])
        columns = (*LABELS, MISSING)
        rows = {
            gold: {column: int(n) for column, n in zip(columns, row, strict=True) if n}
            for gold, row in zip(LABELS, matrix, strict=False)
        }

        assert in_order(count(pairs, LABELS).table) == in_order({gold: row for gold, row in rows.items() if row})

    @no_deadline
    @given(some_pairs, st.randoms())
    def test_order_of_the_pairs_does_not_matter(self, pairs: Pairs, random: Random) -> None:
        shuffled = random.sample(pairs, len(pairs))

        assert count(shuffled, LABELS) == count(pairs, LABELS)
        assert in_order(count(shuffled, LABELS).table) == in_order(count(pairs, LABELS).table)

    def test_pairs_may_come_from_an_iterator(self) -> None:
        assert count(iter(many_pairs), LABELS) == count(many_pairs, LABELS)

    def test_nothing_counted(self) -> None:
        confusion = count([], ["a"])

        assert (confusion.total, confusion.correct, confusion.missing) == (0, 0, 0)
        assert (confusion.accuracy, confusion.macro_f1, confusion.table) == (None, None, {})
        assert confusion.by_label == {"a": LabelMetrics(0.0, 0.0, 0.0, 0)}

    def test_one_label(self) -> None:
        confusion = count([("a", "a"), ("a", "a"), ("a", None)], ["a"])

        assert confusion.by_label == {"a": LabelMetrics(1.0, pytest.approx(2 / 3), pytest.approx(0.8), 3)}
        assert confusion.table == {"a": {"a": 2, MISSING: 1}}

    def test_all_missing(self) -> None:
        confusion = count([("a", None), ("b", None)], ["a", "b"])

        assert (confusion.accuracy, confusion.macro_f1, confusion.missing) == (0.0, 0.0, 2)
        assert confusion.table == {"a": {MISSING: 1}, "b": {MISSING: 1}}

    def test_label_that_never_occurs_does_not_lower_macro_f1(self) -> None:
        assert count([("a", "a")], LABELS).macro_f1 == 1.0

    def test_label_that_is_only_predicted_lowers_macro_f1(self) -> None:
        assert count([("a", "a"), ("a", "b")], ["a", "b"]).macro_f1 == pytest.approx(1 / 3)

    def test_label_named_like_a_missing_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"'\(missing\)' .* cannot be a label"):
            count([("a", "a")], ["a", MISSING])

    @pytest.mark.parametrize("pair", [("x", "a"), ("a", "x"), ("x", None)])
    def test_unknown_label_is_refused(self, pair: tuple[str, str | None]) -> None:
        with pytest.raises(ValueError, match="'x'"):
            count([("a", "a"), pair], ["a"])


def in_order(table: dict[str, dict[str, int]]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Return a table as lists, so that comparing two also compares the order of rows and columns."""
    return [(gold, list(row.items())) for gold, row in table.items()]
