"""What a user brings of their own to one prompt: a client or model to ask, and a way to read labels.

A plugin's hooks and the arguments of ``load_prompt`` come down to the same two functions. Whatever asks, it is
recorded as ever, under the URL and the body that the prompt file says; the HTTP client is imported when something is
sent.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pytest_promptfit.errors import HookError, PromptfitError
from pytest_promptfit.providers import check_base_url, no_batches, unwrapped
from pytest_promptfit.text import described, scrubber, shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    import httpx2
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

    from pytest_promptfit.chat.label import LabelReader
    from pytest_promptfit.chat.reply import ChatReply, TokenLogprobs
    from pytest_promptfit.chat.request import ChatRequest
    from pytest_promptfit.prompts.model import ModelSpec
    from pytest_promptfit.providers import BatchApi, Provider, Send, Wrap
    from pytest_promptfit.providers.own_transport import ModelFunction

    Client: TypeAlias = httpx2.AsyncClient | AsyncOpenAI | AsyncAnthropic | ModelFunction
    """Who asks the model, or is it."""

    MakeClient: TypeAlias = Callable[[ModelSpec], Client | None]
    """Returns a new client for a model; ``None`` for one that is asked as ever."""

    Extract: TypeAlias = Callable[[ChatReply, str], str | None]
    """Returns what a reply to a text says; ``None`` for one that is read as ever."""

    Blame: TypeAlias = Callable[[str, BaseException | None], str]
    """Returns how a message about ``client`` or ``extract`` starts: whose it is, and where it failed."""


def by_parameter(what: str, _error: BaseException | None) -> str:
    """Name a function by the parameter that it was given for."""
    return what


@dataclass(frozen=True)
class Custom:
    """A user's own client and way to read labels; what is ``None`` is ours."""

    client: MakeClient | None = None
    extract: Extract | None = None
    blame: Blame = by_parameter
    brings_client: Callable[[], bool] = lambda: True
    """Tells, once all is collected, whether anybody stands behind ``client``."""

    def provider(self, provider: Provider) -> Provider:
        """Return a provider that asks through the user's client."""
        if self.client is None or not self.brings_client():
            return provider
        return OwnClientProvider(provider, self.client, self.blame)

    def label(self, reply: ChatReply, text: str, reader: LabelReader, labels: Sequence[str]) -> str | None:
        """Return the label of the reply to ``text``; raise HookError when the user's function cannot tell."""
        said: object = None
        try:
            if self.extract is not None:
                said = self.extract(reply, text)
        except PromptfitError:
            raise
        except Exception as error:
            raise HookError(f"{self.blame('extract', error)}: {described(error)}") from None
        if said is None:
            return reader.read(reply.text, text, reply.calls)
        if isinstance(said, str):
            return said if said in labels else reader.read(said, "")
        wanted = "expected a str, or None to leave it to others"
        raise HookError(f"{self.blame('extract', None)}: {wanted}; found {shown(said)}")


OURS = Custom()
"""Nothing of the user's own."""


class OwnClientProvider:
    """A provider whose questions go through the user's client; all else is as it was."""

    def __init__(self, provider: Provider, make: MakeClient, blame: Blame) -> None:
        self._provider = provider
        self._make = make
        self._blame = blame
        self._made: list[Client | None] = []

    @property
    def spec(self) -> ModelSpec:
        """The model that is asked."""
        return self._provider.spec

    @property
    def url(self) -> str:
        """The URL that is recorded."""
        return self._provider.url

    @property
    def at_once(self) -> int | None:
        """How many questions the server works on at once."""
        return self._provider.at_once

    @property
    def continues_prefix(self) -> bool:
        """Whether the API goes on from a trailing assistant turn."""
        return self._provider.continues_prefix

    def payload(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON body as the API wants it, constant parts first."""
        return self._provider.payload(request)

    def reply(self, body: Mapping[str, Any], reply_prefix: str) -> ChatReply:
        """Return what the API's JSON says; raise ``CallError`` when it is not a reply."""
        return self._provider.reply(body, reply_prefix)

    def asking_for_logprobs(self, count: int) -> dict[str, Any]:
        """Return the parameters that ask for the ``count`` likeliest tokens at each place."""
        return self._provider.asking_for_logprobs(count)

    def logprobs(self, body: Mapping[str, Any]) -> tuple[TokenLogprobs, ...]:
        """Return the log-probabilities of a reply's tokens."""
        return self._provider.logprobs(body)

    def secrets(self) -> tuple[str, ...]:
        """Return the values that must never be written anywhere."""
        return self._provider.secrets()

    def obstacle(self) -> str:
        """Return nothing: only the client could tell, and it is not made before something is asked."""
        return ""

    def check(self) -> None:
        """Raise what stops a run: no usable client, or where our own asks, what that misses."""
        from pytest_promptfit.providers.own_transport import asks_itself

        check_base_url(self.spec)  # replies are recorded under it, whoever asks
        client = self._new_client()
        if not asks_itself(client):
            self._provider.check()
        self._made = [client]  # for the connection that follows

    @asynccontextmanager
    async def connect(
        self,
        *,
        wrap: Wrap = unwrapped,
        max_retries: int = 2,
        timeout: float | None = None,  # noqa: ASYNC109 - it is the HTTP client's
    ) -> AsyncIterator[Send]:
        """Open the user's client, or ours where there is none."""
        from pytest_promptfit.providers import own_transport

        client = self._made.pop() if self._made else self._new_client()
        if client is None:
            connecting = self._provider.connect(wrap=wrap, max_retries=max_retries, timeout=timeout)
        elif own_transport.asks_itself(client):
            function, close = own_transport.function_of(client, self.spec, max_retries)
            inner = own_transport.FunctionTransport(function, close, self.spec, self._told)
            connecting = own_transport.sending_through(wrap(inner), self.url, self.spec)
        else:
            own = own_transport.ClientTransport(cast("Any", client), self._told)
            connecting = self._provider.connect(wrap=lambda _: wrap(own), max_retries=max_retries, timeout=timeout)
        async with connecting as send:
            yield send

    @asynccontextmanager
    async def connect_batches(self) -> AsyncIterator[BatchApi]:
        """Open the provider's batch API where the user brings no client for this model; else there is none."""
        if self._new_client() is not None:
            raise no_batches(self.spec, "a client of your own asks single questions")
        async with self._provider.connect_batches() as api:
            yield api

    def _new_client(self) -> Client | None:
        try:
            client = self._make(self.spec)
        except HookError as error:
            raise HookError(self._scrubbed(str(error))) from None
        except PromptfitError:
            raise
        except Exception as error:
            raise HookError(self._told(error)) from None
        from pytest_promptfit.providers.own_transport import is_client

        if client is None or is_client(client):
            return client
        wanted = (
            "expected an httpx2.AsyncClient, an async client of the openai or anthropic SDK, "
            "a function from a request's JSON to the reply, or None to leave it to others"
        )
        raise HookError(f"{self._blame('client', None)}: {wanted}; found {shown(client)}")

    def _told(self, error: Exception) -> str:
        return self._scrubbed(f"{self._blame('client', error)}: {described(error)}")

    def _scrubbed(self, text: str) -> str:
        """Return the words of an error of the user's, which may quote the key."""
        return scrubber(self.secrets())(text)
