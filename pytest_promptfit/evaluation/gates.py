"""Gates: what the figures of a whole prompt must reach. Pure: an evaluation in, verdicts out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_promptfit.errors import HookError
from pytest_promptfit.evaluation.baseline import USUAL_ALPHA
from pytest_promptfit.evaluation.confidence import coverage_interval, most_covered, sure_answers
from pytest_promptfit.evaluation.metrics import detectable_drop, least_broken, wilson_interval
from pytest_promptfit.text import percent, plain, points, probability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_promptfit.evaluation.baseline import Baseline, Comparison
    from pytest_promptfit.evaluation.outcomes import Evaluation, Outcome
    from pytest_promptfit.prompts.model import CoverageGate, Gates

SHOWN = 10
"""Names that are listed of many."""


@dataclass(frozen=True)
class GateResult:
    """The verdict of one gate; ``passed`` is ``None`` where it could not be judged."""

    name: str
    passed: bool | None
    detail: str
    samples: tuple[str, ...] = ()
    """The cases behind a failure."""
    warning: str = ""
    floor: float | None = None
    """The accuracy that was asked for."""
    head: str = ""
    """What is said where ``samples`` are listed below it and ``detail`` would name some of them twice."""
    at_error: float | None = None
    """The share of wrong answers that coverage was asked for at."""

    @property
    def verdict(self) -> Literal["passed", "failed", "not judged"]:
        """What came of the gate, in words."""
        return "not judged" if self.passed is None else "passed" if self.passed else "failed"


@dataclass(frozen=True)
class Gate:
    """A gate of another plugin: how it is called, and how it judges an evaluation against the baseline.

    ``judge`` is given labeled samples that all are selected and have a reply.
    """

    name: str
    judge: Callable[[Evaluation, Baseline | None], GateResult]


def gate_names(gates: Gates) -> list[str]:
    """Return the gates that a prompt file asks for, in the order they are reported."""
    asked = {
        "accuracy": gates.accuracy is not None,
        "recall": bool(gates.recall),
        "missing": gates.missing is not None,
        "slices": bool(gates.slices),
        "coverage": gates.coverage is not None,
        "regression": gates.regression is not None,
    }
    return [name for name, wanted in asked.items() if wanted]


def judge_floors(gates: Gates, evaluation: Evaluation, *, unselected: int = 0) -> list[GateResult]:
    """Judge the gates on an evaluation's own figures; ``unselected`` labeled samples leave them without a verdict."""
    if reason := why_not_judged(evaluation, unselected):
        return [GateResult(name, None, reason) for name in gate_names(gates) if name != "regression"]
    results, labeled = [], evaluation.labeled
    if gates.accuracy is not None:
        confusion, accuracy = evaluation.confusion, evaluation.confusion.accuracy or 0.0
        low, high = wilson_interval(confusion.correct, confusion.total)
        detail = (
            f"accuracy {percent(accuracy)} ({confusion.correct} of {confusion.total}, "
            f"95 % interval {percent(low)} to {percent(high)}), floor {percent(gates.accuracy)}"
        )
        behind = _cases(outcome for outcome in labeled if not outcome.correct)
        results.append(GateResult("accuracy", accuracy >= gates.accuracy, detail, behind, floor=gates.accuracy))
    if gates.recall:
        parts = [
            (label, floor, [outcome for outcome in labeled if outcome.sample.label == label])
            for label, floor in gates.recall.items()
        ]
        results.append(_judge_parts("recall", parts, labeled))
    if gates.missing is not None:
        unread = [outcome for outcome in labeled if outcome.status == "missing"]
        share = len(unread) / len(labeled)
        detail = (
            f"no label could be read in {percent(share)} ({len(unread)} of {len(labeled)}), "
            f"at most {percent(gates.missing)}"
        )
        results.append(GateResult("missing", share <= gates.missing, detail, _cases(unread)))
    if gates.slices:
        results.append(_judge_parts("slices", _slices(gates, evaluation), labeled))
    if gates.coverage is not None:
        results.append(_judge_coverage(gates.coverage, evaluation))
    return results


def judge_added(
    added: Sequence[Gate], evaluation: Evaluation, baseline: Baseline | None, *, unselected: int = 0
) -> list[GateResult]:
    """Judge the gates of other plugins, under the same conditions as ours; one that cannot judge has failed."""
    reason = why_not_judged(evaluation, unselected)
    results = []
    for gate in added:
        try:
            results.append(GateResult(gate.name, None, reason) if reason else gate.judge(evaluation, baseline))
        except HookError as error:
            results.append(GateResult(gate.name, False, str(error)))
    return results


def strictest(results: Sequence[GateResult]) -> GateResult:
    """Return the result that counts of several for one gate: one that failed, else one that was judged."""
    return min(results, key=lambda result: (result.passed is not False, result.passed is None))


def why_not_judged(evaluation: Evaluation, unselected: int) -> str:
    """Return why no gate can be judged, or nothing."""
    if unselected:
        return f"{unselected} of its samples are not selected: run the whole file to judge it"
    if evaluation.unanswered:
        return f"{len(evaluation.unanswered)} of its samples have no reply: see their cases"
    return "" if evaluation.labeled else "there are no labeled samples"


