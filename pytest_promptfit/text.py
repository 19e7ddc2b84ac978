"""Text that nobody here wrote: made safe to show, cut, folded, and with keys cut out.

For every text that is read or shown; nothing here knows what it is for.
"""

from __future__ import annotations

import difflib
import html
import os
import re
import textwrap
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import regex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


LONGEST_QUOTE = 200
"""Characters of a server's own words that fit into a message."""

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


def one_line(text: str, limit: int = LONGEST_QUOTE) -> str:
    """Return ``text`` on one line, without control characters, cut to ``limit`` characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: limit * 20]).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def described(error: BaseException) -> str:
    """Return an exception on one line."""
    text = one_line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shown(value: object) -> str:
    """Return a value that nobody asked for, with its type, on one line."""
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{one_line(repr(value), 80)} ({name})"


def fitted(text: str, width: int) -> str:
    """Return the text on one line in at most ``width`` columns of a terminal, where some characters take two."""
    flat = cut(text, width)
    if columns(flat) <= width:
        return flat
    taken = 1  # of the dots
    for at, char in enumerate(flat):
        taken += _columns(char)
        if taken > width:
            return f"{flat[:at]}…"
    return flat


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


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


LONGEST_KEY = 100
"""Characters of a key or a name that an error shows."""


def shown_key(key: object, limit: int = LONGEST_KEY) -> str:
    """Return a key as errors show it: cut, and quoted when it would break the line."""
    text = str(key)
    if len(text) > limit:
        text = f"{text[:limit]}…"
    return text if text.isprintable() else repr(text)


_SHOWN_WORDS = 16
_COMPARED_WORDS, _COMPARED_LETTERS = 1000, 100


def nearest(word: str, known: Sequence[str]) -> str:
    """Return a hint such as ``; did you mean prompt?``, or nothing when no known word is near."""
    # Comparing takes the product of two lengths, for each known word.
    comparable = [one for one in known[:_COMPARED_WORDS] if len(one) <= _COMPARED_LETTERS]
    close = difflib.get_close_matches(word[:_COMPARED_LETTERS], comparable, n=1, cutoff=0.4)
    return f"; did you mean `{shown_key(close[0])}`?" if close else f"; known: {listed(known)}"


def listed(words: Sequence[str]) -> str:
    """Return the first words as an error lists them, with a mark where there are more."""
    more = ", …" if len(words) > _SHOWN_WORDS else ""
    return f"{', '.join(map(shown_key, words[:_SHOWN_WORDS]))}{more}"


def short(value: object, limit: int = 60) -> str:
    """Return the value as it is shown in an error: on one line, cut."""
    text = repr(value[: limit + 1] if isinstance(value, str) else value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


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


LONG_RUN = 31
"""Combining marks in a row that no writing has; the Unicode standard calls text with fewer stream-safe."""

# Three Tibetan vowels are no marks themselves, but decompose into nothing else.
_LONG_RUN = regex.compile(rf"[\P{{ccc=0}}\u0f73\u0f75\u0f81]{{{LONG_RUN},}}")


def nfc(text: str) -> str:
    """Return the text in NFC.

    Where marks stand in a row beyond reason they are put in their canonical order first: Python's own sort of
    them inserts one by one, so 160,000 of them took 24 seconds. Source: Unicode Standard Annex #15.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", _LONG_RUN.sub(_in_order, text))


def _in_order(run: regex.Match[str]) -> str:
    marks = "".join(unicodedata.normalize("NFD", mark) for mark in run[0])
    return "".join(sorted(marks, key=unicodedata.combining))


LFS_POINTER = "version https://git-lfs.github.com/spec/"
POINTER = "a Git LFS pointer, not the file itself: run `git lfs pull`"
CONFLICT = "an unresolved merge conflict"
_OURS = re.compile(r"^[ \t]*<{7}(?: .*)?$", re.MULTILINE)
_MIDDLE = re.compile(r"^[ \t]*={7}[ \t\r]*$", re.MULTILINE)
_THEIRS = re.compile(r"^[ \t]*>{7}(?: .*)?$", re.MULTILINE)


def git_mark(text: str) -> tuple[int, str] | None:
    """Return the line (from 1) of what git left in a text, with what it is and what to do; else ``None``."""
    if text.startswith(LFS_POINTER):
        return 1, POINTER
    line = conflict_line(text)
    return (line, f"{CONFLICT}: keep one side, and delete the lines <<<<<<<, ======= and >>>>>>>") if line else None


