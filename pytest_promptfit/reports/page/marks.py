"""Text that nobody here wrote, made safe for a page: what turns it around or hides in it is written out."""

from __future__ import annotations

import re
import unicodedata

from markupsafe import Markup, escape

# Controls, formats, halves of characters and odd separators; a joiner only behind ASCII, since Indic words
# and emoji are made with it. page.js has the same.
_SUSPICIOUS = re.compile(r"[^\t\n\x20-\x7e\xa1-\xac\xae-\u02ff]")
_SPACES = re.compile(r"[ \t\r\n]+")
_JOINERS = "\u200c\u200d"
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def percent(share: float, digits: int = 1) -> str:
    """Return a share from 0 to 1 as people read it."""
    return f"{share * 100:.{digits}f}\u00a0%"


def unbroken(text: str) -> str:
    """Return text in which no figure is parted from its sign."""
    return text.replace(" %", "\u00a0%").replace("p = ", "p\u00a0=\u00a0").replace("p < ", "p\u00a0<\u00a0")


def visible(text: str) -> Markup:
    """Return text as HTML, in its own direction, with every hidden character written out."""
    lines = text.replace("\r\n", "\n")
    parts, start = [], 0
    for match in _SUSPICIOUS.finditer(lines):
        if _is_hidden(lines, match.start()):
            parts += [escape(lines[start : match.start()]), _mark(match[0])]
            start = match.end()
    parts.append(escape(lines[start:]))
    return Markup('<bdi dir="auto">{}</bdi>').format(Markup("").join(parts))


def shortened(text: str, limit: int) -> str:
    """Return the text on one line and at most ``limit`` characters long."""
    flat = _SPACES.sub(" ", text[: limit * 2]).strip(" ")
    return flat if len(flat) <= limit and len(text) <= limit * 2 else f"{flat[: limit - 1]}…"


def cut(text: str, limit: int = 2000) -> str:
    """Return the text, or its first characters and how many there are."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


def _is_hidden(text: str, at: int) -> bool:
    if text[at] in _JOINERS:
        return at == 0 or text[at - 1].isascii()
    return unicodedata.category(text[at]) in _HIDDEN


def _mark(char: str) -> Markup:
    code = f"U+{ord(char):04X}"
    title = f"{code} {unicodedata.name(char, 'control character')}".lower()
    return Markup('<span class="mark" title="{}">{}</span>').format(title, code)
