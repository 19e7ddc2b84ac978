"""What a tuning run has used and may use, for which part of the samples, and what it is at, told live.

Every reply that was needed counts, replayed or not: so a run that was killed and started again decides as
the unbroken one, and stops where that stopped. What was paid in this run is told apart.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.split import stratified_order
from pytest_promptfit.providers.asking import DEFAULT_MAX_OUTPUT
from pytest_promptfit.providers.replies import reply_limit
from pytest_promptfit.providers.usage import Estimate, Pace, Usage, most_usd, plus
from pytest_promptfit.text import counted, percent
from pytest_promptfit.tuning.memory import Earlier
from pytest_promptfit.tuning.result import Score, Step, TuneUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_promptfit.chat.reply import ChatReply
    from pytest_promptfit.prompts.model import ModelSpec, Prompt, TuneLimits
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.prompts.split import Split


TASK_CALLS, OPTIMIZER_CALLS = 600, 20
"""The limits of a file that sets none."""


class OutOfBudget(PromptfitError):  # noqa: N818 - it ends a stage, not the run
    """The next calls would pass a limit."""


class OptimizerSpent(OutOfBudget):
    """The optimizer may not be asked any more; what does not need it may go on."""


Amounts = dict[str, float]
"""USD, seconds and tokens, by the names of their limits in ``tune.budget``."""


def amounts_of(calls: Sequence[Estimate], at_once: int = 1) -> Amounts:
    """Return what calls take together, when so many are in flight at once."""
    return {
        "usd": sum(call.usd or 0.0 for call in calls),
        "seconds": sum(call.seconds or 0.0 for call in calls) / at_once,
        "tokens": sum(call.input_tokens + call.output_tokens for call in calls),
    }


@dataclass
class Rates:
    """What the calls to one model have taken at most, from which the next ones are foreseen."""

    spec: ModelSpec
    tokens_per_byte: float = 0.0
    output_tokens: int = 0
    seconds: float = 0.0
    replies: int = 0
    """So many were seen."""

    def see(self, request_body: str, reply: ChatReply, seconds: float) -> None:
        """Take note of a reply to a JSON body."""
        self.tokens_per_byte = max(self.tokens_per_byte, max(1, reply.input_tokens) / len(request_body.encode()))
        self.output_tokens = max(self.output_tokens, reply.output_tokens)
        self.seconds = max(self.seconds, seconds)
        self.replies += 1

    def foresee(self, payload: Mapping[str, Any]) -> Estimate:
        """Return what a call is expected to take at most; before any reply was seen, the most that it can."""
        size = len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
        limit = reply_limit(payload)
        most = DEFAULT_MAX_OUTPUT if limit is None else limit
        given = math.ceil(size * (self.tokens_per_byte if self.replies else 1))  # no token is shorter than a byte
        written = min(most, self.output_tokens) if self.replies else most
        usd = most_usd(self.spec, given, written)
        return Estimate(1, given, written, usd, measured_on=self.replies, seconds=self.seconds)


@dataclass
class Meter:
    """Counts what is needed against the limits; ``reserved`` task calls are set aside for the end."""

    budget: TuneLimits
    reserved: int = 0
    task: Usage = field(default_factory=Usage)
    optimizer: Usage = field(default_factory=Usage)
    """What was needed of each model so far; USD are those of all replies, paid now or earlier."""
    paid_usd: float | None = 0.0
    seconds: float = 0.0
    """The replies' own latencies, shared by the calls that were in flight at once: the same in a replay."""
    answered: int = 0
    """Calls that were answered since they were last counted: what a progress line shows of a batch under way."""
    dearest: Amounts = field(default_factory=dict)
    """The most that a task call was expected to take: what each of those set aside may take."""

    @property
    def usage(self) -> TuneUsage:
        """What was needed so far."""
        return TuneUsage("", self.task, self.optimizer, self.paid_usd)

    def pay(self, usd: float | None) -> None:
        """Count what this run paid for a reply."""
        self.paid_usd = plus(self.paid_usd, usd)

    def expect(self, call: Amounts) -> None:
        """Take note of what a task call is expected to take."""
        self.dearest = {name: max(amount, self.dearest.get(name, 0.0)) for name, amount in call.items()}

    @property
    def task_limit(self) -> int:
        """The task calls that the run may need in all."""
        return self.budget.task_calls or TASK_CALLS

    @property
    def optimizer_limit(self) -> int:
        """The optimizer calls that the run may need in all."""
        return OPTIMIZER_CALLS if self.budget.optimizer_calls is None else self.budget.optimizer_calls

    @property
    def task_calls_left(self) -> int:
        """Task calls that may still be needed before those set aside."""
        return max(0, self.task_limit - self.reserved - self.task.calls)

    @property
    def limits(self) -> dict[str, tuple[float, float, float]]:
        """The limits that are set besides those of calls: limit, used, and set aside for each call to come."""
        needed = self.task + self.optimizer
        used = {
            "usd": needed.usd or 0.0,  # no limit in USD is set where it is not known
            "seconds": self.seconds,
            "tokens": needed.input_tokens + needed.output_tokens,
        }
        found = ((name, getattr(self.budget, name), amount) for name, amount in used.items())
        return {name: (limit, use, self.dearest.get(name, 0.0)) for name, limit, use in found if limit is not None}

    def affordable(self, call: Amounts) -> int:
        """Return how many more task calls that take so much fit into all limits, besides those set aside."""
        fitting = [self.task_calls_left]
        for name, (limit, used, dearest) in self.limits.items():
            if (one := call[name]) > 0:
                fitting.append(int((limit - used - self.reserved * max(one, dearest)) / one))
        return max(0, min(fitting))

    def check_task(self, calls: int, together: Amounts) -> None:
        """Raise OutOfBudget when ``calls`` more task calls, which take so much ``together``, would pass a limit."""
        if calls > self.task_calls_left:
            raise OutOfBudget(
                f"the budget of {self.task_limit} task calls is used up: {self.task.calls} needed so far, "
                f"{self.reserved} set aside for the end"
            )
        if calls:
            self._check_others(together)

    def check_optimizer(self, call: Amounts | None = None) -> None:
        """Raise OutOfBudget when one more optimizer call, which takes so much, would pass a limit."""
        if self.optimizer.calls >= self.optimizer_limit:
            raise OptimizerSpent(f"the budget of {self.optimizer_limit} optimizer calls is used up")
        self._check_others(call or {})

    def _check_others(self, more: Amounts) -> None:
        shown = {"usd": "${:.4g}", "seconds": "{:.4g} seconds", "tokens": "{:.0f} tokens"}
        for name, (limit, used, dearest) in self.limits.items():
            aside = self.reserved * dearest
            if used + more.get(name, 0.0) + aside > limit:
                amounts = [shown[name].format(amount) for amount in (limit, used, aside)]
                raise OutOfBudget(
                    "the budget of {} is used up: {} needed so far, {} set aside for the end".format(*amounts)
                )


