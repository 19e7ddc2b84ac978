"""The verdict on a search: whether its final prompt earned the rewrite. Here alone the holdout is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.evaluation.metrics import mcnemar_midp
from pytest_promptfit.tuning import sequential
from pytest_promptfit.tuning.figures import compared
from pytest_promptfit.tuning.meter import OutOfBudget
from pytest_promptfit.tuning.result import Holdout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.tuning.search import Search


@dataclass(frozen=True)
class Verdict:
    """Whether the final prompt earned the rewrite, why, and the figures of the holdout, if it was looked at."""

    accepted: bool
    reason: str
    holdout: Holdout | None = None


def judge_final(search: Search) -> Verdict:
    """Judge the final prompt by dev and then, only now and only once, by the holdout."""
    if search.incumbent == search.initial:
        return Verdict(False, f"no candidate was {'better beyond chance' if search.proposals.tried else 'tried'}")
    search.history.enter("holdout")
    search.arena.meter.reserved = 0  # what was set aside for the end is free now
    earned, why = _earned_on_dev(search)
    if not earned:
        return Verdict(False, why)
    try:
        looked = _look_at(search, search.shares.holdout)
    except OutOfBudget as error:
        return Verdict(False, f"the holdout cannot be asked: {error}")
    if not sequential.holds_up(looked.fixed, looked.broken):
        return Verdict(False, "worse on the holdout", looked)
    return Verdict(True, f"{why} and not worse on the holdout", looked)


def _earned_on_dev(search: Search) -> tuple[bool, str]:
    """Compare the final prompt with the initial one where both are known: dev as far as asked, and canonicals."""
    arena, initial, final = search.arena, search.initial, search.incumbent
    seen = arena.seen()
    both = [s for s in search.split.dev if all((p.content_hash, s.case_name) in seen for p in (initial, final))]
    fixed, broken = compared(arena, initial, final, both)
    p_value = mcnemar_midp(len(fixed), len(broken))
    counts = f"fixed {len(fixed)}, broke {len(broken)}, p = {p_value:.3g}"
    if p_value <= sequential.ALPHA:
        return True, f"better on dev ({counts})"
    gained, lost = compared(arena, initial, final, search.canonical)
    if gained and not lost and sequential.not_worse(len(fixed), len(broken)):
        return True, f"fixes {len(gained)} canonical samples, not worse on dev ({counts})"
    return False, f"not better than the initial prompt on dev: {counts}"


def _look_at(search: Search, samples: Sequence[Sample]) -> Holdout:
    arena, initial, final = search.arena, search.initial, search.incumbent
    fixed, broken = compared(arena, initial, final, samples)
    before, after = sum(arena.right(initial, samples)), sum(arena.right(final, samples))
    return Holdout(len(samples), before, after, len(fixed), len(broken))
