"""Recorded replies: the key of a request, and the cassette that answers by key.

This is the replay path: it imports nothing but the standard library, opens no connection and writes no file.
How a file is read lives in ``file``; writing in ``recorder``.
"""

from __future__ import annotations

import gc
import hashlib
import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cassettes.file import CassetteFile, header_values, plain_text, read_cassette_file
from pytest_promptfit.errors import CassetteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NEW_FILE = "replies-new.yaml"
"""Where a recording that is under way puts its replies; what it says is newer than the other files."""


RECORD = "pytest --promptfit --promptfit-record"


def request_key(method: str, url: str, body: Mapping[str, Any] | str | bytes, repeat: int = 0) -> str:
    """Return the SHA-256 (hex) of method, URL, canonical JSON body and repeat index; headers never count."""
    return _key_of_text(method, url, canonical_body(body), repeat)


def canonical_body(body: Mapping[str, Any] | str | bytes) -> str:
    """Return a JSON body with sorted keys and no spaces; text that is not JSON is returned as it is."""
    if isinstance(body, Mapping):
        return _canonical_json(body)
    try:
        return _canonical_json(json.loads(body))
    except (ValueError, RecursionError):
        return body if isinstance(body, str) else body.decode()


def _canonical_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _key_of_text(method: str, url: str, body: str, repeat: int) -> str:
    text = f"{method}\n{url}\n{body}\n{repeat}"
    # Half a surrogate pair cannot be sent to any server, but asking for it must miss, not crash.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def checksum(key: str, body: str) -> str:
    """Return what tells a reply, or the request it belongs to, that was damaged on disk: CRC-32, 8 hex digits."""
    return f"{zlib.crc32(body.encode('utf-8', 'surrogatepass'), zlib.crc32(key.encode())):08x}"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request and the reply it got.

    ``body`` is the reply as text, ``request_body`` the JSON that was sent, ``sample`` the id of the sample
    it was asked for, ``seconds`` how long the reply took, and ``repeat`` counts the same request asked again.
    """

    key: str
    method: str
    url: str
    request_body: str
    body: str
    content_type: str = "application/json"
    status: int = 200
    sample: str | None = None
    seconds: float | None = None
    repeat: int = 0

    @property
    def base_key(self) -> str:
        """The key without the repeat index: what brings the repeats of one request together."""
        return self.key if not self.repeat else _key_of_text(self.method, self.url, self.request_body, 0)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: built, written as canonical JSON and keyed once, it goes with the call until its reply is on disk.

    ``payload`` is the JSON body as the API gets it, constant parts first, ``body`` the same as it is recorded,
    ``sample`` the id of the sample it is asked for, and ``repeat`` counts the same request asked again.
    """

    url: str
    payload: dict[str, Any]
    body: str
    key: str
    sample: str | None = None
    repeat: int = 0
    method: str = "POST"

    @classmethod
    def of(
        cls,
        url: str,
        body: Mapping[str, Any] | str | bytes,
        sample: str | None = None,
        *,
        repeat: int = 0,
        method: str = "POST",
    ) -> Asked:
        """Return the request that sends a JSON body to ``url``."""
        text = canonical_body(body)
        payload = dict(body) if isinstance(body, Mapping) else {}
        return cls(url, payload, text, _key_of_text(method, url, text, repeat), sample, repeat, method)

    def answered(
        self,
        text: str,
        *,
        content_type: str = "application/json",
        status: int = 200,
        seconds: float | None = None,
    ) -> Recorded:
        """Return the request with the reply it got."""
        return Recorded(
            key=self.key,
            method=self.method,
            url=self.url,
            request_body=self.body,
            body=text,
            content_type=content_type,
            status=status,
            sample=self.sample,
            seconds=seconds,
            repeat=self.repeat,
        )


ASKED: ContextVar[Asked | None] = ContextVar("promptfit_asked", default=None)
"""What the current task asks: set before it is sent, read where its reply is recorded."""


_Placed = tuple[Recorded, CassetteFile, int]
"""An entry, the file that holds it and where in there."""


