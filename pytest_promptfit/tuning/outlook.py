"""What can be done next where a run found nothing better, and the best candidate that it did not write."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Final

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.tuning.arena import compared, expected_cost
from pytest_promptfit.tuning.forecast import USUAL_FLIPS, enough_calls, gain_line
from pytest_promptfit.tuning.result import Unproven
from pytest_promptfit.tuning.rewrite import diff_lines, rewritten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.tuning.search import Search

FEWEST_PAIRS: Final = 20
"""Samples on which two prompts must have been compared for a share of them to say anything."""


def what_next(search: Search, unfinished: Sequence[str], unproven: Unproven | None) -> Iterator[str]:
    """Yield what can be done where nothing was written; ``unfinished`` are the stages that the budget cut short."""
    parts = search.split
    samples = len(parts.train) + len(parts.dev) + len(parts.holdout)
    yield f"more samples: {gain_line(samples, _flips(search))}"
    tune, limit = search.arena.parsed.config.tune, search.arena.meter.task_limit
    needed = enough_calls(parts, tune)
    if unfinished and needed > limit:
        cut = " and ".join(unfinished)
        yield f"a larger budget: {cut} did not run through; tune.budget.task_calls: {needed} would do"
    if tune.model is None:
        yield "an optimizer: without tune.model the texts themselves are not changed, only searched around"
    if unproven is not None:
        yield (
            f"the best candidate, by hand: candidate {unproven.number} was right on {unproven.right} of "
            f"{unproven.seen} dev samples (fixed {unproven.fixed}, broke {unproven.broken}), which is no proof; "
            f"pytest --tune --tune-take {unproven.number} writes it"
        )


def best_unproven(search: Search, text: str) -> Unproven | None:
    """Return the candidate that did best on dev against the prompt as it is, of those that lost nothing on balance.

    ``text`` is the prompt file's.
    """
    history, best = search.history, None
    for number, (step, prompt) in enumerate(zip(history.steps, history.candidates, strict=True), 1):
        known = search.known_on_dev(prompt)
        fixed, broken = map(len, compared(search.arena, search.initial, prompt, known))
        lead = (fixed - broken, -expected_cost(search.arena, prompt, search.dev[0], search.initial), -number)
        if fixed > broken and (best is None or lead > best[0]):
            right = sum(search.arena.right(prompt, known))
            best = (lead, prompt, Unproven(number, step.summary, right, len(known), fixed, broken))
    if best is None:
        return None
    path = search.arena.parsed.path
    try:
        diff = tuple(diff_lines(text, rewritten(text, best[1], path=path), path.name))
    except PromptfitError:  # the file's form has no words for it, so it cannot be taken either
        return None
    return replace(best[2], diff=diff)


def _flips(search: Search) -> float:
    """Return the share of dev on which a candidate and the prompt as it is differ by noise, as measured."""
    shares = []
    for prompt in search.history.candidates:
        known = search.known_on_dev(prompt)
        if len(known) >= FEWEST_PAIRS:
            shares.append(min(map(len, compared(search.arena, search.initial, prompt, known))) / len(known))
    return min(0.25, median(shares)) if shares else USUAL_FLIPS
