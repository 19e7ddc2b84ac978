"""When models are shut down, as their providers' lists say: told by what asks models anyway, and by ``models``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anthropic.types
import openai.types
import pytest
from command_line import promptfit
from loopback_server import HANG, Answer, LoopbackServer, chat, error, json_answer
from mood_project import by_keyword

from pytest_promptfit.providers import lifetimes
from pytest_promptfit.providers.openai import OWN_URLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mood_project import Project

END = (datetime.now(tz=UTC) + timedelta(days=40)).date()
SHUT_DOWN = f"openai/gpt-4.1-nano will be shut down on {END}, in "
COMMAND = "promptfit migrate mood.prompt.yaml --to openai/gpt-6-luna --record"
KEY = "a-key-of-nobody"


@dataclass
class Api:
    """Stands in for OpenAI's own endpoint, and counts how often its list is read."""

    list_answer: Answer
    looks: list[dict[str, str]] = field(default_factory=list)

    def answer(self, seen: Any) -> Answer:
        if seen.path.startswith("/v1/models"):
            self.looks.append(seen.headers)
            return self.list_answer
        return chat(by_keyword(seen.body["messages"][-1]["content"]))


def listed(**dates: str | None) -> Answer:
    """Answer as ``GET /v1/models`` does, in the words of the SDK's own type."""
    known = [
        openai.types.Model(id=name, created=1, object="model", owned_by="openai", shutdown_date=end)
        for name, end in dates.items()
    ]
    return json_answer({"object": "list", "data": [model.model_dump() for model in known]})


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """OpenAI's own endpoint, whose list has a date for one model."""
    api = Api(listed(**{"gpt-4.1-nano": str(END), "gpt-6-luna": None}))
    with LoopbackServer(api.answer) as server:
        monkeypatch.setitem(OWN_URLS, "openai", f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield api


def test_a_recording_says_it_once_and_a_replay_does_not_look(project: Project, api: Api) -> None:
    project.write(model="openai/gpt-4.1-nano")
    result = project.record("--promptfit-update")
    result.stdout.fnmatch_lines([f"{SHUT_DOWN}*"])
    assert COMMAND in " ".join(result.stdout.str().split())
    assert result.stdout.str().count("will be shut down") == 1
    assert api.looks[0]["authorization"] == f"Bearer {KEY}"
    assert project.record().ret == 0
    assert project.replay().ret == 0
    assert len(api.looks) == 1
    assert str(END) not in "".join(path.read_text() for path in project.path.rglob("*.*") if path.is_file())


def test_a_model_that_stays_is_no_news(project: Project, api: Api) -> None:
    project.write(model="openai/gpt-6-luna")
    assert "shut down" not in project.record().stdout.str()
    assert len(api.looks) == 1


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (error(500), "HTTP 500"),
        (HANG, "no answer within 0.05 s"),
        (json_answer([]), "JSON"),
        (json_answer({"data": "none"}), ""),
        (json_answer({"data": [None, {"id": "gpt-4.1-nano", "shutdown_date": 7}]}), ""),
    ],
)
def test_a_list_that_cannot_be_read_is_one_line_and_no_failure(
    project: Project, api: Api, monkeypatch: pytest.MonkeyPatch, answer: Answer, why: str
) -> None:
    monkeypatch.setattr(lifetimes, "SECONDS", 0.05 if answer is HANG else 4)
    project.write(model="openai/gpt-4.1-nano")
    api.list_answer = answer
    result = project.record()
    assert result.ret == 0
    out = " ".join(result.stdout.str().split())
    assert ("until when openai's models live is not known: " in out) == bool(why)
    assert "shut down" not in out
    assert len(api.looks) == 1


def test_a_server_of_one_s_own_and_a_client_of_one_s_own_are_not_asked(project: Project, api: Api) -> None:
    project.write()
    project.record()
    project.write(model="openai/gpt-4.1-nano", name="own")
    (project.path / "conftest.py").write_text(
        "def pytest_promptfit_client(model):\n    return lambda body: '<label>good</label>'\n"
    )
    assert "not recorded" not in project.record().stdout.str()
    assert api.looks == []


