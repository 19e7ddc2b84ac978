"""Tuning one prompt file from end to end: search, verdict, and the files brought up to date.

The effects come in this order, so that a run killed anywhere can be started again: recordings, baseline, and
the prompt file last.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.baseline import accept, baseline_path, read_baseline, write_baseline
from pytest_promptfit.cassette import Cassette
from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.evaluation import Evaluation, Outcome
from pytest_promptfit.providers import provider_of
from pytest_promptfit.recorder import Recorder, prune
from pytest_promptfit.rewrite import diff_lines, file_text, rewritten, write_rewritten
from pytest_promptfit.tune.arena import Arena, keep
from pytest_promptfit.tune.meter import Meter, OutOfBudget
from pytest_promptfit.tune.optimizer import Optimizer
from pytest_promptfit.tune.plan import check_prices, models_of, shares_of
from pytest_promptfit.tune.plan import plan_lines as plan_lines
from pytest_promptfit.tune.result import TuneResult, TuneUsage
from pytest_promptfit.tune.search import Search, judge_final, suspects
from pytest_promptfit.tune.split import split

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_promptfit.prompt_file import ParsedPrompt, Prompt
    from pytest_promptfit.samples import Sample, SampleSet

FOLDER = "tune"
"""Below a prompt's cassettes: where the tuner's own calls are recorded."""


@dataclass(frozen=True)
class TuneOptions:
    """How a tuning run is made."""

    seed: int = 0
    iterations: int | None = None
    concurrency: int = 16
    on_wait: Callable[[str], None] = lambda _message: None
    notify: Callable[[str], None] = lambda _line: None
    """Told, live, what the run is at."""


def tune_prompt(parsed: ParsedPrompt, sample_set: SampleSet, cassettes: Path, options: TuneOptions) -> TuneResult:
    """Search for a better prompt and rewrite the file when one has earned it.

    ``cassettes`` is the folder of this prompt's recordings. Raises PromptfitError when the model cannot be
    asked; the prompt file is then as it was.
    """
    text = file_text(parsed.path)
    config = parsed.config
    check_prices(parsed)
    parts = split(sample_set.samples)
    canonical = tuple(sample for sample in sample_set.samples if sample.canonical)
    shares = shares_of(parts, config.tune.budget)
    meter = Meter(config.tune.budget, reserved=shares.reserved)
    with Recorder.open(cassettes / FOLDER, _secrets(parsed), on_wait=options.on_wait) as recorder:
        search: Search

        def tell(*_: object) -> None:
            options.notify(progress_line(search, meter))

        arena = Arena(
            parsed,
            sample_set.labels,
            recorder,
            Cassette.load(cassettes),
            meter,
            concurrency=options.concurrency,
            on_call=tell,
        )
        search = Search(
            arena,
            _optimizer(parsed, recorder, meter, tell),
            parts,
            canonical,
            config.prompt,
            config.tune,
            options.seed,
            shares.dev_size,
            notify=tell,
        )
        search.run(config.tune.iterations if options.iterations is None else options.iterations)
        meter.reserved = 0
        accepted, reason, looked = judge_final(search, shares.holdout)
        new_text = rewritten(text, search.incumbent, path=parsed.path) if accepted else text
        if accepted:
            unfinished = _bring_up_to_date(search, sample_set, cassettes, text)
            write_rewritten(parsed.path, text, new_text)
        else:
            _hand_over(arena, search.initial, sample_set, cassettes)
            unfinished = []
    return TuneResult(
        path=str(parsed.path),
        accepted=accepted,
        reason=reason,
        stop_reason=search.stop_reason,
        steps=tuple(search.steps),
        holdout=looked,
        canonical_total=len(canonical),
        canonical_before=sum(o.correct for o in search.seen(search.initial, canonical)),
        canonical_after=sum(
            o.correct for o in search.seen(search.incumbent if accepted else search.initial, canonical)
        ),
        usage=_usage(meter),
        diff=tuple(diff_lines(text, new_text, parsed.path.name)),
        suspects=tuple(suspects(arena, sample_set.samples)),
        warnings=(*parts.warnings, *shares.warnings, *_optimizer_warnings(search), *unfinished),
    )


def progress_line(search: Search, meter: Meter) -> str:
    """Return what a run is at: stage, candidates left, calls and money."""
    paid = f", ${meter.paid_usd:.4f} paid" if meter.paid_usd else ""
    left = f", {search.left} left" if search.left else ""
    accepted = sum(step.accepted for step in search.steps)
    return (
        f"tuning: {search.stage}{left}, {accepted} of {len(search.steps)} steps accepted, "
        f"{meter.task_calls}/{meter.task_limit} calls{paid}"
    )


def _optimizer(parsed: ParsedPrompt, recorder: Recorder, meter: Meter, tell: Callable[[], None]) -> Optimizer | None:
    tune = parsed.config.tune
    if tune.model is None:
        return None
    return Optimizer(tune.model, tune.params, parsed.path.parent, recorder, meter, on_call=tell)


def _optimizer_warnings(search: Search) -> list[str]:
    if not search.unusable:
        return []
    return [f"optimizer: {len(search.unusable)} answers could not be used, the last one: {search.unusable[-1]}"]


def _secrets(parsed: ParsedPrompt) -> tuple[str, ...]:
    return tuple(secret for model in models_of(parsed) for secret in provider_of(model, parsed.path.parent).secrets())


def _bring_up_to_date(search: Search, sample_set: SampleSet, cassettes: Path, text: str) -> list[str]:
    """Record the final prompt over all samples for the harness, and accept its outcomes as the baseline.

    Returns what is to be said. Raises PromptfitError, and leaves all files alone, when the prompt file has
    changed meanwhile.
    """
    arena, prompt = search.arena, search.incumbent
    unknown = _unknown(arena, prompt, sample_set)
    if unknown:
        fitting = arena.affordable([prompt], max(unknown, key=lambda sample: len(sample.text)))
        with suppress(OutOfBudget):
            arena.outcomes(prompt, unknown[:fitting])
    if file_text(arena.parsed.path) != text:
        raise PromptfitError(f"{arena.parsed.path}: changed since it was read, so it is left as it is: run again")
    prune(cassettes, _hand_over(arena, prompt, sample_set, cassettes))
    _write_baseline(arena, prompt, sample_set, search.seen(prompt, sample_set.samples))
    unasked = len(_unknown(arena, prompt, sample_set))
    if not unasked:
        return []
    return [
        f"{unasked} samples have no recorded reply to the new prompt, because the budget is used up: "
        f"pytest --promptfit --promptfit-record asks for them"
    ]


def _unknown(arena: Arena, prompt: Prompt, sample_set: SampleSet) -> list[Sample]:
    """Return the samples that a prompt has not answered."""
    seen, name = arena.seen(), prompt.content_hash
    return [sample for sample in sample_set.samples if (name, sample.case_name) not in seen]


def _hand_over(arena: Arena, prompt: Prompt, sample_set: SampleSet, cassettes: Path) -> list[str]:
    """Copy the replies to a prompt into the harness's recordings, so that nobody pays again; return their keys."""
    wire = arena.wire(prompt)
    keys = [wire.key(wire.payload(sample.text)) for sample in sample_set.samples]
    with Recorder.open(cassettes) as harness:
        for key in keys:
            recorded = arena.recorder.cassette.find(key)
            if recorded is not None and key not in harness.cassette:
                keep(harness, recorded)
    return keys


def _write_baseline(arena: Arena, prompt: Prompt, sample_set: SampleSet, outcomes: list[Outcome]) -> None:
    evaluation = Evaluation(
        name=arena.parsed.name,
        path=str(arena.parsed.path),
        model=str(arena.parsed.config.model),
        prompt_hash=prompt.content_hash,
        labels=sample_set.labels,
        outcomes=tuple(outcomes),
    )
    target = baseline_path(arena.parsed.path)
    write_baseline(target, accept(read_baseline(target), evaluation, [s.case_name for s in sample_set.samples]))


def _usage(meter: Meter) -> TuneUsage:
    return TuneUsage(
        task_calls=meter.task_calls,
        optimizer_calls=meter.optimizer_calls,
        replayed=meter.replayed,
        input_tokens=meter.input_tokens,
        output_tokens=meter.output_tokens,
        task_usd=meter.task_usd,
        optimizer_usd=meter.optimizer_usd,
        paid_usd=meter.paid_usd,
    )
