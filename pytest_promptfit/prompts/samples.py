"""Samples: texts with the label they should get, read from a data file or from the prompt file.

Ids are stable: the user's own, else a short hash of the text, so that rows may move.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Integral
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_promptfit.errors import NoSamplesError, PromptFileError, PromptfitError
from pytest_promptfit.files import expanded, is_file
from pytest_promptfit.prompts.labels import MISSING, words_of
from pytest_promptfit.prompts.model import SampleSource
from pytest_promptfit.prompts.tables import Row, read_rows
from pytest_promptfit.text import counted, nearest, nfc, short, shown_key

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

    from pytest_promptfit.prompts.model import InlineSample
    from pytest_promptfit.prompts.read import ParsedPrompt

SHORT_ID, LONG_ID = 10, 16
FEWEST_CHOICES, MOST_CHOICES = 2, 255
"""Labels that a decision model chooses from."""

SHOWN_TWINS = 6
"""Samples that stand twice and are named; more are counted."""

LONGEST_PATH = 1000
"""Characters of a path that an error shows."""

# White space that is not one space already: splitting a text of 100 MB into words would take gigabytes.
_WHITE_SPACE = re.compile(r"\s{2,}|[^\S ]")

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BETWEEN_LABELS = re.compile(r"\s*[,;|/\n]\s*")
# How pandas and numpy write a value that is missing, in small letters.
_NOT_A_NUMBER = {"nan", ".nan", "<na>", "nat"}

_YES = {"1", "true", "yes", "y", "x"}
_NO = {"", "0", "false", "no", "n"}


@dataclass(frozen=True, slots=True)
class Sample:
    """A text and the label it should get, with the place it was read from.

    ``columns`` are the further cells of its row in the data file; a column that the row does not have is left out.
    """

    id: str
    text: str
    label: str
    note: str = ""
    canonical: bool = False
    path: str = ""
    line: int = 1
    columns: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def case_name(self) -> str:
        """The name of its test case."""
        return f"{'canonical' if self.canonical else 'sample'}-{self.id}"

    @property
    def place(self) -> str:
        """``file:line``, as people and editors read it; without a line where there is none."""
        return f"{self.path}:{self.line}" if self.line else self.path


@dataclass(frozen=True)
class SampleSet:
    """All samples of a prompt file, its labels, and what was noticed while reading."""

    samples: tuple[Sample, ...]
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def labeled(self) -> tuple[Sample, ...]:
        """The samples that the figures and gates count."""
        return tuple(sample for sample in self.samples if not sample.canonical)


def read_samples(parsed: ParsedPrompt) -> SampleSet:
    """Read all samples of a prompt file; raise PromptFileError with ``file:line`` for the first mistake."""
    config = parsed.config
    found = [
        _inline(parsed, item.model_copy(update={"canonical": True}), ("canonical", at))
        for at, item in enumerate(config.canonical)
    ]
    if (source := config.samples) is not None:
        path = data_path(parsed)
        inline = (_inline(parsed, item, ("samples", at)) for at, item in enumerate(source.inline))
        found += _rows(parsed, source, path, ("samples", "file")) if path else inline
    if config.sliced_by and data_path(parsed) is None:
        _check_slices(parsed, (), "a data file")
    if not found:
        error = parsed.error("samples: none: expected `samples` or `canonical` with at least one sample", "samples")
        raise NoSamplesError(str(error)) if config.samples is None else error
    return _sample_set(parsed, found, config.labels)


def given_samples(parsed: ParsedPrompt, given: Iterable[object]) -> SampleSet:
    """Return samples that a program brings, checked as those of a file are.

    Their labels are those of the prompt file, and its samples', so that the prompt is the one that production
    sends. Raises PromptfitError for the first mistake; a sample's place is ``samples[0]`` and so on.
    """
    if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
        raise PromptfitError(f"samples: {short(given)}: {_EXPECTED_SAMPLES}")
    found = [_given(item, f"samples[{at}]") for at, item in enumerate(given)]
    if not found:
        raise PromptfitError("samples: none: expected at least one")
    config = parsed.config
    labels = config.labels or (read_samples(parsed).labels if config.samples or config.canonical else ())
    return _sample_set(parsed, found, labels)


def rows_of(parsed: ParsedPrompt, file: str, labels: tuple[str, ...], place: tuple[str, ...]) -> SampleSet:
    """Return the rows of another file, whose columns are named as ``samples`` names them, checked as samples are.

    ``place`` is where the prompt file names the file, which needs no columns but text and label. Raises
    PromptFileError for the first mistake.
    """
    source = parsed.config.samples or SampleSource.model_validate({"file": file})
    source = source.model_copy(update={"file": file, "id": None})
    found = list(_rows(parsed, source, path_beside(parsed, file), place))
    if not found:
        raise parsed.error(f"{'.'.join(place)}: {short(file)}: no rows: expected texts with their labels", *place)
    return _sample_set(parsed, found, labels)


_EXPECTED_SAMPLES = "expected pairs (text, label), or Sample objects, in a list"


def _given(item: object, place: str) -> Sample:
    if isinstance(item, Sample):
        sample = item if item.path else replace(item, path=place, line=0)
    elif isinstance(item, Sequence) and not isinstance(item, str | bytes) and len(item) == 2:
        text, label = item
        is_number = isinstance(label, Integral) and not isinstance(label, bool)
        sample = Sample("", text, str(label) if is_number else label, path=place, line=0)
    else:
        raise PromptfitError(f"{place}: {short(item)}: {_EXPECTED_SAMPLES}")
    for name in ("text", "label", "note", "id"):
        value = getattr(sample, name)
        if not isinstance(value, str):
            raise PromptfitError(f"{sample.place}: {name}: {short(value)}: expected text")
    return _checked(replace(sample, label=sample.label.strip()), sample.id or None)


def _sample_set(parsed: ParsedPrompt, found: Sequence[Sample], labels: tuple[str, ...]) -> SampleSet:
    """Return the samples with an id each, and once each, when all is right with them."""
    # A label that stands for none or for several is a mistake, unless the prompt file names it: then it is meant so.
    said = {sample.label for sample in found}
    unclear = {label: why for label in said.difference(labels) if (why := what_is_unclear(label, said))}
    for sample in found:
        if sample.label in unclear:
            raise PromptFileError(f"{sample.place}: label: {short(sample.label)} {unclear[sample.label]}")
    forms = [normal_form(sample.text) for sample in found]
    kept, warnings = _without_duplicates(_with_distinct_ids(found, forms), forms)
    labels = labels or tuple(sorted({sample.label for sample in kept}))
    known = set(labels)
    for sample in kept:
        if sample.label not in known:
            hint = nearest(sample.label, labels)
            raise PromptFileError(f"{sample.place}: label: {short(sample.label)} is not one of `labels`{hint}")
    check_prompt_labels(parsed, labels)
    return SampleSet(tuple(kept), labels, tuple(warnings))


def text_id(text: str) -> str:
    """Return the default id of a text: hex digits of the SHA-256 of its normal form."""
    return _id_of(normal_form(text), SHORT_ID)


def _id_of(form: str, length: int) -> str:
    return hashlib.sha256(form.encode()).hexdigest()[:length]


def normal_form(text: str) -> str:
    """Return the text as duplicates are found by it: NFC, white space folded."""
    return _WHITE_SPACE.sub(" ", nfc(text)).strip()


def data_path(parsed: ParsedPrompt) -> Path | None:
    """Return where the data file should be; ``None`` when the samples are inline."""
    file = parsed.config.samples.file if parsed.config.samples else None
    return None if file is None else path_beside(parsed, file)


def path_beside(parsed: ParsedPrompt, file: str) -> Path:
    """Return where a file should be that a prompt file names, without needless steps in its path."""
    path = parsed.path.parent / expanded(file)
    direct = os.path.normpath(path)
    try:  # behind a symbolic link `..` leads elsewhere
        return Path(direct) if os.path.realpath(direct) == os.path.realpath(path) else path
    except ValueError:  # a NUL
        return path


def _inline(parsed: ParsedPrompt, item: InlineSample, place: tuple[str | int, ...]) -> Sample:
    line = parsed.line(*place)
    sample = Sample("", item.text, item.label, item.note, item.canonical, str(parsed.path), line)
    return _checked(sample, item.id)


def _rows(parsed: ParsedPrompt, source: SampleSource, path: Path, place: tuple[str, ...]) -> Iterator[Sample]:
    """Yield the samples of a data file that the prompt file names at ``place``."""
    if not is_file(path):
        # Path.exists raises for a name that the system refuses.
        what = "not a regular file: expected one" if os.path.exists(path) else "no such file: expected it"  # noqa: PTH110
        where = shown_key(path, limit=LONGEST_PATH)
        raise parsed.error(f"{'.'.join(place)}: {short(source.file)}: {what} at {where}", *place)
    columns, rows = read_rows(path)
    _refuse_missing_header(source, path, columns, rows)
    is_own = place[0] == "samples"  # of another file the columns of text and label are enough
    note, canonical = (name if is_own or name in columns else None for name in (source.note, source.canonical))
    reader = _Columns(parsed, columns, shown_key(source.file or ""), None if is_own else place)
    text_of = reader.text(source.text)
    label_of = reader.column("label", source.label)
    note_of = reader.column("note", note or None)
    id_of = reader.column("id", source.id) if source.id else None
    canonical_of = reader.column("canonical", canonical or None)
    taken = {source.text, source.label, source.note or "note", source.id, source.canonical or "canonical"}
    others = dict.fromkeys(name for name in columns if name not in taken) if is_own else {}
    if is_own:
        _check_slices(parsed, list(others), shown_key(source.file or ""))
    shown = str(path)
    for row in rows:
        cells, canonical = row.cells, canonical_of(row.cells)
        is_canonical = canonical.strip().casefold() in _YES
        if not is_canonical and canonical.strip().casefold() not in _NO:
            raise PromptFileError(f"{path}:{row.line}: canonical: {short(canonical)}: expected yes or no")
        sample = Sample(
            "",
            text_of(cells),
            one_label(label_of(cells)),
            note_of(cells).strip(),
            is_canonical,
            shown,
            row.line,
            # Those that the row has: filling in all others would take a file's rows times its columns.
            {name: cell for name, cell in cells.items() if name in others} if others else {},
        )
        yield _checked(sample, id_of(cells) if id_of else None)


def _check_slices(parsed: ParsedPrompt, columns: Sequence[str], where: str) -> None:
    """Raise PromptFileError where accuracy is to be told by what is no further column of the data file."""
    config = parsed.config
    named: list[tuple[str, tuple[str | int, ...]]] = [(name, ("slices", at)) for at, name in enumerate(config.slices)]
    named += [(name, ("gates", "slices", name)) for name in config.gates.slices]
    for name, place in named:
        if name not in columns:
            hint = nearest(name, columns) if columns else "; it has none"
            message = f"{short(name)}: no column of {where} besides those of the samples{hint}"
            raise parsed.error(f"{'.'.join(map(shown_key, place))}: {message}", *place)


def _refuse_missing_header(source: SampleSource, path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Say that a table starts with a sample, and not that the column is missing which nobody named."""
    if source.label in columns or path.suffix.lower() not in (".csv", ".tsv"):
        return
    if any(name and any(row.cells[name] == name for row in rows) for name in columns):
        raise PromptFileError(
            f"{path}:1: looks like a sample, not like names of columns: put a line with names before it, "
            "such as text,label"
        )


