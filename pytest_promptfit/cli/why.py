"""``promptfit why PROMPT``: what each sentence and example of a prompt does, which samples need it, and what it costs.

Reads recordings; asks only where that is wanted, within limits.
"""

from __future__ import annotations

import json
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.cassettes.where import Where
from pytest_promptfit.cli.asking import read_asking
from pytest_promptfit.errors import BudgetExceeded, PromptfitError
from pytest_promptfit.evaluation.forward import others_of
from pytest_promptfit.prompts.model import NearestExamples
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples
from pytest_promptfit.providers.wire import refuse_keys
from pytest_promptfit.text import columns, counted, fitted, plain, relative_to, wrapped
from pytest_promptfit.tuning.ablation import MOST_SAMPLES, Ablation, chosen, record, verdicts
from pytest_promptfit.tuning.run import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_promptfit.providers.asking import Answered
    from pytest_promptfit.tuning.ablation import Effect, Verdict

WIDTH = 80
SHOWN = 38
"""Columns of a piece in the table."""

NAMED = 6
"""So many samples of a piece are named, the others are counted; JSON names all."""

SAID: dict[Verdict, str] = {
    "dead": "no sample needs",
    "harms": "harm beyond chance",
    "helps": "help beyond chance",
    "unclear": "not told from chance",
}


def why(
    prompt: str,
    *,
    asks: bool = False,
    max_calls: int | None = None,
    budget: float | None = None,
    samples: int | None = None,
    allow_ci: bool = False,
    as_json: bool = False,
    cassettes: Path | None = None,
) -> Iterator[str]:
    """Yield what is known of each piece of a prompt, line by line; with ``asks`` the model is asked for the rest first.

    Raises PromptfitError when the file is wrong, or the model cannot be asked; what is known was then said.
    """
    asking = read_asking(record=asks, allow_ci=allow_ci, budget=budget, max_calls=max_calls)
    parsed = parse_prompt_file(Path(prompt.partition("::")[0]))
    sample_set = read_samples(parsed)
    refuse_keys(parsed, sample_set.labels, sample_set.samples)
    folder = Where(cassettes).of(parsed.path, parsed.name)
    some = chosen(sample_set, samples or MOST_SAMPLES)
    known = Cassette.load(folder, others_of(parsed, folder))
    ablation = Ablation(parsed, sample_set, some, known, Cassette.load(folder / FOLDER))
    answered = None
    if asking and ablation.tried:
        answered = record(ablation, folder, folder / FOLDER, asking)
    if as_json:
        yield json.dumps(_as_json(ablation), indent=2, ensure_ascii=False)
    else:
        yield from (part for line in _lines(ablation, answered) for part in wrapped(line, WIDTH))
    failed = [
        error for error in (answered.errors if answered else {}).values() if not isinstance(error, BudgetExceeded)
    ]
    if failed:
        raise PromptfitError(f"{counted(len(failed), 'call')} failed, the last one: {failed[-1]}")


def _lines(ablation: Ablation, answered: Answered | None) -> Iterator[str]:
    effects = ablation.effects()
    found = verdicts(effects)
    yield from _head(ablation)
    if not effects:
        yield "the prompt has no sentence and no example that could be left out"
        return
    yield ""
    yield from _table(effects)
    yield ""
    yield from _groups(ablation, effects, found)
    yield from _flips(effects)
    yield from _unknown(ablation)
    if answered is not None:
        usage = answered.usage
        usd = "" if usage.usd is None or ablation.parsed.config.model.provider == "local" else f", ${usage.usd:.4f}"
        yield f"asked: {counted(usage.calls, 'reply', 'replies')}{usd}, kept beside the recordings"
        stopped = (error for error in answered.errors.values() if isinstance(error, BudgetExceeded))
        yield from (plain(str(error)) for error in islice(stopped, 1))


def _head(ablation: Ablation) -> Iterator[str]:
    parsed, whole = ablation.parsed, ablation.whole
    right = sum(outcome.correct for outcome in whole)
    yield f"{plain(_path(ablation))}: {plain(str(parsed.config.model))}"
    yield (
        f"{counted(len(ablation.pieces), 'piece')}, {counted(len(ablation.samples), 'sample')}; with all pieces "
        f"{right:,} of {len(whole):,} are right"
        f"{' (the rest is not known)' if len(whole) < len(ablation.samples) else ''}"
    )
    left = len(ablation.sample_set.samples) - len(ablation.samples)
    if left:
        yield f"a balanced draw: {left:,} labeled samples are not looked at (--samples N takes more)"
    if isinstance(parsed.config.prompt.examples, NearestExamples):
        yield "the examples are chosen for each text: none stands in the prompt, so none is left out"


