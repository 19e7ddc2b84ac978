"""``promptfit show``: exactly what is sent for a sample, its tokens, and the price of a full run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from command_line import promptfit, promptfit_process

if TYPE_CHECKING:
    from pathlib import Path

    from mood_project import Project

GITHUB = """\
name: Mood
model: openai/gpt-4.1-nano
modelParameters: {temperature: 0}
messages:
  - {role: system, content: "Is the mood good or bad?"}
  - {role: user, content: "<text>{{input}}</text>"}
testData:
  - {input: a lovely day, expected: good}
  - {input: a dreadful day, expected: bad, id: d2}
"""


def test_messages_role_by_role_then_tokens_and_price(project: Project) -> None:
    project.write(model="openai/gpt-4.1-nano", params={"max_tokens": 9})
    assert promptfit("show", "mood.prompt.yaml", cwd=project.path).out.splitlines() == [
        "mood.prompt.yaml::sample-s1 (mood.csv:2)",
        "label good; openai/gpt-4.1-nano at https://api.openai.com/v1/chat/completions",
        "",
        "[system]",
        "  Is the mood good or bad?",
        "",
        "[user]",
        "  <text>a lovely day</text>",
        "",
        '[parameters] {"max_tokens": 9}',
        "",
        "tokens:   about 12 in, 9 out (an estimate, 4 bytes a token: no reply to it is recorded)",
        "full run: 4 calls, about 50 tokens in, 36 out (an estimate): less than $0.0001; 0 of them are recorded",
    ]


def test_tokens_are_those_of_the_recorded_reply(project: Project) -> None:
    project.write()
    project.record("-k", "s1 or s2")
    lines = promptfit("show", "mood.prompt.yaml", cwd=project.path).out.splitlines()
    at = lines.index("[recorded reply] read as good")
    assert lines[at + 1] == "  Label: <label>good</label>"
    assert lines[-2:] == [
        "tokens:   100 in, 10 out (as the recorded reply counts them)",
        "full run: 4 calls, about 408 tokens in, 40 out (from 2 recorded replies): its price is not known; "
        "2 of them are recorded",
    ]
    others = promptfit("show", "mood.prompt.yaml", "--sample", "s3", cwd=project.path).out
    assert "[recorded reply]" not in others
    assert "an estimate, 4 bytes a token" in others


def test_local_model_costs_nothing_and_shows_the_reply_prefix(project: Project) -> None:
    project.write(model="local/smollm2-135m", prompt={"bot_reply_prefix": "Label: <label>"})
    out = promptfit("show", "mood.prompt.yaml", cwd=project.path).out
    assert "[assistant] the reply goes on from here\n  Label: <label>\n" in out
    assert out.splitlines()[-1].endswith("(an estimate): local, free; 0 of them are recorded")


@pytest.mark.parametrize("name", ["openai/gpt-4.1-nano", "anthropic/claude-haiku-4-5"])
def test_json_is_the_body_that_is_sent(project: Project, name: str) -> None:
    project.write(model=name, prompt={"system_prompt": "Classify: {labels}.", "user_prompt_suffix": "\x1b[2J?"})
    ran = promptfit("show", "mood.prompt.yaml", "--sample", "s3", "--json", cwd=project.path)
    assert ran.code == 0
    assert ran.out.isascii()
    assert "\x1b" not in ran.out
    body: dict[str, Any] = json.loads(ran.out)
    assert body["model"] == name.partition("/")[2]
    assert body["messages"][-1]["role"] == "user"
    assert "a dreadful day\x1b[2J?" in json.loads(ran.out)["messages"][-1]["content"]
    assert "Classify: good, bad." in str(body)


def test_json_is_what_reaches_the_server(project: Project) -> None:
    project.write(prompt={"system_prompt": "good or bad?", "examples": [{"text": "a lovely cat", "label": "good"}]})
    project.record("-k", "s3")
    shown = promptfit("show", "mood.prompt.yaml", "--sample", "s3", "--json", cwd=project.path).out
    assert json.loads(shown) == json.loads(project.model.asked[0])


def test_few_shot_turns_are_shown_in_order(project: Project) -> None:
    project.write(prompt={"system_prompt": "Which?", "examples": [{"text": "a lovely cat", "label": "good"}]})
    out = promptfit("show", "mood.prompt.yaml", cwd=project.path).out
    roles = [line for line in out.splitlines() if line.startswith("[") and line != "[parameters]"]
    assert roles == ["[system]", "[user]", "[assistant]", "[user]"]


def test_file_in_the_form_of_github(tmp_path: Path) -> None:
    (tmp_path / "mood.prompt.yml").write_text(GITHUB, encoding="utf-8")
    out = promptfit("show", "mood.prompt.yml", "--sample", "d2", cwd=tmp_path).out
    assert "[user]\n  <text>a dreadful day</text>\n" in out
    assert "mood.prompt.yml::sample-d2 (mood.prompt.yml:9)" in out


@pytest.mark.parametrize("named", ["s3", "sample-s3"])
def test_sample_by_id_or_by_case(project: Project, named: str) -> None:
    project.write()
    assert "a dreadful day" in promptfit("show", "mood.prompt.yaml", "--sample", named, cwd=project.path).out
    assert "a dreadful day" in promptfit("show", f"mood.prompt.yaml::{named}", cwd=project.path).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mood.prompt.yaml", "--sample", "s33"), "mood.prompt.yaml: no sample s33; did you mean `s3`?"),
        (("none.prompt.yaml",), "none.prompt.yaml:1: cannot be read: No such file or directory"),
        (("mood.csv",), "mood.csv:1: expected a mapping with `model` and `prompt`, found a str"),
    ],
)
def test_mistake_is_one_line(project: Project, arguments: tuple[str, ...], said: str) -> None:
    project.write()
    assert promptfit("show", *arguments, cwd=project.path).mistake == f"promptfit show: {said}"


def test_mistake_in_the_prompt_file_is_said_with_its_line(project: Project) -> None:
    path = project.write()
    path.write_text(path.read_text() + "gate: {}\n")
    said = promptfit("show", "mood.prompt.yaml", cwd=project.path).mistake
    assert "gate: unknown key; did you mean `gates`?" in said


def test_no_text_of_a_sample_takes_over_the_screen(tmp_path: Path) -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202e\u2028"
    value = {
        "model": f"openai/m{hostile}",
        "prompt": {"system_prompt": hostile, "user_prompt_prefix": f"one\ntwo{hostile}"},
        "params": {hostile: hostile},
        "samples": [{"id": f"i{hostile}", "text": f"text{hostile}", "label": f"a{hostile}"}],
    }
    (tmp_path / "p.prompt.yaml").write_text(json.dumps(value), encoding="utf-8")
    ran = promptfit("show", "p.prompt.yaml", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert not {char for char in ran.out if not char.isprintable()} - {"\n"}
    assert "  one\n  two\\x1b" in ran.out


def test_terminal_that_cannot_show_a_character(tmp_path: Path) -> None:
    prompt = {"model": "openai/m", "prompt": {}, "samples": [{"text": "日本", "label": "a"}]}
    (tmp_path / "p.prompt.yaml").write_text(yaml.safe_dump(prompt, allow_unicode=True), encoding="utf-8")
    ran = promptfit_process("show", "p.prompt.yaml", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert ran.code == 0, ran.err
    assert "\\u65e5\\u672c" in ran.out


def test_recordings_in_another_folder(project: Project) -> None:
    project.write()
    project.record("-o", "promptfit_cassettes=tapes")
    assert "[recorded reply]" not in promptfit("show", "mood.prompt.yaml", cwd=project.path).out
    shown = promptfit("show", "mood.prompt.yaml", "--cassettes", "tapes", cwd=project.path)
    assert "[recorded reply] read as good" in shown.out


@pytest.mark.parametrize("arguments", [("--help",), ("init", "--help"), ("show", "--help"), ("schema", "--help")])
def test_help(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ran = promptfit(*arguments, cwd=tmp_path)
    assert ran.code == 0
    assert ran.out.startswith("usage: promptfit ")
    assert ran.err == ""
