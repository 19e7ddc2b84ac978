"""Files that a pull request names outside the project: none is read without being said."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pytest_promptfit import load_prompt

if TYPE_CHECKING:
    from pathlib import Path

    from mood_project import Project

DATA = "text,label\na lovely day,good\na dreadful day,bad\n"


@pytest.fixture
def outside(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data file outside the project, whose root is where it has its settings."""
    (project.path / "pytest.ini").write_text("[pytest]\n")
    path = tmp_path_factory.mktemp("elsewhere") / "d.csv"
    path.write_text(DATA)
    return path


def way_to(project: Project, outside: Path, way: str) -> str:
    """Return what a prompt file may say to reach a file outside."""
    if way == "link":
        (project.path / "link.csv").symlink_to(outside)
        return "link.csv"
    if way == "linked folder":
        (project.path / "folder").symlink_to(outside.parent)
        return "folder/d.csv"
    return str(outside) if way == "absolute" else os.path.relpath(outside, project.path)


WAYS = ["absolute", "relative", "link", "linked folder"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("arguments", [(), ("-q",), ("--collect-only",)])
def test_is_said_with_where_it_leads(project: Project, outside: Path, way: str, arguments: tuple[str, ...]) -> None:
    file = way_to(project, outside, way)
    project.write((), samples=file)
    project.record("-q")
    result = project.replay(*arguments)
    assert result.ret == 0
    said = f"is read from outside {project.path}: {outside}"
    assert len([line for line in result.outlines if line.endswith(said)]) == 1


def test_is_said_though_it_cannot_be_read_as_data(project: Project, outside: Path) -> None:
    outside.write_text("root:x:0:0\n")
    project.write((), samples=str(outside))
    result = project.replay()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*is read from outside {project.path}: {outside}"])


@pytest.mark.parametrize("way", WAYS)
def test_is_not_read_where_warnings_are_errors(project: Project, outside: Path, way: str) -> None:
    outside.write_text("a secret\n")
    project.write((), samples=way_to(project, outside, way))
    result = project.replay("-W", "error::pytest.PytestWarning")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*is read from outside {project.path}: {outside}"])
    assert "a secret" not in result.stdout.str()
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize("name", ["mood.prompt.yaml", "mood.baseline.json"])
def test_a_linked_prompt_or_baseline_is_said(project: Project, outside: Path, name: str) -> None:
    project.write()
    project.record("--promptfit-update", "-q")
    target = outside.with_name(name)
    (project.path / name).rename(target)
    (project.path / name).symlink_to(target)
    result = project.replay()
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"*{name} is read from outside {project.path}: {target}"])


def test_workers_of_xdist_say_it_too(project: Project, outside: Path) -> None:
    project.write((), samples=str(outside))
    project.record("-q")
    result = project.pytest("-p", "xdist", "--promptfit", "-n", "1")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"*is read from outside {project.path}: {outside}"])


def test_nothing_is_said_of_files_inside(project: Project, outside: Path) -> None:
    (project.path / "data").mkdir()
    (project.path / "data/d.csv").write_text(DATA)
    (project.path / "link.csv").symlink_to("data/d.csv")
    project.write((), at="prompts/a.prompt.yaml", samples="../data/d.csv")
    project.write((), at="b.prompt.yaml", samples="link.csv")
    project.write((), at="c.prompt.yaml", samples="../nowhere.csv")
    assert "is read from outside" not in project.replay().stdout.str()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(project: Project, kind: str) -> None:
    path = project.path / "d.csv"
    make = {"pipe": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero"), "folder": path.mkdir}
    make[kind]()
    project.write((), samples="d.csv")
    result = project.replay()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*samples.file: 'd.csv': not a regular file: expected one at *"])


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_baseline_that_is_no_regular_file_is_refused_at_once(project: Project, kind: str) -> None:
    path = project.path / "mood.baseline.json"
    make = {"pipe": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero"), "folder": path.mkdir}
    make[kind]()
    project.write()
    result = project.replay()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*mood.baseline.json:1: cannot be read: not a regular file"])


def test_no_recording_is_written_through_a_link(project: Project, outside: Path) -> None:
    target = outside.with_name("made-elsewhere.yaml")
    (project.path / "cassettes/mood").mkdir(parents=True)
    (project.path / "cassettes/mood/replies-new.yaml").symlink_to(target)
    project.write()
    result = project.record()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *replies-new.yaml: a link, which no replies are written through; delete it"])
    assert not target.exists()


def test_production_code_reads_what_its_author_names(
    project: Project, outside: Path, recwarn: pytest.WarningsRecorder
) -> None:
    classify = load_prompt(project.write((), samples=str(outside), labels=[]))
    assert classify.labels == ("bad", "good")
    assert not recwarn.list
