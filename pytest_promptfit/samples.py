"""Samples: texts with the label they should get, read from a data file or from the prompt file.

Ids are stable: the user's own, else a short hash of the text, so that rows may move.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_promptfit.chat import words_of
from pytest_promptfit.data_files import Row, read_rows
from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.validation_lines import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_promptfit.prompt_file import InlineSample, ParsedPrompt, SampleSource

SHORT_ID, LONG_ID = 10, 16
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_YES = {"1", "true", "yes", "y", "x"}
_NO = {"", "0", "false", "no", "n"}


@dataclass(frozen=True, slots=True)
class Sample:
    """A text and the label it should get, with the place it was read from."""

    id: str
    text: str
    label: str
    note: str = ""
    canonical: bool = False
    path: str = ""
    line: int = 1

    @property
    def case_name(self) -> str:
        """The name of its test case."""
        return f"{'canonical' if self.canonical else 'sample'}-{self.id}"

    @property
    def place(self) -> str:
        """``file:line``, as people and editors read it."""
        return f"{self.path}:{self.line}"


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
    found = [*_canonicals(parsed), *_labeled(parsed)]
    if not found:
        raise parsed.error("samples: none: expected `samples` or `canonical` with at least one sample", "samples")
    kept, warnings = _without_duplicates(_with_distinct_ids(found))
    labels = config.labels or tuple(sorted({sample.label for sample in kept}))
    _check_labels(kept, labels)
    check_prompt_labels(parsed, labels)
    return SampleSet(tuple(kept), labels, tuple(warnings))


def text_id(text: str, length: int = SHORT_ID) -> str:
    """Return the default id of a text: hex digits of the SHA-256 of its normal form."""
    return hashlib.sha256(normal_form(text).encode()).hexdigest()[:length]


def normal_form(text: str) -> str:
    """Return the text as duplicates are found by it: NFC, white space folded."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _canonicals(parsed: ParsedPrompt) -> Iterable[Sample]:
    for index, item in enumerate(parsed.config.canonical):
        yield _inline(parsed, _as_canonical(item), ("canonical", index))


def _as_canonical(item: InlineSample) -> InlineSample:
    return item.model_copy(update={"canonical": True})


def _labeled(parsed: ParsedPrompt) -> Iterable[Sample]:
    source = parsed.config.samples
    if source is None:
        return
    if source.file is None:
        for index, item in enumerate(source.inline):
            yield _inline(parsed, item, ("samples", index))
        return
    path = parsed.path.parent / Path(source.file).expanduser()
    if not path.is_file():
        raise parsed.error(f"samples.file: {source.file}: no such file: expected it at {path}", "samples", "file")
    yield from _rows(parsed, source, path)


def _inline(parsed: ParsedPrompt, item: InlineSample, place: tuple[str | int, ...]) -> Sample:
    line = parsed.line(*place)
    sample = Sample("", item.text, item.label, item.note, item.canonical, str(parsed.path), line)
    return _checked(sample, item.id)


def _rows(parsed: ParsedPrompt, source: SampleSource, path: Path) -> Iterable[Sample]:
    columns, rows = read_rows(path)
    text_of = _text_reader(parsed, source.text, columns)
    label_of = _column_reader(parsed, "label", source.label, columns)
    note_of = _optional_reader(parsed, "note", source.note, columns)
    id_of = _column_reader(parsed, "id", source.id, columns) if source.id else None
    canonical_of = _optional_reader(parsed, "canonical", source.canonical, columns)
    shown = str(path)
    for row in rows:
        canonical = _yes_no(shown, row, canonical_of(row.cells))
        sample = Sample(
            "",
            text_of(row.cells),
            label_of(row.cells).strip(),
            note_of(row.cells).strip(),
            canonical,
            shown,
            row.line,
        )
        yield _checked(sample, id_of(row.cells) if id_of else None)


def _checked(sample: Sample, own_id: str | None) -> Sample:
    if not sample.text.strip():
        raise PromptFileError(f"{sample.place}: text: empty: expected the text to classify")
    if not sample.label:
        raise PromptFileError(f"{sample.place}: label: empty: expected the label of {_cut(sample.text)}")
    try:
        sample.text.encode()
    except UnicodeEncodeError:
        raise PromptFileError(f"{sample.place}: text: half a surrogate pair: expected whole characters") from None
    if own_id is None:
        return sample
    clean = _clean_id(own_id)
    if not clean:
        raise PromptFileError(f"{sample.place}: id: empty: expected an id for every sample, or no `id` at all")
    return replace(sample, id=clean)


def _clean_id(own_id: str) -> str:
    """Return an id that ``path::id`` can select: no brackets, no ``::``, no control characters."""
    printable = "".join(char if char.isprintable() else "_" for char in own_id.strip())
    return re.sub(r":{2,}", ":", printable.replace("[", "(").replace("]", ")"))


