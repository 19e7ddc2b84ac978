"""How one prompt is put on the wire: text → JSON body, and JSON body → reply and label.

What the harness, production code and the optimizer share; nothing here sends or records.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cassette import request_key
from pytest_promptfit.chat import ChatBuilder, ChatReply, LabelReader
from pytest_promptfit.errors import CallError
from pytest_promptfit.providers import provider_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_promptfit.prompt_file import Prompt, PromptConfig


class Wire:
    """The wire format of a prompt: exactly what is sent for a text, and how the reply to it is read."""

    def __init__(self, config: PromptConfig, labels: Sequence[str], folder: Path, prompt: Prompt | None = None) -> None:
        prompt = prompt or config.prompt
        self.model = config.model
        self.provider = provider_of(config.model, folder)
        self._builder = ChatBuilder(
            prompt,
            labels,
            model=config.model.name,
            params=config.all_params,
            continues=self.provider.continues_prefix,
        )
        self._reader = LabelReader(config.extract, labels, prompt.label_words)
        self._reply_prefix = self._builder.reply_prefix
        self.asks_for_prefix = bool(self._reply_prefix) and not self.provider.continues_prefix

    def payload(self, text: str) -> dict[str, Any]:
        """Return the JSON body that classifies ``text``."""
        return self.provider.payload(self._builder.request(text))

    def key(self, payload: dict[str, Any]) -> str:
        """Return the key that the reply to ``payload`` is recorded under."""
        return request_key("POST", self.provider.url, payload)

    def read(self, body: str | dict[str, Any], text: str) -> tuple[ChatReply, str | None]:
        """Return the reply in a response body and the label read from it; raise CallError if there is none."""
        reply = self.provider.reply(parsed_body(body) if isinstance(body, str) else body, self._reply_prefix)
        return reply, self._reader.read(reply.text, text)

    def is_reply(self, body: str) -> bool:
        """Tell whether a response body holds a reply, so that it is worth keeping."""
        try:
            self.provider.reply(parsed_body(body), self._reply_prefix)
        except CallError:
            return False
        return True


def parsed_body(body: str) -> dict[str, Any]:
    """Return the JSON object of a response body; raise CallError when it is none."""
    try:
        value = json.loads(body)
    except (json.JSONDecodeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        start = " ".join(body[:80].split()) or "an empty body"
        raise CallError(f"the API answered no JSON object: {start!r}")
    return value
