"""Recording replies into a cassette folder: each as it arrives, put in order when the session ends.

One process records into a folder at a time; a reply is one whole line in one write, so that a kill
at any time loses none of them, and a power loss at most those of the last second. What the files hold in the end
depends on what is recorded alone, never on the order it arrived in; each is replaced whole, and what it supersedes
goes last. The HTTP side lives in ``transport``, reading in ``cassette``.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cassettes.cassette import NEW_FILE, Cassette, cassette_paths, checksum, request_key
from pytest_promptfit.cassettes.file import HEADER
from pytest_promptfit.errors import CassetteError
from pytest_promptfit.files import alone_in, replace_whole, sync_folder, write_atomically
from pytest_promptfit.text import scrubber

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_promptfit.cassettes.cassette import Recorded

MEDIA_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}(?:\s*;\s*charset=[\w-]{1,40})?", re.ASCII)

SYNC_SECONDS = 1.0
"""How often replies are forced to the disk: for each of them it would hold up all that are in flight."""

ONE_FILE = 4 * 2**20
"""Up to this many bytes a cassette is one file; above it is split by the first hex digit of the key."""

SIXTEEN_FILES = 64 * 2**20
"""Above this many bytes a cassette is split by the first two hex digits of the key."""

LEFTOVERS = ".replies*.tmp"

OUR_FILES = re.compile(r"replies(-new|-[0-9a-f]{1,2})?\.yaml")
"""The names of our files: an empty one of another name holds nothing that was taken over, so it is not ours."""

EVERYTHING_KEPT = ": everything recorded so far is kept"

# What JSON takes as it is and YAML does not, or reads as the end of a line.
NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


class Recorder:
    """Writes replies into a folder's cassette as they arrive; made by ``Recorder.open``.

    ``cassette`` holds what is recorded so far. ``failure`` is set once a reply could not be written: asking
    further would pay for what cannot be kept. Such a reply stays in memory and is written as soon as there is room.
    """

    def __init__(self, folder: Path, cassette: Cassette, secrets: Sequence[str], *, replace: bool) -> None:
        self.cassette = cassette
        self.failure: CassetteError | None = None
        self.folder = folder
        self._path = folder / NEW_FILE
        self._file: int | None = None
        self._unwritten: list[bytes] = []
        self._synced = time.monotonic()
        self._scrub = scrubber(secrets)
        self._replace = replace
        self._one_at_a_time = threading.Lock()

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        secrets: Sequence[str] = (),
        *,
        replace: bool = False,
        on_wait: Callable[[str], None] | None = None,
        elsewhere: Path | None = None,
    ) -> Iterator[Recorder]:
        """Record into ``folder`` alone until the block ends, then put its files in order.

        Args:
            folder: made when it is missing; read once no other process records into it.
            secrets: what must never be written, such as API keys; shorter than 8 characters is ignored.
            replace: a reply takes the place of the one that is recorded for the same request.
            on_wait: told, once, that another process records here and this one waits.
            elsewhere: a folder that is looked into for what this one lacks; nothing in it changes.

        Raises:
            CassetteError: the folder cannot be read or written.
        """
        with _alone_in(folder, on_wait):
            recorder = cls(folder, _ready(folder, elsewhere), secrets, replace=replace)
            try:
                yield recorder
            except BaseException as error:
                with suppress(CassetteError):  # every reply is safe in the file it was appended to
                    recorder._finish()
                if isinstance(error, CassetteError):
                    raise recorder._told(error) from None
                raise
            try:
                recorder._finish()
            except CassetteError as error:
                raise recorder._told(error) from None
            if recorder.failure is not None:
                raise recorder._told(recorder.failure)

    def keep(self, recorded: Recorded, *, replace: bool = False) -> None:
        """Put a reply on disk, at once; one that is recorded already stays, unless it is to be replaced.

        ``replace`` is for a single reply what it is in ``open`` for all.

        Raises:
            ValueError: the status is not 2xx; failures are never recorded.
            CassetteError: it cannot be written yet; what was recorded before is kept.
        """
        if not 200 <= recorded.status < 300:
            raise ValueError(f"a reply with status {recorded.status} is not recorded")
        kept = self._scrubbed(recorded)
        with self._one_at_a_time:
            found = self.cassette.find(kept.key)
            if replace or self._replace or found is None or not self.cassette.holds(kept.key):
                self.cassette.add(kept, also=recorded.key)
                self._unwritten.append(render(kept).encode())
                self._write()

    def sync(self) -> None:
        """Force all that was kept to the disk; raise CassetteError where that fails."""
        try:
            self._sync()
        except OSError as error:
            raise cannot_write(self._path, error) from None

    def note(self, name: str) -> str:
        """Return what an earlier run has noted in a file beside the replies; empty where it has not."""
        path = self.folder / name
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def keep_note(self, name: str, text: str) -> None:
        """Note in a file beside the replies what none of them tells: a refusal, say, is never recorded."""
        write_atomically(self.folder / name, self._scrub(text))

    def _scrubbed(self, recorded: Recorded) -> Recorded:
        """Return what may be written of a reply: with no key in it, so that what held one is found by another."""
        # Without its parameters, which a server may have put anything into.
        media_type = MEDIA_TYPE.match(recorded.content_type)
        url, sent = self._scrub(recorded.url), self._scrub(recorded.request_body)
        is_same = (url, sent) == (recorded.url, recorded.request_body)
        return dataclasses.replace(
            recorded,
            key=recorded.key if is_same else request_key(recorded.method, url, sent, recorded.repeat),
            url=url,
            request_body=sent,
            body=self._scrub(recorded.body),
            content_type=self._scrub(media_type[0].lower() if media_type else "application/json"),
            sample=self._scrub(recorded.sample) if recorded.sample is not None else None,
            seconds=round(recorded.seconds, 3) if recorded.seconds is not None else None,
        )

    def _write(self) -> None:
        """Write what has arrived and is not on the disk yet."""
        try:
            if self._file is None:
                # A link that came with somebody's branch must not make a file elsewhere.
                flags = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
                self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | flags, 0o666)
            # One by one: what is on the disk when there is no room left must not be written twice.
            for line in tuple(self._unwritten):
                _write_whole(self._file, line)
                self._unwritten.remove(line)
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                self._sync()
        except OSError as error:
            self.failure = cannot_write(self._path, error)
            raise self.failure from None

    def _sync(self) -> None:
        if self._file is not None:
            os.fsync(self._file)
            self._synced = time.monotonic()

    def _told(self, error: CassetteError) -> CassetteError:
        """Return an error with the number of replies that are lost, if any are."""
        lost = len(self._unwritten)
        if not lost:
            return error
        kept = len(self.cassette) - lost
        return CassetteError(
            f"{str(error).removesuffix(EVERYTHING_KEPT)}: {kept} replies are kept; lost, though they arrived: {lost}"
        )

    def _finish(self) -> None:
        if self._unwritten:
            with suppress(CassetteError):
                self._write()
        if self._file is not None:
            with suppress(OSError):  # putting in order meets, and tells, the same
                self._sync()
            os.close(self._file)
            self._file = None
        if self._path.exists():
            folder = self._path.parent
            put_in_order(folder, Cassette.load(folder))


def prune(folder: Path, keep: Iterable[str], known: Cassette, on_wait: Callable[[str], None] | None = None) -> int:
    """Delete the entries of a folder's cassette whose key is not in ``keep``; return how many.

    ``keep`` is what ``Cassette.asked_keys`` tells after a full run. ``known`` is the cassette as that run read
    it: what another process has recorded since is spared, whether or not this run would ask for it.

    Raises:
        CassetteError: the folder cannot be read or written.
    """
    kept = frozenset(keep)
    if not folder.is_dir():
        return 0
    with _alone_in(folder, on_wait):
        entries = _ready(folder)
        seen = {entry.key: entry.body for entry in known}
        remaining = [e for e in entries if e.key in kept or e.key not in seen or seen[e.key] != e.body]
        if len(remaining) < len(entries):
            put_in_order(folder, remaining)
        return len(entries) - len(remaining)


@contextmanager
def _alone_in(folder: Path, on_wait: Callable[[str], None] | None) -> Iterator[None]:
    """Keep other processes from recording into the folder, which is made when it is missing."""

    def tell() -> None:
        if on_wait is not None:
            on_wait(f"{folder}: another process is recording here; waiting for it to finish")

    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone_in(folder, tell))
        except OSError as error:
            raise cannot_write(folder, error) from None
        yield


def _ready(folder: Path, elsewhere: Path | None = None) -> Cassette:
    """Return the folder's cassette, with all that a killed recording left put in order.

    What would stop the recording is met here, before anything is paid for.
    """
    try:
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, "Read-only")
        for path in folder.glob(LEFTOVERS):  # the temporary files of a recording that was killed
            path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    if (folder / NEW_FILE).is_symlink():
        raise CassetteError(f"{folder / NEW_FILE}: a link, which no replies are written through; delete it")
    cassette = Cassette.load(folder, elsewhere)
    if (folder / NEW_FILE).exists():
        put_in_order(folder, cassette)
    return cassette


def _write_whole(file: int, line: bytes) -> None:
    """Append one line in one write, with the header before the first one; leave nothing where it fails."""
    size = os.fstat(file).st_size
    data = line if size else HEADER.encode() + line
    try:
        if os.write(file, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with suppress(OSError):  # a torn line is cut off when the cassette is read
            os.ftruncate(file, size)
        raise


def render(recorded: Recorded) -> str:
    """Return the line, with its end, that holds one interaction: made by vcrpy, JSON that is YAML too."""
    from http.client import responses

    from vcr.request import Request
    from vcr.serialize import serialize

    headers = {"content-type": "application/json"}
    request = Request(recorded.method, recorded.url, recorded.request_body, headers)
    response = {
        "status": {"code": recorded.status, "message": responses.get(recorded.status, "")},
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


def layout(recorded: Iterable[Recorded]) -> dict[str, bytes]:
    """Return ``{file name: bytes}`` for a cassette: by key, then repeat; split by key where it is large."""
    entries = sorted(recorded, key=lambda entry: (entry.base_key, entry.repeat))  # repeats beside each other
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
        superseded = [path for path in superseded if OUR_FILES.fullmatch(path.name) or path.stat().st_size]
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


def cannot_write(path: Path, error: OSError) -> CassetteError:
    """Return the one line that says why a cassette cannot be written and what to do."""
    full = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
    remedy = "free some space" if error.errno in full else "make the folder writable"
    return CassetteError(f"{path}: {error.strerror}; {remedy} and run again{EVERYTHING_KEPT}")