def one_label(cell: str) -> str:
    """Return the label in a cell, in NFC; a JSON list of one label is that label."""
    label = nfc(cell.strip())
    listed = _json_list(label)
    return nfc(listed[0].strip()) if len(listed) == 1 and isinstance(listed[0], str) else label


def _json_list(label: str) -> list[object]:
    try:
        found = json.loads(label) if label[:1] == "[" else None
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, list) else []


def what_is_unclear(label: str, labels: Container[str]) -> str:
    """Return why a label is none, or more than one of the ``labels``; ``""`` for a good one."""
    if label.casefold() in _NOT_A_NUMBER:
        return "stands for a missing value: expected a label, or this one listed in `labels`"
    parts = set(_BETWEEN_LABELS.split(label))
    if len(_json_list(label)) > 1 or (len(parts) > 1 and all(part in labels for part in parts)):
        return "holds several labels: expected one, because a prompt gives a text one label"
    return ""


def _checked(sample: Sample, own_id: str | None) -> Sample:
    if not sample.text.strip():
        raise PromptFileError(f"{sample.place}: text: empty: expected the text to classify")
    if not sample.label:
        raise PromptFileError(f"{sample.place}: label: empty: expected the label of {_cut(sample.text)}")
    if sample.label == MISSING:
        raise PromptFileError(f"{sample.place}: label: {MISSING!r}: expected another label: this one stands for none")
    for part, value in (("text", sample.text), ("label", sample.label), ("note", sample.note)):
        if not value.isascii() and _SURROGATE.search(value):
            raise PromptFileError(f"{sample.place}: {part}: half a surrogate pair: expected whole characters")
    if own_id is None:
        return sample
    # As ``path::id`` can select it: no brackets, no ``::``, no control characters.
    printable = "".join(char if char.isprintable() else "_" for char in own_id.strip())
    clean = re.sub(r":{2,}", ":", printable.replace("[", "(").replace("]", ")"))
    if not clean:
        raise PromptFileError(f"{sample.place}: id: empty: expected an id for every sample, or no `id` at all")
    return replace(sample, id=clean)


