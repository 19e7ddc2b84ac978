"""Several processes at one prompt: recording, tuning and replaying at once."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from broken_runs import FORKS, Moment, run_broken_off, run_pytest
from mood_project import Project
from tuning_models import TuningProject, tuning_project

from pytest_promptfit.cassettes.cassette import Asked, Cassette
from pytest_promptfit.cassettes.recorder import Recorder
from pytest_promptfit.files import alone_in, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mood_project import Model

pytestmark = FORKS


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[TuningProject]:
    with tuning_project(pytester, monkeypatch) as project:
        yield project


def test_recording_and_tuning_at_once_end_as_one_after_the_other(project: TuningProject) -> None:
    """Each keeps its own recordings, so a request is asked at most once by each; the end is green."""
    path = project.prompt()
    untuned = path.read_bytes()
    runs = [
        threading.Thread(target=run_broken_off, args=(run_pytest, project.path, *options), kwargs={"moment": None})
        for options in (("--promptfit-record",), ("--tune",))
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert path.read_bytes() != untuned
    assert max(Counter(project.model.asked).values()) <= 2
    asked = len(project.model.asked)
    project.record().assert_outcomes(passed=31)
    assert len(project.model.asked) == asked
    kept = {"cassettes/mood": ["replies.yaml"], "cassettes/mood/tune": ["replies.yaml", "tried.jsonl"]}
    for folder, files in ((path.parent / name, files) for name, files in kept.items()):
        assert sorted(file.name for file in folder.iterdir() if file.is_file()) == files
        assert Cassette.load(folder).warnings == []


def test_a_recording_that_ends_while_its_files_are_read_hides_no_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that a reader has just seen is gone when it is opened: its replies are in another one."""
    with ExitStack() as recording:
        recorder = recording.enter_context(Recorder.open(tmp_path))
        for number in range(3):
            body = {"messages": [{"role": "user", "content": f"question {number}"}]}
            recorder.keep(Asked.of("https://api.openai.com/v1/chat/completions", body).answered("{}"))
        read_bytes = Path.read_bytes

        def end_and_read(path: Path) -> bytes:
            monkeypatch.undo()
            recording.close()
            assert not path.exists()
            return read_bytes(path)

        monkeypatch.setattr(Path, "read_bytes", end_and_read)
        assert len(Cassette.load(tmp_path)) == 3


Work = tuple[Callable[..., None], tuple[object, ...]]
AtOnce = Callable[..., None]


@pytest.fixture
def at_once(tmp_path_factory: pytest.TempPathFactory) -> AtOnce:
    """Does several things, each in a process with a temporary folder of its own, as of another user or container."""

    def do(*works: Work) -> None:
        folders = [tmp_path_factory.mktemp("temporary") for _ in works]
        with ThreadPoolExecutor(len(works)) as pool:
            ends = [
                pool.submit(run_broken_off, elsewhere, folder, *work, moment=None)
                for folder, work in zip(folders, works, strict=True)
            ]
        assert [end.result() for end in ends] == [0] * len(works)
        assert not [path for folder in folders for path in folder.iterdir()]

    return do


def elsewhere(temporary: Path, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    try:
        work(*arguments)
    except Exception:
        traceback.print_exc()
        os._exit(1)


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def moods(pytester: pytest.Pytester, model: Model, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    project = Project(pytester, model)
    project.write(tuple((f"s{number}", f"a lovely day, number {number}", "good") for number in range(40)))
    model.server.latency = 0.02
    return project


def test_recorders_with_different_temporary_folders_pay_once_and_lose_nothing(moods: Project, at_once: AtOnce) -> None:
    recording = (moods.path, "--promptfit-record", "--promptfit-concurrency=4")
    at_once(*[(run_pytest, recording)] * 3)
    assert len(moods.model.asked) == 40
    assert len(Cassette.load(moods.path / "cassettes/mood")) == 40
    assert files_of(moods.path / "cassettes/mood") == {"replies.yaml"}
    moods.replay().assert_outcomes(passed=40, skipped=1)


def test_a_recorder_that_was_killed_holds_nobody_up_and_its_lock_goes(moods: Project) -> None:
    moment = Moment(signal.SIGKILL, "replies-new", 0, 0.05)
    assert run_broken_off(run_pytest, moods.path, "--promptfit-record", moment=moment) == -signal.SIGKILL
    assert ".promptfit.lock" in files_of(moods.path / "cassettes/mood")
    moods.replay()
    moods.record().assert_outcomes(passed=40, skipped=1)
    assert files_of(moods.path / "cassettes/mood") == {"replies.yaml"}


def test_a_run_leaves_nothing_that_git_would_show(moods: Project) -> None:
    moods.git("init", "-q")
    moods.record("--promptfit-update", "--promptfit-json=report.json", "-p", "no:cacheprovider")
    shown = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], cwd=moods.path, check=True, capture_output=True, text=True
    )
    expected = {"cassettes/mood/replies.yaml", "mood.baseline.json", "mood.csv", "mood.prompt.yaml", "report.json"}
    assert {line[3:] for line in shown.stdout.splitlines()} == expected


def count(path: Path, place: Path) -> None:
    for _ in range(15):
        with alone_in(place):
            path.write_text(str(int(path.read_text()) + 1))


@pytest.mark.parametrize("place", [".", "counter"], ids=["folder", "file"])
def test_one_at_a_time_although_the_lock_is_deleted_each_time(tmp_path: Path, place: str, at_once: AtOnce) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    at_once(*[(count, (counter, tmp_path / place))] * 4)
    assert counter.read_text() == "60"
    assert files_of(tmp_path) == {"counter"}


def write_often(path: Path, letter: str) -> None:
    for _ in range(8):
        write_atomically(path, letter * 10_000)


def test_files_written_by_many_at_once_are_whole(tmp_path: Path, at_once: AtOnce) -> None:
    target = tmp_path / "report.json"
    at_once(*((write_often, (target, letter)) for letter in "abc"))
    assert target.read_text() in {letter * 10_000 for letter in "abc"}
    assert files_of(tmp_path) == {"report.json"}