def _with_distinct_ids(samples: Sequence[Sample]) -> list[Sample]:
    """Give an id to the samples without one; where two texts share the short hash, both get the long one."""
    texts: dict[str, set[str]] = {}
    for sample in samples:
        if not sample.id:
            texts.setdefault(text_id(sample.text), set()).add(normal_form(sample.text))

    def identified(sample: Sample) -> Sample:
        short = text_id(sample.text)
        return replace(sample, id=short if len(texts[short]) == 1 else text_id(sample.text, LONG_ID))

    return [sample if sample.id else identified(sample) for sample in samples]


def _without_duplicates(samples: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
    """Drop a text that stands twice with the same label, and say so; every other duplicate is an error."""
    first: dict[tuple[bool, str], Sample] = {}
    labels: dict[str, Sample] = {}
    warnings = []
    for sample in samples:
        _refuse_contradiction(labels.setdefault(normal_form(sample.text), sample), sample)
        earlier = first.setdefault((sample.canonical, sample.id), sample)
        if earlier is sample:
            continue
        if normal_form(earlier.text) != normal_form(sample.text):
            raise PromptFileError(
                f"{sample.place}: id: {sample.id}: said twice, first at {earlier.place}: expected unique ids"
            )
        warnings.append(f"{sample.place}: the same sample as {earlier.place}: counted once")
    return list(first.values()), warnings


def _refuse_contradiction(earlier: Sample, sample: Sample) -> None:
    if earlier.label != sample.label:
        raise PromptFileError(
            f"{sample.place}: label: {sample.label!r}, but the same text has the label {earlier.label!r} "
            f"at {earlier.place}: expected one label for {_cut(sample.text)}"
        )


def _check_labels(samples: Iterable[Sample], labels: Sequence[str]) -> None:
    known = set(labels)
    for sample in samples:
        if sample.label not in known:
            hint = nearest(sample.label, labels)
            raise PromptFileError(f"{sample.place}: label: {sample.label!r} is not one of `labels`{hint}")


def check_prompt_labels(parsed: ParsedPrompt, labels: Sequence[str]) -> None:
    """Raise PromptFileError where the prompt or a gate names a label that is none, or two labels share a word."""
    prompt, gates = parsed.config.prompt, parsed.config.gates
    named: list[tuple[str, tuple[str | int, ...]]] = [
        *((label, ("prompt", "label_words", label)) for label in prompt.label_words),
        *((example.label, ("prompt", "examples", at, "label")) for at, example in enumerate(prompt.examples)),
        *((label, ("gates", "recall", label)) for label in gates.recall),
    ]
    for label, place in named:
        if label not in labels:
            field = ".".join(map(str, place))
            raise parsed.error(f"{field}: {label!r} is not one of the labels{nearest(label, labels)}", *place)
    owners: dict[str, str] = {}
    for label, word in words_of(labels, prompt.label_words).items():
        owner = owners.setdefault(word.strip(), label)
        if owner != label:
            message = (
                f"prompt.label_words: {word!r} is the word of {owner!r} and of {label!r}: expected different words"
            )
            raise parsed.error(message, "prompt", "label_words", label)


def _text_reader(parsed: ParsedPrompt, text: str, columns: Sequence[str]) -> Callable[[Mapping[str, str]], str]:
    """Return what makes the text of a row: a column, or a template over columns."""
    if text in columns or not _PLACEHOLDER.search(text):
        return _column_reader(parsed, "text", text, columns)
    for name in _PLACEHOLDER.findall(text):
        _column_reader(parsed, "text", name, columns)
    return lambda cells: _PLACEHOLDER.sub(lambda name: cells[name[1]], text)


def _optional_reader(
    parsed: ParsedPrompt, field: str, column: str | None, columns: Sequence[str]
) -> Callable[[Mapping[str, str]], str]:
    """Return the reader of a column that may be absent: one not named is taken when it has the field's name."""
    if column is None and field not in columns:
        return lambda _: ""
    return _column_reader(parsed, field, column or field, columns)


def _column_reader(
    parsed: ParsedPrompt, field: str, column: str, columns: Sequence[str]
) -> Callable[[Mapping[str, str]], str]:
    if column not in columns:
        file = parsed.config.samples.file if parsed.config.samples else ""
        raise parsed.error(
            f"samples.{field}: {column!r}: no such column in {file}{nearest(column, columns)}",
            "samples",
            field,
        )
    return lambda cells: cells[column]


def _yes_no(path: str, row: Row, value: str) -> bool:
    folded = value.strip().casefold()
    if folded in _YES or folded in _NO:
        return folded in _YES
    raise PromptFileError(f"{path}:{row.line}: canonical: {value!r}: expected yes or no")


def _cut(text: str, limit: int = 40) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= limit else flat[: limit - 1] + "…")
