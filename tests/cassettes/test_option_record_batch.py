"""``--promptfit-record=batch``: submitted and left, collected later, through the real SDKs; and what goes wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import anthropic  # noqa: F401 - each run inside a test would load it anew
import pytest
from batch_server import BatchModel
from loopback_server import CUT, Answer, error
from mood_project import MOODS, by_keyword

from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.providers.batch_api import OpenAIBatches
from pytest_promptfit.providers.openai import OWN_URLS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mood_project import Project

BATCH = "--promptfit-record=batch"
CANCEL = "--promptfit-record=batch-cancel"
API = ["openai", "anthropic"]


@pytest.fixture
def model() -> Iterator[BatchModel]:
    """A model with a batch API, in the place of the one that has none."""
    model = BatchModel()
    with model.server:
        yield model


def write(project: Project, server: BatchModel, api: str = "openai", rows: Any = MOODS, **fields: Any) -> Path:
    url = server.url if api == "openai" else server.server.url
    return project.write(rows, **{"model": {"provider": api, "name": "m", "base_url": url}, **fields})


def notes(project: Project) -> Path:
    return project.path / "cassettes" / "mood" / "batch"


def said(result: pytest.RunResult) -> list[str]:
    return [line.strip().removeprefix("note: ") for line in result.outlines if line.startswith("  note: ")]


@pytest.mark.parametrize("api", API)
def test_submits_leaves_collects_and_replays(project: Project, model: BatchModel, api: str) -> None:
    write(project, model, api)
    result = project.run(BATCH, "-rs", "--promptfit-json=report.json", "--promptfit-report=report.html")
    result.assert_outcomes(skipped=5)
    assert result.ret == 0
    assert said(result) == [
        "submitted 4 requests in 1 batch, its price is not known: run the same command later to collect the replies"
    ]
    result.stdout.fnmatch_lines(
        [
            "SKIPPED * in a batch that is under way: --promptfit-record=batch collects it",
            "mood: 4 of 4 without a reply: in a batch that is under way: * Not judged yet.",
        ]
    )
    (prompt,) = json.loads((project.path / "report.json").read_text(encoding="utf-8"))["prompts"]
    assert {case["outcome"] for case in prompt["cases"]} == {"waiting"}
    assert (prompt["verdict"]["fails"], prompt["usage"]["calls"]) == (False, 0)
    assert "Not judged yet." in (project.path / "report.html").read_text(encoding="utf-8")
    result = project.run(BATCH)
    result.assert_outcomes(skipped=5)
    assert said(result) == ["0 of 1 batch done, 0 of 4 requests: run the same command later to collect the rest"]
    assert len(model.held) == 1
    model.end()
    result = project.run(BATCH)
    result.assert_outcomes(passed=4, skipped=1)
    result.stdout.fnmatch_lines(["  4 replies, none replayed, 400 tokens in, 40 out, price unknown"])
    assert not notes(project).exists()
    assert model.asked_alone == 0
    project.replay().assert_outcomes(passed=4, skipped=1)


@pytest.mark.parametrize("api", API)
def test_what_is_recorded_is_what_a_single_call_records(project: Project, model: BatchModel, api: str) -> None:
    write(project, model, api, params={"temperature": 0, "max_tokens": 20})
    project.record()
    folder = project.path / "cassettes" / "mood"
    alone = {entry.key: entry for entry in Cassette.load(folder)}
    (folder / "replies.yaml").unlink()
    project.run(BATCH)
    model.end()
    project.run(BATCH)
    in_batch = {entry.key: entry for entry in Cassette.load(folder)}
    assert in_batch.keys() == alone.keys()
    for key, entry in in_batch.items():
        other = alone[key]
        assert (entry.url, entry.request_body, entry.sample) == (other.url, other.request_body, other.sample)
        assert json.loads(entry.body) == json.loads(other.body)
        assert (entry.status, entry.content_type, entry.seconds) == (200, "application/json", None)


def test_each_of_several_answers_is_a_request(project: Project, model: BatchModel) -> None:
    write(project, model, repeats=3)
    assert said(project.run(BATCH))[0].startswith("submitted 12 requests in 1 batch")
    model.end()
    project.run(BATCH).assert_outcomes(passed=4, skipped=1)
    found = project.report()["prompts"][0]
    assert (found["usage"]["calls"], found["noise"]["share"]) == (12, 0.0)


def test_git_sees_nothing_of_what_is_under_way(project: Project, model: BatchModel) -> None:
    write(project, model)
    project.git("init", "-q")
    project.git("add", ".")
    project.git("commit", "-qm", "prompt")
    project.run(BATCH)
    assert {path.name for path in notes(project).iterdir()} > {".gitignore", "batches.json"}
    project.git("add", ".")
    with pytest.raises(Exception, match="exit status 1"):  # nothing to commit
        project.git("commit", "-qm", "more")


@pytest.mark.parametrize("api", API)
def test_a_request_that_failed_is_told_once_a_kind_and_submitted_by_the_next_run(
    project: Project, model: BatchModel, api: str
) -> None:
    rows = (*MOODS, ("s5", "a lovely bad word", "good"), ("s6", "a dreadful bad word", "bad"))
    write(project, model, api, rows)
    model.says = lambda text: (
        error(400, "I do not like that", "invalid_request_error") if "bad word" in text else by_keyword(text)
    )
    project.run(BATCH)
    model.end()
    result = project.run(BATCH)
    result.assert_outcomes(passed=4, failed=2, skipped=1)
    result.stdout.fnmatch_lines(
        [
            f"  2 of 6 without a reply: {api}/m: the API does not take the request (400): I do not like that",
            "  again:   pytest --promptfit --promptfit-record=batch mood.prompt.yaml",
        ]
    )
    assert len(model.held) == 1
    model.says = by_keyword
    project.run(BATCH).assert_outcomes(passed=4, skipped=3)
    assert len(model.held[1].asked) == 2
    model.end()
    project.run(BATCH).assert_outcomes(passed=6, skipped=1)


@pytest.mark.parametrize("api", API)
def test_what_expired_is_said_and_submitted_again(project: Project, model: BatchModel, api: str) -> None:
    write(project, model, api)
    project.run(BATCH)
    model.end("expired", leaves="walk")
    result = project.run(BATCH)
    result.assert_outcomes(passed=2, failed=2, skipped=1)
    result.stdout.fnmatch_lines(
        [
            f"  2 of 4 without a reply: {api}/m: its batch expired before it was answered: "
            "--promptfit-record=batch submits it again"
        ]
    )
    project.run(BATCH)
    assert [len(batch.asked) for batch in model.held] == [4, 2]


@pytest.mark.parametrize("api", API)
def test_cancelled_what_is_answered_by_then_is_kept(project: Project, model: BatchModel, api: str) -> None:
    write(project, model, api)
    project.run(BATCH)
    result = project.run(CANCEL)
    assert result.ret == 0
    result.assert_outcomes(skipped=5)
    (first, *_) = said(result)
    assert first == f"batch {model.held[0].id} is cancelled: the same command later collects what it has answered"
    model.end("cancelled", leaves="walk")
    result = project.run(CANCEL)
    result.assert_outcomes(passed=2, failed=2, skipped=1)
    result.stdout.fnmatch_lines(["*2 of 4 without a reply: *: its batch was cancelled: *"])
    assert not notes(project).exists()
    result = project.run(CANCEL)
    result.assert_outcomes(passed=2, skipped=3)
    assert len(model.held) == 1


def test_a_batch_that_is_refused_as_a_whole(project: Project, model: BatchModel) -> None:
    write(project, model)
    project.run(BATCH)
    model.end("failed", errors=("Enqueued token limit reached", "and more"))
    result = project.run(BATCH)
    result.assert_outcomes(failed=4, skipped=1)
    result.stdout.fnmatch_lines(
        ["  4 of 4 without a reply: openai/m: the batch was refused: Enqueued token limit reached (and 1 more errors)"]
    )
    assert not notes(project).exists()


@pytest.mark.parametrize("api", API)
def test_a_submission_that_was_broken_off_is_found_again(project: Project, model: BatchModel, api: str) -> None:
    """The API has the batch, and its answer never came."""
    write(project, model, api)
    model.late = True
    model.first = lambda seen: CUT if seen.method == "POST" and seen.path.endswith("batches") else None
    result = project.run(BATCH)
    result.assert_outcomes(failed=4, skipped=1)
    result.stdout.fnmatch_lines(["*whether the API has the batch is not known, and the same command finds out*"])
    assert len(model.held) == 1, "a batch is never submitted twice by itself"
    model.first = lambda _: None
    result = project.run(BATCH)
    result.assert_outcomes(skipped=5)
    found = model.held[0].id
    assert said(result)[0] == f"batch {found} is taken for the one that was being submitted when a run was broken off"
    model.end()
    project.run(BATCH).assert_outcomes(passed=4, skipped=1)
    assert len(model.held) == 1


@pytest.mark.parametrize("api", API)
def test_a_submission_that_never_arrived_is_made_again(project: Project, model: BatchModel, api: str) -> None:
    write(project, model, api)
    model.first = lambda seen: CUT if seen.method == "POST" and seen.path.endswith("batches") else None
    project.run(BATCH).assert_outcomes(failed=4, skipped=1)
    assert not model.held
    model.first = lambda _: None
    result = project.run(BATCH)
    result.assert_outcomes(skipped=5)
    assert said(result)[0] == (
        "4 requests were about to be submitted when a run was broken off: the API has no batch of them"
    )
    assert len(model.held) == 1


def test_a_reply_to_a_text_that_has_changed_is_recorded_too(project: Project, model: BatchModel) -> None:
    write(project, model)
    project.run(BATCH)
    changed = (("s1", "a lovely evening", "good"), *MOODS[1:])
    write(project, model, rows=changed)
    model.end()
    result = project.run(BATCH)
    result.assert_outcomes(passed=3, skipped=2)
    assert said(result)[0].startswith("1 of the replies are to texts that have changed")
    write(project, model)
    project.replay().assert_outcomes(passed=4, skipped=1)


def test_a_single_call_does_not_pay_again_for_what_is_under_way(project: Project, model: BatchModel) -> None:
    write(project, model)
    project.run(BATCH)
    project.record().assert_outcomes(skipped=5)
    assert model.asked_alone == 0
    result = project.replay()
    result.assert_outcomes(failed=4, skipped=1)
    assert said(result) == [
        "4 requests in batches under way: pytest --promptfit --promptfit-record=batch collects them"
    ]


def test_many_requests_are_split_by_the_limits(
    project: Project, model: BatchModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenAIBatches, "most_requests", 3)
    write(project, model)
    result = project.run(BATCH)
    assert said(result)[0].startswith("submitted 4 requests in 2 batches")
    assert [len(batch.asked) for batch in model.held] == [3, 1]
    model.held[0].status = "completed"
    result = project.run(BATCH)
    result.assert_outcomes(passed=3, skipped=2)
    assert said(result)[0].startswith("1 of 2 batches done, 3 of 4 requests")
    monkeypatch.setattr(OpenAIBatches, "most_bytes", 1)
    write(project, model, prompt={"system_prompt": "Good or bad mood?"})
    project.run(BATCH)
    assert [len(batch.asked) for batch in model.held[2:]] == [1, 1, 1, 1]


class TestLimits:
    """In a batch nothing can be stopped: what could pass a limit is not submitted."""

    def test_calls(self, project: Project, model: BatchModel) -> None:
        write(project, model)
        result = project.run(BATCH, "--promptfit-max-calls=3")
        result.assert_outcomes(failed=1, skipped=4)
        assert [len(batch.asked) for batch in model.held] == [3]
        result.stdout.fnmatch_lines(["*not submitted: --promptfit-max-calls could be passed*"])

    def test_usd_counts_half_the_price(
        self, project: Project, model: BatchModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(OWN_URLS, "openai", model.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-loopback")
        write(project, model, model="openai/gpt-4.1-nano", params={"max_tokens": 1_000_000})
        # A reply of a million tokens is $0.40, and $0.20 in a batch.
        result = project.run(BATCH, "--promptfit-budget=0.41")
        result.assert_outcomes(failed=2, skipped=3)
        (submitted,) = said(result)
        assert re.fullmatch(r"submitted 2 requests in 1 batch, less than \$0.0001: run .*", submitted)
        model.end()
        result = project.run(BATCH, "-k", "s1 or s2")
        # 200 tokens in at $0.05 and 20 out at $0.20 a million.
        result.stdout.fnmatch_lines(["  2 replies, none replayed, 200 tokens in, 20 out, $0.0000 paid"])


class TestRefused:
    """One line, and nothing is submitted."""

    @pytest.mark.parametrize("name", ["gemini/m", "local/m"])
    def test_a_provider_without_a_batch_api(
        self, project: Project, model: BatchModel, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv("GEMINI_API_KEY", "a-key-of-mine")
        write(project, model, model=name)
        result = project.run(BATCH)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {name}: no batch API is known here: *openai/… and anthropic/…*"])

    def test_a_client_of_one_s_own(self, project: Project, model: BatchModel) -> None:
        write(project, model)
        hook = "def pytest_promptfit_client(model):\n    return lambda body: '<label>good</label>'\n"
        (project.path / "conftest.py").write_text(hook)
        result = project.run(BATCH)
        result.stderr.fnmatch_lines(["ERROR: openai/m: a client of your own asks single questions: *"])

    def test_a_server_without_one(self, project: Project, model: BatchModel) -> None:
        write(project, model)
        model.first = lambda seen: error(404, "Not Found") if "files" in seen.path else None
        result = project.run(BATCH)
        result.assert_outcomes(failed=4, skipped=1)
        result.stdout.fnmatch_lines(
            [f"*openai/m: no batch API at {model.url}/batches (404): record without it: pytest --promptfit *"]
        )
        assert not notes(project).exists()

    @pytest.mark.parametrize(
        ("options", "line"),
        [
            (("-p", "xdist", "-n2", "--dist=loadgroup"), "*=batch runs in one process: leave out pytest-xdist's -n"),
            (("--tune",), "*=batch and --tune: a tuning run asks one thing after another: leave out one"),
        ],
    )
    def test_options_that_do_not_go_with_it(
        self, project: Project, model: BatchModel, options: tuple[str, ...], line: str
    ) -> None:
        write(project, model)
        result = project.run(BATCH, *options)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: --promptfit-record{line}"])


def test_a_batch_that_the_api_does_not_know_is_given_up_on_request(project: Project, model: BatchModel) -> None:
    write(project, model)
    project.run(BATCH)
    model.held.clear()
    result = project.run(BATCH)
    result.assert_outcomes(failed=4, skipped=1)
    result.stdout.fnmatch_lines(["*the API does not know batch batch_0: *--promptfit-record=batch-cancel gives it up*"])
    write(project, model, prompt={"system_prompt": "Good or bad mood?"})  # nobody asks for those any more
    assert "the API does not know batch batch_0" in said(project.run(BATCH))[0]
    assert [len(batch.asked) for batch in model.held] == [4]
    model.held.clear()
    project.run(CANCEL)
    assert not notes(project).exists()


def test_results_that_are_none_lose_nothing(project: Project, model: BatchModel) -> None:
    write(project, model)
    project.run(BATCH)
    model.end()
    page = Answer(200, b"<html>Log in</html>", content_type="text/html")
    model.first = lambda seen: page if seen.path.endswith("/content") else None
    project.run(BATCH).assert_outcomes(failed=4, skipped=1)
    model.first = lambda _: None
    project.run(BATCH).assert_outcomes(passed=4, skipped=1)
    assert len(model.held) == 1


def test_a_run_that_was_killed_while_it_collected_records_each_reply_once(project: Project, model: BatchModel) -> None:
    write(project, model)
    project.run(BATCH)
    shutil.copytree(notes(project), project.path / "noted")
    model.end()
    project.run(BATCH)
    shutil.copytree(project.path / "noted", notes(project))
    project.run(BATCH).stdout.fnmatch_lines(["  4 replies, all replayed, *"])
    assert len(Cassette.load(project.path / "cassettes" / "mood")) == 4
    assert not notes(project).exists()


def test_notes_that_are_damaged_say_what_to_do(project: Project, model: BatchModel) -> None:
    write(project, model)
    project.run(BATCH)
    (notes(project) / "batches.json").write_text("{")
    result = project.run(BATCH)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: cassettes/mood/batch: the notes of batches under way cannot be read *"])


def test_the_key_is_nowhere(project: Project, model: BatchModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "a-key-of-mine")
    url = model.url
    write(project, model, model={"provider": "openai", "name": "m", "base_url": url, "api_key_env": "MY_KEY"})
    model.says = lambda text: f"a-key-of-mine {by_keyword(text)}"
    project.run(BATCH)
    assert {seen.headers["authorization"] for seen in model.server.seen} == {"Bearer a-key-of-mine"}
    model.end()
    project.run(BATCH).assert_outcomes(passed=4, skipped=1)
    for path in (project.path / "cassettes").rglob("*"):
        assert path.is_dir() or "a-key-of-mine" not in path.read_text(encoding="utf-8")


class TestOthers:
    """Other processes, and this one's end."""

    pytestmark = pytest.mark.endurance

    def test_two_runs_at_once_submit_once(self, project: Project, model: BatchModel) -> None:
        write(project, model)
        both = [started(project), started(project)]
        assert [process.wait() for process in both] == [0, 0]
        assert [len(batch.asked) for batch in model.held] == [4]

    @pytest.mark.parametrize("api", API)
    def test_killed_while_it_submits(self, project: Project, model: BatchModel, api: str) -> None:
        write(project, model, api)
        model.server.latency = 0.5
        process = started(project)
        while not model.held:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        model.server.latency = 0.0
        project.run(BATCH).assert_outcomes(skipped=5)
        model.end()
        project.run(BATCH).assert_outcomes(passed=4, skipped=1)
        assert len(model.held) == 1


def started(project: Project) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "promptfit", "--promptfit", BATCH]
    return subprocess.Popen(command, cwd=project.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
