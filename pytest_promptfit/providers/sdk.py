"""What the providers that send through an SDK have in common: the key, the checks, and opening the client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_promptfit.errors import CallError
from pytest_promptfit.providers import check_base_url, no_batches, unwrapped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

    import httpx2

    from pytest_promptfit.prompts.model import ModelSpec
    from pytest_promptfit.providers import ApiKey, BatchApi, Send, Wrap
    from pytest_promptfit.providers.batch_api import SdkBatches

BATCH_RETRIES = 2


@dataclass(frozen=True)
class SdkProvider(ABC):
    """A model that is asked through ``sdk_name``'s client; the protocol's JSON is the subclass's."""

    spec: ModelSpec
    sdk_name: ClassVar[str]

    @property
    def at_once(self) -> int | None:
        """Nothing: what a server cannot take yet, it answers later, or turns away."""
        return None

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL that is recorded."""

    @property
    @abstractmethod
    def _list_url(self) -> str:
        """The URL of the list of models."""

    @property
    @abstractmethod
    def _key(self) -> ApiKey:
        """Where the key comes from."""

    @abstractmethod
    def _batch_api(self) -> type[SdkBatches] | None:
        """Return the batch API that belongs to this one, where one is known."""

    @abstractmethod
    def _client(self, sdk: ModuleType, http: httpx2.AsyncClient, **options: Any) -> Any:
        """Return the SDK's client on top of ``http``."""

    def check(self) -> None:
        """Raise a fatal ``CallError`` when there is no key or ``base_url`` is no URL."""
        check_base_url(self.spec)
        self._key.value()

    def obstacle(self) -> str:
        """Return what ``check`` raises, as text."""
        try:
            self.check()
        except CallError as error:
            return str(error)
        return ""

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
        from pytest_promptfit.providers import http as sending

        wanted = sending.Wanted(self.spec, self.url, self._key)
        transport = sending.GuardedTransport(wrap(self._transport()))
        async with self._opened(transport, max_retries, timeout or self.spec.timeout) as (client, sdk):
            yield sending.sender(client, sdk, wanted)

    async def listed(self, seconds: float) -> list[dict[str, Any]]:
        """Return what the API's own list says of its models; raise CallError where it does not say so in time."""
        self.check()
        from pytest_promptfit.providers import http as sending

        wanted = sending.Wanted(self.spec, self.url, self._key)
        transport = sending.GuardedTransport(self._transport())
        async with self._opened(transport, 0, seconds) as (client, sdk):
            return await sending.models_at(self._list_url, client, sdk, wanted, seconds)

    @asynccontextmanager
    async def connect_batches(self) -> AsyncIterator[BatchApi]:
        """Open the batch API through the SDK's client; raise a fatal ``CallError`` where it has none."""
        api = self._batch_api()
        if api is None:
            raise no_batches(self.spec)
        self.check()
        from pytest_promptfit.providers import http as sending

        wanted = sending.Wanted(self.spec, self.url.replace(*api.path, 1), self._key)
        transport = sending.LongTransport(self._transport())
        async with self._opened(transport, BATCH_RETRIES, self.spec.timeout) as (client, sdk):
            yield api(client, sdk, wanted)

    @asynccontextmanager
    async def _opened(
        self,
        transport: httpx2.AsyncBaseTransport,
        max_retries: int,
        timeout: float,  # noqa: ASYNC109 - it is the HTTP client's
    ) -> AsyncIterator[tuple[Any, ModuleType]]:
        """Open the SDK's client on top of ``transport``; the model's own number of retries comes first."""
        from pytest_promptfit.providers import http as sending

        sdk = sending.sdk_of(self.spec, self.sdk_name)
        async with sending.http_client(transport, timeout) as http:
            key = self._key.value() or sending.NO_KEY
            retries = max_retries if self.spec.max_retries is None else self.spec.max_retries
            client = self._client(sdk, http, api_key=key, max_retries=retries, timeout=http.timeout)
            # The SDKs add headers that OPENAI_CUSTOM_HEADERS and ANTHROPIC_CUSTOM_HEADERS hold, the key's among them.
            client._custom_headers = {}
            yield client, sdk

    def _transport(self) -> httpx2.AsyncBaseTransport:
        from pytest_promptfit.providers import http as sending

        return sending.transport_to(self.spec, self.url)
