"""The figures, held to scipy and scikit-learn, and to the definitions where those have no equal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from pytest_promptfit.evaluation.metrics import (
    LabelMetrics,
    benjamini_hochberg,
    count,
    detectable_drop,
    least_broken,
    mcnemar_midp,
    paired_difference_interval,
    wilson_interval,
)
from pytest_promptfit.prompts.labels import MISSING

if TYPE_CHECKING:
    from random import Random

LABELS = ("b", "a", "c", "never")
"""Not in alphabetical order, and one that the generated pairs do not use."""

Pairs = list[tuple[str, str | None]]

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
    @given(
        st.integers(1, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))),
        st.sampled_from([0.5, 0.8, 0.95, 0.999]),
    )
    @example((0, 1), 0.95)
    @example((1, 1), 0.95)
    def test_agrees_with_scipy(self, counts: tuple[int, int], confidence: float) -> None:
        expected = stats.binomtest(*counts).proportion_ci(confidence_level=confidence, method="wilson")

        assert wilson_interval(*counts, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)

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

    @given(st.integers(0, 500), st.integers(0, 500))
    def test_both_directions_share_one_whole(self, worse: int, better: int) -> None:
        assert mcnemar_midp(worse, better) + mcnemar_midp(better, worse) == pytest.approx(1.0, abs=1e-12)

    @pytest.mark.parametrize(("worse", "better"), [(-1, 3), (3, -1)])
    def test_refuses_negative_counts(self, worse: int, better: int) -> None:
        with pytest.raises(ValueError, match="negative"):
            mcnemar_midp(worse, better)


def found_share(pairs: int, drop: float, flips: float, alpha: float, runs: int = 20_000) -> float:
    """Return how often the paired test finds ``drop`` in drawn runs of ``pairs`` samples."""
    drawn = np.random.default_rng(20).multinomial(pairs, [flips + drop, flips, 1 - 2 * flips - drop], size=runs)
    changed, times = np.unique(drawn[:, :2], axis=0, return_counts=True)
    found = [mcnemar_midp(int(w), int(b)) <= alpha for w, b in changed]
    return float(times[found].sum() / times.sum())


class TestLeastBroken:
    @pytest.mark.parametrize(("alpha", "least"), [(0.05, 4), (0.2, 2), (0.5, 1), (0.03125, 4), (0.03124, 5), (0.9, 1)])
    def test_known_values(self, alpha: float, least: int) -> None:
        assert least_broken(alpha) == least

    @given(st.floats(1e-6, 0.49))
    def test_so_many_fail_and_one_less_does_not(self, alpha: float) -> None:
        least = least_broken(alpha)
        assert mcnemar_midp(least, 0) <= alpha * (1 + 1e-9)
        assert least == 1 or mcnemar_midp(least - 1, 0) > alpha

    @pytest.mark.parametrize("alpha", [0.0, 1.0])
    def test_refuses_an_impossible_level(self, alpha: float) -> None:
        with pytest.raises(ValueError, match="alpha"):
            least_broken(alpha)


class TestDetectableDrop:
    @pytest.mark.parametrize("pairs", [0, 1, 2, 3])
    def test_too_few_pairs_find_nothing(self, pairs: int) -> None:
        assert detectable_drop(pairs, alpha=0.05) is None

    def test_four_pairs_find_only_that_nearly_all_broke(self) -> None:
        drop = detectable_drop(4, alpha=0.05)
        assert drop == pytest.approx(0.8**0.25, abs=1e-3)  # all four must break

    @pytest.mark.parametrize(
        ("pairs", "flips"), [(20, 0.0), (40, 0.05), (60, 0.0), (100, 0.1), (164, 0.05), (400, 0.02)]
    )
    def test_power_is_what_the_test_has_on_drawn_outcomes(self, pairs: int, flips: float) -> None:
        drop = detectable_drop(pairs, alpha=0.05, flips=flips)
        assert drop is not None
        assert found_share(pairs, drop, flips, 0.05) == pytest.approx(0.8, abs=0.025)
        assert found_share(pairs, drop * 0.8, flips, 0.05) < 0.77

    @pytest.mark.parametrize("flips", [0.0, 0.05, 0.2])
    def test_more_pairs_never_find_less(self, flips: float) -> None:
        drops = [detectable_drop(pairs, alpha=0.05, flips=flips) or 1.0 for pairs in (5, 10, 20, 40, 80, 200, 1000)]
        assert drops == sorted(drops, reverse=True)

    @pytest.mark.parametrize("settings", [{"alpha": 0.0}, {"flips": 0.5}, {"power": 1.0}, {"flips": -0.1}])
    def test_refuses_impossible_settings(self, settings: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=r"must be|expected"):
            detectable_drop(50, **{"alpha": 0.05, **settings})


class TestBenjaminiHochberg:
    def test_published_example(self) -> None:
        """The 15 p-values of Benjamini and Hochberg (1995, section 3.2): at 0.05 the first four are discoveries."""
        p_values = [
            *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
            *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
        ]
        levels = benjamini_hochberg(p_values, [0.05] * 15)
        assert [p <= level for p, level in zip(p_values, levels, strict=True)] == [True] * 4 + [False] * 11
        assert levels == pytest.approx([0.05 * 4 / 15] * 15)

    def test_one_test_has_its_level(self) -> None:
        assert benjamini_hochberg([0.9], [0.05]) == [0.05]

    def test_levels_of_their_own(self) -> None:
        assert benjamini_hochberg([0.01, 0.2], [0.05, 0.2]) == pytest.approx([0.05, 0.2])
        assert benjamini_hochberg([0.04, 0.2], [0.05, 0.1]) == pytest.approx([0.025, 0.05])

    def test_no_test_at_all(self) -> None:
        assert benjamini_hochberg([], []) == []


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
    @given(some_pairs)
    @example(many_pairs)
    def test_totals_agree_with_scikit_learn(self, pairs: Pairs) -> None:
        confusion = count(pairs, LABELS)
        gold, predicted = as_columns(pairs)

        assert (confusion.total, confusion.missing) == (len(pairs), predicted.count("?"))
        assert confusion.correct == accuracy_score(gold, predicted, normalize=False)
        assert confusion.accuracy == pytest.approx(accuracy_score(gold, predicted))

    @given(some_pairs)
    @example(many_pairs)
    def test_labels_agree_with_scikit_learn(self, pairs: Pairs) -> None:
        expected = precision_recall_fscore_support(*as_columns(pairs), labels=list(LABELS), zero_division=0)

        by_label = count(pairs, LABELS).by_label

        assert tuple(by_label) == LABELS
        for at, metrics in enumerate(by_label.values()):
            figures = (metrics.precision, metrics.recall, metrics.f1, metrics.support)
            assert figures == pytest.approx([column[at] for column in expected], abs=1e-12)

    @given(some_pairs)
    @example(many_pairs)
    def test_macro_f1_agrees_with_scikit_learn(self, pairs: Pairs) -> None:
        gold, predicted = as_columns(pairs)
        occurring = [label for label in LABELS if label in gold or label in predicted]
        expected = f1_score(gold, predicted, average="macro", labels=occurring, zero_division=0)

        assert count(pairs, LABELS).macro_f1 == pytest.approx(expected, abs=1e-12)

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