@dataclass
class History:
    """The record of one run; ``notify`` is told a line whenever something happened."""

    meter: Meter
    notify: Callable[[str], None]
    stage: str = ""
    left: int = 0
    """What the stage has left: candidates of a race, rounds of reflection."""
    steps: list[Step] = field(default_factory=list)
    candidates: list[Prompt] = field(default_factory=list)
    """The prompt that each step put forward."""
    incumbents: list[Prompt] = field(default_factory=list)
    """The prompt that each step was put against."""
    earlier: Earlier = field(default_factory=Earlier)
    """What is known of earlier runs."""
    scores: list[Score] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    """Seconds; only what is told depends on it."""
    _pace: Pace = field(default_factory=Pace)
    _entered: list[tuple[str, TuneUsage]] = field(default_factory=list)
    """The stages as they were entered, with what the run had used by then."""

    def enter(self, stage: str, left: int = 0) -> None:
        """Note and tell where the run is now."""
        self.stage, self.left = stage, left
        self._entered.append((stage, self.meter.usage))
        self.tell()

    def tell(self) -> None:
        """Tell what the run is at: stage, the best prompt so far, and the calls, time and money it takes."""
        done, limit = self.meter.task.calls + self.meter.answered, self.meter.task_limit
        self._pace.note(self.clock(), done)
        stage = f"{self.stage} ({self.left} left)" if self.left else self.stage
        time_left = self._pace.left(limit - done)
        paid = f"; ${self.meter.paid_usd:.4f} paid" if self.meter.paid_usd else ""
        calls = f"{limit - done} calls{f', {time_left}' if time_left else ''} left"
        self.notify(f"tuning: {stage}; {self._best()}; {calls}{paid}")  # as short as a line that is rewritten must be

    def _best(self) -> str:
        """Return how good the best prompt so far is: the last that was accepted, else the one that leads a race."""
        accepted = [step for step in self.steps if step.accepted]
        if accepted and not accepted[-1].seen:
            return f"{len(accepted)} of {counted(len(self.steps), 'step')} accepted"
        if not (accepted or self.scores):
            return "nothing better yet"
        best = accepted[-1] if accepted else max(self.scores, key=lambda score: (score.seen, score.right))
        return f"best so far {percent(best.right / best.seen)} of {best.seen}"

    def stages(self) -> tuple[TuneUsage, ...]:
        """Return what each stage needed, in the order in which they were first entered."""
        found: dict[str, TuneUsage] = {}
        for (stage, before), (_, after) in pairwise([*self._entered, ("", self.meter.usage)]):
            found[stage] = found.get(stage, TuneUsage(stage)).grown(before, after)
        return tuple(found.values())


@dataclass(frozen=True)
class Shares:
    """What the budget leaves for each part: with many samples and few calls not all of dev and holdout are looked at.

    ``reserved`` task calls are set aside for the end: the holdout under two prompts, and train samples, whose replies
    the verdict and the recordings need, too. They are two thirds of the calls at most.
    """

    holdout: tuple[Sample, ...]
    dev_size: int
    reserved: int
    warnings: tuple[str, ...]


def shares_of(parts: Split, budget: TuneLimits) -> Shares:
    """Return the shares of a budget."""
    limit = Meter(budget).task_limit
    held = min(len(parts.holdout), max(1, limit // 6))
    reserved = 2 * held + min(len(parts.train), limit // 3)
    # The race needs its part, and then winner and incumbent must get through dev, or nothing is ever accepted.
    dev_size = min(len(parts.dev), max(1, (limit - reserved) // 3))
    warnings = [
        f"{limit} task calls are few for {len(samples)} {name} samples: {size} of them are looked at"
        for name, samples, size in (("dev", parts.dev, dev_size), ("holdout", parts.holdout, held))
        if size < len(samples)
    ]
    return Shares(tuple(stratified_order(parts.holdout, 0)[:held]), dev_size, reserved, tuple(warnings))


def search_budget(budget: TuneLimits, samples: int, repeats: int) -> TuneLimits:
    """Return what of a budget the search may use: all but the further answers to the prompt that is written.

    The search asks each of the ``samples`` once, the harness as often as the file's ``repeats`` say. Where that takes
    more than half of the calls nothing is set aside, and what is lacking is left to a recording.
    """
    limit, further = Meter(budget).task_limit, samples * (repeats - 1)
    return budget.model_copy(update={"task_calls": limit - further}) if 0 < further <= limit // 2 else budget
