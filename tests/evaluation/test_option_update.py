"""``--promptfit-update``: today's outcomes become the baseline, unless that would hide a regression."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from mood_project import MOODS
from numbered_samples import compared, numbered, wrong_about

if TYPE_CHECKING:
    from mood_project import Project

WRONG = ("w1", "a dreadful bore, and I loved it", "good")


def case_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


def test_baseline_is_sorted_with_one_sample_a_line(project: Project) -> None:
    rows = (("z", "a lovely song", "good"), WRONG, ("é", "mumble", "bad"), *MOODS)
    path = project.write(rows, canonical=[{"id": "c", "text": "a lovely dog", "label": "good"}])
    project.record()
    result = project.replay("--promptfit-update")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["mood.baseline.json: written"])
    text = path.with_name("mood.baseline.json").read_text(encoding="utf-8")
    lines = case_lines(text)
    names = [line.split('"')[1] for line in lines]
    assert names == sorted(names)
    assert names == ["canonical-c", *(f"sample-{x}" for x in ("s1", "s2", "s3", "s4", "w1", "z", "é"))]
    assert lines[5] == '"sample-w1": {"outcome": "wrong", "label": "good", "predicted": "bad"},'
    assert lines[7] == '"sample-é": {"outcome": "missing", "label": "bad", "predicted": null}'
    assert text.endswith("}\n")


def test_baseline_tells_prompt_model_and_figures(project: Project) -> None:
    project.write((*MOODS, WRONG), canonical=[{"text": "a dreadful bore", "label": "good"}])
    project.record("--promptfit-update")
    value = project.baseline()
    assert list(value) == ["version", "prompt_hash", "model", "served", "metrics", "cases"]
    assert value["served"] == [{"model": "test", "fingerprints": []}]
    assert (value["version"], value["model"]) == (1, "openai/m")
    assert value["metrics"] == {
        "accuracy": 0.8,
        "correct": 4,
        "missing": 0,
        "total": 5,
        "input_tokens": 100.0,
        "output_tokens": 10.0,
    }
    assert project.report()["prompts"][0]["prompt_hash"] == value["prompt_hash"]


def test_second_update_leaves_the_file_alone(project: Project) -> None:
    path = project.write().with_name("mood.baseline.json")
    project.record("--promptfit-update")
    os.utime(path, ns=(1, 1))
    before = path.stat()
    result = project.replay("--promptfit-update")
    result.stdout.fnmatch_lines(["mood.baseline.json: unchanged"])
    after = path.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_partial_update_keeps_the_other_samples(project: Project) -> None:
    project.write((*MOODS, WRONG))
    project.record("--promptfit-update")
    before = project.baseline()["cases"]
    project.model.says = lambda _: "<label>good</label>"
    project.ask_anew()
    result = project.replay("--promptfit-update", "-k", "s1 or w1")
    assert result.ret == 0
    right = {"outcome": "right", "label": "good", "predicted": "good"}
    assert project.baseline()["cases"] == before | {"sample-w1": right}
    assert project.baseline()["metrics"]["correct"] == 5


def test_part_of_the_samples_cannot_be_accepted_as_newly_wrong(project: Project) -> None:
    """Nine of ten at a time would take any regression past the gate, which judges the whole file."""
    path = project.write(numbered(20))
    project.model.says = wrong_about(set())
    project.record("--promptfit-update")
    before = project.baseline()
    project.model.says = wrong_about(set(range(20)))
    project.ask_anew()
    result = project.replay("--promptfit-update", "--deselect", f"{path.name}::sample-n019")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["error: mood.baseline.json: not updated: 19 of the selected samples are newly wrong*run the whole file*"]
    )
    assert project.baseline() == before


def test_partial_update_keeps_prompt_and_model_of_each_case(project: Project) -> None:
    project.write((*MOODS, WRONG))
    project.record("--promptfit-update")
    before = project.baseline()
    project.write((*MOODS, WRONG), model={"provider": "openai", "name": "other", "base_url": project.model.url})
    project.record("--promptfit-update", "-k", "s1")
    value = project.baseline()
    assert (value["prompt_hash"], value["model"]) == (before["prompt_hash"], "openai/m")
    assert value["cases"]["sample-s1"] == before["cases"]["sample-s1"] | {"model": "openai/other"}
    project.record("--promptfit-update")
    assert project.baseline() == before | {"model": "openai/other"}


def test_update_renews_a_baseline_with_conflict_markers(project: Project) -> None:
    path = project.write((*MOODS, WRONG)).with_name("mood.baseline.json")
    project.record("--promptfit-update")
    lines = path.read_text().splitlines(keepends=True)
    at = next(at for at, line in enumerate(lines) if "sample-w1" in line)
    theirs = lines[at].replace('"wrong"', '"right"').replace('"bad"', '"good"')
    lines[at : at + 1] = ["<<<<<<< HEAD\n", lines[at], "=======\n", theirs, ">>>>>>> other\n"]
    path.write_text("".join(lines))
    assert project.replay().ret == 2
    assert project.replay("--promptfit-update").ret == 0
    assert project.replay().ret == 0


def test_removed_samples_leave_the_baseline(project: Project) -> None:
    project.write((*MOODS, WRONG))
    project.record("--promptfit-update")
    project.write(MOODS[:3])
    project.replay("--promptfit-update", "-k", "s1")
    assert list(project.baseline()["cases"]) == ["sample-s1", "sample-s2", "sample-s3"]


def test_sample_without_a_reply_keeps_what_was_accepted(project: Project) -> None:
    path = project.write(MOODS)
    project.record("--promptfit-update")
    project.write((*MOODS, ("new", "a lovely new day", "good")))
    result = project.replay("--promptfit-update")
    assert result.ret == 1
    assert list(project.baseline()["cases"]) == [f"sample-s{number}" for number in range(1, 5)]
    assert path.exists()


def test_nothing_is_accepted_without_a_reply(project: Project) -> None:
    project.write()
    result = project.replay("--promptfit-update")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["mood.baseline.json: not updated: no sample has a reply"])
    assert not (project.path / "mood.baseline.json").exists()


def test_update_is_refused_when_the_regression_gate_fails(project: Project) -> None:
    compared(project, 20, before=set(), after={1, 2, 3, 4, 5, 6})
    before = project.baseline()
    result = project.replay("--promptfit-update")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["error: mood.baseline.json: not updated: worse beyond chance (--promptfit-update=force accepts it)"]
    )
    assert project.baseline() == before

    forced = project.replay("--promptfit-update=force", "-rx")
    assert forced.ret == 0
    forced.stdout.fnmatch_lines(
        ["XFAIL *::gate-regression - accepted by --promptfit-update=force: worse than its baseline by 30.0 points*"]
    )
    assert [name for name, case in project.baseline()["cases"].items() if case["outcome"] == "wrong"] == [
        f"sample-n{number:03}" for number in range(1, 7)
    ]
    assert project.replay().ret == 0


def test_refusal_is_an_error_although_no_gate_is_selected(project: Project) -> None:
    compared(project, 20, before=set(), after={1, 2, 3, 4, 5, 6})
    before = project.baseline()
    result = project.replay("--promptfit-update", "-m", "labeled")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: *not updated*"])
    assert project.baseline() == before


def test_refused_update_fails_the_wrong_cases_of_a_strict_file(project: Project) -> None:
    project.write(numbered(20))
    project.model.says = wrong_about(set())
    project.record("--promptfit-update")
    project.model.says = wrong_about({1, 2, 3, 4, 5, 6})
    project.ask_anew()
    result = project.replay("--promptfit-update")
    result.assert_outcomes(passed=14, failed=7)


def test_refusal_of_one_prompt_does_not_hold_up_another(project: Project) -> None:
    compared(project, 20, before=set(), after={1, 2, 3, 4, 5, 6})
    project.write(numbered(3), at="other.prompt.yaml", gates={"regression": False})
    project.record()
    result = project.replay("--promptfit-update", "--promptfit-json", "report.json")
    assert result.ret == 1
    assert len(project.baseline("other")["cases"]) == 3
    assert len(json.loads((project.path / "report.json").read_text())["prompts"]) == 2


def test_wrong_cases_do_not_fail_under_update_but_canonicals_do(project: Project) -> None:
    project.write((*MOODS, WRONG), canonical=[{"text": "a dreadful bore", "label": "good"}])
    project.record()
    result = project.replay("--promptfit-update")
    assert result.ret == 1
    result.assert_outcomes(passed=4, xfailed=1, failed=1, skipped=1)


def test_bare_update_does_not_swallow_the_path_behind_it(project: Project) -> None:
    project.write(at="prompts/mood.prompt.yaml")
    project.write(at="others/mind.prompt.yaml")
    project.record()
    project.replay("--promptfit-update", "prompts").assert_outcomes(passed=4, skipped=1)
    assert (project.path / "prompts/mood.baseline.json").exists()
    assert not (project.path / "others/mind.baseline.json").exists()


def test_unknown_choice_is_a_usage_error(project: Project) -> None:
    project.write()
    result = project.replay("--promptfit-update=perhaps")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*argument --promptfit-update*'perhaps'"])


def test_collecting_writes_no_baseline(project: Project) -> None:
    project.write()
    project.record()
    project.replay("--promptfit-update", "--collect-only")
    assert not (project.path / "mood.baseline.json").exists()
