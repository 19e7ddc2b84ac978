"""Event loops in threads of their own: one that keeps a connection open for callers of every kind, one for one run."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_promptfit.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future
    from contextlib import AbstractAsyncContextManager

    from anyio.from_thread import BlockingPortal

    from pytest_promptfit.providers import Send

T = TypeVar("T")


class Background:
    """Runs coroutines that need the connection; opens it with the first one, again after ``close`` or a fork.

    Thread and connection end with ``close``, with the last reference to this, or where nothing can be connected.
    """

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[Send]]) -> None:
        """``connect`` must hold no reference to this: it lives as long as the thread does."""
        self._connect = connect
        self._changing = threading.Lock()
        self._open: _Open | None = None
        self._process = 0

    def run(self, use: Callable[[Send], Coroutine[Any, Any, T]]) -> T:
        """Run ``use`` with the connection and wait for its result; interrupted, it is cancelled."""
        future = self._opened().start(use)
        try:
            return future.result()
        except CancelledError:
            raise _closed() from None
        except BaseException:
            future.cancel()
            raise

    async def arun(self, use: Callable[[Send], Coroutine[Any, Any, T]]) -> T:
        """Run ``use`` with the connection and await its result; cancelled, it is cancelled too."""
        opened = self._open
        if opened is None or self._process != os.getpid():
            opened = await asyncio.to_thread(self._opened)
        future = opened.start(use)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise _closed() from None

    def close(self) -> None:
        """End what is in flight, the connection and the thread."""
        with self._changing:
            if self._open is not None:
                self._open.finalizer()
            self._open = None

    def _opened(self) -> _Open:
        with self._changing:
            if self._open is None or self._process != os.getpid():
                self._open, self._process = _Open(self, self._connect), os.getpid()
            return self._open


class _Open:
    """A running event loop with its connection."""

    def __init__(self, owner: Background, connect: Callable[[], AbstractAsyncContextManager[Send]]) -> None:
        from anyio.from_thread import start_blocking_portal

        ends = ExitStack()
        self._in_flight: set[Future[Any]] = set()
        with ends:
            self._portal: BlockingPortal = ends.enter_context(start_blocking_portal())
            self._send: Send = ends.enter_context(self._portal.wrap_async_context_manager(connect()))
            ends.callback(lambda futures: [future.cancel() for future in list(futures)], self._in_flight)
            place = (os.getpid(), self._portal.call(threading.get_ident))
            # At the end of the program too: there a portal whose thread is gone would be waited for in vain.
            self.finalizer = weakref.finalize(owner, _end, ends.pop_all(), self._portal, place)

    def start(self, use: Callable[[Send], Coroutine[Any, Any, T]]) -> Future[T]:
        """Start a coroutine; its future can be cancelled."""
        try:
            future: Future[T] = self._portal.start_task_soon(use, self._send)
        except RuntimeError:  # another thread has closed it
            raise _closed() from None
        self._in_flight.add(future)
        future.add_done_callback(self._in_flight.discard)
        return future


def _end(ends: ExitStack, portal: BlockingPortal, place: tuple[int, int]) -> None:
    process, thread = place
    if process != os.getpid():
        # A fork has no such thread: the portal must know, or whoever clears it away waits for ever.
        with suppress(StopIteration):
            portal.stop().send(None)
    elif thread == threading.get_ident():  # the last reference was a call's
        threading.Thread(target=ends.close, daemon=True).start()
    else:
        ends.close()


def _closed() -> CallError:
    return CallError("closed while it was being asked", fatal=True)


def run_in_own_thread(main: Coroutine[Any, Any, None], interrupt: Callable[[], None]) -> None:
    """Run ``main`` in a new event loop and thread, since the caller may itself sit inside a running loop.

    The first Ctrl-C calls ``interrupt`` there and waits on; the second cancels ``main``.
    """
    loop = asyncio.new_event_loop()
    task = loop.create_task(main)
    # Not Thread.join: interrupted by Ctrl-C, it takes the thread for ended (CPython 3.11 and 3.12).
    ended = threading.Event()
    thread = threading.Thread(target=_run_and_close, args=(loop, task, ended), name="promptfit-asking", daemon=True)
    thread.start()
    try:
        try:
            _wait_for(ended)
        except KeyboardInterrupt:
            with suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(interrupt)
            _wait_for(ended)
            raise
    except BaseException:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(task.cancel)
        ended.wait()
        if task.done() and not task.cancelled():
            task.exception()  # it gives way to what interrupted it
        raise
    task.result()


def _wait_for(ended: threading.Event) -> None:
    while not ended.wait(0.5):  # with a timeout, or Ctrl-C is not heard on Windows
        pass


def _run_and_close(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], ended: threading.Event) -> None:
    asyncio.set_event_loop(loop)
    try:
        with suppress(BaseException):  # the task keeps it for the caller
            loop.run_until_complete(task)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        ended.set()
