"""The prompt file in production: load it, call it. Imports neither pytest nor pandas nor vcrpy.

Calls go to the model; nothing is recorded and nothing is replayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_promptfit.background import Background
from pytest_promptfit.custom import OURS, Custom
from pytest_promptfit.prompt_file import ParsedPrompt, parse_prompt_file
from pytest_promptfit.samples import check_prompt_labels, read_samples
from pytest_promptfit.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pytest_promptfit.chat import ChatReply
    from pytest_promptfit.custom import Extract, MakeClient

MAX_RETRIES = 4


@dataclass(frozen=True, slots=True)
class Prediction:
    """The label of a text, ``None`` when none could be read, and the reply it was read from."""

    label: str | None
    reply: ChatReply


class Classifier:
    """A prompt file as a function from text to label; safe to call from threads and event loops alike.

    The connection is opened by the first call and lives on in a thread of its own; ``close`` ends it.
    """

    def __init__(self, parsed: ParsedPrompt, labels: tuple[str, ...], custom: Custom = OURS) -> None:
        self.path = parsed.path
        self.name = parsed.name
        self.labels = labels
        self.custom = custom
        self._wire = Wire(parsed.config, labels, parsed.path.parent, custom=custom)
        self._background = Background(self._connect)

    def __call__(self, text: str) -> Prediction:
        """Classify a text; raise CallError when the model cannot be asked."""
        return self._background.run(lambda send: self._classify(send, text))

    async def acall(self, text: str) -> Prediction:
        """Classify a text from async code."""
        return await self._background.arun(lambda send: self._classify(send, text))

    def batch(self, texts: Iterable[str], *, concurrency: int = 16) -> list[Prediction]:
        """Classify texts, ``concurrency`` at a time, and return the predictions in their order."""
        return self._background.run(lambda send: self._classify_all(send, list(texts), concurrency))

    def messages(self, text: str) -> list[dict[str, Any]]:
        """Return the chat messages for a text, for people who call the model themselves."""
        payload = self._wire.payload(text)
        system = payload.get("system")
        return [*([{"role": "system", "content": system}] if system else []), *payload["messages"]]

    def payload(self, text: str) -> dict[str, Any]:
        """Return the whole JSON body that is sent for a text."""
        return self._wire.payload(text)

    def close(self) -> None:
        """Close the connection; a later call opens it anew."""
        self._background.close()

    def _connect(self) -> Any:
        self._wire.provider.check()
        return self._wire.provider.connect(max_retries=MAX_RETRIES)

    async def _classify(self, send: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]], text: str) -> Prediction:
        reply, label = self._wire.read(await send(self._wire.payload(text)), text)
        return Prediction(label, reply)

    async def _classify_all(
        self, send: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]], texts: list[str], concurrency: int
    ) -> list[Prediction]:
        import asyncio

        places = asyncio.Semaphore(concurrency)

        async def classify(text: str) -> Prediction:
            async with places:
                return await self._classify(send, text)

        return list(await asyncio.gather(*map(classify, texts)))


def load_prompt(path: str | Path, *, client: MakeClient | None = None, extract: Extract | None = None) -> Classifier:
    """Read a prompt file and return its classifier.

    The samples are read only when the file does not list its ``labels``.

    Args:
        path: the prompt file.
        client: returns a new client, or a function that is the model, as the hook ``pytest_promptfit_client``
            does: called with the ``ModelSpec`` when a connection is opened; ``close`` closes what it returned.
        extract: reads the label of ``(reply, text)``, as the hook ``pytest_promptfit_extract`` does.

    Raises:
        PromptFileError: the prompt file is wrong.
    """
    parsed = parse_prompt_file(Path(path))
    labels = parsed.config.labels
    if labels:
        check_prompt_labels(parsed, labels)
    else:
        labels = read_samples(parsed).labels
    return Classifier(parsed, labels, Custom(client, extract))
