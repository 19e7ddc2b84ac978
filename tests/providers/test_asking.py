"""Asking many questions at once: concurrency, order, and what ends a run; over real HTTP."""

from __future__ import annotations

import asyncio
import gzip
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
from asking_runs import Answers, echo, questions, run
from loopback_server import (
    AT_ONCE,
    HTML,
    Answer,
    LoopbackServer,
    Seen,
    broken,
    busy,
    chat,
    error,
    message,
)

from pytest_promptfit.cassettes.cassette import ASKED, Asked, canonical_body
from pytest_promptfit.errors import CallError, CassetteError
from pytest_promptfit.prompts.model import ModelSpec
from pytest_promptfit.providers.asking import ask
from pytest_promptfit.providers.usage import Limits, Usage
from pytest_promptfit.providers.wire import provider_of


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_every_question_is_answered_at_most_so_many_at_once(name: str) -> None:
    """After the first, which goes alone, the server answers only when eight are waiting."""
    eight = asyncio.Barrier(8)

    async def answer(seen: Seen) -> Answer:
        if seen.number > 0:
            await asyncio.wait_for(eight.wait(), 20)
        return message() if name == "anthropic" else chat()

    with LoopbackServer(answer) as server:
        answers, usage = run(server, questions(33), name=name, concurrency=8)

    assert sorted(answers.replies) == list(range(33))
    assert server.peak == 8
    assert (usage.calls, usage.input_tokens, usage.output_tokens) == (33, 3300, 330)
    assert usage.usd is None


def test_answers_belong_to_their_questions() -> None:
    with LoopbackServer(echo) as server:
        answers, _ = run(server, questions(30))

    assert answers.texts == {n: str(n) for n in range(30)}


def test_no_questions_ask_nothing() -> None:
    with LoopbackServer(chat()) as server:
        assert run(server, []) == ({}, Usage())
    assert server.seen == []


def test_a_caller_inside_a_running_loop() -> None:
    async def main() -> Answers:
        return run(server, questions(3))[0]

    with LoopbackServer(chat()) as server:
        assert len(asyncio.run(main()).replies) == 3


def test_many_questions_take_no_task_each() -> None:
    tasks: list[int] = []

    class Counting(httpx2.AsyncBaseTransport):
        def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
            self.inner = inner

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            tasks.append(len(asyncio.all_tasks()))
            return await self.inner.handle_async_request(request)

    with LoopbackServer(chat()) as server:
        run(server, questions(200), concurrency=4, wrap=Counting)

    assert len(tasks) == 200
    assert max(tasks) < 10


def test_the_transport_knows_what_is_asked() -> None:
    passed: list[tuple[Asked | None, str]] = []

    class Watching(httpx2.AsyncBaseTransport):
        def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
            self.inner = inner

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            response = await self.inner.handle_async_request(request)
            passed.append((ASKED.get(), (await request.aread()).decode()))
            return response

    with LoopbackServer(chat(), latency=0.01) as server:
        run(server, questions(20), wrap=Watching)

    assert len(passed) == 20
    assert all(asked and asked.body == canonical_body(body) for asked, body in passed)


def test_busy_and_broken_answers_are_asked_again_and_not_counted() -> None:
    def answer(seen: Seen) -> Answer:
        return busy() if seen.number % 3 == 0 else broken(503) if seen.number % 7 == 0 else chat()

    limits = Limits(calls=20)
    with LoopbackServer(answer) as server:
        answers, usage = run(server, questions(20), limits=limits)

    assert len(answers.replies) == 20
    assert len(server.seen) > 20
    assert usage.calls == limits.used_calls == 20


def test_the_first_question_goes_alone_and_a_refused_key_ends_the_run() -> None:
    with LoopbackServer(error(401, "bad key")) as server:
        answers, usage = run(server, questions(50))

    assert len(server.seen) == 1
    assert len(answers.errors) == 50
    assert str(answers[0]).startswith("openai/m: a request without a key")
    assert str(answers[49]) == f"not asked: {answers[0]}"
    assert usage.calls == 0


def test_a_missing_key_is_the_answer_to_all() -> None:
    answers = Answers()
    spec = ModelSpec(provider="openai", name="m")
    ask(questions(3), provider_of(spec, Path()), spec, on_answer=answers)

    assert str(answers[0]).startswith("openai/m: no API key: set OPENAI_API_KEY")
    assert str(answers[2]).startswith("not asked: openai/m: no API key")


