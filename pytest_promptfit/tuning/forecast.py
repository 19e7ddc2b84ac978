"""What a tuning run will do, can show and could cost: told before anything is paid for."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from pytest_promptfit.chat.free_classifier import predictions
from pytest_promptfit.chat.request import ChatRequest, Turn
from pytest_promptfit.evaluation.metrics import detectable_drop
from pytest_promptfit.prompts.model import ASKING_FIELDS, TEXT_FIELDS
from pytest_promptfit.providers.local import slots
from pytest_promptfit.providers.replies import reply_limit
from pytest_promptfit.providers.usage import BYTES_PER_TOKEN, UNSEEN_REPLY_TOKENS, cost_usd, duration
from pytest_promptfit.providers.wire import provider_of
from pytest_promptfit.text import counted
from pytest_promptfit.tuning.candidates import SIZES, changed, nearest_examples, searched_fields, shortlists
from pytest_promptfit.tuning.drafts import EMPHASES
from pytest_promptfit.tuning.formats import reason_first
from pytest_promptfit.tuning.gate import RUN_ALPHA, least_mistakes
from pytest_promptfit.tuning.meter import Meter, search_budget, shares_of
from pytest_promptfit.tuning.optimizer import LONGEST_MESSAGE
from pytest_promptfit.tuning.proposals import EXAMPLE_SETS, asked_for_reasons
from pytest_promptfit.tuning.race import rounds
from pytest_promptfit.tuning.reflection import ENOUGH_FOR_DRAFTS
from pytest_promptfit.tuning.search import PATCH_SETS
from pytest_promptfit.tuning.steps import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.prompts.model import ModelSpec, TuneSettings
    from pytest_promptfit.prompts.read import ParsedPrompt
    from pytest_promptfit.prompts.samples import SampleSet
    from pytest_promptfit.prompts.split import Split
    from pytest_promptfit.tuning.search import Engine

OPTIMIZER_REPLY_TOKENS = 1000
"""What an estimate takes for a reply of the optimizer."""

USUAL_FLIPS: Final = 0.05
"""The share of samples that one prompt gets right and an equally good one wrong, where it was not measured."""

WORTH_SAYING: Final = 0.05
"""A gain, in accuracy, for which the samples that it takes are told."""

FOLDS: Final = 5


def forecast(
    parsed: ParsedPrompt,
    sample_set: SampleSet,
    parts: Split,
    replayed: Sequence[Outcome],
    concurrency: int,
    engine: Engine,
) -> Iterator[str]:
    """Yield what a run will do, can show and could cost, before anything is paid for.

    ``replayed`` are the outcomes of the prompt as it is, as far as they are recorded. Raises PromptFileError as
    ``check_prices`` does.
    """
    check_prices(parsed)
    tune = parsed.config.tune
    budget = search_budget(tune.budget, len(sample_set.samples), parsed.config.repeats)
    shares = shares_of(parts, budget)
    meter = Meter(budget, reserved=shares.reserved)
    optimizer = f"{tune.model}, at most {meter.optimizer_limit} calls" if tune.model else "none: searches only"
    limits = [f"{name} {limit:g}" for name, (limit, _, _) in meter.limits.items()]
    yield f"split: {len(parts.train)} train, {shares.dev_size} dev, {len(shares.holdout)} holdout"
    yield f"task model: {parsed.config.model}, at most {meter.task_limit} calls, {meter.reserved} of them set aside"
    if repeated := Meter(tune.budget).task_limit - meter.task_limit:
        yield f"repeats: {repeated} more calls, for the further answers to the prompt that is written"
    yield f"optimizer: {optimizer}"
    yield f"limits: {', '.join(limits) or 'calls alone'}"
    edit = searched_fields(parsed) if parsed.config.model.decides else tune.edit
    yield f"may change: {', '.join(name for name in tune.edit if name in edit) or 'nothing'}"
    yield from _cost_lines(parsed, sample_set, meter)
    yield from (*parts.warnings, *shares.warnings)
    texts = [name for name in tune.edit if name in TEXT_FIELDS]
    by_gepa = ("probe", f"gepa: new texts by the optimizer ({', '.join(texts)}) until a limit is reached", "holdout")
    yield f"stages: {'; '.join(by_gepa if engine == 'gepa' else _stages(parsed, sample_set.labels, parts, meter))}"
    yield gain_line(len(parts.train) + len(parts.dev) + len(parts.holdout))
    known = [outcome for outcome in replayed if outcome.reply is not None and not outcome.sample.canonical]
    yield f"headroom: {_headroom(known, parts)}"
    seconds = [outcome.seconds for outcome in known if outcome.seconds is not None]
    if seconds:
        # However many are sent, a model on this machine works on a few.
        at_once = min(concurrency, slots()) if parsed.config.model.provider == "local" else concurrency
        took = duration(median(seconds) * meter.task_limit / at_once)
        pace = f"{at_once} at once, at {median(seconds):.2g} s a call"
        yield f"time: about {took} for {meter.task_limit} task calls, {pace}"
    else:
        yield "time: not known before a reply is recorded (pytest --promptfit --promptfit-record)"


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
    unit = 10 ** max(0, len(str(enough)) - 2)  # two digits of it say something
    rounded = -(-enough // unit) * unit
    more = "" if samples >= enough else f"; {WORTH_SAYING * 100:.0f} points take about {rounded:,}"
    return f"{counted(samples, 'labeled sample')} can prove {can} (found in 4 of 5 runs){more}"


def check_prices(parsed: ParsedPrompt) -> None:
    """Raise PromptFileError when USD are limited and nobody can tell what a model's next reply costs at most."""
    config = parsed.config
    if config.tune.budget.usd is None:
        return
    for model, params in ((config.model, config.all_params), (config.tune.model, config.tune.params)):
        if model is None:
            continue
        asked = ChatRequest(model.name, "", (Turn("user", ""),), params={**model.params, **params})
        limit, price = reply_limit(provider_of(model, parsed.path.parent).payload(asked)), cost_usd(model, 1, 1)
        if price and limit is None:
            raise parsed.error(
                f"tune.budget.usd: cannot hold while a reply of {model} may be of any length: set max_tokens, or "
                "max_completion_tokens, in its params, or limit task_calls, optimizer_calls or tokens",
                *("tune", "budget", "usd"),
            )
        if price is None:
            raise parsed.error(
                f"tune.budget.usd: the price of {model} is not known: limit task_calls, optimizer_calls or tokens",
                *("tune", "budget", "usd"),
            )


