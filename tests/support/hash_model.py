"""A model whose label hangs on a hash of what it is asked, in the shape of two chat APIs."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from typing import Any

from loopback_server import Answer, LoopbackServer, Seen

from pytest_promptfit.cassettes.cassette import request_key

QUESTION = "Classify the question: répondez — 日本語 😀"


def chat_body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}


class HashModel(LoopbackServer):
    """Answers chat requests by a hash of their body; fails first with ``failures``, and packs replies on request."""

    def __init__(self) -> None:
        super().__init__(self._reply)
        self.chat_url = f"{self.url}/v1/chat/completions"
        self.failures: list[int] = []
        self.say = ""
        self.packed = False

    @property
    def asked(self) -> Counter[str]:
        """How often each request was asked, by its key."""
        return Counter(request_key("POST", self.url + seen.path, seen.content) for seen in self.seen)

    def key(self, body: dict[str, Any]) -> str:
        return request_key("POST", self.chat_url, body)

    def asked_for(self, body: dict[str, Any]) -> int:
        return self.asked[self.key(body)]

    def _reply(self, seen: Seen) -> Answer:
        status, reply = self._said(seen)
        content = json.dumps(reply, ensure_ascii=False, indent=1).encode()
        headers = {
            "retry-after-ms": "1",
            "set-cookie": "session=cookie-of-a-person",
            "openai-organization": "org-of-a-person",
        }
        if not self.packed:
            return Answer(status, content, headers)
        return Answer(status, gzip.compress(content), {**headers, "content-encoding": "gzip"})

    def _said(self, seen: Seen) -> tuple[int, dict[str, Any]]:
        if self.failures:
            status = self.failures.pop(0)
            return status, {"error": {"message": f"failure {status}", "type": "failure", "code": None}}
        digest = hashlib.sha256(seen.content).hexdigest()
        text = f"Réponse {digest[:12]} 😀\n{self.say}<label>{int(digest, 16) % 2}</label>"
        return 200, _anthropic(digest, text) if seen.path == "/v1/messages" else _openai(digest, text)


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
