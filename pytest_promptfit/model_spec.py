"""Which model a prompt is for: ``provider/model``, or a mapping that says more."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

ProviderName = Literal["openai", "anthropic", "gemini", "local"]


class ModelSpec(BaseModel):
    """The model that is asked, and how to reach it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: ProviderName = Field(description="Whose protocol is spoken.")
    name: str = Field(min_length=1, description="The model's name as the API knows it, or a GGUF file for local.")
    base_url: str | None = Field(
        None, description="A compatible server (Ollama, llama.cpp, vLLM) instead of the provider's own."
    )
    api_key_env: str | None = Field(None, description="The environment variable that holds the key.")
    params: dict[str, Any] = Field(default_factory=dict, description="Sent to the API as they are.")
    timeout: float = Field(120.0, gt=0, description="Seconds to wait for one reply.")
    reply_prefix: Literal["continue", "ask"] | None = Field(
        None,
        description="Whether the API continues a trailing assistant turn; default: what is known of the provider.",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_short_form(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        provider, slash, name = value.partition("/")
        if not slash:
            raise ValueError("expected provider/model, such as openai/gpt-4.1-nano")
        return {"provider": provider, "name": name}

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}"
