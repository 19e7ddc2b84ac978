"""A model behind a server in a process of its own, of known latency, limits and faults.

``python -m tests.benchmarks.model_server [--latency SECONDS] [--rate R] ...`` prints its URL and serves until
it is killed. ``GET /counts`` tells what it was asked and what it did.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from tests.benchmarks.measuring import environment
from tests.support.loopback_server import CUT, Answer, LoopbackServer, error, json_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.loopback_server import Seen

OPTIMIZER = "bench-optimizer"
"""The name of the model that proposes patches instead of labels."""

_NUMBER = re.compile(r"number (\d+)")


@dataclass(frozen=True)
class Behaviour:
    """What the server does: seconds a reply takes, replies a second it allows (0: any), shares of faults."""

    latency: float = 0.0
    rate: float = 0.0
    errors: float = 0.0
    cuts: float = 0.0
    slow: float = 0.0
    slow_seconds: float = 0.0
    right: float = 1.0
    """Share of texts that it gets right when it is shown no examples."""


class Faults:
    """Answers requests as ``behaviour`` says, and counts."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._draws = random.Random(0)
        self._tokens, self._filled = behaviour.rate, time.monotonic()
        self._did: Counter[str] = Counter()
        self._answered: Counter[int] = Counter()
        self._times: list[float] = []

    async def answer(self, seen: Seen) -> Answer:
        """Return what is sent back after its time."""
        if seen.path == "/counts":
            return json_answer(self._counts())
        behaviour = self._behaviour
        if behaviour.rate and not self._take_token():
            self._did["429"] += 1
            return error(429, "Rate limit reached", "rate_limit_exceeded", **{"retry-after": "1"})
        draw = self._draws.random()
        slow = draw >= 1 - behaviour.slow
        if seconds := behaviour.slow_seconds if slow else behaviour.latency:
            await asyncio.sleep(seconds)
        if draw < behaviour.errors:
            self._did["500"] += 1
            return error(500, "oops", "server_error")
        if draw < behaviour.errors + behaviour.cuts:
            self._did["cut"] += 1
            return CUT
        self._did["200"] += 1
        self._answered[hash(seen.content)] += 1
        self._times.append(time.monotonic())
        return json_answer(answer(seen.body, behaviour.right))

    def _take_token(self) -> bool:
        """Take one of the replies that the rate allows; at most a second's worth is saved up."""
        now = time.monotonic()
        self._tokens = min(self._behaviour.rate, self._tokens + (now - self._filled) * self._behaviour.rate)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _counts(self) -> dict[str, Any]:
        twice = sum(count - 1 for count in self._answered.values())
        return {**self._did, "twice": twice, "times": self._times}


def answer(request: dict[str, Any], right: float = 1.0) -> dict[str, Any]:
    """Return an OpenAI-shaped reply of the size that real ones have."""
    said = request["messages"][-1]["content"]
    numbers = [int(number) for number in _NUMBER.findall(said)]
    number = numbers[-1] if numbers else 0
    text = _patches(number) if request["model"] == OPTIMIZER else _label(number, request, right)
    return {
        "id": f"chatcmpl-{number:024d}",
        "object": "chat.completion",
        "created": 1760000000,
        "model": request["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 60, "completion_tokens": 12, "total_tokens": 72},
    }


def _label(number: int, request: dict[str, Any], right: float) -> str:
    is_right = number * 2654435761 % 1000 < right * 1000 or len(request["messages"]) > 3
    label = "odd" if (number % 2 == 1) == is_right else "even"
    return f"It is {label}. Label: <label>{label}</label>"


def _patches(number: int) -> str:
    patch = {"field": "system_prompt", "op": "append", "find": "", "targets": []}
    return json.dumps({"patches": [{**patch, "text": f"Look at digit {number % 7}.", "reason": "a guess"}]})


async def serve(behaviour: Behaviour, host: str = "127.0.0.1") -> None:
    """Serve until the process is killed."""
    server = LoopbackServer(Faults(behaviour).answer, host=host, remember=False)
    async with await server.start() as listening:
        print(f"{server.url}/v1", flush=True)
        await listening.serve_forever()


def command(behaviour: Behaviour, host: str = "127.0.0.1") -> list[str]:
    """Return the command line that serves."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(behaviour).items()]
    return [sys.executable, "-m", "tests.benchmarks.model_server", f"--host={host}", *options]


@contextmanager
def running(behaviour: Behaviour | None = None, host: str = "127.0.0.1") -> Iterator[str]:
    """Run the server in a process of its own and yield its URL."""
    arguments = command(behaviour or Behaviour(), host)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def counts(url: str) -> dict[str, Any]:
    """Return how many requests ended in which way, how many replies were paid for twice, and their times."""
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/counts") as response:
        found: dict[str, Any] = json.load(response)
    return found


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    for field in fields(Behaviour):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=float, default=field.default)
    chosen = vars(parser.parse_args())
    host = chosen.pop("host")
    asyncio.run(serve(Behaviour(**chosen), host))


if __name__ == "__main__":
    main()
