"""Processes of their own that record: ``python recording_process.py record|record_often|crash|fill ...``."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hash_model import chat_body
from repository import ROOT

if TYPE_CHECKING:
    from pytest_promptfit.cassettes.cassette import Cassette


def replies_of(cassette: Cassette) -> dict[str, str]:
    return {entry.key: entry.body for entry in cassette}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def child(*arguments: object) -> subprocess.Popen[str]:
    """Start this file as a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def numbered_bodies(count: int) -> list[dict[str, Any]]:
    return [chat_body(f"question {number}") for number in range(count)]


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def record(folder: str, url: str, count: str, at_once: str) -> None:
    """Record what is missing; say ``ready``, then the key of each reply that the caller has got."""
    from pytest_promptfit.cassettes.recorder import Recorder

    with Recorder.open(Path(folder), on_wait=lambda message: say(f"waiting: {message}")) as recorder:
        say("ready")
        asyncio.run(_ask_missing(recorder, f"{url}/v1/chat/completions", int(count), int(at_once)))
    say("done")


def record_often(*arguments: str) -> None:
    """For each line of input ``record`` in a process of its own; say its id, and ``ended`` after it."""
    for module in ("vcr.serialize", "pytest_promptfit.cassettes.recorder", "pytest_promptfit.cassettes.transport"):
        importlib.import_module(module)  # once, for all of them
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            say(str(os.getpid()))
            record(*arguments)
            os._exit(0)
        os.waitpid(pid, 0)
        say("ended")


async def _ask_missing(recorder: Any, url: str, count: int, at_once: int) -> None:
    import httpx2

    from pytest_promptfit.cassettes.cassette import request_key
    from pytest_promptfit.cassettes.transport import RecordingTransport

    keyed = [(request_key("POST", url, body), body) for body in numbered_bodies(count)]
    missing = [(key, body) for key, body in keyed if key not in recorder.cassette]
    free = asyncio.Semaphore(at_once)
    transport = RecordingTransport(httpx2.AsyncHTTPTransport(verify=False), recorder)
    async with httpx2.AsyncClient(transport=transport, timeout=60) as client:

        async def ask(key: str, body: dict[str, Any]) -> None:
            async with free:
                await client.post(url, json=body)
                say(key)

        await asyncio.gather(*(ask(key, body) for key, body in missing))


def crash(folder: str, work: str) -> None:
    """Open copies of a folder for recording, and die before the 1st, 2nd, ... change to its files."""
    from pytest_promptfit.cassettes import recorder
    from pytest_promptfit.cassettes.cassette import Recorded

    recorder.render(Recorded("", "POST", "http://localhost/", "", ""))  # imported before the fork
    for number in range(1000):
        copy = Path(work, str(number))
        shutil.copytree(folder, copy)
        pid = os.fork()
        if pid == 0:
            _die_before_change(number, copy)
            with recorder.Recorder.open(copy):
                os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            say(str(number))
            return


def _die_before_change(number: int, folder: Path) -> None:
    left = number

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event in ("os.rename", "os.remove") or (event == "open" and arguments[1] == "wb")
        if writes and str(arguments[0]).startswith(str(folder)):
            if left == 0:
                os.kill(os.getpid(), 9)
            left -= 1

    sys.addaudithook(watch)


def fill(folder: str, url: str, limit: str) -> None:
    """Record through the SDK where no file can grow beyond ``limit`` bytes; say what the caller sees."""
    import resource
    import signal

    from pytest_promptfit.cassettes.recorder import Recorder
    from pytest_promptfit.errors import CassetteError

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    try:
        with Recorder.open(Path(folder)) as recorder:
            asyncio.run(_ask_until_it_fails(recorder, url))
            whole = Path(folder, "replies-new.yaml").read_bytes().endswith(b"}\n")
            say(f"the file is {'whole' if whole else 'torn'}")
    except CassetteError as error:
        say(str(error))


async def _ask_until_it_fails(recorder: Any, url: str) -> None:
    import httpx2
    from anthropic import APIConnectionError, AsyncAnthropic

    from pytest_promptfit.cassettes.cassette import request_key
    from pytest_promptfit.cassettes.transport import RecordingTransport

    transport = RecordingTransport(httpx2.AsyncHTTPTransport(verify=False), recorder)
    http_client = httpx2.AsyncClient(transport=transport)
    client = AsyncAnthropic(api_key="none", base_url=url, max_retries=1, http_client=http_client)
    for body in (chat_body(f"question {number}", max_tokens=9) for number in range(40)):
        if request_key("POST", f"{url}/v1/messages", body) in recorder.cassette:
            continue
        try:
            await client.messages.create(**body)
        except APIConnectionError:
            say("stopped")
            return
        say("reply")


if __name__ == "__main__":
    {"record": record, "record_often": record_often, "crash": crash, "fill": fill}[sys.argv[1]](*sys.argv[2:])
