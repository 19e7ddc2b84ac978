"""Tuning one prompt file from end to end: the search, the verdict, and the files brought up to date.

The effects come in this order, so that wherever a run is killed or fails, the prompt file as it then is replays
green: the new replies join the recordings, the baseline excuses what either prompt gets wrong, the prompt file is
written, the baseline holds to the new prompt alone, and last the old prompt's recordings go.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.cassettes.recorder import Recorder, prune
from pytest_promptfit.chat.free_classifier import predictions
from pytest_promptfit.chat.nearest import Neighbours
from pytest_promptfit.errors import CassetteError, PromptfitError
from pytest_promptfit.evaluation.baseline import accept, baseline_path, excusing, read_baseline, write_baseline
from pytest_promptfit.evaluation.forward import forward, others_of
from pytest_promptfit.files import write_atomically
from pytest_promptfit.prompts.pool import own_pool, pool_of
from pytest_promptfit.prompts.split import split
from pytest_promptfit.providers import where_a_key_goes
from pytest_promptfit.providers.own import OURS, Custom
from pytest_promptfit.providers.wire import secrets_of
from pytest_promptfit.tuning.arena import (
    Arena,
    ask_again_what_fits,
    ask_what_fits,
    call_cost,
    is_mistake,
    known_outcomes,
    suspects,
)
from pytest_promptfit.tuning.final import judge_final, taken
from pytest_promptfit.tuning.forecast import check_prices
from pytest_promptfit.tuning.gepa_engine import check_gepa
from pytest_promptfit.tuning.memory import About, remember
from pytest_promptfit.tuning.meter import History, Meter, search_budget, shares_of
from pytest_promptfit.tuning.optimizer import Optimizer
from pytest_promptfit.tuning.outlook import best_unproven, what_next
from pytest_promptfit.tuning.race import harness_replies
from pytest_promptfit.tuning.result import Holdout, TuneResult
from pytest_promptfit.tuning.rewrite import diff_lines, file_text, rewritten, weighted, write_rewritten
from pytest_promptfit.tuning.search import ENGINES, Search

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_promptfit.evaluation.baseline import Baseline
    from pytest_promptfit.evaluation.outcomes import Evaluation
    from pytest_promptfit.prompts.model import Decision, Prompt
    from pytest_promptfit.prompts.read import ParsedPrompt
    from pytest_promptfit.prompts.samples import SampleSet
    from pytest_promptfit.providers.usage import Estimate
    from pytest_promptfit.tuning.final import FinalVerdict
    from pytest_promptfit.tuning.memory import Memory
    from pytest_promptfit.tuning.result import Unproven
    from pytest_promptfit.tuning.search import Engine, Found


FOLDER = "tune"
"""Below a prompt's cassettes: where the tuner's own calls are recorded."""


@dataclass(frozen=True)
class Unwritten:
    """A prompt file as it may be written later: its text, and the folder of the harness's replies to it."""

    text: str
    cassettes: Path


@dataclass(frozen=True)
class TuneOptions:
    """How a tuning run is made."""

    seed: int = 0
    engine: Engine = "promptfit"
    iterations: int | None = None
    concurrency: int = 16
    take: int | None = None
    """The candidate, by its number among the steps from 1, that is written whatever the figures say."""
    on_wait: Callable[[str], None] = lambda _message: None
    notify: Callable[[str], None] = lambda _line: None
    """Told, live, what the run is at."""
    custom: Custom = OURS
    """The user's own client, for the optimizer too, and way to read labels."""


