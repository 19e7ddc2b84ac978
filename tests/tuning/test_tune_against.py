"""A prompt that was tuned on a branch, committed, is judged better than ``main`` in CI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tuning_models import TuningProject


@pytest.mark.parametrize("cases", ["strict", "gated"])
def test_what_tuning_leaves_goes_through(project: TuningProject, cases: str, monkeypatch: pytest.MonkeyPatch) -> None:
    project.prompt(cases=cases)
    project.record("--promptfit-update")
    project.git("init", "--quiet", "--initial-branch=main")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message=draft")
    project.git("checkout", "--quiet", "-b", "tuned")
    assert project.tuned()["accepted"]
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message=tuned")
    monkeypatch.setenv("CI", "1")
    result = project.replay("--promptfit-against", "main")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["  gate regression: passed: better than main by *", "  gate contract: passed: *"])
