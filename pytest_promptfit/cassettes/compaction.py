"""A cassette's files on disk: how an interaction becomes a line, and how a folder's files are put in order.

What is written depends on what is recorded alone, never on the order it arrived in. A kill in between loses
nothing: a file is replaced whole, and what it supersedes goes last.
"""

from __future__ import annotations

import errno
import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cassettes.cassette import NEW_FILE, Recorded, cassette_paths, checksum
from pytest_promptfit.cassettes.file import HEADER
from pytest_promptfit.errors import CassetteError
from pytest_promptfit.files import replace_whole, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ONE_FILE = 4 * 2**20
"""Up to this many bytes a cassette is one file; above it is split by the first hex digit of the key."""

SIXTEEN_FILES = 64 * 2**20
"""Above this many bytes a cassette is split by the first two hex digits of the key."""

LEFTOVERS = ".replies*.tmp"

OURS = re.compile(r"replies(-new|-[0-9a-f]{1,2})?\.yaml")
"""The names of our files: an empty one of another name holds nothing that was taken over, so it is not ours."""

EVERYTHING_KEPT = ": everything recorded so far is kept"

# What JSON takes as it is and YAML does not, or reads as the end of a line.
NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def render(recorded: Recorded) -> str:
    """Return the line, with its end, that holds one interaction: made by vcrpy, JSON that is YAML too."""
    from vcr.request import Request
    from vcr.serialize import serialize

    headers = {"content-type": "application/json"}
    request = Request(recorded.method, recorded.url, recorded.request_body, headers)
    response = {
        "status": {"code": recorded.status, "message": _reason(recorded.status)},
        "headers": {"content-type": [recorded.content_type]},
        "body": {"string": recorded.body},
    }
    line: str = serialize({"requests": [request], "responses": [response]}, _LineSerializer(recorded))
    return line


class _LineSerializer:
    """A serializer in vcrpy's sense: one interaction to one line."""

    def __init__(self, recorded: Recorded) -> None:
        tag = {
            "checksum": checksum(recorded.key, recorded.body),
            "sample": recorded.sample,
            "seconds": recorded.seconds,
            "repeat": recorded.repeat or None,
        }
        self._tag = {name: value for name, value in tag.items() if value is not None}

    def serialize(self, cassette: dict[str, Any]) -> str:
        """Return the line; the header that goes before the first one is ``HEADER``."""
        (interaction,) = cassette["interactions"]
        line = json.dumps({"promptfit": self._tag, **interaction}, ensure_ascii=False, sort_keys=True)
        escaped = NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", line)
        return f"- {escaped}\n"


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def layout(recorded: Iterable[Recorded]) -> dict[str, bytes]:
    """Return ``{file name: bytes}`` for a cassette: by key, then repeat; split by key where it is large."""
    entries = sorted(recorded, key=lambda entry: (entry.base_key, entry.repeat))
    lines = [(entry.base_key, render(entry).encode()) for entry in entries]
    total = sum(len(line) for _, line in lines)
    digits = 0 if total <= ONE_FILE else 1 if total <= SIXTEEN_FILES else 2
    files: dict[str, list[bytes]] = {}
    for key, line in lines:
        name = f"replies-{key[:digits]}.yaml" if digits else "replies.yaml"
        files.setdefault(name, [HEADER.encode()]).append(line)
    return {name: b"".join(parts) for name, parts in files.items()}


def put_in_order(folder: Path, recorded: Iterable[Recorded]) -> None:
    """Make ``recorded`` all that the folder's cassette holds; files that stay the same are not touched.

    Raises:
        CassetteError: a file cannot be written; what was recorded before is kept.
    """
    files = layout(recorded)
    superseded = [path for path in cassette_paths(folder) if path.name not in files]
    try:
        superseded = [path for path in superseded if OURS.fullmatch(path.name) or path.stat().st_size]
        for name, content in files.items():
            path = folder / name
            if not path.is_file() or path.read_bytes() != content:
                replace_whole(path, content)
        sync_folder(folder)
        # The newest replies go last: until then they win over what they took the place of.
        for path in sorted(superseded, key=lambda path: path.name == NEW_FILE):
            path.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from None


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a compaction that was killed."""
    for path in folder.glob(LEFTOVERS):
        path.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> CassetteError:
    """Return the one line that says why a cassette cannot be written and what to do."""
    return CassetteError(f"{path}: {error.strerror}; {_remedy(error)} and run again{EVERYTHING_KEPT}")


def _remedy(error: OSError) -> str:
    full = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
    return "free some space" if error.errno in full else "make the folder writable"
