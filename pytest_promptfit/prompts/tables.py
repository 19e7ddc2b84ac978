"""Data files as rows of text with their line: csv, tsv, jsonl, json, yaml by the standard library and PyYAML.

Parquet is read by pandas, imported only then. What the columns mean is decided in ``samples``.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.prompts.yaml_source import MAX_DEPTH, YamlSource, read_text
from pytest_promptfit.text import LFS_POINTER, POINTER, short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path


LONGEST_CELL = 2**31 - 1
"""Characters of a csv cell; the most that every platform takes."""


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row by column, and the line it starts in (for parquet: its number), from 1.

    A column of the file that the row does not have is an empty cell.
    """

    cells: Mapping[str, str]
    line: int


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """Return the columns and the rows of a data file; raise PromptFileError with ``file:line``."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(suffix[1:] for suffix in _READERS)
        raise PromptFileError(f"{path}:1: {path.suffix or 'no ending'}: not a data file: expected {known}")
    return reader(path)


SEPARATORS = "\t,;|"
"""What may stand between the cells of a csv, whatever its name says, as spreadsheets write it."""

SNIFFED_LETTERS, SNIFFED_ROWS = 2**16, 20
"""How much of a csv is looked at to tell what separates its cells."""

# The first line with which a csv tells Excel, and nobody else, what separates its cells.
_EXCELS_LINE = re.compile(r'"?sep=([^"\r\n])"?\r?\n', re.IGNORECASE)


_BACKSLASH = re.compile(r'\\(["\\])')
# What marks a quote in a cell where no second quote does, and what that stands for.
_MARKED = {'"': '""', "\\": "\\"}


def _read_separated(path: Path) -> tuple[list[str], list[Row]]:
    text = read_text(path)
    told = _EXCELS_LINE.match(text)
    separator = "\t" if path.suffix.lower() == ".tsv" else told[1] if told else _separator(text)
    usual = csv.field_size_limit(LONGEST_CELL)
    try:
        lines = _cells(path, text[told.end() :] if told else text, separator, 2 if told else 1)
    finally:
        csv.field_size_limit(usual)
    if not lines:
        raise PromptFileError(f"{path}:1: empty: expected a first line with the names of the columns")
    (head, columns), *rest = lines
    if sum(not column for column in columns) > 1:  # named as pandas does; a single one is an index, and stays
        columns = [column or f"Unnamed: {at}" for at, column in enumerate(columns)]
    twice = next((column for column, times in Counter(columns).items() if times > 1), None)
    if twice is not None:
        raise PromptFileError(f"{path}:{head}: {short(twice)}: two columns have this name: expected different names")
    for line, cells in rest:
        if len(cells) != len(columns):
            raise PromptFileError(
                f"{path}:{line}: {len(cells)} cells: expected {len(columns)} "
                "(a text with the separator or a line break in it needs double quotes)"
            )
    return columns, [Row(dict(zip(columns, cells, strict=True)), line) for line, cells in rest]


def _separator(text: str) -> str:
    """Return what gives the first rows as many cells as the names of the columns, and most of them."""
    head = text[:SNIFFED_LETTERS]
    columns = {}
    for mark in SEPARATORS:
        reader = csv.reader(io.StringIO(head, newline=""), delimiter=mark, strict=True)
        lengths: list[int] = []
        with suppress(csv.Error):
            lengths += (len(cells) for cells in islice(filter(None, reader), SNIFFED_ROWS))
        if len(head) < len(text) and len(lengths) < SNIFFED_ROWS:
            lengths = lengths[:-1]  # the last row was cut
        columns[mark] = lengths[0] if len(set(lengths)) == 1 else 0
    found = max(SEPARATORS, key=lambda mark: columns[mark])
    if columns[found] > 1:
        return found
    first = text.lstrip().partition("\n")[0]
    return next((mark for mark in ",;\t|" if mark in first), ",")


def _cells(path: Path, text: str, delimiter: str, start: int) -> list[tuple[int, list[str]]]:
    """Return the cells of each row that is not blank, with the line it starts in; ``start`` is that of the text."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, line = [], start
    try:
        for cells in reader:
            if cells:
                rows.append((line, cells))
            line = reader.line_num + start
    except csv.Error as error:
        if '\\"' in text:  # quotes marked by a backslash, as some programs write them, and not by a second quote
            return _cells(path, _BACKSLASH.sub(lambda marked: _MARKED[marked[1]], text), delimiter, start)
        raise PromptFileError(f"{path}:{line}: not {path.suffix[1:].lower()}: {error}: check the quotes") from None
    return rows


