"""``promptfit compare A B``: prompt files, or one under several models, on the samples that they share.

Replays what is recorded; asks for the rest where that is wanted, into the recordings that the harness uses.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_promptfit.cassettes.where import Where
from pytest_promptfit.cli.asking import read_asking, record_command
from pytest_promptfit.errors import PromptfitError, told_in_one_line
from pytest_promptfit.evaluation.forward import forward
from pytest_promptfit.evaluation.sides import Sides, shared_samples, side_by_side
from pytest_promptfit.prompts.read import ParsedPrompt, parse_prompt_file, under_model
from pytest_promptfit.prompts.samples import check_prompt_labels, read_samples
from pytest_promptfit.providers.wire import refuse_keys
from pytest_promptfit.reports import compare as report
from pytest_promptfit.text import relative_to

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.evaluation.forward import Asking
    from pytest_promptfit.prompts.samples import SampleSet


def compare(
    prompts: Sequence[Path],
    models: Sequence[str] = (),
    *,
    record: bool = False,
    budget: float | None = None,
    max_calls: int | None = None,
    concurrency: int | None = None,
    allow_ci: bool = False,
    cassettes: Path | None = None,
    as_json: bool = False,
    html: Path | None = None,
) -> Iterator[str]:
    """Yield the comparison, line by line, or as JSON; write the page that ``html`` names.

    Raises PromptfitError for a mistake, and at the end where two of them have no sample with a reply from both.
    """
    asking = read_asking(record=record, allow_ci=allow_ci, budget=budget, max_calls=max_calls, concurrency=concurrency)
    sides = _compared(_wanted(prompts, models), Where(cassettes), asking)
    named = (word for model in models for word in ("--model", model))
    again = record_command("compare", *map(str, prompts), *named, cassettes=cassettes)
    if html is not None:
        from pytest_promptfit.reports.page.compare import write

        write(html, sides, _relative, again)
    if as_json:
        yield json.dumps(report.as_json(sides, _relative), indent=1, ensure_ascii=False)
    else:
        yield from report.lines(sides, _relative, again)
    apart = next((pair for pair in sides.pairs if pair.tone == "open"), None)
    if apart is not None:
        raise PromptfitError(
            f"{apart.before.letter} and {apart.after.letter} cannot be compared: no sample has a reply from both"
        )


def _wanted(prompts: Sequence[Path], models: Sequence[str]) -> list[tuple[ParsedPrompt, SampleSet]]:
    """Return what is to be compared: each file under each model, or under its own; one file and model with its own."""
    found: dict[tuple[str, str], tuple[ParsedPrompt, SampleSet]] = {}
    for path in prompts:
        with told_in_one_line(path):
            parsed = parse_prompt_file(path)
            sample_set = read_samples(parsed)
            asked = [under_model(parsed, model) for model in models]
            own = [parsed] if not asked or len(prompts) == len(models) == 1 else []
            for one in [*own, *asked]:
                check_prompt_labels(one, sample_set.labels)
                refuse_keys(one, sample_set.labels, sample_set.samples)
                found[os.path.realpath(path), str(one.config.model)] = one, sample_set
    if len(found) < 2:
        (one, _), *_ = found.values()
        raise PromptfitError(
            f"{one.path} under {one.config.model} alone: expected another prompt file, or --model PROVIDER/NAME, "
            "to compare it with"
        )
    return list(found.values())


def _compared(wanted: Sequence[tuple[ParsedPrompt, SampleSet]], where: Where, asking: Asking | None) -> Sides:
    sets = [sample_set for _, sample_set in wanted]
    shared = shared_samples(sets)
    evaluations = []
    for (parsed, sample_set), samples in zip(wanted, shared, strict=True):
        with told_in_one_line(parsed.path):
            folder = where.of(parsed.path, parsed.name, parsed.other_model)
            evaluations.append(forward(parsed, sample_set, samples, folder, asking=asking))
    alone = [
        len(one.labeled) - sum(not sample.canonical for sample in samples)
        for one, samples in zip(sets, shared, strict=True)
    ]
    return side_by_side(evaluations, alone)


def _relative(path: str) -> str:
    return relative_to(path, Path.cwd())
