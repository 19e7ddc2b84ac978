"""The HTTP side of recording: a transport for the SDK's own client that records the replies passing through.

Nothing is patched: only the client that is given this transport is recorded.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2

from pytest_promptfit.cassettes.cassette import ASKED, Asked
from pytest_promptfit.cassettes.whole_reply import body_of, text_of
from pytest_promptfit.errors import CassetteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_promptfit.cassettes.recorder import Recorder


REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid")
"""OpenAI's, Anthropic's, Azure's and AWS's."""


@dataclass(slots=True)
class Headers:
    """What the headers of a call's last response tell of it."""

    request_id: str = ""


_HEADERS: ContextVar[Headers | None] = ContextVar("promptfit_headers", default=None)


@contextmanager
def watching() -> Iterator[Headers]:
    """Give the headers of the calls that this task makes in the block through a ``WatchingTransport``."""
    headers = Headers()
    token = _HEADERS.set(headers)
    try:
        yield headers
    finally:
        _HEADERS.reset(token)


def note_headers(headers: Mapping[str, str]) -> None:
    """Take note of a response's headers for whoever is watching this task."""
    watched = _HEADERS.get()
    if watched is not None:
        watched.request_id = next((headers[name] for name in REQUEST_ID_HEADERS if headers.get(name)), "")


class WatchingTransport(httpx2.AsyncBaseTransport):
    """Sends through ``inner``, and notes what the headers of each response say."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return its response."""
        response = await self._inner.handle_async_request(request)
        if not response.extensions.get("made_here"):
            note_headers(response.headers)
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


class RecordingTransport(httpx2.AsyncBaseTransport):
    """Sends through ``inner`` and records each 2xx reply, whole, before the client sees it.

    It is recorded under what ``ASKED`` says, or where nobody said it, under what is sent. ``keep`` tells from the
    text of a reply whether it is worth recording: a proxy's page with status 200 is not, and gives way to a reply.
    What cannot be written is still passed on, it was paid for; ``recorder.failure`` says so, and nothing more
    is sent. A reply that never ends, or cannot be unpacked, is a ``CallError``.
    """

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport,
        recorder: Recorder,
        *,
        keep: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._inner = inner
        self._recorder = recorder
        self._is_worth_keeping = keep

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return its response with the body read, as the server sent it."""
        if self._recorder.failure is not None:
            raise self._recorder.failure
        asked = ASKED.get() or Asked.of(str(request.url), await request.aread(), method=request.method)
        started = time.perf_counter()
        response = await self._inner.handle_async_request(request)
        async with body_of(response, request) as content:
            # From its last byte to the line on disk nothing is awaited: no cancelled task loses a reply that arrived.
            if response.is_success:
                self._record(asked, response, content, time.perf_counter() - started)
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    def _record(self, asked: Asked, response: httpx2.Response, content: bytes, seconds: float) -> None:
        text = text_of(response, content)
        if not self._is_worth_keeping(text):
            return
        found = self._recorder.cassette.find(asked.key)
        kind = response.headers.get("content-type", "")
        answered = asked.answered(text, content_type=kind, status=response.status_code, seconds=seconds)
        # Raised here, what cannot be written would make the SDK ask, and pay, again.
        with suppress(CassetteError):
            self._recorder.keep(answered, replace=found is not None and not self._is_worth_keeping(found.body))