def _stages(parsed: ParsedPrompt, labels: Sequence[str], parts: Split, meter: Meter) -> Iterator[str]:
    """Yield the stages that may run, in their order, and why others will not."""
    tune, edit, prompt = parsed.config.tune, searched_fields(parsed), parsed.config.prompt
    optimizer = tune.model is not None
    yield "probe"
    if edit & {"user_prompt_suffix", "bot_reply_prefix"}:
        yield "format, where replies cannot be read"
    drafts = "drafts" in tune.arms and meter.optimizer_limit >= ENOUGH_FOR_DRAFTS
    if optimizer and edit & set(ASKING_FIELDS) and drafts:
        yield f"drafts: up to {len(EMPHASES)} whole prompts by the optimizer, which race, too"
    if "examples" in edit and "reasons" in tune.arms and (most := asked_for_reasons(meter)):
        rules = Rules(edit, labels, parsed.config.extract, max_length=0)
        if any(reason_first(changed(prompt, examples=()), rules, reply_limit(parsed.config.all_params))):
            yield f"reasons: {most} train samples are asked for replies that become examples"
    raced = list(_raced(parsed, labels, parts, has_drafts=optimizer and drafts))
    if raced:
        yield f"examples: a race of {EXAMPLE_SETS} candidates or more ({', '.join(raced)})"
    asked = [arm for arm in ("patches", "rewrites") if arm in tune.arms]
    if optimizer and edit & set(TEXT_FIELDS) and tune.iterations and asked:
        yield f"{' and '.join(asked)}: {counted(tune.iterations, 'round')} of {PATCH_SETS}"
    elif edit & set(TEXT_FIELDS):
        why = "no tune.model" if not optimizer else "tune.iterations is 0" if asked else "not in tune.arms"
        yield f"no patches: {why}"
    is_told = parsed.config.asks_for_probabilities or parsed.config.model.decides
    weighs = "weights" in tune.arms and is_told
    yield f"pruning of what is found; {'weights of the labels, for no calls; ' if weighs else ''}holdout"


def _raced(parsed: ParsedPrompt, labels: Sequence[str], parts: Split, *, has_drafts: bool) -> Iterator[str]:
    """Yield what a race tries: fields, and what is chosen for each text."""
    tune, edit, prompt = parsed.config.tune, searched_fields(parsed), parsed.config.prompt
    if "examples" in edit:
        yield "examples"
        nearest = list(nearest_examples(parsed, parts.train))
        if nearest and "nearest" in tune.arms:
            yield "those nearest to each text"
        if any(shortlists(nearest, labels)) and "shortlist" in tune.arms and prompt.lists_labels:
            yield "a shortlist of labels for each text"
    may_race = {
        "user_prompt_suffix": True,
        "bot_reply_prefix": True,
        "label_words": tune.model is not None,
        "label_notes": bool(prompt.label_notes) or has_drafts,
        "label_order": prompt.lists_labels or parsed.config.model.decides,
    }
    yield from (name for name, may in may_race.items() if may and name in edit)


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


def _cost_lines(parsed: ParsedPrompt, sample_set: SampleSet, meter: Meter) -> Iterator[str]:
    """Yield what all calls could cost, reckoned from the lengths of texts."""
    config = parsed.config
    text = sum(len(sample.text.encode()) for sample in sample_set.samples) // len(sample_set.samples)
    own = len(str(config.prompt.model_dump()).encode())
    given = (own + (max(SIZES) + 1) * text) // BYTES_PER_TOKEN
    yield _cost_line("task model", config.model, config.all_params, meter.task_limit, given, UNSEEN_REPLY_TOKENS)
    if config.tune.model:
        params = {**config.tune.model.params, **config.tune.params}
        given = LONGEST_MESSAGE // BYTES_PER_TOKEN
        yield _cost_line("optimizer", config.tune.model, params, meter.optimizer_limit, given, OPTIMIZER_REPLY_TOKENS)


def _cost_line(who: str, model: ModelSpec, params: Mapping[str, object], calls: int, given: int, written: int) -> str:
    written = 0 if model.decides else reply_limit(params) or written
    price = cost_usd(model, given, written)
    shown = "its price is not known" if price is None else f"about ${calls * price:.2f}"
    return f"estimated cost, {who}: {shown} ({calls} calls of {given} tokens in, {written} out)"
