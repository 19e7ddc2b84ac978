"""``extract`` of a prompt file: a pattern, or the path of a field in JSON."""

from __future__ import annotations

import re
import warnings
from typing import Annotated, Any, TypeAlias

import regex
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from pytest_promptfit.chat import compiled


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
