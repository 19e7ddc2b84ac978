"""Prompts and models side by side: on the samples that all of them share, every two of them paired.

Values only: who asks or replays hands in what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from string import ascii_uppercase
from typing import TYPE_CHECKING, Literal

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.evaluation.baseline import USUAL_ALPHA
from pytest_promptfit.evaluation.metrics import benjamini_hochberg
from pytest_promptfit.prompts.samples import normal_form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_promptfit.evaluation.outcomes import Evaluation, Outcome, PairedComparison
    from pytest_promptfit.prompts.samples import Sample, SampleSet

    SampleKey = tuple[str, str, bool]
    """What makes a sample the same in several files: its text, its label, and whether it is canonical."""


@dataclass(frozen=True)
class Side:
    """A prompt under a model; ``evaluation`` is over the samples that all sides have, ``alone`` counts its others."""

    letter: str
    evaluation: Evaluation
    alone: int


@dataclass(frozen=True)
class Pair:
    """Two sides, and what changes from the one to the other; ``level`` is what p must not exceed, two-sided."""

    before: Side
    after: Side
    found: PairedComparison
    level: float

    @property
    def tone(self) -> Literal["better", "worse", "same", "open"]:
        """Which way it goes beyond chance; ``open`` where no sample has a reply from both."""
        if not self.found.shared:
            return "open"
        if self.found.p_two_sided > self.level or not self.found.change:
            return "same"
        return "better" if self.found.change > 0 else "worse"


@dataclass(frozen=True)
class Sides:
    """All that is compared, and every two of it."""

    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]

    @property
    def shared(self) -> int:
        """How many labeled samples all of them have, with a reply or without."""
        first = self.sides[0].evaluation
        return len(first.labeled) + len(first.unanswered)

    @cached_property
    def differing(self) -> list[tuple[Outcome, ...]]:
        """The outcomes, one a side, of each sample that is read differently; first those that the first side has right.

        A sample that somebody has no reply to is none of them.
        """
        outcomes: list[dict[SampleKey, Outcome]] = [
            {_key(one.sample): one for one in side.evaluation.outcomes if one.reply is not None} for side in self.sides
        ]
        rows = [tuple(one[key] for one in outcomes) for key in outcomes[0] if all(key in one for one in outcomes)]
        found = [row for row in rows if len({outcome.given for outcome in row}) > 1]
        return sorted(found, key=lambda row: (not row[0].sample.canonical, not row[0].correct, not row[-1].correct))


def _key(sample: Sample) -> SampleKey:
    return normal_form(sample.text), sample.label, sample.canonical


def shared_samples(sets: Sequence[SampleSet]) -> list[tuple[Sample, ...]]:
    """Return of each set the samples that all of them have, in its own order; raise PromptfitError where none is."""
    keyed = [{_key(sample): sample for sample in one.samples} for one in sets]
    common = set(keyed[0]).intersection(*keyed[1:])
    if not any(not canonical for _, _, canonical in common):
        raise PromptfitError("no labeled sample is in all of them: expected some with the same text and the same label")
    return [tuple(sample for key, sample in one.items() if key in common) for one in keyed]


def side_by_side(evaluations: Sequence[Evaluation], alone: Sequence[int]) -> Sides:
    """Pair every two of several evaluations of the same samples; ``alone`` counts the others that each has.

    Nobody said beforehand which one should be better, so p is two-sided; all pairs share one alpha, by Benjamini
    and Hochberg. Raises PromptfitError where there are more than letters.
    """
    if len(evaluations) > len(ascii_uppercase):
        raise PromptfitError(f"{len(evaluations)} to compare: expected at most {len(ascii_uppercase)}")
    sides = tuple(map(Side, ascii_uppercase, evaluations, alone))
    found = [(one, two, one.evaluation.compare(two.evaluation)) for one, two in combinations(sides, 2)]
    levels = benjamini_hochberg([pair.p_two_sided for *_, pair in found], [USUAL_ALPHA] * len(found))
    return Sides(sides, tuple(Pair(*three, level) for three, level in zip(found, levels, strict=True)))
