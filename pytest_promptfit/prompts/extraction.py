"""``extract`` of a prompt file: a pattern, or the path of a field in JSON; and the JSON in a text."""

from __future__ import annotations

import json
import re
import warnings
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import regex
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from pytest_promptfit.prompts.pattern import compiled

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_OBJECTS = 1000
"""JSON objects that are looked at in a text, the first ones."""

_LONGEST_WORD = 400


class JsonPath(BaseModel):
    """Where the label stands in a reply that is JSON, or in the arguments of a tool call."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    path: Annotated[str, AfterValidator(lambda path: _checked_path(path))] = Field(
        alias="json", description="Names of fields, and places in lists from 0, with dots: answer.label."
    )

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


def _checked_path(path: str) -> str:
    if not is_path(path):
        raise ValueError("expected the path of a field, such as answer.label")
    return path


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
