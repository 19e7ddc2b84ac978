"""What a tuning run tried is remembered: a later one is told of it, and does not try the same again."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from tuning_models import TuningProject, by_keyword, patch, patches, rows, tagged, text_of

from pytest_promptfit import tune
from pytest_promptfit.errors import PromptfitError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_promptfit.tuning.result import TuneResult

BAD = "Be sure."

TEXTS = ["system_prompt"]


def notes(project: TuningProject) -> Path:
    return project.path / "cassettes/mood/tune/tried.jsonl"


def noted(project: TuningProject) -> list[dict[str, Any]]:
    return [json.loads(line) for line in notes(project).read_text(encoding="utf-8").splitlines()]


def in_vain(project: TuningProject, count: int = 40, **fields: Any) -> None:
    """Write a prompt that the optimizer knows but one change of, which is of no use."""
    project.model.task = lambda _: tagged("bad")
    project.model.optimizer = lambda _: patches(patch(text=BAD, reason="says to be sure"))
    tune = {"model": project.optimizer_model(), "edit": TEXTS, "arms": ["patches"], "budget": {"task_calls": 200}}
    project.prompt(rows(count), tune={**tune, "iterations": 1, **fields})


def run(project: TuningProject, seed: int = 0) -> TuneResult:
    return tune(project.path / "mood.prompt.yaml", seed=seed, cassettes=project.path / "cassettes")


def tried(result: TuneResult) -> list[str]:
    return [step.summary for step in result.steps]


def test_the_optimizer_is_told_what_an_earlier_run_tried(project: TuningProject) -> None:
    in_vain(project)
    first = run(project)
    assert "says to be sure" in tried(first)
    assert "in an earlier run" not in "".join(map(text_of, project.model.patch_bodies))
    asked = len(project.model.patch_bodies)
    again = run(project, 1)
    told = text_of(project.model.patch_bodies[asked])
    assert '| "says to be sure" | 0 | 0 | reject, in an earlier run |' in told
    # The optimizer has no other idea, and that one is not tried on the same samples again.
    assert "says to be sure" not in tried(again)
    (warning,) = [line for line in again.warnings if "earlier" in line]
    assert re.match(r"\d candidates? not tried again: an earlier run rejected (it|them) on the same samples", warning)


def test_drafts_are_told_too(project: TuningProject) -> None:
    in_vain(project, arms=["patches", "drafts"])
    run(project)
    asked = len(project.model.draft_bodies)
    assert asked
    run(project, 1)
    assert "says to be sure" in text_of(project.model.draft_bodies[asked])


def test_with_other_samples_it_is_tried_again(project: TuningProject) -> None:
    in_vain(project)
    run(project)
    in_vain(project, 60)
    assert "says to be sure" in tried(run(project))


def test_what_another_model_said_counts_for_nothing(project: TuningProject) -> None:
    in_vain(project)
    run(project)
    asked = len(project.model.patch_bodies)
    path = project.path / "mood.prompt.yaml"
    path.write_text(f"params: {{temperature: 1}}\n{project.text()}", encoding="utf-8")
    assert "says to be sure" in tried(run(project))
    assert len(project.model.patch_bodies) == asked  # it was asked the very same, and its answer is recorded


def test_the_same_run_decides_the_same_whatever_was_tried_since(project: TuningProject) -> None:
    in_vain(project)
    first = run(project)
    run(project, 1)
    run(project, 2)
    after, before = noted(project), notes(project).read_bytes()
    assert [run["done"] for run in after] == [True] * 3
    assert [run["after"] for run in after] == [[], [after[0]["run"]], [after[0]["run"], after[1]["run"]]]
    project.model.go_down()
    again = run(project)
    assert (again.steps, again.scores, again.reason) == (first.steps, first.scores, first.reason)
    assert notes(project).read_bytes() == before


def test_a_run_that_was_killed_knows_no_more_when_it_goes_on(project: TuningProject) -> None:
    in_vain(project)
    first = run(project, 1)
    (ended,) = noted(project)
    # As a kill leaves it, with another run since.
    begun = {**ended, "done": False, "steps": [], "mistakes": []}
    notes(project).write_text(f"{json.dumps(begun)}\n", encoding="utf-8")
    run(project, 2)
    other = noted(project)[1]
    assert (other["after"], other["done"]) == ([], True)
    project.model.go_down()
    again = run(project, 1)
    assert (again.steps, again.scores) == (first.steps, first.scores)
    assert noted(project) == [ended, other]


def test_a_run_that_breaks_off_is_noted_as_begun(project: TuningProject) -> None:
    in_vain(project)
    project.model.go_down()
    with pytest.raises(PromptfitError):
        run(project)
    assert [(one["done"], one["steps"]) for one in noted(project)] == [(False, [])]


def test_what_was_wrong_before_is_shown_first(project: TuningProject) -> None:
    in_vain(project)
    wrong = {"walk", "town"}
    project.model.task = lambda body: tagged("bad") if place_in(text_of(body)) in wrong else by_keyword(body)
    run(project)
    for path in (project.path / "cassettes").rglob("*.yaml"):
        path.unlink()  # the same model has got worse
    project.model.task = lambda _: tagged("bad")
    asked = len(project.model.patch_bodies)
    run(project, 1)
    shown = text_of(project.model.patch_bodies[asked]).partition("# Wrong now")[2].partition("\n# ")[0]
    first = [place_in(text) in wrong for text in re.findall(r'"text": "(a lovely[^"]*)', shown)]
    assert set(first) == {True, False}
    assert first == sorted(first, reverse=True)


def place_in(text: str) -> str:
    return text.split()[2]


def junk(path: Path) -> None:
    path.write_text("not a note\n", encoding="utf-8")


def of_another_kind(path: Path) -> None:
    path.write_text('{"version": 2, "run": "a", "asked": "b", "samples": "c"}\n', encoding="utf-8")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere.txt"))


@pytest.mark.parametrize("broken", [junk, of_another_kind, a_folder, a_link])
def test_a_file_that_cannot_be_used_is_told_once(project: TuningProject, broken: Callable[[Path], None]) -> None:
    in_vain(project, 30)
    notes(project).parent.mkdir(parents=True)
    broken(notes(project))
    before = notes(project).read_bytes() if notes(project).is_file() else None
    entry = run(project)
    assert "says to be sure" in tried(entry)
    (warning,) = [line for line in entry.warnings if "tried.jsonl" in line]
    assert warning.endswith(": earlier runs are not known, and this one is not noted: delete the file to begin anew")
    assert before is None or notes(project).read_bytes() == before
    assert not notes(project).with_name("elsewhere.txt").exists()


def test_both_sides_of_a_merge_are_kept(project: TuningProject) -> None:
    in_vain(project)
    run(project)
    run(project, 1)
    ours, theirs = notes(project).read_text(encoding="utf-8").splitlines()
    conflict = ("<<<<<<< HEAD", ours, "=======", theirs, ">>>>>>> theirs", "")
    notes(project).write_text("\n".join(conflict), encoding="utf-8")
    entry = run(project, 2)
    assert not [line for line in entry.warnings if "tried.jsonl" in line]
    assert [run["run"] for run in noted(project)][:2] == [json.loads(ours)["run"], json.loads(theirs)["run"]]
    assert [one["done"] for one in noted(project)] == [True] * 3
