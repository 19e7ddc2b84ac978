"""The JSON Schema for editors: printed by ``promptfit schema``, agreeing with the reader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from prompt_files import ADDED, DOCUMENTED, FEW_SHOT, HEAD, SHORTEST, WHOLE
from repository import ROOT

from pytest_promptfit.prompts.yaml_source import YamlSource

BY_THE_READER = {
    "label twice",
    "label is a number with a point",
    "reserved label",
    "reserved label of a canonical",
    "empty label",
    "pattern without a group",
    "broken pattern",
    "pattern that is not meant",
    "pattern too deep",
    "pattern too large",
    "recall of no label",
    "parameters JSON cannot carry",
    "parameter without end",
    "duplicate key",
    "duplicate key inside",
    "duplicate key, quoted",
    "key is a list",
    "unknown alias",
    "another document",
    "Python object",
    "control character",
    "half a character",
}
"""Mistakes that a schema of one value cannot see, or that are none of YAML's values."""


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    command = [sys.executable, "-m", "pytest_promptfit.cli.command", "schema"]
    printed = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    assert printed.isascii()
    return Draft202012Validator(json.loads(printed))


def value_of(text: str) -> Any:
    """Return the values as an editor sees them: keys are text."""
    return json.loads(json.dumps(YamlSource(Path("p.yaml"), text).value))


def test_is_a_schema_of_draft_2020_12(validator: Draft202012Validator) -> None:
    assert validator.schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(validator.schema)


def test_the_module_runs_and_misuse_is_said() -> None:
    ran = subprocess.run([sys.executable, "-m", "pytest_promptfit.cli.command"], capture_output=True, encoding="utf-8")
    assert ran.returncode == 2
    assert "COMMAND" in ran.stderr


FIXTURES = sorted((ROOT / "fixtures").rglob("*.prompt.y*ml"))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_our_own_prompt_files_are_valid(validator: Draft202012Validator, path: Path) -> None:
    assert list(validator.iter_errors(value_of(path.read_text(encoding="utf-8")))) == []


def test_there_are_prompt_files_of_our_own() -> None:
    assert FIXTURES


@pytest.mark.parametrize(
    "text",
    [
        SHORTEST,
        WHOLE,
        "model: local/a.gguf\nprompt: {}\nsamples: d.csv\n",
        "model: openai/m\nprompt: {examples: [{text: a, label: b}]}\nsamples: d.csv\n",
        "model: openai/m\nprompt: {examples: {nearest: 8}}\nsamples: d.csv\n",
        "model: openai/m\nprompt: {examples: {nearest: 8, from: train.csv}}\nlabels: [a, b]\n",
        "model: {provider: openai, name: m, base_url: 'http://localhost/v1'}\nprompt: {}\nsamples: {file: d.csv}\n",
        f"{HEAD}labels: [0, true, 'no', word]\ngates: {{recall: {{0: 1}}, regression: false}}\n",
        f"{HEAD}canonical: [{{text: a, label: 0, id: 7, canonical: true, note: n}}]\n",
        f"{HEAD}tune: {{model: {{provider: gemini, name: m}}, edit: [examples]}}\n",
        DOCUMENTED,
        FEW_SHOT.replace("System", "system"),
        f"{DOCUMENTED}gates: {{accuracy: 0.5}}\ncanonical: [{{text: a, label: positive}}]\n",
        f"{DOCUMENTED}responseFormat: json_schema\njsonSchema: '{{}}'\n",
    ],
)
def test_what_is_read_is_valid(validator: Draft202012Validator, text: str) -> None:
    assert list(validator.iter_errors(value_of(text))) == []


@pytest.mark.parametrize("mistake", sorted(set(ADDED) - BY_THE_READER))
def test_what_is_refused_is_invalid(validator: Draft202012Validator, mistake: str) -> None:
    added, _ = ADDED[mistake]
    assert not validator.is_valid(value_of(f"{HEAD}{added}\n"))


@pytest.mark.parametrize(
    "text",
    [
        "model: openai/m\n",
        "prompt: {}\n",
        "model: gpt\nprompt: {}\n",
        "model: opnai/m\nprompt: {}\n",
        "model: openai/m\nprompt: text\n",
        "model: openai/m\nprompt: {system: s}\n",
        "model: openai/m\nprompt: {examples: {nearest: 65}}\n",
        "model: openai/m\nprompt: {examples: {from: train.csv}}\n",
        "model: openai/m\nprompt: {examples: {nearest: 8, file: train.csv}}\n",
        "model: openai/m\nprompt: {examples: train.csv}\n",
        "model: openai/m\nprompt: {}\nsamples: {text: a}\n",
        "model: openai/m\nprompt: {}\nsamples: {file: a, inline: []}\n",
        "model: openai/m\nprompt: {}\nsamples: [{text: a}]\n",
        "model: openai/m\nprompt: {}\nmessages: []\n",
        "- a\n",
        "",
        DOCUMENTED.replace("evaluators:", "evaluator:"),
        DOCUMENTED.replace("role: system", "role: developer"),
        DOCUMENTED.replace("model: openai/gpt-4o-mini\n", ""),
        f"{DOCUMENTED}responseFormat: json\n",
    ],
)
def test_other_forms_are_invalid(validator: Draft202012Validator, text: str) -> None:
    assert not validator.is_valid(value_of(text))
