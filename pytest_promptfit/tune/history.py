"""What a tuning run is at and what it has done so far, told live: stages, steps, and scores of the race."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_promptfit.tune.result import Score, StageUsage, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_promptfit.tune.meter import Meter
    from pytest_promptfit.tune.result import TuneUsage


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
    _entered: list[tuple[str, TuneUsage]] = field(default_factory=list)
    """The stages as they were entered, with what the run had used by then."""

    def enter(self, stage: str, left: int = 0) -> None:
        """Note and tell where the run is now."""
        self.stage, self.left = stage, left
        self._entered.append((stage, self.meter.usage))
        self.tell()

    def tell(self) -> None:
        """Tell what the run is at: stage, candidates left, calls and money."""
        paid = f", ${self.meter.paid_usd:.4f} paid" if self.meter.paid_usd else ""
        left = f", {self.left} left" if self.left else ""
        accepted = sum(step.accepted for step in self.steps)
        self.notify(
            f"tuning: {self.stage}{left}, {accepted} of {len(self.steps)} steps accepted, "
            f"{self.meter.task_calls + self.meter.answered}/{self.meter.task_limit} calls{paid}"
        )

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
