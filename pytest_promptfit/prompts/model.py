"""The prompt file as values: which model is asked, what it is told, where the samples are and what is held to.

Nothing is read here: a file is in ``read``, its samples are in ``samples``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    Tag,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.labels import ABSTAINED, DEFAULT_EXTRACT, MISSING, ExtractField
from pytest_promptfit.text import listed, nfc, short

if TYPE_CHECKING:
    from pydantic.config import JsonDict, JsonValue
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

DecidingProvider = Literal["openai-decisions", "systemone"]
ProviderName = Literal["openai", "anthropic", "gemini", "local", DecidingProvider]
PROVIDER_NAMES: tuple[str, ...] = get_args(ProviderName)


OURS = ("model", "messages", "system", "input", "state", "questions")
"""What a request is made of besides parameters: in the parameters it would take the prompt's place."""
_NOT_RECORDED = "is not part of the JSON body, which is what recordings are found by; use a client of your own"
NO_PARAMETERS = {
    "extra_headers": _NOT_RECORDED,
    "extra_query": "write it into base_url, as ?name=value",
    "stream": "a reply is read whole; leave it out",
}
"""Names that an SDK's call takes and a JSON body does not, or whose answer is no JSON; and what to do instead."""


def _as_json(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters as JSON carries them: keys are text, at every depth, and ``extra_body`` is merged in."""
    try:
        value: dict[str, Any] = json.loads(json.dumps(params, allow_nan=False))
    except (RecursionError, TypeError, ValueError):
        raise ValueError("expected values that JSON can carry") from None
    ours = next((key for key in OURS if key in value), None)
    if ours:
        raise ValueError(f"expected no `{ours}`: it is made from the prompt")
    refused = next((name for name in NO_PARAMETERS if value.get(name) not in (None, False)), None)
    if refused:
        raise ValueError(f"{refused}: {NO_PARAMETERS[refused]}")
    extra = value.pop("extra_body", {})
    if not isinstance(extra, dict):
        raise ValueError("extra_body: expected a mapping, whose entries are sent beside the other parameters")
    return {**value, **extra}


SECRET = "secret"  # noqa: S105 - the kind of an error
"""The type of a validation error whose input must not be shown."""

VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
SECRET_PARAMETER = re.compile(
    r".*(?:key|token|secret|password|passwd|signature|credentials?)|(?:.*[-_.])?(?:pwd|pass|sig|auth)|code",
    re.IGNORECASE | re.DOTALL,
)
"""The name of a parameter in a URL whose value is a credential: ``key``, ``api-key``, ``access_token``, ``sig``."""


Params = Annotated[dict[str, Any], AfterValidator(_as_json)]


class ModelSpec(BaseModel):
    """The model that is asked, and how to reach it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    provider: ProviderName = Field(description="Whose protocol is spoken.")
    name: str = Field(min_length=1, description="The model's name as the API knows it, or a GGUF file for local.")
    base_url: str | None = Field(
        None, description="A compatible server (Ollama, llama.cpp, vLLM) instead of the provider's own."
    )
    api_key_env: str | None = Field(None, description="The environment variable that holds the key.")
    params: Params = Field(default_factory=dict, description="Sent to the API as they are.")
    timeout: float = Field(
        120.0, gt=0, strict=True, description="Seconds to wait for one reply, each time it is tried."
    )
    deadline: float | None = Field(
        None,
        gt=0,
        strict=True,
        description="Seconds that a call may take in all, its retries included; default: no end.",
    )
    max_retries: int | None = Field(
        None, ge=0, strict=True, description="How often a call that failed in passing is tried again; default: 2 to 6."
    )
    reply_prefix: Literal["continue", "continue_final_message", "prefix", "ask"] | None = Field(
        None,
        description="How the API goes on from the bot_reply_prefix: by a trailing assistant turn alone "
        "(continue), marked as vLLM and SGLang (continue_final_message) or Mistral and DeepSeek (prefix) want it, or "
        "in the user turn (ask); default: what is known of the provider, and ask at a base_url.",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_short_form(cls, value: object) -> object:
        if isinstance(value, dict | cls):
            return value
        provider, slash, name = value.partition("/") if isinstance(value, str) else ("", "", "")
        if not slash:
            raise ValueError("expected provider/model, such as openai/gpt-6-luna, or a mapping")
        return {"provider": provider, "name": name}

    @field_validator("base_url")
    @classmethod
    def _holds_no_secret(cls, base_url: str | None) -> str | None:
        """Refuse a password or a key in a URL: it is shown, recorded and committed."""
        address, _, query = (base_url or "").partition("?")
        user, at, _ = re.sub(r"^\w*:?[/\\]*", "", address).partition("@")
        if at and not re.search(r"[/\\#]", user):
            what = "a password"
        elif any(SECRET_PARAMETER.fullmatch(part.partition("=")[0]) for part in re.split("[&;#]", query)):
            what = "a key"
        else:
            return base_url
        raise PydanticCustomError(SECRET, f"must not hold {what}: name a variable that holds it with model.api_key_env")

    @field_validator("api_key_env")
    @classmethod
    def _is_a_variable(cls, name: str | None) -> str | None:
        if name is not None and not VARIABLE.fullmatch(name):
            raise PydanticCustomError(SECRET, "expected the name of an environment variable, not the key itself")
        return name

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        reference = handler(core)
        schema = handler.resolve_ref_schema(reference)
        mapping = dict(schema)
        schema.clear()
        schema["anyOf"] = [{"type": "string", "pattern": f"^({'|'.join(PROVIDER_NAMES)})/."}, mapping]
        return reference

    @property
    def decides(self) -> bool:
        """Whether it is a decision model: it chooses one of the labels, and writes nothing."""
        return self.provider in get_args(DecidingProvider)

    @property
    def unsent(self) -> tuple[str, ...]:
        """The fields of a prompt that have no place in a question to it."""
        # System One's choices are a JSON object, which has no order.
        ordered = ("label_order",) if self.provider == "systemone" else ()
        return ("examples", "bot_reply_prefix", *ordered) if self.decides else ()

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}"


def model_named(name: str) -> ModelSpec:
    """Return the model of ``provider/name``; raise PromptfitError where that is none."""
    try:
        return ModelSpec.model_validate(name)
    except ValidationError:
        providers = listed(PROVIDER_NAMES)
        raise PromptfitError(
            f"{short(name)}: expected PROVIDER/NAME, such as openai/gpt-6-luna, with one of the providers {providers}"
        ) from None


TextField = Literal["system_prompt", "user_prompt_prefix", "user_prompt_suffix", "bot_reply_prefix"]
EditField = Literal[TextField, "examples", "label_words", "label_notes", "label_order"]
TuneArm = Literal[
    "examples",
    "nearest",
    "shortlist",
    "formats",
    "reasons",
    "notes",
    "order",
    "drafts",
    "patches",
    "rewrites",
    "weights",
]
TEXT_FIELDS: tuple[TextField, ...] = get_args(TextField)
ASKING_FIELDS: tuple[TextField, ...] = ("system_prompt", "user_prompt_prefix", "user_prompt_suffix")
"""The texts that can say what is to be done, in the order in which they are sent."""

_LATER_FIELDS = ("label_notes", "label_order")


def _label_text(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):  # nobody knows any more whether 1.0 or 1.00 was written
        raise ValueError("expected a label: put it in quotes")
    label = nfc(value.strip()) if isinstance(value, str) else value
    if label == MISSING:
        raise ValueError("expected another label: this one stands for a reply without a label")
    if label == ABSTAINED:
        raise ValueError("expected another label: this one stands for an answer that was held back")
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
Weight = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
Column = Annotated[str, StringConstraints(min_length=1)]


MOST_NEAREST = 64
"""Examples of one request."""


MOST_REPEATS = 25
"""Answers to one sample: their majority gains little from more."""


def _each_once(labels: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted(label for label, times in Counter(labels).items() if times > 1)
    if twice:
        raise ValueError(f"expected each label once: {listed(twice)}")
    return labels


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Example(_Strict):
    """A few-shot turn."""

    text: str = Field(min_length=1)
    label: Label
    reply: str | None = Field(None, description="The assistant's turn; default: the label as the prompt asks for it.")


class NearestExamples(_Strict):
    """Few-shot turns chosen for each text: the labeled rows of a file that are most like it."""

    nearest: int = Field(ge=1, le=MOST_NEAREST, strict=True, description="So many rows, the most similar one last.")
    file: str | None = Field(
        None,
        alias="from",
        min_length=1,
        description="csv, tsv, jsonl, json, yaml or parquet, its columns named as `samples` names them; relative to "
        "the prompt file; default: the samples' own.",
    )
    shortlist: int | None = Field(
        None,
        ge=2,
        strict=True,
        description="{labels} lists only so many labels for each text, the likeliest by a classifier without a "
        "language model, and the rows are of those.",
    )


Examples = Annotated[
    Annotated[tuple[Example, ...], Tag("[list]")] | Annotated[NearestExamples, Tag("[nearest]")],
    Discriminator(lambda value: "[nearest]" if isinstance(value, dict | NearestExamples) else "[list]"),
]


class Prompt(_Strict):
    """What is said to the model; texts may use ``{labels}``: the label words, listed, the first time with notes."""

    system_prompt: str = ""
    user_prompt_prefix: str = ""
    user_prompt_suffix: str = ""
    bot_reply_prefix: str = Field("", description="Words put in the model's mouth.")
    examples: Examples = ()
    label_words: dict[Label, Word] = Field(
        default_factory=dict, description="What the model says for each label (a verbalizer)."
    )
    label_notes: dict[Label, Word] = Field(
        default_factory=dict, description="What each label means; the first {labels} lists them with their notes."
    )

    label_order: tuple[Label, ...] = Field(
        (), description="The labels as {labels} lists them: these first, the others after them."
    )

    @field_validator("label_order")
    @classmethod
    def _are_distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        return _each_once(labels)

    @property
    def fixed_examples(self) -> tuple[Example, ...]:
        """The examples that stand in the prompt; none where they are chosen for each text."""
        return self.examples if isinstance(self.examples, tuple) else ()

    @property
    def lists_labels(self) -> bool:
        """Whether a text that asks says ``{labels}``: there the labels are listed, with their notes."""
        return any("{labels}" in getattr(self, field) for field in ASKING_FIELDS)

    @property
    def shortlist(self) -> int | None:
        """How many labels are listed for each text; ``None`` where all are."""
        return self.examples.shortlist if isinstance(self.examples, NearestExamples) else None

    @property
    def content_hash(self) -> str:
        """The name of this content: 12 hex digits of its SHA-256."""
        # Baselines hold such names, so a field that came later counts only where it says something.
        unsaid: dict[str, Any] = {name: True for name in _LATER_FIELDS if not getattr(self, name)}
        if isinstance(self.examples, NearestExamples) and self.shortlist is None:
            unsaid["examples"] = {"shortlist"}
        content = self.model_dump(mode="json", exclude=unsaid)
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False)
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


class Decision(_Strict):
    """What is made of how likely each label is: another label, or none where it is not sure enough."""

    temperature: float = Field(
        1.0, gt=0, strict=True, allow_inf_nan=False, description="Above 1 takes the model to be less sure than it says."
    )
    weights: dict[Label, Weight] = Field(
        default_factory=dict, description="Each probability is multiplied by its label's; default: 1."
    )
    abstain_below: Share | None = Field(None, description="No label is given where its probability is lower.")


class CoverageGate(_Strict):
    """How many samples can be answered, the surest first, before more than a share of them is wrong."""

    at_error: Share
    at_least: Share


class RegressionGate(_Strict):
    """Not worse than the baseline beyond chance."""

    alpha: float = Field(0.05, gt=0, lt=1, strict=True, description="One-sided level of the paired mid-p McNemar test.")


class Gates(_Strict):
    """What the figures over all labeled samples must reach."""

    accuracy: Share | None = None
    recall: dict[Label, Share] = Field(default_factory=dict)
    missing: Share | None = Field(None, description="The largest share of replies without a readable label.")
    slices: dict[Column, dict[Label, Share]] = Field(
        default_factory=dict, description="The least accuracy of samples by a further column: {column: {value: floor}}."
    )
    coverage: CoverageGate | None = Field(
        None, description="The least share of samples that can be answered, the surest first, at so much error."
    )
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
    max_cost_ratio: float | None = Field(
        None, gt=0, strict=True, description="What a call of a new prompt may cost, as a multiple of the old one's."
    )
    edit: tuple[EditField, ...] = Field(
        get_args(EditField), description="What may be changed; what is not named stays."
    )
    arms: tuple[TuneArm, ...] = Field(get_args(TuneArm), description="Where candidates may come from.")

    @field_validator("model")
    @classmethod
    def _writes(cls, model: ModelSpec | None) -> ModelSpec | None:
        if model is not None and model.decides:
            raise ValueError("expected a model that writes texts: a decision model only chooses a label")
        return model


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
    probabilities: bool = Field(
        False, strict=True, description="Ask for log-probabilities, where the API has them: how sure each label is."
    )
    decision: Decision | None = Field(None, description="What is made of the probabilities; asks for them, too.")
    samples: SampleSource | None = None
    canonical: tuple[InlineSample, ...] = Field((), description="Samples that must never be got wrong.")
    slices: tuple[Column, ...] = Field(
        (), description="Further columns of the data file: accuracy is told for each of their values."
    )
    repeats: int = Field(
        1,
        ge=1,
        le=MOST_REPEATS,
        strict=True,
        description="How often each sample is asked: the label of most answers counts, and what differs is noise.",
    )
    gates: Gates = Field(default_factory=Gates)
    cases: Literal["strict", "gated"] = "gated"
    tune: TuneSettings = Field(default_factory=TuneSettings)

    @field_validator("labels")
    @classmethod
    def _are_distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        return _each_once(labels)

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """The task model and, where there is one, the optimizer."""
        return tuple(model for model in (self.model, self.tune.model) if model is not None)

    @property
    def asks_for_probabilities(self) -> bool:
        """Whether log-probabilities are wanted."""
        return self.probabilities or self.decision is not None

    @property
    def sliced_by(self) -> tuple[str, ...]:
        """The columns that accuracy is told by, those of gates among them."""
        return tuple(dict.fromkeys([*self.slices, *self.gates.slices]))

    @property
    def all_params(self) -> dict[str, Any]:
        """The parameters of the call: the model's own and the file's, which wins."""
        return {**self.model.params, **self.params}
