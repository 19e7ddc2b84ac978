"""What a prompt's texts must not lose: no text may be blanked, and what the reader of labels relies on stays."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.prompts.labels import words_of
from pytest_promptfit.prompts.model import TEXT_FIELDS
from pytest_promptfit.tuning.texts import words_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from pytest_promptfit.prompts.extraction import Extract
    from pytest_promptfit.prompts.model import Prompt, TextField

_TOKEN = re.compile(
    r"""\\(?P<escaped>[^\w\s]) | \\. | \(\?(?:P?<\w+>|<?[=!]|[^)<]*?[:)]) | \[\^?\]?(?:\\.|[^\]\\])*\]
    | \{\d*,?\d*\} | [.*+?()|^$] | (?P<plain>.)""",
    re.DOTALL | re.VERBOSE,
)

_OPENS = re.compile(r"\s*(<[^<>]*>|[^\w\s.,:;!?]+)")
_CLOSES = re.compile(r"(<[^<>]*>|[^\w\s.,:;!?]+)\s*\Z")
_BEFORE_THE_REST, _AFTER_THE_REST = "right before what follows", "right after the sample"
_EDGES: tuple[tuple[TextField, Callable[[str], re.Match[str] | None], str], ...] = (
    ("user_prompt_prefix", _CLOSES.search, _BEFORE_THE_REST),
    ("user_prompt_suffix", _OPENS.match, _AFTER_THE_REST),
    ("bot_reply_prefix", _CLOSES.search, _BEFORE_THE_REST),
)
"""Where marks delimit what is put in between: the sample's text, and the words the model continues with."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be done to a prompt: ``labels`` must still be read from its replies with ``extract``."""

    edit: Collection[str]
    """The fields that may change."""
    labels: Sequence[str]
    extract: Extract
    max_length: int
    """Characters that the four texts may have together, if they have not more already."""


def problem_with(before: Prompt, after: Prompt, kept: Collection[str], max_length: int) -> str | None:
    """Return why one prompt may not take the place of another, or ``None`` where it may."""
    if after == before:
        return "it changes nothing"
    if blanked := [name for name in TEXT_FIELDS if getattr(before, name).strip() and not getattr(after, name).strip()]:
        return f"it leaves {blanked[0]} empty"
    present = _present(kept, after)
    if lost := [piece for piece in kept if piece not in present]:
        return f"it drops {lost[0]!r}, which must stay"
    length = text_length(after)
    if length > max(max_length, text_length(before)):
        return f"the prompt would have {length} characters: at most {max_length}"
    return _lost_edge(before, after)


def kept_pieces(prompt: Prompt, rules: Rules) -> tuple[str, ...]:
    """Return what the reader of labels relies on, as far as the prompt has it."""
    return _present(protected_pieces(rules.labels, prompt.label_words, rules.extract), prompt)


def protected_pieces(labels: Sequence[str], label_words: Mapping[str, str], extract: Extract) -> tuple[str, ...]:
    """Return what the reader of labels relies on: label words, ``{labels}`` and what ``extract`` looks for.

    Of a pattern that is its literal parts, of a path the names of the fields.
    """
    words = words_of(labels, label_words).values()
    parts = literal_parts(extract) if isinstance(extract, str) else extract.names
    return tuple(dict.fromkeys(("{labels}", *parts, *words)))


def literal_parts(pattern: str) -> list[str]:
    """Return the runs of plain characters in a regular expression: ``<label>`` and ``</label>``."""
    parts, run = [], ""
    for token in _TOKEN.finditer(pattern):
        plain = token["plain"] or token["escaped"]
        run += plain or ""
        if not plain:
            # What may be absent is no part of the literal text.
            kept = run[:-1] if token[0] in ("?", "*") or token[0].startswith("{") else run
            parts.append(kept.strip())
            run = ""
    return [part for part in (*parts, run.strip()) if len(part) > 1]


def text_length(prompt: Prompt) -> int:
    """Return the characters of the four texts together."""
    return sum(len(text) for text in _texts(prompt))


def _lost_edge(before: Prompt, after: Prompt) -> str | None:
    for field, mark_of, where in _EDGES:
        mark, left = mark_of(getattr(before, field)), mark_of(getattr(after, field))
        if mark and (left is None or left[1] != mark[1]):
            return f"{mark[1]!r} must stay {where}"
    return None


def _texts(prompt: Prompt) -> tuple[str, ...]:
    return tuple(getattr(prompt, field) for field in TEXT_FIELDS)


def _present(pieces: Iterable[str], prompt: Prompt) -> tuple[str, ...]:
    texts = _texts(prompt)
    return tuple(
        piece for piece in pieces if piece.strip() and any(words_pattern(piece).search(text) for text in texts)
    )
