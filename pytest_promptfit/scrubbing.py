"""Keys that must never be written or shown, cut out of texts. Nothing else knows how a key may be spelled.

A key is compared with what a text says once its escapes are read, not with a list of spellings: there are too many.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
    forms = sorted((form for form in wanted if len(form) >= SHORTEST_SECRET), key=len, reverse=True)
    if not forms:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, forms)))

    def scrub(text: str) -> str:
        if not any(pattern.search(layer) for layer in _layers(text)):
            return text
        return _cut(text, sorted(_places(text, pattern)))

    return scrub


def _layers(text: str) -> Iterator[str]:
    """Yield a text as it is, with its escapes read, with those read that came out of it, and so on."""
    yield text
    for _ in range(MOST_LAYERS):
        if not _may_hold_escapes(text):
            return
        before, text = text, ESCAPE.sub(lambda match: _read(match[0]), text)
        if text == before:
            return
        yield text


def _may_hold_escapes(text: str) -> bool:
    return "\\" in text or "%" in text or "&" in text


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


def _cut(text: str, places: Sequence[tuple[int, int]]) -> str:
    parts: list[str] = []
    done = 0
    for start, end in places:
        if end > done:
            parts += [text[done:start], REDACTED] if start >= done else []
            done = end
    return "".join([*parts, text[done:]])
