"""Reading a prompt file: the validated values and their lines, or a line for every mistake: ``file:line: field: …``.

Samples are read in ``samples``; nothing here asks a model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.prompts import github as github_prompt
from pytest_promptfit.prompts.model import SECRET, NearestExamples, PromptConfig, model_named
from pytest_promptfit.prompts.yaml_source import YamlSource
from pytest_promptfit.text import nearest, short, shown_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

    Place = tuple[str | int, ...]


@dataclass(frozen=True, eq=False)
class ParsedPrompt:
    """A prompt file as it was read: the validated values, and the lines they stand in.

    ``instead_of`` is the model that the file names, where ``config`` has another one: see ``under_model``.
    """

    config: PromptConfig
    source: YamlSource
    instead_of: str = ""

    @property
    def path(self) -> Path:
        """The prompt file."""
        return self.source.path

    @property
    def name(self) -> str:
        """The prompt's name: as said in the file, else the file's stem."""
        return self.config.name or stem_of(self.path)

    @property
    def other_model(self) -> str:
        """The model that is asked, where it is not the file's own; else ``""``."""
        return str(self.config.model) if self.instead_of else ""

    def line(self, *place: str | int) -> int:
        """Return the line of a value of the file, from 1."""
        return self.source.line(github_prompt.original_place(place, self.source.value))

    def error(self, message: str, *place: str | int) -> PromptFileError:
        """Return the error to raise for the value at ``place``."""
        return PromptFileError(f"{self.path}:{self.line(*place)}: {message}")


def parse_prompt_file(path: Path) -> ParsedPrompt:
    """Read and validate a prompt file; raise PromptFileError with a line for every mistake."""
    return parsed_prompt(YamlSource.read(path))


def parsed_prompt(source: YamlSource) -> ParsedPrompt:
    """Validate what a prompt file says, or would say; raise PromptFileError with a line for every mistake."""
    path = source.path
    if not isinstance(source.value, dict):
        found = "nothing" if source.value is None else f"a {type(source.value).__name__}"
        raise PromptFileError(f"{path}:1: expected a mapping with `model` and `prompt`, found {found}")
    is_github = github_prompt.is_github_form(source.value)
    value = github_prompt.convert(source, [*PromptConfig.model_fields]) if is_github else source.value
    try:
        return ParsedPrompt(PromptConfig.model_validate(value), source)
    except ValidationError as error:
        raise PromptFileError("\n".join(_mistakes(error, source))) from None


def under_model(parsed: ParsedPrompt, name: str) -> ParsedPrompt:
    """Return the prompt file as it asks the model of ``provider/name``, or as it is where that is its own model.

    At the file's own provider all else that it says of its model holds for the other one too (``base_url``,
    ``api_key_env``, parameters, limits): it is another name at the same server. Another provider's own is asked. The
    file's ``params`` are sent to either, but for those of a chat model to a decision model, or the reverse: no API
    takes them. Raises PromptfitError where ``name`` is no model.
    """
    own, other = parsed.config.model, model_named(name)
    if str(other) == str(own):
        return parsed
    if other.provider == own.provider:
        other = own.model_copy(update={"name": other.name})
    params = parsed.config.params if other.decides == own.decides else {}
    config = parsed.config.model_copy(update={"model": other, "params": params})
    return ParsedPrompt(config, parsed.source, instead_of=str(own))


def asked_times(parsed: ParsedPrompt, repeats: int) -> ParsedPrompt:
    """Return the prompt file as it asks each sample so many times, whatever its ``repeats`` say."""
    return replace(parsed, config=parsed.config.model_copy(update={"repeats": repeats}))


def stem_of(path: Path) -> str:
    """Return the file's name without ``.prompt.yaml``."""
    stem = re.sub(r"(\.prompt)?\.ya?ml$", "", path.name)
    return stem if stem.strip(".") else path.name


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the prompt file, in our form and in GitHub's, for editors."""
    own = PromptConfig.model_json_schema()
    forms = {"PromptConfig": own, "GithubPrompt": github_prompt.json_schema(own["properties"])}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pytest-promptfit prompt",
        "if": {"type": "object", "required": ["messages"], "not": {"required": ["prompt"]}},
        "then": {"$ref": "#/$defs/GithubPrompt"},
        "else": {"$ref": "#/$defs/PromptConfig"},
        "$defs": {**own.pop("$defs"), **forms},
    }


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
# Steps of pydantic's that no file has: the key of a mapping, which form of samples, examples or extract was tried.
_INTERNAL_STEPS = ("inline", "[key]", "[pattern]", "[json]", "[list]", "[nearest]")
_SHOWN_MISTAKES = 50


def _mistakes(error: ValidationError, source: YamlSource) -> Iterator[str]:
    """Yield one line for each mistake, in the order of the file."""
    found = []
    for detail in error.errors(include_url=False):
        steps = tuple(step for step in detail["loc"] if step not in _INTERNAL_STEPS)
        place = github_prompt.original_place(steps, source.value)
        found.append((source.line(place), place, detail))
    found.sort(key=lambda mistake: mistake[0])
    foreign = github_prompt.FOREIGN_KEYS if github_prompt.is_github_form(source.value) else ()
    shown: dict[str, None] = {}
    for at, (line, place, detail) in enumerate(found):
        if len(shown) == _SHOWN_MISTAKES:
            yield f"{source.path}:{line}: and {len(found) - at} more mistakes"
            return
        # Finding the nearest known key costs far more than all else, so it is done for those that are shown.
        message = f"{source.path}:{line}: {_message(detail, place, foreign)}"
        if message not in shown:
            shown[message] = None
            yield message


def _message(detail: ErrorDetails, place: Place, foreign: Sequence[str]) -> str:
    """Return one mistake in words; at the top of a file it may have ``foreign`` keys besides ours."""
    field = ".".join(map(shown_key, place))
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        model: Any = PromptConfig
        for step in detail["loc"][:-1]:
            if step == "[nearest]":  # the other kind of examples is found first
                model = NearestExamples
            elif isinstance(step, str) and step in model.model_fields:
                model = _model_inside(model.model_fields[step].annotation) or model
        keys = [field.alias or name for name, field in model.model_fields.items()]
        known = [*(key for key in keys if key not in _INTERNAL_STEPS), *(foreign if len(place) == 1 else ())]
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


def _model_inside(annotation: Any) -> Any:
    if hasattr(annotation, "model_fields"):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_inside(arg))), None)
