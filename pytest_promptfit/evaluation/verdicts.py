"""From outcomes to verdicts: what changed, which cases pass, which are known misses, and what the gates say.

Pure values, made to travel between pytest-xdist's workers; pytest itself is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pytest_promptfit.evaluation.baseline import Baseline, Comparison, compare
from pytest_promptfit.evaluation.gates import (
    GateResult,
    judge_added,
    judge_floors,
    judge_regression,
    strictest,
    why_not_judged,
)
from pytest_promptfit.evaluation.metrics import benjamini_hochberg, least_broken
from pytest_promptfit.evaluation.outcomes import Evaluation, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_promptfit.evaluation.gates import Gate
    from pytest_promptfit.prompts.model import Gates

Verdict = Literal["passed", "failed", "xfailed", "xpassed", "missed", "waiting"]
UpdateMode = Literal["no", "yes", "force"]

CONTRACT_SHOWN = 3
"""Loosened things that a gate's one line names; its case lists all."""

PART = "samples are not selected: run the whole file"
"""Why the contract is not held: whoever deselects a sample takes it from the contract."""

DESELECTED = "deselected in this run"
"""Why a gate decides nothing whose case is not selected: pytest's exit code does not know it."""

LET_GO = "asked for by no version that judges this run"
"""Why a gate decides nothing whose removal is accepted: its case was collected before that was known."""

OWN = "its baseline"
"""What the committed baseline beside a prompt file is called where it is compared with."""


@dataclass(frozen=True)
class Reference:
    """A version that a run is judged by: its accepted outcomes and gates, on its own samples.

    ``evaluation`` holds the run's replies to the samples of that version, read and labeled as it does.
    ``loosened`` lists what the change takes from its contract, ``None`` where nothing is held to one;
    ``accepts`` says that a person accepts that. ``moved_from`` is the file's path there where it was another,
    ``pool_change`` how the rows differ that its nearest examples are drawn from.
    """

    name: str
    evaluation: Evaluation
    baseline: Baseline | None
    gates: Gates
    loosened: tuple[str, ...] | None = None
    accepts: bool = False
    moved_from: str = ""
    pool_change: str = ""

    @property
    def alpha(self) -> float | None:
        """The level of its regression gate; ``None`` where it has none."""
        return self.gates.regression.alpha if self.gates.regression else None


@dataclass(frozen=True)
class PromptResult:
    """One prompt file after its forward pass: everything that the reports and the baseline need.

    ``comparisons`` are with the committed baseline, if there is one, and then with each git ref that was named.
    """

    evaluation: Evaluation
    comparisons: tuple[Comparison, ...]
    gates: tuple[GateResult, ...]
    known_cases: tuple[str, ...]
    """All cases of the file, the unselected ones too."""
    strict: bool = False
    update: UpdateMode = "no"
    baseline: Baseline | None = None
    """The committed baseline."""
    against: tuple[str, ...] = ()
    """The git refs that it was judged by."""
    deselected: tuple[str, ...] = ()
    """The gates whose cases are not selected."""
    worse_than: tuple[str, ...] = ()
    """The references of the comparisons that are worse beyond chance, whether or not the gate's case is selected."""

    def gate(self, name: str) -> GateResult:
        """Return the verdict of a gate; none of one that a version had, and that a person let go of."""
        return next((gate for gate in self.gates if gate.name == name), GateResult(name, None, LET_GO))

    @property
    def comparison(self) -> Comparison | None:
        """The comparison to speak of: the one that fails, else that with the first git ref, else with the baseline."""
        if self.is_worse:
            return min((one for one in self.comparisons if one.alpha is not None), key=self.weight)
        return min(self.comparisons, key=self.rank, default=None)

    def rank(self, comparison: Comparison) -> int:
        """Return where a comparison that does not fail is spoken of: git refs as they were named, then the baseline."""
        return self.against.index(comparison.reference) if comparison.reference in self.against else len(self.against)

    def weight(self, comparison: Comparison) -> tuple[float, bool]:
        """Return what comparisons are ordered by, the worst first; a git ref comes before the own baseline."""
        return comparison.p_value / (comparison.alpha or 1.0), comparison.reference == OWN

    @property
    def is_worse(self) -> bool:
        """Whether it is worse beyond chance than anything that the regression gate compares it with."""
        return bool(self.worse_than)

    @property
    def is_undecided(self) -> bool:
        """Whether gates could be judged and their cases are deselected: then nothing says that the file passes."""
        return bool(self.deselected) and not why_not_judged(self.evaluation, self.unselected)

    @property
    def is_waiting(self) -> bool:
        """Whether replies are still to come."""
        return any(outcome.waits for outcome in self.evaluation.outcomes)

    @cached_property
    def refusal(self) -> str:
        """Why today's outcomes do not become the baseline although that was asked for; empty when they do."""
        if self.update != "yes":
            return ""
        if self.is_worse:
            return "worse beyond chance (--promptfit-update=force accepts it)"
        own = next((one for one in self.comparisons if one.reference == OWN), None)
        if own and own.alpha is not None and own.broken and self.unselected:
            return (
                f"{len(own.broken)} of the selected samples are newly wrong, and a part of the samples cannot show "
                "that the whole is not worse: run the whole file (--promptfit-update=force accepts it)"
            )
        return ""

    @property
    def unselected(self) -> int:
        """How many labeled samples of the file are not part of this run."""
        labeled = sum(not name.startswith("canonical-") for name in self.known_cases)
        return labeled - len(self.evaluation.labeled) - len(self.evaluation.unanswered)

    @property
    def accepts(self) -> bool:
        """Whether today's outcomes become the baseline."""
        return self.update != "no" and not self.refusal

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """What each case reports.

        In a strict file the committed baseline excuses a miss, unless a git ref that knew it right is regressed
        from: a change must not excuse its own regression.
        """
        misses = {name for name in self.evaluation.by_case if self.baseline and self.baseline.is_known_miss(name)}
        if self.is_worse:
            misses -= {name for one in self.comparisons if one.reference in self.against for name in one.broken}
        return {
            name: case_verdict(outcome, strict=self.strict, known_miss=name in misses, accepts=self.accepts)
            for name, outcome in self.evaluation.by_case.items()
        }

    @property
    def failed_cases(self) -> list[str]:
        """The cases that fail, canonical ones first, as they stand in the file."""
        return [name for name, verdict in self.verdicts.items() if verdict == "failed"]

    @property
    def failed_gates(self) -> list[GateResult]:
        """The gates that fail; a regression that is accepted by force does not."""
        return [
            gate for gate in self.gates if gate.passed is False and not (gate.name == "regression" and self.accepts)
        ]

    @property
    def fails(self) -> bool:
        """Whether any case or gate of the file fails."""
        return bool(self.failed_cases or self.failed_gates)


