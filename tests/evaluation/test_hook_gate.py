"""``pytest_promptfit_gate``: gates that another plugin adds to a prompt's own."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hook_examples import SHORT
from mood_project import MOODS

if TYPE_CHECKING:
    from mood_project import Project


STABLE = """
    from pytest_promptfit import Gate, GateResult
    from pytest_promptfit.evaluation.baseline import compare

    def pytest_promptfit_gate():
        return [Gate("stable", judge), Gate("never", lambda evaluation, baseline: GateResult("", None, "no\\nrule"))]

    def judge(evaluation, baseline):
        if baseline is None:
            return GateResult("stable", None, "no baseline yet")
        broken = compare(baseline, evaluation).broken
        return GateResult("stable", not broken, f"{len(broken)} broken", broken)
"""

LONG = (*MOODS, ("s5", "a lovely long day", "good"))


def conftest(project: Project, text: str, at: str = "conftest.py") -> None:
    path = project.path / at
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))


def at_length(text: str) -> str:
    return f"{'Let me see: ' if 'long' in text else ''}<label>{'good' if 'lovely' in text else 'bad'}</label>"


@pytest.fixture
def recorded(project: Project) -> Project:
    """A recorded prompt, one of whose five replies is long."""
    project.model.says = at_length
    project.write(LONG, gates={"accuracy": 0.5})
    project.record()
    return project


def test_it_is_a_case_like_ours(recorded: Project) -> None:
    conftest(recorded, SHORT)
    result = recorded.replay("-v")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "mood.prompt.yaml::gate-accuracy PASSED*",
            "mood.prompt.yaml::gate-regression SKIPPED*",
            "mood.prompt.yaml::gate-short FAILED*",
            "mood.prompt.yaml: gate short: 1 replies are longer than 25 characters",
            "  behind it: sample-s5",
            "  gate short: FAILED: 1 replies are longer than 25 characters",
        ]
    )
    assert recorded.report()["prompts"][0]["gates"][-1] == {
        "name": "short",
        "passed": False,
        "detail": "1 replies are longer than 25 characters",
    }
    conftest(recorded, SHORT.replace("25", "40"))
    result = recorded.replay("-m", "gate or labeled", "-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*::gate-short PASSED*", "  gate short: passed: 0 replies are longer than 40 *"])


def test_it_is_skipped_when_not_all_samples_are_selected(recorded: Project) -> None:
    conftest(recorded, SHORT)
    result = recorded.replay("-rs", "-k", "s5 or short")
    result.assert_outcomes(passed=1, skipped=1, deselected=6)
    result.stdout.fnmatch_lines(["SKIPPED*4 of its 5 samples are not selected: run the whole file to judge it"])


def test_it_is_skipped_when_a_sample_has_no_reply(recorded: Project) -> None:
    recorded.write((*LONG, ("s6", "another lovely day", "good")))
    conftest(recorded, SHORT)
    result = recorded.replay("-v", "-rs")
    result.stdout.fnmatch_lines(["*::gate-short SKIPPED*1 of its samples*", "SKIPPED*no reply: see their cases"])


def test_several_gates_may_look_at_the_baseline(recorded: Project) -> None:
    conftest(recorded, STABLE)
    result = recorded.replay("-rs", "--promptfit-update")
    result.stdout.fnmatch_lines(["SKIPPED*no baseline yet"])
    assert "  gate never: not judged: no\\nrule" in result.outlines
    recorded.model.says = lambda _text: "<label>good</label>"
    recorded.ask_anew()
    result = recorded.replay("-v")
    result.stdout.fnmatch_lines(["*::gate-regression PASSED*", "*::gate-stable FAILED*", "*: gate stable: 2 broken"])
    assert "  behind it: sample-s3, sample-s4" in result.outlines


def test_plugins_add_up_and_count_below_their_folder(project: Project) -> None:
    for name in ("mood", "other"):
        project.write(at=f"{name}/{name}.prompt.yaml", gates={"regression": False})
    project.record()
    conftest(project, SHORT)
    conftest(project, STABLE, at="other/conftest.py")
    result = project.replay("--collect-only", "-q")
    gates = [line for line in result.outlines if "::gate-" in line]
    assert sorted(gates) == [
        "mood/mood.prompt.yaml::gate-short",
        "other/other.prompt.yaml::gate-never",
        "other/other.prompt.yaml::gate-short",
        "other/other.prompt.yaml::gate-stable",
    ]


def test_what_numpy_says_is_understood(recorded: Project) -> None:
    conftest(recorded, "import numpy as np\n" + dedent(SHORT).replace("not long", "np.bool_(not long)"))
    result = recorded.replay()
    assert np.bool_(False) is not False
    result.assert_outcomes(passed=6, failed=1, skipped=1)
    assert recorded.report()["prompts"][0]["gates"][-1]["passed"] is False


def gated(returned: str, judged: str = "None") -> str:
    return (
        "from pytest_promptfit import Gate, GateResult\n"
        f"def judge(evaluation, baseline):\n  return {judged}\n"
        f"def pytest_promptfit_gate():\n  return {returned}\n"
    )


HOOK = "pytest_promptfit_gate"
NOT_COLLECTED = (
    (gated("3"), f"conftest.py: {HOOK}: expected a Gate, several in a list, or None; found 3 (int)"),
    (gated("nothing"), f"conftest.py:5: {HOOK}: NameError: name 'nothing' is not defined"),
    (gated("Gate('a b', judge)"), f"conftest.py:2: {HOOK}: a gate's name: expected letters, *; found 'a b' (str)"),
    (gated("Gate('recall', judge)"), f"conftest.py:2: {HOOK}: gate 'recall': there is one of this name already: *"),
    (gated("[Gate('a', judge)] * 2"), f"conftest.py:2: {HOOK}: gate 'a': there is one of this name already: *"),
    (gated("Gate('a', 3)"), f"conftest.py: {HOOK}: gate 'a': judge: expected a function; found 3 (int)"),
)

NOT_JUDGED = (
    ("1 / 0", f"conftest.py:3: {HOOK}: ZeroDivisionError: division by zero"),
    ("True", f"conftest.py:2: {HOOK}: expected a GateResult; found True (bool)"),
    ("GateResult('a', True, 'x', 3)", f"conftest.py:2: {HOOK}: TypeError: 'int' object is not iterable"),
    ("__import__('pytest').fail('too long')", f"conftest.py:3: {HOOK}: Failed: too long"),
)


@pytest.mark.parametrize(("text", "line"), NOT_COLLECTED)
def test_no_gate_is_a_collection_error(recorded: Project, text: str, line: str) -> None:
    conftest(recorded, text)
    result = recorded.replay()
    assert result.ret == 2
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ERROR collecting mood.prompt.yaml*", line])
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(("judged", "line"), NOT_JUDGED)
def test_a_judge_gone_wrong_fails_its_gate(recorded: Project, judged: str, line: str) -> None:
    conftest(recorded, gated("Gate('a', judge)", judged))
    result = recorded.replay("-v")
    result.assert_outcomes(passed=6, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*::gate-a FAILED*", f"mood.prompt.yaml: gate a: {line}"])
    assert "INTERNALERROR" not in result.stdout.str()


def test_under_xdist(recorded: Project) -> None:
    recorded.write(at="other.prompt.yaml")
    recorded.record()
    conftest(recorded, SHORT)
    alone = recorded.replay("--promptfit-json=alone.json")
    both = recorded.replay("-p", "xdist", "-n2", "--promptfit-json=both.json")
    assert both.parseoutcomes() == alone.parseoutcomes() == {"passed": 11, "failed": 1, "skipped": 2}
    assert (recorded.path / "both.json").read_text() == (recorded.path / "alone.json").read_text()
