"""Many calls from production code: errors in their places, nothing paid for in vain, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback_server import HANG, Answer, chat, error, message
from mood_project import by_keyword

from pytest_promptfit import Call, CallError, Prediction, PromptfitError, load_prompt

if TYPE_CHECKING:
    from collections.abc import Callable

    from mood_project import Project

TEXTS = [f"a lovely day, number {n}" for n in range(200)]


def fails_at(*numbers: int) -> Callable[[str], str | Answer]:
    """Return a model that refuses some of the texts."""
    return lambda text: error(400, "not this one") if any(f"number {n}<" in text for n in numbers) else by_keyword(text)


def test_an_error_stands_in_its_place(project: Project) -> None:
    project.model.says = fails_at(3, 77)
    found = load_prompt(project.write()).batch(TEXTS, return_exceptions=True)
    assert [at for at, one in enumerate(found) if isinstance(one, CallError)] == [3, 77]
    assert "not this one" in str(found[77])
    assert {one.label for one in found if isinstance(one, Prediction)} == {"good"}
    assert len(project.model.asked) == 200


def test_without_it_the_first_error_ends_it_and_nothing_more_is_sent(project: Project) -> None:
    # Who comes after it gets no reply, however late the error is noticed.
    unanswered = {TEXTS[n] for n in range(6, 200)}
    refuses = fails_at(5)
    project.model.says = lambda text: HANG if any(one + "<" in text for one in unanswered) else refuses(text)
    classify = load_prompt(project.write())
    with pytest.raises(CallError, match="not this one"):
        classify.batch(TEXTS, concurrency=4)
    time.sleep(0.3)  # what was on its way arrives
    assert len(project.model.asked) <= 10
    assert classify("a lovely day").label == "good"


def test_after_a_refused_key_nothing_more_is_sent(project: Project) -> None:
    project.model.says = lambda text: error(401, "no such key")
    found = load_prompt(project.write()).batch(TEXTS, concurrency=4, return_exceptions=True)
    assert all(isinstance(one, CallError) for one in found)
    assert str(found[199]).startswith("not asked: ")
    assert len(project.model.asked) <= 8


def test_abatch_is_batch_for_async_code(project: Project) -> None:
    project.model.says = fails_at(1)

    async def several() -> list[Prediction | PromptfitError]:
        async with load_prompt(project.write()) as classify:
            good = await classify.abatch(TEXTS[10:20], concurrency=2)
            return [*good, *await classify.abatch(TEXTS[:3], return_exceptions=True)]

    found = asyncio.run(several())
    assert [isinstance(one, Prediction) for one in found] == [*[True] * 11, False, True]
    assert project.model.server.peak <= 3


def test_an_abatch_that_is_cancelled_sends_nothing_more(project: Project) -> None:
    project.model.server.latency = 0.02
    classify = load_prompt(project.write())

    async def cancelled() -> None:
        async with asyncio.timeout(0.3):
            await classify.abatch(TEXTS * 10, concurrency=2)

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())
    time.sleep(0.1)
    asked = len(project.model.asked)
    time.sleep(0.2)
    assert len(project.model.asked) == asked < 200


@pytest.mark.parametrize(
    ("texts", "concurrency", "said"),
    [
        ("a lovely day", 4, "expected several texts, found one"),
        (["a lovely day"], 0, "concurrency: 0 .*: expected at least 1"),
        ([None], 4, "expected a text to classify, found None"),
        ([b"a lovely day"], 4, "expected a text to classify, found b'a lovely day'"),
    ],
)
def test_what_is_no_text_is_told_and_not_asked(project: Project, texts: list[str], concurrency: int, said: str) -> None:
    with pytest.raises(PromptfitError, match=said):
        load_prompt(project.write()).batch(texts, concurrency=concurrency)
    assert project.model.asked == []


# Threads, files and the end


def handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


def left_behind() -> tuple[int, int]:
    gc.collect()
    return threading.active_count(), handles()


def settles_at(expected: tuple[int, int]) -> bool:
    """Tell whether no more is left than expected, within a second: what is closed ends a moment later."""
    for _ in range(50):
        if all(now <= then for now, then in zip(left_behind(), expected, strict=True)):
            return True
        time.sleep(0.02)
    return False


def test_failures_leave_no_thread_and_no_file_open(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project.write(model="openai/gpt-4.1-nano")
    with pytest.raises(CallError):
        load_prompt(path)("imports what is needed")
    before = left_behind()
    for _ in range(5):
        with pytest.raises(CallError, match="no API key"):
            load_prompt(path)("a lovely day")
    assert settles_at(before)


def test_a_classifier_that_nobody_holds_any_more_ends_its_thread(project: Project) -> None:
    path = project.write()
    with load_prompt(path) as classify:
        classify("a lovely day")
    before = left_behind()
    for _ in range(5):
        load_prompt(path)("a lovely day")
        assert asyncio.run(load_prompt(path).acall("a lovely day")).label == "good"
    assert settles_at(before)


def test_with_closes_and_a_later_call_opens_anew(project: Project) -> None:
    before = threading.active_count()
    with load_prompt(project.write()) as classify:
        assert classify("a lovely day").label == "good"
        assert threading.active_count() > before
    assert settles_at((before, 10**6))
    assert classify("a dreadful day").label == "bad"
    classify.close()


@pytest.mark.parametrize("many", [True, False], ids=["batch", "call"])
def test_close_with_calls_in_flight_returns_at_once(project: Project, many: bool) -> None:
    project.model.says = lambda text: HANG
    classify = load_prompt(project.write())
    errors: list[BaseException] = []

    def call() -> None:
        try:
            classify.batch(TEXTS[:4]) if many else classify("a lovely day")
        except CallError as error:
            errors.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    while not project.model.asked:
        time.sleep(0.01)
    started = time.monotonic()
    classify.close()
    caller.join(5)
    assert time.monotonic() - started < 2
    assert [str(error) for error in errors] == ["closed while it was being asked"]


def test_a_program_that_forgets_to_close_ends_all_the_same(project: Project) -> None:
    """In a process that was forked from it, too."""
    program = (
        "import os, sys\n"
        "from pytest_promptfit import load_prompt\n"
        "classify = load_prompt('mood.prompt.yaml')\n"
        "print(classify('a lovely day').label, flush=True)\n"
        "child = os.fork()\n"
        "if child and os.waitpid(child, 0)[1]:\n"
        "    sys.exit(1)\n"
        "print(classify('a dreadful day').label if sys.argv[1] == 'call' else 'bad', flush=True)\n"
    )
    if not hasattr(os, "fork"):
        pytest.skip("no fork")
    project.write()
    for what in ("call", "only end"):
        done = subprocess.run(
            [sys.executable, "-c", program, what],
            cwd=project.path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.split() == ["good", "bad", "bad"]


# What a prediction says, and who is told of a call


def with_id(answer: Answer, name: str) -> Answer:
    return Answer(answer.status, answer.body, {**answer.headers, name: f"req-{name}"})


def test_a_prediction_says_what_it_took(project: Project) -> None:
    project.model.server.latency = 0.05
    project.model.says = lambda text: with_id(chat(by_keyword(text)), "x-request-id")
    prediction = load_prompt(project.write())("a lovely day")
    assert (prediction.label, prediction.model, prediction.request_id) == ("good", "test", "req-x-request-id")
    assert (prediction.input_tokens, prediction.output_tokens) == (100, 10)
    assert 0.05 <= prediction.seconds < 30
    assert prediction.usd is None  # nobody knows the price of this server


def test_anthropic_s_request_id_and_a_price(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2

    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-0123456789")

    def answer(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(message("<label>good</label>").body) | {"model": "claude-opus-4-1-20250805"}
        return httpx2.Response(200, json=body, headers={"request-id": "req-1"})

    def client(model: object) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(answer))

    classify = load_prompt(project.write(model="anthropic/claude-opus-4-1"), client=client)
    prediction = classify("a lovely day")
    assert (prediction.model, prediction.request_id) == ("claude-opus-4-1-20250805", "req-1")
    assert prediction.usd == pytest.approx(100 * 15e-6 + 10 * 75e-6)


def test_a_price_counts_what_went_into_the_prompt_cache(project: Project) -> None:
    """Claude 3.5 Haiku takes 0.80 USD for a million tokens, and a quarter more where they are cached."""
    usage = {"input_tokens": 0, "cache_creation_input_tokens": 1_000_000, "output_tokens": 0}
    said = {"content": [{"type": "text", "text": "<label>good</label>"}], "stop_reason": "end_turn", "usage": usage}
    path = project.write(model="anthropic/claude-3-5-haiku-latest")
    with load_prompt(path, client=lambda _: lambda _body: said) as classify:
        assert classify("a lovely day").usd == pytest.approx(1.0)


def test_the_id_of_an_sdk_s_own_client(project: Project) -> None:
    from openai import AsyncOpenAI

    project.model.says = lambda text: with_id(chat(by_keyword(text)), "x-request-id")

    def client(model: object) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=project.model.url, api_key="sk-0123456789")

    with load_prompt(project.write(), client=client) as classify:
        assert classify("a lovely day").request_id == "req-x-request-id"


def test_every_call_is_told_to_on_call(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    """The README's example."""
    project.model.says = lambda text: with_id(fails_on_no(text), "x-request-id")
    log = logging.getLogger("moods")

    def on_call(call: Call) -> None:
        if call.error is not None:
            log.warning("%s: %s after %.1f s (%s)", call.prompt, call.error, call.seconds, call.request_id)
        elif call.prediction is not None:
            log.info("%s: %s, %s USD", call.prompt, call.prediction.label, call.prediction.usd)

    with caplog.at_level(logging.INFO, "moods"), load_prompt(project.write(), on_call=on_call) as classify:
        classify.batch(["a lovely day", "a lovely walk"])
        with pytest.raises(CallError):
            classify("a day that is no good")
    said = [record.getMessage() for record in caplog.records if record.name == "moods"]
    assert said[:2] == ["mood: good, None USD"] * 2
    assert said[2].startswith("mood: openai/m: the API does not take the request (400): no after")
    assert said[2].endswith("(req-x-request-id)")
    assert not any("lovely" in line for line in said)


