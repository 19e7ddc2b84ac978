"""Small and read-only file systems to test on; a test that cannot have one is skipped."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[None]:
    """Mount an empty file system of ``size`` at a new folder."""
    at.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", at)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write below a folder: by its modes, or for root, who is above them, by a mount."""
    if os.geteuid():
        modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
        for path, mode in modes.items():
            path.chmod(mode & 0o555)
        yield
        for path, mode in modes.items():
            path.chmod(mode)
        return
    _mount("--bind", folder, folder)
    try:
        _mount("-o", "remount,bind,ro", folder)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, *, but_for: int = 0) -> Path:
    """Leave so many bytes free on a folder's file system; return the file that takes the others."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            file.truncate(ballast.stat().st_size - but_for)
    return ballast


def _mount(*arguments: object) -> None:
    try:
        done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
