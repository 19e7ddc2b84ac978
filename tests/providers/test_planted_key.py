"""A key is planted, every kind of output is made, in success and in failure, and none of them may hold it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from command_line import promptfit
from loopback_server import AT_ONCE, Answer, chat, error, raw
from mood_project import MOODS, PROMPT, by_keyword

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from mood_project import Project

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


@pytest.mark.endurance
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


@pytest.mark.endurance
def test_tuning_shows_no_key(keyed: Project) -> None:
    printed = run(keyed, "--tune", *EVERYTHING)
    assert "tuned mood.prompt.yaml" in printed
    assert keyed.model.asked
    assert leaks(keyed.path, printed) == []


def test_the_search_finds_a_key_that_is_there(keyed: Project) -> None:
    (keyed.path / "a.txt").write_text(KEY)
    assert leaks(keyed.path, f"{quote(KEY, safe='')}") == ["what was printed", str(keyed.path / "a.txt")]


HOST = "127.0.0.1"


def here(project: Project, *options: str) -> str:
    """Run pytest in this process, and return what it prints."""
    result = project.run(*options)
    return result.stdout.str() + result.stderr.str()


def in_the_url(project: Project) -> dict[str, Any]:
    return {"model": {**asks_with_key(project), "base_url": f"{project.model.url}/{quote(KEY, safe='')}"}}


def in_a_parameter(project: Project) -> dict[str, Any]:
    return {"model": asks_with_key(project), "params": {"user": KEY}}


def in_the_prompt(project: Project) -> dict[str, Any]:
    return {"model": asks_with_key(project), "prompt": {**PROMPT, "user_prompt_prefix": f"<text> {KEY}"}}


def for_the_optimizer(project: Project) -> dict[str, Any]:
    return {"tune": {"model": {**asks_with_key(project), "params": {"user": KEY}}}}


FIELDS = {"model": in_the_url, "params": in_a_parameter, "prompt": in_the_prompt, "tune.model": for_the_optimizer}


@pytest.mark.parametrize(("place", "fields"), FIELDS.items(), ids=FIELDS)
def test_a_key_that_is_sent_with_the_question_is_refused(keyed: Project, place: str, fields: Any) -> None:
    """It is cut out of what is recorded, which could then never be found."""
    keyed.write(at="good.prompt.yaml")
    keyed.write(**fields(keyed))
    for options in (("--promptfit-record",), ()):
        printed = here(keyed, *options)
        assert f": {place}: holds the API key" in printed
        assert KEY not in printed
    assert keyed.model.asked == []
    assert "4 passed" in here(keyed, "--promptfit-record", "good.prompt.yaml")


def test_a_key_in_a_sample_is_refused_at_its_line(keyed: Project) -> None:
    keyed.write((*MOODS, ("s5", f"my key is {KEY}", "bad")), model=asks_with_key(keyed))
    printed = here(keyed, "--promptfit-record")
    assert "mood.csv:6: holds the API key" in printed
    assert KEY not in printed


def test_a_key_that_is_the_name_of_the_host_is_refused(keyed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", HOST)
    printed = here(keyed, "--promptfit-record")
    assert "mood.prompt.yaml:1: model: holds the API key" in printed
    monkeypatch.setenv("PLANTED_KEY", KEY)
    assert "5 passed" in here(keyed, "--promptfit-record")


@pytest.mark.parametrize(
    ("base_url", "said"),
    [
        ("http://user:hunter22@host/v1", "must not hold a password"),
        ("http://hunter22@host/v1", "must not hold a password"),
        ("user:hunter22@host/v1", "must not hold a password"),
        ("http:user:hunter22@host", "must not hold a password"),
        ("http://host/v1?key=hunter22", "must not hold a key"),
        ("http://host/v1?a=1&api-key=hunter22", "must not hold a key"),
        ("http://host/v1?api_key=hunter22&a=1", "must not hold a key"),
        ("http://host/v1?subscriptionKey=hunter22", "must not hold a key"),
        ("http://host/v1?access_token=hunter22", "must not hold a key"),
        ("http://host/v1?a=1;sig=hunter22", "must not hold a key"),
    ],
)
def test_a_url_with_a_password_is_neither_shown_nor_recorded(project: Project, base_url: str, said: str) -> None:
    """Whoever sends: the user's own client would record it."""
    model = {"provider": "openai", "name": "m", "base_url": base_url}
    project.write(model=model)
    (project.path / "conftest.py").write_text("def pytest_promptfit_client(model):\n    return lambda body: 'good'\n")
    shown = promptfit("show", "mood.prompt.yaml", cwd=project.path).mistake
    printed = here(project, "--promptfit-record") + here(project) + shown
    assert printed.count(f"model.base_url: {said}: name a variable") >= 3
    assert "hunter22" not in printed
    assert not (project.path / "cassettes").exists()


@pytest.mark.parametrize(
    "base_url", ["http://host/v1?api-version=2026-01-01", "http://host/@cf/v1", "http://host?country_code=b@c"]
)
def test_a_url_without_a_password_is_taken(project: Project, base_url: str) -> None:
    project.write(model={"provider": "openai", "name": "m", "base_url": base_url})
    assert "  nothing is recorded yet. Recording takes 4 calls, its price is not known.\n" in here(project)


def test_a_key_in_the_place_of_a_variable_s_name_is_not_shown(project: Project) -> None:
    project.write(model={**asks_with_key(project), "api_key_env": "sk-planted-0123456789"})
    printed = here(project, "--promptfit-record")
    assert "model.api_key_env: expected the name of an environment variable, not the key itself" in printed
    assert "sk-planted" not in printed


@pytest.mark.parametrize(
    "proxy", ["http://user:hunter22", "http://user:hunter22@host:99999", "http://[hunter22", "://"]
)
def test_a_proxy_that_is_no_url_is_one_line(project: Project, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    project.write(model={"provider": "openai", "name": "m", "base_url": "http://model.example/v1"})
    printed = here(project, "--promptfit-record")
    assert "openai/m: the environment's proxy cannot be used: HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is no URL" in printed
    assert "hunter22" not in printed
