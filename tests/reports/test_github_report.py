"""On GitHub Actions: annotations at the samples' own lines, and a table in the job summary."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from mood_project import MOODS

if TYPE_CHECKING:
    from pathlib import Path

    from mood_project import Project

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


def of_samples(result: pytest.RunResult) -> list[str]:
    """Return the annotations without the first one of a prompt, its verdict."""
    return [line for line in annotations(result) if "%3A " in line.partition("::error ")[2].partition("::")[0]]


def test_failed_sample_is_annotated_at_its_line(project: Project, summary: Path) -> None:
    project.write((*MOODS, WRONG), at="prompts/mood.prompt.yaml")
    project.record()
    assert annotations(project.replay()) == [
        "::error file=prompts/mood.prompt.yaml,line=1,title=mood::no baseline yet: 80.0 %25 right. "
        "Fails: 1 sample newly wrong.",
        "::error file=prompts/mood.csv,line=6,title=mood%3A sample-w1"
        "::expected good, read bad: a dreadful bore, and I loved it",
    ]


def test_failed_gate_is_annotated_at_the_prompt(project: Project, summary: Path) -> None:
    project.write((*MOODS, WRONG), cases="gated", gates={"accuracy": 0.9})
    project.record()
    (line,) = annotations(project.replay())
    assert line.startswith(
        "::error file=mood.prompt.yaml,line=1,title=mood::no baseline yet: 80.0 %25 right. Fails: gate"
    )
    assert "%0Agate accuracy: accuracy 80.0 %25 (4 of 5, 95 %25 interval " in line


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
    verdict, line = annotations(project.replay())
    assert verdict.startswith("::error file=sub/prompts/mood.prompt.yaml,line=1,")
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
        "- ❌ <code>mood&#58; no baseline yet&#58; 80.0 % right. "
        "Fails&#58; gate accuracy, 1 sample newly wrong.</code>",
        "",
        "| prompt | model | accuracy | against | gates |",
        "| --- | --- | --- | --- | --- |",
        "| <code>mood.prompt.yaml</code> | <code>openai/m</code> "
        "| 80.0 % (4 of 5) | none | accuracy **failed**, regression not judged |",
        "",
        "- gate accuracy: <code>accuracy 80.0 % (4 of 5, 95 % interval 37.6 % to 96.4 %), floor 90.0 %</code>",
        "",
        "<details><summary><code>mood</code>: 1 miss</summary>",
        "",
        "| label → read | case | text |",
        "| --- | --- | --- |",
        "| <code>good</code> → <code>bad</code> | <code>sample-w1</code> "
        "| <code>a dreadful bore, and I loved it</code> |",
        "",
        "</details>",
        "",
        "<code>mood</code>: 5 replies, all replayed, 500 tokens in, 50 out",
        "",
    ]


def test_job_summary_tells_what_changed(project: Project, summary: Path) -> None:
    project.write((*MOODS, WRONG))
    project.record("--promptfit-update")
    summary.unlink()
    project.replay()
    text = summary.read_text()
    assert "| <code>its baseline</code> unchanged | regression passed |" in text
    assert "- ✅ <code>mood&#58; unchanged from its baseline&#58; 80.0 %. Passes.</code>" in text


def test_hostile_text_is_only_text(project: Project, summary: Path) -> None:
    hostile = (
        "bad\n::error file=x::injected\r\n| a | `b` **c** <script>alert(1)</script> ![i](http://x) %0A::warning::y "
    )
    path = project.write((), labels=["good", "bad"], samples={"file": "samples.json", "id": "id"}, name="a|b,c:<i>")
    path.with_name("samples.json").write_text(json.dumps([{"id": "a,b:c%|*", "text": hostile, "label": "good"}]))
    project.record()
    result = project.replay()
    (line,) = of_samples(result)[-1:]
    assert line.startswith(
        "::error file=samples.json,line=1,title=a|b%2Cc%3A<i>%3A sample-a%2Cb%3Ac%25|*::expected good"
    )
    assert "%250A::w" in line
    text = summary.read_text()
    assert not any(mark in text for mark in ("<script>", "`b`", "**c**", "![i]", "<i>", "\r"))
    (row,) = [line for line in text.splitlines() if "sample-a" in line][-1:]
    assert row.count("|") == 4
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
    said = annotations(project.replay())
    assert len(said) == 10  # GitHub shows no more of a step
    assert said[0].startswith("::error file=mood.prompt.yaml,")
    assert said[-1].endswith(" (and 51 more in the job summary)")
    assert "| 10 more | | |" in summary.read_text()


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
    row_of_case = [line for line in text.splitlines() if "<code>sample-" in line][-1]
    assert row_of_case.count("<code>") == row_of_case.count("</code>") == 4


def test_verdict_comes_first_at_the_line_that_was_changed(project: Project, summary: Path) -> None:
    rows = tuple((f"n{number:02}", f"a lovely day {number}", "good") for number in range(20))
    canonical = [{"id": "c", "text": "a dreadful bore", "label": "bad"}]
    path = project.write(rows, cases="gated", canonical=canonical)
    project.record("--promptfit-update", "-q")
    project.git("init", "--initial-branch=main")
    project.git("add", "--all")
    project.git("commit", "--message=Start")
    text = path.read_text().replace("Is the mood good or bad?", "Good ``` or <b>bad</b>?")
    path.write_text(text)
    project.model.says = lambda text: f"<label>{'bad' if 'lovely' in text else 'good'}</label>"
    project.record("-q")
    summary.unlink()
    result = project.replay("--promptfit-against", "main")
    said = annotations(result)
    line = text.splitlines().index("  system_prompt: Good ``` or <b>bad</b>?") + 1
    assert said[0].startswith(
        f"::error file=mood.prompt.yaml,line={line},title=mood::worse than main: 100.0 %25 → 0.0 %25"
    )
    assert said[1].startswith("::error file=mood.prompt.yaml,")
    assert "canonical-c" in said[1]
    assert all("mood.csv" in other for other in said[2:])
    assert len(said) == 10
    printed = result.stdout.str()
    assert printed.count("expected good, read bad") == 8
    assert "misses (" not in printed
    lines = summary.read_text().splitlines()
    assert lines[2].startswith(
        "- ❌ <code>mood&#58; worse than main&#58; 100.0 % → 0.0 %, −100.0 points (fixed 0, broke 20,"
    )
    assert lines[4:6] == ["<code>mood.prompt.yaml</code> since <code>main</code>:", ""]
    assert lines[6] == "````diff"
    assert lines.index("-  system_prompt: Is the mood good or bad?") < lines.index("````")
    assert "+  system_prompt: Good ``` or <b>bad</b>?" in lines[6 : lines.index("````")]


def test_a_long_diff_is_cut(project: Project, summary: Path) -> None:
    path = project.write(cases="gated")
    project.git("init", "--initial-branch=main")
    project.git("add", "--all")
    project.git("commit", "--message=Start")
    path.write_text(path.read_text() + "".join(f"# {number}\n" for number in range(300)))
    project.record("-q")
    lines = summary.read_text().splitlines()
    start, end = lines.index("```diff"), lines.index("```")
    assert end - start == 102
    assert lines[end - 1].startswith("… 2")
