"""What a case passes and fails for: strict and gated files, canonicals, known misses, missing labels and replies."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from mood_project import MOODS, Project

from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.cassettes.recorder import Recorder

if TYPE_CHECKING:
    from pathlib import Path

WRONG = ("w1", "a dreadful bore, and I loved it", "good", "irony: the second half counts")
"""A sample that the model gets wrong."""

UNREAD = ("u1", "mumble", "bad")


def outcomes(result: pytest.RunResult) -> dict[str, int]:
    return {name: count for name, count in result.parseoutcomes().items() if name not in ("warning", "warnings")}


def failure(result: pytest.RunResult) -> str:
    return "\n".join(result.outlines).partition("FAILURES")[2].partition("== promptfit ==")[0]


def test_strict_right_passes(project: Project) -> None:
    project.write()
    assert project.record().ret == 0
    result = project.replay()
    assert result.ret == 0
    assert outcomes(result) == {"passed": 4, "skipped": 1}


def test_strict_wrong_fails_and_says_what_to_do(project: Project) -> None:
    project.write((*MOODS, WRONG), at="prompts/mood.prompt.yaml")
    project.record()
    result = project.replay()
    assert result.ret == 1
    assert outcomes(result) == {"passed": 4, "failed": 1, "skipped": 1}
    assert [line.strip() for line in failure(result).splitlines() if line.startswith(("  ", "expected"))] == [
        "expected good, read bad",
        "sample:  prompts/mood.csv:6 (w1)",
        "text:    a dreadful bore, and I loved it",
        "label:   good",
        "read:    bad",
        "reply:   Label: <label>bad</label>",
        "note:    irony: the second half counts",
        "accept:  pytest --promptfit --promptfit-update prompts/mood.prompt.yaml",
        "re-ask:  pytest --promptfit --promptfit-record=all prompts/mood.prompt.yaml::sample-w1",
    ]
    assert "Traceback" not in result.stdout.str()


def test_the_commands_of_a_failure_work(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write((("it's @ me", "a dreadful bore", "good"), *MOODS), at="prompts@home/mood.prompt.yaml")
    (project.path / "pytest.ini").write_text("[pytest]\n")
    project.record()
    monkeypatch.chdir(project.path / "prompts@home")
    result = project.replay()
    assert "accept:  pytest --promptfit --promptfit-update mood.prompt.yaml\n" in failure(result)
    again = """re-ask:  pytest --promptfit --promptfit-record=all 'mood.prompt.yaml::sample-it'"'"'s @ me'"""
    assert again in failure(result)
    assert outcomes(project.replay("--promptfit-update", "mood.prompt.yaml"))["xfailed"] == 1
    assert outcomes(project.replay()) == {"passed": 5, "xfailed": 1}


def test_inline_sample_is_named_with_its_line_in_the_prompt_file(project: Project) -> None:
    path = project.write((), samples=[{"id": "a", "text": "a dreadful bore", "label": "good"}])
    line = path.read_text().splitlines().index("- id: a") + 1
    project.record()
    assert f"sample:  mood.prompt.yaml:{line} (a)" in failure(project.replay())


def test_long_reply_and_text_are_cut(project: Project) -> None:
    project.model.says = lambda _: "so " * 2000 + "<label>bad</label>"
    project.write((("long", "a lovely day " * 500, "good"),))
    project.record()
    lines = failure(project.replay()).splitlines()
    cut = [line for line in lines if line.startswith(("  text:", "  reply:"))]
    assert len(cut) == 2
    assert all(line.endswith("…") and len(line) <= 311 for line in cut)


def test_canonical_wrong_fails_always(project: Project) -> None:
    project.write(canonical=[{"id": "never", "text": "a dreadful bore", "label": "good", "note": "must pass"}])
    project.record()
    for arguments in ((), ("--promptfit-update",), ("--promptfit-update=force",), ()):
        result = project.replay(*arguments)
        assert result.ret == 1
        assert outcomes(result)["failed"] == 1
        assert "(canonical " in failure(result)
        assert "accept:" not in failure(result)


def test_canonical_column(project: Project) -> None:
    project.write(samples={"file": "mood.csv", "id": "id"})
    (project.path / "mood.csv").write_text(
        "id,text,label,canonical\na,a lovely day,good,yes\nb,a dreadful day,bad,\nc,a dreadful bore,good,1\n"
    )
    project.record()
    result = project.replay("-v", "--promptfit-update")
    result.stdout.fnmatch_lines(["*::canonical-a PASSED*", "*::sample-b PASSED*", "*::canonical-c FAILED*"])


def test_known_miss_is_xfailed_and_then_xpassed(project: Project) -> None:
    project.write((*MOODS, WRONG))
    (project.path / "pytest.ini").write_text("[pytest]\nxfail_strict = true\n")
    project.record()
    assert project.replay("--promptfit-update").ret == 0
    known = project.replay("-rx")
    assert known.ret == 0
    assert outcomes(known) == {"passed": 5, "xfailed": 1}
    known.stdout.fnmatch_lines(["XFAIL mood.prompt.yaml::sample-w1 - wrong, as in the baseline"])

    project.model.says = lambda text: "<label>good</label>" if "lov" in text else "<label>bad</label>"
    project.ask_anew()
    better = project.replay("-rX")
    assert better.ret == 0
    assert outcomes(better) == {"passed": 5, "xpassed": 1}
    better.stdout.fnmatch_lines(["XPASS mood.prompt.yaml::sample-w1 - a known miss of the baseline is right again"])

    assert project.replay("--promptfit-update").ret == 0
    assert outcomes(project.replay()) == {"passed": 6}


def test_runxfail_reports_known_misses_as_if_there_were_no_baseline(project: Project) -> None:
    project.write((*MOODS, WRONG))
    project.record()
    project.replay("--promptfit-update")
    wrong = project.replay("--runxfail")
    assert wrong.ret == 1
    assert outcomes(wrong) == {"passed": 5, "failed": 1}
    assert "expected good, read bad" in failure(wrong)
    project.model.says = lambda text: "<label>good</label>" if "lov" in text else "<label>bad</label>"
    project.ask_anew()
    assert outcomes(project.replay("--runxfail")) == {"passed": 6}


def test_gated_miss_is_counted_and_never_fails_alone(project: Project) -> None:
    project.write((*MOODS, WRONG, UNREAD), cases="gated", gates={"accuracy": 0.6})
    project.record()
    result = project.replay("-v")
    assert result.ret == 0
    assert outcomes(result) == {"passed": 5, "missed": 2, "skipped": 1}
    result.stdout.fnmatch_lines(["*::sample-w1 MISSED*", "*::sample-u1 MISSED*"])

    project.write((*MOODS, WRONG, UNREAD), cases="gated", gates={"accuracy": 0.7})
    result = project.replay()
    assert result.ret == 1
    assert outcomes(result) == {"passed": 4, "missed": 2, "failed": 1, "skipped": 1}


def test_gated_file_keeps_its_misses_under_update(project: Project) -> None:
    project.write((*MOODS, WRONG), cases="gated")
    project.record()
    for arguments in (("--promptfit-update",), ()):
        result = project.replay(*arguments)
        assert result.ret == 0
        assert outcomes(result)["missed"] == 1


def test_missing_label(project: Project) -> None:
    project.write((UNREAD,))
    project.record()
    result = project.replay()
    assert result.ret == 1
    assert 'expected bad, and no label could be read: "I cannot tell." is no label\n' in failure(result)
    assert "read:    no label\n" in failure(result)
    assert "reply:   I cannot tell.\n" in failure(result)


@pytest.mark.parametrize(
    ("reason", "said"),
    [("length", "the reply was cut at the token limit: raise max_tokens"), ("content_filter", "content filter")],
)
def test_missing_label_says_why_when_the_api_does(project: Project, reason: str, said: str) -> None:
    from loopback_server import chat

    project.model.says = lambda _: chat("Let me think about", finish_reason=reason)
    project.write((UNREAD,))
    project.record()
    assert said in failure(project.replay())


def test_known_miss_without_a_label(project: Project) -> None:
    project.write((*MOODS, UNREAD))
    project.record()
    project.replay("--promptfit-update")
    result = project.replay("-rx")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["XFAIL mood.prompt.yaml::sample-u1 - missing, as in the baseline"])


@pytest.mark.parametrize("cases", ["strict", "gated"])
def test_missing_recording_fails_with_the_command_that_records_it(project: Project, cases: str) -> None:
    project.write(cases=cases)
    project.record("mood.prompt.yaml::sample-s1", "mood.prompt.yaml::sample-s2", "mood.prompt.yaml::sample-s3")
    result = project.replay()
    assert result.ret == 1
    assert outcomes(result) == {"passed": 3, "failed": 1, "skipped": 1}
    assert failure(result) == ""
    assert "  record:  pytest --promptfit --promptfit-record mood.prompt.yaml" in result.outlines
    told = failure(project.replay("-v"))
    assert "  record:  pytest --promptfit --promptfit-record mood.prompt.yaml::sample-s4\n" in told
    assert "read:" not in told
    assert outcomes(project.record("mood.prompt.yaml::sample-s4")) == {"passed": 1}
    assert outcomes(project.replay()) == {"passed": 4, "skipped": 1}


def test_known_miss_without_a_recording_has_no_excuse(project: Project) -> None:
    project.write((*MOODS, WRONG))
    project.record()
    project.replay("--promptfit-update")
    project.write((*MOODS, WRONG), params={"temperature": 0})
    result = project.replay()
    assert outcomes(result) == {"failed": 5, "skipped": 1}


def test_reply_that_cannot_be_read_fails_its_case_alone(project: Project) -> None:
    path = project.write()
    project.record()
    _break_one_reply(project.path / "cassettes" / "mood")
    result = project.replay()
    assert outcomes(result) == {"passed": 3, "failed": 1, "skipped": 1}
    assert "Traceback" not in result.stdout.str()
    assert "record:" in result.stdout.str()
    assert project.record(path).ret == 0
    assert len(project.model.asked) == 5


def _break_one_reply(folder: Path) -> None:
    first, *_ = Cassette.load(folder)
    with Recorder.open(folder, replace=True) as recorder:
        recorder.keep(replace(first, body=first.body.replace("choices", "chooses")))
