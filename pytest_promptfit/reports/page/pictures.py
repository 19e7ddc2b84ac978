"""The geometry of the page's pictures: shares of the width across, pixels down; the templates draw them as SVG.

Across everything is in percent, so a picture fits any width and its words keep their size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pytest_promptfit.evaluation.metrics import wilson_interval
from pytest_promptfit.reports.page.sentences import percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_promptfit.evaluation.confidence import Calibration
    from pytest_promptfit.tuning.result import Step, TuneResult

CHART = 200
"""Pixels of the plots of confidence."""

HEIGHT = 240
"""Pixels of the plot of a tuning run."""

EDGE = 3.0
"""Percent of the width left free at both sides of it."""

MOST_COUNTED = 10_000
"""Counts from here on are told in thousands."""

FEW_COVERED = 0.1
"""Of so few answers a share says nothing."""

NEAR = 4.0
"""Percent: marks that are nearer than this would cover each other."""

APART = 22
"""Pixels between marks that were moved apart."""


@dataclass(frozen=True)
class Tick:
    """A line of the grid and its words."""

    at: float
    text: str


@dataclass(frozen=True)
class Interval:
    """A figure with its interval, as places across in percent."""

    name: str
    text: str
    at: float
    low: float
    high: float
    kind: Literal["now", "before"]
    bounds: str
    """The interval in words."""


@dataclass(frozen=True)
class Intervals:
    """Accuracies with their intervals above one axis."""

    rows: tuple[Interval, ...]
    ticks: tuple[Tick, ...]
    floor: Tick | None


@dataclass(frozen=True)
class Standing:
    """Right answers and all, now and in the baseline, and the accuracy that a gate asks for."""

    now: tuple[int, int]
    before: tuple[int, int] | None = None
    floor: float | None = None

    @property
    def shares(self) -> list[float]:
        """All that a picture has to have room for."""
        counts = [self.now] if self.before is None else [self.now, self.before]
        bounds = [bound for count in counts for bound in wilson_interval(*count)]
        return bounds if self.floor is None else [*bounds, self.floor]


def accuracy_pictures(standings: Mapping[int, Standing]) -> dict[int, Intervals]:
    """Return the accuracy pictures of several prompts above one axis."""
    shares = [share for standing in standings.values() for share in standing.shares]
    return {number: accuracy_picture(standing, shares) for number, standing in standings.items()}


def accuracy_picture(standing: Standing, shares: Sequence[float] = ()) -> Intervals:
    """Return accuracy now above that of the baseline, and the floor, on an axis that has room for ``shares``."""
    low, high = _domain(shares or standing.shares)
    place = Place(low, high, 0, 100)
    rows = [_interval("now", *standing.now, place=place)]
    if standing.before is not None:
        rows.append(_interval("before", *standing.before, place=place))
    floor = standing.floor
    return Intervals(
        tuple(rows),
        _share_ticks(low, high, place),
        None if floor is None else Tick(place(floor), f"floor {percent(floor, 0)}"),
    )


def accuracies_picture(counts: Mapping[str, tuple[int, int]]) -> Intervals:
    """Return several accuracies above one axis: right answers and all, by name."""
    low, high = _domain([share for standing in map(Standing, counts.values()) for share in standing.shares])
    place = Place(low, high, 0, 100)
    rows = tuple(_interval("now", *count, place=place, name=name) for name, count in counts.items())
    return Intervals(rows, _share_ticks(low, high, place), None)


def _interval(kind: Literal["now", "before"], right: int, total: int, *, place: Place, name: str = "") -> Interval:
    low, high = wilson_interval(right, total)
    name = name or {"now": "This run", "before": "Baseline"}[kind]
    bounds = f"{percent(low)} to {percent(high)}"
    return Interval(name, percent(right / total), place(right / total), place(low), place(high), kind, bounds)


def _domain(shares: Sequence[float]) -> tuple[float, float]:
    """Return whole tenths around the shares, at least two of them."""
    # The slack is for 1 - 0.7, which is 0.30000000000000004: it would be rounded up to the next tenth.
    low = math.floor(min(shares) * 10 + 1e-9) / 10
    high = math.ceil(max(shares) * 10 - 1e-9) / 10
    if high - low < 0.2:
        high = min(1.0, low + 0.2)
        low = max(0.0, high - 0.2)
    return low, high


@dataclass(frozen=True)
class Bar:
    """The answers of one tenth of confidence: the share that is right, as a bar over their mean confidence."""

    x: float
    width: float
    y: float
    count: str
    title: str


@dataclass(frozen=True)
class Confidence:
    """How often answers are right by how sure they are, and how many are wrong by how many are answered."""

    bars: tuple[Bar, ...]
    tenths: tuple[Tick, ...]
    """From 0 to 100 % across."""
    rights: tuple[Tick, ...]
    errors: tuple[Tick, ...]
    curve: str
    """Points in percent of width and height."""
    limit: Tick | None
    """The error that a gate asks for coverage at."""
    answered: Tick | None
    """How many are answered where some are held back."""
    height: int = CHART


def confidence_picture(calibration: Calibration, at_error: float | None, answered: float | None) -> Confidence:
    """Return the reliability diagram, and error against coverage.

    ``at_error`` is what a gate asks for, ``answered`` the share of samples that is not held back.
    """
    bars = tuple(
        Bar(
            round(one.low * 100 + 0.8, 2),
            8.4,
            round((1 - one.accuracy) * CHART, 2),
            f"{one.count / 1000:.0f}k" if one.count >= MOST_COUNTED else str(one.count),
            f"{percent(one.low, 0)} to {percent(one.high, 0)} sure: {percent(one.accuracy)} of {one.count} right, "
            f"{percent(one.confidence)} sure on average",
        )
        for one in calibration.bins
    )
    # The first few answers may all be wrong: they must not flatten the rest.
    usual = [point.error for point in calibration.curve if point.coverage >= FEW_COVERED] or [0.0]
    high = max(0.1, math.ceil(max(*usual, usual[-1], at_error or 0.0) * 10 - 1e-9) / 10)
    across, down, share = Place(0, 1, 0, 100), Place(0, high, 100, 0), Place(0, high, CHART, 0)
    points = (f"{across(point.coverage)},{down(min(high, point.error))}" for point in calibration.told_curve)
    return Confidence(
        bars,
        tuple(Tick(across(tenth / 5), percent(tenth / 5, 0)) for tenth in range(6)),
        tuple(Tick((1 - tenth / 5) * CHART, percent(tenth / 5, 0)) for tenth in range(6)),
        _share_ticks(0.0, high, share),
        " ".join(points),
        None if at_error is None else Tick(share(at_error), f"{percent(at_error, 0)} wrong"),
        None if answered is None else Tick(across(answered), f"{percent(answered, 0)} answered"),
    )


@dataclass(frozen=True)
class StepMark:
    """A step of a tuning run, drawn with its number."""

    number: int
    x: float
    y: float
    shift: int
    """Pixels to the right, where it would cover another mark."""
    accepted: bool
    title: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Dot:
    """A candidate in a race after a round."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Segment:
    """A piece of the line that follows the incumbent."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class HoldoutMark:
    """The first or the last prompt on the holdout."""

    name: str
    text: str
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class History:
    """A tuning run: candidates over task calls on dev, apart from them the holdout, below what never met dev."""

    ticks: tuple[Tick, ...]
    calls: tuple[Tick, ...]
    dots: tuple[Dot, ...]
    marks: tuple[StepMark, ...]
    unseen: tuple[StepMark, ...]
    """Steps that were turned down before they met dev."""
    strip: int
    """Pixels that those take below the plot."""
    incumbent: tuple[Segment, ...]
    holdout: tuple[HoldoutMark, ...]
    height: int = HEIGHT


class Place:
    """Maps values from ``low`` to ``high`` to places from ``start`` to ``end``."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = low, start
        # Where all values are one, they stand at the start.
        self._scale = (end - start) / ((high - low) or 1)

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        return round(self._start + (value - self._low) * self._scale, 2)


