"""Reading the body of a reply whole, within limits of length and time: an endless one would fill the memory."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx2

from pytest_promptfit.errors import CallError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LONGEST_REPLY = 16 * 2**20
"""Bytes, unpacked, that a reply may have: what is longer is no reply, and could fill the memory."""


@asynccontextmanager
async def body_of(response: httpx2.Response, request: httpx2.Request) -> AsyncIterator[bytes]:
    """Read a response's body, packed or not as the server sent it, and leave it to be read again.

    The block runs before anything is awaited after the last byte. Raises CallError for a body that is too long
    and httpx2.ReadTimeout for one that does not end in the time that the request gives a read.
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
            content = await _read(stream)
            yield content
    except TimeoutError:
        raise httpx2.ReadTimeout("the reply did not end in time", request=request) from None
    finally:
        await stream.aclose()
    response.stream = httpx2.ByteStream(content)


async def _read(stream: httpx2.AsyncByteStream) -> bytes:
    parts, size = [], 0
    async for part in stream:
        size += len(part)
        if size > LONGEST_REPLY:
            raise _too_long()
        parts.append(part)
    return b"".join(parts)


def text_of(response: httpx2.Response, content: bytes) -> str:
    """Return the body unpacked, piece by piece, and as text: JSON is UTF-8, whatever the headers say.

    Raises CallError for one that is too long or cannot be unpacked.
    """
    packed = httpx2.Response(response.status_code, headers=response.headers, stream=httpx2.ByteStream(content))
    unpacked = bytearray()
    try:
        for part in packed.iter_bytes():
            unpacked += part
            if len(unpacked) > LONGEST_REPLY:
                raise _too_long()
    except httpx2.DecodingError as error:  # the SDK would take it for a lost connection and ask, and pay, again
        raise CallError(f"the reply cannot be unpacked ({error})") from None
    return unpacked.decode("utf-8", "replace")


def _too_long() -> CallError:
    return CallError(f"the reply is longer than {LONGEST_REPLY // 2**20} MB and is not read on; is base_url right?")