def _read_json(path: Path) -> tuple[list[str], list[Row]]:
    """Read one list, or of a ``.jsonl`` an object a line."""
    text = read_text(path)
    if path.suffix.lower() == ".jsonl":
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        return _from_objects(path, [(_parse_json(path, line, number), number) for number, line in lines])
    values = _parse_json(path, text, 1)
    if not isinstance(values, list):
        raise PromptFileError(f"{path}:1: expected a list of objects, one a sample")
    # Each item is read once more, only to find the line that it starts in: `json` tells no places.
    decoder, at, line, counted = json.JSONDecoder(), text.index("[") + 1, 1, 0
    placed = []
    for value in values:
        while text[at] in " \t\r\n,":
            at += 1
        line, counted = line + text.count("\n", counted, at), at
        placed.append((value, line))
        _, at = decoder.raw_decode(text, at)
    return _from_objects(path, placed)


def _parse_json(path: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise PromptFileError(f"{path}:{line + error.lineno - 1}: not JSON: {error.msg}") from None
    except RecursionError:
        raise PromptFileError(f"{path}:{line}: nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:  # a number with thousands of digits
        raise PromptFileError(f"{path}:{line}: not JSON that can be read: {error}") from None


def _read_yaml(path: Path) -> tuple[list[str], list[Row]]:
    source = YamlSource.read(path)
    if not isinstance(source.value, list):
        raise PromptFileError(f"{path}:1: expected a list of mappings, one a sample")
    lines = source.item_lines()
    return _from_objects(path, zip(source.value, lines, strict=True))


def _from_objects(path: Path, values: Iterable[tuple[Any, int]]) -> tuple[list[str], list[Row]]:
    rows, columns = [], dict[str, None]()
    for value, line in values:
        if not isinstance(value, dict):
            raise PromptFileError(f"{path}:{line}: expected an object with named fields, found {type(value).__name__}")
        if _is_too_deep(value):
            raise PromptFileError(f"{path}:{line}: nested deeper than {MAX_DEPTH} levels")
        named = {str(column): cell for column, cell in value.items()}
        columns.update(dict.fromkeys(named))
        rows.append((named, line))
    if not rows:
        raise PromptFileError(f"{path}:1: empty: expected at least one sample")
    return list(columns), [
        Row(_Cells({column: _cell(cell) for column, cell in cells.items()}), line) for cells, line in rows
    ]


def _read_parquet(path: Path) -> tuple[list[str], list[Row]]:
    with path.open("rb") as source:
        if source.read(len(LFS_POINTER)) == LFS_POINTER.encode():
            raise PromptFileError(f"{path}:1: {POINTER}")
    try:
        import pandas as pd

        # Nullable types keep whole numbers whole where a column has gaps.
        frame = pd.read_parquet(path, dtype_backend="numpy_nullable")
        # An index with a name was a column before somebody made it the index.
        frame = frame.reset_index() if any(frame.index.names) else frame
    except ImportError:
        raise PromptFileError(
            f"{path}:1: reading parquet needs pyarrow: pip install 'pytest-promptfit[parquet]'"
        ) from None
    except Exception as error:
        raise PromptFileError(f"{path}:1: not parquet: {str(error).splitlines()[0]}") from None
    for name, column in frame.select_dtypes(["Float32", "Float64"]).items():
        if (column.dropna() % 1 == 0).all():  # pandas stores whole numbers with gaps as floats: 1 is said, not 1.0
            frame[name] = column.astype("Int64")
    records = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
    return _from_objects(path, ((record, number) for number, record in enumerate(records, 1)))


class _Cells(dict[str, str]):
    """The cells that a row has: filling in all others would take a file's rows times its columns."""

    def __missing__(self, column: str) -> str:
        return ""


def _is_too_deep(value: dict[Any, Any] | list[Any], levels: int = MAX_DEPTH) -> bool:
    """Tell whether a value nests deeper than that: where Python itself gives up depends on version and caller."""
    inner = value.values() if isinstance(value, dict) else value
    return not levels or any(isinstance(item, dict | list) and _is_too_deep(item, levels - 1) for item in inner)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):  # parquet may hold text without saying so
        return value.decode(errors="replace")
    if not isinstance(value, dict | list):
        return str(value)
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except TypeError:  # YAML and parquet have keys that JSON has not
        return str(value)


_READERS: dict[str, Callable[[Path], tuple[list[str], list[Row]]]] = {
    ".csv": _read_separated,
    ".tsv": _read_separated,
    ".jsonl": _read_json,
    ".json": _read_json,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".parquet": _read_parquet,
}