def _path(ablation: Ablation) -> str:
    return relative_to(str(ablation.parsed.path), Path.cwd())


def _table(effects: Sequence[Effect]) -> Iterator[str]:
    yield f"{'':{SHOWN + 4}} {'tokens':>6} {'seen':>5} {'carries':>7} {'harms':>5} {'p':>6}"
    numbered = enumerate(effects, 1)
    for name, group in groupby(numbered, key=lambda one: one[1].piece.field):
        yield name
        yield from (_row(at, effect) for at, effect in group)


def _row(at: int, effect: Effect) -> str:
    piece = effect.piece
    text = f"{piece.example.label}: {piece.text}" if piece.example else piece.text
    shown = fitted(text, SHOWN)
    tokens = "" if effect.input_tokens is None else f"{effect.input_tokens:.0f}"
    head = f"{at:3} {shown}{' ' * (SHOWN - columns(shown))} {tokens:>6}"
    if effect.stays:
        return f"{head}  stays"
    if not effect.seen:
        return f"{head} {0:5}"
    p_value = "" if effect.p_value is None else "<0.001" if effect.p_value < 0.001 else f"{effect.p_value:.3f}"
    return f"{head} {effect.seen:5} {len(effect.carries):7} {len(effect.harms):5} {p_value:>6}".rstrip()


def _groups(ablation: Ablation, effects: Sequence[Effect], found: Sequence[Verdict]) -> Iterator[str]:
    """Yield the pieces of each verdict, and what follows from it."""
    for verdict, said in SAID.items():
        some = [(at, effect) for at, (effect, one) in enumerate(zip(effects, found, strict=True), 1) if one == verdict]
        if some:
            yield f"{said}: {_numbers(at for at, _ in some)}{_saved(ablation, some) if verdict == 'dead' else ''}"
    for at, effect in enumerate(effects, 1):
        if effect.stays:
            yield f"{at} stays: {plain(effect.stays)}"


def _saved(ablation: Ablation, some: Sequence[tuple[int, Effect]]) -> str:
    """Return what the pieces take of a call, and what to beware of."""
    tokens = sum(effect.input_tokens or 0 for _, effect in some)
    whole = ablation.input_tokens
    share = f" of {whole:.0f}" if whole else ""
    others = "; two that say the same are each needless alone: take one out, then ask again" if len(some) > 1 else ""
    # A server may put words of its own in the place of a system prompt that is left out.
    takes = f"together {tokens:.0f}{share} tokens a call" if tokens > 0 else "leaving out saves no tokens"
    return f" ({takes}{others})"


def _flips(effects: Sequence[Effect]) -> Iterator[str]:
    for at, effect in enumerate(effects, 1):
        for what, cases in (("carries", effect.carries), ("harms", effect.harms)):
            if cases:
                more = f" and {len(cases) - NAMED} more" if len(cases) > NAMED else ""
                yield f"{at} {what} {', '.join(map(plain, cases[:NAMED]))}{more}"


def _unknown(ablation: Ablation) -> Iterator[str]:
    unknown = ablation.unknown()
    if not unknown.calls:
        return
    replies = counted(unknown.calls, "reply", "replies")
    takes = f"about {unknown.input_tokens:,} tokens in, {unknown.output_tokens:,} out"
    yield f"not known: {replies}; asking takes {takes}: {unknown.price}"
    yield f"ask for them: promptfit why {plain(_path(ablation))} --record"


def _numbers(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _as_json(ablation: Ablation) -> dict[str, Any]:
    effects, whole, unknown = ablation.effects(), ablation.whole, ablation.unknown()
    return {
        "version": 1,
        "name": ablation.parsed.name,
        "path": _path(ablation),
        "model": str(ablation.parsed.config.model),
        "prompt_hash": ablation.parsed.config.prompt.content_hash,
        "samples": {
            "total": len(ablation.sample_set.samples),
            "chosen": len(ablation.samples),
            "known": len(whole),
            "right": sum(outcome.correct for outcome in whole),
        },
        "input_tokens": ablation.input_tokens,
        "pieces": [
            {
                "number": at,
                "field": effect.piece.field,
                "text": effect.piece.text,
                "label": effect.piece.example.label if effect.piece.example else None,
                "characters": len(effect.piece.said),
                "input_tokens": effect.input_tokens,
                "verdict": verdict,
                "stays": effect.stays,
                "seen": effect.seen,
                "carries": effect.carries,
                "harms": effect.harms,
                "p_value": effect.p_value,
            }
            for at, (effect, verdict) in enumerate(zip(effects, verdicts(effects), strict=True), 1)
        ],
        "unknown": {
            "calls": unknown.calls,
            "input_tokens": unknown.input_tokens,
            "output_tokens": unknown.output_tokens,
            "usd": unknown.usd,
        },
    }
