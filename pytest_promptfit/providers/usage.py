"""What calls took, what they may take and what they will: calls, tokens, USD and time. Nothing is asked here.

Prices are in ``prices``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from pytest_promptfit.errors import BudgetExceeded

WINDOW_SECONDS = 10.0
"""The rate is that of so long ago until now: it moves when the model's pace does."""


@dataclass(frozen=True)
class Usage:
    """What calls took: replies needed, those of them replayed, tokens (cached ones included), and USD.

    ``usd`` is what this run paid, and ``None`` when something was asked whose price is unknown.
    """

    calls: int = 0
    replayed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = 0.0

    def __add__(self, other: Usage) -> Usage:
        """Return what both took together."""
        return Usage(
            self.calls + other.calls,
            self.replayed + other.replayed,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            None if self.usd is None or other.usd is None else self.usd + other.usd,
        )


@dataclass(frozen=True)
class Estimate:
    """What calls will take; ``measured_on`` counts the recorded replies it rests on, 0 where it is a guess.

    ``usd`` is ``None`` where the price of the model is not known.
    """

    calls: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    is_local: bool = False
    measured_on: int = 0

    @property
    def price(self) -> str:
        """The price in words."""
        if self.is_local:
            return "local, free"
        if self.usd is None:
            return "its price is not known"
        if self.usd < 0.0001:
            return "less than $0.0001"
        return f"about ${self.usd:.4f}" if self.usd < 1 else f"about ${self.usd:.2f}"

    @property
    def shown(self) -> str:
        """Calls and price in words."""
        return f"{self.calls:,} calls, {self.price}"


@dataclass(slots=True)
class Limits:
    """What a run may use at most, calls that may be paid for and USD, and what of it is used; shared by its ``ask`` s.

    A call is reserved, with the most it can cost, before it is made, and settled with what it did cost. The options
    are what its user calls the limits.
    """

    calls: int | None = None
    usd: float | None = None
    calls_option: str = "--promptfit-max-calls"
    usd_option: str = "--promptfit-budget"
    used_calls: int = field(default=0, init=False)
    used_usd: float = field(default=0.0, init=False)
    _reserved_calls: int = field(default=0, init=False)
    _reserved_usd: float = field(default=0.0, init=False)

    def fit(self, usd: float) -> bool:
        """Tell whether one more call that costs at most ``usd`` stays within them."""
        if self.calls is not None and self.used_calls + self._reserved_calls >= self.calls:
            return False
        return self.usd is None or self.used_usd + self._reserved_usd + usd <= self.usd

    def reserve(self, usd: float) -> None:
        """Set one call aside, and the most it can cost."""
        self._reserved_calls += 1
        self._reserved_usd += usd

    def settle(self, reserved: float, usd: float, *, calls: int) -> None:
        """Put what a call did cost in the place of what was reserved; ``calls`` is 0 for one not paid for."""
        self._reserved_calls -= 1
        # A sum of floats may miss zero by a hair, and the next call by that hair.
        self._reserved_usd = self._reserved_usd - reserved if self._reserved_calls else 0.0
        self.used_calls += calls
        self.used_usd += usd

    def exceeded(self) -> BudgetExceeded:
        """Return the error that tells which of them stopped the run."""
        if self.calls is not None and self.used_calls >= self.calls:
            limit, option = f"limit of {self.calls} calls", self.calls_option
        else:
            limit, option = f"budget of ${self.usd or 0:.2f}", self.usd_option
        spent = f" (${self.used_usd:.4f} spent)" if self.used_usd else ""
        return BudgetExceeded(
            f"{limit} reached after {self.used_calls} calls{spent}: "
            f"the rest was not asked; run again with a larger {option}"
        )


class Pace:
    """How many are done in a second, over the last ``window`` seconds; times are seconds of one clock."""

    def __init__(self, window: float = WINDOW_SECONDS) -> None:
        self._window = window
        self._marks: deque[tuple[float, int]] = deque()

    def note(self, now: float, done: int) -> None:
        """Note that ``done`` are done by now; fewer than before begin a new count."""
        if self._marks and done < self._marks[-1][1]:
            self._marks.clear()
        self._marks.append((now, done))
        # The newest mark that is older than the window stays: the rate is measured from it.
        while len(self._marks) > 2 and self._marks[1][0] <= now - self._window:
            self._marks.popleft()

    @property
    def rate(self) -> float:
        """How many are done in a second; 0 where too little is known."""
        if len(self._marks) < 2:
            return 0.0
        (start, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / (end - start) if end > start else 0.0

    def left(self, count: int) -> str:
        """Return how long so many more take, in words; empty where that is not known."""
        return duration(count / self.rate) if self.rate and count else ""


def duration(seconds: float) -> str:
    """Return a span of time as people say it: ``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
