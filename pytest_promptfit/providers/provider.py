"""What a provider is: it turns a request into a JSON body, sends it, and reads the reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    import httpx2

    from pytest_promptfit.chat.reply import ChatReply, TokenLogprobs
    from pytest_promptfit.chat.request import ChatRequest
    from pytest_promptfit.prompts.model_spec import ModelSpec

    Wrap = Callable[[httpx2.AsyncBaseTransport], httpx2.AsyncBaseTransport]
    """Puts a transport around the one that sends: how recording gets between the SDK and the network."""

    Send = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
    """Posts a JSON body and returns the JSON object of the 2xx reply; raises ``CallError``."""


def unwrapped(transport: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
    """Return ``transport`` as it is: the ``Wrap`` that records nothing."""
    return transport


class Provider(Protocol):
    """One model at one API: what is sent, how it is sent, and what the reply says."""

    @property
    def spec(self) -> ModelSpec:
        """The model that is asked."""

    @property
    def url(self) -> str:
        """The URL that is recorded."""

    @property
    def continues_prefix(self) -> bool:
        """Whether the API goes on from a trailing assistant turn."""

    def payload(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON body as the API wants it, constant parts first."""

    def reply(self, body: Mapping[str, Any], reply_prefix: str) -> ChatReply:
        """Return what the API's JSON says; raise ``CallError`` when it is not a reply."""

    def asking_for_logprobs(self, count: int) -> dict[str, Any]:
        """Return the parameters that ask for the ``count`` likeliest tokens at each place; none if there are none."""

    def logprobs(self, body: Mapping[str, Any]) -> tuple[TokenLogprobs, ...]:
        """Return the log-probabilities of a reply's tokens; nothing where the API did not tell them."""

    def check(self) -> None:
        """Raise a fatal ``CallError`` when the model cannot be asked: no key, no file, no package."""

    def obstacle(self) -> str:
        """Return why the model cannot be asked, as far as it shows before anybody tries to; else ``""``."""

    def secrets(self) -> tuple[str, ...]:
        """Return the values that must never be written anywhere."""

    def connect(
        self, *, wrap: Wrap = unwrapped, max_retries: int = 2, timeout: float | None = None
    ) -> AbstractAsyncContextManager[Send]:
        """Open a client of the provider's SDK; ``timeout`` in seconds, default that of the model."""
