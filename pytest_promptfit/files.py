"""Writing files so that nothing tears them, whole or not at all, by one process at a time; and where a path leads.

After a power loss a reader finds the old file or the new one: what is written is on the disk before it takes the
old one's place. What a killed write left has a fixed name, so the next write clears it away.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's text in one step; a symbolic link stays, and its target is written.

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        target.write_text(text, encoding="utf-8", newline="\n")  # a pipe or /dev/stdout cannot be replaced
        return
    with alone_in(target):
        replace_whole(target, text.encode())
        sync_folder(target.parent)


def replace_whole(path: Path, content: bytes) -> None:
    """Replace a file in one step where no other process writes it; its mode stays.

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")  # the same each time: what a killed write left is replaced
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def leads_outside(path: Path, root: Path) -> Path | None:
    """Return where a path leads, its links followed, when that is outside ``root``; else ``None``."""
    try:
        target = path.resolve()
        return None if target.is_relative_to(root.resolve()) else target
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL: there is nothing to read
        return None


def expanded(file: str) -> Path:
    """Return the path that a file's name in a prompt says, its ``~`` resolved where there is such a user."""
    try:
        return Path(file).expanduser()
    except RuntimeError:
        return Path(file)


def is_file(path: Path) -> bool:
    """Tell whether there is a regular file; there is none where the system refuses the name."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, a folder that may not be read, a NUL
        return False


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    with suppress(OSError):  # Windows opens no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def alone_in(place: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Keep other processes from writing a file or a folder that is there; a killed one holds nothing up.

    The lock is a dot file in the folder, or beside the file: whoever writes the same place meets it, whatever
    user, container or temporary folder is theirs. It goes when the block ends; what a killed process leaves of it
    goes with the next.

    ``on_wait`` is called, once, when another process is at it and this one waits.

    Raises:
        OSError: there is no place for the lock.
    """
    from filelock import FileLock, Timeout

    place = place.resolve()
    path = place / ".promptfit.lock" if place.is_dir() else place.with_name(f".{place.name}.lock")
    path.parent.stat()  # filelock would make the folder
    lock = FileLock(path, mode=0o666, thread_local=False)  # another user of the same folder must be able to wait
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if on_wait is not None:
            on_wait()
        lock.acquire()
    try:
        yield
    finally:
        # While it is held: filelock takes no lock on a file that is gone, so whoever waits makes a new one.
        with suppress(OSError):  # Windows deletes no open file, and filelock deletes it there
            path.unlink()
        lock.release()
