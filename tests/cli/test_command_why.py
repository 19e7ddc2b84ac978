"""``promptfit why``: which samples need each sentence and example of a prompt, and which text is dead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from command_line import promptfit
from loopback_server import Answer, chat, json_answer
from tuning_models import (
    RULE,
    TuningProject,
    by_keyword,
    by_rule,
    messages_of,
    rows,
    system_of,
    tagged,
    text_of,
    tuning_project,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUESTION, DEAD, WRONG = "Is the mood good or bad?", "Take your time.", "Walks are bad."

PROMPT = {
    "system_prompt": f"{QUESTION} {DEAD} {RULE} {WRONG}",
    "user_prompt_prefix": "<text>",
    "user_prompt_suffix": "</text>",
}


def says(body: dict[str, Any]) -> Answer:
    """Answer by the rule, where it is told; with the wrong sentence a walk is bad. A word is a token."""
    misled = WRONG in system_of(body) and "walk" in text_of(body)
    reply = json.loads(chat(tagged("bad") if misled else by_rule(body)).body)
    reply["usage"]["prompt_tokens"] = sum(len(said.split()) for _, said in messages_of(body))
    return json_answer(reply)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[TuningProject]:
    with tuning_project(pytester, monkeypatch) as project:
        project.model.task = says
        yield project


def pieces(project: TuningProject, *arguments: object) -> dict[str, dict[str, Any]]:
    """Return what the JSON says of each piece, by its text."""
    ran = promptfit("why", "mood.prompt.yaml", "--json", *arguments, cwd=project.path)
    assert ran.code == 0, ran.err
    return {piece["text"]: piece for piece in json.loads(ran.out)["pieces"]}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_not_known_and_what_asking_takes(project: TuningProject) -> None:
    project.prompt(prompt=PROMPT)
    before = files(project.path)
    assert promptfit("why", "mood.prompt.yaml", cwd=project.path).out.splitlines() == [
        "mood.prompt.yaml: openai/m",
        "6 pieces, 30 samples; with all pieces 0 of 0 are right (the rest is not known)",
        "",
        "                                           tokens  seen carries harms      p",
        "system_prompt",
        "  1 Is the mood good or bad?                    6     0",
        "  2 Take your time.                             4     0",
        "  3 What is lovely is good.                     6     0",
        "  4 Walks are bad.                              4     0",
        "user_prompt_prefix",
        "  5 <text>                                      1  stays",
        "user_prompt_suffix",
        "  6 </text>                                     2  stays",
        "",
        "5 stays: '<text>' must stay right before what follows",
        "6 stays: '</text>' must stay right after the sample",
        "not known: 150 replies; asking takes about 4,028 tokens in, 7,500 out: its price",
        "  is not known",
        "ask for them: promptfit why mood.prompt.yaml --record",
    ]
    assert files(project.path) == before
    assert not project.model.asked


def test_which_samples_need_which_sentence(project: TuningProject) -> None:
    project.prompt(prompt=PROMPT)
    project.record()
    harness = files(project.path / "cassettes/mood")
    ran = promptfit("why", "mood.prompt.yaml", "--record", cwd=project.path)
    assert ran.code == 0, ran.err
    asked = len(project.model.asked)
    assert asked == 30 + 4 * 30
    lines = ran.out.splitlines()
    # 15 of 30 are lovely, 2 of those are walks, which the last sentence makes wrong; it makes none right.
    assert lines[1] == "6 pieces, 30 samples; with all pieces 28 of 30 are right"
    assert lines[5:9] == [
        "  1 Is the mood good or bad?                    6    30       0     0  1.000",
        "  2 Take your time.                             3    30       0     0  1.000",
        "  3 What is lovely is good.                     5    30      13     0 <0.001",
        "  4 Walks are bad.                              3    30       0     2  0.250",
    ]
    assert lines[14:] == [
        "no sample needs: 1, 2, 4 (together 12 of 24 tokens a call; two that say the same",
        "  are each needless alone: take one out, then ask again)",
        "help beyond chance: 3",
        "5 stays: '<text>' must stay right before what follows",
        "6 stays: '</text>' must stay right after the sample",
        "3 carries sample-s0, sample-s4, sample-s6, sample-s8, sample-s10, sample-s12 and",
        "  7 more",
        "4 harms sample-s2, sample-s18",
        "asked: 120 replies, kept beside the recordings",
    ]
    assert {**files(project.path / "cassettes/mood"), **harness} == files(project.path / "cassettes/mood")
    project.model.go_down()
    assert promptfit("why", "mood.prompt.yaml", cwd=project.path).out.splitlines() == lines[:-1]


def test_a_limit_that_ends_it_half_way(project: TuningProject) -> None:
    project.prompt(prompt=PROMPT)
    project.record()
    ran = promptfit("why", "mood.prompt.yaml", "--record", "--max-calls", 50, cwd=project.path)
    assert ran.code == 0, ran.err
    assert "asked: 50 replies, kept beside the recordings" in ran.out
    assert ran.out.splitlines()[-2:] == [
        "limit of 50 calls reached after 50 calls: the rest was not asked; run again with",
        "  a larger --max-calls",
    ]
    seen = {text: piece["seen"] for text, piece in pieces(project).items() if not piece["stays"]}
    # Ten samples for each piece; then those that nobody has needed so far come first, the longest of them before all.
    assert seen == {QUESTION: 20, DEAD: 10, RULE: 10, WRONG: 10}
    assert "no sample needs" not in ran.out
    assert promptfit("why", "mood.prompt.yaml", "--record", cwd=project.path).code == 0
    assert len(project.model.asked) == len(set(project.model.asked)) == 30 + 4 * 30


def test_what_tuning_has_asked_is_known(project: TuningProject) -> None:
    tune = {"model": project.optimizer_model(), "arms": ["patches"], "edit": ["system_prompt"]}
    project.prompt(prompt=PROMPT | {"system_prompt": QUESTION}, tune=tune)
    project.model.task = by_rule
    project.tune()
    assert project.yaml()["prompt"]["system_prompt"] == f"{QUESTION} {RULE}"
    asked = len(project.model.asked)
    found = pieces(project)
    assert len(project.model.asked) == asked
    assert found[RULE]["seen"] > 20
    assert found[RULE]["verdict"] == "helps"


def test_an_example_is_a_piece(project: TuningProject) -> None:
    examples = [{"text": "a lovely cat", "label": "good"}, {"text": "a dreadful cat", "label": "bad"}]
    project.prompt(prompt=PROMPT | {"system_prompt": QUESTION, "examples": examples})
    project.model.task = lambda body: by_rule(body) if "lovely cat" not in str(body) else by_keyword(body)
    assert promptfit("why", "mood.prompt.yaml", "--record", cwd=project.path).code == 0
    found = pieces(project)
    assert [text for text, piece in found.items() if piece["verdict"] == "helps"] == ["a lovely cat"]
    assert len(found["a lovely cat"]["carries"]) == 15
    assert found["a dreadful cat"]["verdict"] == "dead"
    # The harness finds what was asked about the prompt as it is.
    assert project.replay().ret == 0


def test_a_file_in_the_form_of_github(project: TuningProject) -> None:
    messages = [{"role": "system", "content": f"{QUESTION} {DEAD}"}, {"role": "user", "content": "{{input}}"}]
    data = [{"input": text, "expected": label} for _, text, label, _ in rows(6)]
    project.prompt()
    value = {"model": project.yaml()["model"], "messages": messages, "testData": data}
    (project.path / "mood.prompt.yml").write_text(json.dumps(value), encoding="utf-8")
    ran = promptfit("why", "mood.prompt.yml", "--record", cwd=project.path)
    assert ran.code == 0, ran.err
    assert "  2 Take your time.                             3     6       0     0  1.000" in ran.out
    assert "no sample needs: 2 (together 3 of " in ran.out


def test_a_prompt_without_pieces(project: TuningProject) -> None:
    project.prompt(prompt={})
    ran = promptfit("why", "mood.prompt.yaml", "--record", cwd=project.path)
    assert ran.out.splitlines()[-1] == "the prompt has no sentence and no example that could be left out"
    assert not project.model.asked


def test_of_many_samples_a_balanced_draw(project: TuningProject) -> None:
    few_good = tuple((f"s{n}", f"text {n}", "good" if n % 50 == 0 else "bad") for n in range(10_000))
    project.prompt(few_good, prompt=PROMPT, canonical=[{"text": "a lovely cat", "label": "good"}])
    ran = promptfit("why", "mood.prompt.yaml", "--record", "--max-calls", 201, cwd=project.path)
    assert ran.out.splitlines()[1:3] == [
        "6 pieces, 201 samples; with all pieces 101 of 201 are right",
        "a balanced draw: 9,800 labeled samples are not looked at (--samples N takes",
    ]
    more = json.loads(promptfit("why", "mood.prompt.yaml", "--json", "--samples", 300, cwd=project.path).out)
    assert more["samples"] == {"total": 10_001, "chosen": 301, "known": 201, "right": 101}


def test_a_call_that_fails_is_told_and_the_rest_is_kept(project: TuningProject) -> None:
    project.prompt(prompt=PROMPT)
    project.model.task = lambda body: Answer(400, b"{}") if text_of(body).count("1901") else says(body)
    ran = promptfit("why", "mood.prompt.yaml", "--record", cwd=project.path)
    assert ran.code == 1
    assert "with all pieces 27 of 29 are right (the rest is not known)" in ran.out
    assert ran.err.startswith("promptfit why: 5 calls failed, the last one: ")
    assert "no sample needs" not in ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.prompt.yaml",), "none.prompt.yaml:1: cannot be read: No such file or directory"),
        (("mood.csv",), "mood.csv:1: expected a mapping with `model` and `prompt`, found a str"),
        (("mood.prompt.yaml", "--max-calls", 3), "--max-calls needs --record"),
        (("mood.prompt.yaml", "--budget", 3), "--budget needs --record"),
    ],
)
def test_a_mistake_is_one_line(project: TuningProject, arguments: tuple[object, ...], said: str) -> None:
    project.prompt()
    assert promptfit("why", *arguments, cwd=project.path).mistake == f"promptfit why: {said}"


@pytest.mark.parametrize(("option", "value"), [("--max-calls", "0"), ("--samples", "some"), ("--budget", "-1")])
def test_a_number_that_is_none(project: TuningProject, option: str, value: str) -> None:
    project.prompt()
    ran = promptfit("why", "mood.prompt.yaml", "--record", f"{option}={value}", cwd=project.path)
    assert ran.code == 2
    assert f"argument {option}: {value!r}: expected" in ran.err.replace('"', "'")


def test_ci_asks_only_when_it_is_told_to(project: TuningProject) -> None:
    project.prompt(rows(4), prompt=PROMPT)
    ask = ("why", "mood.prompt.yaml", "--record")
    said = promptfit(*ask, cwd=project.path, CI="true").mistake
    assert said == "promptfit why: --record is refused while CI is set: add --allow-ci if that is meant"
    assert promptfit(*ask, "--allow-ci", cwd=project.path, CI="true").code == 0


def test_a_model_that_cannot_be_asked(project: TuningProject) -> None:
    project.prompt(model="openai/gpt-6-luna", prompt=PROMPT)
    assert "OPENAI_API_KEY" in promptfit("why", "mood.prompt.yaml", "--record", cwd=project.path).mistake


def test_label_notes_are_pieces_too(project: TuningProject) -> None:
    notes = {"good": RULE, "bad": "rain"}
    project.prompt(prompt={**PROMPT, "system_prompt": "Is it {labels}?", "label_notes": notes})
    found = pieces(project, "--record")
    assert len(found[f"good: {RULE}"]["carries"]) == 15
    assert found["bad: rain"]["verdict"] == "dead"
    assert found["bad: rain"]["field"] == "label_notes"
