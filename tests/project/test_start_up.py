"""What a run imports: a plain ``pytest`` pays nothing, and a replayed run needs no SDK and no network."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from numbered_samples import numbered

from pytest_promptfit import load_prompt
from pytest_promptfit.cassettes.cassette import Asked
from pytest_promptfit.cassettes.recorder import Recorder
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.providers.wire import provider_of

if TYPE_CHECKING:
    from pathlib import Path

    from mood_project import Project

PARTS = {"yaml", "pydantic", "openai", "anthropic", "vcr", "pandas", "numpy", "sklearn", "filelock", "genai_prices"}
SDKS = {"openai", "anthropic", "vcr", "pandas", "numpy", "sklearn", "genai_prices", "httpx", "httpx2", "asyncio", "ssl"}
HOOKS = {"pytest_promptfit", "pytest_promptfit.plugin", "pytest_promptfit.plugin.hookspecs"}

PRINT_MODULES = """
import sys

def pytest_unconfigure():
    print("modules:", *sorted(sys.modules))
"""


def run(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project.path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )


def modules_of(project: Project, *arguments: str) -> set[str]:
    """Return the modules that pytest has imported in a process of its own."""
    (project.path / "conftest.py").write_text(PRINT_MODULES)
    done = run(project, "-m", "pytest", "-p", "promptfit", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("modules:")]
    return set(line.split()[1:])


def tops(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def ours(modules: set[str]) -> set[str]:
    return {module for module in modules if tops({module}) == {"pytest_promptfit"}}


def test_plain_pytest_imports_the_hooks_alone(project: Project) -> None:
    project.write()
    (project.path / "test_own.py").write_text("def test_own(): pass\n")
    modules = modules_of(project)
    assert ours(modules) == HOOKS
    assert not tops(modules) & PARTS


def test_plain_pytest_by_the_interpreter_s_own_account(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    (project.path / "test_own.py").write_text("def test_own(): pass\n")
    others = [option for name in ("hypothesispytest", "xdist", "anyio", "syrupy") for option in ("-p", f"no:{name}")]
    done = run(project, "-X", "importtime", "-m", "pytest", "-s", *others)
    assert done.returncode == 0
    assert "promptfit-" in done.stdout
    imported = set(re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "_pytest.terminal" in imported
    # What an entry point names is imported by a function, which is not listed; what that imports is.
    assert ours(imported) <= HOOKS
    assert not tops(imported) & PARTS


def test_replay_imports_no_sdk(project: Project) -> None:
    project.write()
    project.record("--promptfit-update")
    modules = modules_of(project, "--promptfit", "--promptfit-json=report.json")
    assert "pytest_promptfit.evaluation.forward" in modules
    assert not tops(modules) & (SDKS - {"asyncio", "ssl"})
    sending = ("providers.asking", "providers.http", "cassettes.recorder", "cassettes.transport")
    assert not ours(modules) & {f"pytest_promptfit.{name}" for name in sending}
    assert "jinja2" not in tops(modules)


def test_production_code_imports_neither_pytest_nor_data_science(project: Project) -> None:
    path = project.write()
    code = f"""
import sys, pytest_promptfit
assert not {{"yaml", "pydantic"}} & sys.modules.keys()
print(pytest_promptfit.load_prompt({str(path)!r}).labels)
print("modules:", *sorted(sys.modules))
"""
    done = run(project, "-c", code)
    assert done.returncode == 0, done.stderr
    first, _, modules = done.stdout.partition("modules:")
    assert first == "('good', 'bad')\n"
    assert not tops(set(modules.split())) & {"pytest", "_pytest", "pandas", "sklearn", "vcr", "openai", "filelock"}


def test_two_thousand_replies_are_replayed_without_a_socket(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = numbered(2000)
    path = project.write(rows)
    _fill(project.path / "cassettes" / "mood", path, [text for _, text, _ in rows])

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    result = project.replay("-q")
    assert result.ret == 0
    result.assert_outcomes(passed=2000, skipped=1)
    result.stdout.fnmatch_lines(["  2000 replies, all replayed, *"])


def _fill(folder: Path, prompt: Path, texts: list[str]) -> None:
    """Record a reply to each text as a run would, but without asking for it."""
    classifier = load_prompt(prompt)
    url = provider_of(parse_prompt_file(prompt).config.model, prompt.parent).url
    reply = {"choices": [{"message": {"role": "assistant", "content": "<label>good</label>"}, "finish_reason": "stop"}]}
    with Recorder.open(folder) as recorder:
        for text in texts:
            recorder.keep(Asked.of(url, classifier.payload(text)).answered(json.dumps(reply)))


def test_recorded_run_needs_no_server_and_no_key(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"provider": "openai", "name": "m", "base_url": project.model.url, "api_key_env": "MY_KEY"}
    project.write(model=model)
    monkeypatch.setenv("MY_KEY", "a-key-of-mine")
    assert project.record().ret == 0
    monkeypatch.delenv("MY_KEY")
    project.model.server.__exit__()
    assert project.replay().ret == 0
    project.write(model=model, params={"temperature": 0})
    assert project.replay().ret == 1
    assert project.record().ret == 4


def test_help_shows_the_options(project: Project) -> None:
    result = project.pytest("--help")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*--promptfit-record *", "*promptfit_files (args):*"])


@pytest.mark.parametrize("plugins", [(), ("-p", "xdist")])
def test_strict_settings_and_warnings_as_errors_are_no_obstacle(project: Project, plugins: tuple[str, ...]) -> None:
    project.write(canonical=[{"text": "a lovely dog", "label": "good"}])
    result = project.record("-W", "error", "-o", "strict=true", *plugins)
    result.assert_outcomes(passed=5, skipped=1)