def test_the_table_of_models(project: Project, api: Api) -> None:
    optimizer = {"tune": {"model": "gemini/gemini-2.0-flash"}}
    project.write(model="openai/gpt-4.1-nano", **optimizer)
    project.write(at="sub/b.prompt.yaml", model="local/own.gguf")
    project.write(at=".hidden/c.prompt.yaml")
    project.record("mood.prompt.yaml")
    looks = len(api.looks)
    today = str(datetime.now().date())
    ran = promptfit("models", cwd=project.path)
    rows = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert rows == [
        "prompt model shut down USD in/out, 1M tokens recorded",
        f"mood.prompt.yaml openai/gpt-4.1-nano – 0.10 / 0.40 {today}",
        "optimizer gemini/gemini-2.0-flash deprecated 0.10 / 0.40 –",
        "sub/b.prompt.yaml local/own.gguf – free –",
        "gemini/gemini-2.0-flash is deprecated by its provider: name another in tune.model of mood.prompt.yaml",
    ]
    assert len(api.looks) == looks
    out = promptfit("models", "--online", cwd=project.path, OPENAI_API_KEY=KEY).out
    assert f"mood.prompt.yaml   openai/gpt-4.1-nano      {END}  0.10 / 0.40 " in out
    assert f"\n{SHUT_DOWN}" in out
    assert f": {COMMAND}\n" in out
    found = json.loads(promptfit("models", "--online", "--json", cwd=project.path, OPENAI_API_KEY=KEY).out)["models"]
    assert [(one["role"], one["shutdown"], one["deprecated"]) for one in found] == [
        ("task", str(END), False),
        ("optimizer", None, True),
        ("task", None, False),
    ]
    assert "no API key: set OPENAI_API_KEY" in promptfit("models", "--online", cwd=project.path).out


def test_the_table_has_the_day_of_the_commit(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write()
    project.record()
    project.git("init")
    project.git("add", ".")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-01-02T12:00:00Z")
    project.git("commit", "-m", "x")
    assert promptfit("models", cwd=project.path).out.splitlines()[1].endswith(" 2026-01-02")


def test_what_cannot_be_read_leaves_the_others_their_rows(project: Project) -> None:
    project.write()
    (project.path / "broken.prompt.yaml").write_text("model: [")
    ran = promptfit("models", cwd=project.path)
    assert ran.code == 1
    assert "mood.prompt.yaml" in ran.out
    assert ran.err.startswith("promptfit models: broken.prompt.yaml:")
    (project.path / "none").mkdir()
    assert promptfit("models", "none", cwd=project.path).mistake == (
        "promptfit models: no prompt file in none: expected some *.prompt.yaml or *.prompt.yml"
    )


def test_a_migration_says_why(project: Project, api: Api) -> None:
    project.write(model="openai/gpt-4.1-nano", params={"max_tokens": 50})
    project.record("--promptfit-update")
    arguments = ("mood.prompt.yaml", "--to", "openai/gpt-6-luna", "--record")
    ran = promptfit("migrate", *arguments, cwd=project.path, OPENAI_API_KEY=KEY)
    assert ran.code == 0, ran.err
    assert f"\n{SHUT_DOWN}" in ran.out
    assert "\n| USD, 1,000 calls | 0.0140 | 0.0150 |\n" in ran.out
    assert (
        '`{"max_tokens": 50}` → `{"reasoning_effort": "none", "temperature": 0, "max_completion_tokens": 50}`'
        in ran.out
    )
    assert project.replay().ret == 0


def test_anthropic_s_list_has_other_words(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    known = anthropic.types.ModelInfo.model_construct(
        id="claude-x", lifecycle="deprecated", retires_at=datetime.combine(END, datetime.min.time(), UTC)
    )
    answer = json_answer({"data": [json.loads(known.model_dump_json())], "has_more": False})
    with LoopbackServer(answer) as server:
        monkeypatch.setattr("pytest_promptfit.providers.anthropic.OWN_URL", server.url)
        project.write(model="anthropic/claude-x")
        out = promptfit("models", "--online", cwd=project.path, ANTHROPIC_API_KEY=KEY).out
    assert f"anthropic/claude-x will be shut down on {END}, in " in out
    (seen,) = server.seen
    assert seen.path == "/v1/models?limit=1000"
    assert KEY in {seen.headers.get("authorization", "").removeprefix("Bearer "), seen.headers.get("x-api-key")}


def test_a_tuning_run_says_it_of_its_optimizer_too(project: Project, api: Api) -> None:
    rows = tuple((f"s{n}", f"a {'lovely' if n % 2 else 'dreadful'} day {n}", "good") for n in range(24))
    tune = {
        "model": "openai/gpt-4.1-nano",
        "budget": {"task_calls": 40, "optimizer_calls": 4},
        "arms": ["patches"],
        "iterations": 1,
    }
    project.write(rows, model="openai/gpt-6-luna", tune=tune, cases="gated")
    out = " ".join(project.pytest("--tune").stdout.str().split())
    assert SHUT_DOWN in out
    assert "name another in tune.model of mood.prompt.yaml" in out
    assert len(api.looks) == 1
