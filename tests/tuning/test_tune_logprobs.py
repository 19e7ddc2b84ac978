"""The soft signal: log-probabilities are asked for in a race, and rank candidates that are right equally often."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from loopback_server import Answer, chat, error, json_answer
from tuning_models import TuningProject, by_examples, label_of, rows, sure

from pytest_promptfit.chat.reply import TokenLogprobs, label_probabilities
from pytest_promptfit.tuning.race import neglected, ranking_auc

RACE_ONLY = {"edit": ["examples"], "budget": {"task_calls": 200}}


def examples_in(body: dict[str, Any]) -> int:
    return sum(message["role"] == "assistant" for message in body["messages"])


def surer_with_eight(body: dict[str, Any]) -> Answer:
    """Be right with any examples, and surest with eight of them."""
    return sure(label_of(by_examples(body)), 0.95 if examples_in(body) == 8 else 0.6)


def asked_softly(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [body for body in bodies if body.get("logprobs")]


def test_of_equally_right_prompts_the_surest_wins_though_it_is_longer(project: TuningProject) -> None:
    project.model.task = surer_with_eight
    project.prompt(rows(60), tune=RACE_ONLY)

    assert project.tuned()["accepted"]

    kept = project.yaml()["prompt"]["examples"]
    race = asked_softly(project.model.task_bodies)
    assert {body["top_logprobs"] for body in race} == {3}
    assert {examples_in(body) for body in race} == {4, 8}
    assert len(kept) > 4


def test_without_the_soft_signal_the_shortest_wins(project: TuningProject) -> None:
    project.model.task = by_examples
    project.prompt(rows(60), tune=RACE_ONLY)

    assert project.tuned()["accepted"]
    assert len(project.yaml()["prompt"]["examples"]) <= 4


def test_the_harness_replays_the_winner_without_log_probabilities(project: TuningProject) -> None:
    project.model.task = surer_with_eight
    project.prompt(rows(60), tune=RACE_ONLY)

    project.tuned()
    project.model.go_down()

    project.pytest("--promptfit").assert_outcomes(passed=61)
    kept = "".join(path.read_text() for path in (project.path / "cassettes" / "mood").glob("*.yaml"))
    assert "Label: <label>" in kept
    assert "logprobs" not in kept


def test_a_model_that_refuses_is_asked_without_and_the_run_replays(project: TuningProject) -> None:
    def refuses(body: dict[str, Any]) -> str | Answer:
        if "logprobs" in body:
            return error(400, "logprobs is not supported with this model")
        return by_examples(body)

    project.model.task = refuses
    path = project.prompt(rows(60), tune=RACE_ONLY)
    draft = path.read_text(encoding="utf-8")

    first = project.tuned()

    assert first["accepted"]
    assert 0 < len(asked_softly(project.model.task_bodies)) < 4
    tuned = project.text()
    project.model.go_down()
    path.write_text(draft, encoding="utf-8")
    again = project.tuned()
    assert project.text() == tuned
    assert again["usage"]["replayed"] == again["usage"]["task_calls"] == first["usage"]["task_calls"]


def test_long_replies_are_not_asked_for_their_log_probabilities(project: TuningProject) -> None:
    def long_winded(body: dict[str, Any]) -> Answer:
        reply = json.loads(chat(by_examples(body)).body)
        reply["usage"]["completion_tokens"] = 200
        return json_answer(reply)

    project.model.task = long_winded
    project.prompt(rows(60), tune=RACE_ONLY)

    assert project.tuned()["accepted"]
    assert asked_softly(project.model.task_bodies) == []


def token(text: str, probability: float, **others: float) -> TokenLogprobs:
    told = {text: probability, **others}
    return TokenLogprobs(text, math.log(probability), tuple((t, math.log(p)) for t, p in told.items()))


WORDS = {"1": "insincere", "0": "sincere"}
ALIKE = {"a": "positive", "b": "possible", "c": "negative"}


@pytest.mark.parametrize(
    ("tokens", "reply", "words", "expected"),
    [
        (
            [token("ins", 0.6, s=0.2), token("incere", 0.9), token("</label>", 1)],
            "insincere</label>",
            WORDS,
            [0.75, 0.25],
        ),
        ([token("Ins", 0.5, ins=0.1, s=0.2), token("incere", 0.9)], "Insincere", WORDS, [0.75, 0.25]),
        (
            [token("pos", 0.6, neg=0.3), token("itive", 0.8, sible=0.2)],
            "positive",
            ALIKE,
            [0.48 / 0.9, 0.12 / 0.9, 1 / 3],
        ),
        ([token("1", 0.9), token("</", 0.75, **{"0": 0.25})], "1</", {"x": "1", "y": "10"}, [0.75, 0.25]),
        ([token("yes", 0.9, maybe=0.05)], "yes", {"y": "yes", "n": "no"}, [0.9 / 0.95, 0.05 / 0.95]),
        ([token("else", 1)], "another reply", WORDS, []),
        ([], "insincere", WORDS, []),
    ],
)
def test_the_probability_of_a_label_is_that_of_the_tokens_its_word_may_go_on_with(
    tokens: list[TokenLogprobs], reply: str, words: dict[str, str], expected: list[float]
) -> None:
    found = label_probabilities(tokens, reply, 0, words)

    assert [found[label] for label in words if label in found] == pytest.approx(expected)


def test_a_token_may_begin_before_the_label() -> None:
    tokens = [token("<label", 1), token(">pos", 0.8, **{">neg": 0.2}), token("</label>", 1)]

    found = label_probabilities(tokens, "So: <label>pos</label>", 11, {"p": "pos", "n": "neg"})

    assert found == pytest.approx({"p": 0.8, "n": 0.2})


def test_bias_is_a_label_said_too_rarely_while_another_takes_its_place() -> None:
    gold = ["a", "b"] * 10

    assert neglected(gold, ["a"] * 20) == "b"
    assert neglected(gold, ["a", "b"] * 10) is None
    assert neglected(gold, ["a", None] * 10) is None, "a missing label is no bias"


def test_ranking_auc_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    gold, likely = ["a", "b", "a", "b", "b"], [0.9, 0.2, 0.4, 0.6, 0.1]

    found = ranking_auc(gold, [{"a": p, "b": 1 - p} for p in likely])

    assert found == pytest.approx(metrics.roc_auc_score([g == "a" for g in gold], likely))
    assert ranking_auc(["a", "a"], [{"a": 1.0}] * 2) is None
