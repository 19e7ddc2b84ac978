"""Examples that are chosen for each text race, and earn their place, like any other set of examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from mood_project import PROMPT, Row
from tuning_models import TuningProject, messages_of, tagged, text_of

from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples
from pytest_promptfit.prompts.split import split

if TYPE_CHECKING:
    from pytest_promptfit.prompts.samples import Sample

KINDS = ("lovely", "dreadful")
FILLERS = ("harbour", "kitchen", "meadow", "station", "library", "market", "garden", "bridge", "castle", "valley")


def rows(count: int = 80) -> tuple[Row, ...]:
    """Return samples whose nearest ones have their label."""
    return tuple(
        (f"s{n}", f"{KINDS[n % 2]} {FILLERS[n // 2 % 10]} {KINDS[n % 2]} {1900 + 7 * n}", ("good", "bad")[n % 2])
        for n in range(count)
    )


def as_last_shown(body: dict[str, Any]) -> str:
    """Answer what the last example says, else bad: only examples that fit the text help."""
    replies = [said for role, said in messages_of(body)[:-1] if role == "assistant"]
    return replies[-1] if replies else tagged("bad")


def texts_shown(body: dict[str, Any]) -> set[str]:
    said = [said for role, said in messages_of(body)[:-1] if role == "user"]
    return {text.removeprefix("<text>").removesuffix("</text>") for text in said}


def asked_about(body: dict[str, Any]) -> str:
    return text_of(body).removeprefix("<text>").removesuffix("</text>")


def texts(samples: tuple[Sample, ...]) -> set[str]:
    return {sample.text for sample in samples}


@pytest.fixture
def tuned(project: TuningProject) -> TuningProject:
    """A project whose prompt was tuned with a model that believes the last example."""
    project.model.task = as_last_shown
    project.prompt(rows(), cases="gated", tune={"budget": {"task_calls": 400}, "edit": ["examples"]})
    entry = project.tuned()
    assert entry["accepted"], entry["reason"]
    return project


def test_they_win_where_they_are_better_and_are_written(tuned: TuningProject) -> None:
    assert tuned.yaml()["prompt"] == PROMPT | {"examples": {"nearest": tuned.yaml()["prompt"]["examples"]["nearest"]}}
    assert tuned.yaml()["prompt"]["examples"]["nearest"] in (4, 8)
    (entry,) = tuned.entries()
    assert entry["holdout"]["after"] == 1 > entry["holdout"]["before"]


def test_what_was_asked_while_tuning_is_what_the_harness_asks(tuned: TuningProject) -> None:
    result = tuned.replay()
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] > 75
    assert "not recorded" not in result.stdout.str()


def test_no_row_is_shown_that_may_not_be(tuned: TuningProject) -> None:
    parts = split(read_samples(parse_prompt_file(tuned.path / "mood.prompt.yaml")).samples)
    train, dev, holdout = texts(parts.train), texts(parts.dev), texts(parts.holdout)
    seen: set[str] = set()
    for body in tuned.model.task_bodies:
        shown = texts_shown(body)
        assert asked_about(body) not in shown
        assert not shown & holdout
        if asked_about(body) in dev:
            assert shown <= train
        seen |= shown
    assert seen & dev  # before texts of train and of the holdout


def test_a_run_again_is_replayed_to_the_same_bytes(tuned: TuningProject) -> None:
    after, asked = tuned.text(), len(tuned.model.task_bodies)
    tuned.prompt(rows(), cases="gated", tune={"budget": {"task_calls": 400}, "edit": ["examples"]})
    tuned.tune()
    assert (tuned.text(), len(tuned.model.task_bodies)) == (after, asked)


@pytest.mark.parametrize("edit", [["system_prompt"], ["user_prompt_suffix", "label_words"]])
def test_they_are_not_tried_where_examples_may_not_change(project: TuningProject, edit: list[str]) -> None:
    project.model.task = as_last_shown
    project.prompt(rows(), tune={"edit": edit})
    before = project.text()
    project.tune()
    assert project.text() == before


def test_they_are_not_tried_where_the_samples_have_no_file(project: TuningProject) -> None:
    project.model.task = as_last_shown
    samples = [{"id": key, "text": text, "label": label} for key, text, label in rows()]
    project.write((), samples=samples, cases="gated", tune={"budget": {"task_calls": 400}, "edit": ["examples"]})
    project.tune()
    assert isinstance(project.yaml()["prompt"].get("examples", []), list)


def test_a_prompt_that_has_them_keeps_its_file_and_may_get_fewer(project: TuningProject) -> None:
    def needs_four(body: dict[str, Any]) -> str:
        return as_last_shown(body) if len(texts_shown(body)) == 4 else tagged("bad")

    project.model.task = needs_four
    text = "\n".join(["text,label", *(f"{text} indeed,{label}" for _, text, label in rows())])
    (project.path / "pool.csv").write_text(text)
    prompt = PROMPT | {"examples": {"nearest": 2, "from": "pool.csv"}}
    project.prompt(rows(), prompt=prompt, cases="gated", tune={"budget": {"task_calls": 400}, "edit": ["examples"]})
    project.tune()
    assert project.yaml()["prompt"]["examples"] == {"nearest": 4, "from": "pool.csv"}
    assert project.replay().ret == 0


def test_with_many_labels_they_are_the_first_to_race(project: TuningProject) -> None:
    labels = [f"topic {letter}" for letter in "abcdefghij"]
    samples = tuple(
        (f"s{n}", f"{word} {1900 + 7 * n} {word} {97 * n + 10**6} {word}", labels[n % 10])
        for n in range(120)
        for word in FILLERS[n % 10 : n % 10 + 1]
    )
    project.model.task = as_last_shown
    project.prompt(samples, labels=labels, cases="gated", tune={"budget": {"task_calls": 160}, "edit": ["examples"]})
    project.tune()
    sizes = [len(texts_shown(body)) for body in project.model.task_bodies]
    assert next(size for size in sizes if size) == 8
    assert "nearest" in project.yaml()["prompt"]["examples"]


def test_the_optimizer_sees_no_text_of_dev(project: TuningProject) -> None:
    project.model.task = as_last_shown
    tune = {"budget": {"task_calls": 400}, "model": project.optimizer_model(), "iterations": 1}
    path = project.prompt(rows(), prompt=PROMPT | {"examples": {"nearest": 2}}, cases="gated", tune=tune)
    project.model.task = lambda body: tagged("good")
    project.tune()
    parts = split(read_samples(parse_prompt_file(path)).samples)
    said = yaml.safe_dump(project.model.optimizer_bodies, width=10**9)
    assert "most similar last" in said
    assert not [text for text in texts((*parts.dev, *parts.holdout)) if text in said]
