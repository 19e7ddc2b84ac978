"""What leaves the process: transports, the SDKs' clients, and their errors told in one line.

Imported only when something is sent: it needs the HTTP client.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import ssl
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx2

from pytest_promptfit.cassettes.transport import body_of, text_of
from pytest_promptfit.errors import CallError
from pytest_promptfit.providers.replies import (
    NoReplyError,
    error_message,
    failure_status,
    refusal_of,
    unreadable,
)
from pytest_promptfit.providers.usage import TRIES
from pytest_promptfit.text import one_line, scrubber

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from pytest_promptfit.prompts.model import ModelSpec
    from pytest_promptfit.providers import ApiKey, Send

NO_KEY = "no-key-needed"
"""What a server that wants no key is sent, since the SDKs insist on one."""

CONNECTIONS = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
CONNECT_SECONDS = 10.0
RETRY_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry")
NETWORK_ERRORS = (httpx2.RequestError, ssl.SSLError, anyio.EndOfStream)
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol)
"""What of those says that the request never reached a model, so that nobody can want money for it."""

PACKED_HEADERS = ("content-encoding", "content-length", "transfer-encoding")
"""What says of a body how it was sent, and no longer holds for one that is unpacked."""

LONGEST_RESULTS = 2**30
"""Bytes, unpacked, that the results of a batch may have."""

FAILED_200 = "with an error, or nothing, in it"
"""Marks the response to a 200 that is no reply, among its extensions, and says so."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which model is asked, where, and with which key: what an error message has to name."""

    spec: ModelSpec
    url: str
    key: ApiKey

    def scrub(self, text: str) -> str:
        """Return ``text`` without any key in it."""
        return scrubber(self.key.secrets())(text)


class Broken(BaseException):
    """Carries an error that is not the network's past the SDK.

    It is no ``Exception`` because the SDKs take any of those for a lost connection and ask, and pay, again.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Lets only whole replies, and the network's own errors, reach the SDK and its retries.

    A 200 that carries an error, or nothing, goes on with the status that it should have had. The ``TRIES`` of the
    call are told of each.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request``; a full disk under the recording, say, is no reason to ask again."""
        tries = TRIES.get()
        may_be_paid = False
        try:
            await tries.begin()
            may_be_paid = True
            response = await self._inner.handle_async_request(request)
            may_be_paid = response.is_success
            if response.status_code == HTTPStatus.NOT_IMPLEMENTED:
                response.headers["x-should-retry"] = "false"  # it will not be later on either
            async with body_of(response, request) as content:
                text = text_of(response, content)
            whole = _as_it_should_be(response, text)
        except Exception as error:
            if may_be_paid and not isinstance(error, UNSENT):
                tries.lose()
            if isinstance(error, NETWORK_ERRORS):
                raise
            raise Broken(error) from error
        finally:
            tries.end()
        # It came as a 200, so it may be paid for, and the SDK will ask again.
        if whole is not response:
            tries.lose()
        return whole

    async def aclose(self) -> None:
        """Close what is below."""
        await self._inner.aclose()


def _as_it_should_be(response: httpx2.Response, text: str) -> httpx2.Response:
    """Return a response as it is, or with the status of the failure that it carries."""
    status = (failure_status(json_or_text(text)) if text.strip() else 502) if response.is_success else None
    if status is None:
        return response
    headers = {name: response.headers[name] for name in RETRY_HEADERS if name in response.headers}
    return httpx2.Response(status, headers=headers, text=text, extensions={**response.extensions, FAILED_200: True})


class LongTransport(httpx2.AsyncBaseTransport):
    """Lets answers reach the SDK whole that are longer than a reply: the results of a batch hold thousands."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request``; what is no fault of the network is no reason to send it again."""
        try:
            response = await self._inner.handle_async_request(request)
            async with body_of(response, request, LONGEST_RESULTS) as content:
                text = text_of(response, content, LONGEST_RESULTS)
        except NETWORK_ERRORS:
            raise
        except Exception as error:
            raise Broken(error) from error
        headers = {name: value for name, value in response.headers.items() if name not in PACKED_HEADERS}
        return httpx2.Response(response.status_code, headers=headers, content=text.encode())

    async def aclose(self) -> None:
        """Close what is below."""
        await self._inner.aclose()


class LoopbackTransport(httpx2.AsyncBaseTransport):
    """Sends to a server in this process, whatever host and port the request names.

    The server works on ``at_once`` requests, others wait here: production code may send more.
    """

    def __init__(self, address: Callable[[], str], at_once: int) -> None:
        self._address = address
        self._real: httpx2.URL | None = None
        limits = httpx2.Limits(max_connections=at_once)
        self._inner = httpx2.AsyncHTTPTransport(limits=limits, trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a copy, so that what is above keeps the fixed URL; the first request starts the server."""
        if self._real is None:
            self._real = httpx2.URL(await asyncio.to_thread(self._address))
        url = request.url.copy_with(scheme=self._real.scheme, host=self._real.host, port=self._real.port)
        sent = httpx2.Request(
            request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
        )
        return await self._inner.handle_async_request(sent)

    async def aclose(self) -> None:
        """Close the connections; the server stays for the next client."""
        await self._inner.aclose()


def transport_to(spec: ModelSpec, url: str) -> httpx2.AsyncBaseTransport:
    """Return a transport to ``url``, through the environment's proxy if it names one for it."""
    proxy = _proxy_for(url)
    try:
        _ = urlsplit(proxy).port if proxy else None  # connecting would fail at one that is none
        return httpx2.AsyncHTTPTransport(verify=_tls(), limits=CONNECTIONS, proxy=proxy)
    except ImportError as error:
        raise CallError(f"{spec}: the environment's proxy cannot be used: {one_line(str(error))}", fatal=True) from None
    except (ValueError, httpx2.InvalidURL):  # their words may quote the proxy's password
        wanted = "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is no URL such as http://proxy.example.org:3128"
        raise CallError(f"{spec}: the environment's proxy cannot be used: {wanted}", fatal=True) from None


@cache
def _tls() -> ssl.SSLContext:
    """Return what verifies servers, made once: reading the certificates takes 20 ms, and a tuning run asks often."""
    return httpx2.create_ssl_context()


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_loopback = host == "localhost" or host.endswith(".localhost")
    with suppress(ValueError):  # a name, and no address
        is_loopback = is_loopback or ip_address(host).is_loopback
    if is_loopback or proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def http_client(transport: httpx2.AsyncBaseTransport, timeout: float) -> httpx2.AsyncClient:
    """Return the client that an SDK is given; ``timeout`` is the seconds that one answer may take."""
    # Waiting for a free connection is no failure: `pool` has no limit.
    limit = httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS), pool=None)
    return httpx2.AsyncClient(
        # The key goes to no other server, and the environment's proxy is in the transport already.
        transport=transport,
        follow_redirects=False,
        timeout=limit,
        trust_env=False,
    )


