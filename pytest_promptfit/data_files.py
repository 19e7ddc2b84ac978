"""Data files as rows of text with their line: csv, tsv, jsonl, json, yaml by the standard library and PyYAML.

Parquet is read by pandas, imported only then. What the columns mean is decided in ``samples``.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.yaml_source import YamlSource, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row by column, and the line it starts in (for parquet: its number), from 1."""

    cells: Mapping[str, str]
    line: int


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """Return the columns and the rows of a data file; raise PromptFileError with ``file:line``."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(suffix[1:] for suffix in _READERS)
        raise PromptFileError(f"{path}:1: {path.suffix or 'no ending'}: not a data file: expected {known}")
    return reader(path)


def _read_csv(path: Path) -> tuple[list[str], list[Row]]:
    return _read_separated(path, ",")


def _read_tsv(path: Path) -> tuple[list[str], list[Row]]:
    return _read_separated(path, "\t")


def _read_separated(path: Path, delimiter: str) -> tuple[list[str], list[Row]]:
    csv.field_size_limit(sys.maxsize)
    lines = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    try:
        columns = next(lines, None)
        if not columns:
            raise PromptFileError(f"{path}:1: empty: expected a first line with the names of the columns")
        _refuse_repeated(path, columns)
        return columns, list(_csv_rows(path, columns, lines))
    except csv.Error as error:
        raise PromptFileError(f"{path}:{lines.line_num}: not {path.suffix[1:]}: {error}") from None


def _csv_rows(path: Path, columns: Sequence[str], lines: Any) -> Iterator[Row]:
    start = lines.line_num + 1
    for cells in lines:
        if cells and len(cells) != len(columns):
            raise PromptFileError(
                f"{path}:{start}: {len(cells)} cells: expected {len(columns)} "
                "(a text with the separator or a line break in it needs double quotes)"
            )
        if cells:
            yield Row(dict(zip(columns, cells, strict=True)), start)
        start = lines.line_num + 1


def _refuse_repeated(path: Path, columns: Sequence[str]) -> None:
    twice = [column for column in columns if columns.count(column) > 1]
    if twice:
        raise PromptFileError(f"{path}:1: {twice[0]}: two columns have this name: expected different names")


def _read_jsonl(path: Path) -> tuple[list[str], list[Row]]:
    values = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            values.append((_parse_json(path, line, number), number))
    return _from_objects(path, values)


def _read_json(path: Path) -> tuple[list[str], list[Row]]:
    text = read_text(path)
    values = _parse_json(path, text, 1)
    if not isinstance(values, list):
        raise PromptFileError(f"{path}:1: expected a list of objects, one a sample")
    return _from_objects(path, zip(values, _item_lines(text), strict=True))


def _parse_json(path: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise PromptFileError(f"{path}:{line + error.lineno - 1}: not JSON: {error.msg}") from None
    except RecursionError:
        raise PromptFileError(f"{path}:{line}: not JSON that can be read: nested too deep") from None


def _item_lines(text: str) -> Iterator[int]:
    """Yield the line in which each item of a JSON list starts; the text is known to be valid."""
    decoder = json.JSONDecoder()
    at, line, counted = text.index("[") + 1, 1, 0
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "]":
            return
        line, counted = line + text.count("\n", counted, at), at
        yield line
        _, at = decoder.raw_decode(text, at)


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
        columns.update(dict.fromkeys(map(str, value)))
        rows.append((value, line))
    return list(columns), [Row({column: _cell(value.get(column)) for column in columns}, line) for value, line in rows]


def _read_parquet(path: Path) -> tuple[list[str], list[Row]]:
    try:
        import pandas as pd

        # Nullable types keep whole numbers whole where a column has gaps.
        frame = pd.read_parquet(path, dtype_backend="numpy_nullable")
    except ImportError:
        raise PromptFileError(
            f"{path}:1: reading parquet needs pyarrow: pip install 'pytest-promptfit[parquet]'"
        ) from None
    except Exception as error:
        raise PromptFileError(f"{path}:1: not parquet: {str(error).splitlines()[0]}") from None
    records = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
    return _from_objects(path, ((record, number) for number, record in enumerate(records, 1)))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


_READERS: dict[str, Callable[[Path], tuple[list[str], list[Row]]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".parquet": _read_parquet,
}