def _with_distinct_ids(samples: Sequence[Sample], forms: Sequence[str]) -> list[Sample]:
    """Give an id to the samples without one; where two texts share the short hash, both get the long one."""
    ids = [sample.id or _id_of(form, SHORT_ID) for sample, form in zip(samples, forms, strict=True)]
    texts: dict[str, set[str]] = {}
    for sample, form, short_id in zip(samples, forms, ids, strict=True):
        if not sample.id:
            texts.setdefault(short_id, set()).add(form)
    return [
        sample if sample.id else replace(sample, id=short_id if len(texts[short_id]) == 1 else _id_of(form, LONG_ID))
        for sample, form, short_id in zip(samples, forms, ids, strict=True)
    ]


def _without_duplicates(samples: Sequence[Sample], forms: Sequence[str]) -> tuple[list[Sample], list[str]]:
    """Drop a text that stands twice with the same label, and say so; every other duplicate is an error."""
    first: dict[tuple[bool, str], Sample] = {}
    texts: dict[tuple[bool, str], Sample] = {}
    labels: dict[str, Sample] = {}
    twins: list[tuple[Sample, Sample]] = []
    for sample, text in zip(samples, forms, strict=True):
        other = labels.setdefault(text, sample)
        if other.label != sample.label:
            raise PromptFileError(
                f"{sample.place}: label: {short(sample.label)}, but the same text has the label {short(other.label)} "
                f"at {other.place}: expected one label for {_cut(sample.text)}"
            )
        twin = texts.setdefault((sample.canonical, text), sample)
        if twin is not sample:
            twins.append((sample, twin))
            continue
        earlier = first.setdefault((sample.canonical, sample.id), sample)
        if earlier is not sample:
            raise PromptFileError(
                f"{sample.place}: id: {sample.id}: said twice, first at {earlier.place}: expected unique ids"
            )
    return list(first.values()), list(_twin_lines(twins))


