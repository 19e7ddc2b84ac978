"""A loopback server that speaks the shape of two chat APIs, and child processes that record from it.

Run as a script it is such a child: ``python recording_helpers.py record|record_often|crash|fill ...``.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_promptfit.cassettes.cassette import Cassette

QUESTION = "Classify the question: répondez — 日本語 😀"


def chat_body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}


def replies_of(cassette: Cassette) -> dict[str, str]:
    return {entry.key: entry.body for entry in cassette}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class ChatServer:
    """Answers chat requests by a hash of their body, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.failures: list[int] = []
        self.say = ""
        self.packed = False
        self.open = threading.Event()
        self.open.set()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.chat_url = f"{self.url}/v1/chat/completions"

    def key(self, body: dict[str, Any]) -> str:
        from pytest_promptfit.cassettes.cassette import request_key

        return request_key("POST", self.chat_url, body)

    def asked_for(self, body: dict[str, Any]) -> int:
        return self.asked[self.key(body)]

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - self is the handler's
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                server.asked[server._key(self.path, body)] += 1
                server.open.wait()
                with suppress(BrokenPipeError, ConnectionResetError):
                    self._answer(*server._reply(self.path, body))

            def _answer(self, status: int, reply: dict[str, Any]) -> None:
                content = json.dumps(reply, ensure_ascii=False, indent=1).encode()
                self.send_response(status)
                if server.packed:
                    content = gzip.compress(content)
                    self.send_header("content-encoding", "gzip")
                self.send_header("content-type", "application/json")
                self.send_header("retry-after-ms", "1")
                self.send_header("content-length", str(len(content)))
                self.send_header("set-cookie", "session=cookie-of-a-person")
                self.send_header("openai-organization", "org-of-a-person")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        return Handler

    def _key(self, path: str, body: bytes) -> str:
        from pytest_promptfit.cassettes.cassette import request_key

        return request_key("POST", self.url + path, body)

    def _reply(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if self.failures:
            status = self.failures.pop(0)
            return status, {"error": {"message": f"failure {status}", "type": "failure", "code": None}}
        digest = hashlib.sha256(body).hexdigest()
        text = f"Réponse {digest[:12]} 😀\n{self.say}<label>{int(digest, 16) % 2}</label>"
        return 200, _anthropic(digest, text) if path == "/v1/messages" else _openai(digest, text)


def _openai(digest: str, text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": f"chatcmpl-{digest[:8]}",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    }


def _anthropic(digest: str, text: str) -> dict[str, Any]:
    return {
        "id": f"msg_{digest[:8]}",
        "type": "message",
        "role": "assistant",
        "model": "tiny",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 5},
    }


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    server = ChatServer()
    server.start()
    try:
        yield server
    finally:
        server.open.set()
        server.stop()


def child(*arguments: object) -> subprocess.Popen[str]:
    """Start this file as a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def numbered_bodies(count: int) -> list[dict[str, Any]]:
    return [chat_body(f"question {number}") for number in range(count)]


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def record(folder: str, url: str, count: str, at_once: str) -> None:
    """Record what is missing; say ``ready``, then the key of each reply that the caller has got."""
    from pytest_promptfit.cassettes.recorder import Recorder

    with Recorder.open(Path(folder), on_wait=lambda message: say(f"waiting: {message}")) as recorder:
        say("ready")
        asyncio.run(_ask_missing(recorder, f"{url}/v1/chat/completions", int(count), int(at_once)))
    say("done")


def record_often(*arguments: str) -> None:
    """For each line of input ``record`` in a process of its own; say its id, and ``ended`` after it."""
    for module in ("vcr.serialize", "pytest_promptfit.cassettes.recorder", "pytest_promptfit.cassettes.transport"):
        importlib.import_module(module)  # once, for all of them
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            say(str(os.getpid()))
            record(*arguments)
            os._exit(0)
        os.waitpid(pid, 0)
        say("ended")


async def _ask_missing(recorder: Any, url: str, count: int, at_once: int) -> None:
    import httpx2

    from pytest_promptfit.cassettes.cassette import request_key
    from pytest_promptfit.cassettes.transport import RecordingTransport

    keyed = [(request_key("POST", url, body), body) for body in numbered_bodies(count)]
    missing = [(key, body) for key, body in keyed if key not in recorder.cassette]
    free = asyncio.Semaphore(at_once)
    transport = RecordingTransport(httpx2.AsyncHTTPTransport(verify=False), recorder)
    async with httpx2.AsyncClient(transport=transport, timeout=60) as client:

        async def ask(key: str, body: dict[str, Any]) -> None:
            async with free:
                await client.post(url, json=body)
                say(key)

        await asyncio.gather(*(ask(key, body) for key, body in missing))


def crash(folder: str, work: str) -> None:
    """Open copies of a folder for recording, and die before the 1st, 2nd, ... change to its files."""
    from pytest_promptfit.cassettes import recorder
    from pytest_promptfit.cassettes.cassette import Recorded

    recorder.render(Recorded("", "POST", "http://localhost/", "", ""))  # imported before the fork
    for number in range(1000):
        copy = Path(work, str(number))
        shutil.copytree(folder, copy)
        pid = os.fork()
        if pid == 0:
            _die_before_change(number, copy)
            with recorder.Recorder.open(copy):
                os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            say(str(number))
            return


def _die_before_change(number: int, folder: Path) -> None:
    left = number

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event in ("os.rename", "os.remove") or (event == "open" and arguments[1] == "wb")
        if writes and str(arguments[0]).startswith(str(folder)):
            if left == 0:
                os.kill(os.getpid(), 9)
            left -= 1

    sys.addaudithook(watch)


def fill(folder: str, url: str, limit: str) -> None:
    """Record through the SDK where no file can grow beyond ``limit`` bytes; say what the caller sees."""
    import resource
    import signal

    from pytest_promptfit.cassettes.recorder import Recorder
    from pytest_promptfit.errors import CassetteError

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    try:
        with Recorder.open(Path(folder)) as recorder:
            asyncio.run(_ask_until_it_fails(recorder, url))
            whole = Path(folder, "replies-new.yaml").read_bytes().endswith(b"}\n")
            say(f"the file is {'whole' if whole else 'torn'}")
    except CassetteError as error:
        say(str(error))


async def _ask_until_it_fails(recorder: Any, url: str) -> None:
    import httpx2
    from anthropic import APIConnectionError, AsyncAnthropic

    from pytest_promptfit.cassettes.cassette import request_key
    from pytest_promptfit.cassettes.transport import RecordingTransport

    transport = RecordingTransport(httpx2.AsyncHTTPTransport(verify=False), recorder)
    http_client = httpx2.AsyncClient(transport=transport)
    client = AsyncAnthropic(api_key="none", base_url=url, max_retries=1, http_client=http_client)
    for body in (chat_body(f"question {number}", max_tokens=9) for number in range(40)):
        if request_key("POST", f"{url}/v1/messages", body) in recorder.cassette:
            continue
        try:
            await client.messages.create(**body)
        except APIConnectionError:
            say("stopped")
            return
        say("reply")


if __name__ == "__main__":
    {"record": record, "record_often": record_often, "crash": crash, "fill": fill}[sys.argv[1]](*sys.argv[2:])
