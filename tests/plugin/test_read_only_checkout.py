"""A checkout that cannot be written: replay needs nothing written, and whatever must write says so in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mounts import read_only
from tuning_models import tuning_project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mood_project import Project

READ_ONLY = ("Read-only", "Permission denied")


@pytest.fixture
def checkout(project: Project) -> Iterator[Project]:
    """A project that is recorded, with a baseline and an obsolete reply, and one sample changed since."""
    (project.path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    project.write((("s1", "a lovely day", "good"), ("s2", "a dreadful day", "bad"), ("s3", "a lovely tea", "good")))
    project.record("--promptfit-update")
    project.write((("s1", "a lovely day", "good"), ("s2", "a dreadful day", "bad")))
    with read_only(project.path):
        yield project


def one_line(result: pytest.RunResult, *expected: str) -> None:
    said = result.outlines + result.errlines
    (line,) = [line for line in said if any(words in line for words in READ_ONLY) and not line.startswith("FAILED ")]
    assert all(words in line for words in expected)
    assert not [line for line in said if "Traceback" in line or "INTERNALERROR" in line]


def test_replay_writes_nothing(checkout: Project) -> None:
    checkout.replay().assert_outcomes(passed=2, skipped=1)  # two samples are too few for the gate


def test_replay_without_recordings_says_what_is_missing(project: Project) -> None:
    project.write((("s1", "a lovely day", "good"),))
    with read_only(project.path):
        result = project.replay("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["  nothing is recorded yet. *", "*1 failed, 1 skipped*"])


def test_recording_says_so_before_anything_is_asked(checkout: Project) -> None:
    asked = len(checkout.model.asked)
    result = checkout.ask_anew()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    one_line(result, "cassettes/mood: ", "make the folder writable and run again")
    assert len(checkout.model.asked) == asked


def test_updating_says_so(checkout: Project) -> None:
    before = checkout.baseline()
    result = checkout.replay("--promptfit-update")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    one_line(result, "mood.baseline.json: cannot be written", "the old baseline is unchanged")
    assert checkout.baseline() == before


def test_pruning_says_so(checkout: Project) -> None:
    result = checkout.replay("--promptfit-prune")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    one_line(result, "cassettes/mood: ", "make the folder writable")


def test_reporting_says_so(checkout: Project) -> None:
    one_line(checkout.replay("--promptfit-json", checkout.path / "report.json"), "report.json: cannot be written")


def test_tuning_says_so_before_anything_is_asked(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    with tuning_project(pytester, monkeypatch) as tuning:
        path = tuning.prompt()
        with read_only(tuning.path):
            one_line(tuning.pytest("--tune", "-p", "no:cacheprovider"), "cassettes/mood", "make the folder writable")
        assert not tuning.model.asked
        assert path.exists()


def test_rewriting_says_so(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a tuning run asks is recorded in a folder that can be written; the prompt file's cannot."""
    with tuning_project(pytester, monkeypatch) as tuning:
        (tuning.path / "pytest.ini").write_text("[pytest]\n")  # so that recordings are not beside the prompt file
        path = tuning.prompt(at="prompts/mood.prompt.yaml")
        old = path.read_bytes()
        tuning.tune()
        assert path.read_bytes() != old
        path.write_bytes(old)
        with read_only(path.parent):
            one_line(tuning.pytest("--tune"), "mood.baseline.json: cannot be written")
        assert path.read_bytes() == old
