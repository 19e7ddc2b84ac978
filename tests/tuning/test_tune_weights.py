"""Weights of labels: fitted on dev for no calls, judged by folds, and written where they are better beyond chance."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from loopback_server import Answer, told
from tuning_models import TuningProject, rows, text_of

from pytest_promptfit import PromptfitError, load_prompt
from pytest_promptfit.chat.decision import scaled
from pytest_promptfit.tuning.rewrite import weighted
from pytest_promptfit.tuning.weights import fitted_weights

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHTS_ONLY = {"arms": ["weights"], "budget": {"task_calls": 400}}


def leans_to_good(body: dict[str, Any]) -> Answer:
    """Call everything good, and be surer of that where it is."""
    good = 0.9 if "lovely" in text_of(body) else 0.6
    return told({"good": good, "bad": 1 - good})


def guesses(body: dict[str, Any]) -> Answer:
    """Be as sure of anything, whatever the text."""
    good = random.Random(text_of(body)).uniform(0.3, 0.95)
    return told(dict(sorted({"good": good, "bad": 1 - good}.items(), key=lambda pair: -pair[1])))


def recorded(project: TuningProject, task: Callable[[dict[str, Any]], Answer], count: int = 100, **fields: Any) -> Path:
    """Write a prompt that asks for probabilities, and record its replies."""
    project.model.task = task
    path = project.prompt(rows(count), **{"cases": "gated", "probabilities": True, "tune": WEIGHTS_ONLY, **fields})
    project.pytest("--promptfit", "--promptfit-record", "--promptfit-update", "-q")
    project.model.go_down()
    return path


def test_weights_that_pay_are_written_without_a_call(project: TuningProject) -> None:
    path = recorded(project, leans_to_good, gates={"accuracy": 0.9})
    before = path.read_text()

    entry = project.tuned()

    assert entry["accepted"], entry["reason"]
    assert entry["reason"].startswith("better beyond chance")
    assert entry["holdout"]["before"] < 0.6
    assert entry["holdout"]["after"] == 1
    (step,) = entry["steps"]
    assert step["stage"] == "weights"
    assert step["summary"].startswith("weights: bad ")
    assert step["fixed"] > 10
    assert (step["broken"], step["accepted"]) == (0, True)
    weights = project.yaml()["decision"]["weights"]
    assert weights["good"] == 1
    assert 1.5 < weights["bad"] < 9
    assert project.text() == f"{before}decision:\n  weights:\n    good: 1.0\n    bad: {weights['bad']}\n"
    project.pytest("--promptfit").assert_outcomes(passed=102)
    assert project.baseline()["metrics"]["accuracy"] == 1


def test_production_applies_what_was_written(project: TuningProject) -> None:
    project.model.task = leans_to_good
    with load_prompt(project.prompt(rows(4), decision={"weights": {"bad": 3}})) as classify:
        assert [classify(text).label for _, text, *_ in rows(4)] == ["good", "bad", "good", "bad"]
        assert classify("a dreadful day").confidence == pytest.approx(1.2 / 1.8)


def test_weights_that_change_nothing_beyond_chance_are_not_written(project: TuningProject) -> None:
    path = recorded(project, guesses)
    before = path.read_bytes()

    entry = project.tuned()

    assert not entry["accepted"]
    assert [step["stage"] for step in entry["steps"]] in ([], ["weights"])
    assert path.read_bytes() == before


def test_a_canonical_sample_that_passes_is_not_given_up(project: TuningProject) -> None:
    canonical = [{"text": "a dreadful joke, but a joke", "label": "good"}]
    recorded(project, leans_to_good, canonical=canonical)

    entry = project.tuned()

    assert not entry["accepted"]
    assert entry["steps"][0]["verdict"] == "loses a canonical sample"
    assert entry["unproven"]["number"] == 1
    assert any("weights:" in line for line in entry["unproven"]["diff"])
    project.tune("--tune-take", 1)
    assert set(project.yaml()["decision"]["weights"]) == {"good", "bad"}


def test_without_probabilities_there_are_none_and_the_run_says_how(project: TuningProject) -> None:
    project.model.task = lambda body: leans_to_good({**body})
    project.prompt(
        rows(60), tune={"arms": ["weights", "examples"], "edit": ["examples"], "budget": {"task_calls": 150}}
    )

    entry = project.tuned()

    assert not entry["accepted"]
    assert all(step["stage"] != "weights" for step in entry["steps"])
    assert any("`probabilities: true`" in line for line in entry["advice"])


def test_an_arm_that_is_not_named_does_not_run(project: TuningProject) -> None:
    recorded(project, leans_to_good, 60, tune={"arms": ["examples"], "edit": [], "budget": {"task_calls": 300}})
    assert project.tuned()["steps"] == []


def test_the_candidates_of_a_file_with_probabilities_are_asked_as_the_harness_asks(project: TuningProject) -> None:
    def by_examples(body: dict[str, Any]) -> Answer:
        shown = any(message["role"] == "assistant" for message in body["messages"])
        good = 0.9 if "lovely" in text_of(body) or not shown else 0.2
        return told({"good": good, "bad": 1 - good} if good > 0.5 else {"bad": 1 - good, "good": good})

    project.model.task = by_examples
    tune = {"edit": ["examples"], "arms": ["examples", "weights"], "budget": {"task_calls": 300}}
    project.prompt(rows(60), probabilities=True, tune=tune)

    assert project.tuned()["accepted"]

    assert {body["top_logprobs"] for body in project.model.task_bodies} == {20}
    project.model.go_down()
    result = project.pytest("--promptfit")
    result.assert_outcomes(passed=61)
    assert "calibration error" in result.stdout.str()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_fitted_weights_undo_a_bias(temperature: float) -> None:
    draw = random.Random(3)
    bias = {"a": 1.0, "b": 50.0, "c": 1.0}
    samples = []
    for _ in range(600):
        true = [draw.gammavariate(0.5, 1) for _ in bias]
        honest = dict(zip(bias, (part / sum(true) for part in true), strict=True))
        right = draw.choices(list(honest), list(honest.values()))[0]
        samples.append((scaled(honest, 0.5, bias), right))
    weights = fitted_weights(samples, list(bias), temperature)

    def accuracy(some: dict[str, float]) -> float:
        likely = [(scaled(one, temperature, some), right) for one, right in samples]
        return sum(max(p, key=lambda label: p[label]) == right for p, right in likely) / len(samples)

    assert weights["b"] == 1
    assert accuracy(weights) > accuracy({}) + 0.05
    assert accuracy(weights) == pytest.approx(
        accuracy({label: w ** (-1 / temperature) for label, w in bias.items()}), abs=0.03
    )


def test_a_label_that_dev_lacks_gets_no_boundless_weight() -> None:
    weights = fitted_weights(
        [({"a": 0.6, "b": 0.3, "c": 0.1}, "a"), ({"a": 0.5, "b": 0.4, "c": 0.1}, "b")] * 20, ["a", "b", "c"], 1.0
    )
    assert min(weights.values()) == 1
    assert max(weights.values()) <= 1000


HEAD = "model: openai/m  # ours\nprompt: {system_prompt: x}\n"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (HEAD, f"{HEAD}decision:\n  weights:\n    a: 1.5\n    '0': 1.0\n"),
        (f"{HEAD}decision: {{}}\n# end\n", None),
        (f"{HEAD}decision:\n  abstain_below: 0.7  # as agreed\n", None),
        (f"decision:\n  weights: {{a: 3}}\n  abstain_below: 0.7  # as agreed\n{HEAD}", None),
        (f"decision: {{abstain_below: 0.7, weights: {{a: 3, b: 2}}}}\n{HEAD}", None),
        ('{"model": "openai/m", "prompt": {"system_prompt": "x"}}', None),
        (f"\ufeff{HEAD}".replace("\n", "\r\n"), None),
    ],
)
def test_weights_are_written_and_all_else_is_left(body: str, after: str | None) -> None:
    weights = {"a": 1.5, "0": 1.0}
    written = weighted(body, weights, path=Path("p.yaml"))
    if after is not None:
        assert written.replace('"', "'") == after
    before, now = (yaml.safe_load(text.removeprefix("\ufeff")) for text in (body, written))
    assert now.pop("decision") == {**(before.pop("decision", None) or {}), "weights": weights}
    assert now == before
    assert weighted(written, weights, path=Path("p.yaml")) == written
    assert [comment in written for comment in ("# ours", "# as agreed", "# end")] == [
        comment in body for comment in ("# ours", "# as agreed", "# end")
    ]


def test_weights_that_the_form_cannot_hold_are_one_line() -> None:
    with pytest.raises(PromptfitError, match=r"p\.yaml: decision: stands elsewhere"):
        weighted(f"{HEAD}decision: ~\n", {"a": 2.0}, path=Path("p.yaml"))
