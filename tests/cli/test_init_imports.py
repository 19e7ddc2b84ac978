"""``promptfit init`` with files of other tools: what they call a test or a chat becomes a sample, or a sentence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from command_line import promptfit

from pytest_promptfit import load_prompt
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples

if TYPE_CHECKING:
    from pathlib import Path

TICKETS = [
    (f"My {thing} {what}.", label)
    for thing in ("phone", "desk", "invoice", "order", "parcel", "chair")
    for what, label in (("is broken", "repair"), ("costs too much", "billing"))
]
PROMPT = "Which queue is it for, repair or billing?\n\nTicket: {{ticket}}\nQueue:"


def promptfoo(folder: Path, **fields: Any) -> None:
    value = {"prompts": [PROMPT], "providers": ["openai:chat:gpt-6-luna"], **fields}
    (folder / "promptfooconfig.yaml").write_text(yaml.safe_dump(value), encoding="utf-8")


def compared(assertion: Any = None) -> list[dict[str, Any]]:
    return [
        {"vars": {"ticket": text}, "assert": [assertion or {"type": "equals", "value": label}]}
        for text, label in TICKETS
    ]


def imported(folder: Path, name: str = "promptfooconfig.yaml", *arguments: str) -> tuple[Path, list[tuple[str, str]]]:
    """Import a file, and return the new prompt file and its samples."""
    ran = promptfit("init", name, "--output", "p.prompt.yaml", *arguments, cwd=folder)
    assert ran.code == 0, ran.err
    path = folder / "p.prompt.yaml"
    return path, [(sample.text, sample.label) for sample in read_samples(parse_prompt_file(path)).samples]


def refused(folder: Path, name: str = "promptfooconfig.yaml") -> str:
    ran = promptfit("init", name, "--model", "openai/m", "--output", "p.prompt.yaml", cwd=folder)
    assert not (folder / "p.prompt.yaml").exists()
    assert "\n" not in ran.mistake
    return ran.mistake.removeprefix("promptfit init: ")


class TestPromptfoo:
    def test_its_prompt_its_tests_and_its_model(self, tmp_path: Path) -> None:
        promptfoo(tmp_path, tests=compared())
        path, samples = imported(tmp_path)
        assert samples == TICKETS
        assert str(parse_prompt_file(path).config.model) == "openai/gpt-6-luna"
        (turn,) = load_prompt(path).messages(TICKETS[0][0])
        assert turn["content"] == PROMPT.replace("{{ticket}}", TICKETS[0][0])

    @pytest.mark.parametrize("tests", ["file://tests.csv", "tests.csv", ["file://tests.csv"]])
    @pytest.mark.parametrize("kind", ["equals: ", "equals:", ""])
    def test_a_table_of_tests(self, tmp_path: Path, tests: Any, kind: str) -> None:
        rows = "".join(f"{text},{kind}{label}\n" for text, label in TICKETS)
        (tmp_path / "tests.csv").write_text(f"ticket,__expected\n{rows}")
        promptfoo(tmp_path, tests=tests)
        assert imported(tmp_path)[1] == TICKETS

    def test_the_table_alone_without_its_prompt(self, tmp_path: Path) -> None:
        rows = "".join(f"{text},equals: {label},contains: x\n" for text, label in TICKETS)
        (tmp_path / "tests.csv").write_text(f"ticket,__expected1,__expected2\n{rows}")
        assert imported(tmp_path, "tests.csv", "--model", "openai/m")[1] == TICKETS

    def test_variables_and_assertions_that_all_tests_share(self, tmp_path: Path) -> None:
        chat = [{"role": "system", "content": "You are {{who}}."}, {"role": "user", "content": "{{shop}}: {{ticket}}?"}]
        (tmp_path / "chat.json").write_text(json.dumps(chat))
        tests = [{"vars": {"ticket": text, "queue": label}} for text, label in TICKETS]
        default = {"vars": {"who": "a clerk", "shop": "Ours"}, "assert": [{"type": "equals", "value": "{{queue}}"}]}
        promptfoo(tmp_path, prompts=["file://chat.json"], tests=tests, defaultTest=default)
        path, samples = imported(tmp_path)
        assert samples == [(f"Ours: {text}", label) for text, label in TICKETS]
        assert load_prompt(path).messages("Ours: a")[0] == {"role": "system", "content": "You are a clerk."}
        assert load_prompt(path).messages("Ours: a")[1] == {"role": "user", "content": "Ours: a?"}

    def test_what_compares_otherwise_is_left_out_and_said(self, tmp_path: Path) -> None:
        tests = [*compared(), {"vars": {"ticket": "Hm."}, "assert": [{"type": "llm-rubric", "value": "is kind"}]}]
        promptfoo(tmp_path, tests=tests, prompts=[PROMPT, "Other: {{ticket}}"])
        ran = promptfit("init", "promptfooconfig.yaml", cwd=tmp_path)
        assert "  note: read as promptfoo's configuration\n" in ran.out
        assert "  note: 1 of 13 tests compare otherwise than with `equals`, and are left out\n" in ran.out
        assert "  note: the first of 2 prompts is imported\n" in ran.out

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"tests": compared({"type": "contains", "value": "x"})}, ": no test compares with `equals`: *"),
            ({"tests": compared(), "prompts": ["file://make.py"]}, ":1: prompts: 'file://make.py': *no program is run"),
            ({"tests": "https://example.org/t.csv"}, ":*: prompts: *: expected a file of text: no program is run"),
            (
                {"tests": compared(), "prompts": ["Say {{ ticket | upper }} {{ticket}}"]},
                ":*: expected variables alone*",
            ),
            ({"tests": compared(), "prompts": ["Say it"]}, ":*: prompts: expected the text as a variable *"),
            ({"tests": [*compared(), {"vars": {}, "assert": ["equals: a"]}]}, ":*: vars: ticket: None: expected text"),
        ],
    )
    def test_what_cannot_be_said_here_is_refused(self, tmp_path: Path, fields: dict[str, Any], said: str) -> None:
        promptfoo(tmp_path, **fields)
        pytest.LineMatcher([refused(tmp_path)]).fnmatch_lines([f"promptfooconfig.yaml{said}"])


def jsonl(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


SYSTEM = {"role": "system", "content": "Say repair or billing."}


class TestOpenAI:
    @pytest.mark.parametrize("listed", [True, False])
    def test_evals(self, tmp_path: Path, listed: bool) -> None:
        rows = [
            {"input": [SYSTEM, {"role": "user", "content": text}], "ideal": [label] if listed else label}
            for text, label in TICKETS
        ]
        jsonl(tmp_path, rows)
        path, samples = imported(tmp_path, "data.jsonl", "--model", "openai/m")
        assert samples == TICKETS
        assert load_prompt(path).messages("a") == [SYSTEM, {"role": "user", "content": "a"}]

    def test_evals_whose_input_is_a_text(self, tmp_path: Path) -> None:
        jsonl(tmp_path, [{"input": text, "ideal": label} for text, label in TICKETS])
        assert imported(tmp_path, "data.jsonl", "--model", "openai/m")[1] == TICKETS

    def test_fine_tuning(self, tmp_path: Path) -> None:
        rows = [
            {"messages": [SYSTEM, {"role": "user", "content": text}, {"role": "assistant", "content": label}]}
            for text, label in TICKETS
        ]
        jsonl(tmp_path, rows)
        path, samples = imported(tmp_path, "data.jsonl", "--model", "openai/m")
        assert samples == TICKETS
        assert parse_prompt_file(path).config.prompt.system_prompt == SYSTEM["content"]

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ({"input": "a", "ideal": ["x", "y"]}, "13: ideal: *: expected one answer, the label"),
            (
                {"input": [SYSTEM, SYSTEM], "ideal": "x"},
                "13: a chat of several turns: expected one message of the user*",
            ),
            (
                {"input": [{"role": "system", "content": "Be rude."}, {"role": "user", "content": "a"}], "ideal": "x"},
                "13: another system message than in line 1: expected one for all",
            ),
            ({"input": [3], "ideal": "x"}, "13: 3: expected a message with role and content"),
        ],
    )
    def test_what_is_no_sample_is_named(self, tmp_path: Path, row: dict[str, Any], said: str) -> None:
        rows = [{"input": [SYSTEM, {"role": "user", "content": text}], "ideal": label} for text, label in TICKETS]
        jsonl(tmp_path, [*rows, row])
        pytest.LineMatcher([refused(tmp_path, "data.jsonl")]).fnmatch_lines([f"data.jsonl:{said}"])
