"""A made-up model on loopback, and a project whose prompt asks it: recorded once, then replayed."""

from __future__ import annotations

import csv
import importlib
import json
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from faulty_server import Answer, FaultyServer, Seen, chat
from hypothesis import settings

# pytester forgets what a run inside it has imported: what is loaded here is loaded once, not once a test.
OURS = ("plugin.session", "providers.asking", "providers.http", "providers.openai")
OURS += ("cassettes.recorder", "cassettes.transport")
# Those made of compiled parts cannot even be loaded twice in one process.
THEIRS = ("numpy", "pandas", "scipy.sparse", "sklearn.feature_extraction.text", "sklearn.metrics")
THEIRS += ("genai_prices", "httpcore2", "openai", "vcr.serialize")
for _module in (*THEIRS, *(f"pytest_promptfit.{name}" for name in OURS)):
    importlib.import_module(_module)

# How long an example takes says more of the machine than of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Started in the background by a shell, a process ignores Ctrl-C, and so would the tests that press it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENVIRONMENT = (
    "CI",
    "COLUMNS",  # readline sets it for the processes that pytest starts: xdist's workers would break lines
    "GITHUB_ACTIONS",
    "GITHUB_STEP_SUMMARY",
    "GITHUB_WORKSPACE",
    "OPENAI_API_KEY",
    "PYTEST_ADDOPTS",
    "http_proxy",
    "HTTP_PROXY",
    "ALL_PROXY",
    "all_proxy",
)

MOODS = (
    ("s1", "a lovely day", "good"),
    ("s2", "a lovely walk", "good"),
    ("s3", "a dreadful day", "bad"),
    ("s4", "a dreadful walk", "bad"),
)
"""Samples that the model gets right."""

Row = tuple[str, ...]
"""Id, text, label and, where there is one, a note."""


ENDURANCE = Path(__file__).with_name("endurance")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes minutes, so that it runs where it is asked for: ``pytest -m endurance``."""
    for item in items:
        if item.path.is_relative_to(ENDURANCE):
            item.add_marker("endurance")


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test see the CI system, the keys or the options of whoever runs it."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


def by_keyword(text: str) -> str:
    """Answer as the model does: ``lovely`` is good, ``mumble`` gets no label, all else is bad."""
    if "mumble" in text:
        return "I cannot tell."
    return f"Label: <label>{'good' if 'lovely' in text else 'bad'}</label>"


class Model:
    """A model behind a real server on loopback; ``says`` makes its replies, ``asked`` lists what reached it."""

    def __init__(self) -> None:
        self.says: Callable[[str], str | Answer] = by_keyword
        self.server = FaultyServer(self._answer)

    @property
    def url(self) -> str:
        return f"{self.server.url}/v1"

    @property
    def asked(self) -> list[str]:
        return [json.dumps(seen.body, sort_keys=True) for seen in self.server.seen]

    def _answer(self, seen: Seen) -> Answer:
        said = self.says(seen.body["messages"][-1]["content"])
        return chat(said) if isinstance(said, str) else said


class Project:
    """A folder with prompt files, and pytest run in it."""

    def __init__(self, pytester: pytest.Pytester, model: Model) -> None:
        self.path = pytester.path
        self.model = model
        self._pytester = pytester

    def write(self, rows: tuple[Row, ...] = MOODS, *, at: str = "mood.prompt.yaml", **fields: Any) -> Path:
        """Write a prompt file and its samples beside it, and return the prompt file."""
        path = self.path / at
        path.parent.mkdir(parents=True, exist_ok=True)
        data = path.with_name(f"{path.name.removesuffix('.prompt.yaml')}.csv")
        with data.open("w", encoding="utf-8", newline="") as sink:
            csv.writer(sink).writerows([("id", "text", "label", "note"), *((*row, "")[:4] for row in rows)])
        samples = {"samples": {"file": data.name, "id": "id"}} if rows else {}
        value = {"model": self._model(), "prompt": PROMPT, "labels": ["good", "bad"], "cases": "strict", **samples}
        value |= fields
        path.write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")
        return path

    def run(self, *arguments: object) -> pytest.RunResult:
        """Run pytest with prompt files."""
        return self.pytest("--promptfit", *arguments)

    def record(self, *arguments: object) -> pytest.RunResult:
        """Ask the model for what is missing."""
        return self.run("--promptfit-record", *arguments)

    def ask_anew(self, *arguments: object) -> pytest.RunResult:
        """Ask the model for everything."""
        return self.run("--promptfit-record=all", *arguments)

    def replay(self, *arguments: object) -> pytest.RunResult:
        """Run without recording, and hold that nothing was asked."""
        asked = len(self.model.asked)
        result = self.run(*arguments)
        assert len(self.model.asked) == asked
        return result

    def report(self, *arguments: object) -> dict[str, Any]:
        """Replay and return the JSON report."""
        path = self.path / "report.json"
        self.replay("--promptfit-json", path, *arguments)
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return report

    def baseline(self, name: str = "mood") -> dict[str, Any]:
        """Return a baseline as it is on disk."""
        value: dict[str, Any] = json.loads((self.path / f"{name}.baseline.json").read_text(encoding="utf-8"))
        return value

    def pytest(self, *arguments: object) -> pytest.RunResult:
        """Run pytest in this process."""
        return self._pytester.runpytest_inprocess("-p", "promptfit", *map(str, arguments))

    def git(self, *arguments: str) -> None:
        """Run git in the project."""
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=self.path, check=True, capture_output=True)

    def _model(self) -> dict[str, str]:
        return {"provider": "openai", "name": "m", "base_url": self.model.url}


PROMPT = {
    "system_prompt": "Is the mood good or bad?",
    "user_prompt_prefix": "<text>",
    "user_prompt_suffix": "</text>",
}


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
