"""Under pytest-xdist: the same results, one summary, one report, and no call made twice."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from mood_project import MOODS
from summary_lines import section

if TYPE_CHECKING:
    from mood_project import Project

WRONG = ("w@1", "a dreadful bore, and I loved it", "good")
CANONICAL = [{"id": "never", "text": "a lovely dog", "label": "good"}]
TWO = ("-p", "xdist", "-n2")


def report(project: Project) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((project.path / "report.json").read_text(encoding="utf-8"))
    return value


@pytest.fixture
def recorded(project: Project) -> Project:
    """Two recorded prompts, each with a case that fails."""
    for at in ("a/mood.prompt.yaml", "b@c/other.prompt.yaml"):
        project.write((*MOODS, WRONG), at=at, canonical=CANONICAL, gates={"accuracy": 0.9})
    project.record()
    return project


def test_replays_to_the_same_results(recorded: Project) -> None:
    alone = recorded.replay("--promptfit-json=report.json", "--junitxml=report.xml")
    expected = report(recorded)
    for dist in ("load", "loadgroup"):
        result = recorded.replay(*TWO, f"--dist={dist}", "--promptfit-json=report.json", "--junitxml=report.xml")
        assert result.ret == alone.ret == 1
        assert result.parseoutcomes() == alone.parseoutcomes() == {"passed": 10, "failed": 4, "skipped": 2}
        assert section(result) == section(alone)
        assert report(recorded) == expected
        assert "  accept:  pytest --promptfit --promptfit-update b@c/other.prompt.yaml" in result.outlines


def test_loadgroup_records_with_no_call_made_twice(project: Project) -> None:
    rows = tuple((f"n{number}", f"a lovely day number {number}", "good") for number in range(10))
    for at in ("a/mood.prompt.yaml", "b/other.prompt.yaml"):
        project.write(rows, at=at, prompt={"system_prompt": at})
    result = project.ask_anew(*TWO, "--dist=loadgroup", "--promptfit-json=report.json", "-v")
    assert result.ret == 0
    assert set(Counter(project.model.asked).values()) == {1}
    assert len(project.model.asked) == 20
    assert [prompt["usage"]["replayed"] for prompt in report(project)["prompts"]] == [0, 0]
    workers = {line.split()[-1]: line.split()[0] for line in result.outlines if "PASSED" in line}
    by_prompt = {at: {worker for case, worker in workers.items() if case.startswith(at)} for at in ("a/", "b/")}
    assert [len(each) for each in by_prompt.values()] == [1, 1]
    assert project.replay().ret == 0


@pytest.mark.parametrize("option", ["--promptfit-record", "--promptfit-record=all", "--promptfit-prune"])
@pytest.mark.parametrize("dist", [(), ("--dist=load",), ("--dist=worksteal",), ("--dist=each",)])
def test_writing_is_refused_where_a_prompt_may_be_scattered(
    project: Project, option: str, dist: tuple[str, ...]
) -> None:
    project.write()
    result = project.run(option, *TWO, *dist)
    assert result.ret == 4
    (line,) = [line for line in result.errlines if line]
    assert line == (
        f"ERROR: {option.partition('=')[0]} under pytest-xdist needs --dist loadgroup, "
        "so that a prompt stays on one worker"
    )
    assert project.model.asked == []


@pytest.mark.parametrize("option", ["--promptfit-budget=1", "--promptfit-max-calls=1"])
def test_limits_are_refused_since_they_count_in_one_process(project: Project, option: str) -> None:
    project.write()
    result = project.record(option, *TWO, "--dist=loadgroup")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {option.partition('=')[0]} counts in one process: *"])


def test_xdist_without_workers_is_like_none(project: Project) -> None:
    project.write()
    assert project.record("-p", "xdist", "-n0", "--promptfit-max-calls=9").ret == 0


def test_update_and_prune(recorded: Project) -> None:
    recorded.write(MOODS, at="a/mood.prompt.yaml")
    result = recorded.replay(*TWO, "--dist=loadgroup", "--promptfit-update", "--promptfit-prune")
    assert result.ret == 1
    lines = section(result)
    assert "a/mood.baseline.json: written" in lines
    assert "b@c/other.baseline.json: written" in lines
    assert "  note: 2 obsolete replies pruned" in lines
    metrics = recorded.baseline("b@c/other")["metrics"]
    assert (metrics["accuracy"], metrics["correct"], metrics["missing"], metrics["total"]) == (0.8, 4, 0, 5)


def test_gated_misses_known_ones_and_half_characters_travel(project: Project) -> None:
    half_a_character = "\ud83d"
    project.model.says = lambda text: f"{half_a_character}<label>{'good' if 'lovely' in text else 'bad'}</label>"
    project.write((*MOODS, WRONG), at="strict.prompt.yaml")
    project.write((*MOODS, WRONG), at="gated.prompt.yaml", cases="gated")
    project.record("--promptfit-update")
    result = project.replay(*TWO)
    assert result.ret == 0
    assert result.parseoutcomes() == {"passed": 10, "xfailed": 1, "missed": 1}


def test_two_prompts_with_one_name_are_refused(project: Project) -> None:
    (project.path / "pytest.ini").touch()
    project.write(at="a/mood.prompt.yaml")
    project.write(at="b/mood.prompt.yaml")
    result = project.record(*TWO, "--dist=loadgroup")
    assert result.ret == 1
    assert "b/mood.prompt.yaml: name: 'mood' is also the name of a/mood.prompt.yaml: " in result.stdout.str()
    assert "INTERNALERROR" not in result.stdout.str()
    assert len(project.model.asked) == 4


def test_prompt_file_with_a_mistake(project: Project) -> None:
    project.write()
    project.write(at="bad.prompt.yaml", labls=["good"])
    result = project.record(*TWO, "--dist=loadgroup")
    assert result.ret == 1
    result.assert_outcomes(passed=4, skipped=1, errors=1)
    (line,) = [line for line in result.outlines if line.startswith("bad.prompt.yaml:")]
    assert "labls: unknown key" in line
