"""Processes of their own that are broken off at a moment of chance, by SIGKILL or Ctrl-C.

A moment is a change to a file (the n-th that the process is about to make in a folder) and the seconds after it.
``PROMPTFIT_TEST_KILLS`` sets how many moments a test draws for each signal, ``PROMPTFIT_TEST_SEED`` which ones.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KILLS = int(os.environ.get("PROMPTFIT_TEST_KILLS", "4"))
SEED = int(os.environ.get("PROMPTFIT_TEST_SEED", str(random.randrange(10**6))))
SIGNALS = pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT], ids=["sigkill", "ctrl-c"])
FORKS = pytest.mark.skipif(sys.platform == "win32", reason="no fork")

FULL_DISK = 0

CHANGES = {"os.remove", "os.rename", "os.chmod", "os.mkdir", "os.truncate"}
PRELOADED = (
    "genai_prices",
    "openai",
    "pytest",
    "pytest_promptfit.providers.openai",
    "pytest_promptfit.providers.http",
    "pytest_promptfit.tuning.rewrite",
    "pytest_promptfit.plugin.session",
    "vcr.serialize",
)
"""What a run would spend its time on before it does anything."""


@dataclass(frozen=True)
class Moment:
    """Before the ``change``-th change to a file whose path holds ``part``, and ``seconds`` later.

    ``by`` is a signal, or ``FULL_DISK``: from then on no file of that kind can be written.
    """

    by: int
    part: str
    change: int
    seconds: float


def moments(by: int, part: str, *, changes: int, seconds: float) -> Iterator[Moment]:
    """Draw moments: before a change, or within ``seconds`` of the first one, by turns; say from which seed."""
    print(f"PROMPTFIT_TEST_SEED={SEED} PROMPTFIT_TEST_KILLS={KILLS}")
    draw = random.Random(f"{SEED} {by} {part}")
    for number in range(KILLS):
        timed = number % 2 or changes == 1
        yield Moment(by, part, *((0, draw.uniform(0, seconds)) if timed else (draw.randrange(changes), 0.0)))


def run_broken_off(work: Callable[..., None], *arguments: Any, moment: Moment | None) -> int:
    """Do ``work`` in a process that is broken off at ``moment``; return its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    process = context.Process(target=_work, args=(work, arguments, moment))
    process.start()
    process.join(120)
    assert process.exitcode is not None, "it did not end"
    return process.exitcode


def _work(work: Callable[..., None], arguments: tuple[Any, ...], moment: Moment | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if moment is not None:
        _break_off_at(moment)
    try:
        work(*arguments)
    except KeyboardInterrupt:
        os._exit(130)
    os._exit(0)


def _break_off_at(moment: Moment) -> None:
    left: int | None = moment.change

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if left is None or not _is_change(event, arguments) or moment.part not in os.fspath(arguments[0]):
            return
        if left:
            left -= 1
            return
        if moment.by == FULL_DISK:
            if event == "open":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return
        left = None
        if moment.seconds:
            threading.Thread(target=_break_off, args=(moment,), daemon=True).start()
        else:
            os.kill(os.getpid(), moment.by)

    sys.addaudithook(watch)


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    return (event in CHANGES or bool(writes)) and isinstance(arguments[0], str | os.PathLike)


def _break_off(moment: Moment) -> None:
    time.sleep(moment.seconds)
    os.kill(os.getpid(), moment.by)


def run_pytest(folder: Path, *options: str) -> None:
    """Run pytest with prompt files in this process as a user would, in the project's folder."""
    os.chdir(folder)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with Path("out.txt").open("w", encoding="utf-8") as out, contextlib.redirect_stdout(out):
        code = pytest.main(["-p", "promptfit", "--promptfit", *options])
    os._exit(code)
