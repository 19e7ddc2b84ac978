"""A key is planted, every kind of output is made, in success and in failure, and none of them may hold it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from conftest import MOODS, by_keyword
from faulty_server import AT_ONCE, Answer, chat, error, raw

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Project

KEY = 'sk-planted/Zürich"+=0123456789'.replace("ü", "u")
FORMS = [KEY, json.dumps(KEY)[1:-1], quote(KEY, safe=""), repr(KEY)[1:-1], KEY.replace('"', "&quot;"), KEY[3:20]]
"""As it is, in JSON, in a URL, in Python, in XML and HTML, and most of it."""

EVERYTHING = (
    *("-rA", "-vv", "-s", "--tb=long", "--showlocals", "--full-trace", "--setup-show", "--durations=0"),
    *("--log-cli-level=DEBUG", "--log-file=log.txt", "--log-file-level=DEBUG", "--junitxml=junit.xml"),
    *("-o", "junit_logging=all", "--promptfit-json=report.json", "--debug=debug.txt"),
)
FAILURES = {
    "refused with the key": error(401, f"Incorrect API key provided: {KEY}"),
    "refused with a part of it": error(401, "Incorrect API key provided: sk-plant*****789"),
    "broken with the key": error(500, f"no handler for Bearer {KEY}", **AT_ONCE),
    "half a JSON": raw(f'{{"choices": [{{"message": {{"content": "{KEY}'),
    "no reply": raw(json.dumps({"error": {"message": f"key {KEY}"}})),
    "a page": raw(f"<html>{KEY}</html>", "text/html"),
    "redirect": Answer(302, headers={"location": f"http://127.0.0.1:9/?key={quote(KEY, safe='')}"}),
    "filter": error(400, f"{KEY} is not allowed", "content_filter"),
}


@pytest.fixture
def keyed(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose prompt needs the key, and GitHub around it."""
    monkeypatch.setenv("PLANTED_KEY", KEY)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    project.write(MOODS, model=asks_with_key(project), gates={"accuracy": 0.9}, tune={"model": asks_with_key(project)})
    return project


def asks_with_key(project: Project) -> dict[str, str]:
    """Return the model as a prompt file names it."""
    return {"provider": "openai", "name": "m", "base_url": project.model.url, "api_key_env": "PLANTED_KEY"}


def run(project: Project, *arguments: str) -> str:
    """Run pytest in a process of its own, so that all it prints is seen, and return that."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "promptfit", "--promptfit", *arguments],
        cwd=project.path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert "INTERNALERROR" not in done.stdout
    return done.stdout + done.stderr


def leaks(folder: Path, printed: str) -> list[str]:
    """Return where the key is found: what was printed, and every file below the folder."""
    texts = {"what was printed": printed}
    texts |= {str(path): path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file()}
    return [name for name, text in texts.items() if any(form in text for form in FORMS)]


def test_success_shows_no_key(keyed: Project) -> None:
    keyed.model.says = lambda text: chat(f"{by_keyword(text)} {KEY}")
    printed = run(keyed, "--promptfit-record", "--promptfit-update", *EVERYTHING)
    assert any(seen.headers["authorization"] == f"Bearer {KEY}" for seen in keyed.model.server.seen)
    assert leaks(keyed.path, printed) == []
    replayed = run(keyed, *EVERYTHING)
    assert "6 passed" in replayed
    assert leaks(keyed.path, replayed) == []
    distributed = run(keyed, "-p", "xdist", "-n", "1", "--dist", "loadgroup", "--promptfit-record=all", "-rA")
    assert leaks(keyed.path, distributed) == []


def test_failure_shows_no_key(keyed: Project) -> None:
    """A refused key ends the asking of its prompt, so each of these has a prompt of its own."""
    for name in FAILURES:
        keyed.write(((name, f"it is {name}", "good"),), at=f"{name}.prompt.yaml", model=asks_with_key(keyed))
    keyed.model.says = lambda text: next(
        (answer for name, answer in FAILURES.items() if name in text), by_keyword(text)
    )
    printed = run(keyed, "--promptfit-record", *EVERYTHING)
    assert {name for name in FAILURES if f"sample-{name} FAILED" in printed} == set(FAILURES)
    assert leaks(keyed.path, printed) == []
    distributed = run(keyed, "-p", "xdist", "-n", "1", "--dist", "loadgroup", "--promptfit-record", "-rA")
    assert f"{len(FAILURES)} failed" in distributed
    assert leaks(keyed.path, distributed) == []


def test_tuning_shows_no_key(keyed: Project) -> None:
    printed = run(keyed, "--tune", *EVERYTHING)
    assert "tuned mood.prompt.yaml" in printed
    assert keyed.model.asked
    assert leaks(keyed.path, printed) == []


def test_the_search_finds_a_key_that_is_there(keyed: Project) -> None:
    (keyed.path / "a.txt").write_text(KEY)
    assert leaks(keyed.path, f"{quote(KEY, safe='')}") == ["what was printed", str(keyed.path / "a.txt")]
