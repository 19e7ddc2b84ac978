"""Eight prompts on four workers, and on two hosts of their own: the results of one process, no call made twice.

The hosts are network namespaces, joined by a bridge; pytest-xdist reaches them over its ``--tx socket=``. They are
skipped where namespaces cannot be made: without root or without the command ``ip``.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.cassettes.recorder import Recorder
from tests.benchmarks.measuring import environment
from tests.benchmarks.model_server import counts, running
from tests.benchmarks.projects import write_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("xdist")

PROMPTS, SAMPLES = 8, 6
PORT = 8888
LOADGROUP = ("--dist=loadgroup",)


@dataclass(frozen=True)
class Way:
    """How cases are handed out, and the address at which all workers reach this machine."""

    options: tuple[str, ...]
    here: str = "127.0.0.1"
    folders: dict[str, Path] = field(default_factory=dict)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def made(*arguments: str, undo: tuple[str, ...]) -> Iterator[None]:
    """Make a part of a network, and take it away at the end."""
    ip(*arguments)
    try:
        yield
    finally:
        ip(*undo)


@contextmanager
def network(names: list[str], subnet: str, tag: str) -> Iterator[None]:
    """Join a namespace for each name to this machine: it has address 1, they have 2, 3 and so on."""
    with ExitStack() as stack:
        bridge = f"br{tag}"
        stack.enter_context(made("link", "add", bridge, "type", "bridge", undo=("link", "del", bridge)))
        ip("address", "add", f"{subnet}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for at, name in enumerate(names, 2):
            stack.enter_context(made("netns", "add", name, undo=("netns", "del", name)))
            ip("link", "add", f"v{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"v{name}", "master", bridge, "up")
            ip("-n", name, "address", "add", f"{subnet}.{at}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield


@contextmanager
def host(name: str, address: str, folder: Path) -> Iterator[None]:
    """Run execnet's server on a host, with a folder of its own."""
    folder.mkdir()
    command = ["ip", "netns", "exec", name, sys.executable, "-m", "execnet.script.socketserver", f"{address}:{PORT}"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            wait_for(address)
            yield
        finally:
            server.terminate()


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection((address, PORT), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"no server at {address}")


@pytest.fixture(params=["four workers", "two hosts"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    """Hand out the cases to workers on this machine, or to two others."""
    if request.param == "four workers":
        yield Way(("-n4",))
        return
    tag = f"{os.getpid() % 100000:x}"
    names, subnet = [f"a{tag}", f"b{tag}"], f"10.231.{os.getpid() % 250}"
    with ExitStack() as stack:
        try:
            stack.enter_context(network(names, subnet, tag))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {error}")
        folders = {f"{subnet}.{at}": tmp_path / name for at, name in enumerate(names, 2)}
        for name, (address, folder) in zip(names, folders.items(), strict=True):
            stack.enter_context(host(name, address, folder))
        yield Way(tuple(f"--tx=socket={address}:{PORT}" for address in folders), f"{subnet}.1", folders)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "project"


def write(project: Path, url: str) -> None:
    for number in range(PROMPTS):
        name = f"prompt{number}"
        write_project(project, SAMPLES, url, name=name, system_prompt=f"This is {name}. Even or odd?")


def run(project: Path, *options: str, ends: int = 0) -> str:
    """Run pytest on the project, and return what it printed."""
    # pytest-xdist takes only arguments below what it copies to the hosts.
    where = ("--rsyncdir", str(project), str(project)) if any("socket=" in option for option in options) else ()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--promptfit", *options, *where]
    ended = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == ends, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def run_with_report(project: Path, *options: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Run, and return our summary and the prompts of the JSON report."""
    path = project.parent / "report.json"
    told = run(project, f"--promptfit-json={path}", *options)
    lines = [line for line in told.splitlines() if line]
    start = next(at for at, line in enumerate(lines) if line.strip("=") == " promptfit ")
    end = next(at for at in range(start + 1, len(lines)) if lines[at].startswith("="))
    prompts: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["prompts"]
    return lines[start + 1 : end], prompts


def recorded(project: Path) -> dict[str, dict[str, str]]:
    """Return the replies by prompt and key."""
    folders = sorted((project / "cassettes").iterdir())
    return {folder.name: {entry.key: entry.body for entry in Cassette.load(folder)} for folder in folders}


def asked(url: str) -> int:
    found = counts(url)
    assert found["twice"] == 0
    return int(found.get("200", 0))


def test_replays_to_the_results_of_one_process(project: Path, way: Way) -> None:
    with running(host=way.here) as url:
        write(project, url)
        run(project, "--promptfit-record", "--promptfit-update")
        calls = asked(url)
        alone = run_with_report(project)
        assert run_with_report(project, *LOADGROUP, *way.options) == alone
        assert asked(url) == calls == PROMPTS * SAMPLES


def test_records_what_one_process_records(project: Path, way: Way) -> None:
    with running(host=way.here) as url:
        write(project, url)
        summary, prompts = run_with_report(
            project, "--promptfit-record", "--promptfit-update", *LOADGROUP, *way.options
        )
        assert "prompt3.baseline.json: written" in summary
        assert asked(url) == PROMPTS * SAMPLES
        assert [prompt["usage"]["replayed"] for prompt in prompts] == [0] * PROMPTS
        spread = recorded(project)
        replayed = run(project)
        assert "torn" not in replayed
        assert "xfailed" not in replayed
        assert asked(url) == PROMPTS * SAMPLES
    with running(host=way.here) as other:
        assert other != url
        shutil.rmtree(project / "cassettes")
        for path in project.glob("*.prompt.yaml"):
            path.write_text(path.read_text().replace(url, other))
        run(project, "--promptfit-record")
        alone = recorded(project)
    assert [set(replies.values()) for replies in spread.values()] == [
        set(replies.values()) for replies in alone.values()
    ]
    assert [len(replies) for replies in spread.values()] == [SAMPLES] * PROMPTS


def test_both_hosts_work_and_a_reply_is_newer_than_the_one_at_home(project: Path, way: Way) -> None:
    with running(host=way.here) as url:
        write(project, url)
        run(project, "--promptfit-record")
        cassette = project / "cassettes" / "prompt0" / "replies.yaml"
        with Recorder.open(cassette.parent, replace=True) as recorder:
            for entry in list(recorder.cassette):
                recorder.keep(replace(entry, body=entry.body.replace("It is even", "It was even")))
        run(project, "--promptfit-record=all", *LOADGROUP, *way.options)
        assert all(b"It was even" not in path.read_bytes() for path in cassette.parent.iterdir())
        assert counts(url)["twice"] == PROMPTS * SAMPLES
    for folder in way.folders.values():
        assert len(list(folder.rglob("cassettes/*/replies.yaml"))) >= PROMPTS // 4


def test_pruning_is_refused_on_other_machines(project: Path) -> None:
    write(project, "http://localhost/v1")
    told = run(project, "--promptfit-prune", *LOADGROUP, "--tx=popen", "--tx=2*ssh=host", ends=4)
    assert "ERROR: --promptfit-prune deletes where it runs: run it here, without --tx ssh= or socket=" in told
