"""``--tune`` with other plugins' hooks: their client for both models, their way to read labels."""

from __future__ import annotations

from textwrap import dedent

import pytest
from tuning_models import OPTIMIZER, RULE, TuningProject, patch, patches, rows

from pytest_promptfit import tune

READ = """
    def pytest_promptfit_extract(reply):
        return reply.text.removeprefix("The mood is ")
"""

ASK = f"""
    def pytest_promptfit_client(model):
        return propose if model.name == {OPTIMIZER!r} else classify

    def propose(body):
        return {patches(patch(targets=["s8"]))!r}

    def classify(body):
        system, user = body["messages"][0]["content"], body["messages"][-1]["content"]
        return "The mood is " + ("GOOD" if "lovely" in user and {RULE!r} in system else "BAD")
"""

DOWN = """
    def pytest_promptfit_client(model):
        raise RuntimeError("called")
"""


@pytest.fixture
def project(project: TuningProject) -> TuningProject:
    tune = {"model": project.optimizer_model(), "edit": ["system_prompt"], "budget": {"task_calls": 200}}
    project.prompt(rows(60), tune=tune)
    return project


def conftest(project: TuningProject, *texts: str) -> None:
    (project.path / "conftest.py").write_text("\n".join(map(dedent, texts)))


def test_both_models_are_asked_through_the_hook_and_a_replay_needs_none(project: TuningProject) -> None:
    draft = project.text()
    conftest(project, ASK, READ)
    entry = project.tuned()
    assert entry["accepted"], entry["reason"]
    assert entry["usage"]["optimizer_calls"] > 0
    assert project.model.server.seen == []
    tuned = project.text()
    assert RULE in tuned
    conftest(project, DOWN, READ)
    project.replay().assert_outcomes(passed=61)
    (project.path / "mood.prompt.yaml").write_text(draft)
    entry = project.tuned()
    assert entry["usage"]["replayed"] == entry["usage"]["task_calls"] + entry["usage"]["optimizer_calls"]
    assert project.text() == tuned


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        ((DOWN,), "conftest.py:3: pytest_promptfit_client: RuntimeError: called"),
        ((ASK, READ.replace(".text", ".txt")), "conftest.py:*: pytest_promptfit_extract: AttributeError: *txt*"),
    ],
)
def test_a_hook_gone_wrong_leaves_the_prompt_alone(project: TuningProject, texts: tuple[str, ...], line: str) -> None:
    draft = project.text()
    conftest(project, *texts)
    result = project.tune("-k", "tune")
    result.assert_outcomes(failed=1, deselected=61)
    result.stdout.fnmatch_lines([line])
    assert "INTERNALERROR" not in result.stdout.str()
    assert project.text() == draft


def test_tune_in_a_script_takes_the_same_functions(project: TuningProject) -> None:
    hooks: dict[str, object] = {}
    exec(dedent(ASK) + dedent(READ), hooks)
    result = tune(
        project.path / "mood.prompt.yaml",
        client=hooks["pytest_promptfit_client"],  # type: ignore[arg-type]
        extract=lambda reply, _text: hooks["pytest_promptfit_extract"](reply),  # type: ignore[operator]
    )
    assert result.accepted
    assert project.model.server.seen == []
