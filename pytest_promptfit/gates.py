"""Gates: what the figures of a whole prompt must reach. Pure: an evaluation in, verdicts out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_promptfit.errors import HookError
from pytest_promptfit.metrics import detectable_difference, wilson_interval
from pytest_promptfit.report.text import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_promptfit.baseline import Baseline, Comparison
    from pytest_promptfit.evaluation import Evaluation, Outcome
    from pytest_promptfit.prompt_file import Gates

SMALL_DROP = 0.10
"""A set that cannot find a drop of this size gets a warning."""
SHOWN = 10


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
        "regression": gates.regression is not None,
    }
    return [name for name, wanted in asked.items() if wanted]


def judge_gates(
    gates: Gates,
    added: Sequence[Gate],
    evaluation: Evaluation,
    baseline: Baseline | None,
    comparison: Comparison | None,
    *,
    unselected: int = 0,
) -> list[GateResult]:
    """Judge our gates and the ``added`` ones; ``unselected`` labeled samples leave all of them without a verdict."""
    names = gate_names(gates)
    reason = _why_not(evaluation, unselected)
    if reason:
        return [GateResult(name, None, reason) for name in (*names, *(gate.name for gate in added))]
    own = [_judge(name, gates, evaluation, comparison) for name in names]
    return [*own, *(_judge_added(gate, evaluation, baseline) for gate in added)]


def _judge_added(gate: Gate, evaluation: Evaluation, baseline: Baseline | None) -> GateResult:
    """Judge another plugin's gate; one that cannot judge has failed."""
    try:
        return gate.judge(evaluation, baseline)
    except HookError as error:
        return GateResult(gate.name, False, str(error))


def _why_not(evaluation: Evaluation, unselected: int) -> str:
    if unselected:
        return f"{unselected} of its samples are not selected: run the whole file to judge it"
    if evaluation.unanswered:
        return f"{len(evaluation.unanswered)} of its samples have no reply: see their cases"
    return "" if evaluation.labeled else "there are no labeled samples"


def _judge(name: str, gates: Gates, evaluation: Evaluation, comparison: Comparison | None) -> GateResult:
    if name == "accuracy":
        return _judge_accuracy(gates.accuracy or 0.0, evaluation)
    if name == "recall":
        return _judge_recall(gates, evaluation)
    if name == "missing":
        return _judge_missing(gates.missing or 0.0, evaluation)
    alpha = gates.regression.alpha if gates.regression else 0.05
    return judge_regression(alpha, comparison)


def _judge_accuracy(floor: float, evaluation: Evaluation) -> GateResult:
    confusion = evaluation.confusion
    low, high = wilson_interval(confusion.correct, confusion.total)
    accuracy = confusion.accuracy or 0.0
    detail = (
        f"accuracy {accuracy:.3f} ({confusion.correct} of {confusion.total}, "
        f"95 % interval {low:.3f}-{high:.3f}), floor {floor:g}"
    )
    behind = _cases(o for o in evaluation.labeled if not o.correct)
    return GateResult("accuracy", accuracy >= floor, detail, behind, floor=floor)


def _judge_recall(gates: Gates, evaluation: Evaluation) -> GateResult:
    figures, passed, below = [], True, set()
    by_label = evaluation.confusion.by_label
    for label, floor in gates.recall.items():
        metrics = by_label.get(label)
        if metrics is None or not metrics.support:
            figures.append(f"{plain(label)}: no samples, floor {floor:g}")
            continue
        figures.append(f"{plain(label)}: {metrics.recall:.3f} of {metrics.support}, floor {floor:g}")
        if metrics.recall < floor:
            passed = False
            below.add(label)
    missed = (o for o in evaluation.labeled if not o.correct and o.sample.label in below)
    return GateResult("recall", passed, "recall " + "; ".join(figures), _cases(missed))


def _judge_missing(ceiling: float, evaluation: Evaluation) -> GateResult:
    unread = [outcome for outcome in evaluation.labeled if outcome.status == "missing"]
    share = len(unread) / len(evaluation.labeled)
    detail = f"no label could be read in {share:.3f} ({len(unread)} of {len(evaluation.labeled)}), at most {ceiling:g}"
    return GateResult("missing", share <= ceiling, detail, _cases(unread))


def judge_regression(alpha: float, comparison: Comparison | None) -> GateResult:
    """Judge whether an evaluation is worse than its baseline beyond chance, at one-sided level ``alpha``."""
    if comparison is None:
        return GateResult("regression", None, "no baseline yet: --promptfit-update writes it")
    if not comparison.shared:
        return GateResult("regression", None, "no labeled sample is in the baseline: --promptfit-update renews it")
    p_value = comparison.p_value
    drop = detectable_difference(comparison.shared, alpha=alpha)
    fixed, broken = len(comparison.fixed), len(comparison.broken)
    detail = (
        f"fixed {fixed}, broken {broken} of {comparison.shared} shared samples, p = {p_value:.3g}, alpha {alpha:g}; "
        f"a drop of {drop * 100:.1f} points would be found with 80 % power"
    )
    warning = ""
    if drop > SMALL_DROP:
        warning = f"{comparison.shared} shared samples are too few to find a drop of 10 points (only {drop * 100:.1f})"
    return GateResult("regression", p_value > alpha, detail, comparison.broken, warning)


def _cases(outcomes: Iterator[Outcome] | Sequence[Outcome]) -> tuple[str, ...]:
    return tuple(outcome.sample.case_name for outcome in outcomes)


def listed(names: Sequence[str]) -> str:
    """Return the first names and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
