"""Turns pydantic's errors into the lines a user reads: ``file:line: field: value: what was expected``."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, get_args

from pytest_promptfit.prompts.model_spec import SECRET
from pytest_promptfit.prompts.yaml_source import shown_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

    from pytest_promptfit.prompts.yaml_source import YamlSource

    Place = tuple[str | int, ...]

_EXPECTED = {
    "string_type": "text (put it in quotes)",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "literal_error": "{expected}",
    "string_too_short": "some text",
    "too_short": "some text",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "a name that a folder can have: no slashes, no dot or space at its end",
}
_INTERNAL_STEPS = ("inline", "[key]", "[pattern]", "[json]")
_SHOWN_WORDS = 12
_SHOWN_MISTAKES = 50
_COMPARED_WORDS, _COMPARED_LETTERS = 1000, 100


def error_lines(
    error: ValidationError,
    source: YamlSource,
    model: type[BaseModel],
    *,
    place_of: Callable[[Place], Place] = lambda place: place,
    other_keys: Sequence[str] = (),
) -> Iterator[str]:
    """Yield one line for each mistake, in the order of the file.

    Where the file is not in the form of ``model``, ``place_of`` tells where a value stands in it, and
    ``other_keys`` are the keys it may have besides the model's.
    """
    found = []
    for detail in error.errors(include_url=False):
        place = place_of(tuple(step for step in detail["loc"] if step not in _INTERNAL_STEPS))
        found.append((source.line(place), place, detail))
    found.sort(key=lambda mistake: mistake[0])
    shown: dict[str, None] = {}
    for at, (line, place, detail) in enumerate(found):
        if len(shown) == _SHOWN_MISTAKES:
            yield f"{source.path}:{line}: and {len(found) - at} more mistakes"
            return
        # Finding the nearest known key costs far more than all else, so it is done for those that are shown.
        known = [*_known_keys(model, detail["loc"][:-1]), *(other_keys if len(place) == 1 else ())]
        message = f"{source.path}:{line}: {_message(detail, place, known)}"
        if message not in shown:
            shown[message] = None
            yield message


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


def _message(detail: ErrorDetails, place: Place, known: Sequence[str]) -> str:
    field = ".".join(map(shown_key, place))
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{field}: unknown key{nearest(str(place[-1]), known)}"
    if kind == "missing":
        return f"{field}: missing: expected it here"
    if kind == "value_error":
        return f"{field}: {short(detail['input'])}: {context['error']}"
    if kind == SECRET:
        return f"{field}: {detail['msg']}"
    expected = _EXPECTED.get(kind)
    what = expected.format(**context) if expected else detail["msg"].lower()
    return f"{field}: {short(detail['input'])}: expected {what}"


def _known_keys(model: Any, place: Sequence[str | int]) -> list[str]:
    """Return the keys of the model that sits at ``place`` below ``model``."""
    for step in place:
        if isinstance(step, str) and step in model.model_fields:
            model = _model_inside(model.model_fields[step].annotation) or model
    names = (field.alias or name for name, field in model.model_fields.items())
    return [name for name in names if name not in _INTERNAL_STEPS]


def _model_inside(annotation: Any) -> Any:
    if hasattr(annotation, "model_fields"):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_inside(arg))), None)
