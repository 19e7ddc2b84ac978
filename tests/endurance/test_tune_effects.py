"""What a tuning run writes, in which order: wherever it is killed or fails, nothing is lost and a replay is green."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest
from broken_runs import FORKS, FULL_DISK, KILLS, SEED, Moment, run_broken_off, run_pytest
from loopback_server import Answer, chat
from tuning_models import TuningProject, by_examples, rows, shown_labels, tagged, text_of, tuning_project

from pytest_promptfit import PromptfitError, tune
from pytest_promptfit.cassettes.cassette import Cassette

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFLICT = "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> theirs\n"
CHANGES = 25
"""So many changes to files does a tuning run make here that has all replies recorded."""

SURPRISING = ("1901", "1919")
"""Samples that the prompt gets right before it is tuned, and wrong afterwards."""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[TuningProject]:
    """A recorded prompt of strict cases, with a baseline, that tuning makes better, but for two samples."""
    with tuning_project(pytester, monkeypatch) as project:
        project.model.task = mostly_by_examples
        project.prompt(rows(40), cases="strict")
        project.record("--promptfit-update")
        assert project.replay().ret == 0
        yield project


def mostly_by_examples(body: dict[str, Any]) -> str:
    surprising = any(year in text_of(body) for year in SURPRISING)
    return tagged("good") if surprising and len(shown_labels(body)) == 2 else by_examples(body)


def baseline_of(project: TuningProject) -> bytes:
    return (project.path / "mood.baseline.json").read_bytes()


def recorded(project: TuningProject) -> set[str]:
    return {entry.key for entry in Cassette.load(project.path / "cassettes" / "mood")}


def test_the_baseline_holds_to_the_new_prompt_alone_in_the_end(project: TuningProject) -> None:
    before = recorded(project)
    assert project.tuned()["accepted"]
    cases = project.baseline()["cases"]
    assert {name for name, case in cases.items() if case["outcome"] != "right"} == {"sample-s1", "sample-s19"}
    assert not before & recorded(project)
    assert project.replay().ret == 0


def test_a_baseline_that_cannot_be_read_is_told_before_anything_is_asked(project: TuningProject) -> None:
    prompt, before = project.path / "mood.prompt.yaml", recorded(project)
    (project.path / "mood.baseline.json").write_text(CONFLICT.format("{}", "{}"))
    asked, text = len(project.model.asked), prompt.read_bytes()
    with pytest.raises(PromptfitError, match=r"mood\.baseline\.json:1: "):
        tune(prompt, cassettes=project.path / "cassettes")
    assert (len(project.model.asked), prompt.read_bytes(), recorded(project)) == (asked, text, before)


def test_a_conflict_that_arises_meanwhile_loses_nothing(project: TuningProject) -> None:
    path, old, text, before = (
        project.path / "mood.baseline.json",
        baseline_of(project),
        project.text(),
        recorded(project),
    )

    def merging(body: dict[str, Any]) -> str:
        path.write_text(CONFLICT.format("{}", "{}"))
        return mostly_by_examples(body)

    project.model.task = merging
    result = project.tune()
    assert result.ret == 1
    assert "mood.baseline.json:1: " in result.stdout.str()
    assert project.text() == text
    assert before <= recorded(project)
    path.write_bytes(old)
    assert project.replay().ret == 0
    asked = len(project.model.asked)
    assert project.tuned()["accepted"]
    assert len(project.model.asked) == asked


def test_what_another_process_recorded_meanwhile_is_spared(project: TuningProject) -> None:
    """Somebody tries another prompt while this one is tuned."""
    prompt, theirs = project.path / "mood.prompt.yaml", set[str]()

    async def after_theirs(body: dict[str, Any]) -> Answer:
        # Beside the server's loop, which has to answer them, too.
        theirs.update(await asyncio.to_thread(recorded_with, project, "Another prompt."))
        return chat(mostly_by_examples(body))

    def recording_too(body: dict[str, Any]) -> Any:
        if theirs:
            return mostly_by_examples(body)
        theirs.add("")
        return after_theirs(body)

    before = recorded(project)
    project.model.task = recording_too
    assert project.tuned()["accepted"]
    assert "Another prompt." not in prompt.read_text()
    theirs.discard("")
    assert len(theirs) == 40
    assert theirs <= recorded(project)
    assert not before & recorded(project)


def recorded_with(project: TuningProject, system_prompt: str) -> set[str]:
    """Record the samples with another prompt, from another folder into the same recordings; return the new keys."""
    from pytest_promptfit import evaluate

    before = recorded(project)
    folder = project.path / "elsewhere"
    folder.mkdir()
    shutil.copy(project.path / "mood.csv", folder)
    text = project.text().replace("Is the mood good or bad?", system_prompt)
    (folder / "mood.prompt.yaml").write_text(text)
    evaluate(folder / "mood.prompt.yaml", record="missing", cassettes=project.path / "cassettes")
    return recorded(project) - before


@FORKS
@pytest.mark.parametrize("by", [signal.SIGKILL, FULL_DISK], ids=["sigkill", "full disk"])
def test_whatever_it_was_about_to_write_a_replay_is_green_and_it_goes_on(
    project: TuningProject, tmp_path_factory: pytest.TempPathFactory, by: int
) -> None:
    before, prompt = tmp_path_factory.mktemp("before") / "copy", project.text()
    shutil.copytree(project.path, before)
    assert project.tuned()["accepted"]
    asked, after = len(project.model.asked), (project.text(), baseline_of(project), recorded(project))
    shutil.copytree(project.path / "cassettes/mood/tune", before / "cassettes/mood/tune")
    draw = random.Random(f"{SEED} {by}")
    print(f"PROMPTFIT_TEST_SEED={SEED} PROMPTFIT_TEST_KILLS={KILLS}")
    drawn = [Moment(by, "mood", change, 0.0) for change in draw.sample(range(CHANGES), min(CHANGES, KILLS // 2))]
    for moment in (Moment(by, "mood.prompt.yaml", 0, 0.0), *drawn):
        put_back(before, project.path)
        run_broken_off(run_pytest, project.path, "--tune", moment=moment)
        replayed = project.replay()
        assert replayed.ret == 0, f"{moment}: {replayed.stdout.str()}"
        if project.text() == prompt:
            assert project.tune().ret == 0
            assert baseline_of(project) == after[1]
        assert project.text() == after[0]
        assert recorded(project) >= after[2]
    assert len(project.model.asked) == asked


def put_back(source: Path, folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(source, folder, dirs_exist_ok=True)
