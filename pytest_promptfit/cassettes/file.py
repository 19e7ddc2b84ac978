"""Reading one cassette file: one interaction a line at JSON speed, any other YAML through the safe loader.

Nothing here knows of keys or replies, and nothing is written. YAML is imported only for a file that
somebody else wrote or reformatted.
"""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from pytest_promptfit.errors import CassetteError
from pytest_promptfit.text import CONFLICT, LFS_POINTER, POINTER, conflict_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HEADER = "version: 1\ninteractions:\n"
"""The first two lines of a cassette; after them one interaction a line, ``- {JSON}``."""

LONGEST_BODY = 16 * 2**20
"""Bytes, unpacked, that a reply may have, recorded or asked for: what is longer is none, and could fill the memory."""

GZIP_OR_DEFLATE = zlib.MAX_WBITS | 32


@dataclass(frozen=True)
class CassetteFile:
    """What one file holds: its interactions as vcrpy lays them out, and what had to be passed over."""

    path: Path
    text: str = ""
    interactions: list[Any] = field(default_factory=list)
    one_line_each: bool = True
    warnings: tuple[str, ...] = ()

    def line_of(self, index: int) -> int:
        """Return the line (from 1) where an interaction starts."""
        if self.one_line_each:
            lines = (number for number, line in enumerate(self.text.split("\n"), 1) if line[:2] == "- ")
            return next(islice(lines, index, None))
        import yaml

        from pytest_promptfit.prompts.yaml_source import SafeLoader

        nodes: Any = yaml.compose(self.text, Loader=SafeLoader)
        interactions = next(value for key, value in nodes.value if key.value == "interactions")
        line: int = interactions.value[index].start_mark.line
        return line + 1


