"""The prompt file: its model, its JSON Schema, and reading it with errors that name the line.

Samples are described here (where they are) and read in ``samples``; nothing here asks a model.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.prompts import github as github_prompt
from pytest_promptfit.prompts.extraction import ExtractField
from pytest_promptfit.prompts.labels import MISSING
from pytest_promptfit.prompts.mistakes import error_lines, listed
from pytest_promptfit.prompts.model_spec import ModelSpec, Params
from pytest_promptfit.prompts.pattern import DEFAULT_EXTRACT
from pytest_promptfit.prompts.yaml_source import YamlSource
from pytest_promptfit.text import nfc

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic.config import JsonDict, JsonValue
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

TextField = Literal["system_prompt", "user_prompt_prefix", "user_prompt_suffix", "bot_reply_prefix"]
EditField = Literal[
    "system_prompt", "user_prompt_prefix", "user_prompt_suffix", "bot_reply_prefix", "examples", "label_words"
]
TEXT_FIELDS: tuple[TextField, ...] = (
    "system_prompt",
    "user_prompt_prefix",
    "user_prompt_suffix",
    "bot_reply_prefix",
)


def _label_text(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        raise ValueError("expected a label: put it in quotes")
    label = nfc(value.strip()) if isinstance(value, str) else value
    if label == MISSING:
        raise ValueError("expected another label: this one stands for a reply without a label")
    return label


Label = Annotated[
    str,
    BeforeValidator(_label_text),
    Field(min_length=1),
    WithJsonSchema({"type": ["string", "integer", "boolean"]}),
]
Id = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
    WithJsonSchema({"type": ["string", "integer"]}),
]
Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(nfc)]
FOLDER_NAME = r"^[^/\\\x00-\x1f]*[^/\\\x00-\x1f. ]$"
"""Recordings are kept in a folder of the prompt's name."""

