"""What a run may use, calls and USD, and what is left of it while calls are in flight. Nothing is asked here."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_promptfit.errors import BudgetExceeded


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use at most: calls that may be paid for, and USD; and what the limits are called by their user."""

    max_calls: int | None = None
    max_usd: float | None = None
    calls_option: str = "--promptfit-max-calls"
    usd_option: str = "--promptfit-budget"


@dataclass(slots=True)
class Budget:
    """What is left of a run's limits; shared by all its ``ask`` calls.

    A call is reserved, with the most it can cost, before it is made, and settled with what it did cost.
    """

    limits: Limits = field(default_factory=Limits)
    calls: int = 0
    usd: float = 0.0
    _reserved_calls: int = 0
    _reserved_usd: float = 0.0

    def fits(self, usd: float) -> bool:
        """Tell whether one more call that costs at most ``usd`` stays within the limits."""
        limits = self.limits
        if limits.max_calls is not None and self.calls + self._reserved_calls >= limits.max_calls:
            return False
        return limits.max_usd is None or self.usd + self._reserved_usd + usd <= limits.max_usd

    def reserve(self, usd: float) -> None:
        """Set one call aside, and the most it can cost."""
        self._reserved_calls += 1
        self._reserved_usd += usd

    def settle(self, reserved: float, usd: float, *, calls: int) -> None:
        """Put what a call did cost in the place of what was reserved; ``calls`` is 0 for one not paid for."""
        self._reserved_calls -= 1
        # A sum of floats may miss zero by a hair, and the next call by that hair.
        self._reserved_usd = self._reserved_usd - reserved if self._reserved_calls else 0.0
        self.calls += calls
        self.usd += usd

    def exceeded(self) -> BudgetExceeded:
        """Return the error that tells which limit stopped the run."""
        limits = self.limits
        if limits.max_calls is not None and self.calls >= limits.max_calls:
            limit, option = f"limit of {limits.max_calls} calls", limits.calls_option
        else:
            limit, option = f"budget of ${limits.max_usd or 0:.2f}", limits.usd_option
        spent = f" (${self.usd:.4f} spent)" if self.usd else ""
        return BudgetExceeded(
            f"{limit} reached after {self.calls} calls{spent}: the rest was not asked; run again with a larger {option}"
        )
