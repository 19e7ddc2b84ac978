"""How a user's own client sends: as a transport below the recording, like any other.

Imported only when something is sent: it needs the HTTP client.
"""

from __future__ import annotations

import inspect
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx2

from pytest_promptfit.cassettes.transport import note_headers
from pytest_promptfit.errors import CallError, PromptfitError
from pytest_promptfit.providers.http import NETWORK_ERRORS, PACKED_HEADERS, unsendable
from pytest_promptfit.providers.replies import refusal_of
from pytest_promptfit.text import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Said: TypeAlias = str | dict[str, Any]
    """A reply: its words, or the API's whole JSON."""

    ModelFunction: TypeAlias = Callable[[dict[str, Any]], Said | Awaitable[Said]]
    """A model: the JSON body of a request → the reply."""
    from pytest_promptfit.prompts.model import ModelSpec
    from pytest_promptfit.providers import Send

CONNECTION_HEADERS = frozenset({"accept", "accept-encoding", "connection"})
"""What every client has of its own accord; the SDK knows better what it wants."""


def is_client(value: object) -> bool:
    """Tell whether a value can ask a model, or be one."""
    return isinstance(value, httpx2.AsyncClient) or asks_itself(value)


def asks_itself(client: object) -> bool:
    """Tell whether a client needs no SDK of ours: it is one, or a function."""
    return not isinstance(client, httpx2.AsyncClient) and (
        _is_sdk(client) or (callable(client) and not isinstance(client, type))
    )


def _is_sdk(client: object) -> bool:
    return hasattr(client, "with_options") and inspect.iscoroutinefunction(getattr(client, "post", None))


class ClientTransport(httpx2.AsyncBaseTransport):
    """Sends through a user's ``httpx2.AsyncClient``: its headers, auth, cookies, TLS and proxies."""

    def __init__(self, client: httpx2.AsyncClient, told: Callable[[Exception], str]) -> None:
        self._client = client
        self._told = told

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request`` as the client's own; errors that are not the network's are told as the user's."""
        own = {name: value for name, value in self._client.headers.items() if name not in CONNECTION_HEADERS}
        headers = httpx2.Headers(request.headers)
        headers.update(own)
        content = await request.aread()
        try:
            sent = self._client.build_request(
                request.method, request.url, headers=headers, content=content, extensions=request.extensions
            )
            response = await self._client.send(sent)
        except (*NETWORK_ERRORS, PromptfitError):
            raise
        except Exception as error:
            raise CallError(self._told(error), fatal=True) from None
        headers = httpx2.Headers(response.headers)
        # The client has unpacked the body.
        for name in PACKED_HEADERS:
            headers.pop(name, None)
        return httpx2.Response(response.status_code, headers=headers, content=response.content)

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()


class FunctionTransport(httpx2.AsyncBaseTransport):
    """Answers with what a function makes of a request's JSON: an SDK's client, or a model in this process."""

    def __init__(
        self,
        function: ModelFunction,
        close: Callable[[], Awaitable[None]] | None,
        spec: ModelSpec,
        told: Callable[[Exception], str],
    ) -> None:
        self._function = function
        self._close = close
        self._spec = spec
        self._told = told

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the function's reply as the API would; raise ``CallError`` when there is none."""
        payload = json.loads(await request.aread())
        try:
            said = self._function(payload)
            if inspect.isawaitable(said):
                said = await said
            # Marked, since it has no headers of a server that could be noted.
            return httpx2.Response(200, json=self._body(said), extensions={"made_here": True})
        except PromptfitError:
            raise
        except Exception as error:
            raise self._call_error(error, payload) from None

    def _call_error(self, error: Exception, payload: dict[str, Any]) -> CallError:
        """Return an error of the function, or of the SDK behind it, as far as it tells who else would meet it."""
        told = f"{self._spec}: {self._told(error)}"
        status = getattr(error, "status_code", None)
        if not isinstance(status, int):
            unreachable = isinstance(error.__cause__ or error, httpx2.ConnectError | ConnectionError)
            return CallError(told, fatal=unreachable)
        # The SDKs have taken the error object out of the body.
        refusal = refusal_of(status, {"error": getattr(error, "body", None)}, payload)
        meant = refusal.error("", url="", key="")
        return CallError(
            f"{told}; {refusal.cure}" if refusal.cure else told,
            fatal=meant.fatal,
            passing=meant.passing,
            too_many=meant.too_many,
            hopeless_after=meant.hopeless_after,
        )

    async def aclose(self) -> None:
        """Close the client behind the function."""
        if self._close is not None:
            await self._close()

    def _body(self, said: Said) -> dict[str, Any]:
        if isinstance(said, dict):
            return said
        if not isinstance(said, str):
            raise TypeError(f"expected the reply's words (str) or the API's JSON (dict), found {shown(said)}")
        if self._spec.provider == "anthropic":
            return {"content": [{"type": "text", "text": said}], "stop_reason": "end_turn"}
        if self._spec.decides:
            return {"answers": [{"type": "choice", "choice": said}]}
        return {"choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]}


def function_of(
    client: Any, spec: ModelSpec, max_retries: int
) -> tuple[ModelFunction, Callable[[], Awaitable[None]] | None]:
    """Return a client that asks by itself as a function, and what closes it."""
    if not _is_sdk(client):
        return client, None
    # A recording waits longer than one call would, and no shorter than the user wants.
    patient = client.with_options(max_retries=max(max_retries, client.max_retries))
    paths = {"anthropic": "/v1/messages", "openai-decisions": "/decisions", "systemone": "/systemone"}
    path = paths.get(spec.provider, "/chat/completions")

    async def post(payload: dict[str, Any]) -> dict[str, Any]:
        response = await patient.post(path, cast_to=httpx2.Response, body=payload)
        note_headers(response.headers)
        body = response.json()
        if not isinstance(body, dict):
            raise TypeError(f"expected a JSON object, found {shown(body)}")
        return body

    return post, client.close


@asynccontextmanager
async def sending_through(transport: httpx2.AsyncBaseTransport, url: str, spec: ModelSpec) -> AsyncIterator[Send]:
    """Yield the function that sends a payload through ``transport`` alone, with no SDK above it."""

    async def send(payload: dict[str, Any]) -> dict[str, Any]:
        try:
            request = httpx2.Request("POST", url, json=payload)
        except UnicodeEncodeError:
            raise unsendable(spec) from None
        response = await transport.handle_async_request(request)
        body: dict[str, Any] = json.loads(await response.aread())
        return body

    try:
        yield send
    finally:
        await transport.aclose()
