"""A shortlist of labels for each text races where there are many labels, and earns its place like all else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from mood_project import PROMPT
from tuning_models import TuningProject, system_of, text_of

if TYPE_CHECKING:
    from mood_project import Row

THINGS = ("parcel", "invoice", "password", "refund", "website", "job")
PLACES = ("harbour", "kitchen", "meadow", "station", "library", "market", "garden", "bridge")
HOW = ("late", "wrong")
LISTING = {**PROMPT, "system_prompt": "One of: {labels}"}


def rows(labels: int = 6) -> tuple[Row, ...]:
    """Return samples that a classifier without a language model gets right."""
    return tuple(
        (f"{thing}-{place}-{how}", f"my {thing} {thing} at the {place} is {how}", thing, "")
        for thing in THINGS[:labels]
        for place in PLACES
        for how in HOW
    )


def wants_few(body: dict[str, Any]) -> str:
    """Answer right where at most three labels are listed, else the first of them."""
    listed = system_of(body).removeprefix("One of: ").split(", ")
    (right,) = [thing for thing in THINGS if thing in text_of(body)]
    return right if len(listed) <= 3 else listed[0]


def tuned(project: TuningProject, labels: int = 6, **tune: Any) -> dict[str, Any]:
    project.model.task = wants_few
    tune = {"budget": {"task_calls": 500}, "edit": ["examples"], **tune}
    project.prompt(rows(labels), prompt=LISTING, labels=list(THINGS[:labels]), cases="gated", tune=tune)
    return project.tuned()


def test_it_is_written_and_what_was_asked_is_what_the_harness_asks(project: TuningProject) -> None:
    entry = tuned(project)
    assert entry["accepted"], entry["reason"]
    (step,) = [step for step in entry["steps"] if step["accepted"]]
    assert step["summary"] == "the 8 nearest examples of the 3 likeliest labels"
    assert "+ the 8 nearest examples of the 3 likeliest labels" in step["diff"]
    assert project.yaml()["prompt"] == {**LISTING, "examples": {"nearest": 8, "shortlist": 3}}
    assert entry["holdout"]["after"] == 1
    result = project.replay()
    assert result.ret == 0
    assert "not recorded" not in result.stdout.str()


@pytest.mark.parametrize(
    ("labels", "tune"), [(5, {}), (6, {"arms": ["examples", "nearest"]}), (6, {"edit": ["system_prompt"]})]
)
def test_it_is_not_tried_with_few_labels_or_where_it_may_not_be(
    project: TuningProject, labels: int, tune: dict[str, Any]
) -> None:
    tuned(project, labels, **tune)
    listed = {system_of(body).count(",") + 1 for body in project.model.task_bodies}
    assert listed == {labels}


def test_dry_run_tells_of_it(project: TuningProject) -> None:
    project.prompt(rows(), prompt=LISTING, labels=list(THINGS), tune={"edit": ["examples", "label_order"]})
    result = project.pytest("--tune", "--tune-dry-run")
    raced = "examples, those nearest to each text, a shortlist of labels for each text, label_order"
    result.stdout.fnmatch_lines([f"*; examples: a race of 16 candidates or more ({raced}); *"])