def _slices(gates: Gates, evaluation: Evaluation) -> list[tuple[str, float, Sequence[Outcome]]]:
    """Return each slice that has a floor: its name, the floor, and its outcomes, if there are any."""
    found: list[tuple[str, float, Sequence[Outcome]]] = []
    for column, floors in gates.slices.items():
        known = {one.value: one.outcomes for one in evaluation.sliced(column)}
        found += [(f"{column} {value}", floor, known.get(value, ())) for value, floor in floors.items()]
    return found


def _judge_parts(
    name: str, parts: Sequence[tuple[str, float, Sequence[Outcome]]], labeled: Sequence[Outcome]
) -> GateResult:
    """Judge a gate with a floor for each of several parts; one without samples shows nothing, and fails."""
    figures, passed, below = [], True, set[str]()
    for title, floor, outcomes in parts:
        right = sum(outcome.correct for outcome in outcomes)
        if not outcomes:
            figures.append(f"{plain(title)}: no samples to show it, floor {percent(floor)}")
            passed = passed and not floor
            continue
        share = right / len(outcomes)
        figures.append(f"{plain(title)}: {percent(share)} of {len(outcomes)}, floor {percent(floor)}")
        if share < floor:
            passed = False
            below.update(_cases(outcomes))
    behind = (outcome for outcome in labeled if not outcome.correct and outcome.sample.case_name in below)
    return GateResult(name, passed, f"{name} {'; '.join(figures)}", _cases(behind))


def _judge_coverage(gate: CoverageGate, evaluation: Evaluation) -> GateResult:
    """Judge how much can be answered at an error; behind a failure are the surest wrong answers."""
    labeled, calibration = evaluation.labeled, evaluation.calibration
    floor = f"floor {percent(gate.at_least)}"
    if calibration is None:
        detail = f"coverage: no reply tells how sure it is (probabilities: true asks for it), {floor}"
        return GateResult("coverage", not gate.at_least, detail)
    best = most_covered(calibration.curve, gate.at_error)
    covered = round(best.coverage * len(labeled)) if best else 0
    answers = sure_answers([judged for _, judged in evaluation.sure])
    low, high = map(percent, coverage_interval(answers, len(labeled), gate.at_error))
    where = f" (abstain_below: {math.floor(best.confidence * 10_000) / 10_000:g})" if best else ""
    detail = (
        f"coverage {percent(covered / len(labeled))} ({covered} of {len(labeled)}, 95 % interval {low} to {high}) "
        f"at {percent(gate.at_error)} error{where}, {floor}"
    )
    wrong = [outcome for outcome, (decided, label) in evaluation.sure if decided.best != label]
    surest = sorted(wrong, key=lambda outcome: -(outcome.confidence or 0.0))
    passed = covered >= gate.at_least * len(labeled)
    return GateResult("coverage", passed, detail, _cases(surest), at_error=gate.at_error)


def judge_regression(comparison: Comparison, *, level: float, tests: int = 1) -> GateResult:
    """Judge whether an evaluation is worse than what it is compared with, beyond chance.

    ``level`` is what p must not exceed, the gate's alpha where it is the only one of a run, else its share by
    Benjamini and Hochberg over the ``tests`` of the run.
    """
    if not comparison.shared:
        return GateResult("regression", None, f"no labeled sample is in {comparison.reference}")
    if comparison.alpha is None or not comparison.can_fail:
        least = least_broken(comparison.alpha or USUAL_ALPHA)
        few = f"{comparison.shared} shared samples are too few: a drop shows with at least {least} broken ones"
        return GateResult("regression", None, few)
    if comparison.is_unchanged:
        said = f"unchanged from {comparison.reference} on {comparison.shared} shared samples"
        return GateResult("regression", True, f"{said}{_smallest_drop(comparison)}")
    failed = comparison.p_value <= level and comparison.change < 0
    low, high = map(points, comparison.interval)
    direction = "worse" if comparison.change < 0 else "better" if comparison.change > 0 else "neither better nor worse"
    moved = f" by {abs(comparison.change) * 100:.1f} points" if comparison.change else ""
    among = f" ({comparison.alpha:g} shared among {tests} comparisons, Benjamini-Hochberg)" if tests > 1 else ""
    why = "above the file's own alpha" if comparison.is_excused_by_alpha else "within chance"
    beyond = "" if failed or comparison.change >= 0 else f", {why}"
    detail = (
        f"{direction} than {comparison.reference}{moved}{beyond} (95 % interval {low} to {high}), "
        f"fixed {len(comparison.fixed)}, broke {len(comparison.broken)} of {comparison.shared}, "
        f"{probability(comparison.p_of_change)}, alpha {level:.2g}{among}"
    )
    return GateResult(
        "regression", not failed, detail if failed else detail + _smallest_drop(comparison), comparison.broken
    )


def _smallest_drop(comparison: Comparison) -> str:
    """Say what drop so many samples find; how many flip by noise alone is taken from those that went each way."""
    assert comparison.alpha is not None
    flips = min(len(comparison.fixed), len(comparison.broken)) / comparison.shared
    drop = detectable_drop(comparison.shared, alpha=comparison.alpha, flips=min(flips, 0.49))
    noise = f"if {percent(flips)} flip each way by noise" if flips else "if nothing flips by noise"
    if drop is None:
        return f"; no drop would be found with 80 % power {noise}"
    return f"; a drop of {drop * 100:.1f} points would be found with 80 % power {noise}"


def _cases(outcomes: Iterator[Outcome] | Sequence[Outcome]) -> tuple[str, ...]:
    return tuple(outcome.sample.case_name for outcome in outcomes)


def listed(names: Sequence[str]) -> str:
    """Return the first names and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
