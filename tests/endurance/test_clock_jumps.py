"""A clock that jumps, and files from the future or the past: no decision hangs on what time it is."""

from __future__ import annotations

import itertools
import json
import os
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mood_project import Project

YEAR = 365 * 24 * 3600.0


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock on the wall that says something else whenever it is read, mostly an earlier time."""
    now = time.time()
    jumps = itertools.cycle([0.0, -YEAR, 20 * YEAR, -2 * YEAR, -3600.0])
    monkeypatch.setattr(time, "time", lambda: now + next(jumps))
    monkeypatch.setattr(time, "time_ns", lambda: int((now + next(jumps)) * 1e9))
    yield
    monkeypatch.undo()


def test_recording_and_updating_while_the_clock_jumps(project: Project, jumping: None) -> None:
    project.write()
    project.record("--promptfit-update").assert_outcomes(passed=4, skipped=1)
    project.record().assert_outcomes(passed=5)
    project.replay("--promptfit-update").stdout.fnmatch_lines(["*mood.baseline.json: unchanged"])
    assert len(project.model.asked) == 4
    (cassette,) = project.path.glob("cassettes/mood/*.yaml")
    lines = cassette.read_text(encoding="utf-8").splitlines()[2:]
    took = [json.loads(line[2:])["promptfit"]["seconds"] for line in lines]
    assert all(0 <= seconds < 60 for seconds in took)


@pytest.mark.parametrize("years", [-30, 30])
def test_files_from_another_time_are_read_as_they_are(project: Project, years: int) -> None:
    """Some files are older than others, as after a checkout, in either order."""
    project.write()
    project.record("--promptfit-update")
    before = project.report()
    for number, path in enumerate(sorted(project.path.rglob("*"))):
        os.utime(path, (time.time() + number * years * YEAR / 10,) * 2)
    assert project.report() == before
    project.record("--promptfit-update").stdout.fnmatch_lines(["*mood.baseline.json: unchanged"])
    assert len(project.model.asked) == 4


def test_a_lock_from_the_future_or_the_past_holds_nothing_up(project: Project) -> None:
    """What a killed recording left, on a machine whose clock was wrong."""
    project.write()
    project.record()
    left = project.path / "cassettes/mood/.promptfit.lock"
    for years in (-30, 30):
        left.touch()
        os.utime(left, (time.time() + years * YEAR,) * 2)
        project.ask_anew().assert_outcomes(passed=4, skipped=1)
        assert not left.exists()
