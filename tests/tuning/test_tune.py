"""``--tune``: a prompt gets better, or stays byte for byte as it was; what is told, and the options."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tuning_models import (
    RULE,
    TuningProject,
    always_bad,
    asks_for_patches,
    by_rule,
    patch,
    patches,
    rows,
    shown_labels,
    system_of,
    tagged,
    text_of,
)

from pytest_promptfit import PromptfitError, TuneResult, load_prompt, tune
from pytest_promptfit.text import percent, probability

if TYPE_CHECKING:
    from pathlib import Path

TEXTS_ONLY = {"edit": ["system_prompt"]}
"""No races: only patches of one text are left."""

ENTRY = {
    "path": str,
    "accepted": bool,
    "reason": str,
    "stop_reason": str,
    "holdout": {
        "n": int,
        "before": float,
        "after": float,
        "fixed": int,
        "broken": int,
        "p_value": float,
    },
    "canonical": {"total": int, "before": int, "after": int},
    "usage": {
        "task_calls": int,
        "optimizer_calls": int,
        "replayed": int,
        "input_tokens": int,
        "output_tokens": int,
        "usd": type(None),  # nobody knows what the made-up model costs
    },
    "steps": list,
}
STEP = {
    "stage": str,
    "summary": str,
    "diff": str,
    "fixed": int,
    "broken": int,
    "p_value": float,
    "accepted": bool,
}


def files(folder: Path) -> dict[str, bytes]:
    """Return every file of a project, but for what pytest itself leaves behind."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".pytest_cache" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def assert_shape(value: dict[str, Any], shape: dict[str, Any]) -> None:
    for name, kind in shape.items():
        assert name in value
        if isinstance(kind, dict):
            assert_shape(value[name], kind)
        else:
            assert isinstance(value[name], kind), name


def without_examples(text: str) -> str:
    """Return a prompt file without the examples that were put in."""
    return re.sub(r"^  examples:\n(?:    .*\n)+", "", text, flags=re.MULTILINE)


# What a run does.


def test_examples_alone_make_a_prompt_better(project: TuningProject) -> None:
    path = project.prompt(rows(60), tune={"budget": {"task_calls": 200}})
    commented = project.text().replace("\nlabels:\n", "\n# what they may be:\nlabels:   # two of them\n")
    path.write_text(commented, encoding="utf-8")
    entry = project.tuned()
    assert entry["accepted"]
    assert entry["holdout"]["before"] < 0.8 < entry["holdout"]["after"] == 1.0
    assert (entry["holdout"]["broken"], entry["usage"]["optimizer_calls"]) == (0, 0)
    examples = project.yaml()["prompt"].pop("examples")
    assert {example["label"] for example in examples} == {"good", "bad"}
    assert without_examples(project.text()) == commented
    assert {(case["outcome"], case["label"]) for case in project.baseline()["cases"].values()} == {
        ("right", "good"),
        ("right", "bad"),
    }
    result = project.replay()
    assert result.ret == 0
    result.assert_outcomes(passed=61)
    result.stdout.no_fnmatch_line("*obsolete*")


def test_a_patch_of_the_optimizer_makes_a_prompt_better(project: TuningProject) -> None:
    project.model.task = by_rule
    project.model.optimizer = lambda _: patches(patch(targets=["s8", "s10"]))
    project.prompt(tune={"model": project.optimizer_model(), **TEXTS_ONLY})
    before = project.text()
    entry = project.tuned()
    assert entry["accepted"]
    (step,) = [step for step in entry["steps"] if step["accepted"]]
    assert (step["stage"], step["targets"], step["broken"]) == ("reflect", ["s8", "s10"], 0)
    assert step["fixed"] >= 6
    assert f"+ 'Is the mood good or bad? {RULE}'" in step["diff"]
    assert project.text() == before.replace("good or bad?", f"good or bad? {RULE}")
    assert project.replay().ret == 0


