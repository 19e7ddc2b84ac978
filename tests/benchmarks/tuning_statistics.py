"""How often the tuner's decisions are right: ``python -m tests.benchmarks.tuning_statistics``.

The gate, pruning and the holdout are computed exactly, over all ways in which their pairs can come out; the
race, and the gate after a race, are simulated. ``discordant`` is the share of samples that only one of two
prompts gets right, ``gain`` the true difference in accuracy, candidate less incumbent.

A simulated candidate has an accuracy, on average 65 % with a standard deviation of 5 points; samples are
easy or hard for all candidates alike, so that two equally good ones differ on 19 % of the samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from pytest_promptfit.tuning.gate import ALPHA, BLOCK, Ruling, holds_up, judge, not_worse
from pytest_promptfit.tuning.race import CandidateScore, Round, calls, rounds, survivors
from tests.benchmarks.measuring import Table, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.benchmarks.measuring import Size

    Rows = list[dict[str, object]]
    Rule = Callable[[int, int, int, int], Ruling]

RUNS: dict[Size, int] = {"tiny": 20, "usual": 4000, "full": 20_000}
"""Simulated runs a row."""

DEV_SIZES = (40, 90)
DISCORDANT = 0.2
CANDIDATES = 16
BUDGET = 400
ACCURACY, SPREAD = 0.65, 0.05
SHARED_DIFFICULTY = 0.8
"""Correlation of the latent difficulty of a sample between two candidates."""


@dataclass(frozen=True)
class Passed:
    """What a gate does: how often it accepts, and which share of dev it asks for, on average."""

    accepted: float
    share: float


def outcomes(pairs: int, discordant: float, gain: float) -> NDArray[np.float64]:
    """Return the probability of [wins, losses] among so many pairs."""
    spread = np.zeros((pairs + 1, pairs + 1))
    spread[0, 0] = 1.0
    return _more_pairs(spread, pairs, discordant, gain)


def exactly(rule: Rule, total: int, discordant: float, gain: float) -> Passed:
    """Return what a sequential rule does with pairs of these chances."""
    spread = np.zeros((total + 1, total + 1))
    spread[0, 0] = 1.0
    accepted = asked = 0.0
    seen = 0
    for look in [*range(BLOCK, total, BLOCK), total]:
        spread = _more_pairs(spread, look - seen, discordant, gain)
        seen = look
        for wins, losses in np.argwhere(spread > 1e-15).tolist():
            verdict = rule(wins, losses, seen, total)
            if verdict != "go on":
                accepted += spread[wins, losses] * (verdict == "accept")
                asked += spread[wins, losses] * seen
                spread[wins, losses] = 0.0
    return Passed(float(accepted), float(asked / total))


def _more_pairs(spread: NDArray[np.float64], pairs: int, discordant: float, gain: float) -> NDArray[np.float64]:
    win, loss = (discordant + gain) / 2, (discordant - gain) / 2
    for _ in range(pairs):
        after = spread * (1 - win - loss)
        after[1:] += spread[:-1] * win
        after[:, 1:] += spread[:, :-1] * loss
        spread = after
    return spread


@cache
def _judged(wins: int, losses: int, seen: int, total: int) -> Ruling:
    return judge(wins, losses, seen, total)


def at_the_end(wins: int, losses: int, seen: int, total: int) -> Ruling:
    """Decide as the gate does when it has seen all of dev, and not before."""
    return "go on" if seen < total else _judged(wins, losses, seen, total)


def more_right(wins: int, losses: int, seen: int, total: int) -> Ruling:
    """Accept whatever has more right answers on all of dev."""
    if seen < total:
        return "go on"
    return "accept" if wins > losses else "reject"


def gate_table(gains: Sequence[float], discordant: Sequence[float]) -> Rows:
    """Return a row for each size of dev, share of discordant samples and gain."""
    rows: Rows = []
    for total in DEV_SIZES:
        for share in discordant:
            for gain in gains:
                gate = exactly(_judged, total, share, gain)
                rows.append(
                    {
                        "dev": total,
                        "discordant": share,
                        "gain": gain,
                        "accepted": gate.accepted,
                        "all of dev": exactly(at_the_end, total, share, gain).accepted,
                        "more right": exactly(more_right, total, share, gain).accepted,
                        "share of calls": gate.share,
                    }
                )
    return rows


def staying_table(gains: Sequence[float]) -> Rows:
    """Return a row a true difference: how often pruning keeps a change, and the holdout lets it through."""
    rows: Rows = []
    for gain in gains:
        row: dict[str, object] = {"gain": gain}
        for name, test, sizes in (("pruned", not_worse, DEV_SIZES), ("written", holds_up, (20, 45, 100))):
            for pairs in sizes:
                spread = outcomes(pairs, max(DISCORDANT, abs(gain)), gain)
                row[f"{name}, {pairs}"] = sum(
                    float(spread[w, x]) for w, x in np.argwhere(spread) if test(int(w), int(x))
                )
        rows.append(row)
    return rows


@dataclass(frozen=True)
class World:
    """Simulated runs: the accuracies [run, candidate], and who is right [run, candidate, sample]."""

    accuracy: NDArray[np.float64]
    right: NDArray[np.bool_]

    def regret(self, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return, per run, by how many points the chosen candidate is behind the best one."""
        points: NDArray[np.float64] = self.accuracy.max(1) - self.accuracy[np.arange(len(chosen)), chosen]
        return points * 100


