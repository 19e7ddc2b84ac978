"""A disk that is full while something is written: one line says so, what was there stays, a rerun goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from mood_project import by_keyword
from mounts import fill, small_disk
from tuning_models import rows, tuning_project

from pytest_promptfit.cassettes.cassette import Cassette

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mood_project import Project

FULL = "No space left on device"


@pytest.fixture
def project(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project on a disk of its own, of 2 MB."""
    folder = project.path / "disk"
    with small_disk(folder, "2m"):
        project.path = folder
        (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
        monkeypatch.chdir(folder)
        yield project
        monkeypatch.undo()


def recorded(folder: Path) -> dict[str, str]:
    return {entry.key: entry.body for entry in Cassette.load(folder / "cassettes" / "mood")}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def one_line(result: pytest.RunResult, place: str) -> None:
    """Hold that the run says, in one line, what could not be written."""
    said = result.outlines + result.errlines
    assert [line for line in said if FULL in line and place in line]
    assert not [line for line in said if "Traceback" in line or "INTERNALERROR" in line]


def test_recording(project: Project) -> None:
    project.write(rows(120))
    project.model.says = lambda text: f"{'because ' * 250}{by_keyword(text)}"
    ballast = fill(project.path, but_for=160_000)
    result = project.record()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    one_line(result, "cassettes/mood/replies-new.yaml")
    kept, asked = recorded(project.path), len(project.model.asked)
    assert 10 < len(kept) < 120
    assert asked - len(kept) <= 16, "it went on asking"
    ballast.unlink()
    project.record().assert_outcomes(passed=120, skipped=1)
    assert len(project.model.asked) == asked + 120 - len(kept)
    assert kept.items() <= recorded(project.path).items()
    assert names(project.path / "cassettes" / "mood") == ["replies.yaml"]


@pytest.mark.parametrize("concurrency", [1, 16])
def test_what_was_in_flight_is_counted(project: Project, concurrency: int) -> None:
    """What was sent before the first failed write is let in, and nothing is sent after it."""
    project.write(rows(120))
    project.model.server.latency = 0.02
    project.model.says = lambda text: f"{'because ' * 1000}{by_keyword(text)}"
    fill(project.path, but_for=160_000)
    result = project.record(f"--promptfit-concurrency={concurrency}")
    kept = len(recorded(project.path))
    answered = len(project.model.server.answered)
    assert answered == len(project.model.asked)
    assert 0 < answered - kept <= concurrency
    one_line(result, f"{kept} replies are kept; lost, though they arrived: {answered - kept}")


def test_what_there_is_room_for_again_is_kept(project: Project) -> None:
    """While the last replies come in somebody clears the disk up: they are written when the run ends."""
    project.write(rows(60))
    project.model.says = lambda text: f"{'because ' * 1000}{by_keyword(text)}"
    ballast = fill(project.path, but_for=160_000)
    folder = project.path / "cassettes" / "mood"

    def clear_up(text: str) -> str:
        if folder.exists() and sum(path.stat().st_size for path in folder.iterdir()) > 120_000:
            time.sleep(0.5)
            ballast.unlink(missing_ok=True)
        return f"{'because ' * 1000}{by_keyword(text)}"

    project.model.says = clear_up
    result = project.record("--promptfit-concurrency=16")
    assert len(recorded(project.path)) == len(project.model.server.answered)
    said = result.outlines + result.errlines
    assert not [line for line in said if "lost" in line]


def test_putting_in_order(project: Project) -> None:
    """There is room for the reply that comes in, and none for the file that it is put in order with."""
    project.model.says = lambda text: f"{'because ' * 1000}{by_keyword(text)}"
    project.write(rows(10))
    project.record()
    project.write(rows(11))
    ballast = fill(project.path, but_for=20_000)
    result = project.record()
    one_line(result, "cassettes/mood")
    assert len(recorded(project.path)) == 11
    assert names(project.path / "cassettes" / "mood") == ["replies-new.yaml", "replies.yaml"]
    project.replay().assert_outcomes(passed=11, skipped=1)
    ballast.unlink()
    project.record().assert_outcomes(passed=11, skipped=1)
    assert len(project.model.asked) == 11
    assert names(project.path / "cassettes" / "mood") == ["replies.yaml"]


def test_updating_the_baseline(project: Project) -> None:
    project.write(rows(40))
    project.record("--promptfit-update")
    old = (project.path / "mood.baseline.json").read_bytes()
    project.model.says = lambda text: by_keyword("lovely")
    project.ask_anew()
    before, ballast = names(project.path), fill(project.path)
    result = project.replay("--promptfit-update=force")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    one_line(result, "the old baseline is unchanged")
    assert (project.path / "mood.baseline.json").read_bytes() == old
    ballast.unlink()
    assert names(project.path) == before
    project.replay("--promptfit-update=force")
    assert (project.path / "mood.baseline.json").read_bytes() != old


def test_rewriting_the_prompt_file(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    with tuning_project(pytester, monkeypatch) as tuning, small_disk(pytester.path / "disk", "2m"):
        tuning.path = pytester.path / "disk"
        (tuning.path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
        monkeypatch.chdir(tuning.path)
        path = tuning.prompt()
        old = path.read_bytes()
        tuning.tune()
        new, asked = path.read_bytes(), len(tuning.model.asked)
        assert new != old
        path.write_bytes(old)
        before, ballast = names(tuning.path), fill(tuning.path)
        # The baseline that fits the new prompt is written before it: without room for one there is neither.
        one_line(tuning.pytest("--tune"), "mood.baseline.json: cannot be written")
        assert path.read_bytes() == old
        ballast.unlink()
        assert names(tuning.path) == before
        tuning.tune()
        assert path.read_bytes() == new
        assert len(tuning.model.asked) == asked
        monkeypatch.undo()
