"""The batch APIs of OpenAI and Anthropic on loopback, for the model of the moods: batches end when a test says so."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from loopback_server import Answer, Seen, chat, error, json_answer, message
from mood_project import Model

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Held:
    """A batch as the server has it: ``asked`` are the bodies by custom id, ``left`` those without an answer."""

    id: str
    asked: dict[str, dict[str, Any]]
    metadata: dict[str, str] = field(default_factory=dict)
    status: str = "in_progress"
    errors: tuple[str, ...] = ()
    left: frozenset[str] = frozenset()
    created: datetime = field(default_factory=lambda: datetime.now(UTC))


class BatchModel(Model):
    """A model that can be asked in batches too.

    ``first`` may answer a request before the API does, or after it has done what was asked where it is in ``late``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Held] = []
        self.first: Callable[[Seen], Answer | None] = lambda _: None
        self.late = False
        self._files: dict[str, bytes] = {}

    @property
    def asked_alone(self) -> int:
        """How many single calls came."""
        return sum(seen.path.endswith(("/chat/completions", "/messages")) for seen in self.server.seen)

    def end(self, status: str = "completed", *, leaves: str = "", errors: tuple[str, ...] = ()) -> None:
        """End all batches that are under way; texts with ``leaves`` in them get no answer."""
        for batch in self.held:
            if batch.status in ("in_progress", "cancelling"):
                batch.status, batch.errors = status, errors
                gone = (key for key, body in batch.asked.items() if leaves and leaves in _text(body))
                batch.left = frozenset(gone)

    def _answer(self, seen: Seen) -> Answer:
        answer = None if self.late else self.first(seen)
        made = answer or self._of_api(seen)
        return (self.first(seen) if self.late else None) or made

    def _of_api(self, seen: Seen) -> Answer:
        parts = seen.path.partition("?")[0].removeprefix("/v1/").split("/")
        if parts[0] == "files":
            return self._file(seen, parts[1:])
        if parts[0] == "batches":
            return self._openai(seen, parts[1:])
        if parts[:2] == ["messages", "batches"]:
            return self._anthropic(seen, parts[2:])
        return self._reply(seen.body, message if parts == ["messages"] else chat)

    def _file(self, seen: Seen, parts: list[str]) -> Answer:
        if parts:
            return Answer(200, self._files[parts[0]], content_type="application/octet-stream")
        boundary = seen.headers["content-type"].partition("boundary=")[2].encode()
        (content,) = (part for part in seen.content.split(b"--" + boundary) if b"filename=" in part)
        name = f"file-{len(self._files)}"
        self._files[name] = content.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        return json_answer({"id": name, "object": "file", "purpose": "batch"})

    def _openai(self, seen: Seen, parts: list[str]) -> Answer:
        if parts:
            batch = next((batch for batch in self.held if batch.id == parts[0]), None)
            if batch is None:
                return error(404, "No batch found")
            if parts[1:] == ["cancel"]:
                batch.status = "cancelling"
            return json_answer(self._openai_batch(batch))
        if seen.method == "GET":
            return json_answer({"object": "list", "data": list(map(self._openai_batch, self.held[::-1]))})
        lines = self._files[seen.body["input_file_id"]].splitlines()
        asked = {line["custom_id"]: line["body"] for line in map(json.loads, lines)}
        assert len(asked) == len(lines), "a custom id may not come twice"
        self.held.append(Held(f"batch_{len(self.held)}", asked, seen.body["metadata"]))
        return json_answer(self._openai_batch(self.held[-1]))

    def _openai_batch(self, batch: Held) -> dict[str, Any]:
        is_ended = batch.status in ("completed", "expired", "cancelled")
        files = self._openai_results(batch) if is_ended else {}
        answers = files.get("output_file_id", b"").count(b"\n")
        for name, content in files.items():
            self._files[f"{batch.id}-{name}"] = content
        return {
            "id": batch.id,
            "object": "batch",
            "status": batch.status,
            "created_at": int(batch.created.timestamp()),
            "metadata": batch.metadata,
            "errors": {"data": [{"code": "bad", "message": text} for text in batch.errors]},
            "request_counts": {"total": len(batch.asked), "completed": answers, "failed": 0},
            **{name: f"{batch.id}-{name}" for name, content in files.items() if content},
        }

    def _openai_results(self, batch: Held) -> dict[str, bytes]:
        files = {"output_file_id": b"", "error_file_id": b""}
        for key, body in reversed(batch.asked.items()):
            code = f"batch_{batch.status}"
            result: dict[str, Any] = {"response": None, "error": {"code": code, "message": f"This request {code}."}}
            name = "error_file_id"
            if key not in batch.left:
                answer = self._reply(body, chat)
                result = {"response": {"status_code": answer.status, "body": json.loads(answer.body)}, "error": None}
                name = "output_file_id" if answer.status == 200 else name
            line = json.dumps({"id": f"batch_req_{key[:4]}", "custom_id": key, **result})
            files[name] += f"{line}\n".encode()
        return files

    def _anthropic(self, seen: Seen, parts: list[str]) -> Answer:
        if parts:
            batch = next((batch for batch in self.held if batch.id == parts[0]), None)
            if batch is None:
                return error(404, "not found", "not_found_error")
            if parts[1:] == ["cancel"]:
                batch.status = "cancelling"
            if parts[1:] == ["results"]:
                lines = [self._anthropic_result(batch, key) for key in reversed(batch.asked)]
                return Answer(200, "".join(f"{json.dumps(line)}\n" for line in lines).encode())
            return json_answer(_anthropic_batch(batch))
        if seen.method == "GET":
            return json_answer({"data": list(map(_anthropic_batch, self.held[::-1])), "has_more": False})
        asked = {one["custom_id"]: one["params"] for one in seen.body["requests"]}
        assert len(asked) == len(seen.body["requests"]), "a custom id may not come twice"
        self.held.append(Held(f"msgbatch_{len(self.held)}", asked))
        return json_answer(_anthropic_batch(self.held[-1]))

    def _anthropic_result(self, batch: Held, key: str) -> dict[str, Any]:
        answer = self._reply(batch.asked[key], message)
        if key in batch.left:
            result: dict[str, Any] = {"type": batch.status.replace("cancelled", "canceled")}
        elif answer.status == 200:
            result = {"type": "succeeded", "message": json.loads(answer.body)}
        else:
            result = {"type": "errored", "error": json.loads(answer.body)}
        return {"custom_id": key, "result": result}

    def _reply(self, body: dict[str, Any], form: Callable[[str], Answer]) -> Answer:
        said = self.says(_text(body))
        return form(said) if isinstance(said, str) else said


def _text(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _anthropic_batch(batch: Held) -> dict[str, Any]:
    is_ended = batch.status in ("completed", "expired", "cancelled")
    counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
    counts["succeeded" if is_ended else "processing"] = len(batch.asked)
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if is_ended else "canceling" if batch.status == "cancelling" else "in_progress",
        "request_counts": counts,
        "created_at": batch.created.isoformat(),
        "expires_at": batch.created.isoformat(),
    }
