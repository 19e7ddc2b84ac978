"""What log-probabilities say of a candidate besides right and wrong: how sure it was, and whether it is biased.

Pure functions. They rank candidates that are right equally often; no decision needs them, since many APIs
tell no probabilities.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEAST: Final = 1e-4
"""No label is taken to be less likely than this, so that one sample cannot decide a mean."""

WORST: Final = -math.log(LEAST)
"""The loss of a reply without a label, in nats."""

ALTERNATIVES: Final = 3
"""Tokens asked for at each place; each takes about a hundred bytes of a recording."""

NEGLECT: Final = 0.15
"""Share of all samples by which a label is answered too rarely before it counts as neglected."""


def log_loss(probabilities: Mapping[str, float], label: str) -> float | None:
    """Return the loss in nats for the right label, ``WORST`` at most; ``None`` without probabilities.

    A mean of these over samples is the cross-entropy, as ``sklearn.metrics.log_loss`` has it.
    """
    return -math.log(max(probabilities[label], LEAST)) if probabilities else None


def neglected(gold: Sequence[str], predicted: Sequence[str | None]) -> str | None:
    """Return the label that is answered much too rarely, by ``NEGLECT`` of all samples, while another takes its place.

    ``None`` where the answers are not one-sided: there is no such label, or no label is answered too often.
    """
    right, said = Counter(gold), Counter(predicted)
    lack = {label: right[label] - said[label] for label in sorted(right)}
    if not lack or -min(lack.values()) < NEGLECT * len(gold):
        return None
    return max(lack, key=lambda label: lack[label])


def ranking_auc(gold: Sequence[str], probabilities: Sequence[Mapping[str, float]]) -> float | None:
    """Return the area under the ROC curve, for more than two labels the mean of one against the rest.

    ``None`` where a sample has no probabilities or only one label occurs.
    """
    labels = sorted(set(gold))
    if len(labels) < 2 or not all(probabilities):
        return None
    from sklearn.metrics import roc_auc_score

    areas = [
        float(roc_auc_score([right == label for right in gold], [p.get(label, 0.0) for p in probabilities]))
        for label in labels
    ]
    return math.fsum(areas) / len(areas)