def read_cassette_file(path: Path) -> CassetteFile:
    """Read one cassette file.

    Raises:
        CassetteError: it is not a cassette, or is damaged other than by a torn last line.
        FileNotFoundError: it is not there.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CassetteError(f"{path}: {error.strerror}; make the cassette readable") from None
    if data.startswith(LFS_POINTER.encode()):
        raise CassetteError(f"{path}:1: {POINTER}")
    # Killed before its first line was whole.
    if HEADER.encode().startswith(data.rstrip(b"\r\n")):
        return CassetteFile(path)
    # What follows the last line end may be torn.
    end = data.rfind(b"\n") + 1
    text = _decode(path, data[:end])
    interactions = None
    with suppress(ValueError, RecursionError):  # of any other layout
        interactions = [_read_line(line) for line in _lines_below_header(text) if line]
    if interactions is None:
        return _read_yaml(path, text + _decode(path, data[end:], before=text))
    return _with_last_line(CassetteFile(path, text, interactions), data[end:])


def _decode(path: Path, data: bytes, before: str = "") -> str:
    try:
        return data.decode().removeprefix("\ufeff")  # editors on Windows put it there
    except UnicodeDecodeError as error:
        line = before.count("\n") + data[: error.start].count(b"\n") + 1
        raise CassetteError(
            f"{path}:{line}: not valid UTF-8; restore it from version control, or record it again"
        ) from None


def _lines_below_header(text: str) -> list[str]:
    """Return the lines that hold one interaction each; raise ValueError where the text has not our header."""
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[:2] != HEADER.split("\n")[:2]:
        raise ValueError("not one interaction a line")
    return lines[2:]


def _read_line(line: str) -> Any:
    if line[:3] != "- {":
        raise ValueError("not an interaction")
    return json.loads(line[2:])


def _with_last_line(file: CassetteFile, last: bytes) -> CassetteFile:
    """Add the last line when all that it lacks is its line end; a torn one is passed over with a warning."""
    if not last:
        return file
    line_number = file.text.count("\n") + 1
    try:
        text = last.decode()
        interaction = _read_line(text)
    except (ValueError, RecursionError):
        torn = f"{file.path}:{line_number}: the last line is torn (the recording was killed) and is left out"
        return CassetteFile(file.path, file.text, file.interactions, warnings=(torn,))
    return CassetteFile(file.path, file.text + text, [*file.interactions, interaction])


def _read_yaml(path: Path, text: str) -> CassetteFile:
    if line := conflict_line(text):
        raise CassetteError(
            f"{path}:{line}: {CONFLICT}; delete the marker lines and keep both sides "
            "(an interaction that is there twice does no harm)"
        )
    data = _load_yaml(path, text)
    if data is None:
        return CassetteFile(path)
    if not isinstance(data, dict) or "interactions" not in data:
        raise CassetteError(f"{path}:1: not a cassette (no `interactions:`); move it out of this folder or delete it")
    if data.get("version") != 1:
        at = next((at for at, line in enumerate(text.split("\n"), 1) if line.startswith("version:")), 1)
        version = repr(data.get("version"))[:60]
        raise CassetteError(f"{path}:{at}: cassette version {version}, expected 1; record it again")
    if not isinstance(data["interactions"], list | None):
        raise CassetteError(f"{path}:1: `interactions` is no list; restore it from version control, or record it again")
    return CassetteFile(path, text, data["interactions"] or [], one_line_each=False)


def _load_yaml(path: Path, text: str) -> Any:
    import yaml

    from pytest_promptfit.prompts.yaml_source import AliasBombError, SafeLoader, line_too_deep, values_of

    try:
        if line := line_too_deep(text):
            raise CassetteError(f"{path}:{line}: nested too deep for a cassette; restore it from version control")
        loader = SafeLoader(text)
        try:
            root = loader.get_single_node()
            for _ in values_of(root, text):  # it raises where aliases blow up
                pass
            return None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except AliasBombError as error:
        raise CassetteError(f"{path}:1: {error}, or restore the file from version control") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CassetteError(_what_is_wrong(path, text, error)) from None


def _what_is_wrong(path: Path, text: str, error: Exception) -> str:
    """Return the one line that says where a file is broken and how to mend it."""
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    problem = " ".join((getattr(error, "problem", None) or str(error)).split())
    if "python/" in problem:
        return f"{path}:{line}: a !!python tag is never loaded, it could run code; record the reply again"
    with suppress(ValueError):
        lines = _lines_below_header(text)
        for number, interaction in enumerate(lines if lines[0].startswith('- {"') else (), 3):
            try:
                _ = interaction and _read_line(interaction)
            except (ValueError, RecursionError):
                return f"{path}:{number}: not one whole interaction of JSON; delete the line and record it again"
    return f"{path}:{line}: not YAML ({problem}); restore it from version control, or record it again"


def plain_text(body: object, headers: Mapping[str, Any]) -> str:
    """Return a recorded body as text: other tools keep it as bytes, and packed as the server sent it.

    Raises:
        TypeError: it is neither text nor bytes.
        ValueError: the bytes cannot be unpacked, or are no text.
    """
    if isinstance(body, str):
        return body
    if body is None:
        return ""
    if not isinstance(body, bytes):
        raise TypeError("a body is text or bytes")
    encoding = ",".join(value.strip().lower() for value in header_values(headers, "content-encoding"))
    if encoding in ("", "identity"):
        return body.decode()
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ValueError(f"its content-encoding is {encoding}")
    unpacking = zlib.decompressobj(GZIP_OR_DEFLATE)
    try:
        unpacked = unpacking.decompress(body, LONGEST_BODY)
    except zlib.error:
        return body.decode()  # unpacked when it was recorded, with the header left as it was
    if unpacking.unconsumed_tail:
        raise ValueError(f"its body is longer than {LONGEST_BODY // 2**20} MB when it is unpacked")
    return (unpacked if unpacking.eof else body).decode()


def header_values(headers: Mapping[str, Any], name: str) -> list[str]:
    """Return the values of a recorded header, however other tools spell its name; ``name`` is in small letters."""
    values = [headers[name]] if name in headers else [value for key, value in headers.items() if key.lower() == name]
    return [str(item) for value in values for item in (value if isinstance(value, list) else [value]) if item]