def test_a_step_names_only_samples_that_the_optimizer_was_shown_as_wrong(project: TuningProject) -> None:
    def names_all(body: dict[str, Any]) -> str:
        told.extend([text_of(body)] if asks_for_patches(body) else [])
        return patches(patch(targets=[*(row[0] for row in rows()), "c", "no such id"]))

    told: list[str] = []
    project.model.task = by_rule
    project.model.optimizer = names_all
    canonical = [{"id": "c", "text": "a lovely trap", "label": "good"}]
    project.prompt(canonical=canonical, tune={"model": project.optimizer_model(), "iterations": 1, **TEXTS_ONLY})
    step = project.tuned()["steps"][0]
    wrong, _, right = told[0].partition("# Right now, and must stay right")
    shown_wrong = re.findall('{"id": "(.+?)"', wrong)
    assert shown_wrong[0] == "c"
    assert re.findall('{"id": "(.+?)"', right)
    assert sorted(step["targets"]) == sorted(shown_wrong)
    assert step["accepted"]


def test_the_optimizer_is_asked_no_more_once_nothing_is_left_to_gain(project: TuningProject) -> None:
    project.model.task = by_rule
    project.prompt(tune={"model": project.optimizer_model(), **TEXTS_ONLY})
    assert project.tuned()["usage"]["optimizer_calls"] == len(project.model.optimizer_bodies)
    assert len(project.model.patch_bodies) <= 2


def test_the_optimizer_never_sees_dev_or_holdout(project: TuningProject) -> None:
    project.model.task = by_rule
    project.model.optimizer = lambda _: patches(patch(text="Look twice at every text."))
    project.prompt(tune={"model": project.optimizer_model(), "edit": ["system_prompt"], "iterations": 2})
    project.tune()
    told = "".join(text_of(body) for body in project.model.optimizer_bodies)
    seen = {text for _, text, *_ in rows() if text in told}
    assert 0 < len(seen) <= 0.45 * len(rows())


def test_opaque_labels_get_words(project: TuningProject) -> None:
    def task(body: dict[str, Any]) -> str:
        words = {"good": "cheerful", "bad": "gloomy"} if "cheerful" in text_of(body) else {"good": "1", "bad": "1"}
        return tagged(words["good" if "lovely" in text_of(body) else "bad"])

    project.model.task = task
    project.model.optimizer = lambda _: json.dumps({"1": "cheerful", "0": "gloomy"})
    samples = tuple((i, text, "1" if label == "good" else "0") for i, text, label, _ in rows())
    asks = "</text>\nSay <label>0</label> or <label>1</label>."
    prompt = {"user_prompt_prefix": "<text>", "user_prompt_suffix": asks}
    edit = ["user_prompt_suffix", "label_words"]
    project.prompt(
        samples,
        labels=["0", "1"],
        prompt=prompt,
        tune={"model": project.optimizer_model(), "edit": edit, "iterations": 0},
    )
    assert project.tuned()["accepted"]
    tuned = project.yaml()["prompt"]
    assert tuned["label_words"] == {"0": "gloomy", "1": "cheerful"}
    assert "<label>gloomy</label> or <label>cheerful</label>" in tuned["user_prompt_suffix"]
    assert project.replay().ret == 0


def test_labels_get_no_words_where_the_texts_that_spell_them_must_stay(project: TuningProject) -> None:
    project.model.task = lambda _: tagged("1")
    project.model.optimizer = lambda _: json.dumps({"1": "cheerful", "0": "gloomy"})
    samples = tuple((i, text, "1" if label == "good" else "0") for i, text, label, _ in rows())
    prompt = {"system_prompt": "Say <label>0</label> or <label>1</label>."}
    tuned = {"model": project.optimizer_model(), "edit": ["label_words"], "iterations": 0}
    project.prompt(samples, labels=["0", "1"], prompt=prompt, tune=tuned)
    project.tune()
    assert {system_of(body) for body in project.model.task_bodies} == {prompt["system_prompt"]}


def test_a_prompt_that_nothing_helps_stays_byte_for_byte(project: TuningProject) -> None:
    project.model.task = always_bad
    project.prompt()
    before = project.text()
    result = project.tune()
    assert project.text() == before
    assert not (project.path / "mood.baseline.json").exists()
    (entry,) = project.entries()
    assert (entry["accepted"], entry["holdout"], entry["diff"]) == (False, None, [])
    assert entry["reason"] == "no candidate was better beyond chance"
    result.stdout.fnmatch_lines(["tuned mood.prompt.yaml: left as it was: no candidate was better beyond chance"])


