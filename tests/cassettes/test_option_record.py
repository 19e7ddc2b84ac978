"""``--promptfit-record``: what is asked, what is kept, what is said when asking fails, and kills at any time."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from loopback_server import HANG, HTML, Answer, LoopbackServer, Seen, broken, busy, chat, error

if TYPE_CHECKING:
    from pathlib import Path

    from mood_project import Project

KILLS = 20


def long_set(count: int) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (f"s{n}", f"a {'lovely' if n % 2 else 'dreadful'} day, number {n}", ("bad", "good")[n % 2])
        for n in range(count)
    )


def test_asks_once_then_replays(project: Project) -> None:
    project.write()
    result = project.record()
    result.assert_outcomes(passed=4, skipped=1)
    assert len(project.model.asked) == 4
    project.replay().assert_outcomes(passed=4, skipped=1)
    project.record().assert_outcomes(passed=4, skipped=1)
    assert len(project.model.asked) == 4


def test_a_bare_flag_does_not_swallow_the_path_behind_it(project: Project) -> None:
    project.write(at="a/mood.prompt.yaml")
    project.write(at="b/other.prompt.yaml")
    project.run("--promptfit-record", "a").assert_outcomes(passed=4, skipped=1)
    assert len(project.model.asked) == 4


def test_asks_only_the_selected_samples(project: Project) -> None:
    path = project.write()
    project.record(f"{path}::sample-s2").assert_outcomes(passed=1)
    assert len(project.model.asked) == 1
    project.record("-k", "s2 or s3").assert_outcomes(passed=2, deselected=3)
    assert len(project.model.asked) == 2


def test_record_all_asks_again_and_keeps_the_new_replies(project: Project) -> None:
    project.write()
    project.record()
    project.model.says = lambda _: "Label: <label>bad</label>"
    project.ask_anew().assert_outcomes(passed=2, failed=2, skipped=1)
    assert len(project.model.asked) == 8
    project.replay().assert_outcomes(passed=2, failed=2, skipped=1)


def test_a_new_sample_is_the_only_one_asked(project: Project) -> None:
    project.write()
    project.record()
    rows = (("new", "a lovely evening", "good"), *_moods())
    project.write(rows)
    project.record().assert_outcomes(passed=5, skipped=1)
    assert len(project.model.asked) == 5


def _moods() -> tuple[tuple[str, str, str], ...]:
    from mood_project import MOODS

    return MOODS  # type: ignore[return-value]


def test_the_summary_tells_tokens_and_calls(project: Project) -> None:
    project.write()
    project.record().stdout.fnmatch_lines(["*4 replies, none replayed, 400 tokens in, 40 out, price unknown"])
    project.replay().stdout.fnmatch_lines(["*4 replies, all replayed, 400 tokens in, 40 out"])


def test_progress_is_shown_while_asking(project: Project) -> None:
    project.write()
    project.record().stdout.fnmatch_lines(["asking * 4/4, */s"])


class TestFailures:
    """Each is a clear line, and nothing of it is recorded."""

    def test_a_missing_key_stops_before_anything_runs(self, project: Project) -> None:
        project.write(model="openai/gpt-4.1-nano")
        result = project.record()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: openai/gpt-4.1-nano: no API key: set OPENAI_API_KEY *"])

    @pytest.mark.parametrize(
        ("answer", "line"),
        [
            (error(401, "Incorrect API key"), "*refused (401)*"),
            (error(404, "The model does not exist", "model_not_found"), "*check the model's name*"),
            (error(400, "filtered", "content_filter"), "*content filter*"),
            (error(400, "unsupported parameter: top_q"), "*does not take the request (400)*top_q*"),
            (HTML, "*is not JSON*is base_url right*"),
        ],
        ids=["key", "model", "filter", "parameter", "html"],
    )
    def test_a_refusal_is_one_line_of_the_case(self, project: Project, answer: Answer, line: str) -> None:
        project.write()
        project.model.says = lambda _: answer
        result = project.record()
        result.assert_outcomes(failed=4, skipped=1)
        result.stdout.fnmatch_lines([line])
        result.stdout.no_fnmatch_line("*Traceback*")
        assert not list(project.path.glob("cassettes/**/*.yaml"))

    def test_a_refused_key_is_asked_once_not_for_every_sample(self, project: Project) -> None:
        project.write(long_set(50))
        project.model.says = lambda _: error(401, "no")
        project.record().assert_outcomes(failed=50, skipped=1)
        assert len(project.model.asked) == 1

    def test_no_server(self, project: Project) -> None:
        project.write(model={"provider": "openai", "name": "m", "base_url": "http://127.0.0.1:9/v1"})
        result = project.record()
        result.assert_outcomes(failed=4, skipped=1)
        result.stdout.fnmatch_lines(["*no server can be reached at http://127.0.0.1:9/v1/chat/completions*"])

    def test_a_time_out(self, project: Project, no_waits: None) -> None:
        model = {"provider": "openai", "name": "m", "base_url": project.model.url, "timeout": 0.05}
        project.write((("s1", "a lovely day", "good"),), model=model)
        project.model.says = lambda _: HANG
        project.record().stdout.fnmatch_lines(["*no reply in time; give it longer with model.timeout*"])

    def test_busy_and_broken_servers_are_waited_for_and_not_recorded(self, project: Project) -> None:
        project.write()
        passing = iter([busy(), broken(500), busy()])
        project.model.says = lambda text: (
            next(passing, None) or chat(f"<label>{'good' if 'lovely' in text else 'bad'}</label>")
        )
        project.record().assert_outcomes(passed=4, skipped=1)
        (cassette,) = project.path.glob("cassettes/mood/*.yaml")
        assert [entry["response"]["status"]["code"] for entry in _entries(cassette)] == [200] * 4

    def test_a_reply_cut_at_the_limit_says_so(self, project: Project) -> None:
        project.write()
        project.model.says = lambda _: chat("Let me think about", finish_reason="length")
        project.record().stdout.fnmatch_lines(["*no label could be read in 4: the reply was cut at the token limit*"])


class TestBudget:
    """Limits stop before they are passed, and keep what was paid for."""

    def test_max_calls(self, project: Project) -> None:
        project.write(long_set(20))
        result = project.record("--promptfit-max-calls", 7)
        assert len(project.model.asked) == 7
        result.assert_outcomes(passed=7, failed=13, skipped=1)
        result.stdout.fnmatch_lines(["*limit of 7 calls reached after 7 calls*"])
        project.record("--promptfit-max-calls", 13).assert_outcomes(passed=20, skipped=1)
        assert len(project.model.asked) == 20

    def test_usd_needs_a_known_price(self, project: Project) -> None:
        project.write()
        result = project.record("--promptfit-budget", "0.10")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*its price is not known*--promptfit-max-calls*"])
        assert not project.model.asked

    @pytest.mark.parametrize("value", ["0", "-1", "nan", "much"])
    def test_an_amount_that_is_none(self, project: Project, value: str) -> None:
        project.write()
        result = project.record(f"--promptfit-budget={value}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*expected an amount in USD*"])


def _entries(cassette: Path) -> list[dict[str, object]]:
    lines = cassette.read_text(encoding="utf-8").splitlines()[2:]
    return [json.loads(line.removeprefix("- ")) for line in lines]


def _recording(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "promptfit", "--promptfit", "--promptfit-record"]
    command += ["--promptfit-concurrency", "4"]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.endurance
def test_killed_twenty_times_nothing_is_lost_and_nothing_asked_twice(pytester: pytest.Pytester) -> None:
    """Only what was in flight at a kill is asked again; what is on disk never is."""
    chance, count = random.Random(7), 400

    def reply(seen: Seen) -> Answer:
        text = seen.body["messages"][-1]["content"]
        return chat(f"<label>{'good' if 'lovely' in text else 'bad'}</label>")

    with LoopbackServer(reply, latency=0.02) as server:
        _write_long_project(pytester.path, server.url, count)
        kept: set[str] = set()
        for _ in range(KILLS):
            before = len(server.seen)
            process = _recording(pytester.path)
            while len(server.seen) < before + 2 and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0.0, 0.1))
            asked_now = {_text(seen) for seen in server.seen[before:]}
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert not asked_now & kept, "a recorded reply was asked for again"
            on_disk = _texts_on_disk(pytester.path)
            assert kept <= on_disk, "a recorded reply was lost"
            kept = on_disk
        assert kept
        assert _recording(pytester.path).wait() == 0
        asked = Counter(_text(seen) for seen in server.seen)
    assert len(_texts_on_disk(pytester.path)) == count
    in_flight = 4
    assert sum(asked.values()) - count <= KILLS * in_flight
    pytester.runpytest_inprocess("-p", "promptfit", "--promptfit").assert_outcomes(passed=count, skipped=1)


def test_two_recordings_of_one_prompt_ask_each_sample_once(pytester: pytest.Pytester) -> None:
    with LoopbackServer(lambda seen: chat("<label>good</label>"), latency=0.02) as server:
        _write_long_project(pytester.path, server.url, 60)
        both = [_recording(pytester.path), _recording(pytester.path)]
        for process in both:
            process.wait()
        asked = Counter(_text(seen) for seen in server.seen)
    assert set(asked.values()) == {1}
    assert len(_texts_on_disk(pytester.path)) == 60


def _write_long_project(folder: Path, url: str, count: int) -> None:
    (folder / "pytest.ini").write_text("[pytest]\n")
    rows = "\n".join(",".join((i, f'"{text}"', label)) for i, text, label in long_set(count))
    (folder / "mood.csv").write_text(f"id,text,label\n{rows}\n")
    (folder / "mood.prompt.yaml").write_text(
        f"model: {{provider: openai, name: m, base_url: '{url}/v1'}}\n"
        "prompt: {system_prompt: Good or bad?}\nlabels: [good, bad]\nsamples: {file: mood.csv, id: id}\n"
    )


def _text(seen: Seen) -> str:
    text: str = seen.body["messages"][-1]["content"]
    return text


def _texts_on_disk(folder: Path) -> set[str]:
    from pytest_promptfit.cassettes.cassette import Cassette

    entries = Cassette.load(folder / "cassettes" / "mood")
    return {json.loads(entry.request_body)["messages"][-1]["content"] for entry in entries}


def test_the_server_that_got_a_key_of_the_prompt_files_choice_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPANY_KEY", "company-key-1")
    project.write(
        model={"provider": "openai", "name": "m", "base_url": project.model.url, "api_key_env": "COMPANY_KEY"}
    )
    host = project.model.url.split("/")[2]
    project.record().stdout.fnmatch_lines([f"*the key in COMPANY_KEY was sent to {host}"])
    project.replay().stdout.no_fnmatch_line("*COMPANY_KEY*")
