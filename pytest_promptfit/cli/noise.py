"""``promptfit noise PROMPT``: how often the same model answers the same question otherwise, and what that hides.

Reads recordings; asks only where that is wanted, within limits. Answers that the harness does not ask for are kept
apart, in ``noise`` among the prompt's recordings, where canaries look for them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cassettes.where import Where
from pytest_promptfit.cli.asking import read_asking, record_command
from pytest_promptfit.errors import PromptfitError, told_in_one_line
from pytest_promptfit.evaluation.baseline import USUAL_ALPHA
from pytest_promptfit.evaluation.canary import NOISE
from pytest_promptfit.evaluation.forward import forward
from pytest_promptfit.evaluation.metrics import detectable_drop
from pytest_promptfit.evaluation.noise import flips_of
from pytest_promptfit.prompts.model import MOST_REPEATS
from pytest_promptfit.prompts.read import asked_times, parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples
from pytest_promptfit.providers.wire import refuse_keys
from pytest_promptfit.reports.case_text import said_answers
from pytest_promptfit.reports.machine import noise_as_json
from pytest_promptfit.reports.terminal import what_it_takes
from pytest_promptfit.reports.verdict import causes
from pytest_promptfit.text import counted, cut, percent, plain, relative_to
from pytest_promptfit.tuning.ablation import chosen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.evaluation.outcomes import Evaluation, Outcome
    from pytest_promptfit.providers.usage import Usage

ANSWERS = 3
"""Answers to each sample, unless somebody says otherwise."""

TEXT = 60
"""Characters of a text beside its answers."""


def noise(
    prompt: str,
    *,
    repeats: int | None = None,
    samples: int | None = None,
    record: bool = False,
    budget: float | None = None,
    max_calls: int | None = None,
    concurrency: int | None = None,
    allow_ci: bool = False,
    cassettes: Path | None = None,
    as_json: bool = False,
) -> Iterator[str]:
    """Yield the noise of a prompt and its model, line by line, or as JSON; with ``record`` it is measured first.

    ``repeats`` are the answers to each sample, by default the file's own or 3, ``samples`` how many labeled samples are
    taken at most. Raises PromptfitError for a mistake, and at the end where no sample has all its answers.
    """
    asking = read_asking(record=record, allow_ci=allow_ci, budget=budget, max_calls=max_calls, concurrency=concurrency)
    parsed = parse_prompt_file(Path(prompt.partition("::")[0]))
    own = parsed.config.repeats
    answers = repeats or (own if own > 1 else ANSWERS)
    if not 2 <= answers <= MOST_REPEATS:
        raise PromptfitError(f"--repeats {answers}: expected 2 to {MOST_REPEATS} answers to each sample")
    with told_in_one_line(parsed.path):
        sample_set = read_samples(parsed)
        refuse_keys(parsed, sample_set.labels, sample_set.samples)
        some = chosen(sample_set, samples) if samples else list(sample_set.samples)
        folder = Where(cassettes).of(parsed.path, parsed.name)
        runs = []
        if asking is not None:  # what the harness asks for is kept where it looks for it
            runs.append(forward(asked_times(parsed, min(own, answers)), sample_set, some, folder, asking=asking))
        many = asked_times(parsed, answers)
        found = forward(many, sample_set, some, folder / NOISE, asking=asking, beside=folder)
        runs.append(found)
    if as_json:
        yield json.dumps(_as_json(found, len(sample_set.labeled)), indent=2, ensure_ascii=False)
    else:
        yield from _lines(found)
        given = {"--repeats": repeats, "--samples": samples}
        words = (word for name, value in given.items() if value is not None for word in (name, str(value)))
        yield from _unknown(found, record_command("noise", prompt, *words, cassettes=cassettes))
        if record:
            yield _asked([run.usage for run in runs])
    if found.noise is None:
        raise PromptfitError(f"no labeled sample has {answers} answers, so its noise is not known")


def _lines(found: Evaluation) -> Iterator[str]:
    measured, known = found.noise, [one for one in found.labeled if one.answers]
    yield f"{plain(relative_to(found.path, Path.cwd()))}: {plain(found.model)}"
    if measured is None:
        return
    low, high = map(percent, measured.interval)
    yield (
        f"{counted(measured.samples, 'sample')}, {measured.answers} answers each: {measured.unstable} unstable, "
        f"noise {percent(measured.share)} (95 % interval {low} to {high})"
    )
    yield f"two answers to the same sample differ in {percent(measured.disagreement)}"
    each = ", ".join(percent(share) for share in _accuracies(known))
    yield f"accuracy answer by answer: {each}; of the majority: {percent(found.accuracy or 0.0)}"
    flips = flips_of([[answer == one.sample.label for answer in one.answers] for one in known])
    drop = detectable_drop(len(known), alpha=USUAL_ALPHA, flips=min(flips, 0.49))
    finds = "no drop" if drop is None else f"a drop of {drop * 100:.1f} points"
    yield f"by noise {percent(flips)} flip each way, so with one answer each {finds} is found (80 % power)"
    for one in found.unstable:
        yield f"  {plain(one.sample.case_name)}: {said_answers(one.answers)}: {cut(one.sample.text, TEXT)}"


def _unknown(found: Evaluation, again: str) -> Iterator[str]:
    for cause, count in causes(found):
        yield f"not known of {counted(count, 'sample')}: {plain(cause)}"
    if found.unrecorded is not None:
        yield f"ask for them: {again}"
        yield f"              {what_it_takes(found.unrecorded)}"


def _asked(usages: Sequence[Usage]) -> str:
    paid = sum((one.usd for one in usages if one.usd), 0.0)
    usd = f", ${paid:.4f}" if paid else ""
    return f"asked: {counted(sum(one.calls - one.replayed for one in usages), 'reply', 'replies')}{usd}"


def _accuracies(known: Sequence[Outcome]) -> list[float]:
    """Return the accuracy of all first answers, of all second ones, and so on."""
    rounds = zip(*([answer == one.sample.label for answer in one.answers] for one in known), strict=True)
    return [sum(right) / len(right) for right in rounds]


def _as_json(found: Evaluation, total: int) -> dict[str, Any]:
    measured, known, unknown = found.noise, [one for one in found.labeled if one.answers], found.unrecorded
    return {
        "version": 1,
        "name": found.name,
        "path": relative_to(found.path, Path.cwd()),
        "model": found.model,
        "prompt_hash": found.prompt_hash,
        "served": [asdict(one) for one in found.served],
        "repeats": found.repeats,
        "labeled": {"total": total, "chosen": len(found.labeled) + len(found.unanswered), "known": len(known)},
        "noise": measured and noise_as_json(measured),
        "accuracy": {"by_answer": _accuracies(known), "majority": found.accuracy} if known else None,
        "unstable": [
            {"case": one.sample.case_name, "label": one.sample.label, "answers": list(one.answers)}
            for one in found.unstable
        ],
        "unknown": {"calls": unknown.estimate.calls, "usd": unknown.estimate.usd} if unknown else None,
        "unanswered": dict(causes(found)),
    }
