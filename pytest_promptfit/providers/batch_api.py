"""The batch APIs of OpenAI and Anthropic: many requests in one go, answered within a day, at half the price.

What goes in and comes out, and what each says of it; when it is submitted or collected is decided in ``batches``.
Imported only when something is sent: it needs the HTTP client.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import httpx2

from pytest_promptfit.errors import CallError
from pytest_promptfit.providers import Progress
from pytest_promptfit.providers.http import Broken, call_error, json_or_text, status_error
from pytest_promptfit.providers.replies import unreadable
from pytest_promptfit.text import one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
    from types import ModuleType

    from pytest_promptfit.cassettes.batches import Batch
    from pytest_promptfit.cassettes.cassette import Asked
    from pytest_promptfit.providers import Answer
    from pytest_promptfit.providers.http import Wanted

CLOCKS_APART = 300
"""Seconds that the clocks of an API and of this machine may be apart."""

TRANSFER_SECONDS = 600.0
"""How long thousands of requests, or their results, may take on their way."""

NO_SUCH_API = (404, 405, 501)
METADATA = "promptfit"
"""Where OpenAI keeps our own name of a batch."""

ANTHROPIC_STATUSES = {
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that a request of a batch would have had, by the type of its error; of any other it is 400."""


class SdkBatches(ABC):
    """A batch API behind the client of its SDK."""

    most_requests: ClassVar[int]
    most_bytes: ClassVar[int]
    path: ClassVar[tuple[str, str]]
    """The end of the URL of single calls, and that of batches in its place."""

    def __init__(self, client: Any, sdk: ModuleType, wanted: Wanted) -> None:
        self._client = client
        self._sdk = sdk
        self._wanted = wanted

    @abstractmethod
    def line(self, asked: Asked) -> dict[str, Any]:
        """Return a request as it stands in a batch: named by its key, with the body of a single call."""

    async def submit(self, asked: Sequence[Asked], mark: str) -> str:
        """Submit requests as one batch, once, and return its id."""
        try:
            with self._telling():
                return await self._submit([self.line(one) for one in asked], mark)
        except _NoSuchError as error:
            raise CallError(
                f"{self._wanted.spec}: no batch API at {self._wanted.url} ({error.status}): "
                "record without it: pytest --promptfit --promptfit-record",
                fatal=True,
            ) from None

    async def find(self, batch: Batch, known: Collection[str]) -> str:
        """Return the id, not one of ``known``, of a batch that may have been submitted; ``""`` where there is none."""
        with self._telling():
            return await self._find(batch, known)

    async def look(self, id: str) -> Progress | None:  # noqa: A002
        """Return how far a batch is; ``None`` where the API knows of none with this id."""
        try:
            with self._telling():
                return await self._look(id)
        except _NoSuchError:
            return None

    async def cancel(self, id: str) -> None:  # noqa: A002
        """Have nothing more of a batch be answered."""
        with self._telling():
            await self._cancel(id)

    async def results(self, progress: Progress, asked: Mapping[str, Asked]) -> AsyncIterator[tuple[Asked, Answer]]:
        """Yield the requests of a batch that ended, in any order, each with what came of it."""
        for file in progress.files:
            with self._telling():
                content = await self._content(file)
            results = [json_or_text(line.decode("utf-8", "replace")) for line in content.splitlines()]
            named = {str(one["custom_id"]): one for one in results if isinstance(one, dict) and "custom_id" in one}
            if results and not named:  # a proxy's page, say: taken for results, it would lose what was paid for
                raise unreadable(self._wanted.spec, None, ())
            for key in named.keys() & asked.keys():
                yield asked[key], self._read(named[key], asked[key])

    def left_over(self, how: str) -> CallError:
        """Return why a request has no answer although its batch ended."""
        why = {"expired": "its batch expired before it was answered", "cancelled": "its batch was cancelled"}
        said = why.get(how, "its batch has no result for it")
        return CallError(f"{self._wanted.spec}: {said}: --promptfit-record=batch submits it again")

    @abstractmethod
    async def _submit(self, lines: Sequence[dict[str, Any]], mark: str) -> str: ...

    @abstractmethod
    async def _find(self, batch: Batch, known: Collection[str]) -> str: ...

    @abstractmethod
    async def _look(self, id: str) -> Progress: ...  # noqa: A002

    @abstractmethod
    async def _cancel(self, id: str) -> None: ...  # noqa: A002

    @abstractmethod
    async def _content(self, file: str) -> bytes: ...

    @abstractmethod
    def _answer(self, result: dict[str, Any], asked: Asked) -> Answer: ...

    def _read(self, result: dict[str, Any], asked: Asked) -> Answer:
        try:
            with self._telling():
                return self._answer(result, asked)
        except CallError as error:
            return error

    def _failed(self, status: int, body: object, asked: Asked) -> CallError:
        """Return the error of one request, as a single call would have met it."""
        return status_error(httpx2.Response(status, json=body), self._wanted, asked.payload)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell what the SDK raises as ours, and an answer of another form as one that cannot be read."""
        try:
            yield
        except Broken as broken:
            raise broken.error from None
        except self._sdk.APIError as error:
            status = getattr(error, "status_code", None)
            if status in NO_SUCH_API:
                raise _NoSuchError(call_error(error, self._sdk, self._wanted, {}), status) from None
            raise call_error(error, self._sdk, self._wanted, {}) from None
        except (AttributeError, LookupError, TypeError, ValueError):
            raise unreadable(self._wanted.spec, None, ()) from None

    @contextmanager
    def _once(self) -> Iterator[None]:
        """Have the SDK send what comes once: a second try could make a second batch, and cost as much again."""
        retries, self._client.max_retries = self._client.max_retries, 0
        try:
            yield
        finally:
            self._client.max_retries = retries


class _NoSuchError(CallError):
    """The API has no such thing."""

    def __init__(self, error: CallError, status: int) -> None:
        super().__init__(str(error), fatal=True)
        self.status = status


class OpenAIBatches(SdkBatches):
    """Batches of ``/chat/completions``: requests and results are files."""

    most_requests = 50_000
    most_bytes = 200 * 10**6
    path = ("/chat/completions", "/batches")

    def line(self, asked: Asked) -> dict[str, Any]:
        """Return a line of the file that is uploaded."""
        return {"custom_id": asked.key, "method": "POST", "url": "/v1/chat/completions", "body": asked.payload}

    async def _submit(self, lines: Sequence[dict[str, Any]], mark: str) -> str:
        content = "".join(f"{_json(line)}\n" for line in lines).encode()
        file = await self._client.files.create(
            file=(f"{mark}.jsonl", content), purpose="batch", timeout=TRANSFER_SECONDS
        )
        with self._once():
            batch = await self._client.batches.create(
                completion_window="24h",
                endpoint="/v1/chat/completions",
                input_file_id=_text(file.id),
                metadata={METADATA: mark},
            )
        return _text(batch.id)

    async def _find(self, batch: Batch, known: Collection[str]) -> str:
        async for one in self._client.batches.list(limit=100):  # the newest first
            if one.created_at < batch.submitted - CLOCKS_APART:
                break
            if one.id not in known and (one.metadata or {}).get(METADATA) == batch.mark:
                return _text(one.id)
        return ""

    async def _look(self, id: str) -> Progress:  # noqa: A002
        batch = await self._client.batches.retrieve(id)
        counts, status = batch.request_counts, _text(batch.status)
        refusals = [error.message or error.code or "" for error in (batch.errors and batch.errors.data) or ()]
        more = f" (and {len(refusals) - 1} more errors)" if len(refusals) > 1 else ""
        refusal = f"{one_line(refusals[0] if refusals else 'it does not say why')}{more}"
        return Progress(
            id,
            done=counts.completed + counts.failed if counts else 0,
            total=counts.total if counts else 0,
            is_ended=status in ("completed", "expired", "cancelled"),
            is_ending=status == "cancelling",
            refusal=refusal if status == "failed" else "",
            ended_by=status,
            files=tuple(filter(None, (batch.output_file_id, batch.error_file_id))),
        )

    async def _cancel(self, id: str) -> None:  # noqa: A002
        await self._client.batches.cancel(id)

    async def _content(self, file: str) -> bytes:
        content: bytes = (await self._client.files.content(file, timeout=TRANSFER_SECONDS)).content
        return content

    def _answer(self, result: dict[str, Any], asked: Asked) -> Answer:
        response = result.get("response") or {}
        status, body = response.get("status_code"), response.get("body")
        if isinstance(status, int) and 200 <= status < 300:
            return _json(body)
        error = result.get("error") or {}
        code = str(error.get("code"))
        if code in ("batch_expired", "batch_cancelled"):
            return self.left_over(code.removeprefix("batch_"))
        return self._failed(status or 500, body or {"error": error}, asked)


class AnthropicBatches(SdkBatches):
    """Batches of ``/v1/messages``: requests are one body, and results one file once all of them are done."""

    most_requests = 100_000
    most_bytes = 256 * 10**6
    path = ("/v1/messages", "/v1/messages/batches")

    def line(self, asked: Asked) -> dict[str, Any]:
        """Return an item of ``requests``."""
        return {"custom_id": asked.key, "params": asked.payload}

    async def _submit(self, lines: Sequence[dict[str, Any]], mark: str) -> str:  # noqa: ARG002 - it has no place for it
        with self._once():
            return _text((await self._client.messages.batches.create(requests=lines, timeout=TRANSFER_SECONDS)).id)

    async def _find(self, batch: Batch, known: Collection[str]) -> str:
        """Return the one that was made at that time and has as many requests: our own name for it has no place."""
        async for one in self._client.messages.batches.list(limit=100):  # the newest first
            if one.created_at.timestamp() < batch.submitted - CLOCKS_APART:
                break
            if one.id not in known and _total(one) == batch.requests:
                return _text(one.id)
        return ""

    async def _look(self, id: str) -> Progress:  # noqa: A002
        batch = await self._client.messages.batches.retrieve(id)
        return Progress(
            id,
            done=_total(batch) - batch.request_counts.processing,
            total=_total(batch),
            is_ended=batch.processing_status == "ended",
            is_ending=batch.processing_status == "canceling",
            files=(f"/v1/messages/batches/{id}/results",),
        )

    async def _cancel(self, id: str) -> None:  # noqa: A002
        await self._client.messages.batches.cancel(id)

    async def _content(self, file: str) -> bytes:
        # Not through `results`: it makes objects of the replies, and what is recorded is what was sent.
        options = {"timeout": TRANSFER_SECONDS}
        response: httpx2.Response = await self._client.get(file, cast_to=httpx2.Response, options=options)
        return response.content

    def _answer(self, result: dict[str, Any], asked: Asked) -> Answer:
        found = result["result"]
        if found["type"] == "succeeded":
            return _json(found["message"])
        if found["type"] in ("expired", "canceled"):
            return self.left_over(found["type"].replace("canceled", "cancelled"))
        error = found["error"]
        return self._failed(ANTHROPIC_STATUSES.get(error["error"]["type"], 400), error, asked)


def _total(batch: Any) -> int:
    counts = batch.request_counts
    return int(counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("a value of another type than the API has")
    return value


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
