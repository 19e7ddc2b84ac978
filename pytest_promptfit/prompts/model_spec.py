"""Which model a prompt is for: ``provider/model``, or a mapping that says more."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

ProviderName = Literal["openai", "anthropic", "gemini", "local"]
PROVIDER_NAMES: tuple[str, ...] = get_args(ProviderName)


OURS = ("model", "messages", "system")
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


def _without_secrets(base_url: str) -> str:
    """Return a URL that holds no password or key: it is shown, recorded and committed."""
    address, _, query = base_url.partition("?")
    user, at, _ = re.sub(r"^\w*:?[/\\]*", "", address).partition("@")
    if at and not re.search(r"[/\\#]", user):
        raise _secret("must not hold a password")
    if any(SECRET_PARAMETER.fullmatch(part.partition("=")[0]) for part in re.split("[&;#]", query)):
        raise _secret("must not hold a key")
    return base_url


def _variable_name(name: str) -> str:
    if not VARIABLE.fullmatch(name):
        raise PydanticCustomError(SECRET, "expected the name of an environment variable, not the key itself")
    return name


def _secret(what: str) -> PydanticCustomError:
    return PydanticCustomError(SECRET, f"{what}: name a variable that holds it with model.api_key_env")


Params = Annotated[dict[str, Any], AfterValidator(_as_json)]


class ModelSpec(BaseModel):
    """The model that is asked, and how to reach it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    provider: ProviderName = Field(description="Whose protocol is spoken.")
    name: str = Field(min_length=1, description="The model's name as the API knows it, or a GGUF file for local.")
    base_url: Annotated[str, AfterValidator(_without_secrets)] | None = Field(
        None, description="A compatible server (Ollama, llama.cpp, vLLM) instead of the provider's own."
    )
    api_key_env: Annotated[str, AfterValidator(_variable_name)] | None = Field(
        None, description="The environment variable that holds the key."
    )
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