def tune_prompt(
    parsed: ParsedPrompt,
    sample_set: SampleSet,
    cassettes: Path,
    options: TuneOptions,
    unwritten: Unwritten | None = None,
) -> TuneResult:
    """Search for a better prompt and rewrite the file when one has earned it.

    ``cassettes`` is the folder of this prompt's recordings. What is ``unwritten`` is tuned in the place of the file,
    and only recordings are written: the result's text is for the caller. Raises PromptfitError when the model cannot
    be asked; the prompt file is then as it was.
    """
    text = unwritten.text if unwritten else file_text(parsed.path)
    read_baseline(baseline_path(parsed.path))  # one that cannot be read is told before anything is paid for
    check_options(parsed, options)
    check_prices(parsed)
    own = unwritten.cassettes if unwritten else cassettes
    harness = _Harness(own, Cassette.load(own, others_of(parsed, own)), options)
    with Recorder.open(cassettes / FOLDER, secrets_of(parsed), on_wait=options.on_wait) as recorder:
        search = _prepared(parsed, sample_set, recorder, harness.known, options)
        iterations = parsed.config.tune.iterations if options.iterations is None else options.iterations
        memory = _remembered(search, recorder, iterations)
        search.history.earlier = memory.earlier
        found = search.run(iterations)
        verdict = judge_final(search, found) if options.take is None else taken(search, options.take)
        new_text, unfinished = _written(search, verdict, sample_set, harness, text, writes=unwritten is None)
        if options.take is None:  # a candidate that somebody takes replays the run that found it
            history = search.history
            steps = zip(history.steps, history.incumbents, history.candidates, strict=True)
            memory.complete(steps, _mistakes(search))
    diff = diff_lines(text, new_text, parsed.path.name)
    unproven = None if verdict.accepted else best_unproven(search, text)
    warnings = [*memory.warnings, *unfinished]
    return replace(_result(search, found, verdict, sample_set, diff, warnings, unproven), text=new_text)


def _remembered(search: Search, recorder: Recorder, iterations: int) -> Memory:
    parts, arena = search.split, search.arena
    return remember(
        recorder,
        About(
            arena.parsed.config,
            arena.labels,
            (*parts.train, *parts.dev, *parts.holdout, *search.canonical),
            (*search.dev, *search.canonical),
            (search.seed, iterations, *((search.engine,) if search.engine != "promptfit" else ())),
        ),
    )


def _mistakes(search: Search) -> Iterator[str]:
    """Yield the ids of the train samples that the first or the last prompt got wrong."""
    for prompt in (search.initial, search.incumbent):
        known = known_outcomes(search.arena, prompt, search.split.train)
        yield from (outcome.sample.id for outcome in known if is_mistake(outcome))


def check_options(parsed: ParsedPrompt, options: TuneOptions) -> None:
    """Raise PromptfitError when a prompt file cannot be tuned in this way."""
    if options.engine not in ENGINES:
        raise PromptfitError(f"unknown engine {options.engine!r}: expected one of {', '.join(ENGINES)}")
    if options.engine == "gepa":
        check_gepa(parsed, options.iterations)


def _prepared(
    parsed: ParsedPrompt, sample_set: SampleSet, recorder: Recorder, harness: Cassette, options: TuneOptions
) -> Search:
    """Return the search, ready to run: samples split, budget shared out, nothing asked."""
    config = parsed.config
    parts = split(sample_set.samples)
    budget = search_budget(config.tune.budget, len(sample_set.samples), config.repeats)
    shares = shares_of(parts, budget)
    meter = Meter(budget, reserved=shares.reserved)
    history = History(meter, options.notify)
    # Candidates draw nearest examples from what the prompt does, else from its own samples.
    pool = pool_of(parsed, sample_set.labels)
    arena = Arena(
        parsed,
        sample_set.labels,
        recorder,
        harness,
        meter,
        concurrency=options.concurrency,
        on_call=history.tell,
        on_wait=options.on_wait,
        custom=options.custom,
        chooses=Neighbours(pool if pool.rows else own_pool(sample_set.samples)),
    )
    optimizer = _optimizer(parsed, recorder, history, options)
    canonical = tuple(sample for sample in sample_set.samples if sample.canonical)
    return Search(arena, history, optimizer, parts, shares, canonical, options.seed, options.engine)


