"""The verdict on a prompt: one line, the last of a run, the same for terminal, GitHub, page and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from mood_project import MOODS
from numbered_samples import numbered, wrong_about

from pytest_promptfit.plugin.reports import progress_line
from pytest_promptfit.providers.usage import Pace, duration
from pytest_promptfit.text import fitted, wrapped

if TYPE_CHECKING:
    from mood_project import Project


def verdicts(result: pytest.RunResult) -> list[str]:
    """Return the lines between the heading of the verdicts and pytest's own last line."""
    start = next(at for at, line in enumerate(result.outlines) if line.strip("=") == " verdict ")
    assert result.outlines[-1].startswith("=")
    return result.outlines[start + 1 : -1]


def changed(project: Project, before: set[int], after: set[int], count: int = 40) -> pytest.RunResult:
    """Accept what a model says, let it change its mind, and replay."""
    project.write(numbered(count), cases="gated")
    project.model.says = wrong_about(before)
    project.record("--promptfit-update")
    project.model.says = wrong_about(after)
    project.ask_anew()
    return project.replay()


WORSE = "worse than its baseline: 97.5 % → 80.0 %, −17.5 points (fixed 1, broke 8, p = 0.011). Fails."
WITHIN = "not worse than its baseline: 92.5 % → 90.0 %, −2.5 points, within chance (fixed 3, broke 4). Passes."
BETTER = "better than its baseline: 70.0 % → 95.0 %, +25.0 points (fixed 11, broke 1, p = 0.0017). Passes."
SWALLOWED = (
    "worse than its baseline: 100.0 % → 2.5 %, −97.5 points (fixed 0, broke 39, p < 0.0001); "
    "39 of 40 read as bad. Fails."
)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({0}, set(range(1, 9)), WORSE),
        ({0, 1, 2}, {3, 4, 5, 6}, WITHIN),
        ({0, 1, 2}, {3, 4}, "not worse than its baseline: 92.5 % → 95.0 %. Passes."),
        (set(range(12)), {0, 20}, BETTER),
        ({0, 1}, {0, 1}, "unchanged from its baseline: 95.0 %. Passes."),
        (set(), set(range(39)), SWALLOWED),
    ],
)
def test_the_last_line_says_what_became_of_it(project: Project, before: set[int], after: set[int], said: str) -> None:
    result = changed(project, before, after)
    assert verdicts(result) == [f"mood: {said}"]
    assert result.ret == (1 if said.endswith("Fails.") else 0)
    (prompt,) = project.report()["prompts"]
    assert prompt["verdict"]["line"] == f"mood: {said}"
    assert prompt["verdict"]["fails"] is said.endswith("Fails.")


def test_what_else_fails_is_named(project: Project) -> None:
    canonical = [{"id": f"c{at}", "text": f"a dreadful thing {at}00", "label": "good"} for at in range(5)]
    project.write(numbered(40), canonical=canonical, gates={"accuracy": 0.99})
    project.model.says = lambda text: f"<label>{'bad' if 'dreadful' in text or '001' in text else 'good'}</label>"
    project.record()
    assert verdicts(project.replay()) == [
        "mood: no baseline yet: 97.5 % right. "
        "Fails: gate accuracy, canonical c0, c1, c2 and 2 more wrong, 1 sample newly wrong."
    ]


def test_a_part_of_the_samples_is_no_verdict_on_all(project: Project) -> None:
    changed(project, set(), {1})
    said = "mood: 2 of 40 samples selected: 1 right, fixed 0, broke 1."
    assert verdicts(project.replay("-k", "n001 or n002")) == [f"{said} Passes."]
    refused = project.replay("--promptfit-update", "-k", "n001 or n002")
    assert refused.ret == 1
    assert verdicts(refused) == [f"{said} Fails: not accepted as its baseline."]


WITHOUT_GATES = pytest.mark.parametrize("selection", [("-m", "labeled"), ("-k", "sample")])


