"""Text that nobody here wrote, made safe for a person's screen."""

from __future__ import annotations

import os
import re
from pathlib import Path

# Control characters, and the marks that turn text around or hide it.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def plain(text: str, *, keep_lines: bool = False) -> str:
    """Return the text with every control character written out, on one line unless ``keep_lines``."""
    safe = _UNSAFE.sub(lambda char: f"\\x{ord(char[0]):02x}" if ord(char[0]) < 256 else f"\\u{ord(char[0]):04x}", text)
    return safe if keep_lines else safe.replace("\n", "\\n").replace("\t", " ")


def cut(text: str, limit: int) -> str:
    """Return the text on one line and at most ``limit`` characters long."""
    flat = plain(text[: limit * 2].strip())
    return flat if len(flat) <= limit and len(text) <= limit * 2 else flat[: limit - 1] + "…"


def relative_to(path: str, folder: Path) -> str:
    """Return a path as people type it: from ``folder`` when it is below, else as it is."""
    relative = os.path.relpath(path, folder) if Path(path).is_absolute() else path
    return path if relative.startswith("..") else relative


def with_short_paths(message: str, folder: Path) -> str:
    """Return a message with the paths below ``folder`` written from there."""
    return message.replace(f"{folder}{os.sep}", "")
