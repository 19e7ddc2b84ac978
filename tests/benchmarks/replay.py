"""Replay against its floor and its peers: ``python -m tests.benchmarks.replay``.

The floor is pytest running as many YAML items that do nothing; the peers are stock vcrpy on one cassette, and
pytest-recording with a file a case. Recordings come from a server on loopback that answers at once.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from tests.benchmarks import model_server
from tests.benchmarks.measuring import (
    RUNS,
    Table,
    Timing,
    interleaved,
    main,
    median_mib,
    median_seconds,
    paired_cpu_ratio,
    paired_ratio,
    pytest_command,
    record_command,
    timed,
)
from tests.benchmarks.memory_owners import MARK
from tests.benchmarks.projects import write_floor, write_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.benchmarks.measuring import Row, Size

CASES: dict[Size, list[int]] = {"tiny": [10], "usual": [100, 1000, 10_000], "full": [100, 1000, 10_000, 50_000]}
PEER_CASES: dict[Size, int] = {"tiny": 10, "usual": 200, "full": 1000}
START_UPS: dict[Size, int] = {"tiny": 1, "usual": 9, "full": 15}
OWNERS_SHOWN = 12

PAYLOADS = """
import json
from pathlib import Path
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples
from pytest_promptfit.providers.wire import Wire

parsed = parse_prompt_file(Path("bench.prompt.yaml"))
samples = read_samples(parsed)
wire = Wire(parsed.config, samples.labels, Path("."))
URL = parsed.config.model.base_url
CALLS = [(sample.id, wire.payload(sample.text)) for sample in samples.samples]
"""

STOCK = (
    PAYLOADS
    + """
import openai, vcr
(cassette,) = Path("cassettes/bench").glob("*.yaml")
recorder = vcr.VCR(record_mode="none", match_on=["method", "uri", "body"])
client = openai.OpenAI(api_key="none", base_url=URL, max_retries=0)
with recorder.use_cassette(str(cassette)):
    for _, payload in CALLS:
        assert client.chat.completions.create(**payload).choices
"""
)

A_FILE_A_CASE = (
    PAYLOADS
    + """
import openai, pytest

@pytest.fixture(scope="module")
def client():
    return openai.OpenAI(api_key="none", base_url=URL, max_retries=0)

@pytest.mark.vcr(match_on=["method", "uri", "body"])
@pytest.mark.parametrize("payload", [pytest.param(payload, id=name) for name, payload in CALLS])
def test_sample(client, payload):
    assert client.chat.completions.create(**payload).choices
