"""The HTTP side of recording: a transport for the SDK's own client that records the replies passing through.

Nothing is patched: only the client that is given this transport is recorded. A body is read whole, within limits of
length and time: an endless one would fill the memory.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2

from pytest_promptfit.cassettes.cassette import ASKED, Asked
from pytest_promptfit.cassettes.file import LONGEST_BODY
from pytest_promptfit.errors import CallError, CassetteError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

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
            seconds = time.perf_counter() - started
            if response.is_success and self._is_worth_keeping(text := text_of(response, content)):
                found = self._recorder.cassette.find(asked.key)
                kind = response.headers.get("content-type", "")
                answered = asked.answered(text, content_type=kind, status=response.status_code, seconds=seconds)
                # Raised here, what cannot be written would make the SDK ask, and pay, again.
                with suppress(CassetteError):
                    self._recorder.keep(answered, replace=found is not None and not self._is_worth_keeping(found.body))
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


@asynccontextmanager
async def body_of(response: httpx2.Response, request: httpx2.Request, most: int = LONGEST_BODY) -> AsyncIterator[bytes]:
    """Read a response's body, packed or not as the server sent it, and leave it to be read again.

    The block runs before anything is awaited after the last byte. Raises CallError for a body of more than ``most``
    bytes and httpx2.ReadTimeout for one that does not end in the time that the request gives a read.
    """
    if response.is_stream_consumed:  # the transport below has read and unpacked it
        response.headers.pop("content-encoding", None)
        response.stream = httpx2.ByteStream(response.content)
    stream = response.stream
    if not isinstance(stream, httpx2.AsyncByteStream):
        raise TypeError("the response of an async transport has an async stream")
    try:
        # The client's own timeout is for each piece: a body that drips would never end.
        async with asyncio.timeout(request.extensions.get("timeout", {}).get("read")):
            parts, size = [], 0
            async for part in stream:
                size += len(part)
                if size > most:
                    raise _too_long(most)
                parts.append(part)
            content = b"".join(parts)
            yield content
    except TimeoutError:
        raise httpx2.ReadTimeout("the reply did not end in time", request=request) from None
    finally:
        await stream.aclose()
    response.stream = httpx2.ByteStream(content)


def text_of(response: httpx2.Response, content: bytes, most: int = LONGEST_BODY) -> str:
    """Return the body unpacked, piece by piece, and as text: JSON is UTF-8, whatever the headers say.

    Raises CallError for one of more bytes than ``most``, and for one that cannot be unpacked.
    """
    packed = httpx2.Response(response.status_code, headers=response.headers, stream=httpx2.ByteStream(content))
    unpacked = bytearray()
    try:
        for part in packed.iter_bytes():
            unpacked += part
            if len(unpacked) > most:
                raise _too_long(most)
    except httpx2.DecodingError as error:  # the SDK would take it for a lost connection and ask, and pay, again
        raise CallError(f"the reply cannot be unpacked ({error})") from None
    return unpacked.decode("utf-8", "replace")


def _too_long(most: int) -> CallError:
    return CallError(f"the reply is longer than {most // 2**20} MB and is not read on; is base_url right?")
