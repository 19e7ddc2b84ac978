"""The Anthropic protocol (``/v1/messages``): Claude, and every server that speaks it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_promptfit.chat.reply import ChatReply, StopReason
from pytest_promptfit.chat.request import text_of
from pytest_promptfit.providers import ApiKey, endpoint, is_own
from pytest_promptfit.providers.replies import (
    count,
    failure_status,
    name_in,
    stop_reason,
    thought_of,
    tool_call,
    unreadable,
    with_prefix,
)
from pytest_promptfit.providers.sdk import SdkProvider

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    import httpx2

    from pytest_promptfit.chat.reply import TokenLogprobs
    from pytest_promptfit.chat.request import ChatRequest
    from pytest_promptfit.providers.batch_api import SdkBatches

OWN_URL = "https://api.anthropic.com"
DEFAULT_MAX_TOKENS = 1024
"""The API wants to be told; enough for a classification with some reasoning before it."""

FIRST_WITHOUT_PREFILL = (4, 6)
"""From this version on Claude answers a trailing assistant turn with a 400."""

STOP_REASONS: dict[str, StopReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
MOST_LISTED = 1000
"""Models on a page of the list: it has no longer ones."""

INPUT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


@dataclass(frozen=True)
class AnthropicProvider(SdkProvider):
    """A model behind ``/v1/messages``."""

    sdk_name: ClassVar[str] = "anthropic"

    @property
    def url(self) -> str:
        """The URL that is recorded."""
        return endpoint(self._base_url, "/v1/messages")

    @property
    def continues_prefix(self) -> bool:
        """Whether the API goes on from a trailing assistant turn: older Claudes do; of others it must be said."""
        if self.spec.reply_prefix is not None:
            return self.spec.reply_prefix != "ask"
        return is_own(self.spec, OWN_URL) and claude_continues(self.spec.name)

    def payload(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON body as the API wants it, constant parts first and marked for the prompt cache."""
        body: dict[str, Any] = {"model": request.model}
        if request.system:
            body["system"] = request.system if request.system_varies else [_cached(request.system)]
        messages: list[dict[str, Any]] = [{"role": turn.role, "content": turn.text} for turn in request.turns]
        if len(messages) > 1 and not request.examples_vary:  # to write into the cache costs a quarter more
            messages[-2]["content"] = [_cached(request.turns[-2].text)]
        body["messages"] = messages
        # White space at the end of the last turn is refused.
        prefix = request.reply_prefix.rstrip()
        if prefix and self.continues_prefix:
            messages.append({"role": "assistant", "content": prefix})
        return {**body, "max_tokens": DEFAULT_MAX_TOKENS, **request.params}

    def reply(self, body: Mapping[str, Any], reply_prefix: str) -> ChatReply:
        """Return what the API's JSON says; raise ``CallError`` when it is not a reply.

        Where the prefix is only asked for, the words of the reply are the model's alone and stay as they are.
        """
        content = body.get("content") if isinstance(body, dict) else None
        if not isinstance(content, list | str) or failure_status(body) is not None:
            raise unreadable(self.spec, body, self.secrets())
        usage = body.get("usage")
        text = text_of(content)
        return ChatReply(
            with_prefix(text, reply_prefix) if self.continues_prefix else text,
            input_tokens=sum(count(usage, name) for name in INPUT_COUNTS),
            output_tokens=count(usage, "output_tokens"),
            stop_reason=stop_reason(STOP_REASONS, body.get("stop_reason")),
            cached_tokens=count(usage, "cache_read_input_tokens"),
            thought=thought_of(content),
            calls=tuple(
                tool_call(part.get("name"), part.get("input"))
                for part in content
                if isinstance(part, dict) and part.get("type") == "tool_use"
            ),
            written_tokens=count(usage, "cache_creation_input_tokens"),
            model=name_in(body, "model"),
        )

    def asking_for_logprobs(self, count: int) -> dict[str, Any]:  # noqa: ARG002 - this API has none
        """Return nothing: this API has no log-probabilities."""
        return {}

    def logprobs(self, body: Mapping[str, Any]) -> tuple[TokenLogprobs, ...]:  # noqa: ARG002
        """Return nothing: this API has no log-probabilities."""
        return ()

    def _batch_api(self) -> type[SdkBatches]:
        from pytest_promptfit.providers.batch_api import AnthropicBatches

        return AnthropicBatches

    @property
    def _list_url(self) -> str:
        return f"{endpoint(self._base_url, '/v1/models')}?limit={MOST_LISTED}"

    @property
    def _key(self) -> ApiKey:
        return ApiKey(self.spec, ("ANTHROPIC_API_KEY",), OWN_URL)

    def _client(self, sdk: ModuleType, http: httpx2.AsyncClient, **options: Any) -> Any:
        return sdk.AsyncAnthropic(base_url=self._base_url, http_client=http, **options)

    @property
    def _base_url(self) -> str:
        return (self.spec.base_url or OWN_URL).rstrip("/").removesuffix("/v1")


def claude_continues(name: str) -> bool:
    """Tell from a model's name, such as ``claude-sonnet-4-5-20250929``, whether it goes on from a prefix."""
    numbers = [int(digits) for digits in re.findall(r"(?<!\d)\d{1,2}(?!\d)", name)]
    return "claude" in name and bool(numbers) and tuple(numbers[:2]) < FIRST_WITHOUT_PREFILL


def _cached(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}