def test_what_was_paid_for_an_unchanged_prompt_is_not_paid_again(project: TuningProject) -> None:
    project.model.task = always_bad
    project.prompt()
    project.tune()
    project.record()
    asked = project.model.asked
    assert len(asked) == len(set(asked))


def test_recorded_replies_are_not_paid_again(project: TuningProject) -> None:
    project.prompt()
    project.record()
    entry = project.tuned()
    assert entry["accepted"]
    assert entry["usage"]["replayed"] > 20
    assert len(project.model.asked) == len(set(project.model.asked))


def test_the_prompt_that_is_written_is_asked_as_often_as_the_file_says(project: TuningProject) -> None:
    project.prompt(repeats=2, tune={"budget": {"task_calls": 200}})
    entry = project.tuned()
    assert entry["accepted"]
    assert len(project.model.asked) == entry["usage"]["task_calls"] <= 200
    (prompt,) = project.report()["prompts"]
    total = prompt["labeled"]["total"]
    assert (prompt["noise"]["samples"], prompt["noise"]["share"]) == (total, 0.0)
    assert (prompt["usage"]["replayed"], prompt["labeled"]["unanswered"]) == (2 * total, 0)
    assert prompt["verdict"]["line"].startswith("mood: unchanged from its baseline: 100.0 %")


def test_only_named_fields_change(project: TuningProject) -> None:
    project.model.task = by_rule
    project.model.optimizer = lambda _: patches(patch(field="user_prompt_suffix"), patch())
    project.prompt(tune={"model": project.optimizer_model(), "edit": ["user_prompt_prefix"], "iterations": 1})
    before = project.yaml()["prompt"]
    assert not project.tuned()["accepted"]
    sent = project.model.task_bodies
    assert {system_of(body) for body in sent} == {before["system_prompt"]}
    assert all(text_of(body).endswith(before["user_prompt_suffix"]) for body in sent)
    assert not any(shown_labels(body) for body in sent)


def test_samples_that_every_candidate_gets_wrong_are_suspects(project: TuningProject) -> None:
    wrong = (("odd", "a lovely odd one", "bad"), ("even", "a dreadful even one", "good"))
    project.prompt((*rows(), *wrong))
    result = project.tune()
    (entry,) = project.entries()
    assert entry["accepted"]
    suspects = set(entry["suspects"])
    assert suspects <= {"sample-odd", "sample-even"}
    assert suspects
    result.stdout.fnmatch_lines(["  check these labels, every candidate got them wrong: sample-*"])


def test_two_prompts_are_tuned_one_after_the_other(project: TuningProject) -> None:
    for name in ("one", "two"):
        project.prompt(at=f"{name}.prompt.yaml", tune=TEXTS_ONLY)
    project.tune()
    assert [entry["path"] for entry in project.entries()] == ["one.prompt.yaml", "two.prompt.yaml"]


# What is told.


def test_json_has_the_documented_keys(project: TuningProject) -> None:
    project.prompt(canonical=[{"text": "a dreadful thing", "label": "bad"}])
    entry = project.tuned()
    assert_shape(entry, ENTRY)
    assert entry["steps"]
    for step in entry["steps"]:
        assert_shape(step, STEP)
    assert entry["canonical"] == {"total": 1, "before": 1, "after": 1}
    usage = entry["usage"]
    assert usage["task_calls"] == len(project.model.task_bodies)
    assert (usage["input_tokens"], usage["output_tokens"]) == (100 * usage["task_calls"], 10 * usage["task_calls"])


