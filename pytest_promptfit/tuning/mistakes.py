"""What a mistake is, and which samples the optimizer is shown: mistakes first, then right ones that must not break."""

from __future__ import annotations

import math
from collections import Counter
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Final

from pytest_promptfit.tuning.candidates import shuffled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from random import Random

    from pytest_promptfit.evaluation.outcomes import Outcome

TOTAL_SAMPLES: Final = 24
RIGHT_SHARE: Final = 0.4
"""The part of what is shown that is right now, in [0, 1)."""

FAILED_CANONICALS: Final = 8


def is_mistake(outcome: Outcome) -> bool:
    """Tell whether the reply is wrong or cannot be read; where there is none, the prompt may not be to blame."""
    return outcome.status in ("wrong", "missing")


def choose_samples(
    outcomes: Sequence[Outcome],
    miss_counts: Mapping[str, int],
    *,
    total: int = TOTAL_SAMPLES,
    wrong_per_label: int | None = None,
    right_per_label: int | None = None,
    rng: Random,
) -> list[Outcome]:
    """Return at most ``total`` outcomes to show: mistakes first, then right ones that must not break.

    Mistakes are taken from one confusion cell in turn, right ones from one label in turn; within each those
    that were wrong most often, by ``miss_counts``, come first, ties are broken by ``rng``. The right ones are
    ``RIGHT_SHARE`` of what is shown, fewer where there are not enough. The caps by label count
    samples of one gold label.
    """
    if total < 1:
        return []
    mistakes = [o for o in outcomes if is_mistake(o)]
    wrong = _in_turn(mistakes, lambda o: (o.sample.label, o.predicted or ""), miss_counts, rng)
    right = _in_turn([o for o in outcomes if o.correct], lambda o: (o.sample.label,), miss_counts, rng)
    wrong, right = _capped(wrong, wrong_per_label), _capped(right, right_per_label)
    most_right = min(len(right), math.floor(total * RIGHT_SHARE + 0.5))
    wrong = wrong[: total - most_right]
    fair = math.ceil(round(len(wrong) * RIGHT_SHARE / (1 - RIGHT_SHARE), 6)) if wrong else most_right
    return [*wrong, *right[: min(most_right, fair)]]


def failed_canonicals(canonical: Sequence[Outcome]) -> list[Outcome]:
    """Return the failed canonical samples that are shown; they come before all others."""
    return [o for o in canonical if is_mistake(o)][:FAILED_CANONICALS]


def shown_as_wrong(shown: Sequence[Outcome], canonical: Sequence[Outcome]) -> frozenset[str]:
    """Return the ids of the samples that the optimizer may be told of as wrong: what patches can be made for."""
    return frozenset(o.sample.id for o in (*failed_canonicals(canonical), *shown) if is_mistake(o))


def _in_turn(
    outcomes: Sequence[Outcome], cell_of: Callable[[Outcome], tuple[str, ...]], misses: Mapping[str, int], rng: Random
) -> list[Outcome]:
    cells: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in shuffled(outcomes, rng):
        cells.setdefault(cell_of(outcome), []).append(outcome)
    for cell in cells.values():
        cell.sort(key=lambda o: -misses.get(o.sample.id, 0))
    largest_first = [cells[name] for name in sorted(cells, key=lambda name: (-len(cells[name]), name))]
    return [o for o in chain.from_iterable(zip_longest(*largest_first)) if o is not None]


def _capped(outcomes: Iterable[Outcome], per_label: int | None) -> list[Outcome]:
    taken: Counter[str] = Counter()
    kept = []
    for outcome in outcomes:
        if per_label is None or taken[outcome.sample.label] < per_label:
            taken[outcome.sample.label] += 1
            kept.append(outcome)
    return kept
