"""What a tuning run tells for a picture of it: each step's and racer's right answers, and what each stage needed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from tuning_models import (
    TuningProject,
    by_either,
    by_keyword,
    patch,
    patches,
    rows,
    system_of,
    tagged,
    text_of,
    with_a_price,
)

from pytest_promptfit import tune


def in_all_stages(project: TuningProject, **fields: Any) -> None:
    project.model.task = by_either
    project.model.optimizer = lambda _: patches(patch(), patch(op="replace", find="Is", text="Say: is"))
    tuned = {"model": project.optimizer_model(), "budget": {"task_calls": 220}, "iterations": 2}
    project.prompt(rows(36), tune=tuned, **fields)


def test_stages_sum_up_to_what_the_run_used(project: TuningProject, monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_price(monkeypatch)
    in_all_stages(project)
    entry = project.tuned()
    stages, usage = entry["stages"], entry["usage"]
    names = ["probe", "examples", "drafts", "reasons", "reflect", "prune", "holdout", "recording"]
    assert [stage["stage"] for stage in stages] == names
    for name in ("task_calls", "optimizer_calls", "input_tokens", "output_tokens"):
        assert sum(stage[name] for stage in stages) == usage[name] > 0
    for name in ("task_usd", "optimizer_usd"):
        assert sum(stage[name] for stage in stages) == pytest.approx(usage[name], rel=1e-9)
        assert usage[name] > 0
    assert [stage["stage"] for stage in stages if stage["optimizer_calls"]] == ["drafts", "reflect"]
    assert [stage["stage"] for stage in stages if stage["optimizer_usd"]] == ["drafts", "reflect"]
    needed = {stage["stage"]: stage["task_calls"] for stage in stages}
    assert needed["holdout"] >= 2 * entry["holdout"]["n"], "it has the fresh samples, too"
    assert sum(needed[name] for name in ("probe", "examples", "reasons")) >= max(
        score["calls"] for score in entry["scores"]
    )


def test_a_stage_that_was_not_entered_is_not_listed(project: TuningProject) -> None:
    project.model.task = by_keyword
    project.prompt()
    entry = project.tuned()
    (stage,) = entry["stages"]
    assert (stage["stage"], stage["task_calls"]) == ("probe", entry["usage"]["task_calls"])
    assert (entry["scores"], entry["steps"]) == ([], [])


def test_scores_of_a_race(project: TuningProject) -> None:
    project.prompt(rows(60), tune={"budget": {"task_calls": 200}})
    entry = project.tuned()
    rounds: dict[int, list[dict[str, Any]]] = {}
    for score in entry["scores"]:
        assert (score["stage"], 0 <= score["right"] <= score["seen"]) == ("examples", True)
        rounds.setdefault(score["seen"], []).append(score)
    assert len(rounds) > 1
    for before, after in pairwise(rounds.values()):
        assert len(before) > len(after) >= 2
        assert before[0]["calls"] < after[0]["calls"]
        assert {score["summary"] for score in after} <= {score["summary"] for score in before}
    first = next(iter(rounds.values()))
    (as_it_was,) = [score for score in first if score["summary"] == "as it is"]
    assert as_it_was["right"] < as_it_was["seen"] == max(score["right"] for score in first)
    assert list(rounds) == sorted(rounds)
    assert entry["steps"][0]["summary"] in {score["summary"] for score in [*rounds.values()][-1]}


def test_a_budget_too_small_to_race_has_no_scores(project: TuningProject) -> None:
    project.prompt(tune={"budget": {"task_calls": 35}})
    entry = project.tuned()
    assert entry["stop_reason"].startswith("the budget is too small to race")
    assert entry["scores"] == []


def test_steps_tell_the_right_answers_among_the_dev_samples_seen(project: TuningProject) -> None:
    project.prompt(rows(60), tune={"budget": {"task_calls": 600}})
    entry = project.tuned()
    better, *pruned = entry["steps"]
    assert better["right"] == better["seen"] > better["fixed"] > 0
    needed = [step for step in pruned if step["broken"]]
    assert needed
    for step in needed:
        assert (step["stage"], step["accepted"]) == ("prune", False)
        assert step["right"] == step["seen"] - step["broken"]


def test_a_step_that_canonicals_decided_has_seen_nothing(project: TuningProject) -> None:
    project.prompt(canonical=[{"text": "a lovely trap", "label": "bad"}])
    assert {(step["right"], step["seen"]) for step in project.tuned()["steps"]} == {(0, 0)}


def test_a_step_that_made_things_worse(project: TuningProject) -> None:
    def task(body: dict[str, Any]) -> str:
        known = any(place in text_of(body) for place in ("day", "walk"))
        return by_keyword(body) if known and "sure" not in system_of(body) else tagged("bad")

    project.model.task = task
    project.model.optimizer = lambda _: patches(patch(text="Be sure."))
    project.prompt(rows(60), tune={"model": project.optimizer_model(), "edit": ["system_prompt"], "iterations": 1})
    (step,) = project.tuned()["steps"]
    assert 0 < step["right"] <= step["seen"] - step["broken"]


def test_python_has_the_same_values_as_json(project: TuningProject) -> None:
    in_all_stages(project)
    original = project.text()
    entry = project.tuned()
    path = project.path / "mood.prompt.yaml"
    path.write_bytes(original.encode())
    result = tune(path, cassettes=project.path / "cassettes")
    assert [vars(score) for score in result.scores] == entry["scores"]
    assert [{key: getattr(stage, key) for key in entry["stages"][0]} for stage in result.stages] == entry["stages"]
    assert [(s.right, s.seen, s.calls) for s in result.steps] == [
        (s["right"], s["seen"], s["calls"]) for s in entry["steps"]
    ]
