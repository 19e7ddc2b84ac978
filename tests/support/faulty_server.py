"""A small HTTP server on loopback: it stands in for what a real API cannot be asked to do.

It answers as OpenAI and Anthropic do, after a latency, and fails on request: busy, broken, silent, wrong.
"""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE = {"retry-after-ms": "1"}
"""Asks the SDKs to retry without the wait that would only slow a test down."""


@dataclass(frozen=True)
class Seen:
    """A request as it arrived; ``number`` counts from 0."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


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


class FaultyServer:
    """Serves while it is entered; ``answer`` decides what becomes of each request."""

    def __init__(self, answer: Callable[[Seen], Answer] | Answer, latency: float = 0.0) -> None:
        self.seen: list[Seen] = []
        self.answered: list[Seen] = []
        self.sent = 0
        self.latency = latency
        self.peak = 0
        self._answer = answer if callable(answer) else lambda _seen: answer
        self._busy = 0
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultyServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[Seen, Answer]:
        """Count a request and return it with what to do with it, when its time has come."""
        with self._lock:
            seen = Seen(len(self.seen), path, headers, json.loads(body))
            self.seen.append(seen)
            self._busy += 1
            self.peak = max(self.peak, self._busy)
        answer = self._answer(seen)
        self.closing.wait(None if answer.hang else self.latency)
        return seen, answer

    def finish(self) -> None:
        """Count a request as answered."""
        with self._lock:
            self._busy -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away: it was killed, or had enough."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(owner: FaultyServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # The reply would wait for the client's acknowledgement of its headers.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                seen, answer = owner.take(self.path, headers, body)
            finally:
                owner.finish()
            if answer.cut or answer.hang:
                self.close_connection = True
            else:
                self._send(answer)
                owner.answered.append(seen)

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("content-type", answer.content_type)
            if not answer.endless:
                self.send_header("content-length", str(len(answer.body) + answer.withheld))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = bool(answer.withheld or answer.endless) or self.close_connection
            while answer.endless and not owner.closing.wait(answer.pause):
                self.wfile.write(answer.endless)
                owner.sent += len(answer.endless)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
