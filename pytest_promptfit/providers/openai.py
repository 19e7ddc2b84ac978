"""The OpenAI protocol (``/chat/completions``): OpenAI, Gemini, and every server that speaks it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_promptfit.chat import ChatReply, StopReason
from pytest_promptfit.providers import unwrapped
from pytest_promptfit.providers.shared import (
    ApiKey,
    check_base_url,
    count,
    endpoint,
    is_own,
    stop_reason,
    text_of,
    unreadable,
    with_prefix,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import httpx2

    from pytest_promptfit.chat import ChatRequest
    from pytest_promptfit.model_spec import ModelSpec
    from pytest_promptfit.providers import Send, Wrap

OWN_URLS = {
    "openai": "https://api.openai.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "local": "http://localhost/v1",
}
KEY_VARIABLES = {
    "openai": ("OPENAI_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "local": (),
}
STOP_REASONS: dict[str, StopReason] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}


@dataclass(frozen=True)
class OpenAIProvider:
    """A model behind ``/chat/completions``."""

    spec: ModelSpec

    @property
    def url(self) -> str:
        """The URL that is recorded."""
        return endpoint(self.spec.base_url or OWN_URLS[self.spec.provider], "/chat/completions")

    @property
    def continues_prefix(self) -> bool:
        """Whether the API goes on from a trailing assistant turn: compatible servers do."""
        if self.spec.reply_prefix is not None:
            return self.spec.reply_prefix == "continue"
        return not is_own(self.spec, OWN_URLS[self.spec.provider])

    def payload(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON body as the API wants it, constant parts first."""
        messages = [{"role": turn.role, "content": turn.text} for turn in request.turns]
        if request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        if request.reply_prefix and self.continues_prefix:
            messages.append({"role": "assistant", "content": request.reply_prefix})
        return {"model": request.model, "messages": messages, **request.params}

    def reply(self, body: Mapping[str, Any], reply_prefix: str) -> ChatReply:
        """Return what the API's JSON says; raise ``CallError`` when it is not a reply.

        Where the prefix is only asked for, the words of the reply are the model's alone and stay as they are.
        """
        try:
            choice = body["choices"][0]
            message = choice["message"]
            content, refusal = message.get("content"), message.get("refusal")
        except (AttributeError, IndexError, KeyError, TypeError):
            raise unreadable(self.spec, body) from None
        refused = not content and isinstance(refusal, str) and bool(refusal)
        text = refusal if refused else text_of(content)
        usage = _mapping(body.get("usage"))
        return ChatReply(
            with_prefix(text, reply_prefix) if self.continues_prefix else text,
            input_tokens=count(usage, "prompt_tokens"),
            output_tokens=count(usage, "completion_tokens"),
            stop_reason="content_filter" if refused else stop_reason(STOP_REASONS, choice.get("finish_reason")),
            cached_tokens=count(_mapping(usage.get("prompt_tokens_details")), "cached_tokens"),
        )

    def check(self) -> None:
        """Raise a fatal ``CallError`` when there is no key or ``base_url`` is no URL."""
        check_base_url(self.spec)
        self._key.value()

    def secrets(self) -> tuple[str, ...]:
        """Return the values that must never be written anywhere."""
        return self._key.secrets()

    @asynccontextmanager
    async def connect(
        self,
        *,
        wrap: Wrap = unwrapped,
        max_retries: int = 2,
        timeout: float | None = None,  # noqa: ASYNC109 - it is the HTTP client's
    ) -> AsyncIterator[Send]:
        """Open the SDK's client; ``timeout`` in seconds, default that of the model."""
        self.check()
        from pytest_promptfit.providers import sending

        sdk = sending.sdk_of(self.spec, "openai")
        wanted = sending.Wanted(self.spec, self.url, self._key)
        async with sending.http_client(wrap(self._transport()), timeout or self.spec.timeout) as http:
            client = sdk.AsyncOpenAI(
                api_key=self._key.value() or sending.NO_KEY,
                base_url=self.spec.base_url or OWN_URLS[self.spec.provider],
                max_retries=max_retries,
                timeout=http.timeout,
                http_client=http,
            )
            # The SDK took these from the environment; a recorded run asks what the prompt file says.
            client.organization = client.project = None
            yield sending.sender(client, sdk, wanted)

    @property
    def _key(self) -> ApiKey:
        return ApiKey(self.spec, KEY_VARIABLES[self.spec.provider], OWN_URLS[self.spec.provider])

    def _transport(self) -> httpx2.AsyncBaseTransport:
        from pytest_promptfit.providers import sending

        return sending.transport_to(self.spec, self.url)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
