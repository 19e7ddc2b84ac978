"""Recording from a server that refuses, fails and dawdles: ``python -m tests.benchmarks.rate_limits``.

The server on loopback allows R replies a second and answers 429 with ``retry-after: 1`` to the rest; or it fails,
cuts connections, takes its time. The floor is the OpenAI SDK alone, with as many retries, recording nothing.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.benchmarks.asking import Cell
from tests.benchmarks.measuring import RUNS, Table, main, median_row, module_command, record_command, timed
from tests.benchmarks.model_server import Behaviour, counts, running
from tests.benchmarks.projects import write_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.benchmarks.measuring import Row, Size

LATENCY = 0.05
SECONDS: dict[Size, float] = {"tiny": 0.1, "usual": 5.0, "full": 30.0}
"""What a scenario takes at the rate that it allows."""

SLOW: dict[Size, float] = {"tiny": 0.2, "usual": 3.0, "full": 30.0}
"""Seconds of a slow reply."""

STEADY = (0.2, 0.8)
"""The shares of all replies between which the rate is measured: neither the first burst nor the last stragglers."""


@dataclass(frozen=True)
class Scenario:
    """A server, and how it is asked; the time is that of ``rate`` replies a second."""

    name: str
    behaviour: Behaviour
    concurrency: int
    rate: float


def scenarios(size: Size) -> list[Scenario]:
    """Return what is measured."""
    limited = [
        Scenario(f"{rate} a second, {at_once} at once", Behaviour(latency=LATENCY, rate=rate), at_once, rate)
        for rate, at_once in ((100, 16), (100, 64), (20, 16), (20, 64))
    ]
    faults = Behaviour(latency=LATENCY, errors=0.05, cuts=0.05)
    both = Behaviour(latency=LATENCY, rate=100, errors=0.05, cuts=0.05)
    slow = Behaviour(latency=LATENCY, slow=0.01, slow_seconds=SLOW[size])
    found = [
        *limited,
        Scenario("5 % 500s and 5 % cut connections", faults, 16, 16 / LATENCY),
        Scenario("100 a second, and these faults", both, 16, 100),
        Scenario(f"1 % of the replies take {SLOW[size]:g} s", slow, 16, 16 / (LATENCY + 0.01 * SLOW[size])),
    ]
    return [found[1], found[4]] if size == "tiny" else found


def tables(folder: Path, size: Size) -> Iterator[Table]:
    """Measure every scenario, ours and the SDK alone in turn."""
    rows = [_measured(folder / str(at), scenario, size) for at, scenario in enumerate(scenarios(size))]
    yield Table("Recording under limits and faults (twice: replies that were paid for again)", rows)


def _measured(project: Path, scenario: Scenario, size: Size) -> Row:
    cases = max(10, round(scenario.rate * SECONDS[size]))
    ours, sdk = [], []
    for _ in range(RUNS[size]):
        ours.append(_ours(project, scenario, cases))
        sdk.append(_sdk(project, scenario, cases))
    found, floor = median_row(ours), median_row(sdk)
    return {
        "server": scenario.name,
        "cases": cases,
        "share of R": found["share"],
        "SDK alone": floor["share"],
        "lost": max(run["lost"] for run in ours),
        "SDK lost": max(run["lost"] for run in sdk),
        "recorded other than 200": max(run["bad"] for run in ours),
        "429s": found["429"],
        "twice": max(run["twice"] for run in ours),
        "whole run s": found["seconds"],
        "at R s": cases / scenario.rate,
    }


def _ours(project: Path, scenario: Scenario, cases: int) -> dict[str, float]:
    """Record into an empty folder; a lost case fails the run, which is told here as a figure."""
    shutil.rmtree(project, ignore_errors=True)
    with running(scenario.behaviour) as url:
        write_project(project, cases, url)
        options = (f"--promptfit-concurrency={scenario.concurrency}", "--promptfit-json=report.json")
        timing = timed(record_command(*options), project, may_end=(0, 1))
        server = counts(url)
    (prompt,) = json.loads((project / "report.json").read_text())["prompts"]
    lost = cases - sum(case["status"] in ("right", "wrong") for case in prompt["cases"])
    statuses = _recorded_statuses(project / "cassettes")
    bad = sum(status != 200 for status in statuses) + abs(len(statuses) - (cases - lost))
    return {"seconds": timing.seconds, "lost": lost, "bad": bad, **_of_server(server, scenario)}


def _sdk(project: Path, scenario: Scenario, cases: int) -> dict[str, float]:
    with running(scenario.behaviour) as url:
        path = write_project(project, cases, url)
        timing = timed(module_command("asking", "sdk", Cell(path, scenario.concurrency, cases)), project)
        server = counts(url)
    told = json.loads(next(line for line in timing.output.splitlines() if line.startswith("{")))
    return {"seconds": timing.seconds, "lost": told["lost"], **_of_server(server, scenario)}


def _of_server(server: Mapping[str, Any], scenario: Scenario) -> dict[str, float]:
    """Return what the server tells: the share of its rate that was reached, and what it refused."""
    return {
        "share": _steady_rate(server["times"]) / scenario.rate,
        "429": server.get("429", 0),
        "twice": server["twice"],
    }


def _steady_rate(times: Sequence[float]) -> float:
    first, last = (int(len(times) * share) for share in STEADY)
    return (last - first) / (times[last] - times[first])


def _recorded_statuses(folder: Path) -> list[int]:
    lines = (line for path in folder.rglob("*.yaml") for line in path.read_text().splitlines())
    return [json.loads(line[2:])["response"]["status"]["code"] for line in lines if line.startswith("- {")]


if __name__ == "__main__":
    main("rate_limits", tables, __doc__)