def test_the_terminal_tells_verdict_holdout_steps_and_diff(project: TuningProject) -> None:
    project.prompt()
    result = project.tune()
    (entry,) = project.entries()
    held, step = entry["holdout"], entry["steps"][0]
    result.stdout.fnmatch_lines(
        [
            "tuning: probe; nothing better yet; 110 calls left",
            f"tuned mood.prompt.yaml: rewritten: {entry['reason']}",
            f"  stopped: {entry['stop_reason']}",
            f"  holdout ({held['n']} samples): {percent(held['before'])} (*) before, {percent(held['after'])} (*) "
            f"after: * points (*), fixed {held['fixed']}, broke {held['broken']}, {probability(held['p_value'])}",
            f"  {len(project.model.asked)} task calls, 0 optimizer calls, 0 of * replayed, * tokens in, * out*",
            "  warning: 30 labeled samples (*): with fewer than 60 no claim can be made that a prompt got better",
            "      stage     fixed  broke      p  verdict",
            f"    1 examples  *{step['fixed']}*{step['broken']}*{step['p_value']:.3f}  accepted*: {step['summary']}",
            "  --- a/mood.prompt.yaml",
            "  +++ b/mood.prompt.yaml",
            "  +  examples:",
            f"mood.prompt.yaml rewritten: {percent(held['before'])} → {percent(held['after'])} on the holdout, *",
        ]
    )


def test_the_tune_case_passes_and_carries_the_reason(project: TuningProject) -> None:
    project.model.task = always_bad
    project.prompt()
    result = project.tune("--junitxml=junit.xml", "-rA")
    result.stdout.fnmatch_lines(["PASSED mood.prompt.yaml::tune"])
    assert "no candidate was better beyond chance" in (project.path / "junit.xml").read_text(encoding="utf-8")


# The options.


def test_dry_run_tells_the_plan_asks_nothing_and_writes_nothing(project: TuningProject) -> None:
    project.prompt(
        rows(60),
        model={"provider": "openai", "name": "gpt-4.1-nano"},
        params={"max_tokens": 50},
        tune={
            "model": "openai/gpt-4.1-mini",
            "params": {"max_tokens": 1000},
            "budget": {"task_calls": 300, "usd": 0.5},
        },
    )
    before = files(project.path)
    result = project.pytest("--tune", "--tune-dry-run")
    assert project.model.asked == []
    assert files(project.path) == before
    result.stdout.fnmatch_lines(
        [
            "mood.prompt.yaml: split: * train, * dev, * holdout",
            "mood.prompt.yaml: task model: openai/gpt-4.1-nano, at most 300 calls, * of them set aside",
            "mood.prompt.yaml: optimizer: openai/gpt-4.1-mini, at most 20 calls",
            "mood.prompt.yaml: limits: usd 0.5",
            "mood.prompt.yaml: may change: system_prompt, *, examples, label_words, label_notes, label_order",
            "mood.prompt.yaml: estimated cost, task model: about $0.0? (300 calls of * tokens in, 50 out)",
            "mood.prompt.yaml: estimated cost, optimizer: about $0.?? (20 calls of * tokens in, 1000 out)",
        ]
    )


def test_dry_run_of_models_without_a_price(project: TuningProject) -> None:
    project.prompt()
    project.pytest("--tune", "--tune-dry-run").stdout.fnmatch_lines(
        ["*: optimizer: none: searches only", "*: limits: calls alone", "*task model: its price is not known (*"]
    )


def test_seed_decides_the_draws(project: TuningProject) -> None:
    found = []
    for seed in (1, 2):
        project.prompt()
        assert project.tuned("--tune-seed", seed)["accepted"]
        found.append(project.text())
    assert found[0] != found[1]


@pytest.mark.parametrize(("given", "rounds"), [((), 2), (("--tune-iterations=1",), 1)])
def test_iterations(project: TuningProject, given: tuple[str, ...], rounds: int) -> None:
    project.model.task = by_rule
    told = iter(range(100))
    project.model.optimizer = lambda _: patches(patch(text=f"Think {next(told)} times."))
    project.prompt(tune={"model": project.optimizer_model(), "iterations": 2, **TEXTS_ONLY})
    project.tune(*given)
    assert len(project.model.patch_bodies) == 2 * rounds


@pytest.mark.parametrize("option", ["--tune", "--promptfit-tune"])
def test_both_names_of_the_option(project: TuningProject, option: str) -> None:
    project.prompt(tune=TEXTS_ONLY)
    result = project.pytest(option)
    result.stdout.fnmatch_lines(["tuned mood.prompt.yaml: left as it was: *"])