@dataclass(frozen=True)
class _Harness:
    """The recordings that a replay uses: their folder, and what was in it when the run began."""

    folder: Path
    known: Cassette
    options: TuneOptions

    def take_over(self, arena: Arena, prompt: Prompt, sample_set: SampleSet) -> list[str]:
        """Copy the replies to a prompt that were asked in tuning, so that nobody pays again; return their keys."""
        keys = []
        secrets = secrets_of(arena.parsed)
        with Recorder.open(self.folder, secrets, on_wait=self.options.on_wait) as recorder:
            for key, recorded in harness_replies(arena, prompt, sample_set.samples):
                keys.append(key)
                if recorded is not None and key not in recorder.cassette:
                    recorder.keep(recorded)
        return keys

    def replayed(self, search: Search, sample_set: SampleSet) -> Evaluation:
        """Return what a replay will find once the incumbent and its weights stand in the file."""
        parsed = search.arena.parsed
        update: dict[str, Prompt | Decision] = {"prompt": search.incumbent}
        if search.weighing is not None:
            update["decision"] = search.weighing.decision
        parsed = replace(parsed, config=parsed.config.model_copy(update=update))
        return forward(parsed, sample_set, sample_set.samples, self.folder, custom=self.options.custom)

    def prune(self, keep: Sequence[str]) -> list[str]:
        """Delete what was there before and is not to be kept; return what is to be said."""
        try:
            prune(self.folder, keep, self.known, self.options.on_wait)
        except CassetteError as error:  # the prompt is tuned all the same
            return [f"the recordings of the old prompt are still there: {error}"]
        return []


def _written(
    search: Search, verdict: FinalVerdict, sample_set: SampleSet, harness: _Harness, text: str, *, writes: bool
) -> tuple[str, list[str]]:
    """Bring all files up to date; return the prompt file's text as it is now, and what is to be said.

    Where nothing ``writes`` the file, its recordings alone are brought up to date.
    """
    arena = search.arena
    if not verdict.accepted:
        harness.take_over(arena, search.initial, sample_set)
        return text, []
    path, prompt = arena.parsed.path, search.incumbent
    new_text = rewritten(text, prompt, path=path)
    if search.weighing is not None:
        new_text = weighted(new_text, search.weighing.decision.weights, path=path)
    search.history.enter("recording")
    ask_what_fits(arena, prompt, sample_set.samples)
    arena.meter.budget = arena.parsed.config.tune.budget  # what was set aside for further answers is free now
    ask_again_what_fits(arena, prompt, sample_set.samples)
    if not writes:
        harness.take_over(arena, prompt, sample_set)
        return new_text, []
    if file_text(path) != text:
        raise PromptfitError(f"{path}: changed since it was read, so it is left as it is: run again")
    keys = harness.take_over(arena, prompt, sample_set)
    replayed = harness.replayed(search, sample_set)
    old = read_baseline(baseline_path(path))
    new_baseline = accept(old, replayed, [sample.case_name for sample in sample_set.samples])
    with excusing_both(arena.parsed, sample_set, harness.folder, new_baseline, harness.options.custom):
        write_rewritten(path, text, new_text)
    write_baseline(baseline_path(path), new_baseline)
    unasked = sum(outcome.reply is None for outcome in replayed.outcomes)
    warnings = [
        f"{unasked} samples have no recorded reply to the new prompt, because the budget is used up, or a call failed: "
        "pytest --promptfit --promptfit-record asks for them"
    ]
    return new_text, [*(warnings if unasked else ()), *harness.prune(keys)]


@contextmanager
def excusing_both(
    parsed: ParsedPrompt, sample_set: SampleSet, cassettes: Path, new: Baseline, custom: Custom = OURS
) -> Iterator[None]:
    """Have, while the prompt file is written, a baseline that neither prompt is worse than; put back where that fails.

    Between two files there is always a moment for a kill: the new baseline alone would fail the old prompt for
    what the new one fixed, and the old baseline the new prompt for what it broke.
    """
    target = baseline_path(parsed.path)
    before = target.read_bytes() if target.exists() else None
    replayed = forward(parsed, sample_set, sample_set.samples, cassettes, custom=custom)
    write_baseline(target, excusing(new, replayed))
    try:
        yield
    except BaseException:
        with suppress(OSError):
            write_atomically(target, before.decode()) if before is not None else target.unlink()
        raise


