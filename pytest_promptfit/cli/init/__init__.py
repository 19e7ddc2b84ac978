"""``promptfit init DATA``: from a file with texts and labels to a prompt file that can be run.

The effects of the command come together here: reading the data, choosing rows, writing, saying what was done.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_promptfit.cli.init.columns import guess_columns
from pytest_promptfit.cli.init.imports import imported
from pytest_promptfit.cli.init.starter import (
    FEW_SAMPLES,
    INSTALL_LOCAL,
    Starter,
    balance,
    choose_model,
)
from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.labels import MISSING
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import (
    columns_in,
    filled_in,
    normal_form,
    one_label,
    read_samples,
    text_id,
    what_is_unclear,
)
from pytest_promptfit.prompts.tables import read_rows
from pytest_promptfit.providers.known import is_deprecated
from pytest_promptfit.providers.usage import estimate
from pytest_promptfit.providers.wire import Wire
from pytest_promptfit.text import plain, relative_to, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_promptfit.cli.init.columns import Guess
    from pytest_promptfit.prompts.read import ParsedPrompt
    from pytest_promptfit.prompts.tables import Row

MANY_ROWS = 2000
"""Above this a first recording is long and the cassettes are large, so that a draw is offered."""
SUGGESTED_DRAW = 500
MANY_LABELS = 60
"""Listed in the prompt, so many labels cost more than the text."""
SHOWN_FAULTS = 5
ENDINGS = (".prompt.yaml", ".prompt.yml")


def init(
    data: Path,
    *,
    text: str | None = None,
    label: str | None = None,
    model: str | None = None,
    output: Path | None = None,
    rows: int | None = None,
) -> Iterator[str]:
    """Write a prompt file for a data file, and yield the lines that say what was found, written and comes next.

    ``text`` and ``label`` name columns, ``rows`` is how many to draw.

    Raises:
        PromptfitError: the data cannot be read, a column cannot be told, a row cannot be a sample, or a file
            that would be written is there already. Nothing is written then.
    """
    target = _target(data, output)
    others = imported(data)
    stem = target.name.removesuffix(ENDINGS[0]).removesuffix(ENDINGS[1])
    drawn = target.with_name(f"{stem}.csv") if others or rows is not None else None
    for path in (target, drawn):
        if path is not None and os.path.lexists(path):
            raise PromptfitError(f"{path}: is there already and stays as it is: name another file with --output")
    columns, table = (others.columns, others.rows) if others else read_rows(data)
    if not table:
        raise PromptfitError(f"{data}: no rows below the names of the columns: expected at least one sample")
    if text and text not in columns:
        text = text.replace("\\n", "\n")  # a line break is typed as \n in a template on the command line
    try:
        guess = guess_columns(columns, table, text=text, label=label)
    except PromptfitError as error:
        raise PromptfitError(f"{data}: {error}") from None
    if others:
        guess = replace(guess, remarks=(f"read as {others.kind}", *others.remarks, *guess.remarks))
    kept = _usable(data, table, guess, rows)
    named = model or (others.model if others else None)
    chosen = choose_model(named, target.parent, "as you say" if model else f"as {data.name} says")
    try:
        place = Path(os.path.relpath((drawn or data).resolve(), target.parent.resolve()))
    except ValueError:  # another drive
        place = (drawn or data).resolve()
    starter = Starter(place.as_posix(), guess, count_labels(kept, guess), chosen, others)
    written = {drawn: as_csv(kept, guess, columns)} if drawn else {}
    parsed = _write({**written, target: starter.text()}, target)
    yield from _found_lines(data, starter, len(table))
    for path in written:
        yield f"wrote {_typed(path)}, {len(kept):,} of {len(table):,} rows"
    yield f"wrote {_typed(target)} for {chosen.spec} ({chosen.why})"
    yield ""
    yield from _next_lines(parsed, starter)


def _target(data: Path, output: Path | None) -> Path:
    if output is None:
        stem = re.sub(r"[^\w.-]+", "-", data.name.partition(".")[0]).strip("-.") or "prompt"
        return Path("prompts", f"{stem}.prompt.yaml")
    if not output.name.endswith(ENDINGS):
        raise PromptfitError(f"--output {output}: expected a name that ends in {' or '.join(ENDINGS)}")
    return output


def _usable(data: Path, rows: Sequence[Row], guess: Guess, size: int | None) -> list[Row]:
    """Return the rows that can be samples, ``size`` of them if said; without a size the others are refused."""
    wrong = faults(rows, guess)
    usable = without_twins((row for at, row in enumerate(rows) if at not in wrong), guess)
    if not usable:
        raise PromptfitError(f"{data}: no row can be a sample: {next(iter(wrong.values()))}")
    if size is not None:
        return draw(usable, guess, size)
    if wrong:
        lines = [f"{data}:{rows[at].line}: {why}" for at, why in list(wrong.items())[:SHOWN_FAULTS]]
        more = f" (the first {SHOWN_FAULTS} of {len(wrong)} such rows)" if len(wrong) > SHOWN_FAULTS else ""
        lines.append(f"mend or delete these rows{more}, or leave them out with --rows {len(usable)}, in a copy")
        raise PromptfitError("\n".join(lines))
    return usable


def _write(texts: dict[Path, str], target: Path) -> ParsedPrompt:
    """Write the files and return the prompt as pytest will read it; where that fails, all of them go again."""
    # Read back at once: a prompt file that pytest would refuse must not be left behind.
    written: list[Path] = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            # x: what came to be there since it was looked for is not overwritten.
            with path.open("x", encoding="utf-8", newline="\n") as sink:
                written.append(path)
                sink.write(text)
        parsed = parse_prompt_file(target)
        read_samples(parsed)
    except BaseException as error:
        for path in written:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise PromptfitError(f"{target}: cannot be written: {error.strerror or error}") from None
        raise
    return parsed


def _found_lines(data: Path, starter: Starter, rows: int) -> Iterator[str]:
    """Yield which columns were found and why, and what is worth a note."""
    guess, labels, size, model = starter.guess, starter.labels, starter.size, starter.model.spec
    yield f"{_typed(data)}: {rows:,} rows"
    yield f"  text:  {plain(guess.text.column)} ({guess.text.why})"
    yield f"  label: {plain(guess.label.column)} ({guess.label.why}): {balance(labels)}"
    for role, found in (("id", guess.id), ("note", guess.note), ("canonical", guess.canonical)):
        if found:
            yield f"  {role + ':':6} {plain(found.column)} ({found.why})"
    if guess.id is None:
        yield "  id:    a short hash of each text"
    if guess.text.why != "as you say" or guess.label.why != "as you say":
        yield "  guessed wrong? Delete the prompt file and say --text COLUMN, --label COLUMN"
    many = f"{size:,} samples are as many calls, and large cassettes: delete the prompt file and say"
    remarks = (
        (len(labels) == 1, "all samples have one label: add samples of the others"),
        (len(labels) > MANY_LABELS, f"{len(labels)} labels are listed in every call: --label names another column"),
        (size < FEW_SAMPLES, f"{size} samples are few: only a large change can be told from chance"),
        (is_deprecated(model), f"{model} is deprecated: its provider is going to shut it down"),
        (size > MANY_ROWS, f"{many} --rows {SUGGESTED_DRAW} for a draw"),
    )
    alike = (
        f"the labels {same} differ only in case: mend the data if they mean the same" for same in similar_labels(labels)
    )
    for remark in (*guess.remarks, *alike, *(said for applies, said in remarks if applies)):
        yield f"  note: {plain(remark)}"


def _next_lines(parsed: ParsedPrompt, starter: Starter) -> Iterator[str]:
    path = shlex.quote(_typed(parsed.path))
    sample_set = read_samples(parsed)
    wire = Wire(parsed.config, sample_set.labels, parsed.path.parent)
    cost = estimate(wire.model, [wire.payload(sample.text) for sample in sample_set.samples]).shown
    if INSTALL_LOCAL in starter.model.why:
        yield "First, install the model and what runs it:"
        yield f"  {INSTALL_LOCAL}"
    yield f"Next, ask the model once and accept what it says as the baseline ({cost}):"
    yield f"  pytest --promptfit --promptfit-record --promptfit-update {path}"
    yield "From then on, replay: offline, no key, no cost:"
    yield f"  pytest --promptfit {path}"
    yield f"(To make the prompt better: pytest --tune {path})"


def _typed(path: Path) -> str:
    return plain(relative_to(str(path), Path.cwd()))


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

    def order(label: str) -> tuple[int, float, str]:
        number = re.fullmatch(r"-?\d+(\.\d+)?", label)
        return (0, float(label), label) if number else (1, 0.0, label)

    return {label: counted[label] for label in sorted(counted, key=order)}


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
    text, others = guess.text.column, (guess.label, guess.id, guess.note, guess.canonical)
    names = {text, *columns_in(text), *(found.column for found in others if found)}
    used = [column for column in columns if column in names]
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(used)
    writer.writerows([row.cells[column] for column in used] for row in rows)
    return sink.getvalue()


def similar_labels(labels: Mapping[str, int]) -> Iterator[str]:
    """Yield labels that differ only in case: the same meant twice, most likely."""
    folded: dict[str, list[str]] = {}
    for label in labels:
        folded.setdefault(label.casefold(), []).append(label)
    yield from (" and ".join(same) for same in folded.values() if len(same) > 1)
