"""From how likely each label was to the label that is given: temperature, weights, and when none is sure enough.

Pure. How likely a label was is read from a reply in ``reply``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_promptfit.prompts.model import Decision

LEAST = 1e-9
"""No label is taken to be less likely: what a model did not tell of is not impossible."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of the label that was ``read`` from a reply.

    ``best`` is the label before anything is held back, ``told`` how likely each label was as the model told it,
    ``probabilities`` the same after temperature and weights. Both sum up to 1, or are empty where that is not known:
    then ``best`` is the label as it was read.
    """

    read: str | None
    best: str | None
    told: dict[str, float] = field(default_factory=dict, hash=False)
    probabilities: dict[str, float] = field(default_factory=dict, hash=False)
    abstained: bool = False

    @property
    def label(self) -> str | None:
        """The label that is given; ``None`` where none could be read, or it is not sure enough."""
        return None if self.abstained else self.best

    @property
    def confidence(self) -> float | None:
        """How likely ``best`` is, 0 to 1; ``None`` where that is not known."""
        return self.probabilities.get(self.best) if self.best is not None else None


def decide(read: str | None, told: dict[str, float], decision: Decision) -> Decided:
    """Return what a decision makes of the label that was ``read``, and of how likely each one was.

    Only weights put another label in its place, the likeliest after them; of equally likely ones it stays.
    """
    if read is None or not told:
        return Decided(read, read)
    likely = scaled(told, decision.temperature, decision.weights)
    best = max(likely, key=lambda label: (likely[label], label == read)) if decision.weights else read
    return Decided(read, best, told, likely, abstained=likely[best] < (decision.abstain_below or 0.0))


def scaled(told: Mapping[str, float], temperature: float, weights: Mapping[str, float]) -> dict[str, float]:
    """Return probabilities at another temperature and weighted: weight * p ** (1 / temperature), summing up to 1."""
    logits = {
        label: math.log(max(p, LEAST)) / temperature + math.log(weights.get(label, 1.0)) for label, p in told.items()
    }
    most = max(logits.values())
    raised = {label: math.exp(logit - most) for label, logit in logits.items()}
    total = math.fsum(raised.values())
    return {label: p / total for label, p in raised.items()}