def _result(
    search: Search,
    found: Found,
    verdict: FinalVerdict,
    sample_set: SampleSet,
    diff: Sequence[str],
    unfinished: Sequence[str],
    unproven: Unproven | None,
) -> TuneResult:
    history = search.history
    unusable = search.proposals.unusable
    left = search.incumbent if verdict.accepted else search.initial
    costs = _costs(search, left) if verdict.accepted else (None, None)
    before, after = (known_outcomes(search.arena, prompt, search.canonical) for prompt in (search.initial, left))
    after = search.as_written(after) if verdict.accepted else after
    return TuneResult(
        path=str(search.arena.parsed.path),
        accepted=verdict.accepted,
        reason=verdict.reason,
        stop_reason=found.stop_reason,
        steps=tuple(history.steps),
        scores=tuple(history.scores),
        stages=history.stages(),
        holdout=verdict.holdout,
        fresh=verdict.fresh,
        p_value=verdict.p_value,
        canonical_total=len(search.canonical),
        canonical_before=sum(outcome.correct for outcome in before),
        canonical_after=sum(outcome.correct for outcome in after),
        usage=history.meter.usage,
        cost_before=costs[0],
        cost_after=costs[1],
        free_classifier=_free_classifier(search, left, weighed=verdict.accepted),
        advice=() if verdict.accepted else tuple(what_next(search, found.unfinished, unproven)),
        unproven=unproven,
        diff=tuple(diff),
        suspects=tuple(suspects(search.arena, sample_set.samples)),
        warnings=(
            *search.split.warnings,
            *search.shares.warnings,
            *search.proposals.warnings,
            *(f"optimizer: {len(unusable)} answers could not be used, the last one: {last}" for last in unusable[-1:]),
            *_where_keys_went(search),
            *unfinished,
        ),
    )


def _costs(search: Search, final: Prompt) -> tuple[Estimate | None, Estimate | None]:
    """Return what a call takes under the initial and the final prompt, on samples that both were asked."""
    arena, samples = search.arena, [*search.split.train, *search.split.dev, *search.split.holdout]
    before, after = (
        {o.sample: o for o in known_outcomes(arena, prompt, samples) if o.reply} for prompt in (search.initial, final)
    )
    both = before.keys() & after.keys()
    spec = arena.parsed.config.model
    return tuple(call_cost(spec, [found[s] for s in samples if s in both]) for found in (before, after))  # type: ignore[return-value]


def _free_classifier(search: Search, prompt: Prompt, *, weighed: bool) -> Holdout | None:
    """Return how a classifier without a language model does against a prompt, on samples that neither was made of.

    Those are the holdout or, where that was not asked because the prompt stayed as it was, dev.
    """
    parts, arena = search.split, search.arena
    known = known_outcomes(arena, prompt, search.shares.holdout)
    learned = [*parts.train, *parts.dev]
    if not known and prompt == search.initial and not weighed:
        known, learned = known_outcomes(arena, prompt, search.dev), [*parts.train, *parts.holdout]
    if not known or not learned:
        return None
    known = search.as_written(known) if weighed else known
    said = predictions(learned, [outcome.sample.text for outcome in known])
    pairs = [(o.correct, label == o.sample.label) for o, label in zip(known, said, strict=True)]
    return Holdout(
        len(pairs),
        before=sum(free for _, free in pairs),
        after=sum(right for right, _ in pairs),
        fixed=sum(right and not free for right, free in pairs),
        broken=sum(free and not right for right, free in pairs),
    )


def _optimizer(parsed: ParsedPrompt, recorder: Recorder, history: History, options: TuneOptions) -> Optimizer | None:
    tune = parsed.config.tune
    if tune.model is None:
        return None
    return Optimizer(
        tune.model,
        tune.params,
        parsed.path.parent,
        recorder,
        history.meter,
        on_call=history.tell,
        on_wait=options.on_wait,
        custom=options.custom,
    )


def _where_keys_went(search: Search) -> list[str]:
    config, optimizer = search.arena.parsed.config, search.optimizer
    asked = [config.model] if search.arena.has_asked else []
    if optimizer and optimizer.has_asked and config.tune.model:
        asked.append(config.tune.model)
    return list(dict.fromkeys(line for model in asked for line in where_a_key_goes(model)))
