"""What can be done next where a run found nothing better, and the best candidate that it did not write."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Final

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.tuning.arena import ALTERNATIVES, changed, compared, expected_cost
from pytest_promptfit.tuning.forecast import USUAL_FLIPS, enough_calls, gain_line
from pytest_promptfit.tuning.result import Unproven
from pytest_promptfit.tuning.rewrite import diff_lines, rewritten, weighted

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
    plain, soft = (search.arena.new_wire(search.initial, alternatives=count) for count in (0, ALTERNATIVES))
    if soft.asks_for_logprobs and not plain.asks_for_logprobs:
        yield "weights of the labels: `probabilities: true` in the prompt file lets a run fit them, for no calls"
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
        weighing = search.tried_weighing if step.stage == "weights" else None
        now = search.arena.outcomes(prompt, known)
        now = [weighing.held_out(outcome) for outcome in now] if weighing else now
        fixed, broken = map(len, changed(search.arena.outcomes(search.initial, known), now))
        lead = (fixed - broken, -expected_cost(search.arena, prompt, search.dev[0], search.initial), -number)
        if fixed > broken and (best is None or lead > best[0]):
            right = sum(outcome.correct for outcome in now)
            best = (lead, prompt, weighing, Unproven(number, step.summary, right, len(known), fixed, broken))
    if best is None:
        return None
    path = search.arena.parsed.path
    try:
        new_text = rewritten(text, best[1], path=path)
        if best[2] is not None:
            new_text = weighted(new_text, best[2].decision.weights, path=path)
        diff = tuple(diff_lines(text, new_text, path.name))
    except PromptfitError:  # the file's form has no words for it, so it cannot be taken either
        return None
    return replace(best[3], diff=diff)


def _flips(search: Search) -> float:
    """Return the share of dev on which a candidate and the prompt as it is differ by noise, as measured."""
    shares = []
    for prompt in search.history.candidates:
        if prompt == search.initial:  # with weights
            continue
        known = search.known_on_dev(prompt)
        if len(known) >= FEWEST_PAIRS:
            shares.append(min(map(len, compared(search.arena, search.initial, prompt, known))) / len(known))
    return min(0.25, median(shares)) if shares else USUAL_FLIPS
