"""What the page says of a tuning run, as values for the template: verdict, history, steps, suspects, usage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.evaluation.metrics import paired_difference_interval
from pytest_promptfit.reports.page.pictures import History, history_picture
from pytest_promptfit.reports.page.sentences import (
    DiffLine,
    Verdict,
    address,
    diff_view,
    dollars,
    percent,
    shortened,
    unbroken,
)
from pytest_promptfit.reports.tuning import free_classifier_line, price_line
from pytest_promptfit.text import points, probability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.evaluation.verdicts import PromptResult
    from pytest_promptfit.tuning.result import Holdout, Step, TuneResult, TuneUsage


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
class UsageRow:
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
    facts: tuple[str, ...]
    """What a call takes, and whether a language model is needed at all."""
    advice: tuple[str, ...]
    unproven: tuple[DiffLine, ...]
    warnings: tuple[str, ...]
    history: History | None
    steps: tuple[StepView, ...]
    diff: tuple[DiffLine, ...]
    suspects: tuple[Link, ...]
    stages: tuple[UsageRow, ...]
    total: UsageRow
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
        return tuple(map(self._link, names))

    def _link(self, name: str) -> Link:
        found = next((n for n in (name, f"sample-{name}", f"canonical-{name}") if n in self._outcomes), None)
        if found is None:
            return Link(name)
        outcome = self._outcomes[found]
        read = outcome.given if outcome.given is not None else "no label"
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
        verdict=_verdict(result),
        stop_reason=result.stop_reason,
        facts=tuple(_facts(result)),
        advice=result.advice,
        unproven=tuple(diff_view(result.unproven.diff)) if result.unproven else (),
        warnings=result.warnings,
        history=history_picture(result),
        steps=tuple(_step(at, step, cases) for at, step in enumerate(result.steps, 1)),
        diff=tuple(diff_view(result.diff)),
        suspects=cases.links(result.suspects),
        stages=tuple(_usage_row(stage.stage, stage) for stage in result.stages),
        total=_usage_row("all", result.usage),
        task_model=tuning.task_model,
        optimizer_model=tuning.optimizer_model,
    )


def _verdict(result: TuneResult) -> Verdict:
    """Return the verdict on a tuning run: only the holdout says how much was gained."""
    holdout = result.holdout
    sentences = [f"{result.reason[:1].upper()}{result.reason[1:]}.", *(_confirmation(holdout) if holdout else ())]
    if result.canonical_total:
        before, after, total = result.canonical_before, result.canonical_after, result.canonical_total
        sentences.append(f"Canonical samples right: {before} of {total} before, {after} after.")
    usage = result.usage
    needed = usage.task_calls + usage.optimizer_calls
    replayed = "all replayed" if usage.replayed == needed else f"{usage.replayed:,} replayed"
    cost = (
        f"{dollars(usage.paid_usd)} paid now; {usage.task_calls:,} task calls and "
        f"{usage.optimizer_calls:,} optimizer calls were needed, {replayed}."
    )
    sentences.append(f"Cost: {cost}" if needed else "Cost: nothing, no call was needed.")
    if not result.accepted:
        headline = "Tuning left the prompt as it was"
    elif holdout is None or not holdout.n:
        headline = "Tuning improved the prompt"
    else:
        gain = (holdout.after - holdout.before) / holdout.n
        figures = f"{percent(holdout.before / holdout.n)} → {percent(holdout.after / holdout.n)} right"
        did = "improved" if gain > 0 else "changed"
        headline = f"Tuning {did} the prompt: {figures} on the holdout, {points(gain)} points"
    return Verdict("better" if result.accepted else "same", headline, tuple(sentences))


def _confirmation(holdout: Holdout) -> Iterator[str]:
    if not holdout.n:
        yield "There was no holdout to confirm it."
        return
    yield (
        f"On {holdout.n} holdout samples that no decision had looked at it fixed {holdout.fixed} and broke "
        f"{holdout.broken} ({unbroken(probability(holdout.p_value))})."
    )
    low, high = paired_difference_interval(holdout.broken, holdout.fixed, holdout.n)
    yield f"The change in accuracy lies between {points(low)} and {points(high)} points (95\u00a0% interval)."


def _facts(result: TuneResult) -> Iterator[str]:
    if result.cost_before is not None and result.cost_after is not None:
        yield price_line(result.cost_before, result.cost_after)
    if result.free_classifier is not None:
        yield free_classifier_line(result.free_classifier)


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


def _usage_row(name: str, usage: TuneUsage) -> UsageRow:
    return UsageRow(
        name,
        usage.task_calls,
        usage.optimizer_calls,
        usage.input_tokens,
        usage.output_tokens,
        dollars(usage.task_usd),
        dollars(usage.optimizer_usd),
    )
