"""The README's examples do what it says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from pytest_promptfit.prompt_file import PromptConfig, parse_prompt_file
from pytest_promptfit.samples import read_samples

if TYPE_CHECKING:
    import pytest
    from conftest import Project

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


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
    table = README[README.index("## Options") :]
    said = pytester.runpytest_inprocess("-p", "promptfit", "--help").stdout.str()
    for option in re.findall(r"--promptfit[\w-]*", said):
        assert option in table, option


def test_the_workflow_is_yaml_and_runs_the_plugin() -> None:
    (workflow,) = (block for block in blocks("yaml") if block.startswith("# .github/"))
    steps = yaml.safe_load(workflow)["jobs"]["prompts"]["steps"]
    assert steps[-1]["run"].startswith("pytest --promptfit --promptfit-against")


def test_the_scripts_run(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    production, script = blocks("python")
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
    assert capsys.readouterr().out == "39 of 164\n"


def test_the_failure_shown_is_the_real_one(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = blocks("text")
    for folder in ("fixtures/quickstart", "cassettes"):
        shutil.copytree(ROOT / folder, pytester.path / folder)
    monkeypatch.chdir(pytester.path)
    result = pytester.runpytest_inprocess("-p", "promptfit", "--promptfit", "fixtures", f"--rootdir={pytester.path}")
    assert shown in result.stdout.str()