def world(draws: np.random.Generator, accuracy: NDArray[np.float64], samples: int, shared: float) -> World:
    """Draw the answers; ``shared`` 0 gives each candidate samples of its own."""
    limit = np.vectorize(NormalDist().inv_cdf)(accuracy)[..., None]
    sample = draws.standard_normal((accuracy.shape[0], 1, samples))
    own = draws.standard_normal((*accuracy.shape, samples))
    return World(accuracy, np.sqrt(shared) * sample + np.sqrt(1 - shared) * own < limit)


def accuracies(draws: np.random.Generator, runs: int, mean: float, spread: float) -> NDArray[np.float64]:
    """Draw the true accuracies of the candidates of each run."""
    drawn: NDArray[np.float64] = mean + spread * draws.standard_normal((runs, CANDIDATES))
    return np.clip(drawn, 0.02, 0.98)


def raced(right: NDArray[np.bool_], plan: Sequence[Round]) -> NDArray[np.int64]:
    """Return the winner of each run's race."""
    score = right.cumsum(-1)
    return np.array([_winner(score[run], plan) for run in range(len(right))])


def _winner(score: NDArray[np.int64], plan: Sequence[Round]) -> int:
    alive = list(range(plan[0].keep))
    for at, now in enumerate(plan):
        keep = plan[at + 1].keep if at + 1 < len(plan) else 1
        scores = [CandidateScore(int(score[candidate, now.samples - 1]), None, 0) for candidate in alive]
        alive = [alive[best] for best in survivors(scores, keep)]
    return alive[0]


def evenly(right: NDArray[np.bool_], each: int) -> NDArray[np.int64]:
    """Return the winner of each run when every candidate is asked ``each`` samples."""
    winners: NDArray[np.int64] = right[..., :each].sum(-1).argmax(1)
    return winners


def regret_table(draws: np.random.Generator, runs: int) -> Rows:
    """Return a row for each size of dev and way to spend the calls."""
    rows: Rows = []
    for dev in DEV_SIZES:
        accuracy = accuracies(draws, runs, ACCURACY, SPREAD)
        paired = world(draws, accuracy, dev, SHARED_DIFFICULTY)
        unpaired = world(draws, accuracy, dev, 0.0)
        plan = rounds(CANDIDATES, dev, BUDGET)
        each = BUDGET // CANDIDATES
        for name, spent, chosen in (
            ("race", calls(plan), raced(paired.right, plan)),
            ("even, paired", each * CANDIDATES, evenly(paired.right, each)),
            ("even, unpaired", each * CANDIDATES, evenly(unpaired.right, each)),
            ("all of dev", dev * CANDIDATES, evenly(paired.right, dev)),
        ):
            regret = paired.regret(chosen)
            error = float(regret.std() / np.sqrt(runs))
            rows.append({"dev": dev, "way": name, "calls": spent, "regret": float(regret.mean()), "+-": error})
    return rows


