"""The table's figures as values and as Markdown: shares with their intervals, and each cell paired with others."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

from pytest_promptfit.evaluation.metrics import wilson_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.benchmarks.table import Cell

NAMES = {
    "start": "start prompt",
    "free": "TF-IDF and logistic regression",
    "ours": "`--tune`, no optimizer model",
    "ours+optimizer": "`--tune`, with one",
    "gepa": "GEPA",
    "bfrs": "DSPy BootstrapFewShotWithRandomSearch",
    "mipro": "DSPy MIPROv2 light",
}


@dataclass(frozen=True)
class Paired:
    """A cell against another on the same test rows: how many it fixed and broke, and the two-sided exact p."""

    fixed: int
    broke: int

    @property
    def p_value(self) -> float:
        """McNemar's exact test: how often as many changed rows part so unevenly, or more so, by chance."""
        changed, fewer = self.fixed + self.broke, min(self.fixed, self.broke)
        return min(1.0, 2 * sum(math.comb(changed, k) for k in range(fewer + 1)) / 2**changed)


def paired(cell: Cell, other: Cell) -> Paired:
    """Return how a cell differs from another."""
    pairs = list(zip(cell.right, other.right, strict=True))
    return Paired(sum(new > old for new, old in pairs), sum(new < old for new, old in pairs))


def figures(found: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return each cell with its interval, and against the start and ours (of its own seed, else of the first)."""
    by_place = {(cell.task, cell.row, cell.seed): cell for cell in reversed(found)}
    firsts = {(cell.task, cell.row): cell for cell in reversed(found)}
    listed = []
    for cell in found:
        against = {}
        for row in ("start", "ours"):
            other = by_place.get((cell.task, row, cell.seed)) or firsts.get((cell.task, row))
            if other is not None and row != cell.row:
                pair = paired(cell, other)
                against[row] = {**asdict(pair), "p": float(f"{pair.p_value:.3g}")}
        low, high = wilson_interval(sum(cell.right), len(cell.right))
        listed.append(
            {
                **asdict(cell),
                "right": "".join(map(str, cell.right)),
                "accuracy": round(cell.accuracy, 4),
                "interval": [round(low, 4), round(high, 4)],
                "against": against,
            }
        )
    return listed


def markdown(found: Sequence[Cell], tasks: Sequence[str], rows: Sequence[str]) -> Iterator[str]:
    """Yield the lines of two tables: the mean over seeds by task, and every cell."""
    yield from _line(["test accuracy", *tasks, "mean"])
    yield from _line(["---"] * (len(tasks) + 2))
    for row in rows:
        by_task = {task: [c.accuracy for c in found if (c.task, c.row) == (task, row)] for task in tasks}
        means = [mean(some) for some in by_task.values() if some]
        shown = [_share(mean(some)) if some else "not run" for some in by_task.values()]
        yield from _line([NAMES[row], *shown, _share(mean(means)) if len(means) == len(tasks) else "–"])
    yield ""
    columns = ("task", "row", "seed", "right (95 % interval)", "unread", "against start", "against ours")
    columns += ("task calls", "optimizer calls", "tokens", "seconds", "a call, tokens", "a call, seconds")
    yield from _line(columns)
    yield from _line(["---"] * len(columns))
    for figure in sorted(figures(found), key=lambda one: (tasks.index(one["task"]), rows.index(one["row"]))):
        yield from _line(_columns(figure))


def _columns(figure: dict[str, Any]) -> Iterator[str]:
    low, high = figure["interval"]
    yield from (figure["task"], NAMES[figure["row"]], str(figure["seed"]))
    yield f"{_share(figure['accuracy'])} ({_share(low)} to {_share(high)})"
    yield str(figure["unread"])
    for row in ("start", "ours"):
        pair = figure["against"].get(row)
        yield f"+{pair['fixed']} −{pair['broke']}, {_p(pair['p'])}" if pair else "–"
    tuning, test, count = figure["tuning"], figure["test"], len(figure["right"])
    yield from (str(tuning["calls"]), str(tuning["optimizer_calls"]))
    yield f"{tuning['input_tokens'] + tuning['output_tokens']:,}"
    yield f"{tuning['seconds']:.0f}"
    yield f"{(test['input_tokens'] + test['output_tokens']) / count:.0f}"
    yield f"{test['seconds'] / count:.2f}"


def _p(value: float) -> str:
    return "p < .001" if value < 0.001 else f"p {_share(value)}"


def _share(share: float) -> str:
    return f"{share:.3f}".removeprefix("0")


def _line(cells: Iterable[str]) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"