@WITHOUT_GATES
def test_deselected_gates_are_not_said_to_fail_or_pass(project: Project, selection: tuple[str, ...]) -> None:
    worse = "mood: worse than its baseline: 97.5 % → 80.0 %, −17.5 points (fixed 1, broke 8, p = 0.011)."
    changed(project, {0}, set(range(1, 9)))
    result = project.replay(*selection)
    assert result.ret == 0
    assert verdicts(result) == [f"{worse} Not judged: gates deselected."]
    assert "  gate regression: not judged: deselected in this run" in result.outlines
    assert "FAILED" not in result.stdout.str()
    (prompt,) = project.report(*selection)["prompts"]
    assert prompt["verdict"] == {
        "line": f"{worse} Not judged: gates deselected.",
        "direction": "worse",
        "fails": False,
    }

    refused = project.replay("--promptfit-update", *selection)
    assert refused.ret == 1
    assert verdicts(refused) == [f"{worse} Fails: not accepted as its baseline."]


@pytest.mark.endurance
@WITHOUT_GATES
def test_deselected_gates_fail_nothing_under_xdist(project: Project, selection: tuple[str, ...]) -> None:
    changed(project, {0}, set(range(1, 9)))
    assert project.replay(*selection, "-p", "xdist", "-n", "2", "--dist", "loadgroup").ret == 0


@WITHOUT_GATES
def test_of_many_prompts_none_passes_without_its_gates(project: Project, selection: tuple[str, ...]) -> None:
    for at in range(11):
        project.write(MOODS, at=f"p{at:02}.prompt.yaml", gates={"accuracy": 0.5, "regression": False})
    project.record("-q")
    assert verdicts(project.replay(*selection)) == ["11 of 11 prompts are not judged: gates deselected."]


@WITHOUT_GATES
def test_a_loosened_contract_is_not_said_to_fail_where_its_gate_is_deselected(
    project: Project, selection: tuple[str, ...]
) -> None:
    project.write(gates={"accuracy": 0.9})
    project.record("--promptfit-update", "-q")
    project.git("init", "--initial-branch=main")
    project.git("add", "--all")
    project.git("commit", "--message=strict")
    project.write(gates={"accuracy": 0.1})
    assert verdicts(project.replay("--promptfit-against=main")) == [
        "mood: unchanged from main: 100.0 %. Fails: gate contract (1 looser)."
    ]
    result = project.replay("--promptfit-against=main", *selection)
    assert result.ret == 0
    assert verdicts(result) == ["mood: unchanged from main: 100.0 %. Not judged: gates deselected."]


def test_canonicals_alone(project: Project) -> None:
    project.write((), canonical=[{"text": "a lovely day", "label": "good"}])
    project.record()
    assert verdicts(project.replay()) == ["mood: canonical: 1 of 1 right. Passes."]


def test_the_reference_that_fails_is_named_and_the_others_are_told(project: Project) -> None:
    project.write(numbered(40), cases="gated")
    project.git("init", "--initial-branch=main")
    project.model.says = wrong_about(set(range(8)))
    project.record("--promptfit-update", "-q")
    project.git("add", "--all")
    project.git("commit", "--message=old")
    project.git("tag", "old")
    project.model.says = wrong_about(set())
    project.ask_anew("--promptfit-update", "-q")
    project.git("commit", "--all", "--message=new")
    project.model.says = wrong_about(set(range(7, 17)))
    project.ask_anew("-q")
    result = project.replay("--promptfit-against", "old", "--promptfit-against", "main")
    assert verdicts(result) == [
        "mood: worse than main: 100.0 % → 75.0 %, −25.0 points (fixed 0, broke 10, p = 0.00049); "
        "old: 80.0 % → 75.0 %. Fails."
    ]
    assert any(line.startswith("  gate regression: FAILED: worse than main by 25.0 points") for line in result.outlines)


def test_of_many_prompts_those_that_fail_are_named(project: Project) -> None:
    for at in range(12):
        project.write(MOODS, at=f"p{at:02}.prompt.yaml", gates={"accuracy": 0.5, "regression": False})
    project.record("--promptfit-update", "-q")
    project.write((("a", "a lovely day", "bad"),), at="p03.prompt.yaml")
    result = project.record()
    assert verdicts(result) == [
        "p03: no sample is in the baseline: 0.0 % right. Fails: 1 sample newly wrong.",
        "11 of 12 prompts pass (11 unchanged).",
    ]
    assert [line for line in result.outlines if line.endswith("(openai/m)")] == ["p03.prompt.yaml (openai/m)"]


