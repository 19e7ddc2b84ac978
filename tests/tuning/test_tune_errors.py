"""Whole tuning runs on made-up models whose prompts are no better, or truly better: what becomes of the file.

More runs, and rates with their intervals: ``python -m tests.benchmarks.tuning_errors``.
"""

from __future__ import annotations

import pytest

from tests.benchmarks.tuning_errors import Setting, results

pytestmark = pytest.mark.endurance


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "unused")


def test_a_run_whose_prompts_are_no_better_leaves_the_file_alone() -> None:
    found = list(results(Setting(gain=0.0, noise=1.0, samples=120, calls=900), runs=8))
    assert any(step.accepted for result in found for step in result.steps)  # chance was given its chance
    assert sum(result.accepted for result in found) <= 1  # at 5 %, two or more of 8 come in 6 % of cases


def test_a_run_whose_prompts_are_better_finds_one_and_does_not_flatter_it() -> None:
    gain = 0.2
    found = [result for result in results(Setting(gain, samples=160, calls=900), runs=4) if result.accepted]
    assert len(found) >= 3
    gains = [result.fresh.gain for result in found if result.fresh]
    assert len(gains) == len(found)
    assert abs(sum(gains) / len(gains) - gain) < 0.08
    assert all(result.p_value is not None and result.p_value <= 0.05 for result in found)
