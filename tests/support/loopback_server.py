"""The HTTP server of all tests and benchmarks, on loopback: it stands in for what a real API cannot be asked to do.

It answers as OpenAI and Anthropic do, after a latency, and fails on request: busy, broken, silent, cut off, wrong.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cache
from http.client import responses
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FOREVER = 10**6
"""Seconds after which nobody waits any more."""

AT_ONCE = {"retry-after-ms": "1"}
"""Asks the SDKs to retry without the wait that would only slow a test down."""


@dataclass(frozen=True)
class Seen:
    """A request as it arrived; ``number`` counts from 0, ``body`` is what the JSON in ``content`` says, if any."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    content: bytes
    method: str


@dataclass(frozen=True)
class Answer:
    """What the server does with a request: ``hang`` never answers, ``cut`` closes the connection instead.

    ``endless`` is sent again and again after the body, every ``pause`` seconds, until the client goes away;
    ``withheld`` bytes of the length that is told are never sent.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    hang: bool = False
    cut: bool = False
    endless: bytes = b""
    pause: float = 0.0
    withheld: int = 0


def told(*tokens: dict[str, float]) -> Answer:
    """An OpenAI-shaped reply with log-probabilities: at each place the token that is written, and others like it."""
    content = [
        {
            "token": next(iter(place)),
            "logprob": math.log(next(iter(place.values()))),
            "top_logprobs": [{"token": token, "logprob": math.log(p)} for token, p in place.items()],
        }
        for place in tokens
    ]
    reply = json.loads(chat("".join(next(iter(place)) for place in tokens)).body)
    reply["choices"][0]["logprobs"] = {"content": content}
    return json_answer(reply)


def chat(text: str | None = "1", finish_reason: str = "stop", **message: Any) -> Answer:
    """An OpenAI-shaped reply."""
    return json_answer(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "test",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": finish_reason,
                    "message": {"role": "assistant", "content": text, **message},
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
    )


def message(text: str = "1", stop_reason: str = "end_turn") -> Answer:
    """An Anthropic-shaped reply."""
    return json_answer(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "test",
            "content": [{"type": "text", "text": text}],
            "stop_reason": stop_reason,
            "usage": {"input_tokens": 100, "output_tokens": 10},
        }
    )


def json_answer(body: object, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(body).encode(), headers)


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    """An error as OpenAI words it; Anthropic's has the same ``error.message``."""
    return json_answer(
        {"type": "error", "error": {"message": message, "type": code or "error", "code": code}},
        status,
        **headers,
    )


def busy() -> Answer:
    return error(429, "Rate limit reached", "rate_limit_exceeded", **AT_ONCE)


def broken(status: int = 500) -> Answer:
    return error(status, "oops", **AT_ONCE)


def raw(text: str, content_type: str = "application/json") -> Answer:
    return Answer(200, text.encode(), content_type=content_type)


HANG = Answer(hang=True)
CUT = Answer(cut=True)
HTML = raw("<!DOCTYPE html>\n<html><body>Log in to the hotel's wifi</body></html>", "text/html")


class LoopbackServer:
    """Serves while it is entered; ``answer`` decides what becomes of each request.

    ``answer`` runs in the one event loop of all servers: what has to wait in it is a coroutine function.
    ``peak`` is how many requests were open at once, ``answered`` those that got their whole answer, ``sent`` how many
    bytes of endless bodies went out. ``remember`` keeps the requests in ``seen``.
    """

    def __init__(
        self,
        answer: Callable[[Seen], Answer | Awaitable[Answer]] | Answer,
        *,
        latency: float = 0.0,
        host: str = "127.0.0.1",
        remember: bool = True,
    ) -> None:
        self.seen: list[Seen] = []
        self.answered: list[Seen] = []
        self.sent = 0
        self.latency = latency
        self.peak = 0
        self._answer = answer if callable(answer) else lambda _seen: answer
        self._remember = remember
        self._count = self._open = 0
        self._held = asyncio.Event()
        self._held.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None
        self._socket = socket.create_server((host, 0), backlog=1024)
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        asyncio.run_coroutine_threadsafe(self.start(), _loop()).result()
        return self

    def __exit__(self, *_: object) -> None:
        """Close what is open, in the middle of an answer too."""
        asyncio.run_coroutine_threadsafe(self._stop(), _loop()).result()

    def hold(self) -> None:
        """Take requests, and answer none until ``release``."""
        _loop().call_soon_threadsafe(self._held.clear)

    def release(self) -> None:
        _loop().call_soon_threadsafe(self._held.set)

    async def start(self) -> asyncio.Server:
        """Serve in the loop that runs."""
        self._listening = await asyncio.start_server(self._serve, sock=self._socket, limit=2**20)
        return self._listening

    async def _stop(self) -> None:
        if self._listening is not None:
            self._listening.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        # A client that goes away was killed, or had enough.
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError), closing(writer):
            while await self._request(reader, writer):
                pass
        self._connections.discard(task)

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read a request and answer it; tell whether the connection stays open."""
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        is_file = headers.get("content-type", "").startswith("multipart/")
        body = json.loads(content) if content and not is_file else {}
        method, path, _ = start.split()
        seen = Seen(self._count, path, headers, body, content, method)
        answer = await self._answer_in_time(seen)
        if answer.cut:
            return False
        writer.write(_head(answer) + answer.body)
        await writer.drain()
        while answer.endless:
            writer.write(answer.endless)
            await writer.drain()
            self.sent += len(answer.endless)
            await asyncio.sleep(answer.pause)
        if self._remember:
            self.answered.append(seen)
        return not answer.withheld

    async def _answer_in_time(self, seen: Seen) -> Answer:
        self._count += 1
        self._open += 1
        self.peak = max(self.peak, self._open)
        if self._remember:
            self.seen.append(seen)
        try:
            answer = self._answer(seen)
            answer = answer if isinstance(answer, Answer) else await answer
            await self._held.wait()
            if self.latency or answer.hang:
                await asyncio.sleep(FOREVER if answer.hang else self.latency)
        finally:
            self._open -= 1
        return answer


def _head(answer: Answer) -> bytes:
    length = {} if answer.endless else {"content-length": str(len(answer.body) + answer.withheld)}
    headers = {"content-type": answer.content_type, **length, **answer.headers}
    lines = [f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of all servers of this process, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="loopback", daemon=True).start()
    return loop