def sdk_of(spec: ModelSpec, name: str) -> ModuleType:
    """Import an SDK; a missing one is a fatal ``CallError``."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CallError(
            f"{spec}: the {name} SDK cannot be imported ({error}): pip install {name}", fatal=True
        ) from None


def sender(client: Any, sdk: ModuleType, wanted: Wanted) -> Send:
    """Return the function that posts a payload through the SDK's ``client`` and returns the reply's JSON.

    The SDK's low-level ``post`` sends any parameter as it is, known to this version of the SDK or not.
    """

    async def send(payload: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(wanted.spec.deadline):
                response = await client.post(wanted.url, cast_to=httpx2.Response, body=payload)
        except TimeoutError:
            within = f"within {wanted.spec.deadline:g} s, retries included"
            raise NoReplyError(f"{wanted.spec}: no reply {within}; raise model.deadline", passing=True) from None
        except Broken as broken:
            raise broken.error from None
        except sdk.APIError as error:
            raise call_error(error, sdk, wanted, payload) from None
        except UnicodeEncodeError:
            raise unsendable(wanted.spec) from None
        return _json_object(response, wanted)

    return send


async def models_at(url: str, client: Any, sdk: ModuleType, wanted: Wanted, seconds: float) -> list[dict[str, Any]]:
    """Return the models of the list at ``url``; raise CallError where it does not come in so many seconds."""
    wanted = replace(wanted, url=url)
    try:
        async with asyncio.timeout(seconds):
            response = await client.get(url, cast_to=httpx2.Response)
    except TimeoutError:
        raise CallError(f"{url}: no answer within {seconds:g} s") from None
    except Broken as broken:
        raise broken.error from None
    except sdk.APIError as error:
        raise call_error(error, sdk, wanted, {}) from None
    models = _json_object(response, wanted).get("data")
    return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []


def unsendable(spec: ModelSpec) -> CallError:
    """Return the error for a text that UTF-8 cannot spell."""
    return CallError(f"{spec}: the text holds half a surrogate pair, which cannot be sent")


def _json_object(response: httpx2.Response, wanted: Wanted) -> dict[str, Any]:
    body = _body_of(response)
    if isinstance(body, dict):
        return body
    said = one_line(wanted.scrub(body)) if isinstance(body, str) else ""
    if not said:
        raise unreadable(wanted.spec, None, ())
    raise NoReplyError(f"{wanted.spec}: the reply is not JSON ({said}); is base_url right?")


def _body_of(response: httpx2.Response) -> object:
    """Return a response's JSON, or its text where it is none."""
    return json_or_text(response.content.decode("utf-8", "replace"))


def json_or_text(text: str) -> object:
    """Return the JSON value that a text holds, or the text where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def call_error(error: Any, sdk: ModuleType, wanted: Wanted, payload: Mapping[str, Any]) -> CallError:
    """Return an error of an SDK as ours."""
    if isinstance(error, sdk.APIStatusError):
        return status_error(error.response, wanted, payload)
    cause = error.__cause__
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError | httpx2.UnsupportedProtocol):
        why = one_line(str(cause)) or "no answer"
        return CallError(f"{wanted.spec}: no server can be reached at {wanted.url}: {why}", fatal=True)
    if isinstance(error, sdk.APITimeoutError):
        return NoReplyError(f"{wanted.spec}: no reply in time; give it longer with model.timeout", passing=True)
    why = one_line(wanted.scrub(str(cause or error)))
    return NoReplyError(f"{wanted.spec}: the connection was cut: {why}", passing=True)


def status_error(response: httpx2.Response, wanted: Wanted, payload: Mapping[str, Any]) -> CallError:
    """Return what the response to ``payload`` says, whose status is not 2xx."""
    status = response.status_code
    if 300 <= status < 400:
        target = one_line(wanted.scrub(response.headers.get("location", "somewhere else")))
        moved = f"{wanted.url} redirects to {target} ({status}): set base_url to where the API is"
        return CallError(f"{wanted.spec}: {moved}")
    body = _body_of(response)
    said = wanted.scrub(error_message(body))
    shown = f"200, {FAILED_200}" if FAILED_200 in response.extensions else ""
    names = wanted.key.names()
    key = f"the key in {' or '.join(names)}" if names else "a request without a key (name one: model.api_key_env)"
    refusal = refusal_of(status, body, payload, said=said, shown=shown)
    return refusal.error(str(wanted.spec), url=wanted.url, key=key)
