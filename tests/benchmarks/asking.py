"""Asks a list of samples, and tells what the asking thread took: what ``live`` runs in processes of their own.

``python -m tests.benchmarks.asking ours|sdk PROMPT_FILE:CONCURRENCY:CALLS ...`` prints a line of JSON for each.
``sdk`` is the floor: the OpenAI SDK alone, in one event loop, recording nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.prompts.read import ParsedPrompt
    from pytest_promptfit.prompts.samples import SampleSet

RETRIES = 6


@dataclass(frozen=True)
class Cell:
    """How many calls are made at once, and in all; the latency is the prompt file's server's."""

    path: Path
    concurrency: int
    calls: int

    def __str__(self) -> str:
        return f"{self.path}:{self.concurrency}:{self.calls}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Read what ``str`` wrote."""
        path, concurrency, calls = text.rsplit(":", 2)
        return cls(Path(path), int(concurrency), int(calls))


class Watch:
    """Notes, in the asking thread, the time and the CPU time of the second answer and of the last one.

    Before the first one comes what is done once, such as imports; we ask it alone, and the others together after it.
    """

    def __init__(self) -> None:
        self._marks: list[tuple[float, float]] = []

    def progress(self, *_: int) -> None:
        """Note an answer."""
        mark = (time.perf_counter(), time.thread_time())
        self._marks[2:] = [mark]

    def took(self, calls: int) -> dict[str, float]:
        """Return seconds and CPU seconds a call."""
        _, (started, cpu_before), (ended, cpu_after) = self._marks
        return {"seconds": (ended - started) / (calls - 2), "cpu": (cpu_after - cpu_before) / (calls - 2)}


def ask_ours(parsed: ParsedPrompt, samples: SampleSet, cell: Cell) -> dict[str, float]:
    """Ask as a recording does, into an empty folder."""
    from pytest_promptfit.evaluation.forward import Asking, forward
    from pytest_promptfit.providers.usage import Limits

    watch = Watch()
    asking = Asking(Limits(), concurrency=cell.concurrency, progress=watch.progress)
    with tempfile.TemporaryDirectory() as folder:
        found = forward(parsed, samples, samples.samples[: cell.calls], Path(folder), asking=asking)
    assert all(outcome.reply for outcome in found.outcomes)
    return watch.took(cell.calls)


def ask_sdk(parsed: ParsedPrompt, samples: SampleSet, cell: Cell) -> dict[str, float]:
    """Ask through the SDK alone."""
    from pytest_promptfit.providers.wire import Wire

    wire = Wire(parsed.config, samples.labels, parsed.path.parent)
    payloads = iter([wire.payload(sample.text) for sample in samples.samples[: cell.calls]])
    watch = Watch()
    lost = asyncio.run(_ask_all(str(parsed.config.model.base_url), payloads, cell.concurrency, watch))
    return {**watch.took(cell.calls), "lost": lost}


async def _ask_all(url: str, payloads: Iterator[dict[str, Any]], concurrency: int, watch: Watch) -> int:
    import httpx2
    import openai

    lost = 0
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
    async with (
        httpx2.AsyncClient(limits=limits, timeout=60, trust_env=False) as http,
        openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=RETRIES, http_client=http) as client,
    ):

        async def work() -> None:
            nonlocal lost
            for payload in payloads:
                try:
                    await client.chat.completions.create(**payload)
                except openai.APIError:
                    lost += 1
                watch.progress()

        await asyncio.gather(*(work() for _ in range(concurrency)))
    return lost


def main(way: str, cells: Sequence[str]) -> None:
    """Ask, cell by cell."""
    ask = {"ours": ask_ours, "sdk": ask_sdk}[way]
    for cell in map(Cell.parse, cells):
        parsed = parse_prompt_file(cell.path)
        print(json.dumps(ask(parsed, read_samples(parsed), cell)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
