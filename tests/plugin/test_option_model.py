"""``--promptfit-model``: the selected prompts under another model, held to the baseline of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from command_line import promptfit
from loopback_server import chat
from mood_project import by_keyword
from numbered_samples import numbered
from scipy.stats import binom

if TYPE_CHECKING:
    from pathlib import Path

    from mood_project import Project

OTHER = ("--promptfit-model", "openai/other")
COUNT, BROKEN = 40, 6


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def accepted(project: Project) -> Project:
    """A prompt that its own model gets right, with a baseline; ``other`` gets six samples wrong."""
    project.write(numbered(COUNT), cases="gated", gates={"accuracy": 0.8})
    project.record("--promptfit-update")

    def answer(seen: Any) -> Any:
        text = seen.body["messages"][-1]["content"]
        number = int("".join(char for char in text if char.isdigit()))
        is_broken = seen.body["model"] == "other" and number < BROKEN
        return chat("<label>bad</label>" if is_broken else by_keyword(text))

    project.model.server._answer = answer
    return project


def test_another_model_is_recorded_apart_and_held_to_the_baseline(accepted: Project) -> None:
    before = tree(accepted.path)
    nothing = accepted.replay(*OTHER)
    assert nothing.ret == 1
    nothing.stdout.fnmatch_lines(
        [
            "mood.prompt.yaml (openai/other)",
            "  nothing is recorded yet. Recording takes 40 calls, its price is not known.",
            "  record:  pytest --promptfit --promptfit-record --promptfit-model openai/other mood.prompt.yaml",
        ]
    )
    accepted.record(*OTHER)
    assert json.loads(accepted.model.asked[-1])["model"] == "other"
    result = accepted.replay(*OTHER)
    p = binom.sf(BROKEN, BROKEN, 0.5) + binom.pmf(BROKEN, BROKEN, 0.5) / 2
    assert result.ret == 1
    verdict = next(line for line in result.outlines if line.startswith("mood under openai/other: "))
    assert verdict.startswith("mood under openai/other: worse than its baseline: 100.0 % → 85.0 %, −15.0 points (")
    assert f"(fixed 0, broke 6, p = {p:.2g}). Fails." in verdict
    result.stdout.fnmatch_lines(["*note: asked openai/other instead of openai/m: the baseline stays as it is"])
    assert "accept:  no baseline is written under another model" in result.stdout.str()
    now = tree(accepted.path)
    assert {name: now.get(name) for name in before} == before
    added = {name for name in now.keys() - before.keys() if "cache" not in name}
    assert added == {"cassettes/mood/models/openai-other/replies.yaml"}
    own = accepted.replay("--promptfit-prune")
    assert own.ret == 0
    assert "obsolete" not in own.stdout.str()
    # What was recorded here is what `promptfit compare` reads.
    ran = promptfit("compare", "mood.prompt.yaml", "--model", "openai/other", cwd=accepted.path)
    assert "B is worse: 100.0 → 85.0 %" in ran.out


def test_selection_and_the_files_own_model(accepted: Project) -> None:
    asked = len(accepted.model.asked)
    first = numbered(COUNT)[0][0]
    accepted.record(*OTHER, f"mood.prompt.yaml::sample-{first}")
    assert len(accepted.model.asked) == asked + 1
    result = accepted.replay("--promptfit-model", "openai/m")
    assert result.ret == 0
    assert "mood: unchanged from its baseline: 100.0 %. Passes." in result.outlines


@pytest.mark.endurance
def test_under_xdist(accepted: Project) -> None:
    two = ("-p", "xdist", "-n2", "--dist=loadgroup")
    assert accepted.record(*OTHER, *two).ret == 1
    result = accepted.replay(*OTHER, *two)
    assert any(line.startswith("mood under openai/other: worse than its baseline") for line in result.outlines)
    alone = accepted.replay(*OTHER)
    assert alone.outlines[-3:-1] == result.outlines[-3:-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--promptfit-update",), "--promptfit-update and --promptfit-model: the baseline is that of the file's own"),
        (("--promptfit-against", "HEAD"), "--promptfit-against and --promptfit-model: a version is compared under"),
        (("--tune",), "--tune and --promptfit-model: tuning is for the file's own model"),
        (("--promptfit-model", "gpt-4"), "--promptfit-model 'gpt-4': expected PROVIDER/NAME, such as"),
    ],
)
def test_a_mistake_is_one_line(project: Project, options: tuple[str, ...], said: str) -> None:
    project.write()
    result = project.run(*OTHER, *options)
    assert result.ret == 4
    (line,) = [line for line in result.errlines if line]
    assert line.startswith(f"ERROR: {said}")
    assert project.model.asked == []


def test_it_needs_the_flag(project: Project) -> None:
    result = project.pytest(*OTHER)
    assert "--promptfit-model needs --promptfit" in result.stderr.str()