def history_picture(result: TuneResult) -> History | None:
    """Return the history of a tuning run; ``None`` where nothing was put to the test."""
    if not (result.steps or result.scores):
        return None
    last = max([result.usage.task_calls, 1, *(step.calls for step in result.steps)])
    across = Place(0, last, EDGE, 100 - EDGE)
    holdout = result.holdout if result.holdout and result.holdout.n else None
    met = [step for step in result.steps if step.seen]
    shares = [score.right / score.seen for score in result.scores if score.seen]
    shares += [share for step in met for share in (step.right / step.seen, *wilson_interval(step.right, step.seen))]
    shares += [*holdout.before_ci95, *holdout.after_ci95] if holdout else []
    low, high = _domain(shares or [0.0, 1.0])
    down = Place(low, high, HEIGHT, 0)
    marks, unseen = _marks(result.steps, across, down)
    dots = tuple(
        Dot(across(s.calls), down(s.right / s.seen), f"{s.summary}: {s.right} of {s.seen} after {s.calls} calls")
        for s in result.scores
        if s.seen
    )
    ends: tuple[HoldoutMark, ...] = ()
    if holdout:
        pair = (
            ("first", holdout.before, holdout.before_ci95, 28.0),
            ("final", holdout.after, holdout.after_ci95, 72.0),
        )
        ends = tuple(
            HoldoutMark(name, percent(right / holdout.n, 0), x, down(right / holdout.n), *map(down, interval))
            for name, right, interval, x in pair
        )
    return History(
        _share_ticks(low, high, down),
        _call_ticks(last, across),
        dots,
        marks,
        unseen,
        int(max(mark.y for mark in unseen) + 14) if unseen else 0,
        _incumbent([mark for mark in marks if mark.accepted], across(last)),
        ends,
    )