class Cassette:
    """The recorded replies of one folder, found by key; it remembers which of them were asked for."""

    def __init__(
        self, recorded: Iterable[Recorded] = (), warnings: Iterable[str] = (), elsewhere: Path | None = None
    ) -> None:
        """``elsewhere`` is a folder that is looked into for what this one lacks; see ``load``."""
        self.warnings = list(warnings)
        self._elsewhere = elsewhere
        self._others: Cassette | None = None
        self._by_key: dict[str, Recorded] = {}
        for entry in recorded:
            self._by_key.setdefault(entry.key, entry)
        self._also: dict[str, Recorded] = {}
        self._of_sample: dict[str, list[Recorded]] | None = None
        self._asked: set[str] = set()

    @classmethod
    def load(cls, folder: Path, elsewhere: Path | None = None) -> Cassette:
        """Read every ``*.yaml`` and ``*.yml`` directly in ``folder``; a folder that is not there is empty.

        What is not in there is looked for ``elsewhere``, which is read when something is missed for the first time;
        of its entries none counts as one of this folder.

        Where two entries have one key the newer recording wins, of ``NEW_FILE`` the last one; elsewhere they must
        be alike. A last line that a killed recording left torn is passed over and said in ``warnings``.

        Raises:
            CassetteError: a file cannot be read; the text says file, line and what to do.
        """
        was_on = gc.isenabled()
        gc.disable()  # so many small new objects have it look again and again: loading is three times faster without
        try:
            while True:
                with suppress(FileNotFoundError):  # another process puts the folder in order: look again
                    return cls(*_read(folder), elsewhere)
        finally:
            if was_on:
                gc.enable()

    def find(self, key: str) -> Recorded | None:
        """Return the reply to the request with this key and count it as asked for, or ``None``."""
        found = self._found(key)
        if found is not None:
            # Found by its second key it counts under its own too, or it would pass for obsolete.
            self._asked.update((key, found.key))
        return found

    def add(self, recorded: Recorded, *, also: str | None = None) -> None:
        """Put a new reply in, in place of one with the same key; it counts as asked for.

        ``also`` is a second key it is found by.
        """
        self._by_key[recorded.key] = recorded
        self._of_sample = None
        self._asked.add(recorded.key)
        if also is not None and also != recorded.key:
            self._also[also] = recorded
            self._asked.add(also)

    def asked_keys(self) -> frozenset[str]:
        """Return the keys that were asked for and found."""
        return frozenset(self._asked)

    def holds(self, key: str) -> bool:
        """Tell whether the reply with this key is in the folder itself, and not ``elsewhere``."""
        return key in self._by_key or key in self._also

    def obsolete(self) -> int:
        """Count the entries that were never asked for."""
        return sum(key not in self._asked for key in self._by_key)

    def of_sample(self, sample: str) -> list[Recorded]:
        """Return what was recorded for a sample, whatever was asked about it."""
        if self._of_sample is None:
            self._of_sample = {}
            for entry in self:
                if entry.sample is not None:
                    self._of_sample.setdefault(entry.sample, []).append(entry)
        return list(self._of_sample.get(sample, ()))

    def __contains__(self, key: str) -> bool:
        return self._found(key) is not None

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Recorded]:
        return iter(self._by_key.values())

    def _found(self, key: str) -> Recorded | None:
        found = self._by_key.get(key) or self._also.get(key)
        if found is None and self._elsewhere is not None:
            if self._others is None:
                self._others = Cassette.load(self._elsewhere)
            return self._others.find(key)
        return found


def cassette_paths(folder: Path) -> list[Path]:
    """Return the cassette files of a folder in the order they are read: what is newer first, then by name.

    Raises CassetteError for a name of a cassette that is no file.
    """
    if not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and path.name[0] != "."]
    for path in paths:
        if path.is_symlink() and not path.exists():
            raise CassetteError(f"{path}: a link to a file that is not there; restore that file, or delete the link")
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would hold the reader up for ever
            raise CassetteError(f"{path}: not a regular file, so it can hold no recordings; delete it")
    return sorted(filter(Path.is_file, paths), key=lambda path: (path.name != NEW_FILE, path.name))


