"""Weights of labels, fitted on dev for no calls at all: the last stage, for prompt files that ask for probabilities.

Each sample of dev is judged by weights that it had no part in; whether they may be written is up to ``gate`` and
``final``, as of any candidate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_promptfit.chat.decision import LEAST
from pytest_promptfit.evaluation.confidence import ENOUGH_TO_FIT, FOLDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_promptfit.evaluation.confidence import Judged
    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.prompts.model import Decision

LARGEST: Final = 1000.0
"""The most that a weight may be of the smallest one."""

RIDGE: Final = 0.1
"""Keeps the weight of a label that dev hardly has near the others: the precision of a normal prior of its logarithm."""


@dataclass(frozen=True)
class Weighing:
    """A decision with the weights fitted on all of dev and, for each case of dev, on the folds that it is not in."""

    decision: Decision
    by_folds: Mapping[str, Decision]

    @property
    def summary(self) -> str:
        """The weights in words, the largest first."""
        ordered = sorted(self.decision.weights.items(), key=lambda pair: -pair[1])
        return f"weights: {', '.join(f'{label} {weight:g}' for label, weight in ordered)}"

    def held_out(self, outcome: Outcome) -> Outcome:
        """Return what comes of a reply by weights that its sample had no part in."""
        return outcome.under(self.by_folds.get(outcome.sample.case_name, self.decision))


def weighing_of(outcomes: Sequence[Outcome], labels: Sequence[str], decision: Decision) -> Weighing | None:
    """Return the weights fitted on outcomes; ``None`` where they are too few, or all weights come out alike."""
    known = [(o.sample.case_name, (o.decided, o.sample.label)) for o in outcomes if o.decided and o.told]
    if len(known) < ENOUGH_TO_FIT:
        return None

    def fit(judged: Sequence[Judged]) -> Decision:
        weights = fitted_weights([(decided.told, label) for decided, label in judged], labels, decision.temperature)
        return decision.model_copy(update={"weights": weights})

    by_folds: dict[str, Decision] = {}
    for fold in range(FOLDS):
        others = fit([judged for at, (_, judged) in enumerate(known) if at % FOLDS != fold])
        by_folds |= {name: others for name, _ in known[fold::FOLDS]}
    whole = fit([judged for _, judged in known])
    return Weighing(whole, by_folds) if len(set(whole.weights.values())) > 1 else None


def fitted_weights(
    told: Sequence[tuple[Mapping[str, float], str]], labels: Sequence[str], temperature: float
) -> dict[str, float]:
    """Return a weight for each label, the smallest 1, that makes the right labels likeliest at the best temperature.

    ``told`` are probabilities and the right label. That is logistic regression on the logarithms of the probabilities
    with one slope for all labels, and a bias for each: convex, and hard to overfit. Weights are what the biases are
    at the ``temperature`` of the prompt file.
    """
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    logs = np.log([[max(one.get(label, 0.0), LEAST) for label in labels] for one, _ in told])
    right = np.array([[label == said for label in labels] for _, said in told], dtype=float)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        biases, slope = values[:-1], math.exp(values[-1])
        likely = log_softmax(slope * logs + biases, axis=1)
        off = np.exp(likely) - right
        gradient = np.append(off.sum(axis=0) + RIDGE * biases, slope * (off * logs).sum())
        return float(-(likely * right).sum() + RIDGE / 2 * (biases**2).sum()), gradient

    limits = [(-math.log(LARGEST), math.log(LARGEST))] * len(labels) + [(math.log(0.05), math.log(20))]
    *biases, log_slope = minimize(loss, np.zeros(len(labels) + 1), jac=True, method="L-BFGS-B", bounds=limits).x
    logits = [bias / math.exp(log_slope) / temperature for bias in biases]
    least = min(logits)
    weights = (math.exp(min(logit - least, math.log(LARGEST))) for logit in logits)
    return {label: float(f"{weight:.3g}") for label, weight in zip(labels, weights, strict=True)}
