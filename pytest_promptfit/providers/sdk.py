"""What the providers that send through an SDK have in common: the key, the checks, and opening the client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_promptfit.errors import CallError
from pytest_promptfit.providers import check_base_url, unwrapped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

    import httpx2

    from pytest_promptfit.prompts.model import ModelSpec
    from pytest_promptfit.providers import ApiKey, Send, Wrap


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
    def _key(self) -> ApiKey:
        """Where the key comes from."""

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

        sdk = sending.sdk_of(self.spec, self.sdk_name)
        wanted = sending.Wanted(self.spec, self.url, self._key)
        async with sending.http_client(wrap(self._transport()), timeout or self.spec.timeout) as http:
            key = self._key.value() or sending.NO_KEY
            retries = max_retries if self.spec.max_retries is None else self.spec.max_retries
            client = self._client(sdk, http, api_key=key, max_retries=retries, timeout=http.timeout)
            yield sending.sender(client, sdk, wanted)

    def _transport(self) -> httpx2.AsyncBaseTransport:
        from pytest_promptfit.providers import http as sending

        return sending.transport_to(self.spec, self.url)
