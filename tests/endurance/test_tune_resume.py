"""A tuning run is repeatable: offline from its recordings, and started again after kills at any time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import re
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tuning_models import (
    TuningModel,
    TuningProject,
    by_either,
    patch,
    patches,
    rows,
    tuning_project,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import ForkServerProcess

    from loopback_server import Answer, Seen

KILLS = 5
CONCURRENCY = 4
PRELOADED = (
    "openai",
    "genai_prices",
    "pytest",
    "pytest_promptfit.plugin.session",
    "pytest_promptfit.tuning.run",
    "pytest_promptfit.providers.http",
    "pytest_promptfit.providers.openai",
    "sklearn.feature_extraction.text",
    "vcr.serialize",
)
"""What a killed run would spend its time on before it does anything."""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[TuningProject]:
    with tuning_project(pytester, monkeypatch) as project:
        yield project


def write(project: TuningProject) -> bytes:
    """Write a prompt that needs examples, found by the race, and a rule, found by the optimizer."""
    project.model.task = by_either
    project.model.optimizer = lambda _: patches(patch(), patch(op="replace", find="Is", text="Say: is"))
    tune = {"model": project.optimizer_model(), "budget": {"task_calls": 220}, "iterations": 2}
    return project.prompt(rows(36), tune=tune).read_bytes()


def outcome(project: TuningProject) -> dict[str, Any]:
    """Return what two equal runs have in common: the files, and the report but for what was replayed."""
    (entry,) = project.entries()
    for name in ("replayed", "usd"):
        entry["usage"].pop(name)
    for cost in filter(None, entry["cost"].values()):
        cost.pop("seconds")  # how long a call takes is never the same
    return {
        "yaml": project.text(),
        "baseline": (project.path / "mood.baseline.json").read_bytes(),
        "recorded": recorded(project),
        "entry": entry,
    }


def recorded(project: TuningProject) -> dict[str, str]:
    """Return what is recorded, but for how long each reply took."""
    folder = project.path / "cassettes"
    return {
        str(path.relative_to(folder)): re.sub(r'"seconds": ?[0-9.e-]+', "", path.read_text(encoding="utf-8"))
        for path in folder.rglob("*.yaml")
    }


def start_anew(project: TuningProject, original: bytes) -> None:
    """Put back what was there before the run, but for the recordings."""
    (project.path / "mood.prompt.yaml").write_bytes(original)
    (project.path / "mood.baseline.json").unlink(missing_ok=True)


def test_recorded_run_is_repeated_offline_to_the_same_bytes(project: TuningProject) -> None:
    original = write(project)
    entry = project.tuned()
    assert entry["accepted"]
    assert {step["stage"] for step in entry["steps"] if step["accepted"]} >= {"examples", "reflect"}
    first = outcome(project)
    start_anew(project, original)
    project.model.go_down()
    assert project.tune().ret == 0
    (entry,) = project.entries()
    assert entry["usage"]["replayed"] == entry["usage"]["task_calls"] + entry["usage"]["optimizer_calls"]
    assert outcome(project) == first


def test_recordings_made_before_count_as_asked(project: TuningProject) -> None:
    original = write(project)
    project.tune()
    first = outcome(project)
    for path in (project.path / "cassettes").rglob("*.yaml"):
        path.unlink()
    start_anew(project, original)
    project.record()
    project.tune()
    again = outcome(project)
    assert (again["yaml"], again["entry"]) == (first["yaml"], first["entry"])


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_killed_at_any_time_it_goes_on_and_ends_the_same(project: TuningProject) -> None:
    """The killed runs ask 4 samples at once, the unbroken one 16: that changes nothing either."""
    original = write(project)
    project.tune()
    unbroken, calls = outcome(project), len(project.model.asked)
    for path in (project.path / "cassettes").rglob("*.yaml"):
        path.unlink()
    start_anew(project, original)
    draw = random.Random(5)
    for at in sorted(draw.sample(range(5, calls), KILLS)):
        ended = run_and_kill(project, once=calls + at)
        assert ended == -9, (project.path / "out.txt").read_text(encoding="utf-8")
        assert (project.path / "mood.prompt.yaml").read_bytes() == original
    assert run_and_kill(project, once=10 * calls) == 0, (project.path / "out.txt").read_text(encoding="utf-8")
    assert outcome(project) == unbroken
    times = Counter(project.model.asked[calls:])
    assert set(times) == set(project.model.asked[:calls])
    assert sum(count - 1 for count in times.values()) <= KILLS * CONCURRENCY


def run_and_kill(project: TuningProject, *, once: int) -> int | None:
    """Tune in a process of its own and kill it once the server has seen so many requests."""
    process = tuning_process(project.path)
    watch(project.model, once, process)
    process.start()
    process.join(60)
    return process.exitcode


def watch(model: TuningModel, once: int, process: ForkServerProcess) -> None:
    lock = threading.Lock()
    answer = TuningModel._answer

    def counting(seen: Seen) -> Answer:
        with lock:
            if seen.number >= once and process.is_alive():
                process.kill()
        return answer(model, seen)

    model.server._answer = counting


def tuning_process(folder: Path) -> ForkServerProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context.Process(target=tune_here, args=(folder,))


def tune_here(folder: Path) -> None:
    """Run pytest in this process as a user would, in the project's folder."""
    os.chdir(folder)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ("--tune", "--promptfit-json", "report.json", "--promptfit-concurrency", str(CONCURRENCY))
    with Path("out.txt").open("w", encoding="utf-8") as out, contextlib.redirect_stdout(out):
        code = pytest.main(["-p", "promptfit", *options])
    os._exit(code)
