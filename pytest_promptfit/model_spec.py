"""Which model a prompt is for: ``provider/model``, or a mapping that says more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

ProviderName = Literal["openai", "anthropic", "gemini", "local"]
PROVIDER_NAMES: tuple[str, ...] = get_args(ProviderName)


OURS = ("model", "messages", "system")
"""What a request is made of besides parameters: in the parameters it would take the prompt's place."""


def _as_json(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters as JSON carries them: keys are text, at every depth."""
    try:
        value: dict[str, Any] = json.loads(json.dumps(params, allow_nan=False))
    except (RecursionError, TypeError, ValueError):
        raise ValueError("expected values that JSON can carry") from None
    ours = next((key for key in OURS if key in value), None)
    if ours:
        raise ValueError(f"expected no `{ours}`: it is made from the prompt")
    return value


Params = Annotated[dict[str, Any], AfterValidator(_as_json)]


class ModelSpec(BaseModel):
    """The model that is asked, and how to reach it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: ProviderName = Field(description="Whose protocol is spoken.")
    name: str = Field(min_length=1, description="The model's name as the API knows it, or a GGUF file for local.")
    base_url: str | None = Field(
        None, description="A compatible server (Ollama, llama.cpp, vLLM) instead of the provider's own."
    )
    api_key_env: str | None = Field(None, description="The environment variable that holds the key.")
    params: Params = Field(default_factory=dict, description="Sent to the API as they are.")
    timeout: float = Field(120.0, gt=0, strict=True, description="Seconds to wait for one reply.")
    reply_prefix: Literal["continue", "ask"] | None = Field(
        None,
        description="Whether the API continues a trailing assistant turn; default: what is known of the provider.",
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

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        reference = handler(core)
        schema = handler.resolve_ref_schema(reference)
        mapping = dict(schema)
        schema.clear()
        schema["anyOf"] = [{"type": "string", "pattern": f"^({'|'.join(PROVIDER_NAMES)})/."}, mapping]
        return reference

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}"