Share = Annotated[float, Field(ge=0, le=1, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Example(_Strict):
    """A few-shot turn."""

    text: str = Field(min_length=1)
    label: Label
    reply: str | None = Field(None, description="The assistant's turn; default: the label as the prompt asks for it.")


class Prompt(_Strict):
    """What is said to the model; texts may use ``{labels}``: the label words, listed."""

    system_prompt: str = ""
    user_prompt_prefix: str = ""
    user_prompt_suffix: str = ""
    bot_reply_prefix: str = Field("", description="Words put in the model's mouth.")
    examples: tuple[Example, ...] = ()
    label_words: dict[Label, Word] = Field(
        default_factory=dict, description="What the model says for each label (a verbalizer)."
    )

    @property
    def content_hash(self) -> str:
        """The name of this content: 12 hex digits of its SHA-256."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


class InlineSample(_Strict):
    """A sample written into the prompt file itself."""

    text: str
    label: Label
    note: str = ""
    id: Id | None = None
    canonical: bool = False


class SampleSource(_Strict):
    """Where the samples are: a file and its columns, or a list in the prompt file."""

    file: str | None = Field(None, description="csv, tsv, jsonl, json, yaml or parquet; relative to the prompt file.")
    text: str = Field("text", description='A column, or a template over columns: "A: {question1}\\nB: {question2}".')
    label: str = "label"
    note: str | None = Field(None, description='Why the label is right; default: the column "note" if there is one.')
    id: str | None = Field(None, description="Default: a short hash of the text.")
    canonical: str | None = Field(None, description='A yes/no column; default: "canonical" if there is one.')
    inline: tuple[InlineSample, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _read_short_forms(cls, value: object) -> object:
        if isinstance(value, str):
            return {"file": value}
        if isinstance(value, list):
            return {"inline": value}
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict) or "file" not in value or "inline" in value:
            raise ValueError("expected a path, a list of samples, or a mapping with `file`")
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core))
        inline = schema["properties"].pop("inline")
        return {"anyOf": [{"type": "string"}, inline, {**schema, "required": ["file"]}]}


def _or_switch(schema: JsonDict) -> None:
    schema["anyOf"] = [*cast("list[JsonValue]", schema["anyOf"]), {"type": "boolean"}]


class RegressionGate(_Strict):
    """Not worse than the baseline beyond chance."""

    alpha: float = Field(0.05, gt=0, lt=1, strict=True, description="One-sided level of the paired mid-p McNemar test.")


class Gates(_Strict):
    """What the figures over all labeled samples must reach."""

    accuracy: Share | None = None
    recall: dict[Label, Share] = Field(default_factory=dict)
    missing: Share | None = Field(None, description="The largest share of replies without a readable label.")
    regression: RegressionGate | None = Field(default_factory=RegressionGate, json_schema_extra=_or_switch)

    @field_validator("regression", mode="before")
    @classmethod
    def _switch(cls, value: object) -> object:
        return {True: RegressionGate(), False: None}[value] if isinstance(value, bool) else value


class TuneLimits(_Strict):
    """Limits of one tuning run."""

    model_config = ConfigDict(title="Budget")  # what the prompt file calls them, for editors that show the schema

    task_calls: int | None = Field(None, ge=1, strict=True)
    optimizer_calls: int | None = Field(None, ge=0, strict=True)
    usd: float | None = Field(None, ge=0, strict=True)
    seconds: float | None = Field(None, gt=0, strict=True)
    tokens: int | None = Field(None, ge=1, strict=True)


class ShownSamples(_Strict):
    """How many samples the optimizer is shown at once."""

    total: int = Field(24, ge=1, le=200, strict=True)
    wrong_per_label: int | None = Field(None, ge=0, strict=True)
    right_per_label: int | None = Field(None, ge=0, strict=True)


class TuneSettings(_Strict):
    """How the prompt may be tuned."""

    model: ModelSpec | None = Field(None, description="The optimizer; without it only the searches run.")
    params: Params = Field(default_factory=dict)
    iterations: int = Field(5, ge=0, strict=True)
    budget: TuneLimits = Field(default_factory=TuneLimits)
    samples: ShownSamples = Field(default_factory=ShownSamples, description="What the optimizer is shown.")
    edit: tuple[EditField, ...] = Field(
        (*TEXT_FIELDS, "examples", "label_words"), description="What may be changed; what is not named stays."
    )


class PromptConfig(_Strict):
    """A ``*.prompt.yaml`` file."""

    name: str | None = Field(None, max_length=80, pattern=FOLDER_NAME, description="Default: the file's stem.")
    description: str = ""
    model: ModelSpec = Field(description="provider/model, or a mapping.")
    params: Params = Field(default_factory=dict, description="Sent to the API as they are.")
    prompt: Prompt
    labels: tuple[Label, ...] = Field((), description="Default: those of the samples.")
    extract: ExtractField = Field(
        DEFAULT_EXTRACT,
        description="A pattern with a group, whose last match in the reply counts, or {json: path.to.field}.",
    )
    samples: SampleSource | None = None
    canonical: tuple[InlineSample, ...] = Field((), description="Samples that must never be got wrong.")
    gates: Gates = Field(default_factory=Gates)
    cases: Literal["strict", "gated"] = "gated"
    tune: TuneSettings = Field(default_factory=TuneSettings)

    @field_validator("labels")
    @classmethod
    def _are_distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted(label for label, times in Counter(labels).items() if times > 1)
        if twice:
            raise ValueError(f"expected each label once: {listed(twice)}")
        return labels

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """The task model and, where there is one, the optimizer."""
        return tuple(model for model in (self.model, self.tune.model) if model is not None)

    @property
    def all_params(self) -> dict[str, Any]:
        """The parameters of the call: the model's own and the file's, which wins."""
        return {**self.model.params, **self.params}


class ParsedPrompt:
    """A prompt file as it was read: the validated values, and the lines they stand in."""

    def __init__(self, config: PromptConfig, source: YamlSource, *, is_github: bool) -> None:
        self.config = config
        self.source = source
        self.is_github = is_github

    @property
    def path(self) -> Path:
        """The prompt file."""
        return self.source.path

    @property
    def name(self) -> str:
        """The prompt's name: as said in the file, else the file's stem."""
        return self.config.name or stem_of(self.path)

    def line(self, *place: str | int) -> int:
        """Return the line of a value of the file, from 1."""
        if self.is_github:
            place = github_prompt.original_place(place, self.source.value)
        return self.source.line(place)

    def error(self, message: str, *place: str | int) -> PromptFileError:
        """Return the error to raise for the value at ``place``."""
        return PromptFileError(f"{self.path}:{self.line(*place)}: {message}")


def parse_prompt_file(path: Path) -> ParsedPrompt:
    """Read and validate a prompt file; raise PromptFileError with a line for every mistake."""
    source = YamlSource.read(path)
    if not isinstance(source.value, dict):
        raise PromptFileError(f"{path}:1: expected a mapping with `model` and `prompt`, found {_kind(source.value)}")
    is_github = github_prompt.is_github_form(source.value)
    value = github_prompt.convert(source, [*PromptConfig.model_fields]) if is_github else source.value
    try:
        config = PromptConfig.model_validate(value)
    except ValidationError as error:
        lines = error_lines(
            error,
            source,
            PromptConfig,
            place_of=lambda place: github_prompt.original_place(place, source.value) if is_github else place,
            other_keys=github_prompt.FOREIGN_KEYS if is_github else (),
        )
        raise PromptFileError("\n".join(lines)) from None
    return ParsedPrompt(config, source, is_github=is_github)


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


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
