"""The rows of a data file under a guess of its columns: which cannot be samples, and a draw of some of them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import TYPE_CHECKING

from pytest_promptfit.prompts.labels import MISSING
from pytest_promptfit.prompts.samples import columns_in, filled_in, normal_form, one_label, text_id, what_is_unclear
from pytest_promptfit.text import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_promptfit.cli.init.columns import Guess
    from pytest_promptfit.prompts.tables import Row


def faults(rows: Sequence[Row], guess: Guess) -> dict[int, str]:
    """Return what is wrong with the rows that cannot be samples, by their place in ``rows``."""
    first: dict[str, tuple[str, int]] = {}
    found: dict[int, str] = {}
    labels = {label_of(row, guess) for row in rows}
    unclear = {label: why for label in labels if (why := what_is_unclear(label, labels))}
    for at, row in enumerate(rows):
        text, label = normal_form(text_of(row, guess)), label_of(row, guess)
        if not text:
            found[at] = "the text is empty"
        elif not label:
            found[at] = "the label is empty"
        elif label in unclear:
            found[at] = f"the label {short(label)} {unclear[label]}"
        elif label == MISSING:
            found[at] = f"the label {MISSING!r} stands for a reply without a label"
        else:
            other, line = first.setdefault(text, (label, row.line))
            if other != label:
                found[at] = f"the label is {label!r}, but the same text in line {line} has {other!r}"
    return found


def without_twins(rows: Iterable[Row], guess: Guess) -> list[Row]:
    """Return the rows without those whose text came before: they are counted once."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(normal_form(text_of(row, guess)), row)
    return list(first.values())


def text_of(row: Row, guess: Guess) -> str:
    """Return the text of a row as the prompt file will read it."""
    column = guess.text.column
    return row.cells[column] if column in row.cells else filled_in(column, row.cells)


def label_of(row: Row, guess: Guess) -> str:
    """Return the label of a row."""
    return one_label(row.cells[guess.label.column])


def count_labels(rows: Iterable[Row], guess: Guess) -> dict[str, int]:
    """Return how many rows each label has; numbers in their order, words in theirs."""
    counted = Counter(label_of(row, guess) for row in rows)
    return {label: counted[label] for label in sorted(counted, key=_order)}


def _order(label: str) -> tuple[int, float, str]:
    number = re.fullmatch(r"-?\d+(\.\d+)?", label)
    return (0, float(label), label) if number else (1, 0.0, label)


def draw(rows: Sequence[Row], guess: Guess, size: int) -> list[Row]:
    """Return ``size`` rows, each label with its share and at least one, in the order of the file.

    Which rows are drawn follows from their texts: the same texts give the same draw.
    """
    by_label: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: text_id(text_of(row, guess))):
        by_label.setdefault(label_of(row, guess), []).append(row)
    # Round by round: the row that stands at the smallest share of its label comes first.
    queue = [(at / len(own), label, row) for label, own in by_label.items() for at, row in enumerate(own)]
    queue.sort(key=lambda entry: (entry[0], entry[1]))
    return sorted((row for _, _, row in queue[:size]), key=lambda row: row.line)


def as_csv(rows: Iterable[Row], guess: Guess, columns: Sequence[str]) -> str:
    """Return the rows as a csv file with the columns that the guess uses."""
    used = [column for column in columns if column in _used(guess)]
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(used)
    writer.writerows([row.cells[column] for column in used] for row in rows)
    return sink.getvalue()


def _used(guess: Guess) -> set[str]:
    found = (guess.label, guess.id, guess.note, guess.canonical)
    names = {guess.text.column, *columns_in(guess.text.column)}
    return names | {column.column for column in found if column}


def similar_labels(labels: Mapping[str, int]) -> Iterator[str]:
    """Yield labels that differ only in case: the same meant twice, most likely."""
    folded: dict[str, list[str]] = {}
    for label in labels:
        folded.setdefault(label.casefold(), []).append(label)
    yield from (" and ".join(same) for same in folded.values() if len(same) > 1)