@pytest.mark.parametrize("selection", [("one.prompt.yaml::tune",), ("-k", "one")])
def test_only_what_is_selected_is_tuned(project: TuningProject, selection: tuple[str, ...]) -> None:
    for name in ("one", "two"):
        project.prompt(at=f"{name}.prompt.yaml")
    before = project.text("two")
    project.tune(*selection)
    assert [entry["path"] for entry in project.entries()] == ["one.prompt.yaml"]
    assert project.text("two") == before
    assert "examples" in project.yaml("one")["prompt"]


@pytest.mark.parametrize("selection", [("-k", "sample"), ("--collect-only",), ("one.prompt.yaml::sample-s1",)])
def test_nothing_is_tuned_where_the_run_is_not_selected(project: TuningProject, selection: tuple[str, ...]) -> None:
    project.prompt(at="one.prompt.yaml")
    before = files(project.path)
    project.pytest("--tune", *selection)
    assert project.model.asked == []
    assert files(project.path) == before


def test_refused_in_ci(project: TuningProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project.prompt()
    before = files(project.path)
    monkeypatch.setenv("CI", "true")
    result = project.pytest("--tune")
    assert result.ret == 4
    assert [line for line in result.errlines if line] == [
        "ERROR: --tune is refused while CI is set: add --promptfit-allow-ci if that is meant"
    ]
    assert project.model.asked == []
    assert files(project.path) == before
    assert project.pytest("--tune", "--tune-dry-run", "-k", "tune").ret == 0
    assert files(project.path) == before
    assert project.tuned("--promptfit-allow-ci")["accepted"]


def test_refused_under_xdist(project: TuningProject) -> None:
    project.prompt()
    result = project.pytest("-p", "xdist", "-n2", "--tune")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --tune runs in one process: leave out pytest-xdist's -n"])
    assert project.model.asked == []


@pytest.mark.parametrize("option", ["--tune-dry-run", "--tune-seed=0", "--tune-iterations=0"])
def test_tuning_option_needs_tune(project: TuningProject, option: str) -> None:
    project.prompt()
    result = project.pytest(option)
    assert result.ret == 4
    name = option.partition("=")[0]
    result.stderr.fnmatch_lines([f"ERROR: {name} needs --tune: pytest --tune {name} …"])


@pytest.mark.parametrize("option", ["--tune-seed=x", "--tune-seed=-1", "--tune-iterations=1.5"])
def test_value_that_makes_no_sense_is_a_usage_error(project: TuningProject, option: str) -> None:
    project.prompt()
    result = project.pytest("--tune", option)
    assert result.ret == 4
    name, _, value = option.partition("=")
    result.stderr.fnmatch_lines([f"*{name} '{value}': expected a whole number from 0"])


# From Python.


def test_tune_from_python(project: TuningProject) -> None:
    path = project.prompt()
    (project.path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    result = tune(path)
    assert isinstance(result, TuneResult)
    assert result.accepted
    assert result.holdout is not None
    assert result.holdout.after > result.holdout.before
    assert load_prompt(path)("a lovely new day").label == "good"
    assert project.replay().ret == 0


def test_tune_from_python_does_as_the_option(project: TuningProject) -> None:
    path = project.prompt()
    before = project.text()
    project.tune("--tune-seed=3", "--tune-iterations=0")
    by_option = project.text()
    path.write_text(before, encoding="utf-8")
    tune(str(path), seed=3, iterations=0, cassettes=project.path / "cassettes", concurrency=2)
    assert project.text() == by_option != before


def test_tune_from_python_raises(project: TuningProject) -> None:
    with pytest.raises(PromptfitError, match=r"nothing\.prompt\.yaml"):
        tune(project.path / "nothing.prompt.yaml")


def test_the_function_is_reached_by_its_name_whatever_is_imported_first() -> None:
    for first in ("pytest_promptfit", "pytest_promptfit.prompts.split", "pytest_promptfit.plugin.session"):
        code = f"import {first}; from pytest_promptfit import TuneResult, tune; tune('no.prompt.yaml')"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "PromptFileError: no.prompt.yaml" in ended.stderr, first