def test_verdicts_stand_behind_the_short_summary_and_other_tests(project: Project) -> None:
    (project.path / "test_own.py").write_text("def test_own(): assert False\n")
    project.write((("w", "a lovely day", "bad"),))
    project.record()
    result = project.replay()
    lines = result.outlines
    assert lines[-2] == "mood: no baseline yet: 0.0 % right. Fails: 1 sample newly wrong."
    assert lines.index("FAILED test_own.py::test_own - assert False") < len(lines) - 2
    result.assert_outcomes(failed=2, skipped=1)


def test_under_xdist_too(project: Project) -> None:
    changed(project, {0}, set(range(1, 9)))
    result = project.replay("-p", "xdist", "-n", "2", "--dist", "loadgroup")
    assert verdicts(result)[0].startswith("mood: worse than its baseline: 97.5 % → 80.0 %")
    assert "FAILURES" not in result.stdout.str()
    assert "1 failed" in result.outlines[-1]


def test_no_prompt_no_verdict(project: Project) -> None:
    (project.path / "test_own.py").write_text("def test_own(): pass\n")
    assert not any("= verdict =" in line for line in project.replay().outlines)


def test_junit_keeps_the_full_text_of_what_is_left_out(project: Project) -> None:
    changed(project, set(), set(range(20)))
    project.replay("--junitxml=cases.xml", "--promptfit-json=out.json")
    told = (project.path / "cases.xml").read_text(encoding="utf-8")
    assert "accept: pytest --promptfit --promptfit-update=force mood.prompt.yaml" in told
    assert json.loads((project.path / "out.json").read_text())["prompts"][0]["verdict"]["direction"] == "worse"


class TestProgress:
    def test_the_rate_is_that_of_the_last_seconds(self) -> None:
        pace = Pace(window=10)
        for second in range(1, 101):
            pace.note(second, second * 20)
        assert pace.rate == pytest.approx(20)
        for second in range(101, 121):
            pace.note(second, 2000 + second - 100)
        assert pace.rate == pytest.approx(1)
        assert pace.left(90) == "1 min 30 s"

    def test_a_count_that_starts_again(self) -> None:
        pace = Pace()
        pace.note(1, 50)
        pace.note(2, 1)
        assert (pace.rate, pace.left(5)) == (0.0, "")

    @pytest.mark.parametrize(
        ("seconds", "said"), [(0.2, "1 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
    )
    def test_durations(self, seconds: float, said: str) -> None:
        assert duration(seconds) == said

    def test_something_is_said_before_the_first_reply(self) -> None:
        assert progress_line(0, 60, Pace(), width=4) == "asking [....] 0/60, starting the model"
        pace = Pace()
        pace.note(10, 10)
        pace.note(12, 30)
        assert progress_line(30, 60, pace, width=4) == "asking [##..] 30/60, 10.0/s, 3 s left"


class TestWrapping:
    def test_a_figure_stays_with_its_sign_and_a_command_whole(self) -> None:
        line = "  gate accuracy: FAILED: accuracy 63.0 % (34 of 54, 95 % interval 49.6 % to 74.6 %), floor 70.0 %"
        parts = wrapped(line, 40)
        assert all(len(part) <= 40 for part in parts)
        assert not any(part.strip().startswith("%") for part in parts)
        assert wrapped("reviews: broke 16, p < 0.0001", 22) == ["reviews: broke 16,", "  p < 0.0001"]
        assert " ".join(part.strip() for part in parts) == line.strip()
        assert all(part.startswith("    ") for part in parts[1:])
        command = "  record:  pytest --promptfit --promptfit-record prompts/a-long-name-of-a-prompt.prompt.yaml"
        assert wrapped(command, 40) == [command]

    @pytest.mark.parametrize("text", ["plain words", "\u6771\u4eac" * 30, "e\u0301" * 60, "\U0001f600" * 30])
    def test_a_text_fits_its_columns(self, text: str) -> None:
        shown = fitted(text, 20)
        wide = sum(2 if char >= "\u3000" else 0 if char == "\u0301" else 1 for char in shown)
        assert 0 < wide <= 20
