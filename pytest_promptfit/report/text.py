"""Text that nobody here wrote, made safe for a person's screen."""

from __future__ import annotations

import os
import re
import textwrap
import unicodedata
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


def fitted(text: str, columns: int) -> str:
    """Return the text on one line in at most ``columns`` columns of a terminal, where some characters take two."""
    flat = cut(text, columns)
    if flat.isascii() or sum(map(_columns, flat)) <= columns:
        return flat
    taken = 1  # of the dots
    for at, char in enumerate(flat):
        taken += _columns(char)
        if taken > columns:
            return f"{flat[:at]}…"
    return flat


def _columns(char: str) -> int:
    return 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1


# A command is left whole: it is there to be copied.
_COMMAND_LINE = re.compile(r"^ *[\w, -]+: +(?:pytest|promptfit) ")


# A figure stays with its sign: ``60.0 %``, ``p = 0.002``.
_FIGURE = re.compile(r" (?=%)|(?<=\bp) (?=[<=] )|(?<=\bp [<=]) ")


def wrapped(line: str, width: int | None) -> list[str]:
    """Return a line broken at words, what follows indented deeper; ``None``: as long as it is."""
    if width is None or len(line) <= width or _COMMAND_LINE.match(line):
        return [line]
    indent = len(line) - len(line.lstrip(" "))
    following = " " * (indent + 2)
    kept = _FIGURE.sub("\u00a0", line)
    lines = textwrap.wrap(
        kept, width, subsequent_indent=following, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    return [part.replace("\u00a0", " ") for part in lines]


def percent(share: float) -> str:
    """Return a share from 0 to 1 as people read it: ``60.0 %``."""
    return f"{share * 100:.1f} %"


def points(change: float) -> str:
    """Return a change of a share in points, with a minus sign that is as wide as a plus: ``−25.0``."""
    return f"{change * 100:+.1f}".replace("-", "−")


def probability(p_value: float) -> str:
    """Return a p-value with as many digits as say something."""
    return "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.2g}"


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun: ``1 sample``, ``1,200 samples``."""
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def relative_to(path: str, folder: Path) -> str:
    """Return a path as people type it, from ``folder`` when it is below, else as it is; not yet ``plain``."""
    relative = os.path.relpath(path, folder) if Path(path).is_absolute() else path
    return path if relative.startswith("..") else relative


def with_short_paths(message: str, folder: Path) -> str:
    """Return a message with the paths below ``folder`` written from there."""
    return message.replace(f"{folder}{os.sep}", "")