def judge(
    evaluation: Evaluation,
    baseline: Baseline | None,
    *,
    gates: Gates,
    added_gates: Sequence[Gate] = (),
    strict: bool,
    known_cases: tuple[str, ...],
    update: UpdateMode = "no",
    against: Sequence[Reference] = (),
    deselected: Sequence[str] = (),
) -> PromptResult:
    """Judge an evaluation by its own gates and committed baseline, and by each git ref in ``against``.

    ``baseline`` is ``None`` where there is none yet; ``added_gates`` are other plugins'. Where several judge the
    same gate the strictest counts. Gates that are ``deselected`` decide nothing; where the one of the contract is not,
    a sample that is not selected is taken from the contract.
    How many comparisons share their alpha is known later: see ``settled``.
    """
    own = Reference(OWN, evaluation, baseline, gates)
    result = PromptResult(
        evaluation=evaluation,
        comparisons=tuple(
            compare(one.baseline, one.evaluation, reference=one.name, alpha=one.alpha)
            for one in (own, *against)
            if one.baseline
        ),
        gates=(),
        known_cases=known_cases,
        strict=strict,
        update=update,
        baseline=baseline,
        against=tuple(one.name for one in against),
        deselected=tuple(deselected),
    )
    found = judge_floors(gates, evaluation, unselected=result.unselected)
    for one in against[:1]:
        theirs = judge_floors(one.gates, one.evaluation, unselected=result.unselected)
        found += [replace(gate, detail=f"by {one.name}'s gate: {gate.detail}") for gate in theirs]
    if any(one.alpha for one in (own, *against)):
        where = f", neither here nor at {' or '.join(one.name for one in against)}" if against else " yet"
        reason = why_not_judged(evaluation, result.unselected) or f"no baseline{where}: --promptfit-update writes it"
        found.append(GateResult("regression", None, reason))
    found += judge_added(added_gates, evaluation, baseline, unselected=result.unselected)
    unheld = len(known_cases) - len(evaluation.outcomes)
    found += _contract([one for one in against if one.loosened is not None], unheld, fails="contract" not in deselected)
    names = dict.fromkeys(gate.name for gate in found)
    counted = (strictest([gate for gate in found if gate.name == name]) for name in names)
    return settled([replace(result, gates=tuple(_decided(gate, result) for gate in counted))])[0]


