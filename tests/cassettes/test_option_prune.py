"""Obsolete recordings: reported by a full run, deleted by ``--promptfit-prune`` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mood_project import MOODS

if TYPE_CHECKING:
    from mood_project import Project

OBSOLETE = "  4 recorded replies are obsolete: --promptfit-prune deletes them"


def recorded(project: Project) -> int:
    """Return how many replies are on disk."""
    files = (project.path / "cassettes" / "mood").glob("*.yaml")
    return sum(path.read_text(encoding="utf-8").count("\n- ") for path in files)


def test_full_run_reports_and_deletes_nothing(project: Project) -> None:
    project.write()
    assert OBSOLETE not in project.record().outlines
    project.write(params={"temperature": 0})
    for result in (project.record(), project.replay()):
        assert result.ret == 0
        assert OBSOLETE in result.outlines
        assert recorded(project) == 8


def test_prune_deletes_what_is_obsolete(project: Project) -> None:
    project.write()
    project.record()
    project.write(params={"temperature": 0})
    project.record()
    result = project.replay("--promptfit-prune")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["  note: 4 obsolete replies pruned"])
    assert recorded(project) == 4
    again = project.replay("--promptfit-prune")
    assert again.ret == 0
    assert "obsolete replies" not in again.stdout.str()
    project.replay().assert_outcomes(passed=4, skipped=1)


def test_recording_and_pruning_at_once(project: Project) -> None:
    project.write()
    project.record()
    project.write(params={"temperature": 0})
    project.record("--promptfit-prune").stdout.fnmatch_lines(["  note: 4 obsolete replies pruned"])
    assert recorded(project) == 4
    project.replay().assert_outcomes(passed=4, skipped=1)


def test_partial_run_neither_reports_nor_prunes(project: Project) -> None:
    project.write()
    project.record()
    project.write(MOODS[1:])
    assert "recorded replies" not in project.replay("-k", "s2").stdout.str()
    result = project.replay("--promptfit-prune", "-k", "s2 or gate")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["  note: not pruned: only 1 of 3 samples are selected"])
    assert recorded(project) == 4


def test_slip_in_the_prompt_does_not_prune_everything(project: Project) -> None:
    project.write()
    project.record()
    project.write(params={"temperature": 0})
    result = project.replay("--promptfit-prune")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["  note: 4 obsolete replies not pruned: 4 samples have no reply, record them first"])
    assert recorded(project) == 4


def test_prune_touches_the_selected_prompts_alone(project: Project) -> None:
    project.write()
    project.write(at="other.prompt.yaml")
    project.record()
    project.write(MOODS[1:])
    project.write(MOODS[1:], at="other.prompt.yaml")
    project.replay("--promptfit-prune", "other.prompt.yaml")
    assert recorded(project) == 4
    assert "1 recorded replies are obsolete" in project.replay().stdout.str()


def test_what_another_process_has_just_recorded_is_spared(project: Project) -> None:
    """The other one records while this run reads its replies, before it prunes."""
    project.write()
    project.record()
    project.write(params={"temperature": 0})
    project.record()
    project.write(at="elsewhere/mood.prompt.yaml", params={"temperature": 1})
    (project.path / "conftest.py").write_text(
        "import pytest_promptfit\n"
        "def pytest_promptfit_extract(text):\n"
        "    if text == 'a lovely day':\n"
        "        other = 'elsewhere/mood.prompt.yaml'\n"
        "        pytest_promptfit.evaluate(other, record='missing', cassettes='cassettes')\n"
    )
    result = project.run("mood.prompt.yaml", "--promptfit-prune")
    result.stdout.fnmatch_lines(["  note: 4 obsolete replies pruned"])
    assert recorded(project) == 8
    assert len(project.model.asked) == 12
