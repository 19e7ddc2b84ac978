"""One question to a provider, and what comes back or goes wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pytest_promptfit.chat.request import ChatRequest, Turn
from pytest_promptfit.errors import CallError
from pytest_promptfit.prompts.model import ModelSpec
from pytest_promptfit.providers import Provider, unwrapped
from pytest_promptfit.providers.wire import provider_of

QUESTION = ChatRequest(
    model="some-model",
    system="Classify.",
    turns=(Turn("user", "nice"), Turn("assistant", "Label: 1"), Turn("user", "awful")),
    reply_prefix="Label: ",
    params={"temperature": 0},
)


def provider(model: str | dict[str, Any], folder: Path = Path(), **more: Any) -> Provider:
    spec = ModelSpec.model_validate(model)
    return provider_of(spec.model_copy(update=more), folder)


def send(
    asked: Provider,
    payload: dict[str, Any],
    *,
    wrap: Any = unwrapped,
    max_retries: int = 0,
    timeout: float | None = None,
) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        async with asked.connect(wrap=wrap, max_retries=max_retries, timeout=timeout) as post:
            return await post(payload)

    return asyncio.run(main())


def failure(asked: Provider, **options: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        send(asked, asked.payload(QUESTION), **options)
    assert str(caught.value).isprintable(), "a message is one line"
    assert len(str(caught.value)) < 400
    return caught.value
