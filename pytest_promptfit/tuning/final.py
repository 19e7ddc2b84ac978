"""The verdict on a search: whether its final prompt earned the rewrite. Here alone the holdout is looked at.

The final prompt was chosen by its answers on dev, so they flatter it; what the search has not met does not. Both
count: the p of dev, corrected for all candidates that met dev, combined with the p of fresh samples. So one level
holds for the run as a whole, however many stages and candidates it had; ``tests.benchmarks.tuning_errors`` measures it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.evaluation.metrics import mcnemar_midp
from pytest_promptfit.prompts.split import rng
from pytest_promptfit.text import probability
from pytest_promptfit.tuning.arena import ask_what_fits, changed, known_outcomes
from pytest_promptfit.tuning.gate import RUN_ALPHA, best_of, combined, holds_up, not_worse
from pytest_promptfit.tuning.meter import OutOfBudget
from pytest_promptfit.tuning.result import Holdout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.prompts.model import Prompt
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.tuning.search import Found, Search


FROM_ANSWERS = ("format", "reflect", "gepa")
"""Stages whose candidates are made of answers to train samples."""


@dataclass(frozen=True)
class FinalVerdict:
    """Whether the final prompt earned the rewrite, why, and the figures that say so, as far as they were looked at."""

    accepted: bool
    reason: str
    holdout: Holdout | None = None
    fresh: Holdout | None = None
    p_value: float | None = None


def judge_final(search: Search, found: Found) -> FinalVerdict:
    """Judge the final prompt against the initial one, once: by dev, and by what the search has not met."""
    if search.is_initial:
        return FinalVerdict(False, f"no candidate was {'better beyond chance' if search.proposals.tried else 'tried'}")
    search.history.enter("holdout")
    search.arena.meter.reserved = 0  # what was set aside for the end is free now
    others = list(_unmet(search))
    try:
        holdout = _compared(search, search.shares.holdout)
    except OutOfBudget as error:
        return FinalVerdict(False, f"the holdout cannot be asked: {error}")
    # The final prompt's replies are recorded in any case: the initial one is asked with what they leave of the budget.
    parts = search.split
    ask_what_fits(search.arena, search.incumbent, [*search.dev, *parts.train, *parts.dev, *parts.holdout])
    ask_what_fits(search.arena, search.initial, [*search.dev, *others])
    dev = _compared(search, _known(search, search.dev, search.incumbent))
    fresh = _compared(search, [*search.shares.holdout, *_known(search, others, search.incumbent)])
    return _verdict(search, found, dev, holdout, fresh)


def taken(search: Search, number: int) -> FinalVerdict:
    """Make a candidate the final prompt because somebody said so; ``number`` counts the steps from 1.

    It is compared on the holdout all the same. Raises PromptfitError when there is no such candidate.
    """
    candidates = search.history.candidates
    if not 1 <= number <= len(candidates):
        known = f"expected 1 to {len(candidates)}" if candidates else "the run tried no candidate"
        raise PromptfitError(f"{search.arena.parsed.path}: --tune-take {number}: {known}; nothing is written")
    search.duels.incumbent = candidates[number - 1]
    search.weighing = search.tried_weighing if search.history.steps[number - 1].stage == "weights" else None
    search.history.enter("holdout")
    search.arena.meter.reserved = 0
    holdout = None
    with suppress(OutOfBudget):
        holdout = _compared(search, search.shares.holdout)
    return FinalVerdict(True, f"candidate {number} taken by hand, unproven", holdout)


def _verdict(search: Search, found: Found, dev: Holdout, holdout: Holdout, fresh: Holdout) -> FinalVerdict:
    draw = rng(search.seed, 0, "flips")
    # What pruning keeps has looked good on dev by chance, too, and nobody counts its steps: so the prompt that pruning
    # started from counts where its p is larger.
    unpruned = _moved(search, found.unpruned, _known(search, search.dev, found.unpruned))
    p_dev = max(dev.p_value, mcnemar_midp(*map(len, unpruned)))
    p_dev = best_of(p_dev, found.rivals, len(search.dev), draw)
    p_value = combined([(p_dev, dev.n), (fresh.p_value, fresh.n)])
    seen = (
        f"dev: fixed {dev.fixed}, broke {dev.broken}, as the best of {len(found.rivals)}; "
        f"fresh samples: fixed {fresh.fixed}, broke {fresh.broken}; together {probability(p_value)}"
    )
    gained, lost = _moved(search, search.incumbent, search.canonical)
    mends = bool(gained) and not lost and not_worse(dev.fixed, dev.broken)
    if not holds_up(fresh.fixed, fresh.broken):
        return FinalVerdict(False, f"worse on fresh samples ({seen})", holdout, fresh, p_value)
    if p_value <= RUN_ALPHA:
        return FinalVerdict(True, f"better beyond chance ({seen})", holdout, fresh, p_value)
    if mends:
        why = f"fixes {len(gained)} canonical samples, not worse on dev and on fresh samples ({seen})"
        return FinalVerdict(True, why, holdout, fresh, p_value)
    return FinalVerdict(False, f"not better beyond chance ({seen})", holdout, fresh, p_value)


def _unmet(search: Search) -> Iterator[Sample]:
    """Yield the samples, besides the holdout, that the final prompt owes nothing to.

    Where it owes something to answers of train, as the optimizer was shown them, all that was asked is left out: the
    rest would be no fair draw if mistakes alone were taken out.
    """
    made_of = {sample.case_name for sample in search.proposals.shown}
    if any(step.accepted and step.stage in FROM_ANSWERS for step in search.history.steps):
        made_of |= search.asked_of_train
    made_of |= {sample.case_name for sample in (*search.dev, *search.shares.holdout)}
    texts = {example.text for example in search.incumbent.fixed_examples}
    for sample in (*search.split.train, *search.split.dev, *search.split.holdout):
        if sample.case_name not in made_of and sample.text not in texts:
            yield sample


def _known(search: Search, samples: Sequence[Sample], final: Prompt) -> list[Sample]:
    """Return the samples that the initial prompt and another have answered."""
    before, after = (
        {outcome.sample for outcome in known_outcomes(search.arena, prompt, samples)}
        for prompt in (search.initial, final)
    )
    return [sample for sample in samples if sample in before and sample in after]


def _compared(search: Search, samples: Sequence[Sample]) -> Holdout:
    fixed, broken = _moved(search, search.incumbent, samples)
    before = sum(search.arena.right(search.initial, samples))
    after = sum(outcome.correct for outcome in search.held_out(search.incumbent, samples))
    return Holdout(len(samples), before, after, len(fixed), len(broken))


def _moved(search: Search, final: Prompt, samples: Sequence[Sample]) -> tuple[list[str], list[str]]:
    """Return the cases that a prompt fixes and breaks with the weights that were found, fitted on none of them."""
    search.arena.ask_together([search.initial, final], samples)
    return changed(search.arena.outcomes(search.initial, samples), search.held_out(final, samples))
