"""The race: what its plan costs, who stays, how fair its prefixes are, and that it chooses better."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_promptfit.prompts.samples import Sample
from pytest_promptfit.prompts.split import stratified_order
from pytest_promptfit.tuning.race import FIRST_PREFIX, CandidateScore, Round, calls, rounds, survivors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def run(plan: Sequence[Round], is_right: Callable[[int, int], bool]) -> tuple[int, set[tuple[int, int]]]:
    """Run a race; return the winner and all (candidate, sample) that were asked."""
    asked: set[tuple[int, int]] = set()
    alive = list(range(plan[0].keep))
    scores = [CandidateScore(0, None, 0)] * len(alive)
    for now in plan:
        alive = sorted(alive[at] for at in survivors(scores, now.keep))
        asked |= {(candidate, sample) for candidate in alive for sample in range(now.samples)}
        scores = [
            CandidateScore(sum(is_right(candidate, sample) for sample in range(now.samples)), None, 0)
            for candidate in alive
        ]
    return alive[survivors(scores, 1)[0]], asked


class TestRounds:
    @given(st.integers(1, 40), st.integers(0, 400), st.integers(0, 3000))
    def test_a_plan_is_a_race_within_the_budget(self, candidates: int, dev: int, budget: int) -> None:
        plan = rounds(candidates, dev, budget)

        assert plan[0].keep <= candidates
        assert plan[-1].samples <= dev
        assert calls(plan) <= budget
        assert all(before.keep > now.keep and before.samples < now.samples for before, now in pairwise(plan))
        assert plan == [Round(1, 0)] or plan[0].samples >= min(FIRST_PREFIX, dev)

    @given(st.integers(2, 20), st.integers(5, 60), st.integers(30, 400))
    def test_calls_are_the_pairs_that_are_asked(self, candidates: int, dev: int, budget: int) -> None:
        plan = rounds(candidates, dev, budget)

        _, asked = run(plan, lambda candidate, sample: (candidate * sample) % 3 == 1)

        assert len(asked) == calls(plan)

    @given(st.integers(2, 20), st.integers(1, 100), st.integers(0, 1000))
    def test_one_more_call_never_makes_the_field_smaller(self, candidates: int, dev: int, budget: int) -> None:
        assert rounds(candidates, dev, budget + 1)[0].keep >= rounds(candidates, dev, budget)[0].keep

    @pytest.mark.parametrize(("candidates", "dev"), [(2, 5), (3, 40), (16, 90)])
    def test_enough_for_everything_asks_everything(self, candidates: int, dev: int) -> None:
        assert rounds(candidates, dev, candidates * dev) == [Round(candidates, dev)]

    def test_the_last_two_see_all_of_dev_when_the_budget_allows(self) -> None:
        plan = rounds(16, 90, 400)

        assert [now.keep for now in plan] == [16, 8, 4, 2]
        assert plan[-1] == Round(2, 90)

    def test_a_small_dev_leaves_more_for_the_early_rounds(self) -> None:
        plan = rounds(16, 40, 400)

        assert plan[0].samples > rounds(16, 90, 400)[0].samples
        assert plan[-1].samples == 40
        assert calls(plan) > 0.95 * 400

    def test_a_small_budget_lets_fewer_start(self) -> None:
        assert rounds(16, 90, 60)[0].keep == 6
        assert rounds(16, 90, 5) == [Round(1, 0)]

    @pytest.mark.parametrize("candidates", [2, 3, 16])
    def test_a_dev_smaller_than_the_first_prefix(self, candidates: int) -> None:
        assert rounds(candidates, 2, 1000) == [Round(candidates, 2)]

    def test_one_candidate_has_won(self) -> None:
        assert rounds(1, 90, 400) == [Round(1, 0)]
        assert rounds(16, 0, 400) == [Round(1, 0)]

    def test_none(self) -> None:
        assert rounds(0, 90, 400) == []
        assert calls([]) == 0

    def test_negative_counts(self) -> None:
        with pytest.raises(ValueError, match="expected counts"):
            rounds(3, 90, -1)


class TestSurvivors:
    def test_more_right_answers_first(self) -> None:
        scores = [CandidateScore(3, 0.1, 10), CandidateScore(5, 0.9, 90), CandidateScore(4, 0.2, 10)]

        assert survivors(scores, 2) == [1, 2]

    def test_then_the_lower_log_loss(self) -> None:
        scores = [CandidateScore(3, 0.5, 10), CandidateScore(3, 0.4, 90), CandidateScore(3, math.inf, 1)]

        assert survivors(scores, 3) == [1, 0, 2]

    @pytest.mark.parametrize("unknown", [None, math.nan])
    def test_and_one_that_has_none_after_those_that_have(self, unknown: float | None) -> None:
        scores = [CandidateScore(3, unknown, 10), CandidateScore(3, 0.5, 30), CandidateScore(3, 0.4, 20)]

        assert survivors(scores, 3) == [2, 1, 0]

    def test_then_the_shorter_prompt_and_then_the_earlier_one(self) -> None:
        scores = [CandidateScore(3, None, 20), CandidateScore(3, None, 10), CandidateScore(3, None, 20)]

        assert survivors(scores, 3) == [1, 0, 2]

    def test_keeping_more_than_there_are_keeps_all(self) -> None:
        assert survivors([CandidateScore(0, None, 0)], 5) == [0]
        assert survivors([], 5) == []

    def test_keeping_fewer_than_none(self) -> None:
        with pytest.raises(ValueError, match="keep must not be negative"):
            survivors([], -1)


class TestStratifiedOrder:
    @given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(0, 5))
    def test_prefixes_have_the_labels_in_their_shares(self, sizes: list[int], seed: int) -> None:
        samples = _samples(sizes)

        seen: Counter[str] = Counter()
        for length, sample in enumerate(stratified_order(samples, seed), 1):
            seen[sample.label] += 1
            for label, size in enumerate(sizes):
                assert abs(seen[str(label)] - length * size / len(samples)) < 1

    @given(st.lists(st.integers(0, 12), max_size=8), st.randoms(use_true_random=False))
    def test_is_made_of_the_samples_alone(self, sizes: list[int], random: np.random.Generator) -> None:
        samples = _samples(sizes)

        ordered = stratified_order(samples, 1)

        assert sorted(sample.id for sample in ordered) == sorted(sample.id for sample in samples)
        random.shuffle(samples)
        assert stratified_order(samples, 1) == ordered

    def test_depends_on_the_seed(self) -> None:
        samples = _samples([20, 20])

        assert stratified_order(samples, 1) != stratified_order(samples, 2)

    def test_more_samples_leave_the_others_of_their_label_in_order(self) -> None:
        before = stratified_order(_samples([20, 10]), 1)
        after = stratified_order(_samples([35, 10]), 1)

        assert [sample for sample in after if sample in before and sample.label == "0"] == [
            sample for sample in before if sample.label == "0"
        ]


def _samples(sizes: Sequence[int]) -> list[Sample]:
    return [
        Sample(f"{label}-{n}", f"text {n} of {label}", str(label))
        for label, size in enumerate(sizes)
        for n in range(size)
    ]


def test_a_race_chooses_better_than_as_many_calls_spent_evenly() -> None:
    draws = np.random.default_rng(7)
    plan = rounds(16, 90, 400)
    raced, even = [], []
    for _ in range(150):
        skill = 0.4 + 0.15 * draws.standard_normal(16)
        samples = draws.standard_normal(90)
        right = 0.9 * samples + 0.45 * draws.standard_normal((16, 90)) < skill[:, None]
        winner, asked = run(plan, lambda candidate, sample, right=right: bool(right[candidate, sample]))  # type: ignore[misc]
        assert len(asked) <= 400
        raced.append(skill.max() - skill[winner])
        even.append(skill.max() - skill[right[:, :25].sum(1).argmax()])

    assert np.mean(raced) < 0.85 * np.mean(even)
