"""The HTTP side of recording: a transport for the SDK's own client that records the replies passing through.

Nothing is patched: only the client that is given this transport is recorded.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2

from pytest_promptfit.cassettes.cassette import request_key
from pytest_promptfit.cassettes.whole_reply import body_of, text_of
from pytest_promptfit.errors import CassetteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_promptfit.cassettes.recorder import Recorder


@dataclass(frozen=True, slots=True)
class CallTag:
    """What a call is for: the id of its sample, and which repeat of the same request it is."""

    sample: str | None = None
    repeat: int = 0


CALL: ContextVar[CallTag] = ContextVar("promptfit_call", default=CallTag())  # noqa: B039 - it is frozen


def recording_for(sample: str | None, repeat: int = 0) -> None:
    """Say, in the task that sends, what its next call is for."""
    CALL.set(CallTag(sample, repeat))


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

    ``recorded_url`` maps the URL that was sent to the one that is recorded. ``keep`` tells from the text of a
    reply whether it is worth recording: a proxy's page with status 200 is not, and gives way to a reply.
    What cannot be written is still passed on, it was paid for; ``recorder.failure`` says so, and nothing more
    is sent. A reply that never ends, or cannot be unpacked, is a ``CallError``.
    """

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport,
        recorder: Recorder,
        *,
        recorded_url: Callable[[str], str] | None = None,
        keep: Callable[[str], bool] | None = None,
    ) -> None:
        self._inner = inner
        self._recorder = recorder
        self._recorded_url = recorded_url or str
        self._is_worth_keeping = keep or (lambda _: True)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return its response with the body read, as the server sent it."""
        if self._recorder.failure is not None:
            raise self._recorder.failure
        body = await request.aread()
        started = time.perf_counter()
        response = await self._inner.handle_async_request(request)
        async with body_of(response, request) as content:
            # From its last byte to the line on disk nothing is awaited: no cancelled task loses a reply that arrived.
            if response.is_success:
                self._record(request, body, response, content, time.perf_counter() - started)
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    def _record(
        self,
        request: httpx2.Request,
        body: bytes,
        response: httpx2.Response,
        content: bytes,
        seconds: float,
    ) -> None:
        tag = CALL.get()
        text = text_of(response, content)
        if not self._is_worth_keeping(text):
            return
        url = self._recorded_url(str(request.url))
        recorded = self._recorder.cassette.find(request_key(request.method, url, body, tag.repeat))
        try:
            self._recorder.append(
                method=request.method,
                url=url,
                body=body,
                response_status=response.status_code,
                response_text=text,
                response_content_type=response.headers.get("content-type", ""),
                sample=tag.sample,
                seconds=seconds,
                repeat=tag.repeat,
                replace=recorded is not None and not self._is_worth_keeping(recorded.body),
            )
        except CassetteError:
            return  # raised here, it would make the SDK ask, and pay, again
