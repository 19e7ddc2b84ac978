"""The samples that were got wrong, grouped by what was read in place of the label: what a person looks at first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.text import plain

if TYPE_CHECKING:
    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.evaluation.verdicts import PromptResult


@dataclass(frozen=True)
class Confused:
    """Samples of one label that were read as the same other one, or as none; the worst first."""

    label: str
    predicted: str | None
    outcomes: tuple[Outcome, ...]
    failed: int
    canonical: int
    broken: int

    @property
    def title(self) -> str:
        """``negative → neutral (18, 12 broke)``: safe to show."""
        counts = ((self.canonical, "canonical"), (self.broken, "broke"))
        said = "".join(f", {count} {word}" for count, word in counts if count)
        return f"{plain(self.label)} → {answer(self.predicted)} ({len(self.outcomes)}{said})"


def answer(predicted: str | None) -> str:
    """Return what was read, safe to show."""
    return "no label" if predicted is None else plain(predicted)


def confused(result: PromptResult) -> list[Confused]:
    """Return the misses by label and answer: first those with a failed canonical, then by what fails and broke."""
    broken = frozenset(result.comparison.broken) if result.comparison else frozenset()
    failed = frozenset(result.failed_cases)

    def rank(outcome: Outcome) -> tuple[bool, bool, bool]:
        name = outcome.sample.case_name
        return not outcome.sample.canonical, name not in failed, name not in broken

    groups: dict[tuple[str, str | None], list[Outcome]] = {}
    for outcome in sorted(result.evaluation.outcomes, key=rank):
        if outcome.reply is not None and not outcome.correct:
            groups.setdefault((outcome.sample.label, outcome.predicted), []).append(outcome)
    found = [
        Confused(
            label,
            predicted,
            tuple(outcomes),
            failed=sum(o.sample.case_name in failed for o in outcomes),
            canonical=sum(o.sample.canonical for o in outcomes),
            broken=sum(o.sample.case_name in broken for o in outcomes),
        )
        for (label, predicted), outcomes in groups.items()
    ]
    return sorted(found, key=lambda one: (-one.canonical, -one.failed, -one.broken, -len(one.outcomes)))
