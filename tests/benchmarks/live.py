"""Asking a model that takes its time: ``python -m tests.benchmarks.live``.

The model is a server on loopback, in a process of its own, that answers after a fixed latency. The floors are the
ideal, calls x latency / concurrency, and the OpenAI SDK alone in one event loop, which records nothing.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.benchmarks.asking import Cell
from tests.benchmarks.measuring import (
    RUNS,
    Table,
    interleaved,
    main,
    median_row,
    median_seconds,
    module_command,
    record_command,
    timed,
)
from tests.benchmarks.model_server import Behaviour, running
from tests.benchmarks.projects import write_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.benchmarks.measuring import Row, Size, Timing

LATENCY, CONCURRENCY = 0.05, 50
CASES: dict[Size, int] = {"tiny": 20, "usual": 1000, "full": 1000}
LATENCIES: dict[Size, list[float]] = {"tiny": [0.01], "usual": [0.01, 0.05, 0.5], "full": [0.01, 0.05, 0.5]}
AT_ONCE: dict[Size, list[int]] = {
    "tiny": [1, 8],
    "usual": [1, 16, 64, 256],
    "full": [1, 4, 16, 32, 64, 128, 256],
}
SECONDS: dict[Size, float] = {"tiny": 0.1, "usual": 1.0, "full": 3.0}
"""What a cell of the sweep would take if nothing but the server took time."""

MOST_CALLS: dict[Size, int] = {"tiny": 20, "usual": 1000, "full": 3000}


def tables(folder: Path, size: Size) -> Iterator[Table]:
    """Measure a whole process, then the asking alone, by latency and concurrency."""
    title = f"A whole process, {LATENCY * 1000:.0f} ms latency, concurrency {CONCURRENCY}, recording included"
    yield Table(title, [_whole_process(folder / "whole", CASES[size], RUNS[size])])
    yield Table("Asking alone: calls a second, and what the asking thread takes", _sweep(folder, size))


def _whole_process(project: Path, cases: int, runs: int) -> Row:
    with running(Behaviour(latency=LATENCY)) as url:
        path = write_project(project, cases, url)

        def ours() -> Timing:
            shutil.rmtree(project / "cassettes", ignore_errors=True)
            return timed(record_command(f"--promptfit-concurrency={CONCURRENCY}"), project)

        def sdk() -> Timing:
            return timed(module_command("asking", "sdk", Cell(path, CONCURRENCY, cases)), project)

        timings = interleaved(runs, {"ours": ours, "sdk": sdk})
    return {
        "cases": cases,
        "ideal s": cases * LATENCY / CONCURRENCY,
        "ours s": median_seconds(timings["ours"]),
        "SDK alone s": median_seconds(timings["sdk"]),
    }


def _sweep(folder: Path, size: Size) -> list[Row]:
    with ExitStack() as servers:
        cells: dict[tuple[float, int], Cell] = {}
        for latency in LATENCIES[size]:
            url = servers.enter_context(running(Behaviour(latency=latency)))
            path = write_project(folder / f"latency-{latency}", MOST_CALLS[size], url)
            for at_once in AT_ONCE[size]:
                cells[latency, at_once] = Cell(path, at_once, _calls(latency, at_once, size))
        runs = [{way: _asked(way, list(cells.values()), folder) for way in ("ours", "sdk")} for _ in range(RUNS[size])]
    rows: list[Row] = []
    for at, (latency, at_once) in enumerate(cells):
        ours, sdk = (median_row([run[way][at] for run in runs]) for way in ("ours", "sdk"))
        ideal, most = at_once / latency, 1 / ours["cpu"]
        rows.append(
            {
                "latency ms": latency * 1000,
                "at once": at_once,
                "calls": cells[latency, at_once].calls,
                "ideal calls/s": ideal,
                "ours calls/s": 1 / ours["seconds"],
                "SDK alone calls/s": 1 / sdk["seconds"],
                "our CPU ms a call": ours["cpu"] * 1000,
                "SDK's": sdk["cpu"] * 1000,
                "most calls/s on one core": most,
                "limit": "our CPU" if most < ideal else "the server",
            }
        )
    return rows


def _calls(latency: float, at_once: int, size: Size) -> int:
    """Return how many calls fill the seconds of a cell; at least three for each that is in flight."""
    return min(MOST_CALLS[size], max(3 * at_once, round(SECONDS[size] * at_once / latency)))


def _asked(way: str, cells: Sequence[Cell], folder: Path) -> list[dict[str, float]]:
    output = timed(module_command("asking", way, *cells), folder).output
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


if __name__ == "__main__":
    main("live", tables, __doc__)