def test_one_question_that_fails_does_not_end_the_run() -> None:
    def answer(seen: Seen) -> Answer:
        return error(400, "too long") if seen.body["messages"][0]["content"] in {"0", "5"} else chat()

    with LoopbackServer(answer) as server:
        answers, usage = run(server, questions(10))

    assert sorted(answers.errors) == [0, 5]
    assert "too long" in str(answers[5])
    assert usage.calls == 8


def test_a_first_question_that_fails_by_chance_is_asked_again() -> None:
    with LoopbackServer(lambda seen: error(400, "odd") if seen.number == 0 else chat()) as server:
        answers, _ = run(server, questions(3))

    assert sorted(answers.replies) == [0, 1, 2]


def test_what_the_rate_limit_turns_away_is_asked_again_as_long_as_others_get_through() -> None:
    """One question is turned away twenty times, more often than the SDK tries, each time after another's answer."""
    others = threading.Semaphore(0)
    turned_away = 0

    def answer(seen: Seen) -> Answer:
        nonlocal turned_away
        if seen.body["messages"][0]["content"] != "1":
            others.release()
            return echo(seen)
        if turned_away == 20:
            return echo(seen)
        others.acquire(timeout=20)
        turned_away += 1
        return error(429, "slow down", **AT_ONCE)

    with LoopbackServer(answer) as server:
        answers, _ = run(server, questions(60), concurrency=2)

    assert turned_away == 20
    assert answers.texts == {n: str(n) for n in range(60)}


def test_a_fatal_error_later_ends_the_run() -> None:
    with LoopbackServer(lambda seen: chat() if seen.number < 5 else error(401, "expired")) as server:
        answers, usage = run(server, questions(100), concurrency=4)

    assert usage.calls == len(answers.replies) == 5
    assert len(server.seen) <= 5 + 4
    assert len(answers.errors) == 95
    assert str(answers[99]).startswith("not asked: openai/m: ")


def test_a_reply_that_cannot_be_read_is_told_and_counted() -> None:
    limits = Limits()
    with LoopbackServer(lambda seen: HTML if seen.number == 2 else chat()) as server:
        answers, usage = run(server, questions(4), limits=limits, concurrency=1)

    assert [type(answers[n]) is dict for n in range(4)] == [True, True, False, True]
    assert "is not JSON" in str(answers[2])
    assert (usage.calls, limits.used_calls) == (3, 4)


@pytest.mark.parametrize("at", [0, 7])
def test_an_error_in_on_answer_ends_the_run_and_is_raised(at: int) -> None:
    def full(index: int, _answer: Any) -> None:
        if index >= at:
            raise CassetteError("disk full")

    with LoopbackServer(chat(), latency=0.01) as server, pytest.raises(CassetteError, match="disk full"):
        run(server, questions(200), on_answer=full, concurrency=4)
    assert len(server.seen) < 20


def test_an_error_in_the_wrapping_transport_ends_the_run_and_is_raised() -> None:
    class Full(httpx2.AsyncBaseTransport):
        def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
            self.inner = inner

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            response = await self.inner.handle_async_request(request)
            await response.aread()
            if len(server.seen) > 10:
                raise CassetteError("disk full")
            return response

    with LoopbackServer(chat(), latency=0.01) as server, pytest.raises(CassetteError, match="disk full"):
        run(server, questions(200), wrap=Full, concurrency=4)
    assert len(server.seen) < 20


@pytest.mark.parametrize("packed", [False, True])
def test_a_wrapping_transport_may_read_the_replies(packed: bool) -> None:
    class Reading(httpx2.AsyncBaseTransport):
        def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
            self.inner = inner

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            response = await self.inner.handle_async_request(request)
            await response.aread()
            return response

    good = chat("yes")
    answer = Answer(200, gzip.compress(good.body), {"content-encoding": "gzip"}) if packed else good
    with LoopbackServer(answer) as server:
        answers, _ = run(server, questions(20), wrap=Reading, concurrency=4)
    assert set(answers.texts.values()) == {"yes"}
    assert len(answers.texts) == len(server.seen) == 20


def test_call_error_is_what_the_answers_hold() -> None:
    """``CallError`` and ``BudgetExceeded`` are told apart by callers that stop for one and not for the other."""
    with LoopbackServer(error(404, "no such model")) as server:
        answers, _ = run(server, questions(2))

    assert [(type(answer), answer.fatal) for answer in answers.values()] == [(CallError, True), (CallError, True)]