def _read(folder: Path) -> tuple[list[Recorded], list[str]]:
    """Return a folder's entries and warnings; raise FileNotFoundError when a file went meanwhile.

    Raises CassetteError where one request has two replies: nobody could tell which one counts.
    """
    recorded: list[Recorded] = []
    warnings: list[str] = []
    first: dict[str, _Placed] = {}
    superseded: set[str] = set()
    for path in cassette_paths(folder):
        file = read_cassette_file(path)
        entries = list(_recorded_of(file, warnings))
        if path.name == NEW_FILE:
            # The first of a key wins, and here the last is the newest.
            entries.reverse()
            superseded.update(entry.key for entry, *_ in entries)
        for entry, _, index in entries if path.name != NEW_FILE else ():
            other, file_of_other, index_of_other = first.setdefault(entry.key, (entry, file, index))
            # A recording that was killed while it put its files in order leaves the old reply beside the new one.
            if other.body != entry.body and entry.key not in superseded:
                raise CassetteError(
                    f"{path}:{file.line_of(index)}: another reply to the request that is answered at "
                    f"{file_of_other.path}:{file_of_other.line_of(index_of_other)}; delete one of the two lines, or "
                    f"both and record it again: {RECORD}"
                )
        recorded.extend(entry for entry, *_ in entries)
        warnings.extend(file.warnings)
    return recorded, warnings


def _recorded_of(file: CassetteFile, warnings: list[str]) -> Iterator[_Placed]:
    failed: list[int] = []
    for index, interaction in enumerate(file.interactions):
        try:
            recorded = _recorded(interaction)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            fault = "not an interaction with a text request and a text response"
            if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
                fault = f"an interaction that cannot be used: {error}"
            raise CassetteError(
                f"{file.path}:{file.line_of(index)}: {fault}; delete it and record it again: {RECORD}"
            ) from None
        if recorded is not None:
            yield recorded, file, index
        else:
            failed.append(index)
    if failed:
        more = f", and {len(failed) - 1:,} more in this file" if len(failed) > 1 else ""
        warnings.append(f"{file.path}:{file.line_of(failed[0])}: a recorded failure is left out: not a 2xx{more}")


def _recorded(interaction: Mapping[str, Any]) -> Recorded | None:
    """Return one interaction as a value, its key computed from what it holds; ``None`` unless it is a 2xx."""
    request, response = interaction["request"], interaction["response"]
    status = int(response["status"]["code"])
    if not 200 <= status < 300:
        return None
    tag = _typed(interaction.get("promptfit", {}), dict)
    method, url = _typed(request["method"], str), _typed(request["uri"], str)
    body, repeat = plain_text(request["body"], {}), _typed(tag.get("repeat", 0), int)
    headers = response["headers"] or {}
    recorded = Recorded(
        key=_key_of_text(method, url, body, repeat),
        method=method,
        url=url,
        request_body=body,
        body=plain_text(response["body"]["string"], headers),
        content_type=next(iter(header_values(headers, "content-type")), ""),
        status=status,
        sample=_typed(tag.get("sample"), (str, NoneType)),
        seconds=_typed(tag.get("seconds"), (float, int, NoneType)),
        repeat=repeat,
    )
    return _checked(recorded, tag.get("checksum"))


def _checked(recorded: Recorded, expected: str | None) -> Recorded:
    """Return an entry that is as it was recorded, however its request is spaced; raise ValueError for any other.

    One without a checksum is any other: who edits a reply could take it out.
    """
    if expected is None:
        raise ValueError("it has no checksum: another tool recorded it, or it was edited by hand")
    if checksum(recorded.key, recorded.body) == expected:
        return recorded
    body = canonical_body(recorded.request_body)
    key = _key_of_text(recorded.method, recorded.url, body, recorded.repeat)
    if checksum(key, recorded.body) == expected:
        return replace(recorded, request_body=body, key=key)
    raise ValueError("its checksum does not fit: it was damaged, or edited by hand")


def _typed(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise TypeError("a value of another type than is recorded")
    return value