def _twin_lines(twins: Sequence[tuple[Sample, Sample]]) -> Iterator[str]:
    """Yield, in one line, which samples stand twice: the first of them by their places, all of them by their number."""
    if not twins:
        return
    sample, twin = twins[0]
    more = ""
    if len(twins) > 1:
        shown = ", ".join(str(other.line) for other, _ in twins[1:SHOWN_TWINS])
        rest = ", …" if len(twins) > SHOWN_TWINS else ""
        more = f"; so are {len(twins) - 1:,} more, in line{'s' if len(twins) > 2 else ''} {shown}{rest}"
    yield f"{sample.place}: the same sample as {twin.place}: counted once{more}"


def check_prompt_labels(parsed: ParsedPrompt, labels: Sequence[str]) -> None:
    """Raise PromptFileError where the prompt, a gate or a weight names no label, or two labels share a word.

    So it does for notes and an order of labels that no text lists, for a shortlist of all labels, and for what no
    decision model can be asked.
    """
    prompt, gates, decision = parsed.config.prompt, parsed.config.gates, parsed.config.decision
    named: list[tuple[str, tuple[str | int, ...]]] = [
        *((label, ("prompt", "label_words", label)) for label in prompt.label_words),
        *((label, ("prompt", "label_notes", label)) for label in prompt.label_notes),
        *((label, ("prompt", "label_order", at)) for at, label in enumerate(prompt.label_order)),
        *((example.label, ("prompt", "examples", at, "label")) for at, example in enumerate(prompt.fixed_examples)),
        *((label, ("gates", "recall", label)) for label in gates.recall),
        *((label, ("decision", "weights", label)) for label in (decision.weights if decision else ())),
    ]
    known = set(labels)
    for label, place in named:
        if label not in known:
            field = ".".join(map(shown_key, place))
            raise parsed.error(f"{field}: {short(label)} is not one of the labels{nearest(label, labels)}", *place)
    for name in ("label_notes", "label_order") if not (prompt.lists_labels or parsed.config.model.decides) else ():
        if getattr(prompt, name):
            message = f"prompt.{name}: no text says {{labels}}, where they are listed: put it into system_prompt"
            raise parsed.error(message, "prompt", name)
    if prompt.shortlist is not None and prompt.shortlist >= len(labels):
        message = f"prompt.examples.shortlist: {prompt.shortlist}: expected fewer than the {len(labels)} labels"
        raise parsed.error(message, "prompt", "examples", "shortlist")
    if parsed.config.model.decides:
        _check_decision(parsed, labels)
    owners: dict[str, str] = {}
    for label, word in words_of(labels, prompt.label_words).items():
        owner = owners.setdefault(word.strip(), label)
        if owner != label:
            message = (
                f"prompt.label_words: {short(word)} is the word of {short(owner)} and of {short(label)}: "
                "expected different words"
            )
            raise parsed.error(message, "prompt", "label_words", label)