def savings_table(draws: np.random.Generator, runs: int, budgets: Sequence[int]) -> Rows:
    """Return a row a budget: how many calls even spending needs to choose as well as the race does."""
    rows: Rows = []
    dev = max(DEV_SIZES)
    played = world(draws, accuracies(draws, runs, ACCURACY, SPREAD), dev, SHARED_DIFFICULTY)
    even = [float(played.regret(evenly(played.right, each)).mean()) for each in range(1, dev + 1)]
    for budget in budgets:
        plan = rounds(CANDIDATES, dev, budget)
        regret = float(played.regret(raced(played.right, plan)).mean())
        needed = CANDIDATES * next((each for each, points in enumerate(even, 1) if points <= regret), dev)
        saved = 1 - calls(plan) / needed
        shown = " ".join(f"{now.keep}x{now.samples}" for now in plan)
        rows.append(
            {"plan": shown, "calls": calls(plan), "regret": regret, "even calls for that": needed, "saved": saved}
        )
    return rows


def winner_table(draws: np.random.Generator, runs: int) -> Rows:
    """Return a row for each size of dev and quality of the field: how often the gate takes the race's winner.

    ``gain`` is that of the average candidate; ``written`` adds the holdout, half the size of dev.
    """
    rows: Rows = []
    for dev in DEV_SIZES:
        for gain, spread in ((0.0, 0.0), (-0.05, SPREAD), (0.0, SPREAD), (0.05, SPREAD)):
            accuracy = np.full((runs, CANDIDATES + 1), ACCURACY)
            accuracy[:, 1:] = accuracies(draws, runs, ACCURACY + gain, spread)
            played = world(draws, accuracy, dev + dev // 2, SHARED_DIFFICULTY)
            chosen = 1 + raced(played.right[:, 1:, :dev], rounds(CANDIDATES, dev, BUDGET))
            row: dict[str, object] = {"dev": dev, "gain": gain, "spread": spread}
            row["winner's gain"] = float((accuracy[np.arange(runs), chosen] - ACCURACY).mean())
            for alpha in (ALPHA, ALPHA / 2, ALPHA / 5):
                taken, written = _taken(played, chosen, dev, alpha)
                row |= {f"accepted at {alpha:.2f}": taken, f"written at {alpha:.2f}": written}
            rows.append(row)
    return rows


def _taken(played: World, chosen: NDArray[np.int64], dev: int, alpha: float) -> tuple[float, float]:
    """Return how often candidate 0 loses its place to the chosen one at the gate, and that on the holdout too."""
    winner = played.right[np.arange(len(chosen)), chosen]
    wins, losses = winner & ~played.right[:, 0], played.right[:, 0] & ~winner
    gate = cache(partial(judge, alpha=alpha))
    taken = np.array([_passes(gate, won, lost) for won, lost in zip(wins[:, :dev], losses[:, :dev], strict=True)])
    held = [holds_up(won, lost) for won, lost in zip(wins[:, dev:].sum(1), losses[:, dev:].sum(1), strict=True)]
    return float(taken.mean()), float((taken & np.array(held)).mean())


def _passes(gate: Rule, wins: NDArray[np.bool_], losses: NDArray[np.bool_]) -> bool:
    total = len(wins)
    verdicts = (
        gate(int(wins[:seen].sum()), int(losses[:seen].sum()), seen, total)
        for seen in [*range(BLOCK, total, BLOCK), total]
    )
    return next(verdict for verdict in verdicts if verdict != "go on") == "accept"


def tables(_: Path, size: Size) -> Iterator[Table]:
    """Compute and simulate."""
    runs, draws = RUNS[size], np.random.default_rng(0)
    yield Table("The gate on candidates that are no better (exact)", gate_table([0.0], [0.1, 0.2, 0.3, 0.5]))
    gains = [-0.1, -0.05, 0.05, 0.08, 0.1, 0.15]
    yield Table("The gate on better and worse candidates (exact)", gate_table(gains, [DISCORDANT]))
    gains = [-0.15, -0.1, -0.05, -0.02, 0.0, 0.05, 0.1]
    yield Table("Pruning on dev, and the holdout's last word, by size (exact)", staying_table(gains))
    yield Table("Regret in points, 16 candidates", regret_table(draws, runs))
    yield Table("Calls that the race saves, 90 dev samples", savings_table(draws, runs, [100, 200, 400, 800]))
    yield Table("The race's winner at the gate, on the same dev", winner_table(draws, runs))


if __name__ == "__main__":
    main("tuning_statistics", tables, __doc__)
