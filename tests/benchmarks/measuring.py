"""Shared by the benchmarks: timed subprocesses, a project of N cases, its do-nothing floor, a table."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

FLOOR_CONFTEST = """
import pytest, yaml

def pytest_collect_file(parent, file_path):
    if file_path.suffix == ".yaml":
        return DoNothingFile.from_parent(parent, path=file_path)

class DoNothingFile(pytest.File):
    def collect(self):
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        for name in yaml.load(self.path.read_text(), Loader=loader)["items"]:
            yield DoNothing.from_parent(self, name=name)

class DoNothing(pytest.Item):
    def runtest(self):
        pass

    def reportinfo(self):
        return self.path, None, self.name
"""

PROMPT = """
name: bench
model: {{provider: openai, name: bench-model, base_url: "{url}"}}
params: {{temperature: 0, max_tokens: 20}}
prompt:
  system_prompt: Classify the text as even or odd.
  user_prompt_prefix: "<text>"
  user_prompt_suffix: "</text> End with Label: <label>even</label> or <label>odd</label>."
labels: [even, odd]
samples: {{file: samples.csv, id: id}}
cases: gated
"""


@dataclass(frozen=True)
class Timing:
    """Wall seconds and peak resident memory (MiB) of one finished process."""

    seconds: float
    peak_mib: float


def timed(command: Sequence[str], folder: Path) -> Timing:
    """Run a command to its end and return what it took; raise when it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "GITHUB_ACTIONS")}
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{output.decode()[-3000:]}")
    return Timing(seconds, usage.ru_maxrss / 1024)


def interleaved(runs: int, commands: dict[str, Callable[[], Timing]]) -> dict[str, list[Timing]]:
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


def pytest_command(*arguments: str) -> list[str]:
    """Return the command line of pytest in this environment."""
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]


def write_project(folder: Path, cases: int, url: str) -> None:
    """Write a prompt file with ``cases`` samples."""
    folder.mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "bench.prompt.yaml").write_text(PROMPT.format(url=url))
    texts = [f"Ticket {n}: is the number {n * 7919 % 10007} in this text even or odd?" for n in range(cases)]
    rows = [f"{n:06d},{text},{'odd' if n % 2 else 'even'}" for n, text in enumerate(texts)]
    (folder / "samples.csv").write_text("\n".join(["id,text,label", *rows]) + "\n")


def write_floor(folder: Path, cases: int) -> None:
    """Write as many do-nothing YAML items."""
    folder.mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(textwrap.dedent(FLOOR_CONFTEST))
    (folder / "items.yaml").write_text("items:\n" + "".join(f"- sample-{n:06d}\n" for n in range(cases)))


def print_table(title: str, rows: Sequence[dict[str, object]]) -> None:
    """Print rows as a table, and as one line of JSON for machines."""
    print(f"\n{title}")
    columns = list(rows[0])
    cells = [[_shown(row[column]) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[at]) for line in cells)) for at, column in enumerate(columns)]
    for line in [columns, *cells]:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print(json.dumps({"title": title, "rows": rows}))


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