def _check_decision(parsed: ParsedPrompt, labels: Sequence[str]) -> None:
    model = parsed.config.model
    if not parsed.config.prompt.system_prompt.strip():
        message = f"prompt.system_prompt: expected the instruction, which {model} is asked with"
        raise parsed.error(message, "prompt", "system_prompt")
    if not FEWEST_CHOICES <= len(labels) <= MOST_CHOICES:
        wanted = f"expected {FEWEST_CHOICES} to {MOST_CHOICES}, which {model} can choose from"
        message = f"labels: {counted(len(labels), 'label')}: {wanted}"
        raise parsed.error(message, "labels")


def columns_in(template: str) -> list[str]:
    """Return the columns that a template names, in their order."""
    names: list[str] = _PLACEHOLDER.findall(template)
    return names


def filled_in(template: str, cells: Mapping[str, str]) -> str:
    """Return a template with a row's cells in it; empty where all of those are."""
    if not any(cells[name].strip() for name in columns_in(template)):
        return ""
    return _PLACEHOLDER.sub(lambda name: cells[name[1]], template)


@dataclass(frozen=True)
class _Columns:
    """The columns of a data file, and what reads them; the one that is missing is told at ``place``, if given."""

    parsed: ParsedPrompt
    columns: Sequence[str]
    file: str
    place: tuple[str, ...] | None = None

    def text(self, text: str) -> Callable[[Mapping[str, str]], str]:
        """Return what makes the text of a row: a column, or a template over columns."""
        if text in self.columns or not columns_in(text):
            return self.column("text", text)
        for name in columns_in(text):
            self.column("text", name)
        return partial(filled_in, text)

    def column(self, field: str, column: str | None) -> Callable[[Mapping[str, str]], str]:
        """Return the reader of a column; one not named is taken when it has the field's name, and may be absent."""
        if column is None and field not in self.columns:
            return lambda _: ""
        name = field if column is None else column
        if name not in self.columns:
            place = self.place or ("samples", field)
            known = f"no such column in {self.file}{nearest(name, self.columns)}"
            raise self.parsed.error(f"{'.'.join(place)}: {short(name)}: {known}", *place)
        return itemgetter(name)


def _cut(text: str, limit: int = 40) -> str:
    flat = " ".join(text[: limit * 10].split())
    return repr(flat if len(flat) <= limit else flat[: limit - 1] + "…")
