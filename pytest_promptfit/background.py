"""An event loop in a thread of its own that keeps one connection open, for callers of every kind."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from concurrent.futures import Future
    from contextlib import AbstractAsyncContextManager

    Send = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

T = TypeVar("T")


class Background:
    """Runs coroutines that need the connection; opens it with the first one, again after a fork."""

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[Send]]) -> None:
        self._connect = connect
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: asyncio.Future[Send] | None = None
        self._closing: Callable[[], None] | None = None
        self._process = 0

    def run(self, use: Callable[[Send], Coroutine[Any, Any, T]]) -> T:
        """Run ``use`` with the connection and wait for its result."""
        return self._submit(use).result()

    async def arun(self, use: Callable[[Send], Coroutine[Any, Any, T]]) -> T:
        """Run ``use`` with the connection and await its result."""
        return await asyncio.wrap_future(self._submit(use))

    def close(self) -> None:
        """Close the connection and end the thread."""
        with self._starting:
            if self._closing is not None and self._process == os.getpid():
                self._closing()
            self._loop = self._closing = None

    def _submit(self, use: Callable[[Send], Coroutine[Any, Any, T]]) -> Future[T]:
        async def with_connection() -> T:
            return await use(await self._connected())

        return asyncio.run_coroutine_threadsafe(with_connection(), self._running_loop())

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None or self._process != os.getpid():
                self._loop, self._connection, self._process = asyncio.new_event_loop(), None, os.getpid()
                threading.Thread(target=self._loop.run_forever, name="promptfit", daemon=True).start()
            return self._loop

    async def _connected(self) -> Send:
        """Return the one connection of this loop; the first caller opens it while the others wait."""
        if self._connection is None:
            loop = asyncio.get_running_loop()
            self._connection = loop.create_future()
            try:
                manager = self._connect()
                send = await manager.__aenter__()
            except BaseException as error:
                waiting, self._connection = self._connection, None
                waiting.set_exception(error)
                waiting.exception()  # it is raised here; whoever else waits sees it too
                raise
            self._closing = lambda: _close(loop, manager)
            self._connection.set_result(send)
        return await self._connection


def _close(loop: asyncio.AbstractEventLoop, manager: AbstractAsyncContextManager[Any]) -> None:
    asyncio.run_coroutine_threadsafe(manager.__aexit__(None, None, None), loop).result()
    loop.call_soon_threadsafe(loop.stop)
