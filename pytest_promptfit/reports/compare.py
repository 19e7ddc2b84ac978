"""What is said of prompts and models side by side: lines of at most 80 columns but for sentences, and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_promptfit.evaluation.baseline import USUAL_ALPHA
from pytest_promptfit.evaluation.metrics import wilson_interval
from pytest_promptfit.reports.terminal import accuracy_line, cause_lines, what_it_takes
from pytest_promptfit.reports.verdict import causes
from pytest_promptfit.text import counted, percent, plain, points, probability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_promptfit.evaluation.sides import Pair, Side, Sides

VERSION = 1

CELL = 18
"""Columns of a cell of the matrix: the widest interval is ``−100.0 to +100.0``."""

SHOWN = 3
"""Cases that are named of those that changed; the page shows all of them."""

CELLS = 4
"""Cells of a row that fit into 80 columns."""


def lines(sides: Sides, relative: Callable[[str], str], record: str) -> Iterator[str]:
    """Yield what is compared, what has no reply, a line a pair, and the matrix of more than two.

    ``record`` is the command that records what is missing.
    """
    alone = ", ".join(f"{side.alone:,} of {side.letter}" for side in sides.sides if side.alone)
    yield f"{counted(sides.shared, 'sample')} shared{f'; not shared: {alone}' if alone else ''}"
    for side in sides.sides:
        yield f"{side.letter}  {named(side, relative)}"
        yield from (f"   {line}" for line in _figures(side))
    yield from missing_lines(sides, record)
    for pair in sides.pairs:
        yield sentence(sides, pair)
    if len(sides.pairs) == 1:
        yield from (f"   {line}" for line in _behind(sides.pairs[0]))
    else:
        yield ""
        yield from matrix(sides)


def named(side: Side, relative: Callable[[str], str]) -> str:
    """Return the prompt file and the model of a side, safe to show."""
    return f"{plain(relative(side.evaluation.path))} ({plain(side.evaluation.model)})"


def _figures(side: Side) -> Iterator[str]:
    evaluation = side.evaluation
    yield accuracy_line(evaluation)
    if canonical := [outcome for outcome in evaluation.canonical if outcome.reply is not None]:
        yield f"canonical {sum(outcome.correct for outcome in canonical)} of {len(canonical)} right"
    if evaluation.labeled:
        yield call_line(side)
    yield from (f"note: {plain(note)}" for note in evaluation.notes)


def call_line(side: Side) -> str:
    """Return what a call of a side takes: tokens, USD and seconds, on average over the labeled samples."""
    evaluation = side.evaluation
    replies = [outcome.reply for outcome in evaluation.labeled if outcome.reply]
    given = sum(reply.input_tokens for reply in replies) / len(replies)
    written = sum(reply.output_tokens for reply in replies) / len(replies)
    usd, seconds = evaluation.per_call
    price = "price unknown" if usd is None else f"{_dollars(usd * 1000)} per 1,000" if usd else "free"
    took = "" if seconds is None else f", {seconds:.2f} s"
    return f"a call: {given:,.0f} tokens in, {written:,.0f} out, {price}{took}"


def _dollars(usd: float) -> str:
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.2g}"


def missing_lines(sides: Sides, record: str) -> Iterator[str]:
    """Yield why replies are missing, once a side, and the one command that records them with what it takes."""
    for side in sides.sides:
        evaluation = side.evaluation
        what = "not recorded" if evaluation.unrecorded else "without a reply"
        if found := causes(evaluation):
            first, *others = cause_lines(found, evaluation, what)
            yield f"{side.letter}: {first}"
            yield from others
    unrecorded = [(side.letter, one) for side in sides.sides if (one := side.evaluation.unrecorded)]
    if unrecorded:
        yield f"record:  {record}"
        yield from (f"         {letter}: {what_it_takes(one)}" for letter, one in unrecorded)


def sentence(sides: Sides, pair: Pair) -> str:
    """Return the line on a pair: which is better, by how much, how sure, and what a call costs and takes."""
    one, two, found = pair.before.letter, pair.after.letter, pair.found
    if pair.tone == "open":
        return f"{one} and {two}: no sample has a reply from both"
    among = f" on {found.shared:,} samples" if found.shared < sides.shared else ""
    if found.is_unchanged:
        rate = percent(found.before / found.shared)
        said = f"{one} and {two}: right on the same samples: {rate}{among}"
    else:
        than = f" than {one}" if len(sides.sides) > 2 else ""
        lead = f"{one} and {two}: no difference shown" if pair.tone == "same" else f"{two} is {pair.tone}{than}"
        shares = f"{found.before / found.shared * 100:.1f} → {percent(found.now / found.shared)}"
        moved = f"fixed {len(found.fixed)}, broke {len(found.broken)}"
        said = f"{lead}{among}: {shares}, {points(found.change)} points, {moved}, {probability(found.p_two_sided)}"
    return "; ".join([said, *filter(None, [", ".join(_price(pair))])])


def _price(pair: Pair) -> Iterator[str]:
    """Yield what a call of the second side costs and takes, measured by the first; nothing where both are free."""
    (usd_before, usd_after), (before, after) = pair.found.usd, pair.found.seconds
    if usd_before is None or usd_after is None:
        yield "cost unknown"
    elif usd_before and usd_after:
        yield f"{_times(usd_after / usd_before)} cost a call"
    elif usd_before or usd_after:
        yield f"{pair.after.letter if usd_before else pair.before.letter} is free"
    if before and after:
        yield f"{_times(after / before)} seconds"


def _times(ratio: float) -> str:
    if 0.95 <= ratio < 1.05:
        return "the same"
    form = ",.0f" if ratio >= 10 else ".1f" if ratio >= 0.1 else ".2g"
    return f"{ratio:{form}} times the"


def _behind(pair: Pair) -> Iterator[str]:
    """Yield the interval of the change, and the cases that changed."""
    found = pair.found
    if pair.tone == "open" or found.is_unchanged:
        return
    low, high = map(points, found.interval)
    yield f"95 % interval of the change: {low} to {high} points"
    for what, names in (("fixed", found.fixed), ("broke", found.broken)):
        if names:
            more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
            yield f"{what}: {plain(', '.join(names[:SHOWN]))}{more}"


def matrix(sides: Sides) -> Iterator[str]:
    """Yield the changes from each side to each later one, with their intervals below, in blocks of 80 columns."""
    among = f"{len(sides.pairs)} pairs share alpha {USUAL_ALPHA:g}, Benjamini-Hochberg"
    yield "points from the row's to the column's, 95 % interval below"
    yield f"* beyond chance ({among})"
    letters = [side.letter for side in sides.sides]
    of = {(pair.before.letter, pair.after.letter): pair for pair in sides.pairs}
    for start in range(1, len(letters), CELLS):
        columns = letters[start : start + CELLS]
        yield _row("", columns)
        for row in letters[: start + len(columns) - 1]:
            cells = [as_cell(of.get((row, column))) for column in columns]
            yield _row(row, [change for change, _ in cells])
            yield _row("", [interval for _, interval in cells])


def _row(head: str, cells: Sequence[str]) -> str:
    return f"{head:2}{''.join(f'{cell:>{CELL}}' for cell in cells)}".rstrip()


def as_cell(pair: Pair | None) -> tuple[str, str]:
    """Return the change of a pair, marked where it is beyond chance, and its interval; empty where there is none."""
    if pair is None:
        return "", ""
    if pair.tone == "open":
        return "–", ""
    low, high = map(points, pair.found.interval)
    return f"{points(pair.found.change)}{'' if pair.tone == 'same' else ' *'}", f"{low} to {high}"


def as_json(sides: Sides, relative: Callable[[str], str]) -> dict[str, Any]:
    """Return the comparison for machines: counts, shares from 0 to 1, USD and seconds of a call."""
    return {
        "version": VERSION,
        "shared": sides.shared,
        "sides": [_side(side, relative) for side in sides.sides],
        "pairs": [_pair(pair) for pair in sides.pairs],
        "differing": [_differing(row, sides) for row in sides.differing],
    }


def _side(side: Side, relative: Callable[[str], str]) -> dict[str, Any]:
    evaluation, confusion = side.evaluation, side.evaluation.confusion
    usd, seconds = evaluation.per_call
    return {
        "letter": side.letter,
        "path": relative(evaluation.path),
        "name": evaluation.name,
        "model": evaluation.model,
        "prompt_hash": evaluation.prompt_hash,
        "total": confusion.total,
        "correct": confusion.correct,
        "unanswered": len(evaluation.unanswered),
        "not_shared": side.alone,
        "accuracy": confusion.accuracy,
        "accuracy_ci95": list(wilson_interval(confusion.correct, confusion.total)) if confusion.total else None,
        "canonical": {
            "total": len(evaluation.canonical),
            "correct": sum(outcome.correct for outcome in evaluation.canonical),
        },
        "usd_per_call": usd,
        "seconds_per_call": seconds,
    }


def _pair(pair: Pair) -> dict[str, Any]:
    found = pair.found
    return {
        "before": pair.before.letter,
        "after": pair.after.letter,
        "direction": pair.tone,
        "shared": found.shared,
        "accuracy_before": found.before / found.shared if found.shared else None,
        "accuracy_after": found.now / found.shared if found.shared else None,
        "change": found.change if found.shared else None,
        "change_ci95": list(found.interval) if found.shared else None,
        "fixed": list(found.fixed),
        "broken": list(found.broken),
        "p_value": found.p_two_sided,
        "level": pair.level,
        "usd_before": found.usd[0],
        "usd_after": found.usd[1],
        "seconds_before": found.seconds[0],
        "seconds_after": found.seconds[1],
    }


def _differing(row: Sequence[Any], sides: Sides) -> dict[str, Any]:
    sample = row[0].sample
    return {
        "case": sample.case_name,
        "text": sample.text,
        "label": sample.label,
        "predicted": {side.letter: outcome.predicted for side, outcome in zip(sides.sides, row, strict=True)},
    }
