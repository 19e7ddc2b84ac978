"""What may replace the incumbent: the gate by its exact error rates, pruning, canonicals, the holdout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_promptfit.evaluation.metrics import mcnemar_midp
from pytest_promptfit.tuning.gate import ALPHA, BLOCK, canonical_gain, holds_up, judge, keeps_canonicals, not_worse


def accepted_and_asked(total: int, discordant: float, gain: float) -> tuple[float, float]:
    """Compute how often the gate accepts, and how many samples it asks for on average."""
    win, loss = (discordant + gain) / 2, (discordant - gain) / 2
    chance = np.zeros((total + 1, total + 1))
    chance[0, 0] = 1.0
    accepted = asked = 0.0
    for seen in range(1, total + 1):
        earlier = chance
        chance = earlier * (1 - win - loss)
        chance[1:] += earlier[:-1] * win
        chance[:, 1:] += earlier[:, :-1] * loss
        for wins, losses in np.argwhere(chance > 1e-12).tolist() if seen % BLOCK == 0 or seen == total else ():
            verdict = judge(wins, losses, seen, total)
            if verdict == "go on":
                continue
            accepted += chance[wins, losses] * (verdict == "accept")
            asked += chance[wins, losses] * seen
            chance[wins, losses] = 0.0
    assert chance.sum() == pytest.approx(0, abs=1e-6)
    return accepted, asked


class TestErrorRates:
    @pytest.mark.parametrize("total", [40, 64, 90, 150])
    @pytest.mark.parametrize("discordant", [0.1, 0.2, 0.3, 0.5])
    def test_a_candidate_that_is_no_better_is_accepted_at_most_at_alpha(self, total: int, discordant: float) -> None:
        accepted, asked = accepted_and_asked(total, discordant, gain=0.0)

        assert 0.05 < accepted <= ALPHA
        assert asked < 0.75 * total

    def test_a_worse_candidate_costs_half_of_dev_or_less(self) -> None:
        accepted, asked = accepted_and_asked(90, 0.2, gain=-0.1)

        assert accepted < 0.001
        assert asked < 0.4 * 90

    @pytest.mark.parametrize("gain", [0.05, 0.1, 0.15])
    def test_stopping_early_costs_almost_no_power(self, gain: float) -> None:
        accepted, asked = accepted_and_asked(90, 0.2, gain)

        assert accepted > _power_of_all(90, 0.2, gain) - 0.015
        assert asked < 0.8 * 90


def _power_of_all(total: int, discordant: float, gain: float) -> float:
    """Compute how often the test on all of dev accepts, from the trinomial."""
    chance = np.zeros((total + 1, total + 1))
    chance[0, 0] = 1.0
    for _ in range(total):
        earlier = chance
        chance = earlier * (1 - discordant)
        chance[1:] += earlier[:-1] * (discordant + gain) / 2
        chance[:, 1:] += earlier[:, :-1] * (discordant - gain) / 2
    return float(sum(chance[w, x] for w, x in np.argwhere(chance).tolist() if mcnemar_midp(w, x) <= ALPHA))


class TestJudge:
    @pytest.mark.parametrize(
        ("wins", "losses", "seen", "total", "verdict"),
        [
            (0, 0, 0, 40, "go on"),
            (0, 2, 10, 90, "go on"),
            (0, 3, 10, 90, "reject"),  # three net losses
            (4, 6, 20, 90, "go on"),
            (4, 6, 30, 90, "reject"),  # two, with a third of dev gone
            (4, 5, 40, 90, "go on"),
            (4, 5, 50, 90, "reject"),  # one, with more than half of it gone
            (5, 5, 60, 90, "go on"),
            (5, 5, 70, 90, "reject"),  # not ahead after three quarters
            (7, 0, 30, 90, "accept"),
            (5, 0, 50, 90, "go on"),  # too few discordant samples
            (6, 0, 10, 90, "go on"),  # too soon for this p
            (1, 0, 18, 20, "go on"),
            (0, 0, 18, 20, "reject"),
            (1, 0, 19, 20, "reject"),  # one more win would not do
            (3, 0, 20, 20, "accept"),
            (2, 0, 20, 20, "reject"),
            (0, 0, 0, 0, "reject"),  # no dev at all
        ],
    )
    def test_examples(self, wins: int, losses: int, seen: int, total: int, verdict: str) -> None:
        assert judge(wins, losses, seen, total) == verdict

    @given(st.integers(1, 120).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(0, n))))
    def test_the_end_is_the_mid_p_test(self, counts: tuple[int, int, int]) -> None:
        total, wins, losses = counts
        losses = min(losses, total - wins)

        expected = "accept" if mcnemar_midp(wins, losses) <= ALPHA else "reject"
        assert judge(wins, losses, total, total) == expected

    @given(st.integers(1, 200), st.data())
    def test_a_further_win_never_hurts_and_a_further_loss_never_helps(self, total: int, data: st.DataObject) -> None:
        seen = data.draw(st.integers(1, total))
        wins = data.draw(st.integers(0, seen - 1))
        losses = data.draw(st.integers(0, seen - 1 - wins))
        rank = ["reject", "go on", "accept"].index

        verdict = rank(judge(wins, losses, seen, total))
        assert rank(judge(wins + 1, losses, seen, total)) >= verdict
        assert rank(judge(wins, losses + 1, seen, total)) <= verdict

    @given(st.integers(2, 120), st.data())
    def test_what_can_no_longer_win_is_not_asked_on(self, total: int, data: st.DataObject) -> None:
        seen = data.draw(st.integers(0, total - 1))
        wins = data.draw(st.integers(0, seen))
        losses = data.draw(st.integers(0, seen - wins))

        if judge(wins + total - seen, losses, total, total) == "reject":
            assert judge(wins, losses, seen, total) == "reject"

    def test_options(self) -> None:
        assert judge(3, 0, 40, 40, alpha=0.05) == "reject"
        assert judge(0, 3, 10, 90, futility=5) == "go on"
        assert judge(7, 0, 30, 90, min_discordant=8) == "go on"

    @pytest.mark.parametrize("counts", [(-1, 0, 5, 10), (3, 3, 5, 10), (1, 1, 11, 10)])
    def test_impossible_counts(self, counts: tuple[int, int, int, int]) -> None:
        with pytest.raises(ValueError, match="fixed \\+ broken <= seen <= total"):
            judge(*counts)


class TestNotWorse:
    @pytest.mark.parametrize(
        ("wins", "losses", "stays"),
        [(0, 0, True), (0, 1, True), (0, 2, False), (2, 3, True), (2, 5, False), (9, 0, True)],
    )
    def test_examples(self, wins: int, losses: int, stays: bool) -> None:
        assert not_worse(wins, losses) is stays

    def test_level(self) -> None:
        assert not_worse(0, 2, p=0.1)
        assert not not_worse(0, 1, p=0.3)


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_holdout_lets_nothing_through_that_lost_more_than_it_won(wins: int, losses: int) -> None:
    assert holds_up(wins, losses) is (wins >= losses)
    if holds_up(wins, losses):
        assert not_worse(wins, losses)


BEFORE = {"a": True, "b": False, "c": True}
"""Which canonical samples the incumbent passes."""


class TestCanonicals:
    def test_one_that_passed_may_not_fail(self) -> None:
        assert keeps_canonicals(BEFORE, {"a": True, "b": False, "c": True})
        assert not keeps_canonicals(BEFORE, {"a": True, "b": True, "c": False})

    def test_one_that_passed_must_have_been_asked(self) -> None:
        assert not keeps_canonicals(BEFORE, {"a": True})
        assert keeps_canonicals(BEFORE, {"a": True, "c": True})

    def test_gain_counts_the_fixed_ones(self) -> None:
        assert canonical_gain(BEFORE, {"a": True, "b": True, "c": False}) == 1
        assert canonical_gain(BEFORE, BEFORE) == 0

    def test_none(self) -> None:
        assert keeps_canonicals({}, {})
        assert canonical_gain({}, {}) == 0
