"""Shared by the benchmarks: timed processes, medians over interleaved runs, tables, and the command line."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.support.repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Row = dict[str, object]
    Tables = Callable[[Path, "Size"], Iterator["Table"]]
    """What a topic is: measures in an empty folder, and yields a table as soon as it is known."""

Size = Literal["tiny", "usual", "full"]
"""How much is measured: to see that it works, in a few minutes, or all of it."""

RUNS: dict[Size, int] = {"tiny": 1, "usual": 3, "full": 3}
HIDDEN = ("CI", "GITHUB_ACTIONS", "PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class Timing:
    """Wall and CPU seconds and peak resident memory (MiB) of one finished process, and what it printed."""

    seconds: float
    cpu: float
    peak_mib: float
    output: str = ""


@dataclass(frozen=True)
class Table:
    """What a topic found."""

    title: str
    rows: Sequence[Row]


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a measured process: ours is importable, and it does not think it is in CI."""
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, **more}


def timed(command: Sequence[str], folder: Path, *, may_end: Iterable[int] = (0,), **variables: str) -> Timing:
    """Run a command to its end and return what it took; raise when it ends in another way than it may."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in may_end:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{output[-3000:]}")
    return Timing(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output)


def interleaved(runs: int, commands: Mapping[str, Callable[[], Timing]]) -> dict[str, list[Timing]]:
    """Run every command ``runs`` times in turn, after one round that does not count."""
    timings: dict[str, list[Timing]] = {name: [] for name in commands}
    for at in range(runs + 1):
        for name, command in commands.items():
            timing = command()
            if at:
                timings[name].append(timing)
    return timings


def median_seconds(timings: Sequence[Timing]) -> float:
    """Return the median wall time in seconds."""
    return statistics.median(timing.seconds for timing in timings)


def median_mib(timings: Sequence[Timing]) -> float:
    """Return the median of the peak memory in MiB."""
    return statistics.median(timing.peak_mib for timing in timings)


def paired_ratio(timings: Sequence[Timing], floor: Sequence[Timing]) -> float:
    """Return the median of the ratios run by run, which holds when the machine's speed drifts."""
    return statistics.median(a.seconds / b.seconds for a, b in zip(timings, floor, strict=True))


def paired_cpu_ratio(timings: Sequence[Timing], floor: Sequence[Timing]) -> float:
    """Return the same of the CPU seconds, which hold when other processes want the machine too."""
    return statistics.median(a.cpu / b.cpu for a, b in zip(timings, floor, strict=True))


def median_row(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of every column over runs of the same measurement."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def pytest_command(*arguments: str) -> list[str]:
    """Return the command line of pytest; hypothesis' plugin, which imports all of it at the end, is left out."""
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments]


def record_command(*arguments: str) -> list[str]:
    """Return the command line that records what is missing."""
    return pytest_command("--promptfit", "--promptfit-record", *arguments)


def module_command(module: str, *arguments: object) -> list[str]:
    """Return the command line of one of the benchmarks' own modules."""
    return [sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, arguments)]


def lines_of(table: Table) -> Iterator[str]:
    """Yield a table as a person reads it."""
    columns = list(table.rows[0])
    cells = [[_shown(row[column]) for column in columns] for row in table.rows]
    widths = [max(len(column), *(len(line[at]) for line in cells)) for at, column in enumerate(columns)]
    yield table.title
    for line in [columns, *cells]:
        yield "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main(topic: str, tables: Tables, about: str | None) -> None:
    """Measure a topic as the command line says: print its tables as they come, and write them as JSON."""
    size, path = _parsed(about)
    folder = Path(tempfile.mkdtemp(prefix=f"promptfit-{topic}-"))
    found: list[Row] = []
    try:
        for table in tables(folder, size):
            print(*lines_of(table), "", sep="\n", flush=True)
            found.append({"title": table.title, "rows": list(table.rows)})
    finally:
        shutil.rmtree(folder)
    _write(path, size, {topic: found})


def main_of_all(topics: Sequence[str], about: str | None) -> None:
    """Measure several topics as the command line says.

    Each has a process of its own: a process that has grown would be taken for the peak of those it starts.
    """
    size, path = _parsed(about)
    found: Row = {}
    with tempfile.TemporaryDirectory() as folder:
        for topic in topics:
            part = Path(folder) / f"{topic}.json"
            command = module_command(topic, f"--{size}", "--json", part)
            subprocess.run(command, cwd=ROOT, env=environment(), check=True)
            found |= json.loads(part.read_text(encoding="utf-8"))["topics"]
    _write(path, size, found)


def _parsed(about: str | None) -> tuple[Size, Path | None]:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = parser.add_mutually_exclusive_group()
    told = {"tiny": "only to see that it works", "usual": "what ends in some minutes", "full": "the large sizes too"}
    for size, what in told.items():
        sizes.add_argument(f"--{size}", dest="size", action="store_const", const=size, default="usual", help=what)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the tables as JSON")
    chosen = parser.parse_args()
    return chosen.size, chosen.json


def _write(path: Path | None, size: Size, topics: Mapping[str, object]) -> None:
    if path is not None:
        report = {"version": 1, "size": size, "machine": _machine(), "topics": topics}
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _machine() -> Row:
    return {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
