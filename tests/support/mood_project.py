"""A model on loopback that tells good moods from bad ones, and a project whose prompt asks it."""

from __future__ import annotations

import csv
import json
import subprocess
from typing import TYPE_CHECKING, Any

import yaml
from loopback_server import Answer, LoopbackServer, Seen, chat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


MOODS = (
    ("s1", "a lovely day", "good"),
    ("s2", "a lovely walk", "good"),
    ("s3", "a dreadful day", "bad"),
    ("s4", "a dreadful walk", "bad"),
)
"""Samples that the model gets right."""

Row = tuple[str, ...]
"""Id, text, label and, where there is one, a note."""


def by_keyword(text: str) -> str:
    """Answer as the model does: ``lovely`` is good, ``mumble`` gets no label, all else is bad."""
    if "mumble" in text:
        return "I cannot tell."
    return f"Label: <label>{'good' if 'lovely' in text else 'bad'}</label>"


OTHERS = ("doctest", "faulthandler", "pastebin", "recwarn", "subtests")
WITHOUT = [f"-pno:{name}" for name in OTHERS]
"""Without these a replay in here takes some milliseconds less."""


class Model:
    """A model behind a real server on loopback; ``says`` makes its replies, ``asked`` lists what reached it."""

    def __init__(self) -> None:
        self.says: Callable[[str], str | Answer] = by_keyword
        self.server = LoopbackServer(self._answer)

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
        """Run pytest in this process, without those of its own plugins that are nothing to prompt files."""
        return self._pytester.runpytest_inprocess("-p", "promptfit", *WITHOUT, *map(str, arguments))

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