def _marks(steps: Sequence[Step], across: Place, down: Place) -> tuple[tuple[StepMark, ...], tuple[StepMark, ...]]:
    """Return the numbered steps that met dev, and those that never did.

    The first are moved to the right of those that they would cover, the others stand in rows.
    """
    met: list[StepMark] = []
    unseen: list[StepMark] = []
    rows: list[float] = []
    for number, step in enumerate(steps, 1):
        x = across(step.calls)
        title = (
            f"Step {number}, {step.stage}, {'accepted' if step.accepted else 'rejected'}: {step.summary}: "
            f"fixed {len(step.fixed)}, broke {len(step.broken)}, after {step.calls} calls"
        )
        if step.seen:
            y = down(step.right / step.seen)
            low, high = wilson_interval(step.right, step.seen)
            covered = [mark.shift for mark in met if abs(mark.x - x) < NEAR and abs(mark.y - y) < APART]
            shift = max(covered, default=-APART) + APART
            title += f": {step.right} of {step.seen} dev samples right"
            met.append(StepMark(number, x, y, shift, step.accepted, title, down(low), down(high)))
        else:
            row = next((at for at, end in enumerate(rows) if x - end >= NEAR), len(rows))
            rows[row : row + 1] = [x]
            unseen.append(StepMark(number, x, 14 + row * APART, 0, step.accepted, title))
    return tuple(met), tuple(unseen)


def _incumbent(accepted: Sequence[StepMark], end: float) -> tuple[Segment, ...]:
    """Return the line through the accepted steps: level until the next one takes over."""
    corners = [corner for mark, following in pairwise(accepted) for corner in ((mark.x, mark.y), (following.x, mark.y))]
    corners += [corner for mark in accepted[-1:] for corner in ((mark.x, mark.y), (end, mark.y))]
    return tuple(Segment(*start, *stop) for start, stop in pairwise(corners))


def _share_ticks(low: float, high: float, down: Place) -> tuple[Tick, ...]:
    steps = round((high - low) * 10)
    every = 1 if steps <= 5 else 2
    return tuple(
        Tick(down(low + step / 10), percent(low + step / 10, 0)) for step in range(steps + 1) if step % every == 0
    )


def _call_ticks(last: int, across: Place) -> tuple[Tick, ...]:
    """Return some four marks, 1, 2 or 5 times a power of ten apart."""
    about = last / 4
    power = 10 ** max(0, math.floor(math.log10(max(1.0, about))))
    step = int(next((power * factor for factor in (1, 2, 5) if power * factor >= about), power * 10))
    return tuple(Tick(across(calls), f"{calls:,}") for calls in range(0, last + 1, step))
