"""What a tuning run tells: the steps it tried, the holdout's verdict, what it used. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pytest_promptfit.evaluation.metrics import mcnemar_midp, paired_difference_interval, wilson_interval
from pytest_promptfit.providers.usage import Estimate, Usage, plus


@dataclass(frozen=True)
class Step:
    """A candidate that was put against the incumbent on the dev samples."""

    stage: str
    summary: str
    diff: str = ""
    fixed: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    accepted: bool = False
    verdict: str = ""
    targets: tuple[str, ...] = ()
    calls: int = 0
    """Task calls that the run had needed when the step was decided."""
    right: int = 0
    """The candidate's right answers among ``seen``."""
    seen: int = 0
    """The dev samples that it was put against the incumbent on; none where it was rejected before."""

    @property
    def p_value(self) -> float:
        """One-sided mid-p of so many fixed against broken dev samples when nothing got better."""
        return mcnemar_midp(len(self.fixed), len(self.broken))


@dataclass(frozen=True)
class Holdout:
    """Initial against final prompt on samples that no choice looked at: the only figures to publish."""

    n: int
    before: int
    after: int
    fixed: int
    broken: int

    @property
    def p_value(self) -> float:
        """One-sided mid-p of so many fixed against broken samples when nothing got better."""
        return mcnemar_midp(self.fixed, self.broken)

    @property
    def gain(self) -> float:
        """The change in accuracy, from -1 to 1; 0 without samples."""
        return (self.after - self.before) / self.n if self.n else 0.0

    @property
    def gain_ci95(self) -> tuple[float, float]:
        """The 95 % interval of the change in accuracy between paired outcomes."""
        return paired_difference_interval(self.broken, self.fixed, self.n)

    @property
    def before_ci95(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the initial prompt's accuracy."""
        return wilson_interval(self.before, self.n)

    @property
    def after_ci95(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the final prompt's accuracy."""
        return wilson_interval(self.after, self.n)


@dataclass(frozen=True)
class Score:
    """A candidate in a race: its right answers on the dev samples it was asked when the run had needed so many calls.

    ``calls`` are task calls, ``right`` is a count of the ``seen`` samples.
    """

    stage: str
    summary: str
    calls: int
    right: int
    seen: int


@dataclass(frozen=True)
class Unproven:
    """The best candidate that was not written: the step that put it forward, and what ``--tune-take`` would write.

    ``number`` counts the steps from 1, ``diff`` is a unified diff of the YAML; the figures are on ``seen`` dev samples,
    which chose it, so they flatter it.
    """

    number: int
    summary: str
    right: int
    seen: int
    fixed: int
    broken: int
    diff: tuple[str, ...] = ()


@dataclass(frozen=True)
class TuneUsage:
    """What a run, or one ``stage`` of it, needed of each model; all stages together needed what the run did.

    The USD of ``task`` and ``optimizer`` are those of all replies that were needed, whether paid now or earlier.
    """

    stage: str = ""
    task: Usage = field(default_factory=Usage)
    optimizer: Usage = field(default_factory=Usage)
    paid_usd: float | None = 0.0
    """What this run paid: replayed replies are free."""

    def grown(self, before: TuneUsage, after: TuneUsage) -> TuneUsage:
        """Return this and what was needed between two moments of the run."""
        return TuneUsage(
            self.stage,
            self.task + (after.task - before.task),
            self.optimizer + (after.optimizer - before.optimizer),
            plus(self.paid_usd, plus(after.paid_usd, before.paid_usd, -1)),
        )

    @property
    def task_calls(self) -> int:
        """Replies of the task model."""
        return self.task.calls

    @property
    def optimizer_calls(self) -> int:
        """Replies of the optimizer."""
        return self.optimizer.calls

    @property
    def replayed(self) -> int:
        """Replies of both that were recorded before."""
        return self.task.replayed + self.optimizer.replayed

    @property
    def input_tokens(self) -> int:
        """Tokens that both were given."""
        return self.task.input_tokens + self.optimizer.input_tokens

    @property
    def output_tokens(self) -> int:
        """Tokens that both have written."""
        return self.task.output_tokens + self.optimizer.output_tokens

    @property
    def task_usd(self) -> float | None:
        """USD of the task model's replies; ``None`` where a price is not known."""
        return self.task.usd

    @property
    def optimizer_usd(self) -> float | None:
        """USD of the optimizer's replies; ``None`` where a price is not known."""
        return self.optimizer.usd


@dataclass(frozen=True)
class TuneResult:
    """One prompt file after a tuning run."""

    path: str
    accepted: bool
    reason: str
    stop_reason: str
    steps: tuple[Step, ...] = ()
    scores: tuple[Score, ...] = ()
    """One for each candidate in each round of the race, in order; the prompt as it was is one of them."""
    stages: tuple[TuneUsage, ...] = ()
    """In the order in which they were first entered; the holdout and the recording at the end are stages, too."""
    holdout: Holdout | None = None
    fresh: Holdout | None = None
    """The holdout and all other samples that the search had not met: what the verdict stands on, besides dev."""
    p_value: float | None = None
    """How often a run whose prompts are no better comes out so well; ``None`` where it was not asked."""
    canonical_total: int = 0
    canonical_before: int = 0
    canonical_after: int = 0
    usage: TuneUsage = field(default_factory=TuneUsage)
    cost_before: Estimate | None = None
    """What a call takes under the prompt as it was, and under the one that was written; of the same samples."""
    cost_after: Estimate | None = None
    free_classifier: Holdout | None = None
    """A classifier without any language model (before) against the prompt that is left in the file (after)."""
    advice: tuple[str, ...] = ()
    """What to do next where nothing was better."""
    unproven: Unproven | None = None
    diff: tuple[str, ...] = ()
    """The change of the YAML, as a unified diff."""
    text: str = ""
    """The YAML as it is after the run."""
    suspects: tuple[str, ...] = ()
    """Cases that every candidate got wrong: their labels are worth a look."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TuneFailure:
    """A tuning run that an error ended; the prompt file is as it was."""

    path: str
    reason: str
    accepted: Literal[False] = False
