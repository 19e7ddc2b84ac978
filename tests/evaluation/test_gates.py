"""Gates: the figures of a whole prompt against their floors, and against the baseline beyond chance."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
from mood_project import MOODS, Project
from numbered_samples import compared, numbered, wrong_about
from scipy.optimize import brentq
from scipy.stats import binom
from summary_lines import gate

MIXED = (
    *MOODS,
    ("w1", "a dreadful bore, and I loved it", "good"),
    ("w2", "a dreadful film, seen twice", "good"),
    ("u1", "mumble", "bad"),
    ("u2", "mumble mumble", "bad"),
)
"""Four right, two goods taken for bad, two bads without a label."""


FLOORS: tuple[tuple[dict[str, Any], bool, str], ...] = (
    ({"accuracy": 0.5}, True, "accuracy 50.0 % (4 of 8, 95 % interval 21.5 % to 78.5 %), floor 50.0 %"),
    ({"accuracy": 0.51}, False, "accuracy 50.0 % (4 of 8, 95 % interval 21.5 % to 78.5 %), floor 51.0 %"),
    ({"missing": 0.25}, True, "no label could be read in 25.0 % (2 of 8), at most 25.0 %"),
    ({"missing": 0.24}, False, "no label could be read in 25.0 % (2 of 8), at most 24.0 %"),
    (
        {"recall": {"good": 0.5, "bad": 0.5}},
        True,
        "recall good: 50.0 % of 4, floor 50.0 %; bad: 50.0 % of 4, floor 50.0 %",
    ),
    (
        {"recall": {"good": 0.6, "bad": 0.5}},
        False,
        "recall good: 50.0 % of 4, floor 60.0 %; bad: 50.0 % of 4, floor 50.0 %",
    ),
)

BEHIND: tuple[tuple[dict[str, Any], str], ...] = (
    ({"accuracy": 0.9}, "sample-w1, sample-w2, sample-u1, sample-u2"),
    ({"recall": {"good": 0.9, "bad": 0.1}}, "sample-w1, sample-w2"),
    ({"missing": 0.0}, "sample-u1, sample-u2"),
)


def test_floors_pass_and_fail(project: Project, subtests: pytest.Subtests) -> None:
    project.write(MIXED)
    project.record()
    for gates, passes, detail in FLOORS:
        with subtests.test(gates=gates):
            project.write(MIXED, cases="gated", gates=gates)
            result = project.replay("-v")
            (name,) = gates
            verdict = "passed" if passes else "FAILED"
            assert gate(result, name) == f"gate {name}: {verdict}: {detail}"
            assert result.ret == (0 if passes else 1)
            result.stdout.fnmatch_lines([f"*::gate-{name} {verdict.upper()}*"])


def test_failed_floor_names_the_samples_behind_it(project: Project, subtests: pytest.Subtests) -> None:
    project.write(MIXED)
    project.record()
    for gates, behind in BEHIND:
        with subtests.test(gates=gates):
            project.write(MIXED, cases="gated", gates=gates)
            assert f"  behind it: {behind}" in project.replay("-v").outlines


def test_long_list_of_samples_is_cut(project: Project) -> None:
    project.model.says = wrong_about(set(range(13)))
    project.write(numbered(13), cases="gated", gates={"accuracy": 0.5})
    project.record()
    (line,) = [line for line in project.replay("-v").outlines if line.startswith("  behind it:")]
    assert line.endswith("sample-n009 and 3 more")


def test_recall_of_a_label_without_samples_cannot_be_shown(project: Project) -> None:
    project.write(MOODS[:2], gates={"recall": {"bad": 0.9}})
    project.record()
    result = project.replay()
    assert result.ret == 1
    assert gate(result, "recall") == "gate recall: FAILED: recall bad: no samples to show it, floor 90.0 %"


def test_canonicals_do_not_count(project: Project) -> None:
    wrong = [{"text": "a dreadful bore, and I loved it", "label": "good"}]
    project.write(canonical=wrong, gates={"accuracy": 1.0})
    project.record()
    result = project.replay()
    assert gate(result, "accuracy").startswith("gate accuracy: passed: accuracy 100.0 % (4 of 4")
    result.assert_outcomes(passed=5, failed=1, skipped=1)


def test_only_canonicals_leave_no_gate_to_judge(project: Project) -> None:
    project.write((), canonical=[{"text": "a lovely day", "label": "good"}], gates={"accuracy": 1.0})
    project.record()
    result = project.replay("-rs")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*there are no labeled samples*"])


def midp(worse: int, better: int) -> float:
    """Return McNemar's mid-p for ``worse`` or more of all that changed, from scipy's binomial distribution."""
    changed = worse + better
    return float(binom.sf(worse - 1, changed, 0.5) - binom.pmf(worse, changed, 0.5) / 2)


def interval(fixed: int, broke: int, shared: int) -> str:
    """Return the 95 % interval of the change in points: Agresti and Min (2005), with half a pair more in each cell."""
    change = (fixed - broke) / (shared + 2)
    spread = 1.96 * sqrt((fixed + broke + 1) / (shared + 2) ** 2 - change**2 / (shared + 2))
    return " to ".join(f"{100 * bound:+.1f}".replace("-", "−") for bound in (change - spread, change + spread))


def test_a_real_regression_fails(project: Project) -> None:
    result = compared(project, 40, before={0}, after=set(range(1, 9)))
    assert result.ret == 1
    assert gate(result, "regression") == (
        f"gate regression: FAILED: worse than its baseline by 17.5 points (95 % interval {interval(1, 8, 40)}), "
        f"fixed 1, broke 8 of 40, p = {midp(8, 1):.2g}, alpha 0.05"
    )
    result.stdout.fnmatch_lines(
        [
            "*mood.prompt.yaml: gate regression: worse than its baseline by 17.5 points*",
            "  broken: sample-n001, sample-n002, *, sample-n008",
            "  accept: pytest --promptfit --promptfit-update=force mood.prompt.yaml",
        ]
    )


def test_noise_passes(project: Project) -> None:
    result = compared(project, 40, before={0, 1, 2}, after={3, 4, 5, 6})
    assert result.ret == 0
    assert gate(result, "regression").startswith(
        "gate regression: passed: worse than its baseline by 2.5 points, within chance "
        f"(95 % interval {interval(3, 4, 40)}), fixed 3, broke 4 of 40, p = {midp(4, 3):.2g}, alpha 0.05; a drop of "
    )


def test_a_gain_is_told_with_the_chance_of_a_gain(project: Project) -> None:
    result = compared(project, 40, before=set(range(12)), after={0, 20})
    assert result.ret == 0
    assert gate(result, "regression").startswith(
        f"gate regression: passed: better than its baseline by 25.0 points (95 % interval {interval(11, 1, 40)}), "
        f"fixed 11, broke 1 of 40, p = {midp(11, 1):.2g}, alpha 0.05"
    )


def test_unchanged_run_has_no_p(project: Project) -> None:
    assert midp(4, 0) < 0.05 < midp(3, 0)
    found = brentq(lambda drop: binom.sf(3, 40, drop) - 0.8, 0.0, 1.0)  # four or more of 40 break
    result = compared(project, 40, before={0, 1}, after={0, 1})
    assert gate(result, "regression") == (
        "gate regression: passed: unchanged from its baseline on 40 shared samples; "
        f"a drop of {100 * found:.1f} points would be found with 80 % power if nothing flips by noise"
    )


def test_alpha_decides(project: Project) -> None:
    result = compared(project, 40, before=set(), after={1, 2, 3}, regression={"alpha": 0.05})
    assert result.ret == 0  # three broken of three changed: p = 0.0625
    project.write(numbered(40), cases="gated", gates={"regression": {"alpha": 0.2}})
    result = project.replay()
    assert result.ret == 1
    assert "p = 0.062, alpha 0.2" in gate(result, "regression")


def test_a_clear_drop_is_not_said_to_be_chance_where_the_file_s_alpha_is_tiny(project: Project) -> None:
    result = compared(project, 40, before=set(), after=set(range(10)), regression={"alpha": 1e-9})
    assert result.ret == 0
    # Ten broken of ten changed: p = 2^-11.
    assert gate(result, "regression").startswith(
        "gate regression: passed: worse than its baseline by 25.0 points, above the file's own alpha "
        "(95 % interval −37.5 to −10.1), fixed 0, broke 10 of 40, p = 0.00049, alpha 1e-09"
    )
    assert result.outlines[-2] == (
        "mood: not worse than its baseline: 100.0 % → 75.0 %, −25.0 points, above the file's own alpha 1e-09 "
        "(fixed 0, broke 10, p = 0.00049). Passes."
    )
    assert "within chance" not in result.stdout.str()


def test_regression_can_be_switched_off(project: Project) -> None:
    result = compared(project, 20, before=set(), after=set(range(20)), regression=False)
    assert result.ret == 0
    assert "gate-regression" not in result.stdout.str()


@pytest.mark.parametrize("count", [1, 3])
def test_a_set_too_small_to_fail_is_not_said_to_pass(project: Project, count: int) -> None:
    result = compared(project, count, before=set(), after=set(range(count)))
    assert gate(result, "regression") == (
        f"gate regression: not judged: {count} shared samples are too few: a drop shows with at least 4 broken ones"
    )


def test_four_samples_can_fail(project: Project) -> None:
    assert compared(project, 4, before=set(), after=set(range(4))).ret == 1


def test_without_a_baseline_regression_is_skipped(project: Project) -> None:
    project.write()
    project.record()
    result = project.replay("-rs")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["SKIPPED*no baseline yet: --promptfit-update writes it"])


PARTIAL = (
    ("mood.prompt.yaml::sample-s1", "mood.prompt.yaml::gate-accuracy"),
    ("-k", "s1 or gate"),
    ("--deselect", "mood.prompt.yaml::sample-s2"),
)


def test_partial_selection_skips_the_gates_and_says_why(project: Project, subtests: pytest.Subtests) -> None:
    project.write(gates={"accuracy": 0.9, "regression": False})
    project.record()
    for selection in PARTIAL:
        with subtests.test(selection=selection):
            result = project.replay("-rs", *selection)
            assert result.ret == 0
            assert result.parseoutcomes()["skipped"] == 1
            result.stdout.fnmatch_lines(["SKIPPED*of its 4 samples are not selected: run the whole file to judge it"])


@pytest.mark.parametrize("selection", [("mood.prompt.yaml::gate-accuracy",), ("-m", "gate"), ("-k", "gate")])
def test_gate_alone_asks_nothing_and_is_skipped(project: Project, selection: tuple[str, ...]) -> None:
    project.write(gates={"accuracy": 0.9, "regression": False})
    result = project.record("-rs", *selection)
    assert result.ret == 0
    assert project.model.asked == []
    result.stdout.fnmatch_lines(["SKIPPED*4 of its 4 samples are not selected*"])


def test_labeled_samples_alone_are_all_that_gates_need(project: Project) -> None:
    project.write(canonical=[{"text": "a lovely dog", "label": "good"}], gates={"accuracy": 0.9})
    project.record()
    result = project.replay("-m", "labeled or gate")
    assert gate(result, "accuracy").startswith("gate accuracy: passed: accuracy 100.0 % (4 of 4")


def test_a_gate_whose_case_is_deselected_is_not_judged(project: Project) -> None:
    project.write(MIXED, cases="gated", gates={"accuracy": 0.9, "missing": 0.9, "regression": False})
    project.record()
    result = project.replay("--deselect", "mood.prompt.yaml::gate-accuracy", "-v")
    assert result.ret == 0
    assert gate(result, "accuracy") == "gate accuracy: not judged: deselected in this run"
    assert gate(result, "missing").startswith("gate missing: passed: ")
    report = project.report("--deselect", "mood.prompt.yaml::gate-accuracy")
    assert [(one["name"], one["passed"]) for one in report["prompts"][0]["gates"]] == [
        ("accuracy", None),
        ("missing", True),
    ]


def test_sample_without_a_reply_leaves_gates_unjudged(project: Project) -> None:
    project.write(cases="gated", gates={"accuracy": 0.1})
    project.record("-k", "s1 or s2 or s3")
    result = project.replay("-rs")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["SKIPPED*1 of its samples have no reply: see their cases"])


def test_failed_gate_runs_again_under_lf_with_no_sample_and_is_skipped(project: Project) -> None:
    project.write(MIXED, cases="gated", gates={"accuracy": 0.9})
    project.record()
    assert project.replay().ret == 1
    result = project.replay("--lf", "-rs")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["SKIPPED*8 of its 8 samples are not selected*"])
