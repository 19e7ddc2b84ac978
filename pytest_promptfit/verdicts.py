"""From outcomes to verdicts: which cases pass, which are known misses, and what the gates say.

Pure values, made to travel between pytest-xdist's workers; pytest itself is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_promptfit.baseline import Baseline, Comparison, compare
from pytest_promptfit.evaluation import Evaluation, Outcome
from pytest_promptfit.gates import GateResult, judge_gates
from pytest_promptfit.prompt_file import Gates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_promptfit.gates import Gate

Verdict = Literal["passed", "failed", "xfailed", "xpassed", "missed"]
UpdateMode = Literal["no", "yes", "force"]


@dataclass(frozen=True)
class PromptResult:
    """One prompt file after its forward pass: everything that the reports and the baseline need."""

    evaluation: Evaluation
    comparison: Comparison | None
    gates: tuple[GateResult, ...]
    verdicts: dict[str, Verdict]
    known_cases: tuple[str, ...]
    """All cases of the file, the unselected ones too."""
    accepts: bool
    """Whether today's outcomes become the baseline."""
    baseline: Baseline | None = None
    """The baseline that this was compared with."""

    def gate(self, name: str) -> GateResult:
        """Return the verdict of a gate."""
        return next(gate for gate in self.gates if gate.name == name)


def judge(
    evaluation: Evaluation,
    baseline: Baseline | None,
    *,
    gates: Gates,
    added_gates: Sequence[Gate] = (),
    strict: bool,
    known_cases: tuple[str, ...],
    update: UpdateMode = "no",
) -> PromptResult:
    """Judge an evaluation against its baseline (``None``: there is none yet); ``added_gates`` are other plugins'."""
    comparison = compare(baseline, evaluation) if baseline else None
    labeled = sum(not name.startswith("canonical-") for name in known_cases)
    unselected = labeled - len(evaluation.labeled) - len(evaluation.unanswered)
    results = judge_gates(gates, added_gates, evaluation, baseline, comparison, unselected=unselected)
    worse = any(gate.name == "regression" and gate.passed is False for gate in results)
    accepts = update == "force" or (update == "yes" and not worse)

    def verdict(outcome: Outcome) -> Verdict:
        known = baseline is not None and baseline.is_known_miss(outcome.sample.case_name)
        return case_verdict(outcome, strict=strict, known_miss=known, accepts=accepts)

    verdicts = {name: verdict(outcome) for name, outcome in evaluation.by_case.items()}
    return PromptResult(evaluation, comparison, tuple(results), verdicts, known_cases, accepts, baseline)


def case_verdict(outcome: Outcome, *, strict: bool, known_miss: bool, accepts: bool) -> Verdict:
    """Return what a case reports; a canonical sample, or one without a reply, has no excuse."""
    if outcome.reply is None or outcome.sample.canonical:
        return "passed" if outcome.correct else "failed"
    if not strict:
        return "passed" if outcome.correct else "missed"
    if outcome.correct:
        return "xpassed" if known_miss and not accepts else "passed"
    return "xfailed" if known_miss or accepts else "failed"
