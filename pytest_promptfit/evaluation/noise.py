"""How much of what is seen is noise: the answers of one model and prompt to the same sample, asked again and again.

Pure values. No label is an answer like any other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING

from pytest_promptfit.evaluation.metrics import wilson_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    Answers = Sequence[str | None]
    """The labels of the answers to one sample, in their order."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How many of the ``samples`` are unstable, which means that their ``answers`` (so many each) differ.

    ``disagreement`` is how often two answers to the same sample differ, 0 to 1, on average over the samples: unlike
    the share of unstable samples it does not grow with the number of answers.
    """

    samples: int
    unstable: int
    answers: int
    disagreement: float

    @property
    def share(self) -> float:
        """The share of samples that are unstable, 0 to 1: the noise of model and prompt."""
        return self.unstable / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of ``share``."""
        return wilson_interval(self.unstable, self.samples)


def noise_of(answered: Sequence[Answers]) -> Noise | None:
    """Return the noise in the answers to several samples; ``None`` where none was asked more than once."""
    repeated = [answers for answers in answered if len(answers) > 1]
    if not repeated:
        return None
    return Noise(
        samples=len(repeated),
        unstable=sum(len({*answers}) > 1 for answers in repeated),
        answers=min(map(len, repeated)),
        disagreement=fsum(map(disagreement, repeated)) / len(repeated),
    )


def disagreement(answers: Answers) -> float:
    """Return the share of the pairs of answers to one sample that differ, 0 to 1; at least two answers."""
    pairs = len(answers) * (len(answers) - 1)
    return 1 - sum(count * (count - 1) for count in Counter(answers).values()) / pairs


def flips_of(answered: Sequence[Sequence[bool]]) -> float:
    """Return the share of samples that noise alone turns from right to wrong between two answers, and as many back.

    ``answered`` says for each sample which of its answers, at least two, are right. That is the mean of p (1 - p) over
    the samples, where p is how often one comes out right, estimated without bias.
    """
    each = (sum(right) * (len(right) - sum(right)) / (len(right) * (len(right) - 1)) for right in answered)
    return fsum(each) / len(answered)
