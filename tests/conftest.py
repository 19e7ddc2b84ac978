"""What every test starts from: no key, no CI; on request a model, a project that asks it, the examples, a browser."""

from __future__ import annotations

import compileall
import gc
import importlib
import os
import pkgutil
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import browser as chromium
import pytest
from hypothesis import settings
from mood_project import Model, Project
from quick_runs import look_up_once
from repository import ROOT

# How long an example takes says more of the machine than of the code.
settings.register_profile("any machine", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile("any machine")

# Started in the background by a shell, a process ignores Ctrl-C, and so would the tests that press it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a disk each file that is synced takes milliseconds, and runs in here sync thousands.
MEMORY = Path("/dev/shm")
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2**31:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

if TYPE_CHECKING:
    from collections.abc import Iterator

    from browser import Browser

ENVIRONMENT = (
    "CI",
    "COLUMNS",  # readline sets it for the processes that pytest starts: xdist's workers would break lines
    "GITHUB_ACTIONS",
    "GITHUB_STEP_SUMMARY",
    "GITHUB_WORKSPACE",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "OPENAI_API_KEY",
    "PROMPTFIT_THREADS",
    "TYPESAFE_API_KEY",
    "PYTEST_ADDOPTS",
    "http_proxy",
    "HTTP_PROXY",
    "ALL_PROXY",
    "all_proxy",
)


# Those made of compiled parts cannot even be loaded twice in one process.
THEIRS = ("numpy", "pandas", "scipy.sparse", "sklearn.feature_extraction.text", "sklearn.linear_model")
THEIRS += ("sklearn.metrics", "sklearn.model_selection", "sklearn.pipeline", "filelock", "genai_prices")
THEIRS += ("httpcore2", "openai", "vcr.serialize", "xdist.dsession")
PACKAGE = ROOT / "pytest_promptfit"

# What is not kept compiled is compiled again in each of the hundreds of processes that tests start.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ENDURANCE = Path(__file__).with_name("endurance")


def pytest_configure(config: pytest.Config) -> None:
    """Load once what tests need: pytester forgets what a run inside it has imported."""
    if config.getoption("dist", "no") != "no":  # its workers run the tests
        compileall.compile_dir(PACKAGE, quiet=1)
        return
    ours = (found.name for found in pkgutil.walk_packages([str(PACKAGE)], "pytest_promptfit."))
    for module in (*THEIRS, *ours):
        importlib.import_module(module)
    look_up_once()
    # What is loaded by now stays: to look through it again and again took a fifth of the time.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes long, so that it runs where it is asked for: ``pytest -m endurance``."""
    for item in items:
        if item.path.is_relative_to(ENDURANCE):
            item.add_marker("endurance")


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test see the CI system, the keys or the options of whoever runs it."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    # Files that a test changes twice in one second look the same to what was kept of them.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDK ask again at once."""
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.001)


@pytest.fixture
def model() -> Iterator[Model]:
    """A model that can be asked until the test ends."""
    model = Model()
    with model.server:
        yield model


@pytest.fixture
def project(pytester: pytest.Pytester, model: Model, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project, where pytest has no other plugin than ours."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return Project(pytester, model)


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The examples and their recordings in a folder of their own, where nothing can connect."""
    for folder in ("fixtures", "cassettes"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def refuse(*_: object) -> None:
        raise AssertionError("a replay must not connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests: starting it takes longer than reading a page."""
    yield from chromium.start()
