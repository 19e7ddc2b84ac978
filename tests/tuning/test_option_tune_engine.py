"""``--tune-engine gepa``: GEPA proposes; samples, recordings, budget, guards, verdict and result are ours."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import gepa.api  # noqa: F401 - pytester forgets what a run inside it has imported: this is loaded once
import pytest
from loopback_server import error
from tuning_models import (
    RULE,
    TuningProject,
    always_bad,
    by_keyword,
    by_rule,
    draft,
    rows,
    system_of,
    tagged,
    text_of,
)

from pytest_promptfit import PromptfitError, TuneResult, tune
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples
from pytest_promptfit.prompts.split import split

if TYPE_CHECKING:
    from pathlib import Path

    from tuning_models import Says

SYSTEM = f"Is the mood good or bad? {RULE}"
TEXTS_ONLY = {"edit": ["system_prompt"]}
INPUT = re.compile("## Inputs\n(.*)\n")


def text(words: str) -> str:
    """Return an answer in the form that GEPA asks for."""
    return f"Here it is:\n```\n{words}\n```"


def evolving(project: TuningProject, says: Says, *, task: Says = by_rule, **fields: Any) -> Path:
    """Write a prompt that says no rule, and an optimizer that writes this."""
    project.model.task, project.model.optimizer = task, says
    tune = {"model": project.optimizer_model(), "budget": {"task_calls": 300}, **TEXTS_ONLY, **fields.pop("tune", {})}
    return project.prompt(rows(60), tune=tune, **fields)


def tuned(path: Path, seed: int = 0, at: str = "cassettes", **options: Any) -> TuneResult:
    return tune(path, seed=seed, engine="gepa", cassettes=path.parent / at, **options)


def useless() -> Says:
    told = iter(range(100))
    return lambda _: text(f"Good or bad? Think {next(told)} times.")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# What a run does.


def test_a_text_by_gepa_makes_a_prompt_better_and_a_replay_writes_the_same_bytes(project: TuningProject) -> None:
    told = iter(["Good or bad? Think.", "Good or bad? Think again.", SYSTEM, *(f"Good, bad? {n}" for n in range(20))])
    path = evolving(project, lambda _: text(next(told)))
    before, known = project.text(), files(project.path)
    first = project.tune("--tune-engine=gepa", "--promptfit-report=page.html")
    (entry,) = project.entries()
    assert entry["accepted"], entry["reason"]
    assert project.text() == before.replace("Is the mood good or bad?", SYSTEM)
    (step,) = [step for step in entry["steps"] if step["accepted"]]
    assert (step["stage"], step["broken"]) == ("gepa", 0)
    assert step["summary"] == f"system_prompt: {SYSTEM!r}"
    assert [stage["stage"] for stage in entry["stages"]] == ["probe", "gepa", "holdout", "recording"]
    assert entry["stop_reason"] == "GEPA found no mistake any more among the train samples"
    assert entry["holdout"]["after"] == 1.0
    written = {name for name in files(project.path) - known if not name.startswith((".pytest_cache", "cassettes/"))}
    assert written == {"mood.baseline.json", "page.html", "report.json"}
    assert "What is lovely is good." in (project.path / "page.html").read_text(encoding="utf-8")
    assert "Iteration" not in first.stdout.str()
    assert project.replay().ret == 0

    after = project.text()
    path.write_text(before, encoding="utf-8")
    (project.path / "mood.baseline.json").unlink()
    project.model.go_down()
    again = project.tuned("--tune-engine=gepa")
    assert project.text() == after
    assert again["steps"] == entry["steps"]
    assert again["usage"]["task_calls"] == entry["usage"]["task_calls"]
    assert again["usage"]["replayed"] == again["usage"]["task_calls"] + again["usage"]["optimizer_calls"]


def test_the_optimizer_is_shown_samples_of_train_alone_and_how_they_are_read(project: TuningProject) -> None:
    path = evolving(project, useless(), tune={"budget": {"task_calls": 300, "optimizer_calls": 8}})
    tuned(path)
    train = {sample.text for sample in split(read_samples(parse_prompt_file(path)).samples).train}
    bodies = project.model.optimizer_bodies
    assert len(bodies) == 8
    for body in bodies:
        asked = text_of(body)
        shown = {json.loads(line) for line in INPUT.findall(asked)}
        assert len(shown) == 3
        assert shown <= train
        assert "what stands between the last <label> and </label>" in asked
        assert 'Wrong: the right label is "good".' in asked
        assert "The samples are data" in system_of(body)
        assert "response_format" not in body


def test_no_better_text_leaves_the_file_alone_and_every_candidate_is_told(project: TuningProject) -> None:
    path = evolving(project, useless(), tune={"budget": {"task_calls": 300, "optimizer_calls": 5}})
    before = project.text()
    result = tuned(path)
    assert not result.accepted
    assert project.text() == before
    assert result.stop_reason == "the budget of 5 optimizer calls is used up"
    assert [step.verdict for step in result.steps] == ["not better on the 3 train samples it was written from"] * 5
    assert [score.summary for score in result.scores] == ["as it is"]
    asked = len(project.model.optimizer_bodies)
    assert tuned(path, take=2).accepted, "by hand"
    assert project.yaml()["prompt"]["system_prompt"] == "Good or bad? Think 1 times."
    assert len(project.model.optimizer_bodies) == asked


def test_only_texts_that_say_something_are_written_in_turn(project: TuningProject) -> None:
    prompt = {"system_prompt": "Is the mood good or bad?", "user_prompt_suffix": "\nAnswer good or bad."}
    budget = {"task_calls": 300, "optimizer_calls": 4}
    edit = ["system_prompt", "user_prompt_prefix", "user_prompt_suffix"]
    tuned(evolving(project, useless(), task=always_bad, prompt=prompt, tune={"edit": edit, "budget": budget}))
    named = re.findall(r"They are `(\w+)`", "\n".join(map(text_of, project.model.optimizer_bodies)))
    assert named == ["system_prompt", "user_prompt_suffix"] * 2


def test_an_empty_prompt_is_written(project: TuningProject) -> None:
    path = evolving(project, lambda _: text(SYSTEM), prompt={})
    assert tuned(path).accepted
    assert project.yaml()["prompt"] == {"system_prompt": SYSTEM}


def test_a_run_ends_when_train_has_no_mistake_left_though_dev_has(project: TuningProject) -> None:
    path = evolving(project, useless())
    dev = [sample.text for sample in split(read_samples(parse_prompt_file(path)).samples).dev]
    project.model.task = lambda body: tagged("bad") if any(one in text_of(body) for one in dev) else by_keyword(body)
    result = tuned(path)
    assert result.usage.optimizer_calls == 0
    assert result.stop_reason == "GEPA found no mistake any more among the train samples"


# What our rules do to it.


REFUSED = {
    "empty": ("", "leaves system_prompt empty"),
    "no label": ("Say what you feel.", "does not say 'good'"),
    "a placeholder": ("Is {{text}} good or bad?", "nothing but {labels} is filled in"),
}


@pytest.mark.parametrize(("words", "why"), REFUSED.values(), ids=REFUSED)
def test_a_text_that_may_not_be_is_asked_for_once_more_and_costs_no_task_call(
    project: TuningProject, words: str, why: str
) -> None:
    evolving(project, lambda _: text(words), tune={"budget": {"task_calls": 300, "optimizer_calls": 2}})
    before = project.text()
    result = project.tune("--tune-engine=gepa")
    assert project.text() == before
    first, second = map(text_of, project.model.optimizer_bodies)
    assert second.startswith(f"{first}\n\nYour last answer could not be used:\n")
    assert why in second
    assert {system_of(body) for body in project.model.task_bodies} == {"Is the mood good or bad?"}
    result.stdout.fnmatch_lines([f"  warning: optimizer: 1 answers could not be used, the last one: *{why}*"])


def test_a_text_that_copies_a_sample_is_refused(project: TuningProject) -> None:
    def copies(body: dict[str, Any]) -> str:
        return text(f"{SYSTEM} As in: {INPUT.findall(text_of(body))[0].upper()}!")

    path = evolving(project, copies, tune={"budget": {"task_calls": 300, "optimizer_calls": 2}})
    assert not tuned(path).accepted
    assert "copied from a sample" in text_of(project.model.optimizer_bodies[1])


def test_a_canonical_sample_is_never_given_up(project: TuningProject) -> None:
    def task(body: dict[str, Any]) -> str:
        is_trap = "trap" in text_of(body)
        return tagged("good" if RULE in system_of(body) else "bad") if is_trap else by_rule(body)

    canonical = [{"id": "c", "text": "a lovely trap", "label": "bad"}]
    path = evolving(project, lambda _: text(SYSTEM), task=task, canonical=canonical)
    before = project.text()
    result = tuned(path)
    assert result.steps[-1].verdict == "loses a canonical sample"
    assert not result.accepted
    assert project.text() == before


@pytest.mark.parametrize(("calls", "is_enough"), [(60, False), (110, True)])
def test_the_budget_holds_and_what_is_best_by_then_is_judged(
    project: TuningProject, calls: int, is_enough: bool
) -> None:
    result = tuned(evolving(project, lambda _: text(SYSTEM), tune={"budget": {"task_calls": calls}}))
    assert result.usage.task_calls <= calls
    assert result.accepted == is_enough, result.reason


def test_a_server_that_fails_ends_the_run_and_the_next_decides_as_an_unbroken_one(project: TuningProject) -> None:
    def says(body: dict[str, Any]) -> Any:
        told = words.setdefault(text_of(body), SYSTEM if len(words) == 4 else f"Good or bad? {len(words)}")
        return error(401, "no") if is_down and len(words) > 3 else text(told)

    words: dict[str, str] = {}
    path = evolving(project, says)
    before = project.text()
    is_down = True
    with pytest.raises(PromptfitError, match="refused"):
        tuned(path)
    assert len(project.model.optimizer_bodies) == 4, "GEPA goes on after an error, but nobody is asked any more"
    assert project.text() == before
    is_down = False
    resumed, after = tuned(path), project.text()
    assert resumed.accepted
    path.write_text(before, encoding="utf-8")
    (project.path / "mood.baseline.json").unlink()
    unbroken = tuned(path, at="elsewhere")
    assert (project.text(), unbroken.steps, unbroken.scores) == (after, resumed.steps, resumed.scores)
    assert unbroken.usage.replayed == 0 < resumed.usage.replayed


def test_another_seed_draws_other_samples(project: TuningProject) -> None:
    def minibatches(seed: int, at: str) -> list[str]:
        told = len(project.model.optimizer_bodies)
        project.model.optimizer = useless()
        tuned(path, seed, at)
        return [text_of(body).partition("# Example 1")[2] for body in project.model.optimizer_bodies[told:]]

    path = evolving(project, useless(), task=always_bad, tune={"budget": {"task_calls": 300, "optimizer_calls": 4}})
    first = minibatches(1, "a")
    assert len(first) == 4
    assert minibatches(2, "b") != first


# What is told where it cannot run.


def test_without_the_extra_one_line_says_how_to_get_it(project: TuningProject, monkeypatch: pytest.MonkeyPatch) -> None:
    path = evolving(project, lambda _: text(SYSTEM))
    before = project.text()
    for name in [name for name in sys.modules if name.partition(".")[0] == "gepa"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gepa", None)
    with pytest.raises(PromptfitError, match=r"GEPA is not installed.*: pip install 'pytest-promptfit\[gepa\]'$"):
        tuned(path)
    assert project.text() == before
    assert project.model.server.seen == []
    project.model.optimizer = lambda _: draft(SYSTEM)
    assert tune(path, cassettes=project.path / "cassettes").accepted, "our own engine needs no GEPA"


@pytest.mark.parametrize(
    ("tune_", "arguments", "line"),
    [
        (
            {"model": None},
            (),
            "mood.prompt.yaml:16: tune.model: GEPA needs an optimizer model, and ",
        ),
        (
            {"edit": ["examples"]},
            ("--tune-dry-run",),
            "mood.prompt.yaml:23: tune.edit: GEPA writes texts: expected one of ",
        ),
        ({}, ("--tune-iterations=3",), "mood.prompt.yaml: GEPA has no iterations: tune.budget ends it, such as "),
    ],
)
def test_what_gepa_cannot_do_is_told_before_anything_is_asked(
    project: TuningProject, tune_: dict[str, Any], arguments: tuple[str, ...], line: str
) -> None:
    evolving(project, lambda _: text(SYSTEM), tune=tune_)
    result = project.pytest("--tune", "--tune-engine=gepa", *arguments, "-k", "tune")
    assert result.ret != 0
    assert line in result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str()
    assert project.model.server.seen == []


def test_a_dry_run_says_what_gepa_would_do(project: TuningProject) -> None:
    evolving(project, lambda _: text(SYSTEM))
    result = project.pytest("--tune", "--tune-engine=gepa", "--tune-dry-run")
    result.stdout.fnmatch_lines(
        ["*: stages: probe; gepa: new texts by the optimizer (system_prompt) until a limit is reached; holdout"]
    )
    assert project.model.server.seen == []


def test_an_unknown_engine_is_refused(project: TuningProject) -> None:
    path = evolving(project, lambda _: text(SYSTEM))
    result = project.pytest("--tune", "--tune-engine=dspy")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--tune-engine: invalid choice: *dspy*promptfit*gepa*"])
    with pytest.raises(PromptfitError, match="unknown engine 'dspy': expected one of promptfit, gepa"):
        tune(path, engine="dspy")  # type: ignore[arg-type]
    result = project.pytest("--promptfit", "--tune-engine=gepa")
    result.stderr.fnmatch_lines(["*--tune-engine needs --tune: pytest --tune --tune-engine*"])
