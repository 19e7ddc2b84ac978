"""What a provider is: it turns a request into a JSON body, sends it, and reads the reply; and its key and address.

Importing this package, and reading replies with it, imports neither an SDK nor an HTTP client: those come
with ``Provider.connect``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from urllib.parse import urlsplit

from pytest_promptfit.errors import CallError
from pytest_promptfit.text import one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    import httpx2

    from pytest_promptfit.cassettes.batches import Batch
    from pytest_promptfit.cassettes.cassette import Asked
    from pytest_promptfit.chat.reply import ChatReply, TokenLogprobs
    from pytest_promptfit.chat.request import ChatRequest
    from pytest_promptfit.prompts.model import ModelSpec

    Wrap = Callable[[httpx2.AsyncBaseTransport], httpx2.AsyncBaseTransport]
    """Puts a transport around the one that sends: how recording gets between the SDK and the network."""

    Answer = str | CallError
    """The JSON of a reply, or why there is none."""

    Send = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
    """Posts a JSON body and returns the JSON object of the 2xx reply; raises ``CallError``."""


def unwrapped(transport: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
    """Return ``transport`` as it is: the ``Wrap`` that records nothing."""
    return transport


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is: ``done`` of ``total`` requests are answered.

    ``refusal`` says why the whole of it was refused, ``files`` where its results are. ``ended_by`` is why requests
    may have been left over: ``"expired"`` or ``"cancelled"``.
    """

    id: str
    done: int
    total: int
    is_ended: bool = False
    is_ending: bool = False
    refusal: str = ""
    ended_by: str = ""
    files: tuple[str, ...] = ()


class BatchApi(Protocol):
    """An API that answers many requests in one go, within a day; what fails raises ``CallError``."""

    most_requests: ClassVar[int]
    most_bytes: ClassVar[int]

    def line(self, asked: Asked) -> dict[str, Any]:
        """Return a request as it stands in a batch: named by its key, with the body of a single call."""

    async def submit(self, asked: Sequence[Asked], mark: str) -> str:
        """Submit requests as one batch, once, and return its id."""

    async def find(self, batch: Batch, known: Collection[str]) -> str:
        """Return the id, not one of ``known``, of a batch that may have been submitted; ``""`` where there is none."""

    async def look(self, id: str) -> Progress | None:  # noqa: A002
        """Return how far a batch is; ``None`` where the API knows of none with this id."""

    async def cancel(self, id: str) -> None:  # noqa: A002
        """Have nothing more of a batch be answered."""

    def results(self, progress: Progress, asked: Mapping[str, Asked]) -> AsyncIterator[tuple[Asked, Answer]]:
        """Yield the requests of a batch that ended, in any order, with the JSON of its reply or why it has none."""

    def left_over(self, how: str) -> CallError:
        """Return why a request has no answer although its batch ended."""


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

    @property
    def at_once(self) -> int | None:
        """How many questions the server works on at once; ``None`` for all that it is sent."""

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

    def connect_batches(self) -> AbstractAsyncContextManager[BatchApi]:
        """Open the provider's batch API through its SDK; raise a fatal ``CallError`` where it has none."""


def no_batches(who: object, why: str = "no batch API is known here") -> CallError:
    """Return the error for a model that cannot be asked in batches."""
    works = "--promptfit-record=batch works with openai/… and anthropic/…"
    return CallError(f"{who}: {why}: {works}; record this one with --promptfit-record", fatal=True)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Where the key of a model comes from; the environment is read when the key is needed, not before.

    ``own_url`` is the provider's own endpoint: its key goes there and to no other server.
    """

    spec: ModelSpec
    variables: tuple[str, ...]
    own_url: str

    def names(self) -> tuple[str, ...]:
        """Return the environment variables that may hold the key, in order; none where no key is needed."""
        if self.spec.api_key_env:
            return (self.spec.api_key_env,)
        return self.variables if is_own(self.spec, self.own_url) else ()

    def value(self) -> str | None:
        """Return the key, ``None`` where none is needed; raise a fatal ``CallError`` when it is missing."""
        names = self.names()
        found = next(iter(self.secrets()), None)
        if found is None and names:
            named = ", the variable that model.api_key_env names"
            how = named if self.spec.api_key_env else " (or name another variable with model.api_key_env)"
            raise CallError(f"{self.spec}: no API key: set {names[0]}{how}", fatal=True)
        if found is not None and not (found.isascii() and found.isprintable()):
            raise CallError(f"{self.spec}: the API key holds characters that no key has", fatal=True)
        return found

    def secrets(self) -> tuple[str, ...]:
        """Return the values of all these variables that are set."""
        return tuple(value for name in self.names() if (value := os.environ.get(name, "").strip()))


def is_own(spec: ModelSpec, own_url: str) -> bool:
    """Tell whether the model is asked at its provider's own endpoint, ``own_url`` or a region of it."""
    if spec.base_url is None:
        return True
    # The dot keeps a host whose name only ends like the provider's from getting its key; so does https.
    host = f".{_host_of(own_url)}"
    return spec.base_url.startswith("https://") and f".{_host_of(spec.base_url)}".endswith(host)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def where_a_key_goes(spec: ModelSpec) -> list[str]:
    """Return the line that names the server of a key which the prompt file chose for it, if there is one.

    The file may be a stranger's.
    """
    if not (spec.api_key_env and spec.base_url):
        return []
    return [f"the key in {spec.api_key_env} was sent to {urlsplit(spec.base_url).netloc}"]


def check_base_url(spec: ModelSpec) -> None:
    """Raise a fatal ``CallError`` when ``base_url`` is not a plain http(s) URL."""
    base_url = spec.base_url
    if base_url is None:
        return
    try:
        parts = urlsplit(base_url)
        # Both raise where they are none.
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise CallError(f"{spec}: model.base_url is not a URL: {one_line(str(error))}", fatal=True) from None
    if parts.scheme not in {"http", "https"} or not host or not base_url.isprintable() or " " in base_url:
        wrong = f"{one_line(base_url)!r} is not a URL such as http://localhost:11434/v1"
        raise CallError(f"{spec}: model.base_url {wrong}", fatal=True)


def endpoint(base_url: str, path: str) -> str:
    """Return the URL of ``path`` below ``base_url``, whose query stays where it belongs."""
    base, question_mark, query = base_url.partition("?")
    return f"{base.rstrip('/')}{path}{question_mark}{query}"
