"""The workflows in the docs: valid YAML, least rights, pinned actions, and options that exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from docs_pages import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKFLOWS = [block for block in blocks("yaml", "ci.md") if re.search("^jobs:", block, re.MULTILINE)]
REPLAY, *OTHERS = [yaml.load(block, yaml.BaseLoader) for block in WORKFLOWS]  # `on` stays a word


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def commands(workflow: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the words of every line that runs pytest or promptfit."""
    for step in steps(workflow):
        for line in step.get("run", "").splitlines():
            if line.startswith(("pytest ", "promptfit ")):
                yield shlex.split(line)


def test_there_is_one_to_replay_one_to_tune_and_one_to_watch() -> None:
    assert list(REPLAY["on"]) == ["pull_request"]
    assert [list(workflow["on"]) for workflow in OTHERS] == [["workflow_dispatch"], ["schedule", "workflow_dispatch"]]


@pytest.mark.parametrize("workflow", [REPLAY, *OTHERS], ids=lambda workflow: workflow.get("name"))
def test_commands_are_ours(workflow: dict[str, Any], pytester: pytest.Pytester) -> None:
    said = pytester.runpytest_inprocess("-p", "promptfit", "--help").stdout.str()
    known = set(re.findall(r"--[\w-]+", said))
    used = [word.partition("=")[0] for command in commands(workflow) for word in command if word.startswith("--")]
    assert used
    assert set(used) <= known


@pytest.mark.parametrize("workflow", [REPLAY, *OTHERS], ids=lambda workflow: workflow.get("name"))
def test_rights_are_said_and_actions_pinned(workflow: dict[str, Any]) -> None:
    assert "contents" in workflow["permissions"]
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used)


@pytest.mark.parametrize("workflow", [REPLAY, *OTHERS], ids=lambda workflow: workflow.get("name"))
def test_nothing_from_outside_is_pasted_into_a_shell(workflow: dict[str, Any]) -> None:
    assert not [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")]


def test_replay_compares_with_the_target_branch_and_may_write_nothing() -> None:
    assert REPLAY["permissions"] == {"contents": "read"}
    checkout = next(step for step in steps(REPLAY) if step.get("uses", "").startswith("actions/checkout@"))
    assert checkout["with"]["fetch-depth"] == "0"
    assert "secrets." not in WORKFLOWS[0]


@pytest.mark.parametrize(
    ("tag", "accept", "arguments"),
    [
        (False, "", "--promptfit --promptfit-against origin/main prompts"),
        (True, "", "--promptfit --promptfit-against origin/main --promptfit-against v1.0 prompts"),
        (
            False,
            "--promptfit-accept-contract",
            "--promptfit --promptfit-against origin/main --promptfit-accept-contract prompts",
        ),
    ],
)
def test_replay_compares_with_the_last_release_where_there_is_one(
    tmp_path: Path, tag: bool, accept: str, arguments: str
) -> None:
    (step,) = (step for step in steps(REPLAY) if "--promptfit-against" in step.get("run", ""))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for command in (
        ["init", "--quiet"],
        ["commit", "--quiet", "--allow-empty", "--message=one"],
        *([["tag", "v1.0"]] if tag else []),
        ["update-ref", "refs/remotes/origin/main", "HEAD"],
    ):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    shell = f'pytest() {{ echo "$@"; }}\n{step["run"]}'
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", shell],
        cwd=tmp_path,
        env={**os.environ, "ACCEPT": accept},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert ran.stdout.strip() == arguments


def test_recording_and_tuning_are_allowed_with_the_key_from_the_secrets() -> None:
    workflow, _ = OTHERS
    asking = [command for command in commands(workflow) if {"--promptfit-record", "--tune"} & set(command)]
    assert len(asking) == 2
    assert all("--promptfit-allow-ci" in command for command in asking)
    with_key = [step for step in steps(workflow) if "OPENAI_API_KEY" in step.get("env", {})]
    assert [step["env"]["OPENAI_API_KEY"] for step in with_key] == ["${{ secrets.OPENAI_API_KEY }}"] * 2
    assert workflow["permissions"] == {"contents": "write", "pull-requests": "write"}


def test_the_canary_asks_with_the_key_within_a_budget_and_may_write_nothing() -> None:
    _, workflow = OTHERS
    (command,) = commands(workflow)
    assert {"--promptfit-canary", "--promptfit-budget", "--promptfit-allow-ci"} <= set(command)
    (with_key,) = (step for step in steps(workflow) if "OPENAI_API_KEY" in step.get("env", {}))
    assert with_key["env"]["OPENAI_API_KEY"] == "${{ secrets.OPENAI_API_KEY }}"
    assert workflow["permissions"] == {"contents": "read"}
