"""A server that answers at once, in a process of its own: it stands in for a model of known latency.

``python -m tests.benchmarks.instant_server [LATENCY_SECONDS]`` prints its URL and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def answer(body: bytes) -> bytes:
    """Return an OpenAI-shaped reply of the size that real ones have."""
    number = int(re.findall(rb"number (\d+)", body)[-1])
    label = "odd" if number % 2 else "even"
    reply = {
        "id": f"chatcmpl-{number:024d}",
        "object": "chat.completion",
        "created": 1760000000,
        "model": "bench-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": f"It is {label}. Label: <label>{label}</label>"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 60, "completion_tokens": 12, "total_tokens": 72},
    }
    return json.dumps(reply).encode()


async def serve(latency: float) -> None:
    """Answer every request after ``latency`` seconds."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = _LENGTH.search(head)
                body = await reader.readexactly(int(found[1]) if found else 0)
                if latency:
                    await asyncio.sleep(latency)
                reply = answer(body)
                header = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                writer.write(header % len(reply) + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    print(f"http://127.0.0.1:{port}/v1", flush=True)
    async with server:
        await server.serve_forever()


@contextmanager
def running(latency: float = 0.0) -> Iterator[str]:
    """Run the server in a process of its own and yield its URL."""
    command = [sys.executable, "-m", "tests.benchmarks.instant_server", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
