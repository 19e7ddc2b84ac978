"""Tuning for a decision model: its instruction, label notes and words are searched, and nothing that a reply wants."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from command_line import promptfit
from decision_server import by_keyword, choice, question_of, system_one
from loopback_server import Answer, Seen, chat
from tuning_models import OPTIMIZER, RULE, TuningProject, patch, patches, text_of

if TYPE_CHECKING:
    from pathlib import Path

INSTRUCTION = "Is the mood good or bad?"
NOTED = patches(patch(field="label_notes", op="replace", find="good", text=RULE))


def deciding_by_rule(project: TuningProject, says: Any = lambda _: NOTED) -> None:
    """Let the task model know good from bad once a note or the instruction says the rule."""

    def answer(seen: Seen) -> Answer:
        if seen.body["model"] == OPTIMIZER:
            return chat(says(seen.body))
        word = by_keyword(seen.body) if RULE in json.dumps(question_of(seen.body)) else "bad"
        form = system_one if "state" in seen.body else choice
        return form(word, {word: 0.8, {"good": "bad", "bad": "good"}[word]: 0.2})

    project.model.server._answer = answer


def write(project: TuningProject, api: str = "openai-decisions", **fields: Any) -> Path:
    model = {"provider": api, "name": "m", "base_url": project.model.url}
    tune = {"model": project.optimizer_model(), "iterations": 1, **fields.pop("tune", {})}
    return project.prompt(**{"model": model, "prompt": {"system_prompt": INSTRUCTION}, "tune": tune, **fields})


def test_a_note_is_found_and_written_though_no_text_lists_the_labels(project: TuningProject) -> None:
    deciding_by_rule(project)
    write(project, "systemone", tune={"arms": ["notes", "patches"]})
    entry = project.tuned()
    assert entry["accepted"], entry["reason"]
    assert project.yaml()["prompt"] == {"system_prompt": INSTRUCTION, "label_notes": {"good": RULE}}
    assert project.replay().ret == 0
    (asked, *_) = project.model.patch_bodies
    said = text_of(asked)
    assert "The model chooses one of the label words and writes nothing. The instruction is system_prompt." in said
    assert "- field: system_prompt or label_notes\n" in said
    assert "It chose: " in said
    assert "extract" not in said
    assert "<label>" not in said


def test_only_what_is_sent_is_tried(project: TuningProject) -> None:
    """No format, no examples, no reply prefix; label orders need no optimizer."""
    deciding_by_rule(project)
    path = write(project, tune={"model": None}, labels=["good", "bad"])
    project.tuned()
    bodies = project.model.task_bodies
    assert {question_of(body)["instructions"] for body in bodies} == {INSTRUCTION}
    assert {tuple(one["value"] for one in question_of(body)["choices"]) for body in bodies} == {
        ("good", "bad"),
        ("bad", "good"),
    }
    assert all(set(body) == {"model", "input", "questions"} for body in bodies)
    assert project.yaml()["prompt"] == {"system_prompt": INSTRUCTION}
    assert path.is_file()


def test_drafts_write_an_instruction_and_notes(project: TuningProject) -> None:
    asked: list[str] = []

    def says(body: dict[str, Any]) -> str:
        asked.append(text_of(body))
        return json.dumps({"system_prompt": "Which mood is it?", "label_notes": {"good": RULE, "bad": ""}})

    deciding_by_rule(project, says)
    write(project, tune={"iterations": 0})
    entry = project.tuned()
    assert entry["accepted"], entry["reason"]
    assert project.yaml()["prompt"]["label_notes"] == {"good": RULE}
    assert "ask for no form of answer" in asked[0]
    assert "user_prompt_prefix" not in asked[0].split("# Your answer")[1]


def test_the_plan_says_what_may_change(project: TuningProject) -> None:
    deciding_by_rule(project)
    write(project)
    result = project.pytest("--tune", "--tune-dry-run")
    result.stdout.fnmatch_lines(
        [
            "*may change: system_prompt, label_words, label_notes, label_order",
            "*a race of * (label_words, label_notes, label_order)*",
        ]
    )
    assert not any("reasons:" in line or "format" in line for line in result.outlines if "stages" in line)


def test_why_keeps_the_instruction(project: TuningProject) -> None:
    deciding_by_rule(project)
    path = write(project, prompt={"system_prompt": INSTRUCTION, "label_notes": {"good": RULE}})
    ran = promptfit("why", path, "--record", cwd=project.path)
    assert ran.code == 0, ran.err
    assert "a decision model wants an instruction" in ran.out
    assert all(question_of(body)["instructions"] for body in project.model.task_bodies)
