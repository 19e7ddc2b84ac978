"""Replies with status 200 that are none, and refusals that are nothing of the sample's: recorded, retried, told."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from loopback_server import AT_ONCE, Answer, LoopbackServer, error, json_answer

from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.cassettes.recorder import Recorder

if TYPE_CHECKING:
    from pathlib import Path

    from mood_project import Project

STRANGE = "a dreadful walk"
FAILED = json_answer(
    {
        "choices": [
            {"message": {"content": ""}, "finish_reason": "error", "error": {"code": 502, "message": "upstream broke"}}
        ]
    },
    **AT_ONCE,
)


def write(project: Project, *, params: dict[str, Any] | None = None, **model: Any) -> Path:
    known = {"provider": "openai", "name": "m", "base_url": project.model.url, "max_retries": 1}
    return project.write(model={**known, **model}, params=params or {})


def bodies(project: Project) -> list[str]:
    return [entry.body for entry in Cassette.load(project.path / "cassettes" / "mood")]


def answer_strangely(project: Project, answer: Answer) -> None:
    plain = project.model.says
    project.model.says = lambda text: answer if STRANGE in text else plain(text)


def test_a_200_with_an_error_is_retried_not_recorded_and_asked_again_by_the_next_run(project: Project) -> None:
    write(project)
    good = project.model.says
    answer_strangely(project, FAILED)
    result = project.record("--promptfit-update")
    result.assert_outcomes(passed=3, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*the server failed, still after the retries (200, *): upstream broke; try again*"])
    assert (len(project.model.asked), len(bodies(project))) == (5, 3)
    assert "s4" not in json.dumps(project.baseline())
    project.model.says = good
    project.record().assert_outcomes(passed=4, skipped=1)
    assert len(project.model.asked) == 6


def test_what_was_recorded_as_a_reply_and_is_none_counts_as_not_recorded(project: Project) -> None:
    write(project)
    project.record()
    folder = project.path / "cassettes" / "mood"
    with Recorder.open(folder, replace=True) as recorder:
        for entry in [entry for entry in recorder.cassette if entry.sample in ("s3", "s4")]:
            recorder.keep(replace(entry, body=FAILED.body.decode()))
    result = project.replay()
    result.assert_outcomes(passed=2, failed=2, skipped=1)
    said = [line for line in result.outlines if "upstream broke" in line]
    assert len(said) == 1
    assert "2 recordings hold no reply and count as not recorded; the first: openai/m: " in said[0]
    assert [line for line in result.outlines if "--promptfit-record" in line]
    asked = len(project.model.asked)
    project.record().assert_outcomes(passed=4, skipped=1)
    assert len(project.model.asked) == asked + 2
    project.replay().assert_outcomes(passed=4, skipped=1)


def test_one_flagged_sample_fails_alone_in_every_run(project: Project) -> None:
    write(project)
    flagged = {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["violence"]}}}
    answer_strangely(project, json_answer(flagged, 403))
    for asked in (4, 2):  # the first question of a run goes alone, and is asked again with the others
        before = len(project.model.asked)
        result = project.record()
        result.assert_outcomes(passed=3, failed=1, skipped=1)
        result.stdout.fnmatch_lines(["*refused by the content filter (403): flagged (violence)"])
        assert len(project.model.asked) - before <= asked


def test_a_refused_parameter_costs_one_call_and_is_told_with_its_cure(project: Project) -> None:
    write(project, params={"max_tokens": 5})
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    project.model.says = lambda _: error(400, said, "unsupported_parameter")
    result = project.record()
    assert len(project.model.asked) == 1
    result.stdout.fnmatch_lines([f"*(400): {said}; write max_completion_tokens in the place of max_tokens in params*"])


def test_extra_body_is_sent_as_the_sdk_sends_it(project: Project) -> None:
    write(project, params={"temperature": 0, "extra_body": {"top_k": 1, "guided": {"choice": ["a"]}}})
    project.record().assert_outcomes(passed=4, skipped=1)
    sent = project.model.server.seen[0].body
    assert (sent["top_k"], sent["guided"], sent["temperature"]) == (1, {"choice": ["a"]}, 0)
    assert "extra_body" not in sent


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"extra_headers": {"X-A": "1"}}, "extra_headers: is not part of the JSON body"),
        ({"extra_body": [1]}, "extra_body: expected a mapping"),
        ({"stream": True}, "stream: a reply is read whole; leave it out"),
    ],
)
def test_what_no_body_can_hold_is_refused(project: Project, params: dict[str, Any], said: str) -> None:
    write(project, params=params)
    result = project.record()
    result.stdout.fnmatch_lines([f"*mood.prompt.yaml:*params*{said}*"])
    assert project.model.asked == []


@pytest.mark.parametrize(
    ("treatment", "said"),
    [
        (None, "is not known, so the user turn asks for it; where it does, write reply_prefix: continue"),
        ("ask", "asks"),
    ],
)
def test_a_server_that_nobody_knows_is_asked_for_the_reply_prefix(
    project: Project, treatment: str | None, said: str
) -> None:
    known = {"provider": "openai", "name": "m", "base_url": project.model.url}
    prompt = {"user_prompt_suffix": "?", "bot_reply_prefix": "Label: <label>"}
    project.write(model=known | ({"reply_prefix": treatment} if treatment else {}), prompt=prompt)
    result = project.record()
    result.assert_outcomes(passed=4, skipped=1)
    assert {seen.body["messages"][-1]["role"] for seen in project.model.server.seen} == {"user"}
    assert len([line for line in result.outlines if said in line]) == 1
    replayed = project.replay()
    replayed.assert_outcomes(passed=4, skipped=1)
    assert "is not known" not in replayed.stdout.str(), "what was asked is asked: nothing of it can be chosen now"


def test_recordings_of_a_server_that_was_taken_to_continue_say_how_to_keep_them(project: Project) -> None:
    known = {"provider": "openai", "name": "m", "base_url": project.model.url}
    prompt = {"user_prompt_suffix": "?", "bot_reply_prefix": "Label: <label>"}
    project.model.says = lambda _: "good</label>"
    project.write(model={**known, "reply_prefix": "continue"}, prompt=prompt)
    project.record()
    project.write(model=known, prompt=prompt)
    result = project.replay()
    result.stdout.fnmatch_lines(["*made with the reply prefix as a turn of its own: write reply_prefix: continue*"])


def test_a_budget_in_usd_wants_a_limit_of_the_replies(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-key")
    project.write(model="openai/gpt-4.1-nano")
    result = project.record("--promptfit-budget=1")
    said = result.outlines + result.errlines
    assert [line for line in said if "--promptfit-budget cannot hold while a reply may be of any length" in line]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("name", ["replies.yaml", "replies-new.yaml"])
def test_a_pipe_in_the_place_of_a_cassette_holds_nothing_up(project: Project, name: str) -> None:
    write(project)
    folder = project.path / "cassettes" / "mood"
    folder.mkdir(parents=True)
    os.mkfifo(folder / name)
    for run in (project.record, project.replay):
        result = run()
        said = result.outlines + result.errlines
        assert [line for line in said if f"{name}: not a regular file" in line]
    assert project.model.asked == []


@pytest.mark.parametrize("name", ["replies.yaml", "replies-new.yaml"])
def test_a_link_to_nothing_is_told_before_anything_is_paid_for(project: Project, name: str) -> None:
    write(project)
    folder = project.path / "cassettes" / "mood"
    folder.mkdir(parents=True)
    (folder / name).symlink_to(project.path / "gone" / "elsewhere.yaml")
    for run in (project.record, project.replay):
        result = run()
        said = result.outlines + result.errlines
        assert [line for line in said if f"{name}: a link" in line]
    assert project.model.asked == []


def test_python_code_is_told_its_own_arguments(project: Project) -> None:
    from pytest_promptfit import evaluate

    path = write(project)
    found = evaluate(path, record="missing", max_calls=2, cassettes=project.path / "recorded")
    errors = [outcome.error for outcome in found.outcomes if outcome.error]
    assert errors[0].endswith("after 2 calls: the rest was not asked; run again with a larger max_calls")


def test_production_code_is_told_nothing_of_pytest(project: Project) -> None:
    from pytest_promptfit import PromptfitError, load_prompt

    with LoopbackServer(error(429, "Rate limit reached", **AT_ONCE)) as server:
        path = write(project, base_url=server.url, max_retries=0)
        classify = load_prompt(path)
        with pytest.raises(PromptfitError) as caught:
            classify("a lovely day")
        classify.close()
    assert "send fewer at once, or wait" in str(caught.value)
    assert "--promptfit" not in str(caught.value)
    assert len(server.seen) == 1