def conflict_line(text: str) -> int:
    """Return the line (from 1) where a merge conflict starts, or 0; takes time in proportion to the text.

    A conflict is all three of its marker lines in their order, wherever an editor has indented them to: a line
    of seven equals signs alone underlines a heading.
    """
    ours = _OURS.search(text)
    middle = ours and _MIDDLE.search(text, ours.end())
    if not ours or not middle or not _THEIRS.search(text, middle.end()):
        return 0
    return text.count("\n", 0, ours.start()) + 1


REDACTED = "[REDACTED]"
SHORTEST_SECRET = 8
"""Characters; anything shorter is no key, and would be found in ordinary text."""

MOST_LAYERS = 4
"""Escapes in escapes that are read: JSON in JSON in a URL is three. Each takes a pass over the whole text."""

ESCAPE = re.compile(
    r"""(?-i:\\u)(?:[0-9a-f]{4}|\{[0-9a-f]{1,6}\}) | (?-i:\\U)[0-9a-f]{8} | \\x[0-9a-f]{2}  # JSON, JavaScript, Python
    | \\[0-7]{3}                                               # a shell, C
    | \\[^0-9a-z\s] | \\[abfnrtv]
    | (?:%[0-9a-f]{2})+                                        # a URL: bytes of UTF-8
    | &(?:\#[0-9]{1,7}|\#x[0-9a-f]{1,6}|[a-z][0-9a-z]{1,30});  # HTML, XML
    """,
    re.VERBOSE | re.IGNORECASE,
)
CONTROLS = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))


def scrubber(secrets: Sequence[str]) -> Callable[[str], str]:
    """Return what replaces every secret in a text, however JSON, URLs, HTML and programs may spell it."""
    wanted = {form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in _layers(secret)}
    # Longest first: one key may begin with another.
    forms = sorted((form for form in wanted if len(form) >= SHORTEST_SECRET), key=len, reverse=True)
    if not forms:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, forms)))

    def scrub(text: str) -> str:
        if not any(pattern.search(layer) for layer in _layers(text)):
            return text
        return _redacted(text, sorted(_places(text, pattern)))

    return scrub


def _layers(text: str) -> Iterator[str]:
    """Yield a text as it is, with its escapes read, with those read that came out of it, and so on."""
    yield text
    for _ in range(MOST_LAYERS):
        if "\\" not in text and "%" not in text and "&" not in text:
            return
        before, text = text, ESCAPE.sub(lambda match: _read(match[0]), text)
        if text == before:
            return
        yield text


def _read(escape: str) -> str:
    """Return what an escape stands for; itself, where it stands for nothing."""
    if escape[0] == "%":
        return bytes.fromhex(escape.replace("%", "")).decode("utf-8", "surrogateescape")
    if escape[0] == "&":
        return html.unescape(escape)
    kind, digits = escape[1].lower(), escape[2:].strip("{}")
    if digits or kind.isdigit():
        code = int(digits, 16) if kind in "ux" else int(escape[1:], 8)
        return chr(code) if code <= 0x10FFFF else escape
    return CONTROLS.get(kind, escape[1])


def _places(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Yield where in ``text`` a pattern is found in any of its layers: an escape belongs to it whole."""
    layer = text
    begins: Sequence[int] = range(len(text))
    ends: Sequence[int] = range(1, len(text) + 1)
    for _ in range(MOST_LAYERS + 1):
        for found in pattern.finditer(layer):
            yield begins[found.start()], ends[found.end() - 1]
        layer, begins, ends = _next_layer(layer, begins, ends)


def _next_layer(layer: str, begins: Sequence[int], ends: Sequence[int]) -> tuple[str, Sequence[int], Sequence[int]]:
    """Return a text with its escapes read, and where in the first layer each of its characters begins and ends."""
    parts: list[str] = []
    places: list[tuple[int, int]] = []
    done = 0
    for match in ESCAPE.finditer(layer):
        parts.append(layer[done : match.start()])
        places += zip(range(done, match.start()), range(done + 1, match.start() + 1), strict=True)
        at, done = match.start(), match.end()
        for char in _read(match[0]):
            parts.append(char)
            # A run of %XX says several characters, each of as many bytes as it takes.
            end = at + 3 * len(char.encode("utf-8", "surrogateescape")) if match[0][0] == "%" else done
            places.append((at, end))
            at = end if match[0][0] == "%" else at
    parts.append(layer[done:])
    places += zip(range(done, len(layer)), range(done + 1, len(layer) + 1), strict=True)
    return "".join(parts), [begins[start] for start, _ in places], [ends[end - 1] for _, end in places]


def _redacted(text: str, places: Sequence[tuple[int, int]]) -> str:
    parts: list[str] = []
    done = 0
    for start, end in places:
        if end > done:
            parts += [text[done:start], REDACTED] if start >= done else []
            done = end
    return "".join([*parts, text[done:]])
