"""What a tuning run is at and what it has done so far, told live: stages, steps, and scores of the race."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_promptfit.providers.usage import Pace
from pytest_promptfit.text import counted, percent
from pytest_promptfit.tuning.result import Score, StageUsage, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_promptfit.tuning.meter import Meter
    from pytest_promptfit.tuning.result import TuneUsage


@dataclass
class History:
    """The record of one run; ``notify`` is told a line whenever something happened."""

    meter: Meter
    notify: Callable[[str], None]
    stage: str = ""
    left: int = 0
    """What the stage has left: candidates of a race, rounds of reflection."""
    steps: list[Step] = field(default_factory=list)
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
            found[stage] = _with(found.get(stage, StageUsage(stage)), before, after)
        return tuple(found.values())


def _with(stage: StageUsage, before: TuneUsage, after: TuneUsage) -> StageUsage:
    """Return a stage's usage with what was needed in between."""
    counts = [count.name for count in fields(StageUsage) if count.name != "stage"]
    return StageUsage(
        stage.stage, *(_more(*(getattr(usage, name) for usage in (stage, before, after))) for name in counts)
    )


def _more(so_far: Any, before: Any, after: Any) -> Any:
    """Return a count with what was added in between; a cost that is not known stays so."""
    return None if None in (so_far, before, after) else so_far + (after - before)
