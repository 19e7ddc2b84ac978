"""``probabilities`` and ``decision``: how sure a label is, what is held back, and the gate on coverage."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from loopback_server import Answer, chat, error, told
from pydantic import TypeAdapter
from summary_lines import gate

from pytest_promptfit import Evaluation, PromptFileError, evaluate, load_prompt
from pytest_promptfit.evaluation.confidence import (
    calibration_error,
    coverage_curve,
    coverage_interval,
    fitted_temperature,
    most_covered,
    reliability,
)

if TYPE_CHECKING:
    from pathlib import Path

    from browser import Browser
    from mood_project import Project

PLACES = ("day", "walk", "house", "song", "meal")
ROWS = tuple(
    (f"s{n}", f"a {'lovely' if n % 2 else 'dreadful'} {PLACES[n % 5]} {n}", "good" if n % 2 else "bad")
    for n in range(40)
)


def says(text: str) -> Answer:
    """Be 90 % sure of what is right, but for every tenth text, which is read the wrong way and 60 % sure."""
    label = "good" if "lovely" in text else "bad"
    other = {"good": "bad", "bad": "good"}[label]
    number = int(re.findall(r"\d+", text)[-1]) if re.search(r"\d", text) else 1
    if number % 10 == 0:
        return told({other: 0.6, label: 0.4})
    return told({label: 0.9, other: 0.1})


@pytest.fixture(autouse=True)
def tells(project: Project) -> None:
    project.model.says = says


def write(project: Project, **fields: Any) -> Path:
    return project.write(ROWS, **{"cases": "gated", "probabilities": True, **fields})


def bodies(project: Project) -> list[dict[str, Any]]:
    return [json.loads(asked) for asked in project.model.asked]


def test_a_prediction_says_how_sure_it_is(project: Project) -> None:
    with load_prompt(write(project)) as classify:
        prediction = classify("a lovely day 3")
    assert prediction.label == "good"
    assert prediction.probabilities == pytest.approx({"good": 0.9, "bad": 0.1})
    assert prediction.confidence == pytest.approx(0.9)
    assert not prediction.abstained
    assert {(body["logprobs"], body["top_logprobs"]) for body in bodies(project)} == {(True, 20)}


@pytest.mark.parametrize(
    ("decision", "label", "confidence"),
    [
        ({}, "bad", 0.6),
        ({"abstain_below": 0.59}, "bad", 0.6),
        ({"abstain_below": 0.61}, None, 0.6),
        ({"weights": {"good": 3}}, "good", 1.2 / 1.8),
        ({"weights": {"good": 3}, "abstain_below": 0.7}, None, 1.2 / 1.8),
        ({"weights": {"bad": 0.2}}, "good", 0.4 / 0.52),
        ({"temperature": 2}, "bad", 0.6**0.5 / (0.6**0.5 + 0.4**0.5)),
        ({"temperature": 0.5, "weights": {"good": 2}}, "bad", 0.36 / (0.36 + 0.32)),
    ],
)
def test_a_decision_is_the_same_in_production_and_in_the_harness(
    project: Project, decision: dict[str, Any], label: str | None, confidence: float
) -> None:
    path = write(project, decision=decision)
    with load_prompt(path) as classify:
        prediction = classify("a lovely day 10")
    assert (prediction.label, prediction.abstained) == (label, label is None)
    assert prediction.confidence == pytest.approx(confidence)
    (outcome,) = evaluate(path, [("a lovely day 10", "good")], record="missing").outcomes
    assert (outcome.predicted, outcome.confidence) == (label, pytest.approx(confidence))
    assert outcome.status == ("abstained" if label is None else "right" if label == "good" else "wrong")


def test_a_decision_changes_nothing_that_is_asked(project: Project) -> None:
    write(project)
    project.record()
    write(project, decision={"abstain_below": 0.8, "temperature": 1.1, "weights": {"good": 1.5}})
    assert project.replay().ret == 0
    write(project, probabilities=False)
    assert "40 of 40 not recorded" in project.replay().stdout.str()


def test_terminal_and_json_tell_calibration_and_what_was_answered(project: Project) -> None:
    write(project, decision={"abstain_below": 0.8})
    project.record()
    lines = project.replay("--promptfit-json=report.json").outlines
    assert "  accuracy 90.0 % (36 of 40), 95 % interval 76.9 % to 96.0 %" in lines
    assert "  answered 90.0 % (36 of 40), 100.0 % of those right (95 % interval 90.4 % to 100.0 %)" in lines
    assert "  calibration error 15.0 % on 40 probabilities" in lines
    (prompt,) = json.loads((project.path / "report.json").read_text())["prompts"]
    assert prompt["labeled"]["abstained"] == 4
    assert prompt["labeled"]["missing"] == 0
    assert prompt["metrics"]["confusion"]["good"] == {"good": 20}
    assert prompt["metrics"]["confusion"]["bad"] == {"bad": 16, "(abstained)": 4}
    confidence = prompt["confidence"]
    assert confidence["samples"] == 40
    assert confidence["calibration_error"] == pytest.approx(0.1 * 0.6 + 0.9 * 0.1)
    assert [(one["low"], one["count"], one["accuracy"]) for one in confidence["bins"]] == [(0.6, 4, 0), (0.9, 36, 1)]
    assert [(one["coverage"], one["error"]) for one in confidence["curve"]] == [(0.9, 0.0), (1.0, 0.1)]
    case = prompt["cases"][0]
    assert (case["status"], case["predicted"], case["outcome"]) == ("abstained", None, "missed")
    assert case["probabilities"] == {"good": 0.6, "bad": 0.4}


def test_the_page_draws_both_curves_and_tells_each_case(project: Project, browser: Browser) -> None:
    write(project, decision={"abstain_below": 0.8}, gates={"coverage": {"at_error": 0.05, "at_least": 0.5}})
    project.record("--promptfit-report=report.html")
    browser.open(project.path / "report.html", width=390)
    reliability, coverage = browser.all("#prompt-1-confidence section")
    assert [count.text for count in reliability.find_elements("css selector", "text.count")] == ["4", "36"]
    assert "Calibration error 15.0 % on 40 probabilities." in reliability.text
    assert "5 % wrong" in coverage.text
    assert "90 % answered" in coverage.text
    assert coverage.find_element("css selector", "polyline").get_attribute("points") == "90.0,100.0 100.0,0.0"
    assert browser.run("return document.documentElement.scrollWidth") == 390
    browser.open(project.path / "report.html", "#mood/sample-s0")
    assert "good 60.0 %, bad 40.0 %" in browser.all("#prompt-1-cases .body")[0].text
    (view,) = [button for button in browser.all("#prompt-1-cases .view") if button.text == "Abstained 4"]
    view.click()
    assert len(browser.all("#prompt-1-cases .case")) == 4


def test_what_is_held_back_is_neither_right_nor_missing(project: Project) -> None:
    write(project, cases="strict", canonical=[{"text": "a lovely walk 20", "label": "good"}])
    project.record("--promptfit-update=force")
    write(
        project,
        cases="strict",
        canonical=[{"text": "a lovely walk 20", "label": "good"}],
        decision={"abstain_below": 0.95},
        gates={"missing": 0.0},
    )
    result = project.replay("-v")
    assert result.ret == 1
    assert gate(result, "missing").startswith("gate missing: passed")
    said = result.stdout.str()
    assert "fixed 0, broke 36 of 40" in said
    assert "expected good, and abstained: bad is only 60.0 % sure" in said
    assert "bad → (abstained) (20" in said
    project.replay("--promptfit-update=force")
    kept = project.baseline()["cases"]["sample-s1"]
    assert kept == {"outcome": "abstained", "label": "good", "predicted": None}
    write(project, cases="strict")
    assert "fixed 36, broke 0 of 40" in project.replay().stdout.str()


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        ({"at_error": 0.05, "at_least": 0.9}, "passed: coverage 90.0 % (36 of 40, "),
        ({"at_error": 0.05, "at_least": 0.91}, "FAILED: coverage 90.0 % (36 of 40, "),
        ({"at_error": 0.1, "at_least": 1}, "passed: coverage 100.0 % (40 of 40, "),
    ],
)
def test_the_gate_on_coverage(project: Project, asked: dict[str, float], verdict: str) -> None:
    write(project, gates={"coverage": asked})
    result = project.record("-v")
    assert gate(result, "coverage").startswith(f"gate coverage: {verdict}95 % interval ")
    assert result.ret == (0 if verdict.startswith("passed") else 1)
    if result.ret:
        assert any("behind it: sample-s0, sample-s10" in line for line in result.outlines)


def test_the_gate_fails_where_nothing_tells_how_sure_it_is(project: Project) -> None:
    write(project, probabilities=False, gates={"coverage": {"at_error": 0.05, "at_least": 0.5}})
    project.model.says = lambda _: chat("good")
    said = gate(project.record(), "coverage")
    assert said == (
        "gate coverage: FAILED: coverage: no reply tells how sure it is (probabilities: true asks for it), floor 50.0 %"
    )


def test_a_change_must_not_loosen_what_is_held_back(project: Project) -> None:
    coverage = {"coverage": {"at_error": 0.05, "at_least": 0.8}}
    write(project, decision={"abstain_below": 0.8}, gates=coverage)
    project.record("--promptfit-update")
    project.git("init", "--quiet", "--initial-branch=main")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message=first")
    assert project.replay("--promptfit-against", "main").ret == 0
    write(project, gates={"coverage": {"at_error": 0.1, "at_least": 0.8}})
    said = project.replay("--promptfit-against", "main").stdout.str()
    assert "decision.abstain_below: removed (was 0.8) (at main)" in said
    assert "gate coverage: 0.8 at an error of 0.05 → 0.8 at an error of 0.1 (at main)" in said
    write(project, decision={"abstain_below": 0.8, "weights": {"good": 1.01}})
    assert "gate coverage: removed (was 0.8) (at main)" in project.replay("--promptfit-against", "main").stdout.str()


def test_workers_send_what_is_known_of_probabilities(project: Project) -> None:
    path = write(project, decision={"abstain_below": 0.8, "weights": {"good": 1.1}})
    evaluation = evaluate(path, [("a lovely day 3", "good"), ("a lovely day 10", "good")], record="missing")
    travels = TypeAdapter(Evaluation)
    assert travels.validate_json(travels.dump_json(evaluation)) == evaluation


def test_an_api_without_log_probabilities_answers_as_ever_and_one_line_says_so(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(project, decision={"weights": {"good": 9}, "abstain_below": 0.9})
    project.model.says = lambda text: chat("good" if "lovely" in text else "bad")
    result = project.record()
    assert result.ret == 0
    who = "note: openai/m was asked for log-probabilities: 40 of 40 labels come without a probability"
    assert result.stdout.str().count(f"{who}, which `decision` leaves as they are read") == 1
    assert "confidence" not in project.report()["prompts"][0]
    path.write_text(path.read_text().replace("openai", "anthropic"))
    with caplog.at_level(logging.WARNING), load_prompt(path) as classify:
        assert "logprobs" not in classify.payload("a lovely day")
    assert caplog.messages == ["mood: anthropic/m has no log-probabilities: labels are given as they are read"]


def test_a_model_that_refuses_them_says_what_to_leave_out(project: Project) -> None:
    write(project)
    project.model.says = lambda _: error(400, "logprobs is not supported with this model")
    said = project.record().stdout.str().replace("\n", " ")
    assert "this model tells no log-probabilities: leave out probabilities, decision and logprobs" in said


def test_parameters_of_the_file_win(project: Project) -> None:
    write(project, params={"top_logprobs": 5})
    project.record("-k", "s11")
    assert {(body["logprobs"], body["top_logprobs"]) for body in bodies(project)} == {(True, 5)}


def test_parameters_alone_tell_probabilities_too(project: Project) -> None:
    path = write(project, probabilities=False, params={"logprobs": True, "top_logprobs": 2})
    (outcome,) = evaluate(path, [("a lovely day 3", "good")], record="missing").outcomes
    assert outcome.confidence == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("tokens", "labels", "label", "expected"),
    [
        # a token that begins several labels is shared by them, those that the model wrote are told apart by the next
        ([{"neg": 0.6, "pos": 0.4}, {"ative": 1.0}], ["positive", "possible", "negative"], "negative", [0.2, 0.2, 0.6]),
        (
            [{"pos": 0.6, "neg": 0.4}, {"itive": 0.75, "sible": 0.25}],
            ["positive", "possible", "negative"],
            "positive",
            [0.45, 0.15, 0.4],
        ),
        ([{"only": 0.7, "other": 0.3}], ["only"], "only", [1.0]),
        ([{"1": 0.6, "10": 0.3, "2": 0.1}], ["1", "10", "2"], "1", [0.6, 0.3, 0.1]),
        ([{"2": 0.5, "1": 0.3, "10": 0.2}], ["1", "10", "2"], "2", [0.3, 0.2, 0.5]),
        ([{"very": 0.9, "not": 0.1}, {" good": 0.8, " bad": 0.2}], ["very good", "very bad", "not"], "very good", None),
        (
            [{"<think>": 1.0}, {"bad? no": 1.0}, {"</think>": 1.0}, {"\n": 1.0}, {"good": 0.8, "bad": 0.2}],
            ["good", "bad"],
            "good",
            [0.8, 0.2],
        ),
        ([{'{"label": "': 1.0}, {"bad": 0.7, "good": 0.3}, {'"}': 1.0}], ["good", "bad"], "bad", [0.3, 0.7]),
        (
            [{"It is bad: ": 1.0}, {"no.\nLabel: ": 1.0}, {" Good": 0.5, " good": 0.2, " Bad": 0.3}],
            ["good", "bad"],
            "good",
            [0.7, 0.3],
        ),
        ([{"good": 0.9}], ["good", "bad", "mixed"], "good", [0.9, 0.05, 0.05]),
    ],
)
def test_how_likely_each_label_is(
    project: Project,
    tokens: list[dict[str, float]],
    labels: list[str],
    label: str,
    expected: list[float] | None,
) -> None:
    project.model.says = lambda _: told(*tokens)
    with load_prompt(project.write((), labels=labels, probabilities=True)) as classify:
        prediction = classify("a day")
    assert prediction.label == label
    expected = expected or [0.72, 0.18, 0.1]
    assert prediction.probabilities == pytest.approx(dict(zip(labels, expected, strict=True)))


def test_what_cannot_be_read_has_no_probability(project: Project) -> None:
    path = write(project, decision={"abstain_below": 0.9})
    project.model.says = lambda _: told({"I cannot": 0.9}, {" tell.": 0.9})
    with load_prompt(path) as classify:
        prediction = classify("a day")
    assert (prediction.label, prediction.abstained, prediction.confidence) == (None, False, None)
    assert prediction.probabilities == {}


def test_a_label_that_a_function_of_the_user_reads_has_none_unless_it_is_the_one_that_is_written(
    project: Project,
) -> None:
    path = write(project)
    with load_prompt(path, extract=lambda _reply, _text: "bad") as classify:
        assert classify("a lovely day 3").confidence is None
        assert classify("a dreadful day 3").confidence == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"decision": {"weights": {"goood": 2}}}, "decision.weights.goood: 'goood' is not one of the labels"),
        ({"decision": {"weights": {"good": 0}}}, "decision.weights.good: 0: expected more than 0.0"),
        ({"decision": {"weights": {"good": "much"}}}, "decision.weights.good: 'much': expected a number"),
        ({"decision": {"abstain_below": 80}}, "decision.abstain_below: 80: expected at most 1.0"),
        ({"decision": {"temperature": 0}}, "decision.temperature: 0: expected more than 0.0"),
        ({"decision": {"threshold": 0.5}}, "decision.threshold: unknown key; known: temperature, weights"),
        ({"probabilities": "yes"}, "probabilities: 'yes': expected true or false"),
        ({"gates": {"coverage": 0.7}}, "gates.coverage: 0.7: expected a mapping"),
        ({"gates": {"coverage": {"at_error": 0.05}}}, "gates.coverage.at_least: missing: expected it here"),
        ({"labels": ["good", "bad", "(abstained)"]}, "labels.2: '(abstained)': expected another label"),
    ],
)
def test_a_mistake_is_one_line(project: Project, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(PromptFileError) as caught:
        load_prompt(write(project, **fields))
    assert str(caught.value).partition(": ")[2].startswith(said)


def test_the_figures_are_those_of_scikit_learn() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    answers = [((7 * n % 100) / 100 + 0.005, (3 * n) % 7 < 4) for n in range(1, 100)]
    found = reliability(answers)
    right, mean = calibration.calibration_curve([r for _, r in answers], [p for p, _ in answers], n_bins=10)
    assert [one.accuracy for one in found] == pytest.approx(list(right))
    assert [one.confidence for one in found] == pytest.approx(list(mean))
    assert calibration_error(found) == pytest.approx(
        sum(one.count * abs(r - m) for one, r, m in zip(found, right, mean, strict=True)) / len(answers)
    )


def test_coverage_counts_equally_sure_answers_together_and_those_without_a_probability_never() -> None:
    answers = [(0.9, True), (0.8, True), (0.8, False), (0.5, True)]
    curve = coverage_curve(answers, 5)
    assert [(one.coverage, one.error) for one in curve] == [(0.2, 0), (0.6, pytest.approx(1 / 3)), (0.8, 0.25)]
    assert most_covered(curve, 0.1) == curve[0]
    assert most_covered(curve, 0.25) == curve[2]
    assert most_covered(coverage_curve([(0.9, False)], 1), 0.5) is None
    low, high = coverage_interval(answers, 5, 0.1)
    assert 0 <= low <= 0.2 <= high <= 1


def test_a_temperature_mends_what_is_too_sure() -> None:
    odds = {True: {"a": 0.99, "b": 0.01}, False: {"a": 0.01, "b": 0.99}}
    told_of = [(odds[n % 2 == 0], "a" if (n % 2 == 0) == (n % 5 > 0) else "b") for n in range(100)]
    # 80 of 100 are right, so at the best temperature p = 0.8
    found = fitted_temperature(told_of, {})
    warm = 0.99 ** (1 / found) / (0.99 ** (1 / found) + 0.01 ** (1 / found))
    assert warm == pytest.approx(0.8, abs=0.002)


def test_the_temperature_that_is_fitted_on_dev_is_told_and_mends_the_error(project: Project) -> None:
    rows = tuple((f"s{n}", f"a lovely day {n}", "good" if n % 10 < 7 else "bad") for n in range(150))
    project.model.says = lambda _: told({"good": 0.99, "bad": 0.01})
    project.write(rows, cases="gated", probabilities=True)
    project.record()
    (line,) = [line for line in project.replay().outlines if "calibration error" in line]
    assert line.startswith("  calibration error 29.0 % on 150 probabilities; decision.temperature: ")
    scaling = project.report()["prompts"][0]["confidence"]["temperature"]
    assert scaling["before"] > 0.2
    assert scaling["after"] < 0.1
    project.write(rows, cases="gated", decision={"temperature": scaling["temperature"]})
    (line,) = [line for line in project.replay().outlines if "calibration error" in line]
    assert "decision.temperature" not in line
    assert float(line.split()[2]) < 8
