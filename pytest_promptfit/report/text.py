"""Text that nobody here wrote, made safe for a person's screen."""

from __future__ import annotations

import os
import re
from pathlib import Path

# Control characters, and what turns text around, hides it or has no width: two texts must not look the same.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f"
    r"\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

# Joiners belong between the letters of some scripts and the parts of an emoji, and nowhere else.
_JOINER = re.compile(r"(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?=[\x00-\x7f\u200c\u200d]|$)")

# What GitHub's runner takes for a command in any log: ``::name::`` at the start of a line, ``##[name]`` anywhere.
_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#\[)", re.MULTILINE)


def plain(text: str, *, keep_lines: bool = False) -> str:
    """Return the text with what a screen or a log would obey written out, on one line unless ``keep_lines``."""
    safe = _UNSAFE.sub(lambda char: _written_out(char[0]), text)
    safe = _JOINER.sub(lambda char: _written_out(char[0]), safe)
    safe = safe if keep_lines else safe.replace("\n", "\\n").replace("\t", " ")
    return _COMMAND.sub(lambda found: f"{found[1] or ''}{_written_out(found[0][-1])}", safe)


def _written_out(char: str) -> str:
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def cut(text: str, limit: int) -> str:
    """Return the text on one line and at most ``limit`` characters long."""
    flat = plain(text[: limit * 2].strip())
    return flat if len(flat) <= limit and len(text) <= limit * 2 else flat[: limit - 1] + "…"


def relative_to(path: str, folder: Path) -> str:
    """Return a path as people type it, from ``folder`` when it is below, else as it is; not yet ``plain``."""
    relative = os.path.relpath(path, folder) if Path(path).is_absolute() else path
    return path if relative.startswith("..") else relative


def with_short_paths(message: str, folder: Path) -> str:
    """Return a message with the paths below ``folder`` written from there."""
    return message.replace(f"{folder}{os.sep}", "")
