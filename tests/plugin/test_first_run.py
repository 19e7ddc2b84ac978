"""A first run, without recordings, key or baseline: three lines say what to do next, and nothing is repeated."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from numbered_samples import numbered
from summary_lines import section

if TYPE_CHECKING:
    import pytest
    from mood_project import Project


def test_three_lines_say_what_to_do(project: Project) -> None:
    project.write(model="openai/gpt-4.1-nano")
    result = project.replay()
    assert result.ret == 1
    assert section(result) == [
        "u: not recorded",
        "mood.prompt.yaml (openai/gpt-4.1-nano)",
        "  nothing is recorded yet. Recording takes 4 calls, less than $0.0001; "
        "first: openai/gpt-4.1-nano: no API key: set OPENAI_API_KEY (or name another variable with model.api_key_env).",
        "  record:  pytest --promptfit --promptfit-record mood.prompt.yaml",
        "  then:    pytest --promptfit --promptfit-update mood.prompt.yaml  "
        "(accepts the outcomes as baseline; commit it)",
    ]


def test_hundreds_of_samples_do_not_say_the_same_hundreds_of_times(project: Project) -> None:
    project.write(numbered(300))
    result = project.replay()
    assert result.ret == 1
    assert len(result.outlines) < 40
    assert "300 failed" in result.outlines[-1]
    assert "no reply" not in result.stdout.str()


def test_key_that_is_set_is_not_asked_for(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-mine")
    project.write(model="openai/gpt-4.1-nano")
    result = project.replay()
    result.stdout.fnmatch_lines(["  nothing is recorded yet. Recording takes 4 calls, less than $0.0001."])
    assert "a-key-of-mine" not in result.stdout.str()


def test_local_model_costs_nothing_and_says_what_is_not_installed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTFIT_MODELS", str(project.path))
    project.write(model="local/none-of-mine")
    project.replay().stdout.fnmatch_lines(
        ["  nothing is recorded yet. Recording takes 4 calls, local, free; first: local/none-of-mine: no GGUF file *"]
    )


def test_the_commands_do_what_they_say(project: Project) -> None:
    project.write()
    lines = section(project.replay())
    for start in ("  record:  pytest ", "  then:    pytest "):
        (command,) = [line.removeprefix(start).partition("  (")[0] for line in lines if line.startswith(start)]
        assert project.pytest(*command.split()).ret == 0
    assert len(project.baseline()["cases"]) == 4
    assert project.replay().ret == 0


def test_lost_cassettes_are_told_from_a_first_run(project: Project) -> None:
    project.write()
    project.record("--promptfit-update")
    for path in (project.path / "cassettes" / "mood").iterdir():
        path.unlink()
    lines = section(project.replay())[1:]
    assert lines[1].startswith("  nothing is recorded, though there is a baseline: was its cassette folder committed? ")
    assert lines[3] == "  then:    pytest --promptfit mood.prompt.yaml  (replays, and compares with the baseline)"


def test_each_case_is_unrecorded_in_a_verbose_run_and_failed_for_machines(project: Project) -> None:
    project.write()
    result = project.replay("-v", "--junitxml=cases.xml", "--promptfit-json=report.json")
    result.stdout.fnmatch_lines(["mood.prompt.yaml::sample-s1 UNRECORDED*"])
    xml = (project.path / "cases.xml").read_text()
    assert 'failures="4"' in xml
    assert "pytest --promptfit --promptfit-record mood.prompt.yaml::sample-s1" in xml
    (prompt,) = json.loads((project.path / "report.json").read_text())["prompts"]
    assert prompt["labeled"]["unanswered"] == 4


def test_last_failed_runs_them_again(project: Project) -> None:
    project.write()
    project.replay("-p", "cacheprovider")
    result = project.record("--lf", "-p", "cacheprovider")
    assert len(project.model.asked) == 4
    assert result.ret == 0


def test_under_xdist(project: Project) -> None:
    project.write()
    result = project.replay("-p", "xdist", "-n", "2", "--dist", "loadgroup")
    assert result.ret == 1
    assert "4 failed" in result.stdout.str()
    assert result.stdout.str().count("nothing is recorded yet") == 1


def test_on_github_one_annotation_a_prompt(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    project.write(numbered(100))
    said = re.findall("^::error .*", project.replay().stdout.str(), re.MULTILINE)
    assert len(said) == 1
    assert said[0].startswith("::error file=mood.prompt.yaml,line=1,title=mood::100 of 100 not recorded: nothing ")
    assert "%0Arecord:  pytest --promptfit --promptfit-record mood.prompt.yaml%0A" in said[0]


def test_samples_that_were_added_later_are_counted_with_their_command(project: Project) -> None:
    project.write(numbered(10))
    project.record()
    project.write(numbered(12))
    result = project.replay()
    result.assert_outcomes(passed=10, failed=2, skipped=1)
    lines = section(result)
    at = lines.index("  2 of 12 not recorded: this sample is new, was not asked yet, or its text was edited")
    assert lines[at + 1 : at + 3] == [
        "  record:  pytest --promptfit --promptfit-record mood.prompt.yaml",
        "           2 calls, its price is not known",
    ]


def test_recorded_run_says_nothing_of_it(project: Project) -> None:
    project.write()
    project.record()
    assert "record" not in "\n".join(section(project.replay()))
