"""The OpenAI protocol (``/chat/completions``): OpenAI, Gemini, and every server that speaks it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_promptfit.chat.reply import ChatReply, StopReason, TokenLogprobs
from pytest_promptfit.chat.request import parts_of, text_of
from pytest_promptfit.providers import ApiKey, endpoint
from pytest_promptfit.providers.replies import (
    count,
    failure_status,
    first_text,
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

    from pytest_promptfit.chat.request import ChatRequest
    from pytest_promptfit.providers.batch_api import SdkBatches

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


class OpenAISdkProvider(SdkProvider):
    """A model that is asked through OpenAI's client, whatever the path: it posts any JSON below one address."""

    sdk_name: ClassVar[str] = "openai"

    @property
    @abstractmethod
    def _base_url(self) -> str:
        """Where the API is."""

    @property
    def _list_url(self) -> str:
        return endpoint(self._base_url, "/models")

    def _client(self, sdk: ModuleType, http: httpx2.AsyncClient, **options: Any) -> Any:
        client = sdk.AsyncOpenAI(base_url=self._base_url, http_client=http, **options)
        # The SDK took these from the environment; a recorded run asks what the prompt file says.
        client.organization = client.project = None
        return client


@dataclass(frozen=True)
class OpenAIProvider(OpenAISdkProvider):
    """A model behind ``/chat/completions``."""

    @property
    def _base_url(self) -> str:
        return self.spec.base_url or OWN_URLS[self.spec.provider]

    @property
    def url(self) -> str:
        """The URL that is recorded."""
        return endpoint(self._base_url, "/chat/completions")

    @property
    def continues_prefix(self) -> bool:
        """Whether the API goes on from a trailing assistant turn: of a server that nobody knows it must be said."""
        return self.spec.reply_prefix not in (None, "ask")

    def payload(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON body as the API wants it, constant parts first."""
        messages: list[dict[str, Any]] = [{"role": turn.role, "content": turn.text} for turn in request.turns]
        if request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        body: dict[str, Any] = {}
        if request.reply_prefix and self.continues_prefix:
            mark = {"prefix": True} if self.spec.reply_prefix == "prefix" else {}
            messages.append({"role": "assistant", "content": request.reply_prefix, **mark})
            if self.spec.reply_prefix == "continue_final_message":
                body |= {"add_generation_prompt": False, "continue_final_message": True}
        return {"model": request.model, "messages": messages, **body, **request.params}

    def reply(self, body: Mapping[str, Any], reply_prefix: str) -> ChatReply:
        """Return what the API's JSON says; raise ``CallError`` when it is not a reply.

        Where the prefix is only asked for, the words of the reply are the model's alone and stay as they are.
        """
        if failure_status(body) is not None:
            raise unreadable(self.spec, body, self.secrets())
        try:
            choice = body["choices"][0]
            message = choice["message"]
            content, refusal = message.get("content"), message.get("refusal")
            functions = [call.get("function") for call in parts_of(message.get("tool_calls"))]
            functions.append(message.get("function_call"))
        except (AttributeError, IndexError, KeyError, TypeError):
            raise unreadable(self.spec, body, self.secrets()) from None
        if isinstance(content, list):
            refusal = refusal or text_of(content, ("refusal",), ("refusal",))
        said = text_of(content)
        refused = not said and isinstance(refusal, str) and bool(refusal)
        text = refusal if refused else said
        usage = body.get("usage")
        return ChatReply(
            with_prefix(text, reply_prefix) if self.continues_prefix else text,
            input_tokens=count(usage, "prompt_tokens"),
            output_tokens=count(usage, "completion_tokens"),
            stop_reason="content_filter" if refused else stop_reason(STOP_REASONS, choice.get("finish_reason")),
            cached_tokens=count(usage, "prompt_tokens_details", "cached_tokens"),
            written_tokens=count(usage, "prompt_tokens_details", "cache_write_tokens"),
            thought=thought_of(content)
            or first_text(message, ("reasoning_content", "reasoning"))
            or thought_of(message.get("reasoning_details")),
            calls=tuple(
                tool_call(function.get("name"), function.get("arguments"))
                for function in functions
                if isinstance(function, dict)
            ),
            model=name_in(body, "model"),
            fingerprint=name_in(body, "system_fingerprint"),
        )

    def asking_for_logprobs(self, count: int) -> dict[str, Any]:
        """Return the parameters that ask for the ``count`` likeliest tokens at each place."""
        return {"logprobs": True, "top_logprobs": count}

    def logprobs(self, body: Mapping[str, Any]) -> tuple[TokenLogprobs, ...]:
        """Return the log-probabilities of a reply's tokens; nothing where the API did not tell them."""
        try:
            tokens = body["choices"][0]["logprobs"]["content"]
            return tuple(
                TokenLogprobs(
                    str(token["token"]),
                    float(token["logprob"]),
                    tuple((str(other["token"]), float(other["logprob"])) for other in token["top_logprobs"]),
                )
                for token in tokens
            )
        except (IndexError, KeyError, TypeError, ValueError):
            return ()

    def _batch_api(self) -> type[SdkBatches] | None:
        if self.spec.provider != "openai":
            return None
        from pytest_promptfit.providers.batch_api import OpenAIBatches

        return OpenAIBatches

    @property
    def _key(self) -> ApiKey:
        return ApiKey(self.spec, KEY_VARIABLES[self.spec.provider], OWN_URLS[self.spec.provider])
