"""What the page says of a tuning run, as values for the template: verdict, history, steps, suspects, spending."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.reports.page.cases import address
from pytest_promptfit.reports.page.diffs import DiffLine, diff_view
from pytest_promptfit.reports.page.marks import shortened, unbroken
from pytest_promptfit.reports.page.pictures import History, history_picture
from pytest_promptfit.reports.page.sentences import Verdict, dollars, verdict_on_tuning
from pytest_promptfit.text import probability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.evaluation.verdicts import PromptResult
    from pytest_promptfit.tuning.result import Step, TuneResult


@dataclass(frozen=True)
class Tuning:
    """A tuning run and the models that it asked."""

    result: TuneResult
    task_model: str
    optimizer_model: str = ""


@dataclass(frozen=True)
class Link:
    """A sample that a step or a suspicion is about; ``address`` is empty where the page does not hold its case."""

    name: str
    address: str = ""
    text: str = ""
    label: str = ""
    read: str = ""


@dataclass(frozen=True)
class StepView:
    """One step, with the samples it was made for, fixed and broke."""

    number: int
    stage: str
    summary: str
    accepted: bool
    verdict: str
    p: str
    share: str
    """Right of seen dev samples, where the run says so."""
    calls: int
    diff: tuple[DiffLine, ...]
    targets: tuple[Link, ...]
    fixed: tuple[Link, ...]
    broken: tuple[Link, ...]


@dataclass(frozen=True)
class UsageView:
    """What a stage, or all of them, asked of the task and the optimizer model."""

    name: str
    task_calls: int
    optimizer_calls: int
    tokens_in: int
    tokens_out: int
    task_usd: str
    optimizer_usd: str


@dataclass(frozen=True)
class TuningView:
    """Everything that the page says of one tuning run."""

    number: int
    path: str
    verdict: Verdict
    stop_reason: str
    warnings: tuple[str, ...]
    history: History | None
    steps: tuple[StepView, ...]
    diff: tuple[DiffLine, ...]
    suspects: tuple[Link, ...]
    stages: tuple[UsageView, ...]
    total: UsageView
    task_model: str
    optimizer_model: str

    @property
    def accepted_steps(self) -> int:
        """How many candidates took the place of the prompt."""
        return sum(step.accepted for step in self.steps)


class Cases:
    """Finds the cases that a tuning run names, by their names or the ids of their samples."""

    def __init__(self, prompt: str, outcomes: Mapping[str, Outcome]) -> None:
        self._prompt = prompt
        self._outcomes = outcomes

    def links(self, names: Iterable[str]) -> tuple[Link, ...]:
        """Return a link for each name, bare where the page does not hold the case."""
        return tuple(self._link(name) for name in names)

    def _link(self, name: str) -> Link:
        found = next((n for n in (name, f"sample-{name}", f"canonical-{name}") if n in self._outcomes), None)
        if found is None:
            return Link(name)
        outcome = self._outcomes[found]
        read = outcome.predicted if outcome.predicted is not None else "no label"
        text = shortened(outcome.sample.text, 160)
        return Link(found, address(self._prompt, found), text, outcome.sample.label, read)


def tuning_view(
    tuning: Tuning, number: int, results: Iterable[PromptResult], relative: Callable[[str], str]
) -> TuningView:
    """Return what the page says of a tuning run; ``results`` hold the cases to link to."""
    result = tuning.result
    same = next((r.evaluation for r in results if r.evaluation.path == result.path), None)
    cases = Cases(same.name, same.by_case) if same else Cases("", {})
    return TuningView(
        number=number,
        path=relative(result.path),
        verdict=verdict_on_tuning(result),
        stop_reason=result.stop_reason,
        warnings=result.warnings,
        history=history_picture(result),
        steps=tuple(_step(at, step, cases) for at, step in enumerate(result.steps, 1)),
        diff=tuple(diff_view(result.diff)),
        suspects=cases.links(result.suspects),
        stages=tuple(_stages(result)),
        total=_total(result),
        task_model=tuning.task_model,
        optimizer_model=tuning.optimizer_model,
    )


def _step(number: int, step: Step, cases: Cases) -> StepView:
    said = "" if step.verdict in ("accept", "reject") else step.verdict
    return StepView(
        number=number,
        stage=step.stage,
        summary=step.summary,
        accepted=step.accepted,
        verdict=said,
        p=unbroken(probability(step.p_value)) if step.fixed or step.broken else "",
        share=f"{step.right} of {step.seen}" if step.seen else "",
        calls=step.calls,
        diff=tuple(diff_view(step.diff.split("\n"))) if step.diff else (),
        targets=cases.links(step.targets),
        fixed=cases.links(step.fixed),
        broken=cases.links(step.broken),
    )


def _stages(result: TuneResult) -> Iterator[UsageView]:
    for stage in result.stages:
        yield UsageView(
            stage.stage,
            stage.task_calls,
            stage.optimizer_calls,
            stage.input_tokens,
            stage.output_tokens,
            dollars(stage.task_usd),
            dollars(stage.optimizer_usd),
        )


def _total(result: TuneResult) -> UsageView:
    usage = result.usage
    return UsageView(
        "all",
        usage.task_calls,
        usage.optimizer_calls,
        usage.input_tokens,
        usage.output_tokens,
        dollars(usage.task_usd),
        dollars(usage.optimizer_usd),
    )