def fails_on_no(text: str) -> Answer:
    return error(400, "no") if " no " in text else chat(by_keyword(text))


def test_an_on_call_that_fails_loses_no_prediction(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    def on_call(call: Call) -> None:
        raise RuntimeError("the log is full")

    with load_prompt(project.write(), on_call=on_call) as classify:
        assert classify("a lovely day").label == "good"
    assert "the log is full" in caplog.text


def test_on_call_sees_the_context_of_its_caller(project: Project) -> None:
    """So that a span is a child of the one that the caller is in."""
    from contextvars import ContextVar

    span: ContextVar[str] = ContextVar("span", default="")
    seen: list[str] = []

    async def handle(name: str, classify: object) -> None:
        span.set(name)
        await classify.acall("a lovely day")  # type: ignore[attr-defined]

    async def both() -> None:
        with load_prompt(project.write(), on_call=lambda call: seen.append(span.get())) as classify:
            await asyncio.gather(handle("a", classify), handle("b", classify))

    asyncio.run(both())
    assert sorted(seen) == ["a", "b"]


def test_limits_of_a_call_are_given_where_it_is_made(project: Project) -> None:
    path = project.write()
    project.model.says = lambda text: error(500, "busy")
    with load_prompt(path, max_retries=0) as classify, pytest.raises(CallError, match="busy"):
        classify("a lovely day")
    assert len(project.model.asked) == 1
    project.model.says = lambda text: HANG
    started = time.monotonic()
    with load_prompt(path, timeout=5, deadline=0.3) as classify, pytest.raises(CallError, match=r"within 0\.3 s"):
        classify("a lovely day")
    assert time.monotonic() - started < 4
    with pytest.raises(PromptfitError, match="load_prompt: max_retries: "):
        load_prompt(path, max_retries=-1)
