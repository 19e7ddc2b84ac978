"""Tuning where the API refuses something, where replies are none, and where nobody knows what they cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from loopback_server import AT_ONCE, Answer, error, json_answer
from tuning_models import TuningProject, adds_the_rule, by_examples, by_rule, rows

from pytest_promptfit.cassettes.cassette import Cassette

if TYPE_CHECKING:
    import pytest

PREFILL = "This model does not support assistant message prefill. The conversation must end with a user message."


def model(project: TuningProject, **fields: Any) -> dict[str, Any]:
    return {"provider": "openai", "name": "m", "base_url": project.model.url, **fields}


def refuses_prefill(body: dict[str, Any]) -> str | Answer:
    return error(400, PREFILL) if body["messages"][-1]["role"] == "assistant" else by_examples(body)


def test_a_refused_reply_prefix_is_tried_once_and_told(project: TuningProject) -> None:
    project.model.task = refuses_prefill
    project.prompt(model=model(project, reply_prefix="continue"))
    entry = project.tuned()
    begun = [body for body in project.model.task_bodies if body["messages"][-1]["role"] == "assistant"]
    assert len(begun) == 1
    assert entry["accepted"]
    assert entry["usage"]["task_calls"] == len(project.model.task_bodies) - 1
    result = project.tune()
    assert not [line for line in result.outlines if "Traceback" in line]


def test_a_refused_reply_prefix_is_known_to_a_replay(project: TuningProject) -> None:
    project.model.task = refuses_prefill
    path = project.prompt(model=model(project, reply_prefix="continue"))
    before = path.read_bytes()
    first = project.tune()
    after, said = path.read_bytes(), "openai/m refuses a reply that has begun, so no bot_reply_prefix was tried"
    assert [line for line in first.outlines if said in line]
    path.write_bytes(before)
    project.model.go_down()
    again = project.tune()
    assert path.read_bytes() == after != before
    assert [line for line in again.outlines if said in line]


def test_a_reply_prefix_that_the_server_continues_is_raced_as_ever(project: TuningProject) -> None:
    project.prompt(model=model(project, reply_prefix="continue"))
    project.tune()
    begun = [body for body in project.model.task_bodies if body["messages"][-1]["role"] == "assistant"]
    assert len(begun) > 1


def test_a_server_that_nobody_knows_is_sent_no_trailing_assistant_turn(project: TuningProject) -> None:
    project.model.task = refuses_prefill
    project.prompt()
    assert project.tuned()["accepted"]
    assert {body["messages"][-1]["role"] for body in project.model.task_bodies} == {"user"}


def test_a_failed_answer_of_the_optimizer_is_not_recorded_and_asked_for_again(project: TuningProject) -> None:
    failed = json_answer({"choices": None, "error": {"message": "upstream broke"}}, **AT_ONCE)
    project.model.task, project.model.optimizer = by_rule, lambda _: failed
    optimizer = project.optimizer_model(max_retries=0)
    path = project.prompt(rows(60), tune={"model": optimizer, "budget": {"task_calls": 300, "optimizer_calls": 3}})
    before = path.read_bytes()
    project.tune()
    assert project.model.optimizer_bodies
    tuned = Cassette.load(project.path / "cassettes" / "mood" / "tune")
    assert not [entry for entry in tuned if "upstream broke" in entry.body]
    asked = len(project.model.optimizer_bodies)
    path.write_bytes(before)
    project.model.optimizer = adds_the_rule
    project.tune()
    assert len(project.model.optimizer_bodies) > asked


def test_costs_that_nobody_knows_are_unknown(project: TuningProject) -> None:
    project.prompt()
    result = project.tune()
    assert project.entries()[0]["usage"]["usd"] is None
    assert not [line for line in result.outlines if "task $0.0000" in line or "$0.0000 paid (" in line]


def test_the_server_that_got_a_key_is_named(project: TuningProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOOD_KEY", "sk-planted-key")
    monkeypatch.setenv("OTHER_KEY", "sk-other-key")
    project.model.task = by_rule
    host = project.model.url.removeprefix("http://").removesuffix("/v1")
    path = project.prompt(
        model=model(project, api_key_env="MOOD_KEY"),
        tune={"model": project.optimizer_model(api_key_env="OTHER_KEY"), "budget": {"task_calls": 110}},
    )
    before, wanted = path.read_bytes(), [f"the key in {name} was sent to {host}" for name in ("MOOD_KEY", "OTHER_KEY")]
    result = project.tune()
    assert [sum(line in said for said in result.outlines) for line in wanted] == [1, 1]
    path.write_bytes(before)
    replayed = project.tune()
    assert not [said for said in replayed.outlines if "was sent to" in said]


def test_a_limit_in_usd_needs_one_of_the_replies_length(project: TuningProject) -> None:
    project.prompt(
        model="openai/gpt-4.1-nano",
        params={"max_tokens": 50},
        tune={"model": "openai/o4-mini", "budget": {"task_calls": 110, "usd": 0.5}},
    )
    result = project.pytest("--tune", "-k", "tune")
    result.stdout.fnmatch_lines(
        ["mood.prompt.yaml:*: tune.budget.usd: cannot hold while a reply of openai/o4-mini may be of any length: *"]
    )
    assert json.dumps(project.model.asked) == "[]"
