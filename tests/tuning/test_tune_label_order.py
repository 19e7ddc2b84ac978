"""The order in which a prompt lists its labels is searched."""

from __future__ import annotations

from typing import Any

import pytest
from mood_project import PROMPT
from tuning_models import TuningProject, always_bad, by_keyword, rows, system_of

from pytest_promptfit.prompts.model import Prompt
from pytest_promptfit.tuning.candidates import with_label_moved

LISTING = {**PROMPT, "system_prompt": "Is the mood one of: {labels}?"}


def wants_good_last(body: dict[str, Any]) -> str:
    """Answer by keyword when the labels end with the good one, else bad."""
    return (by_keyword if "bad, good" in system_of(body) else always_bad)(body)


def test_the_order_that_a_model_wants_is_written(project: TuningProject) -> None:
    project.model.task = wants_good_last
    project.prompt(prompt=LISTING, tune={"edit": ["label_order"]})
    before = project.text()
    entry = project.tuned()
    assert entry["accepted"], entry["reason"]
    assert [step["summary"] for step in entry["steps"] if step["accepted"]] == ["labels in reverse"]
    assert "label_order:" in entry["steps"][0]["diff"]
    assert project.text() == before.replace("</text>\n", "</text>\n  label_order: [bad, good]\n")
    assert project.replay().ret == 0


def test_frequent_labels_come_first_and_last_and_once_in_any_order(project: TuningProject) -> None:
    project.model.task = always_bad
    some = (*rows(30), *((f"o{n}", f"a tale {n}", "other") for n in range(40)))
    tune = {"edit": ["label_order"], "budget": {"task_calls": 300}}
    project.prompt(some, prompt=LISTING, labels=["good", "other", "bad"], tune=tune)
    project.tune()
    listed = {system_of(body).removeprefix("Is the mood one of: ") for body in project.model.task_bodies}
    assert {"good, other, bad?", "bad, other, good?"} <= listed
    assert any(labels.startswith("other") for labels in listed)
    assert any(labels.endswith("other?") for labels in listed)
    assert len(listed) <= 5


def test_a_label_that_is_said_too_rarely_is_listed_last_and_first() -> None:
    found = with_label_moved(Prompt(system_prompt="{labels}", label_order=("c",)), ["a", "b", "c"], "a")
    assert [(one.summary, one.prompt.label_order) for one in found] == [
        ("a listed last", ("c", "b", "a")),
        ("a listed first", ("a", "c", "b")),
    ]


@pytest.mark.parametrize("tune", [{"arms": ["examples"]}, {"edit": ["examples"]}])
def test_no_other_order_is_tried_where_none_may_be(project: TuningProject, tune: dict[str, Any]) -> None:
    project.model.task = wants_good_last
    project.prompt(prompt=LISTING, tune=tune)
    project.tune()
    assert {system_of(body) for body in project.model.task_bodies} == {"Is the mood one of: good, bad?"}