def _decided(gate: GateResult, result: PromptResult) -> GateResult:
    """Return a gate's verdict, which is none where its case is deselected."""
    is_deselected = gate.passed is not None and gate.name in result.deselected
    return GateResult(gate.name, None, DESELECTED) if is_deselected else gate


def settled(results: Sequence[PromptResult], *, tests: int = 0) -> list[PromptResult]:
    """Judge the regression gates of a whole run: their alpha is shared among the comparisons that could fail.

    With 200 unchanged prompts each at alpha 0.05 ten false alarms are to be expected, so Benjamini and Hochberg
    decide over the run. A comparison in which too few samples changed for p to reach alpha takes no share
    (Gilbert 2005, JRSS C 54, p. 143; Tarone 1990). ``tests`` says how many comparisons there are where
    pytest-xdist gave some to other workers: each then has its smallest possible share, and the whole run is
    settled when all are known.
    """
    sharing = [
        one
        for result in results
        for one in _judged(result)
        if one.alpha is not None and len(one.fixed) + len(one.broken) >= least_broken(one.alpha)
    ]
    levels = benjamini_hochberg([one.p_value for one in sharing], [one.alpha or 1.0 for one in sharing])
    if tests:
        levels = [min(level, (one.alpha or 1.0) / tests) for level, one in zip(levels, sharing, strict=True)]
    level_of = {id(one): level for one, level in zip(sharing, levels, strict=True)}
    return [_with_regression(result, level_of, tests or len(sharing)) for result in results]


def _with_regression(result: PromptResult, level_of: dict[int, float], tests: int) -> PromptResult:
    judged = [
        (
            one,
            judge_regression(
                one, level=level_of.get(id(one), one.alpha or 1.0), tests=tests if id(one) in level_of else 1
            ),
        )
        for one in sorted(_judged(result), key=result.rank)
    ]
    if not judged:
        return result
    failing = [(one, gate) for one, gate in judged if gate.passed is False]
    # What the gate's line says is of the comparison that the verdict speaks of.
    if failing:
        counted = min(failing, key=lambda pair: result.weight(pair[0]))[1]
    else:
        counted = strictest([gate for _, gate in judged])
    counted = _decided(counted, result)
    gates = tuple(counted if gate.name == "regression" else gate for gate in result.gates)
    return replace(result, gates=gates, worse_than=tuple(one.reference for one, _ in failing))


def _judged(result: PromptResult) -> list[Comparison]:
    """Return the comparisons that the regression gate judges: none where samples are unselected or unanswered."""
    if why_not_judged(result.evaluation, result.unselected):
        return []
    return [one for one in result.comparisons if one.alpha is not None]


def _contract(held: Sequence[Reference], unselected: int, *, fails: bool) -> list[GateResult]:
    """Return the gate that fails where a change takes something from the contract of a version, unless accepted.

    Of a part of the samples nothing is accepted; ``fails`` says that leaving some out fails too.
    """
    if not held:
        return []
    names = " and ".join(one.name for one in held)
    moved = "".join(f"; compared with {one.name}:{one.moved_from}" for one in held if one.moved_from)
    moved += "".join(f"; {one.pool_change} since {one.name}" for one in held if one.pool_change)
    lines = tuple(f"{line} (at {one.name})" for one in held for line in one.loosened or ())
    if unselected and (fails or not lines):
        return [GateResult("contract", False if fails else None, f"{unselected} {PART}")]
    if not lines:
        return [
            GateResult("contract", True, f"nothing that {names} hold{'s' * (len(held) == 1)} it to is loosened{moved}")
        ]
    accepts = held[0].accepts
    how = "accepted by --promptfit-accept-contract" if accepts else "--promptfit-accept-contract lets it through"
    rest = f"; and {len(lines) - CONTRACT_SHOWN} more" if len(lines) > CONTRACT_SHOWN else ""
    detail = f"looser than {names}: {'; '.join(lines[:CONTRACT_SHOWN])}{rest}{moved} ({how})"
    return [GateResult("contract", accepts, detail, lines, head=f"looser than {names}{moved} ({how}):")]


def case_verdict(outcome: Outcome, *, strict: bool, known_miss: bool, accepts: bool) -> Verdict:
    """Return what a case reports; a canonical sample, or one without a reply that may come, has no excuse."""
    if outcome.waits:
        return "waiting"
    if outcome.reply is None or outcome.sample.canonical:
        return "passed" if outcome.correct else "failed"
    if not strict:
        return "passed" if outcome.correct else "missed"
    if outcome.correct:
        return "xpassed" if known_miss and not accepts else "passed"
    return "xfailed" if known_miss or accepts else "failed"
