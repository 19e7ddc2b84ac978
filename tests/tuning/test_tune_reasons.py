"""Examples whose replies give a reason: the model's own, which led it to the right label."""

from __future__ import annotations

import re
from typing import Any

import pytest
from mood_project import PROMPT
from tuning_models import TuningProject, always_bad, by_keyword, label_of, messages_of, rows, system_of, text_of

from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples
from pytest_promptfit.prompts.split import split

ASKED = "Give one short reason first"
TUNE = {"budget": {"task_calls": 400}, "edit": ["examples", "user_prompt_suffix"]}


def because(label: str) -> str:
    return f"It is {label}, as its words say. Label: <label>{label}</label>"


def asked_about(body: dict[str, Any]) -> str:
    found = re.search("<text>(.*?)</text>", text_of(body))
    assert found
    return found[1]


def by_reason(body: dict[str, Any]) -> str:
    """Say a reason when asked for one, which helps with some years alone; after examples that do so, with all."""
    if ASKED not in text_of(body) and "why" not in system_of(body):
        return always_bad(body)
    has_seen = any("as its words say" in said for role, said in messages_of(body) if role == "assistant")
    is_easy = int(asked_about(body)[-4:]) % 4 < 2
    return because(label_of(by_keyword(body)) if has_seen or is_easy else "bad")


@pytest.mark.parametrize("system", [PROMPT["system_prompt"], "Is it good or bad, and why?"])
def test_reasons_that_led_to_the_right_label_are_shown(project: TuningProject, system: str) -> None:
    project.model.task = by_reason
    path = project.prompt(rows(60), prompt={**PROMPT, "system_prompt": system}, tune=TUNE, cases="gated")
    entry = project.tuned()
    assert entry["accepted"], entry["reason"]
    (step,) = [step for step in entry["steps"] if step["accepted"] and step["stage"] == "examples"]
    assert re.search("[48] examples with reasons$", step["summary"])
    written = project.yaml()["prompt"]
    train = {sample.text: sample.label for sample in split(read_samples(parse_prompt_file(path)).samples).train}
    assert written["examples"]
    for example in written["examples"]:
        assert train[example["text"]] == example["label"]
        assert example["reply"] == because(example["label"])
    assert (ASKED in written["user_prompt_suffix"]) == ("why" not in system)
    assert project.replay().ret == 0


def test_nothing_more_is_asked_where_the_first_replies_give_no_reason(project: TuningProject) -> None:
    project.model.task = always_bad
    project.prompt(rows(60), tune={**TUNE, "arms": ["reasons"]})
    entry = project.tuned()
    assert sum(ASKED in text_of(body) for body in project.model.task_bodies) == 8
    assert entry["steps"] == []


@pytest.mark.parametrize(
    ("fields", "tune"),
    [
        ({"params": {"max_tokens": 20}}, {}),
        ({"extract": "(good|bad)"}, {}),
        ({}, {"arms": ["examples"]}),
        ({}, {"edit": ["examples"]}),
        ({}, {"budget": {"task_calls": 100}}),
    ],
)
def test_no_reason_is_asked_for_where_there_is_no_room_or_it_may_not_be(
    project: TuningProject, fields: dict[str, Any], tune: dict[str, Any]
) -> None:
    project.model.task = by_reason
    project.prompt(rows(40), tune={**TUNE, "arms": ["reasons", "examples"], **tune}, **fields)
    project.tune()
    assert project.model.task_bodies
    assert not any(ASKED in text_of(body) for body in project.model.task_bodies)
