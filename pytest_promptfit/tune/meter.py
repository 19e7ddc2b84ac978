"""What a tuning run has used, and what it may use: calls, tokens, USD and seconds.

Every reply that was needed counts, replayed or not: so a run that was killed and started again decides as
the unbroken one, and stops where that stopped. What was paid in this run is told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.errors import PromptfitError

if TYPE_CHECKING:
    from pytest_promptfit.prompt_file import Budget

TASK_CALLS, OPTIMIZER_CALLS = 600, 20
"""The limits of a file that sets none."""


class OutOfBudget(PromptfitError):  # noqa: N818 - it ends a stage, not the run
    """The next calls would pass a limit."""


@dataclass
class Meter:
    """Counts what is needed against the limits; ``reserved`` task calls are set aside for the end."""

    budget: Budget
    reserved: int = 0
    task_calls: int = 0
    optimizer_calls: int = 0
    replayed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    task_usd: float = 0.0
    optimizer_usd: float = 0.0
    paid_usd: float = 0.0
    """What this run paid: replayed replies are free."""
    seconds: float = 0.0
    """The replies' own latencies, shared by the calls that were in flight at once: the same in a replay."""

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
    def usd(self) -> float:
        """What all replies of the run cost, paid now or earlier."""
        return self.task_usd + self.optimizer_usd

    def check_task(self, calls: int) -> None:
        """Raise OutOfBudget when ``calls`` more task calls would pass a limit."""
        if calls > self.task_calls_left:
            raise OutOfBudget(f"the budget of {self.task_limit} task calls is used ({self.reserved} set aside)")
        self._check_others()

    def check_optimizer(self) -> None:
        """Raise OutOfBudget when one more optimizer call would pass a limit."""
        if self.optimizer_calls >= self.optimizer_limit:
            raise OutOfBudget(f"the budget of {self.optimizer_limit} optimizer calls is used")
        self._check_others()

    def _check_others(self) -> None:
        budget = self.budget
        if budget.usd is not None and self.usd >= budget.usd:
            raise OutOfBudget(f"the budget of ${budget.usd:g} is used")
        if budget.seconds is not None and self.seconds >= budget.seconds:
            raise OutOfBudget(f"the budget of {budget.seconds:g} seconds is used")
        if budget.tokens is not None and self.input_tokens + self.output_tokens >= budget.tokens:
            raise OutOfBudget(f"the budget of {budget.tokens} tokens is used")