"""
)


def tables(folder: Path, size: Size) -> Iterator[Table]:
    """Measure start-up, replay by size, whose memory it is, and the peers."""
    yield Table("Start-up of a plain pytest", [_start_up(folder, START_UPS[size])])
    rows = [_replay(folder, cases, RUNS[size]) for cases in CASES[size]]
    yield Table("Replay against YAML items that do nothing", _with_growth(rows))
    cases = min(10_000, CASES[size][-1])
    title = f"Bytes a case held at the end, by whose line made them; {cases} cases"
    yield Table(title, _owners(folder / f"project-{cases}", folder / f"floor-{cases}", cases))
    yield Table("The same recordings, replayed by peers through the SDK", [_peers(folder, PEER_CASES[size], size)])


def _start_up(folder: Path, runs: int) -> Row:
    """Return what a plain pytest with one test takes, with the plugin installed and with it blocked."""
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
    return {"with us s": with_us, "without s": without, "difference ms": (with_us - without) * 1000}


def _replay(folder: Path, cases: int, runs: int) -> Row:
    """Return replay and floor at one size, in seconds and MiB."""
    project, floor = folder / f"project-{cases}", folder / f"floor-{cases}"
    recording = _recorded(project, cases)
    write_floor(floor, cases)
    commands: dict[str, Callable[[], Timing]] = {
        "replay": lambda: timed(pytest_command("--promptfit"), project),
        "floor": lambda: timed(pytest_command("items.yaml"), floor),
    }
    timings = interleaved(runs, commands)
    replay, plain = timings["replay"], timings["floor"]
    return {
        "cases": cases,
        "replay s": median_seconds(replay),
        "floor s": median_seconds(plain),
        "ratio": paired_ratio(replay, plain),
        "CPU ratio": paired_cpu_ratio(replay, plain),
        "replay MiB": median_mib(replay),
        "floor MiB": median_mib(plain),
        "kB a case above the floor": (median_mib(replay) - median_mib(plain)) * 1.048576e3 / cases,
        "recording s": recording.seconds,
    }


def _with_growth(rows: list[Row]) -> list[Row]:
    """Add what each further case takes, which leaves out what is taken once: imports above all."""

    def grown(row: Row, before: Row, column: str) -> float:
        return float(row[column]) - float(before[column])  # type: ignore[arg-type]

    for before, row in zip([None, *rows], rows, strict=False):
        more = grown(row, before, "cases") if before else 0.0
        row["ms each further case"] = "" if before is None else grown(row, before, "replay s") / more * 1000
        row["its floor ms"] = "" if before is None else grown(row, before, "floor s") / more * 1000
        kilobytes = before and grown(row, before, "replay MiB") - grown(row, before, "floor MiB")
        row["kB each further case"] = "" if kilobytes is None else kilobytes * 1.048576e3 / more
    return rows


def _owners(project: Path, floor: Path, cases: int) -> list[Row]:
    """Return a row for each owner, the largest first."""
    ours = _held(pytest_command("-p", "tests.benchmarks.memory_owners", "--promptfit"), project)
    plain = _held(pytest_command("-p", "tests.benchmarks.memory_owners", "items.yaml"), floor)
    names = sorted(set(ours) - {"all together"}, key=lambda name: -(ours[name] - plain.get(name, 0)))[:OWNERS_SHOWN]
    return [
        {"owner": name, "replay": ours[name] / cases, "floor": plain.get(name, 0) / cases}
        for name in [*names, "all together"]
    ]


def _held(command: list[str], folder: Path) -> dict[str, int]:
    output = timed(command, folder, PYTHONTRACEMALLOC="1").output
    line = next(line for line in output.splitlines() if line.startswith(MARK))
    held: dict[str, int] = json.loads(line.removeprefix(MARK))
    return {**held, "all together": sum(held.values())}


def _peers(folder: Path, cases: int, size: Size) -> Row:
    """Return our time and those of stock vcrpy and pytest-recording, on the same requests and replies."""
    project = folder / f"peers-{cases}"
    with model_server.running() as url:
        _record(project, cases, url)
        peer = folder / "a-file-a-case"
        peer.mkdir()
        for name in ("bench.prompt.yaml", "bench.csv", "pytest.ini"):
            (peer / name).write_text((project / name).read_text())
        (peer / "test_cases.py").write_text(A_FILE_A_CASE)
        timed(pytest_command("--record-mode=once"), peer)
    commands: dict[str, Callable[[], Timing]] = {
        "ours": lambda: timed(pytest_command("--promptfit"), project),
        "stock vcrpy": lambda: timed([sys.executable, "-c", STOCK], project),
        "pytest-recording": lambda: timed(pytest_command("--record-mode=none", "--block-network"), peer),
    }
    timings = interleaved(RUNS[size], commands)
    ours = timings["ours"]
    row: Row = {"cases": cases}
    for name, found in timings.items():
        row[f"{name} s"] = median_seconds(found)
        if found is not ours:
            row[f"{name} / ours"] = paired_ratio(found, ours)
    return row


def _recorded(project: Path, cases: int) -> Timing:
    with model_server.running() as url:
        return _record(project, cases, url)


def _record(project: Path, cases: int, url: str) -> Timing:
    write_project(project, cases, url)
    return timed(record_command(), project)


if __name__ == "__main__":
    main("replay", tables, __doc__)
