"""Replay against its floor and its peer: ``python -m tests.benchmarks.replay``.

The floor is pytest running as many do-nothing YAML items; the peer is stock vcrpy on one cassette.
Recordings come from a local server that answers at once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import instant_server
from tests.benchmarks.measuring import (
    Timing,
    interleaved,
    median_mib,
    median_seconds,
    paired_ratio,
    print_table,
    pytest_command,
    timed,
    write_floor,
    write_project,
)

if TYPE_CHECKING:
    from collections.abc import Callable

STOCK = """
import sys, json, time
import openai, vcr
from pathlib import Path
from pytest_promptfit.prompt_file import parse_prompt_file
from pytest_promptfit.samples import read_samples
from pytest_promptfit.wire import Wire

parsed = parse_prompt_file(Path("bench.prompt.yaml"))
samples = read_samples(parsed)
wire = Wire(parsed.config, samples.labels, Path("."))
(cassette,) = Path("cassettes/bench").glob("*.yaml")
recorder = vcr.VCR(record_mode="none", match_on=["method", "uri", "body"])
client = openai.OpenAI(api_key="none", base_url=parsed.config.model.base_url, max_retries=0)
with recorder.use_cassette(str(cassette)):
    for sample in samples.samples:
        assert client.chat.completions.create(**wire.payload(sample.text)).choices
"""


def replay_table(folder: Path, sizes: list[int], runs: int) -> list[dict[str, object]]:
    """Return a row a size: replay and floor, in seconds and MiB."""
    rows: list[dict[str, object]] = []
    for cases in sizes:
        project, floor = folder / f"project-{cases}", folder / f"floor-{cases}"
        with instant_server.running() as url:
            write_project(project, cases, url)
            recording = timed(pytest_command("--promptfit", "--promptfit-record"), project)
        write_floor(floor, cases)
        commands: dict[str, Callable[[], Timing]] = {
            "replay": lambda project=project: timed(pytest_command("--promptfit"), project),  # type: ignore[misc]
            "floor": lambda floor=floor: timed(pytest_command("items.yaml"), floor),  # type: ignore[misc]
        }
        timings = interleaved(runs, commands)
        replay, plain = timings["replay"], timings["floor"]
        rows.append(
            {
                "cases": cases,
                "replay s": median_seconds(replay),
                "floor s": median_seconds(plain),
                "ratio": paired_ratio(replay, plain),
                "replay MiB": median_mib(replay),
                "floor MiB": median_mib(plain),
                "KiB a case above the floor": (median_mib(replay) - median_mib(plain)) * 1024 / cases,
                "recording s": recording.seconds,
                "cassette bytes a case": _bytes(project) / cases,
            }
        )
    return rows


def stock_table(folder: Path, cases: int) -> list[dict[str, object]]:
    """Return one row: the same cassette, replayed by stock vcrpy through the SDK, and by us."""
    project = folder / f"stock-{cases}"
    with instant_server.running() as url:
        write_project(project, cases, url)
        timed(pytest_command("--promptfit", "--promptfit-record"), project)
    ours = timed(pytest_command("--promptfit"), project)
    stock = timed([sys.executable, "-c", STOCK], project)
    return [
        {"cases": cases, "ours s": ours.seconds, "stock s": stock.seconds, "times faster": stock.seconds / ours.seconds}
    ]


def start_up_table(folder: Path, runs: int) -> list[dict[str, object]]:
    """Return one row: a plain pytest with one test, with the plugin installed and with it blocked."""
    project = folder / "plain"
    project.mkdir()
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / "test_one.py").write_text("def test_one():\n    pass\n")
    timings = interleaved(
        runs,
        {
            "with": lambda: timed(pytest_command(), project),
            "without": lambda: timed(pytest_command("-p", "no:promptfit"), project),
        },
    )
    with_us, without = median_seconds(timings["with"]), median_seconds(timings["without"])
    return [{"with us s": with_us, "without s": without, "difference ms": (with_us - without) * 1000}]


def _bytes(project: Path) -> int:
    return sum(path.stat().st_size for path in (project / "cassettes").rglob("*.yaml"))


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--stock", type=int, default=1000, help="cases for stock vcrpy; 0 leaves it out")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print_table("Start-up of a plain pytest", start_up_table(folder, max(chosen.runs, 15)))
        print_table("Replay against do-nothing items", replay_table(folder, chosen.cases, chosen.runs))
        if chosen.stock:
            print_table("One cassette, stock vcrpy through the SDK against ours", stock_table(folder, chosen.stock))


if __name__ == "__main__":
    main()
