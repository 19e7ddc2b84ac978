"""Several processes at one prompt: recording, tuning and replaying at once."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from broken_runs import FORKS, run_broken_off, run_pytest
from tuning_models import TuningProject, tuning_project

from pytest_promptfit.cassette import Cassette
from pytest_promptfit.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    for folder in (path.parent / "cassettes/mood", path.parent / "cassettes/mood/tune"):
        assert [file.name for file in folder.iterdir() if file.is_file()] == ["replies.yaml"]
        assert Cassette.load(folder).warnings == []


def test_a_recording_that_ends_while_its_files_are_read_hides_no_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that a reader has just seen is gone when it is opened: its replies are in another one."""
    with ExitStack() as recording:
        recorder = recording.enter_context(Recorder.open(tmp_path))
        for number in range(3):
            recorder.append(
                method="POST",
                url="https://api.openai.com/v1/chat/completions",
                body={"messages": [{"role": "user", "content": f"question {number}"}]},
                response_status=200,
                response_text="{}",
                response_content_type="application/json",
            )
        read_bytes = Path.read_bytes

        def end_and_read(path: Path) -> bytes:
            monkeypatch.undo()
            recording.close()
            assert not path.exists()
            return read_bytes(path)

        monkeypatch.setattr(Path, "read_bytes", end_and_read)
        assert len(Cassette.load(tmp_path)) == 3
