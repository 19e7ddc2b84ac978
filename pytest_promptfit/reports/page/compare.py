"""The page of ``promptfit compare --html``: the sides, how they differ, and each sample that they read differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.reports.compare import as_cell, call_line, missing_lines, sentence
from pytest_promptfit.reports.page import rendered, write_page
from pytest_promptfit.reports.page.pictures import Intervals, accuracies_picture
from pytest_promptfit.reports.page.sentences import Verdict, percent, unbroken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.evaluation.sides import Pair, Side, Sides

MOST_SAMPLES = 500
"""Samples that are shown with all replies: a page must stay one that a browser opens at once."""


@dataclass(frozen=True)
class SideView:
    """A side as its row shows it."""

    letter: str
    path: str
    model: str
    accuracy: str
    counts: str
    canonical: str
    call: str


@dataclass(frozen=True)
class SampleView:
    """A sample with what each side made of it: letter, label read, whether that is right, and the reply."""

    case: str
    text: str
    label: str
    note: str
    kind: str
    answers: tuple[tuple[str, str | None, bool, str], ...]


def write(path: Path, sides: Sides, relative: Callable[[str], str], record: str) -> None:
    """Write the page whole or not at all; raise PromptfitError when it cannot be written."""
    write_page(path, page(sides, relative, record), "--html")


def page(sides: Sides, relative: Callable[[str], str], record: str) -> str:
    """Return the page; ``record`` is the command that records what is missing."""
    differing = sides.differing
    judged = [side for side in sides.sides if side.evaluation.labeled]
    picture: Intervals | None = None
    if judged:
        counts = {side.letter: side.evaluation.confusion for side in judged}
        picture = accuracies_picture({name: (one.correct, one.total) for name, one in counts.items()})
    pairs = [(pair.tone, unbroken(sentence(sides, pair))) for pair in sides.pairs]
    return rendered(
        "compare.html.jinja",
        title=" and ".join(side.letter for side in sides.sides),
        prompts=(),
        tunings=(),
        verdict=_verdict(sides),
        shared=sides.shared,
        sides=[_side(side, relative) for side in sides.sides],
        pairs=pairs,
        picture=picture,
        matrix=_matrix(sides),
        notes=list(missing_lines(sides, record)),
        samples=[_sample(row, sides.sides) for row in differing[:MOST_SAMPLES]],
        total=len(differing),
    )


def _verdict(sides: Sides) -> Verdict:
    """Return the headline: of two what the terminal says of them, of more which one is best beyond chance."""
    if len(sides.pairs) == 1:
        (pair,) = sides.pairs
        return Verdict(pair.tone, unbroken(sentence(sides, pair)), ())
    losses = {pair.before.letter for pair in sides.pairs if pair.tone == "better"}
    losses |= {pair.after.letter for pair in sides.pairs if pair.tone == "worse"}
    best = [side.letter for side in sides.sides if side.evaluation.labeled and side.letter not in losses]
    if not losses:
        return Verdict("same", f"{len(sides.sides)} side by side: no difference shown", ())
    lead = f"{' and '.join(best)} {'is' if len(best) == 1 else 'are'} best"
    return Verdict("better", f"{lead}: no other one is better beyond chance", ())


def _side(side: Side, relative: Callable[[str], str]) -> SideView:
    evaluation, confusion = side.evaluation, side.evaluation.confusion
    canonical = [outcome for outcome in evaluation.canonical if outcome.reply is not None]
    return SideView(
        letter=side.letter,
        path=relative(evaluation.path),
        model=evaluation.model,
        accuracy="" if confusion.accuracy is None else percent(confusion.accuracy),
        counts=f"{confusion.correct} of {confusion.total}",
        canonical=f"{sum(one.correct for one in canonical)} of {len(canonical)}" if canonical else "–",
        call=call_line(side).removeprefix("a call: ") if evaluation.labeled else "–",
    )


def _matrix(sides: Sides) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return a row for each side but the last: the change to each later one, its interval, and its tone."""
    if len(sides.pairs) == 1:
        return []
    of = {(pair.before.letter, pair.after.letter): pair for pair in sides.pairs}
    letters = [side.letter for side in sides.sides]
    return [(row, [_cell(of.get((row, column))) for column in letters[1:]]) for row in letters[:-1]]


def _cell(pair: Pair | None) -> tuple[str, str, str]:
    return (*as_cell(pair), pair.tone if pair else "open")


def _sample(row: Sequence[Outcome], sides: Sequence[Side]) -> SampleView:
    first, last = row[0], row[-1]
    sample = first.sample
    kind = "" if len(row) > 2 else "other answer"
    if len(row) == 2 and first.correct != last.correct:
        kind = "broken" if first.correct else "fixed"
    return SampleView(
        sample.case_name,
        sample.text,
        sample.label,
        sample.note,
        kind,
        tuple(
            (side.letter, one.given, one.correct, one.reply.shown if one.reply else "")
            for side, one in zip(sides, row, strict=True)
        ),
    )
