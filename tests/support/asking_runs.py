"""Many questions to a server on loopback, and the answers by their index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopback_server import (
    Answer,
    LoopbackServer,
    Seen,
    chat,
)

from pytest_promptfit.cassettes.cassette import Asked
from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.model import ModelSpec
from pytest_promptfit.providers.asking import ask
from pytest_promptfit.providers.wire import provider_of

if TYPE_CHECKING:
    from pytest_promptfit.providers.usage import Usage

PRICED = ModelSpec(provider="openai", name="gpt-4.1-nano")
CALL_USD = (0.10 * 100 + 0.40 * 10) / 1e6
"""What one answer of the test server costs by OpenAI's list: 0.10 and 0.40 USD a million tokens."""

URL = "http://127.0.0.1/v1/chat/completions"
"""What the questions are recorded under, wherever they go."""


def questions(count: int, **params: Any) -> list[Asked]:
    return [
        Asked.of(URL, {"model": "m", "messages": [{"role": "user", "content": str(n)}], **params}, f"s{n}")
        for n in range(count)
    ]


class Answers(dict[int, Any]):
    """Collects answers by index; an index answered twice is a mistake."""

    def __call__(self, index: int, answer: Any) -> None:
        assert index not in self
        self[index] = answer

    @property
    def texts(self) -> dict[int, str]:
        return {index: body["choices"][0]["message"]["content"] for index, body in self.replies.items()}

    @property
    def replies(self) -> dict[int, dict[str, Any]]:
        return {index: answer for index, answer in self.items() if isinstance(answer, dict)}

    @property
    def errors(self) -> dict[int, PromptfitError]:
        return {index: answer for index, answer in self.items() if isinstance(answer, PromptfitError)}


def run(
    server: LoopbackServer,
    asked: list[Asked],
    *,
    name: str = "openai",
    price_of: ModelSpec | None = None,
    **options: Any,
) -> tuple[Answers, Usage]:
    spec = ModelSpec(provider=name, name="m", base_url=server.url, timeout=options.pop("timeout", 20.0))
    answers = options.pop("answers", None) or Answers()
    options.setdefault("on_answer", answers)
    return answers, ask(asked, provider_of(spec, Path()), price_of or spec, **options)


def echo(seen: Seen) -> Answer:
    return chat(seen.body["messages"][0]["content"])


def said_in(seen: Seen) -> str:
    said: str = seen.body["messages"][0]["content"]
    return said
