"""What a tuning run says beforehand of what it can show, and what can be done where nothing was better."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from scipy.stats import binom
from tuning_models import (
    TuningProject,
    always_bad,
    by_examples,
    by_keyword,
    by_rule,
    rows,
    shown_labels,
    tagged,
    text_of,
)

from pytest_promptfit.chat.reply import ChatReply
from pytest_promptfit.evaluation.outcomes import Outcome
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples
from pytest_promptfit.prompts.split import split
from pytest_promptfit.tuning.forecast import forecast, provable_gain, samples_for

if TYPE_CHECKING:
    from pathlib import Path


def a_little_by_examples(body: dict[str, Any]) -> str:
    """Answer every text about a walk by keyword when there are examples, and all others with bad."""
    return by_keyword(body) if "walk" in text_of(body) and shown_labels(body) else tagged("bad")


def of_step(project: TuningProject, number: int) -> dict[str, Any]:
    (entry,) = project.entries()
    step: dict[str, Any] = entry["steps"][number - 1]
    return step


def test_the_best_candidate_is_shown_whole_and_can_be_taken_by_hand(project: TuningProject) -> None:
    project.model.task = a_little_by_examples
    path = project.prompt(rows(60), tune={"budget": {"task_calls": 600}})
    before = path.read_bytes()
    entry = project.tuned()
    unproven = entry["unproven"]
    assert not entry["accepted"]
    assert path.read_bytes() == before
    assert unproven["fixed"] > unproven["broken"]
    assert any(line.startswith("+  examples:") for line in unproven["diff"])
    asked = len(project.model.server.seen)

    result = project.tune("--tune-take", unproven["number"])
    (taken,) = project.entries()
    assert taken["accepted"]
    assert taken["reason"] == f"candidate {unproven['number']} taken by hand, unproven"
    assert taken["diff"] == unproven["diff"]
    assert len(project.yaml()["prompt"]["examples"]) > 0
    assert taken["holdout"]["n"] > 0
    assert len(project.model.server.seen) - asked <= 2 * 60  # the search itself is replayed
    assert result.ret == 0
    assert project.pytest("--promptfit").ret == 0


def test_a_dead_end_says_how_many_samples_prove_what_and_how_the_best_is_taken(project: TuningProject) -> None:
    project.model.task = a_little_by_examples
    project.prompt(rows(60), tune={"budget": {"task_calls": 600}})
    result = project.tune()
    (entry,) = project.entries()
    number = entry["unproven"]["number"]
    assert f"pytest --tune --tune-take {number} writes it" in " ".join(entry["advice"])
    result.stdout.re_match_lines(
        [
            r" *what can be done:",
            r" *- more samples: 60 labeled samples can prove a gain of \d+ points or more \(found in 4 of 5 runs\); "
            r"5 points take about \d+",
            r".*an optimizer: without tune.model",
            r".*\+ *examples:",
        ]
    )


def test_without_a_better_candidate_there_is_none_to_take(project: TuningProject) -> None:
    project.model.task = always_bad
    project.prompt(rows(60), tune={"budget": {"task_calls": 600}})
    entry = project.tuned()
    assert entry["unproven"] is None
    assert "--tune-take" not in " ".join(entry["advice"])


@pytest.mark.parametrize(
    ("number", "said"), [(99, "--tune-take 99: expected 1 to "), (0, "expected a whole number from 1")]
)
def test_a_number_that_is_no_candidate_writes_nothing(project: TuningProject, number: int, said: str) -> None:
    project.model.task = a_little_by_examples
    path = project.prompt(rows(60), tune={"budget": {"task_calls": 600}})
    before = path.read_bytes()
    result = project.tune("--tune-take", number)
    assert result.ret != 0
    assert said in result.stdout.str() + result.stderr.str()
    assert path.read_bytes() == before


def test_taking_needs_one_prompt(project: TuningProject) -> None:
    project.prompt(rows(20))
    project.prompt(rows(20), at="other.prompt.yaml", name="other")
    result = project.tune("--tune-take=1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--tune-take 1: 2 prompts are selected: name one file*"])
    assert project.model.server.seen == []


def test_a_budget_that_cut_a_stage_short_says_how_many_calls_would_do(project: TuningProject) -> None:
    project.model.task = by_rule  # only the rule helps, and nobody is there to propose it
    path = project.prompt(rows(80), tune={"budget": {"task_calls": 70}})
    entry = project.tuned()
    (advice,) = [line for line in entry["advice"] if line.startswith("a larger budget")]
    enough = int(advice.split("task_calls: ")[1].split()[0])
    assert 70 < enough < 1000
    path.write_text(path.read_text().replace("task_calls: 70", f"task_calls: {enough}"))
    entry = project.tuned()
    assert entry["stop_reason"] == "all stages ran"
    assert not [line for line in entry["advice"] if line.startswith("a larger budget")]


def test_a_dry_run_says_stages_gain_headroom_and_time(project: TuningProject) -> None:
    project.model.task = by_examples
    project.prompt(rows(60))
    first = project.pytest("--tune", "--tune-dry-run")
    first.stdout.fnmatch_lines(
        [
            "*stages: probe; format, where replies cannot be read; examples: a race of 16 *no tune.model*",
            "*60 labeled samples can prove a gain of * points or more*",
            "*headroom: not known before the prompt's replies are recorded*",
            "*time: not known before a reply is recorded*",
        ]
    )
    assert project.model.server.seen == []
    project.pytest("--promptfit", "--promptfit-record")
    asked = len(project.model.server.seen)
    second = project.pytest("--tune", "--tune-dry-run")
    second.stdout.fnmatch_lines(
        [
            "*headroom: 30 of 60 recorded samples are right, so 50.0 points are left",
            "*time: about * for 110 task calls, 16 at once, at * s a call",
        ]
    )
    assert len(project.model.server.seen) == asked


def test_the_time_of_a_local_model_is_that_of_as_many_as_it_works_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)  # two slots
    path = tmp_path / "mood.prompt.yaml"
    path.write_text(
        "model: local/m\nprompt: {system_prompt: Good or bad?}\nlabels: [good, bad]\n"
        "samples: [{text: a lovely day, label: good}, {text: a dreadful day, label: bad}]\n"
    )
    parsed = parse_prompt_file(path)
    sample_set = read_samples(parsed)
    known = [Outcome(sample, ChatReply("good"), "good", seconds=2.0) for sample in sample_set.samples]
    lines = list(forecast(parsed, sample_set, split(sample_set.samples), known, 16, "promptfit"))
    assert "time: about 10 min 0 s for 600 task calls, 2 at once, at 2 s a call" in lines


def test_no_headroom_is_said_before_anything_is_paid_for(project: TuningProject) -> None:
    project.model.task = by_keyword
    project.prompt(rows(60))
    project.pytest("--promptfit", "--promptfit-record")
    result = project.pytest("--tune", "--tune-dry-run")
    result.stdout.fnmatch_lines(["*60 of 60 recorded samples are right, so 0.0 points are left: too few to tell*"])


def test_mistakes_that_look_like_wrong_labels_are_counted(project: TuningProject) -> None:
    project.model.task = by_keyword
    wrongly = {"s3": "good", "s8": "bad", "s11": "good"}
    project.prompt(tuple((i, text, wrongly.get(i, label), note) for i, text, label, note in rows(60)))
    project.pytest("--promptfit", "--promptfit-record")
    result = project.pytest("--tune", "--tune-dry-run")
    result.stdout.fnmatch_lines(
        ["*57 of 60 recorded samples are right, so 5.0 points are left, 5.0 of them perhaps wrong labels (3 samples*"]
    )


@pytest.mark.parametrize("samples", [60, 160, 400])
def test_the_gain_that_can_be_proven_is_found_in_four_of_five_runs(samples: int) -> None:
    gain = provable_gain(samples)
    assert gain is not None
    draw, found, runs = Random(samples), 0, 4000
    for _ in range(runs):
        places = [draw.random() for _ in range(samples)]
        fixed = sum(place < 0.05 + gain for place in places)
        broken = sum(0.05 + gain <= place < 0.1 + gain for place in places)
        pairs = fixed + broken
        midp = binom.sf(fixed, pairs, 0.5) + binom.pmf(fixed, pairs, 0.5) / 2
        found += bool(midp <= 0.05)
    assert found / runs == pytest.approx(0.8, abs=0.04)


def test_samples_for_a_gain_are_the_fewest() -> None:
    enough = samples_for(0.05)
    assert (provable_gain(enough) or 1.0) <= 0.05 < (provable_gain(enough - 1) or 1.0)
    assert provable_gain(3) is None
