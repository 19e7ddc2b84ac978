"""Label notes are searched like any other text: by drafts and patches, with and without them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from mood_project import PROMPT
from tuning_models import (
    RULE,
    TuningProject,
    adds_the_rule,
    always_bad,
    by_keyword,
    by_rule,
    patch,
    patches,
    system_of,
    text_of,
)

if TYPE_CHECKING:
    from tuning_models import Says

LISTING = {**PROMPT, "system_prompt": "Is the mood one of: {labels}?"}
EDIT = ["label_notes"]
NOTED = patches(patch(field="label_notes", op="replace", find="Good", text=RULE))


def noting(project: TuningProject, says: Says, **fields: Any) -> None:
    """Write a prompt whose model needs a rule, which only a note may say, and an optimizer that writes this."""
    project.model.task, project.model.optimizer = by_rule, says
    tune = {"model": project.optimizer_model(), "iterations": 1, "edit": EDIT, **fields.pop("tune", {})}
    project.prompt(**{"prompt": LISTING, "tune": tune, **fields})


def test_a_patch_says_what_a_label_means(project: TuningProject) -> None:
    noting(project, lambda _: NOTED, prompt={**LISTING, "label_notes": {"bad": "rain"}})
    project.model.task = lambda body: (by_rule if "rain" in system_of(body) else always_bad)(body)
    path = project.path / "mood.prompt.yaml"
    path.write_text(project.text().replace("bad: rain", "bad: rain    # not snow"), encoding="utf-8")
    before = project.text()
    entry = project.tuned()
    assert entry["accepted"], entry["reason"]
    assert project.text() == before.replace("rain    # not snow", f"rain    # not snow\n    good: {RULE}")
    assert project.replay().ret == 0
    (asked, *_) = project.model.patch_bodies
    assert "label_notes:\n```\n- bad: rain\n```" in text_of(asked)
    assert "- label_notes: find is a label word" in text_of(asked)


def test_a_draft_has_notes_and_they_are_tried_on_the_prompt_as_it_is(project: TuningProject) -> None:
    def drafts(body: dict[str, Any]) -> str:
        assert "{labels} lists the label words with these notes" in text_of(body)
        return json.dumps({"system_prompt": "No rule: {labels}.", "label_notes": {"good": RULE, "bad": "", "x": "y"}})

    # The draft alone is of no use: the model wants the prompt's own words and the rule.
    noting(project, drafts, tune={"iterations": 0, "edit": ["system_prompt", "label_notes"]})
    project.model.task = lambda body: (by_rule if "Is the mood" in system_of(body) else always_bad)(body)
    entry = project.tuned()
    assert entry["accepted"], entry["reason"]
    assert [step["summary"] for step in entry["steps"] if step["accepted"]] == ["the label notes of draft 1"]
    assert project.yaml()["prompt"] == {**LISTING, "label_notes": {"good": RULE}}


@pytest.mark.parametrize(
    ("notes", "problem"),
    [
        ("what is good", "label_notes: expected an object with a text for each label word"),
        ({"good": 1}, "label_notes: expected an object with a text for each label word"),
        ({"good": "..."}, "label_notes: good: expected the note itself"),
    ],
)
def test_what_is_wrong_with_notes_is_asked_for_once_more(project: TuningProject, notes: Any, problem: str) -> None:
    noting(
        project,
        lambda _: json.dumps({"system_prompt": "Think. {labels}", "label_notes": notes}),
        tune={"iterations": 0, "edit": ["system_prompt", "label_notes"]},
    )
    project.tune()
    assert f"Your last answer could not be used:\n- {problem}" in text_of(project.model.draft_bodies[1])


def test_notes_that_do_not_help_go(project: TuningProject) -> None:
    noting(project, adds_the_rule, prompt={**LISTING, "label_notes": {"good": "sun", "bad": "rain"}})
    project.model.task = lambda body: (always_bad if "rain" in system_of(body) else by_keyword)(body)
    entry = project.tuned()
    assert entry["accepted"], entry["reason"]
    assert [step["summary"] for step in entry["steps"] if step["accepted"]] == ["without label notes"]
    assert project.yaml()["prompt"] == LISTING


def test_a_note_that_does_not_pay_is_pruned(project: TuningProject) -> None:
    noting(project, lambda _: NOTED, prompt={**LISTING, "label_notes": {"bad": "rain"}})
    entry = project.tuned()
    pruned = [step["summary"] for step in entry["steps"] if step["stage"] == "prune" and step["accepted"]]
    assert pruned == ["label_notes: without 'bad: rain'"]
    assert project.yaml()["prompt"]["label_notes"] == {"good": RULE}


@pytest.mark.parametrize(
    ("prompt", "tune"),
    [
        (LISTING, {"edit": ["system_prompt"]}),
        (LISTING, {"arms": ["patches"], "edit": ["system_prompt", "label_notes"]}),
        (PROMPT, {"arms": ["notes", "patches"], "edit": ["system_prompt", "label_notes"]}),
    ],
)
def test_no_patch_is_asked_for_where_notes_may_not_change_or_are_not_listed(
    project: TuningProject, prompt: dict[str, Any], tune: dict[str, Any]
) -> None:
    noting(project, lambda _: NOTED, prompt=prompt, tune=tune)
    before = project.text()
    project.tune()
    assert project.model.patch_bodies
    assert not any("label_notes: find" in text_of(body) for body in project.model.patch_bodies)
    assert project.text() == before
