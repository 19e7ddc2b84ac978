"""What the new prompt costs: tokens, USD and seconds a call, told; ``tune.max_cost_ratio``; and the free classifier."""

from __future__ import annotations

import json
from typing import Any

import pytest
from loopback_server import Answer, chat, json_answer
from tuning_models import TuningProject, always_bad, by_examples, by_keyword, rows, text_of

from pytest_promptfit.chat.free_classifier import predictions
from pytest_promptfit.prompts.samples import Sample


def with_usage(body: dict[str, Any]) -> Answer:
    """Answer by the examples, and count a token for each ten characters that were sent."""
    sent = sum(len(message["content"]) for message in body["messages"])
    said = json.loads(chat(by_examples(body)).body)
    return json_answer({**said, "usage": {"prompt_tokens": sent // 10, "completion_tokens": 8}})


def test_what_a_call_takes_is_told_before_and_after(project: TuningProject) -> None:
    project.model.task = with_usage
    project.prompt(rows(60), tune={"budget": {"task_calls": 400}})
    result = project.tune()
    (entry,) = project.entries()
    before, after = entry["cost"]["before"], entry["cost"]["after"]
    assert entry["accepted"]
    assert after["input_tokens"] > before["input_tokens"] > 0
    assert before["output_tokens"] == after["output_tokens"] == 8
    assert before["seconds"] > 0
    tokens = before["input_tokens"], after["input_tokens"]
    told = f"{tokens[0]:.0f} → {tokens[1]:.0f} tokens in ({tokens[1] / tokens[0]:.1f} times), 8 → 8 out"
    result.stdout.fnmatch_lines([f"*a call: {told}*"])


def test_candidates_above_the_cost_ratio_are_not_tried(project: TuningProject) -> None:
    project.model.task = with_usage
    project.prompt(rows(60), tune={"budget": {"task_calls": 400}, "max_cost_ratio": 1.2})
    result = project.tune()
    (entry,) = project.entries()
    assert not entry["accepted"]
    result.stdout.fnmatch_lines(
        ["*warning: * candidates left out: a call would cost more than tune.max_cost_ratio allows (1.2 times*"]
    )
    longest = max(len(body["messages"]) for body in project.model.task_bodies)
    assert longest <= 2  # no set of examples was asked about


@pytest.mark.parametrize(("ratio", "accepted"), [(2, False), (20, True)])
def test_candidates_whose_replies_turn_out_to_cost_too_much_are_left_out(
    project: TuningProject, ratio: int, accepted: bool
) -> None:
    def reasons(body: dict[str, Any]) -> Answer:
        """Be right with a reason alone, which takes 400 tokens where a label takes 8."""
        asked = "Give one short reason first" in text_of(body)
        said = json.loads(chat((by_keyword if asked else always_bad)(body)).body)
        return json_answer({**said, "usage": {"prompt_tokens": 20, "completion_tokens": 400 if asked else 8}})

    project.model.task = reasons
    tune = {"budget": {"task_calls": 300}, "edit": ["user_prompt_suffix"], "arms": ["formats"], "max_cost_ratio": ratio}
    project.prompt(rows(60), tune=tune)
    result = project.tune()
    (entry,) = project.entries()
    assert entry["accepted"] == accepted
    assert ("1 candidate left out: a call would cost more" in result.stdout.str()) != accepted


@pytest.mark.parametrize("value", ["0", "-1", "much"])
def test_a_cost_ratio_is_a_number_above_0(project: TuningProject, value: str) -> None:
    path = project.prompt(rows(20), tune={"max_cost_ratio": 5.0})
    path.write_text(path.read_text().replace("max_cost_ratio: 5.0", f"max_cost_ratio: {value}"))
    result = project.pytest("--promptfit")
    result.stdout.fnmatch_lines(["*tune.max_cost_ratio: *expected*"])


def test_the_classifier_without_a_language_model_stands_beside_the_prompt(project: TuningProject) -> None:
    project.model.task = by_examples
    project.prompt(rows(60), tune={"budget": {"task_calls": 400}})
    result = project.tune()
    (entry,) = project.entries()
    free = entry["free_classifier"]
    assert free["n"] == entry["holdout"]["n"]
    assert free["before"] == free["after"] == 1.0  # lovely or dreadful: no model is needed for that
    result.stdout.fnmatch_lines(["*without a language model: TF-IDF and ridge regression get 100.0 % of * p = 1)"])


def sample(text: str, label: str) -> Sample:
    return Sample(id=text, text=text, label=label)


@pytest.mark.parametrize("texts", [["", " "], ["!", "?"], ["good day", "bad day"]])
def test_the_free_classifier_reads_any_text(texts: list[str]) -> None:
    known = [sample("a good day", "good"), sample("a bad day", "bad"), sample("!", "good")]
    assert set(predictions(known, texts)) <= {"good", "bad"}
    assert predictions(known[:1], texts) == ["good"] * len(texts)
    assert predictions(known, []) == []


def test_the_free_classifier_learns_from_words() -> None:
    known = [
        sample(f"a {word} day {at}", label) for at in range(10) for word, label in (("fine", "good"), ("grim", "bad"))
    ]
    assert predictions(known, ["a grim walk", "a fine walk"]) == ["bad", "good"]
