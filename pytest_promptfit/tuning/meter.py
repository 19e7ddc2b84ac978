"""What a tuning run has used and may use, for which part of the samples, and what it is at, told live.

Every reply that was needed counts, replayed or not: so a run that was killed and started again decides as
the unbroken one, and stops where that stopped. What was paid in this run is told apart.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.split import stratified_order
from pytest_promptfit.providers.asking import DEFAULT_MAX_OUTPUT
from pytest_promptfit.providers.replies import reply_limit
from pytest_promptfit.providers.usage import Pace, most_usd
from pytest_promptfit.text import counted, percent
from pytest_promptfit.tuning.result import Score, StageUsage, Step, TuneUsage, plus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


class Cost(NamedTuple):
    """What calls took, or are expected to take."""

    usd: float = 0.0
    seconds: float = 0.0
    tokens: float = 0.0

    def plus(self, other: Cost) -> Cost:
        """Return the sum."""
        return Cost(self.usd + other.usd, self.seconds + other.seconds, self.tokens + other.tokens)

    def times(self, count: float) -> Cost:
        """Return what so many take."""
        return Cost(self.usd * count, self.seconds * count, self.tokens * count)

    def most(self, other: Cost) -> Cost:
        """Return the larger of each."""
        return Cost(*map(max, zip(self, other, strict=True)))


NOTHING = Cost()


@dataclass
class Rates:
    """What the calls to one model have taken at most, from which the next ones are foreseen."""

    spec: ModelSpec
    tokens_per_byte: float = 0.0
    output_tokens: int = 0
    seconds: float = 0.0

    @property
    def are_known(self) -> bool:
        """Whether a reply was seen."""
        return self.tokens_per_byte > 0

    def see(self, request_body: str, reply: ChatReply, seconds: float) -> None:
        """Take note of a reply to a JSON body."""
        self.tokens_per_byte = max(self.tokens_per_byte, max(1, reply.input_tokens) / len(request_body.encode()))
        self.output_tokens = max(self.output_tokens, reply.output_tokens)
        self.seconds = max(self.seconds, seconds)

    def foresee(self, payload: Mapping[str, Any]) -> Cost:
        """Return what a call is expected to take at most; before any reply was seen, the most that it can."""
        size = len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
        most = reply_limit(payload) or DEFAULT_MAX_OUTPUT
        given = math.ceil(size * (self.tokens_per_byte if self.are_known else 1))  # no token is shorter than a byte
        written = min(most, self.output_tokens) if self.are_known else most
        return Cost(most_usd(self.spec, given, written), self.seconds, given + written)


@dataclass
class Meter(TuneUsage):
    """Counts what is needed against the limits; ``reserved`` task calls are set aside for the end."""

    budget: TuneLimits
    reserved: int = 0
    seconds: float = 0.0
    """The replies' own latencies, shared by the calls that were in flight at once: the same in a replay."""
    answered: int = 0
    """Calls that were answered since they were last counted: what a progress line shows of a batch under way."""
    dearest: Cost = NOTHING
    """The most that a task call was expected to take: what each of those set aside may take."""

    @property
    def usage(self) -> TuneUsage:
        """What was needed so far."""
        return TuneUsage(**{count.name: getattr(self, count.name) for count in fields(TuneUsage)})

    def count(self, reply: ChatReply, usd: float | None, *, is_replayed: bool) -> None:
        """Count a reply's tokens, and what this run paid for it."""
        self.input_tokens += reply.input_tokens
        self.output_tokens += reply.output_tokens
        self.paid_usd = plus(self.paid_usd, 0.0 if is_replayed else usd)

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
        return max(0, self.task_limit - self.reserved - self.task_calls)

    @property
    def spent(self) -> Cost:
        """What all replies of the run took, paid now or earlier."""
        usd = plus(self.task_usd, self.optimizer_usd) or 0.0  # no limit in USD is set where it is not known
        return Cost(usd, self.seconds, self.input_tokens + self.output_tokens)

    @property
    def limits(self) -> dict[str, tuple[float, float, float]]:
        """The limits that are set besides those of calls: limit, used, and set aside for each call to come."""
        rows = zip(Cost._fields, self.spent, self.dearest, strict=True)
        found = ((name, getattr(self.budget, name), used, dearest) for name, used, dearest in rows)
        return {name: (limit, used, dearest) for name, limit, used, dearest in found if limit is not None}

    def affordable(self, call: Cost) -> int:
        """Return how many more task calls that take so much fit into all limits, besides those set aside."""
        fitting = [self.task_calls_left]
        for name, (limit, used, dearest) in self.limits.items():
            one: float = getattr(call, name)
            if one > 0:
                fitting.append(int((limit - used - self.reserved * max(one, dearest)) / one))
        return max(0, min(fitting))

    def check_task(self, calls: int, cost: Cost) -> None:
        """Raise OutOfBudget when ``calls`` more task calls, which take ``cost`` together, would pass a limit."""
        if calls > self.task_calls_left:
            raise OutOfBudget(
                f"the budget of {self.task_limit} task calls is used up: {self.task_calls} needed so far, "
                f"{self.reserved} set aside for the end"
            )
        if calls:
            self._check_others(cost)

    def check_optimizer(self, cost: Cost = NOTHING) -> None:
        """Raise OutOfBudget when one more optimizer call, which takes ``cost``, would pass a limit."""
        if self.optimizer_calls >= self.optimizer_limit:
            raise OptimizerSpent(f"the budget of {self.optimizer_limit} optimizer calls is used up")
        self._check_others(cost)

    def _check_others(self, cost: Cost) -> None:
        shown = {"usd": "${:.4g}", "seconds": "{:.4g} seconds", "tokens": "{:.0f} tokens"}
        for name, (limit, used, dearest) in self.limits.items():
            aside = self.reserved * dearest
            if used + getattr(cost, name) + aside > limit:
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
        done, limit = self.meter.task_calls + self.meter.answered, self.meter.task_limit
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

    def stages(self) -> tuple[StageUsage, ...]:
        """Return what each stage needed, in the order in which they were first entered."""
        found: dict[str, StageUsage] = {}
        for (stage, before), (_, after) in pairwise([*self._entered, ("", self.meter.usage)]):
            so_far = found.get(stage, StageUsage(stage))
            counts: dict[str, Any] = {}
            for count in fields(StageUsage)[1:]:
                had, old, new = (getattr(usage, count.name) for usage in (so_far, before, after))
                counts[count.name] = None if None in (had, old, new) else had + (new - old)  # unknown costs stay so
            found[stage] = StageUsage(stage, **counts)
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
