"""``--promptfit-against REF``: the baseline comes from git, so that a change cannot loosen its own gate."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from numbered_samples import numbered, wrong_about
from summary_lines import gate

if TYPE_CHECKING:
    from mood_project import Project

WORSE = {1, 2, 3, 4, 5, 6}


@pytest.fixture
def repository(project: Project) -> Project:
    """A repository whose prompt got worse since its last commit, and whose baseline was loosened with it."""
    project.write(numbered(20), at="some/prompts/mood.prompt.yaml", cases="gated")
    project.model.says = wrong_about(set())
    project.record("--promptfit-update")
    project.git("init", "--quiet", "--initial-branch=main")
    project.git("add", ".")
    project.git("commit", "--quiet", "--message=right")
    project.model.says = wrong_about(WORSE)
    project.ask_anew()
    project.replay("--promptfit-update=force")
    return project


def test_baseline_of_the_ref_counts_and_not_the_working_copy(repository: Project) -> None:
    loosened = repository.replay()
    assert loosened.ret == 0
    assert "passed: unchanged from its baseline on 20" in gate(loosened, "regression")
    for ref in ("main", "HEAD", "HEAD^{commit}"):
        result = repository.replay("--promptfit-against", ref)
        assert result.ret == 1
        assert f"FAILED: worse than {ref} by 30.0 points" in gate(result, "regression")


def test_what_accepts_a_drop_from_a_ref_is_a_commit_there(repository: Project) -> None:
    """``--promptfit-update=force`` alone is in the working copy already, and CI would fail all the same."""
    result = repository.replay("--promptfit-against", "main", "-v")
    said = [line.partition("accept:")[2].strip() for line in result.outlines if "accept:" in line]
    assert len(said) == 2  # in the failure, and in the summary
    assert set(said) == {
        "commit what pytest --promptfit --promptfit-update=force some/prompts/mood.prompt.yaml writes; "
        "the regression gate fails until main has it, so a person merges it all the same"
    }
    repository.git("commit", "--quiet", "--all", "--message=accepted")
    assert repository.replay("--promptfit-against", "main").ret == 0


def test_loosening_in_a_commit_does_not_help(repository: Project) -> None:
    repository.git("commit", "--quiet", "--all", "--message=worse")
    assert repository.replay("--promptfit-against=HEAD").ret == 0
    assert repository.replay("--promptfit-against=HEAD~1").ret == 1


def test_pytest_started_in_a_subfolder(repository: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository.path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(repository.path / "some")
    result = repository.replay("--promptfit-against", "main", "prompts")
    assert "broke 6 of 20" in gate(result, "regression")


def test_accepted_misses_of_the_branch_have_no_excuse_where_the_ref_is_regressed_from(repository: Project) -> None:
    repository.write(numbered(20), at="some/prompts/mood.prompt.yaml")
    repository.replay().assert_outcomes(passed=15, xfailed=6)
    repository.replay("--promptfit-against", "main").assert_outcomes(passed=15, failed=7)


def test_accepted_misses_of_the_branch_are_excused_where_the_ref_is_not_regressed_from(repository: Project) -> None:
    repository.write(numbered(20), at="some/prompts/mood.prompt.yaml")
    repository.git("commit", "--quiet", "--all", "--message=worse")
    repository.git("tag", "before")
    repository.model.says = wrong_about({4, 5, 6, 7})
    repository.ask_anew("--promptfit-update")
    repository.replay("--promptfit-against", "before").assert_outcomes(passed=18, xfailed=4)


def test_each_of_several_refs_is_judged(repository: Project) -> None:
    """Small drops, each within chance of the one before, add up against the release."""
    repository.git("tag", "release")
    for number in range(3):
        repository.model.says = wrong_about(set(range(2 * number)))
        repository.ask_anew("--promptfit-update")
        repository.git("commit", "--quiet", "--all", f"--message={number}")
        repository.git("tag", f"step-{number}")
    assert repository.replay("--promptfit-against=step-1").ret == 0
    result = repository.replay("--promptfit-against=step-1", "--promptfit-against=release")
    assert result.ret == 1
    assert "FAILED: worse than release by 20.0 points" in gate(result, "regression")


def test_update_against_a_ref_is_refused_too(repository: Project) -> None:
    before = (repository.path / "some/prompts/mood.baseline.json").read_bytes()
    result = repository.replay("--promptfit-against=main", "--promptfit-update")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: some/prompts/mood.baseline.json: not updated*"])
    assert (repository.path / "some/prompts/mood.baseline.json").read_bytes() == before


@pytest.mark.parametrize("ref", ["origin/main", "--output=x", "no such ref"])
def test_unknown_ref_is_a_usage_error_in_one_line(project: Project, ref: str) -> None:
    project.write()
    project.git("init", "--quiet")
    result = project.replay(f"--promptfit-against={ref}")
    assert result.ret == 4
    (line,) = [line for line in result.errlines if line]
    assert line == (
        f"ERROR: --promptfit-against {ref}: no such commit in {project.path}: "
        "expected a git ref such as origin/main (a shallow clone needs `git fetch origin main`)"
    )
    assert not (project.path / "x").exists()


def test_folder_without_git_is_a_usage_error_in_one_line(project: Project) -> None:
    project.write()
    result = project.replay("--promptfit-against=main")
    assert result.ret == 4
    (line,) = [line for line in result.errlines if line]
    assert "not a git repository" in line


def test_ref_without_a_baseline(repository: Project) -> None:
    repository.write(numbered(20), at="new/other.prompt.yaml", cases="gated")
    repository.record("new", "--promptfit-update")
    (repository.path / "new/other.baseline.json").unlink()
    result = repository.replay("--promptfit-against=main", "new", "-rs")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["SKIPPED*no baseline, neither here nor at main: --promptfit-update writes it"])


def test_damaged_baseline_of_the_ref_names_ref_and_line(repository: Project) -> None:
    path = repository.path / "some/prompts/mood.baseline.json"
    path.write_text('{"version": 1,\n<<<<<<< HEAD\n=======\n>>>>>>> other\n')
    repository.git("commit", "--quiet", "--all", "--message=damaged")
    path.write_text(json.dumps({"version": 1, "prompt_hash": "", "model": "", "cases": {}}))
    result = repository.replay("--promptfit-against=HEAD")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["HEAD:some/prompts/mood.baseline.json:2: an unresolved merge conflict: *"])
