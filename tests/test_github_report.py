"""On GitHub Actions: annotations at the samples' own lines, and a table in the job summary."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from conftest import MOODS

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Project

WRONG = ("w1", "a dreadful bore, and I loved it", "good")


@pytest.fixture
def summary(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The job summary of a run on GitHub Actions."""
    path = project.path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path))
    return path


def annotations(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if line.startswith("::")]


def test_failed_sample_is_annotated_at_its_line(project: Project, summary: Path) -> None:
    project.write((*MOODS, WRONG), at="prompts/mood.prompt.yaml")
    project.record()
    assert annotations(project.replay()) == [
        "::error file=prompts/mood.csv,line=6,title=mood%3A sample-w1"
        "::expected good, read bad: a dreadful bore, and I loved it"
    ]


def test_failed_gate_is_annotated_at_the_prompt(project: Project, summary: Path) -> None:
    project.write((*MOODS, WRONG), cases="gated", gates={"accuracy": 0.9})
    project.record()
    (line,) = annotations(project.replay())
    assert line.startswith("::error file=mood.prompt.yaml,line=1,title=gate accuracy::accuracy 0.800 (4 of 5, 95 %25 ")


def test_known_and_gated_misses_are_no_annotations(project: Project, summary: Path) -> None:
    project.write((*MOODS, WRONG))
    project.record("--promptfit-update")
    assert annotations(project.replay()) == []


def test_paths_are_those_of_the_repository_wherever_pytest_starts(
    project: Project, summary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write((WRONG,), at="sub/prompts/mood.prompt.yaml")
    (project.path / "sub/pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(project.path / "sub")
    project.record()
    (line,) = annotations(project.replay())
    assert line.startswith("::error file=sub/prompts/mood.csv,line=2,")


def test_job_summary(project: Project, summary: Path) -> None:
    project.write((*MOODS, WRONG), gates={"accuracy": 0.9})
    project.record()
    summary.write_text("earlier step\n")
    project.replay()
    assert summary.read_text().splitlines() == [
        "earlier step",
        "### promptfit",
        "",
        "| prompt | model | figures | baseline | gates |",
        "| --- | --- | --- | --- | --- |",
        "| <code>mood.prompt.yaml</code> | <code>openai/m</code> "
        "| accuracy 0.800 (4 of 5), 95 % interval 0.376-0.964 | none | accuracy **failed**, regression not judged |",
        "",
        "<details><summary><code>mood</code>: 1 failed cases</summary>",
        "",
        "| case | expected | read | text |",
        "| --- | --- | --- | --- |",
        "| <code>sample-w1</code> | <code>good</code> | <code>bad</code> "
        "| <code>a dreadful bore, and I loved it</code> |",
        "",
        "</details>",
        "",
        "<code>mood</code>: 5 replies, 100% replayed, 500 tokens in, 50 out, $0.0000 paid",
        "",
    ]


def test_job_summary_tells_what_changed(project: Project, summary: Path) -> None:
    project.write((*MOODS, WRONG))
    project.record("--promptfit-update")
    summary.unlink()
    project.replay()
    assert "| fixed 0, broken 0, p = 0.5 | regression passed |" in summary.read_text()


def test_hostile_text_is_only_text(project: Project, summary: Path) -> None:
    hostile = (
        "bad\n::error file=x::injected\r\n| a | `b` **c** <script>alert(1)</script> ![i](http://x) %0A::warning::y "
    )
    path = project.write((), labels=["good", "bad"], samples={"file": "samples.json", "id": "id"}, name="a|b,c:<i>")
    path.with_name("samples.json").write_text(json.dumps([{"id": "a,b:c%|*", "text": hostile, "label": "good"}]))
    project.record()
    result = project.replay()
    (line,) = annotations(result)
    assert line.startswith(
        "::error file=samples.json,line=1,title=a|b%2Cc%3A<i>%3A sample-a%2Cb%3Ac%25|*::expected good"
    )
    assert "%250A::w" in line
    text = summary.read_text()
    assert not any(mark in text for mark in ("<script>", "`b`", "**c**", "![i]", "<i>", "\r"))
    (row,) = [line for line in text.splitlines() if "sample-a" in line][-1:]
    assert row.count("|") == 5
    assert not any(line.startswith("::") for line in text.splitlines())


@pytest.mark.parametrize("value", ["", "false", None])
def test_nothing_elsewhere(project: Project, summary: Path, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("GITHUB_ACTIONS")
    else:
        monkeypatch.setenv("GITHUB_ACTIONS", value)
    project.write((WRONG,))
    project.record()
    assert annotations(project.replay()) == []
    assert not summary.exists()


def test_run_without_prompts_adds_nothing(project: Project, summary: Path) -> None:
    (project.path / "test_own.py").write_text("def test_own(): pass\n")
    project.replay()
    assert not summary.exists()


def test_summary_that_cannot_be_written_is_one_line(
    project: Project, summary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path))
    project.write()
    project.record("-q")
    result = project.replay()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: GITHUB_STEP_SUMMARY *: cannot be written: *"])
    assert "Traceback" not in result.stdout.str()


def test_annotations_are_limited(project: Project, summary: Path) -> None:
    project.model.says = lambda _: "<label>bad</label>"
    project.write(tuple((f"n{number}", f"day {number}", "good") for number in range(60)))
    project.record()
    assert len(annotations(project.replay())) == 50


STRANGE = "::stop-commands::x ##[add-mask]m @octocat #1 $a$ ~~b~~ www.evil.example https://e.example <img src=x>"


def test_no_word_of_a_stranger_is_a_command_or_markup(project: Project, summary: Path) -> None:
    labels = [STRANGE, "bad"]
    path = project.write(
        (), labels=labels, samples={"file": "samples.json", "id": "id"}, name=STRANGE.replace("/", "-")[:75]
    )
    row = {"id": STRANGE, "text": f"\n{STRANGE}", "label": STRANGE, "note": STRANGE}
    path.with_name("samples.json").write_text(json.dumps([row, {"id": "2", "text": "other", "label": "bad"}]))
    project.model.says = lambda _: f"\n{STRANGE}"
    project.record("--promptfit-update", "-q")
    project.model.says = lambda _: f"\n{STRANGE}\n<label>bad</label>"
    project.ask_anew("-q")
    result = project.replay("-v", "-rA")
    assert result.ret == 1
    lines = [*result.outlines, *result.errlines]
    assert [line for line in lines if line.lstrip().startswith("::")] == annotations(result)
    assert all(line.startswith("::error file=") for line in annotations(result))
    assert not [line for line in lines if "##[" in line]
    text = summary.read_text()
    assert "stop-commands" in text
    assert not [mark for mark in ("@octo", " #1", "$a", "~~", "www.", "https:", "<img", "##[") if mark in text]
    row_of_case = [line for line in text.splitlines() if line.startswith("| <code>sample-")][-1]
    assert row_of_case.count("<code>") == row_of_case.count("</code>") == 4
