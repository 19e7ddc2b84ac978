"""What so many samples and calls can show at all, and what to do next where a run found nothing better."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Final

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.evaluation.metrics import detectable_drop
from pytest_promptfit.prompts.model import TEXT_FIELDS
from pytest_promptfit.providers.usage import duration
from pytest_promptfit.text import counted
from pytest_promptfit.tuning.arena import compared, expected_cost
from pytest_promptfit.tuning.drafts import ASKING_FIELDS, EMPHASES
from pytest_promptfit.tuning.free_classifier import predictions
from pytest_promptfit.tuning.gate import RUN_ALPHA, least_mistakes
from pytest_promptfit.tuning.meter import Meter, shares_of
from pytest_promptfit.tuning.proposals import EXAMPLE_SETS
from pytest_promptfit.tuning.race import rounds
from pytest_promptfit.tuning.reflection import ENOUGH_FOR_DRAFTS
from pytest_promptfit.tuning.result import Unproven
from pytest_promptfit.tuning.rewrite import diff_lines, rewritten
from pytest_promptfit.tuning.search import PATCH_SETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.prompts.model import TuneSettings
    from pytest_promptfit.prompts.read import ParsedPrompt
    from pytest_promptfit.prompts.split import Split
    from pytest_promptfit.tuning.search import Search

USUAL_FLIPS: Final = 0.05
"""The share of samples that one prompt gets right and an equally good one wrong, where it was not measured."""

WORTH_SAYING: Final = 0.05
"""A gain, in accuracy, for which the samples that it takes are told."""

FOLDS: Final = 5

FEWEST_PAIRS: Final = 20
"""Samples on which two prompts must have been compared for a share of them to say anything."""


def provable_gain(samples: int, flips: float = USUAL_FLIPS) -> float | None:
    """Return the smallest gain in accuracy that a run on so many labeled samples finds in 80 % of runs.

    As one paired test on all of them: the run as a whole finds it some four points less often (83 of 100 runs, where
    that is 86). ``None`` where no gain can be found with so few.
    """
    return detectable_drop(samples, alpha=RUN_ALPHA, flips=flips)


def samples_for(gain: float, flips: float = USUAL_FLIPS) -> int:
    """Return how many labeled samples it takes to find a ``gain``, above 0, in 80 % of runs."""

    def suffice(samples: int) -> bool:
        found = provable_gain(samples, flips)
        return found is not None and found <= gain

    most = 32
    while not suffice(most):
        most *= 2
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if suffice(middle) else (middle, most)
    return most


def enough_calls(parts: Split, tune: TuneSettings) -> int:
    """Return how many task calls let every stage run: all of dev and holdout looked at, every candidate in the race."""
    limit, share = 100, 0.6 if tune.model else 0.85
    while True:
        shares = shares_of(parts, tune.budget.model_copy(update={"task_calls": limit}))
        plan = rounds(EXAMPLE_SETS + 1, shares.dev_size, int((limit - shares.reserved) * share))
        if not shares.warnings and (plan[0].keep > EXAMPLE_SETS or not shares.dev_size):
            return limit
        limit += max(50, limit // 1000 * 100)


def gain_line(samples: int, flips: float = USUAL_FLIPS) -> str:
    """Return what gain so many labeled samples can prove, and how many a small one takes."""
    gain, enough = provable_gain(samples, flips), samples_for(WORTH_SAYING, flips)
    can = "no gain" if gain is None else f"a gain of {gain * 100:.0f} points or more"
    more = "" if samples >= enough else f"; {WORTH_SAYING * 100:.0f} points take about {_rounded(enough):,}"
    return f"{counted(samples, 'labeled sample')} can prove {can} (found in 4 of 5 runs){more}"


def forecast(parsed: ParsedPrompt, parts: Split, replayed: Sequence[Outcome], concurrency: int) -> Iterator[str]:
    """Yield what a run will do and can show, before anything is paid for.

    ``replayed`` are the outcomes of the prompt as it is, as far as they are recorded.
    """
    tune = parsed.config.tune
    known = [outcome for outcome in replayed if outcome.reply is not None and not outcome.sample.canonical]
    yield f"stages: {'; '.join(_stages(tune))}"
    yield gain_line(len(parts.train) + len(parts.dev) + len(parts.holdout))
    yield f"headroom: {_headroom(known, parts)}"
    seconds = [outcome.seconds for outcome in known if outcome.seconds is not None]
    if seconds:
        calls = Meter(tune.budget).task_limit
        took = duration(median(seconds) * calls / concurrency)
        yield f"time: about {took} for {calls} task calls, {concurrency} at once, at {median(seconds):.2g} s a call"
    else:
        yield "time: not known before a reply is recorded (pytest --promptfit --promptfit-record)"


def _stages(tune: TuneSettings) -> Iterator[str]:
    """Yield the stages that may run, in their order, and why others will not."""
    edit, optimizer = set(tune.edit), tune.model is not None
    yield "probe"
    if edit & {"user_prompt_suffix", "bot_reply_prefix"}:
        yield "format, where replies cannot be read"
    drafts = "drafts" in tune.arms and Meter(tune.budget).optimizer_limit >= ENOUGH_FOR_DRAFTS
    if optimizer and edit & ASKING_FIELDS and drafts:
        yield f"drafts: up to {len(EMPHASES)} whole prompts by the optimizer, which race, too"
    kinds = ("examples", "user_prompt_suffix", "bot_reply_prefix", *(("label_words",) if optimizer else ()))
    raced = [name for name in kinds if name in edit]
    if raced:
        yield f"examples: a race of up to {EXAMPLE_SETS} candidates ({', '.join(raced)})"
    asked = [arm for arm in ("patches", "rewrites") if arm in tune.arms]
    if optimizer and edit & set(TEXT_FIELDS) and tune.iterations and asked:
        yield f"{' and '.join(asked)}: {counted(tune.iterations, 'round')} of {PATCH_SETS}"
    elif edit & set(TEXT_FIELDS):
        why = "no tune.model" if not optimizer else "tune.iterations is 0" if asked else "not in tune.arms"
        yield f"no patches: {why}"
    yield "pruning of what is found; holdout"


def _headroom(known: Sequence[Outcome], parts: Split) -> str:
    """Return how much a better prompt could gain at most, as far as replies to the one as it is are recorded."""
    if not known:
        return "not known before the prompt's replies are recorded (pytest --promptfit --promptfit-record)"
    wrong = [outcome for outcome in known if not outcome.correct]
    doubtful = _doubtful(wrong, parts)
    share = len(wrong) / len(known)
    said = f"{len(known) - len(wrong)} of {len(known)} recorded samples are right, so {share * 100:.1f} points are left"
    if doubtful:
        said += (
            f", {doubtful / len(known) * 100:.1f} of them perhaps wrong labels ({counted(doubtful, 'sample')} where "
            "the model and a classifier without one agree on another label)"
        )
    if round(share * len(parts.dev)) < least_mistakes(len(parts.dev), len(parts.train) + len(parts.holdout)):
        said += ": too few to tell a better prompt from chance, a run would end at once"
    return said


def _doubtful(wrong: Sequence[Outcome], parts: Split) -> int:
    """Count the mistakes in which a classifier that learned from the other samples agrees with the model."""
    samples = [*parts.train, *parts.dev, *parts.holdout]
    found = 0
    for fold in range(FOLDS):
        held = {sample.case_name for sample in samples[fold::FOLDS]}
        judged = [outcome for outcome in wrong if outcome.sample.case_name in held and outcome.predicted is not None]
        learned = [sample for sample in samples if sample.case_name not in held]
        if judged and learned:
            said = predictions(learned, [outcome.sample.text for outcome in judged])
            found += sum(label == outcome.predicted for label, outcome in zip(said, judged, strict=True))
    return found


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
        lead = (fixed - broken, -expected_cost(search.arena, prompt, search.dev[0]), -number)
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


def _rounded(count: int) -> int:
    """Return a count with two digits that say something."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit
