"""What asking each sample several times does for the smallest drop found: ``python -m tests.benchmarks.repeats``.

Simulated. A sample of a prompt comes out right with a chance of its own, drawn from a kind of prompt: of a *steady*
one few samples flip from answer to answer, of a *restless* one many, of a *torn* one all. A change breaks a share of
the samples: they come out wrong from then on. Before and after it each sample is asked so many times, most answers
count, and the regression gate's paired test judges at 0.05. ``drop found`` is the smallest loss of accuracy, in
points of one answer, that fails in 80 % of runs; ``false alarms`` is how often it fails where nothing is broken.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from pytest_promptfit.evaluation.metrics import mcnemar_midp
from tests.benchmarks.measuring import Table, main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.benchmarks.measuring import Row, Size

RUNS: dict[Size, int] = {"tiny": 50, "usual": 4000, "full": 20_000}
ALPHA, POWER = 0.05, 0.8
REPEATS = (1, 3, 5, 9)
SAMPLES = (60, 164)
KINDS = {
    "steady": (1.0,) * 16 + (0.0,) * 3 + (0.5,),
    "restless": (1.0, 1.0, 1.0, 1.0, 0.0, 0.9, 0.7, 0.5),
    "torn": (0.9, 0.9, 0.8, 0.7, 0.6),
}
"""How often the samples of each kind of prompt come out right."""
BISECTIONS = 8

Draws = np.random.Generator


def outcomes(draws: Draws, chance: NDArray[np.float64], repeats: int) -> NDArray[np.bool_]:
    """Return [run, sample] whether most of so many answers are right; ``repeats`` is odd."""
    right: NDArray[np.bool_] = draws.binomial(repeats, chance) * 2 > repeats
    return right


def failing(draws: Draws, kind: str, samples: int, repeats: int, broken: float, runs: int) -> float:
    """Return the share of runs in which the gate fails after a share of the samples was ``broken``."""
    chance = draws.choice(KINDS[kind], size=(runs, samples))
    before = outcomes(draws, chance, repeats)
    after = outcomes(draws, np.where(draws.random(chance.shape) < broken, 0.0, chance), repeats)
    worse, better = (before & ~after).sum(1), (after & ~before).sum(1)
    return float(np.mean([_fails(int(lost), int(won)) for lost, won in zip(worse, better, strict=True)]))


@cache
def _fails(worse: int, better: int) -> bool:
    return mcnemar_midp(worse, better) <= ALPHA


def smallest_drop(draws: Draws, kind: str, samples: int, repeats: int, runs: int) -> float:
    """Return the smallest loss of accuracy, in points, that fails in 80 % of runs."""
    missed, found = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (missed + found) / 2
        if failing(draws, kind, samples, repeats, middle, runs) >= POWER:
            found = middle
        else:
            missed = middle
    return 100 * found * float(np.mean(KINDS[kind]))


def unstable(kind: str, repeats: int) -> float:
    """Return the share of samples whose answers differ, all told exactly."""
    return float(np.mean([1 - p**repeats - (1 - p) ** repeats for p in KINDS[kind]]))


def rows(draws: Draws, runs: int) -> Iterator[Row]:
    """Yield a row for each kind of prompt, number of samples and of answers."""
    for kind in KINDS:
        for samples in SAMPLES:
            for repeats in REPEATS:
                yield {
                    "prompt": kind,
                    "samples": samples,
                    "repeats": repeats,
                    "calls": samples * repeats,
                    "noise": unstable(kind, repeats),
                    "false alarms": failing(draws, kind, samples, repeats, 0.0, runs),
                    "drop found": smallest_drop(draws, kind, samples, repeats, runs),
                    "same calls, more samples": smallest_drop(draws, kind, samples * repeats, 1, runs),
                }


def tables(_: Path, size: Size) -> Iterator[Table]:
    """Simulate."""
    yield Table("Smallest drop found in 80 % of runs, in points", list(rows(np.random.default_rng(0), RUNS[size])))


if __name__ == "__main__":
    main("repeats", tables, __doc__)
