"""The labels of a prompt: the words for them, and ``extract``, which says how one is read from a reply.

``extract`` is a pattern, searched within limits of time and memory, or the path of a field in the JSON of a reply.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import regex
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

from pytest_promptfit.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MISSING: Final = "(missing)"
"""The name in a confusion table for "no label could be read", so no label may be called that."""

ABSTAINED: Final = "(abstained)"
"""The name in a confusion table for a label that was not given because it was not sure enough."""


def words_of(labels: Sequence[str], label_words: Mapping[str, str]) -> dict[str, str]:
    """Return ``{label: the word the model says for it}``, in the order of ``labels``."""
    return {label: label_words.get(label, label) for label in labels}


def in_order(labels: Sequence[str], first: Sequence[str]) -> list[str]:
    """Return the labels, those named ``first`` in that order before the others."""
    return [*first, *(label for label in labels if label not in first)]


def noted(words: Mapping[str, str], label_notes: Mapping[str, str]) -> str:
    """Return ``{label: word}`` as it is listed with notes, a line each: ``- word: what the label means``."""
    notes = {label: f": {' '.join(note.split())}" for label, note in label_notes.items()}
    return "\n".join(f"- {word}{notes.get(label, '')}" for label, word in words.items())


DEFAULT_EXTRACT = "<label>(.*?)</label>"

PATTERN_SECONDS = 2.0
"""Seconds of processor time that a pattern may take on one reply; Python's own ``re`` could not be stopped."""

MOST_COPIES = 100_000
"""Copies that the counted repeats of a pattern may make of its parts: each takes memory before anything is read."""

_COUNTED_REPEAT = re.compile(r"\{(\d+)(?:,\d*)?\}")


def compiled(extract: str) -> Any:
    """Return a pattern as labels are read with it; raise ``regex.error`` or RecursionError when it is none."""
    copies = math.prod(max(1, int(least)) for least in _COUNTED_REPEAT.findall(extract))
    if copies > MOST_COPIES:
        raise regex.error(f"its counted repeats make more than {MOST_COPIES:,} copies")
    return regex.compile(extract, regex.DOTALL | regex.VERSION0)


def matches_of(pattern: Any, reply: str) -> list[re.Match[str]]:
    """Return the matches of a compiled pattern in a reply; raise CallError when that takes too long."""
    try:
        return list(pattern.finditer(reply, timeout=PATTERN_SECONDS))
    except TimeoutError:
        raise CallError(
            f"extract: the pattern takes more than {PATTERN_SECONDS:g} s on this reply of {len(reply):,} characters: "
            r"a repeat in a repeat, such as (\w+\s?)*, or a choice of the same, such as (.|\n)*, tries for ever"
        ) from None


def answer_of(match: re.Match[str]) -> tuple[int, str]:
    """Return where the answer of a match starts, and what it says.

    It is said by the first group that took part. Words that the pattern found before that group open the
    answer anew each time they occur: the answer in ``<label> tags, so: <label>spam</label>`` is ``spam``.
    """
    group = next((n for n, said in enumerate(match.groups(), 1) if said is not None), 0)
    opening = match.string[match.start() : match.start(group)]
    if not any(char.isalnum() for char in opening):
        return match.start(), match[group]
    skipped, again, said = match[group].rpartition(opening)
    return match.start() + len(skipped + again), said


MOST_OBJECTS = 1000
"""JSON objects that are looked at in a text, the first ones."""

_LONGEST_WORD = 400


class JsonPath(BaseModel):
    """Where the label stands in a reply that is JSON, or in the arguments of a tool call."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    path: str = Field(alias="json", description="Names of fields, and places in lists from 0, with dots: answer.label.")

    @field_validator("path")
    @classmethod
    def _is_path(cls, path: str) -> str:
        if not is_path(path):
            raise ValueError("expected the path of a field, such as answer.label")
        return path

    @property
    def steps(self) -> tuple[str, ...]:
        """The names on the way to the field, outermost first."""
        return tuple(self.path.split("."))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields on the way, without places in lists."""
        return tuple(step for step in self.steps if not step.isdecimal())

    def find(self, value: object) -> object:
        """Return what stands at the path in a JSON value; ``None`` where there is nothing."""
        for step in self.steps:
            if isinstance(value, dict):
                value = value.get(step)
            # int() refuses a number of thousands of digits; no list is longer than nine of them say.
            elif isinstance(value, list) and step.isdecimal() and int(step[:9]) < len(value):
                value = value[int(step[:9])]
            else:
                return None
        return value

    def put(self, word: str) -> Any:
        """Return the smallest JSON value that has a word at the path."""
        value: Any = word
        for step in reversed(self.steps):
            value = [value] if step.isdecimal() else {step: value}
        return value


def is_path(path: str) -> bool:
    """Tell whether a text is the path of a field."""
    return all(step.strip() == step and step for step in path.split("."))


def _checked_pattern(pattern: str) -> str:
    try:
        with warnings.catch_warnings():
            # What Python warns of here, such as [[…]] for \[\[…\]\], is not what was meant.
            warnings.simplefilter("error", FutureWarning)
            groups = re.compile(pattern, re.DOTALL).groups
            compiled(pattern)
    except RecursionError:
        raise ValueError("expected a simpler regular expression") from None
    except (re.error, regex.error, OverflowError, FutureWarning) as error:
        raise ValueError(f"expected a regular expression: {error}") from None
    if not groups:
        raise ValueError("expected a group around the label, such as <label>(.*?)</label>")
    return pattern


Extract: TypeAlias = str | JsonPath
"""How the label is read from a reply."""

ExtractField: TypeAlias = Annotated[
    Annotated[str, AfterValidator(_checked_pattern), Tag("[pattern]")] | Annotated[JsonPath, Tag("[json]")],
    Discriminator(lambda value: "[json]" if isinstance(value, dict | JsonPath) else "[pattern]"),
]

_MOST_FAILED, _MOST_FIELDS = 50, 10_000


def json_objects(text: str) -> Iterator[tuple[int, int, Any]]:
    """Yield the outermost JSON objects of a text, fenced or not, with where they begin and end; the first of many."""
    decoder = json.JSONDecoder(strict=False)  # line breaks inside strings are what weak models write
    found = failed = wasted = 0
    start = text.find("{")
    # Braces that open nothing are each read up to where they fail: without an end that takes the square of the text.
    while start >= 0 and found < MOST_OBJECTS and failed <= _MOST_FAILED and wasted <= 2 * len(text) + 1000:
        end = start + 1
        try:
            value, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            failed += 1
            wasted += error.pos - start
        except (ValueError, RecursionError):  # a number of thousands of digits, or too deep
            return
        else:
            found += 1
            yield start, end, value
        start = text.find("{", end)


def json_value(text: str) -> Any:
    """Return the JSON value of a text; ``None`` where it is none."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def scalar(value: object) -> str | None:
    """Return a JSON value as a label is written; ``None`` for what cannot be one."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int) and len(str(value)) <= _LONGEST_WORD else None


def fields(value: object) -> Iterator[list[tuple[str, str]]]:
    """Yield the fields of a JSON object as (path, text): those of the object itself, then those further in."""
    level, seen = [("", value)], 0
    while level and seen < _MOST_FIELDS:
        inner: list[tuple[str, object]] = []
        for path, one in level:
            items = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
            inner += [
                (f"{path}.{key}" if path else str(key), item) for key, item in items if len(str(key)) < _LONGEST_WORD
            ]
        seen += len(inner)
        yield [(path, said) for path, item in inner if (said := scalar(item)) is not None]
        level = inner
