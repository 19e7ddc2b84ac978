"""Cassettes of many interactions: ``python -m tests.benchmarks.cassettes``.

Their replies are made up, everything else is as a recording does it. The floors are what cannot be left out:
writing as many bytes, in as many writes where replies are appended, and parsing as much JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_promptfit.cassettes.cassette import Asked, Cassette, cassette_paths
from pytest_promptfit.cassettes.recorder import Recorder, prune
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples
from pytest_promptfit.providers.wire import Wire
from tests.benchmarks.measuring import RUNS, Table, main, median_row
from tests.benchmarks.model_server import answer
from tests.benchmarks.projects import SYSTEM_PROMPT, text_of, write_project, write_samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.benchmarks.measuring import Row, Size

CASES: dict[Size, list[int]] = {"tiny": [20], "usual": [10_000], "full": [10_000, 100_000]}
DIFF_CASES: dict[Size, int] = {"tiny": 20, "usual": 10_000, "full": 10_000}
URL = "http://localhost/v1"
PRUNED = 100
"""One entry in so many is obsolete where pruning is measured."""


def tables(folder: Path, size: Size) -> Iterator[Table]:
    """Measure the files, then their diffs."""
    rows: list[Row] = []
    for cases in CASES[size]:
        project = folder / f"cases-{cases}"
        path = write_project(project, cases, URL)
        runs = [_files(path, project / f"cassettes-{at}") for at in range(RUNS[size])]
        rows += _file_rows(cases, median_row(runs))
    yield Table("Files: seconds, each with what cannot be left out", rows)
    yield Table(f"git, {DIFF_CASES[size]} cases: what a change costs", _diffs(folder / "git", DIFF_CASES[size]))


class Clock(dict[str, float]):
    """Seconds by name."""

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Time a block."""
        started = time.perf_counter()
        yield
        self[name] = time.perf_counter() - started


def _files(path: Path, folder: Path) -> Clock:
    """Append, compact, load and prune once, each followed by its floor; seconds by what was done."""
    clock = Clock()
    calls = _calls(path)
    with clock.time("all"), Recorder.open(folder) as recorder, clock.time("append"):
        _append(recorder, calls)
    clock["compact"] = clock.pop("all") - clock["append"]
    clock["bytes"] = sum(file.stat().st_size for file in cassette_paths(folder))
    content = [file.read_bytes() for file in cassette_paths(folder)]
    lines = [line for file in content for line in file.splitlines(keepends=True) if line.startswith(b"- {")]
    with clock.time("append floor"):
        _write(folder / "floor.tmp", lines)
    with clock.time("compact floor"):
        _write(folder / "floor.tmp", content)
    with clock.time("load"):
        cassette = Cassette.load(folder)
    with clock.time("load floor"):
        parsed = [json.loads(line[2:]) for line in lines]
    assert len(cassette) == len(parsed) == len(calls)
    with clock.time("append one"), Recorder.open(folder) as recorder:
        _append(recorder, [("one more", _payloads(path, ["number 1"])[0])])
    keep = [entry.key for at, entry in enumerate(cassette) if at % PRUNED]
    with clock.time("prune"):
        prune(folder, keep, cassette)
    clock["files"] = len(content)
    return clock


def _file_rows(cases: int, found: Mapping[str, float]) -> list[Row]:
    floors = {"append one": "compact floor", "prune": "compact floor"}
    return [
        {
            "cases": cases,
            "what": what,
            "s": found[what],
            "floor s": found[floors.get(what, f"{what} floor")],
            "µs a case": found[what] / cases * 1e6,
            "bytes a case": found["bytes"] / cases,
            "files": found["files"],
        }
        for what in ("append", "compact", "load", "append one", "prune")
    ]


def _calls(path: Path, system_prompt: str = SYSTEM_PROMPT) -> list[tuple[str, dict[str, object]]]:
    samples = read_samples(parse_prompt_file(path)).samples
    payloads = _payloads(path, [sample.text for sample in samples], system_prompt)
    return list(zip([sample.id for sample in samples], payloads, strict=True))


def _payloads(path: Path, texts: Sequence[str], system_prompt: str = SYSTEM_PROMPT) -> list[dict[str, object]]:
    config = parse_prompt_file(path).config
    prompt = config.prompt.model_copy(update={"system_prompt": system_prompt})
    wire = Wire(config, config.labels or (), path.parent, prompt=prompt)
    return [wire.payload(text) for text in texts]


def _append(recorder: Recorder, calls: Sequence[tuple[str, dict[str, object]]]) -> None:
    for sample, payload in calls:
        asked = Asked.of(f"{URL}/chat/completions", payload, sample)
        recorder.keep(asked.answered(json.dumps(answer(payload)), seconds=0.5))


def _write(path: Path, parts: Sequence[bytes]) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for part in parts:
        os.write(file, part)
    os.fsync(file)
    os.close(file)
    path.unlink()


def _diffs(project: Path, cases: int) -> list[Row]:
    """Return what git shows and sends for each kind of change, recorded and pruned as a session does it."""
    path = write_project(project, cases, URL)
    cassettes = project / "cassettes" / "bench"
    _git(project, "init", "--quiet")
    _recorded(path, cassettes)
    rows = [_committed(project, "the first recording")]
    write_samples(path, [text_of(n) if n else "Another ticket: is number 12 even or odd?" for n in range(cases)])
    _recorded(path, cassettes)
    rows.append(_committed(project, f"1 of {cases} samples"))
    _recorded(path, cassettes, SYSTEM_PROMPT.replace("text", "ticket"))
    return [*rows, _committed(project, "one word of the prompt")]


def _recorded(path: Path, folder: Path, system_prompt: str = SYSTEM_PROMPT) -> None:
    with Recorder.open(folder) as recorder:
        _append(recorder, _calls(path, system_prompt))
        asked = recorder.cassette.asked_keys()
    prune(folder, asked, recorder.cassette)


def _committed(project: Path, change: str) -> Row:
    """Commit what changed, and return the size of its diff and of what a push sends."""
    before = _git(project, "rev-parse", "--verify", "--quiet", "HEAD", check=False).decode().strip()
    _git(project, "add", "cassettes")
    _git(project, "commit", "--quiet", "--message", change)
    diff = _git(project, "show", "--format=", "HEAD")
    revisions = b"HEAD\n" + (f"^{before}\n".encode() if before else b"")
    pushed = _git(project, "pack-objects", "--revs", "--thin", "--stdout", "--quiet", stdin=revisions)
    size = sum(path.stat().st_size for path in cassette_paths(project / "cassettes" / "bench"))
    return {
        "change": change,
        "cassette bytes": size,
        "diff lines": diff.count(b"\n"),
        "diff bytes": len(diff),
        "pushed bytes": len(pushed),
    }


def _git(project: Path, *arguments: str, check: bool = True, stdin: bytes = b"") -> bytes:
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=project, check=check, input=stdin, capture_output=True).stdout


if __name__ == "__main__":
    main("cassettes", tables, __doc__)
