"""``--tune`` within its budget, and when models, samples or the prompt file make trouble: nothing is harmed or lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from loopback_server import HANG, Answer, broken, chat, error, json_answer
from tuning_models import (
    RULE,
    TuningProject,
    by_examples,
    by_keyword,
    by_rule,
    patch,
    patches,
    price_of,
    rows,
    shown_labels,
    system_of,
    tagged,
    text_of,
    with_a_price,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


CONTRADICTS = [{"text": "a lovely trap", "label": "bad"}]
"""A canonical sample that a model answering by keyword gets wrong."""

Says = str | Answer


def reflecting(project: TuningProject, says: Says | Callable[[dict[str, Any]], Says], **fields: Any) -> Path:
    """Write a prompt that a patch of its system prompt would make better, and an optimizer that says this."""
    project.model.task = by_rule
    project.model.optimizer = says if callable(says) else lambda _: says
    given = {"edit": ["system_prompt"], "iterations": 2, "model": project.optimizer_model()}
    return project.prompt(rows(), tune={**given, **fields.pop("tune", {})}, **fields)


def unharmed(project: TuningProject, result: pytest.RunResult, before: str) -> dict[str, Any]:
    """Hold that a run ended well with the prompt as it was, and return its report."""
    (entry,) = project.entries()
    assert project.text() == before
    assert (entry["accepted"], entry["diff"]) == (False, [])
    assert entry["reason"]
    result.stdout.fnmatch_lines(["tuned mood.prompt.yaml: left as it was: *"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    return entry


# The budget.


@pytest.mark.parametrize("limit", [1, 10, 30, 60, 110])
def test_task_calls_are_never_passed(project: TuningProject, limit: int) -> None:
    project.prompt(tune={"budget": {"task_calls": limit}})
    entry = project.tuned()
    assert len(project.model.asked) == entry["usage"]["task_calls"] <= limit
    if any(step["accepted"] for step in entry["steps"]):
        assert entry["holdout"]["n"] > 0


def test_ten_task_calls_leave_the_prompt_alone(project: TuningProject) -> None:
    project.prompt(tune={"budget": {"task_calls": 10}})
    before = project.text()
    result = project.tune()
    entry = unharmed(project, result, before)
    assert (entry["reason"], project.model.asked) == ("no candidate was tried", [])
    result.stdout.fnmatch_lines(
        ["  stopped: the budget of 10 task calls is used up: 0 needed so far, 5 set aside for the end"]
    )


def test_with_many_samples_and_few_calls_part_of_the_holdout_is_looked_at(project: TuningProject) -> None:
    project.prompt(rows(300), tune={"budget": {"task_calls": 180}})
    result = project.tune()
    (entry,) = project.entries()
    assert entry["accepted"]
    assert entry["holdout"]["n"] == 30
    assert len(project.model.asked) <= 180
    result.stdout.fnmatch_lines(
        [
            "  warning: 180 task calls are few for * holdout samples: 30 of them are looked at",
            "  warning: * samples have no recorded reply to the new prompt, because the budget is used up, or *: "
            "pytest --promptfit --promptfit-record asks for them",
        ]
    )
    assert project.record().ret == 0


def test_no_optimizer_calls(project: TuningProject) -> None:
    path = reflecting(project, patches(patch()), tune={"budget": {"task_calls": 110, "optimizer_calls": 0}})
    entry = unharmed(project, project.tune(), path.read_text(encoding="utf-8"))
    assert project.model.optimizer_bodies == []
    assert entry["stop_reason"] == "the budget of 0 optimizer calls is used up"


def test_one_optimizer_call_and_the_stages_after_it(project: TuningProject) -> None:
    budget = {"task_calls": 110, "optimizer_calls": 1}
    project.model.task = lambda body: by_keyword(body) if len(shown_labels(body)) == 2 else by_rule(body)
    project.model.optimizer = lambda _: "no idea"
    project.prompt(rows(), tune={"model": project.optimizer_model(), "budget": budget, "edit": ["examples"]})
    entry = project.tuned()
    assert len(project.model.optimizer_bodies) <= 1
    assert entry["accepted"]
    assert {step["stage"] for step in entry["steps"]} >= {"examples", "prune"}


def test_one_optimizer_call_may_be_enough(project: TuningProject) -> None:
    reflecting(project, patches(patch()), tune={"budget": {"task_calls": 110, "optimizer_calls": 1}})
    entry = project.tuned()
    assert entry["accepted"]
    assert len(project.model.optimizer_bodies) == entry["usage"]["optimizer_calls"] == 1


def counting(body: dict[str, Any]) -> Answer:
    """Answer as ``by_examples`` does, with the tokens that a real API would count."""
    reply = json.loads(chat(by_examples(body)).body)
    return json_answer({**reply, "usage": {"prompt_tokens": tokens_of(body), "completion_tokens": 10}})


def tokens_of(body: dict[str, Any]) -> int:
    return len(json.dumps(body)) // 4


@pytest.mark.parametrize("limit", [100, 4_000, 10_000])
def test_tokens_are_never_passed(project: TuningProject, limit: int) -> None:
    project.model.task = counting
    project.prompt(params={"max_tokens": 50}, tune={"budget": {"task_calls": 600, "tokens": limit}})
    entry = project.tuned()
    used = entry["usage"]["input_tokens"] + entry["usage"]["output_tokens"]
    assert used == sum(tokens_of(body) + 10 for body in project.model.task_bodies) <= limit
    assert "budget" in entry["stop_reason"]
    assert (used == 0, entry["accepted"]) == (limit == 100, limit == 10_000)


@pytest.mark.parametrize("limit", [0.0, 0.0004, 0.002])
def test_usd_are_never_passed(project: TuningProject, monkeypatch: pytest.MonkeyPatch, limit: float) -> None:
    with_a_price(monkeypatch)
    project.model.task = counting
    project.prompt(params={"max_tokens": 50}, tune={"budget": {"task_calls": 600, "usd": limit}})
    entry = project.tuned()
    paid = sum(price_of(tokens_of(body), 10) for body in project.model.task_bodies)
    assert entry["usage"]["usd"] == pytest.approx(paid)
    assert paid <= limit
    assert entry["accepted"] == (limit == 0.002)


def test_usd_limit_needs_a_known_price(project: TuningProject) -> None:
    path = project.prompt(tune={"budget": {"usd": 1.0}})
    before, line = project.text(), 1 + path.read_text(encoding="utf-8").split("\n").index("    usd: 1.0")
    result = project.pytest("--tune", "-k", "tune")
    result.assert_outcomes(failed=1, deselected=31)
    result.stdout.fnmatch_lines(
        [
            f"mood.prompt.yaml:{line}: tune.budget.usd: the price of openai/m is not known: "
            "limit task_calls, optimizer_calls or tokens"
        ]
    )
    assert project.model.asked == []
    assert project.text() == before


def test_seconds_are_counted_from_the_first_reply(project: TuningProject) -> None:
    project.prompt(tune={"budget": {"seconds": 0.0001}})
    entry = project.tuned()
    assert len(project.model.asked) == 1
    assert entry["stop_reason"].startswith("the budget of 0.0001 seconds is used up: ")


# An optimizer that is of no help.

RUBBISH = {
    "words": "I would rather talk about the weather.",
    "nothing": "",
    "broken JSON": '{"patches": [{"field": "system_prompt", "op": ',
    "another JSON": json.dumps([{"answer": 42}]),
    "a refusal": chat(None, refusal="I cannot help with that."),
    "matches nothing": patches(patch(op="replace", find="no such words", text="other words")),
    "matches everything": patches(patch(op="replace", find="o", text="0"), patch(op="delete", find=" ")),
    "blanks a field": patches(patch(op="replace", find="Is the mood good or bad?", text="")),
    "deletes a field": patches(patch(op="delete", find="Is the mood good or bad?", text="")),
    "a novel": patches(patch(text=" ".join(["word"] * 500))),
    "JSON nested without end": '{"patches": ' * 5000,
    "no reply in the body": json_answer({"object": "error"}),
    "a server that fails": broken(),
    "a request that is refused": error(400, "response_format is not supported"),
}


@pytest.mark.parametrize("says", RUBBISH.values(), ids=RUBBISH)
def test_answers_that_cannot_be_used(project: TuningProject, no_waits: None, says: Says) -> None:
    path = reflecting(project, says)
    result = project.tune()
    entry = unharmed(project, result, path.read_text(encoding="utf-8"))
    assert entry["usage"]["optimizer_calls"] <= 8, "two drafts and two sets of patches, each asked for once more"
    assert {system_of(body) for body in project.model.task_bodies} == {"Is the mood good or bad?"}
    result.stdout.fnmatch_lines(["  warning: optimizer: 4 answers could not be used, the last one: ?*"])


def test_a_sample_is_never_copied_into_the_prompt(project: TuningProject) -> None:
    def copies(body: dict[str, Any]) -> str:
        shown = next(line for line in text_of(body).split("\n") if line.startswith('{"id"') or '"right_label"' in line)
        return patches(patch(text=f"The text {json.loads(shown)['text']} is good. {RULE}"))

    path = reflecting(project, copies)
    result = project.tune()
    unharmed(project, result, path.read_text(encoding="utf-8"))
    result.stdout.fnmatch_lines(["*could not be used, the last one: *copied from a sample*"])


def test_an_optimizer_that_is_too_slow(project: TuningProject, no_waits: None) -> None:
    slow = project.optimizer_model(timeout=0.2)
    path = reflecting(project, HANG, tune={"model": slow, "iterations": 1})
    result = project.tune()
    unharmed(project, result, path.read_text(encoding="utf-8"))
    result.stdout.fnmatch_lines(["*could not be used, the last one: *no reply in time*model.timeout"])


def test_an_answer_is_asked_for_once_more_and_told_what_was_wrong(project: TuningProject) -> None:
    def learns(body: dict[str, Any]) -> str:
        return patches(patch()) if "could not be used" in text_of(body) else "no idea"

    reflecting(project, learns)
    assert project.tuned()["accepted"]
    assert len(project.model.patch_bodies) == 2


def test_a_server_that_refuses_the_form_of_the_answer_is_asked_in_words_alone(project: TuningProject) -> None:
    def refuses(body: dict[str, Any]) -> str | Answer:
        return error(400, "response_format is not supported") if "response_format" in body else patches(patch())

    path = reflecting(project, refuses)
    draft = path.read_text(encoding="utf-8")
    first = project.tuned()
    assert first["accepted"]
    asked = ["response_format" in body for body in project.model.optimizer_bodies]
    assert asked.count(True) == 1, "it is not tried again"
    tuned = project.text()
    project.model.go_down()
    path.write_text(draft, encoding="utf-8")
    assert project.tuned()["accepted"]
    assert project.text() == tuned


def test_an_outage_ends_the_run_and_the_next_one_goes_on(project: TuningProject, no_waits: None) -> None:
    answered = 0

    def breaks_down(body: dict[str, Any]) -> str | Answer:
        nonlocal answered
        answered += 1
        return by_examples(body) if answered <= 40 else broken()

    project.model.task = breaks_down
    path = project.prompt(rows(60), tune={"edit": ["examples"], "budget": {"task_calls": 200}})
    draft = path.read_text(encoding="utf-8")
    result = project.tune("-k", "tune")
    result.stdout.fnmatch_lines(
        ["* calls failed, the last one: *(500)*; the replies are kept: run pytest --tune again*"]
    )
    assert path.read_text(encoding="utf-8") == draft
    project.model.task = by_examples
    entry = project.tuned()
    assert entry["accepted"]
    assert entry["usage"]["replayed"] == 40


def test_harmful_patches_are_not_accepted(project: TuningProject) -> None:
    def task(body: dict[str, Any]) -> str:
        known = any(place in text_of(body) for place in ("day", "walk"))
        return by_keyword(body) if known and "sure" not in system_of(body) else tagged("bad")

    project.model.task = task
    project.model.optimizer = lambda _: patches(patch(text="Be sure."))
    project.prompt(rows(60), tune={"model": project.optimizer_model(), "edit": ["system_prompt"], "iterations": 1})
    before = project.text()
    entry = unharmed(project, project.tune(), before)
    assert [step["accepted"] for step in entry["steps"]] == [False]
    assert entry["steps"][0]["broken"] > entry["steps"][0]["fixed"]


def test_patches_that_fix_none_of_their_targets_cost_no_dev_sample(project: TuningProject) -> None:
    reflecting(project, patches(patch(text="Be quick.", targets=["s8", "s10"])), tune={"iterations": 1})
    entry = project.tuned()
    assert [(step["verdict"], step["fixed"]) for step in entry["steps"]] == [
        ("fixes none of the samples it was made for", 0)
    ]


# A model that cannot be asked.


@pytest.mark.parametrize("who", ["optimizer", "task model"])
def test_a_refused_key_ends_the_run_with_one_line(project: TuningProject, who: str) -> None:
    refused = error(401, "Incorrect API key provided", "invalid_api_key")
    path = reflecting(project, refused if who == "optimizer" else "")
    if who == "task model":
        project.model.task = lambda _: refused
    before = path.read_bytes()
    result = project.tune("-k", "tune")
    result.assert_outcomes(failed=1, deselected=31)
    (line,) = [line for line in result.outlines if "was refused (401)" in line and not line.startswith("FAILED")]
    assert line.startswith(f"openai/{'optimizer' if who == 'optimizer' else 'm'}: ")
    assert path.read_bytes() == before
    assert not (project.path / "mood.baseline.json").exists()
    assert project.entries() == [{"path": "mood.prompt.yaml", "accepted": False, "reason": line}]


def test_a_run_that_fails_leaves_the_others_their_entries(project: TuningProject) -> None:
    project.model.task = lambda body: error(401, "no") if "BROKEN" in system_of(body) else by_examples(body)
    project.prompt(at="one.prompt.yaml", prompt={"system_prompt": "BROKEN"})
    project.prompt(at="two.prompt.yaml")
    result = project.tune("-k", "tune")
    result.assert_outcomes(passed=1, failed=1, deselected=62)
    failed, done = project.entries()
    assert (failed["path"], failed["accepted"]) == ("one.prompt.yaml", False)
    assert "(401)" in failed["reason"]
    assert (done["path"], done["accepted"]) == ("two.prompt.yaml", True)
    result.stdout.no_fnmatch_line("tuned one.prompt.yaml*")


@pytest.mark.parametrize(
    ("says", "line"),
    [
        (
            broken(),
            "* of * calls failed, the last one: openai/m: the server failed*(500): oops; try again later; "
            "the replies are kept: run pytest --tune again to go on",
        ),
        (error(400, "filtered", "content_filter"), "none of * samples got a reply: openai/m: *(400): filtered"),
    ],
    ids=["an outage", "all are refused"],
)
def test_a_task_model_that_answers_nobody_ends_the_run(
    project: TuningProject, no_waits: None, says: Answer, line: str
) -> None:
    project.model.task = lambda _: says
    path = project.prompt(rows())
    before = path.read_bytes()
    result = project.tune("-k", "tune")
    result.assert_outcomes(failed=1, deselected=31)
    result.stdout.fnmatch_lines([line])
    assert path.read_bytes() == before
    (entry,) = project.entries()
    assert (entry["accepted"], entry["reason"] in result.outlines) == (False, True)


def test_replies_that_one_prompt_did_not_get_make_no_other_better(project: TuningProject) -> None:
    """The content filter takes offence at some samples, but not when there are examples."""

    def task(body: dict[str, Any]) -> Says:
        if "lovely" in text_of(body) and not shown_labels(body):
            return error(400, "filtered", "content_filter")
        return by_keyword(body)

    project.model.task = task
    project.prompt()
    before = project.text()
    unharmed(project, project.tune(), before)


def test_after_an_error_the_run_can_be_started_again(project: TuningProject) -> None:
    refused = iter([False] * 60 + [True] * 40)
    project.model.task = lambda body: error(401, "no") if next(refused) else by_examples(body)
    project.prompt()
    assert project.tune("-k", "tune").ret == 1
    project.model.task = by_examples
    assert project.tuned()["accepted"]
    assert not set(project.model.asked[:60]) & set(project.model.asked[60:])


# Samples that say little.


def test_twelve_samples(project: TuningProject) -> None:
    project.prompt(rows(12))
    before = project.text()
    result = project.tune()
    (entry,) = project.entries()
    assert entry["accepted"] == (project.text() != before)
    result.stdout.fnmatch_lines(["*12 labeled samples (*): with fewer than 60 no claim can be made*"])


@pytest.mark.parametrize("labels", [["good"], ["good", "bad"]])
def test_one_label_only(project: TuningProject, labels: list[str]) -> None:
    good = tuple(row for row in rows(40) if row[2] == "good")
    project.prompt(good, labels=labels)
    before = project.text()
    entry = project.tuned()
    assert entry["accepted"] == (project.text() != before)
    assert entry["stop_reason"] == "all stages ran"


def test_a_label_with_one_sample(project: TuningProject) -> None:
    good = tuple(row for row in rows(60) if row[2] == "good")
    project.prompt((*good, ("only", "a dreadful day", "bad")))
    assert project.tuned()["accepted"]
    examples = project.yaml()["prompt"]["examples"]
    assert [example["text"] for example in examples if example["label"] == "bad"] == ["a dreadful day"]


def test_canonical_samples_alone(project: TuningProject) -> None:
    project.model.task = by_rule
    project.model.optimizer = lambda _: patches(patch())
    canonical = [{"text": "a lovely day", "label": "good"}, {"text": "a dreadful day", "label": "bad"}]
    project.prompt((), canonical=canonical, tune={"model": project.optimizer_model(), "iterations": 1})
    entry = project.tuned()
    assert entry["accepted"]
    assert entry["canonical"] == {"total": 2, "before": 1, "after": 2}
    assert entry["reason"].startswith("fixes 1 canonical samples")


def test_a_canonical_sample_against_a_labeled_one_is_told_in_one_line(project: TuningProject) -> None:
    project.prompt((*rows(12), ("odd", "a trap", "good")), canonical=[{"text": "a  trap", "label": "bad"}])
    result = project.pytest("--tune")
    (line,) = [line for line in result.outlines if "a trap" in line]
    assert line.startswith("mood.csv:14: label: 'good', but the same text has the label 'bad' at mood.prompt.yaml:")
    assert project.model.asked == []


def test_replies_that_nobody_can_read(project: TuningProject) -> None:
    project.model.task = lambda _: "Well, it depends."
    project.prompt()
    before = project.text()
    entry = unharmed(project, project.tune(), before)
    assert entry["suspects"] == []


def test_a_format_that_can_be_read_is_found(project: TuningProject) -> None:
    def task(body: dict[str, Any]) -> str:
        return by_keyword(body) if "exactly one of" in text_of(body) else "Well, it depends."

    project.model.task = task
    project.prompt()
    entry = project.tuned()
    assert entry["accepted"]
    assert ("format", True) in {(step["stage"], step["accepted"]) for step in entry["steps"]}
    assert project.yaml()["prompt"]["user_prompt_suffix"].endswith(
        "\nAnswer with exactly one of <label>good</label> or <label>bad</label>, and nothing else."
    )
    assert project.replay().ret == 0


def test_a_perfect_prompt_costs_no_more_than_to_see_that(project: TuningProject) -> None:
    project.model.task = by_keyword
    project.prompt(tune={"model": project.optimizer_model()})
    before = project.text()
    entry = unharmed(project, project.tune(), before)
    assert entry["stop_reason"].startswith("0 of 16 dev samples are wrong: too few")
    assert len(project.model.asked) < len(rows())
    assert project.model.optimizer_bodies == []


# Canonical samples.


def test_no_better_prompt_may_lose_a_canonical_sample(project: TuningProject) -> None:
    project.prompt(canonical=CONTRADICTS)
    before = project.text()
    entry = unharmed(project, project.tune(), before)
    assert {step["verdict"] for step in entry["steps"]} == {"loses a canonical sample"}
    assert entry["canonical"] == {"total": 1, "before": 1, "after": 1}


def test_a_prompt_that_fixes_a_canonical_sample_is_accepted(project: TuningProject) -> None:
    """Dev is all right but for two samples: only the canonical one can decide."""

    def task(body: dict[str, Any]) -> str:
        return tagged("good") if "trap" in text_of(body) and RULE not in system_of(body) else by_keyword(body)

    project.model.task = task
    project.model.optimizer = lambda _: patches(patch(targets=["t"]))
    canonical = [{"id": "t", "text": "a dreadful trap", "label": "bad"}]
    project.prompt(canonical=canonical, tune={"model": project.optimizer_model(), "edit": ["system_prompt"]})
    entry = project.tuned()
    assert entry["accepted"]
    assert entry["canonical"] == {"total": 1, "before": 0, "after": 1}
    assert entry["reason"].startswith(
        "fixes 1 canonical samples, not worse on dev and on fresh samples (dev: fixed 0, broke 0, "
    )
    assert RULE in project.text()
    assert project.replay().ret == 0


# The prompt file.


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_file_that_changed_meanwhile_is_left_alone(project: TuningProject, when: str) -> None:
    path = project.prompt()
    project.record("--promptfit-update")
    theirs = project.text() + "# mine\n"
    baseline, recorded = (project.path / "mood.baseline.json").read_bytes(), set(replies(project))

    def task(body: dict[str, Any]) -> str:
        if when == "early" or len(project.model.asked) > 100:
            path.write_bytes(theirs.encode())
        return by_examples(body)

    project.model.task = task
    result = project.tune("-k", "tune")
    result.assert_outcomes(failed=1, deselected=31)
    line = "mood.prompt.yaml: changed since it was read, so it is left as it is: run again"
    result.stdout.fnmatch_lines([line])
    assert [entry["reason"] for entry in project.entries()] == [line]
    assert project.text() == theirs
    assert (project.path / "mood.baseline.json").read_bytes() == baseline
    assert recorded <= set(replies(project))


def replies(project: TuningProject) -> list[str]:
    return (project.path / "cassettes/mood/replies.yaml").read_text(encoding="utf-8").split("\n")


def test_a_mistake_in_the_settings_is_told_in_one_line(project: TuningProject) -> None:
    project.prompt(tune={"model": {"provider": "openai"}})
    result = project.pytest("--tune")
    result.stdout.fnmatch_lines(["mood.prompt.yaml:*: tune.model.name: *"])
    assert project.model.asked == []
