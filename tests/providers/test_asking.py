"""Asking many questions at once: concurrency, what ends a run, budgets, and Ctrl-C; over real HTTP."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from faulty_server import (
    AT_ONCE,
    HANG,
    HTML,
    Answer,
    FaultyServer,
    Seen,
    broken,
    busy,
    chat,
    error,
    json_answer,
    message,
)

from pytest_promptfit.cassettes.cassette import ASKED, Asked, canonical_body
from pytest_promptfit.errors import BudgetExceeded, CallError, CassetteError, PromptfitError
from pytest_promptfit.prompts.model import ModelSpec
from pytest_promptfit.providers.asking import ask
from pytest_promptfit.providers.usage import Limits, Usage, cost_usd
from pytest_promptfit.providers.wire import provider_of

PRICED = ModelSpec(provider="openai", name="gpt-4.1-nano")
CALL_USD = cost_usd(PRICED, 100, 10)
"""What one answer of the test server costs."""


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


URL = "http://127.0.0.1/v1/chat/completions"
"""What the questions are recorded under, wherever they go."""


def questions(count: int, **params: Any) -> list[Asked]:
    return [
        Asked.of(URL, {"model": "m", "messages": [{"role": "user", "content": str(n)}], **params}, f"s{n}")
        for n in range(count)
    ]


class Answers(dict[int, Any]):
    """Collects answers by index; an index answered twice is a mistake."""

    def __call__(self, index: int, answer: Any) -> None:
        assert index not in self
        self[index] = answer

    @property
    def texts(self) -> dict[int, str]:
        return {index: body["choices"][0]["message"]["content"] for index, body in self.replies.items()}

    @property
    def replies(self) -> dict[int, dict[str, Any]]:
        return {index: answer for index, answer in self.items() if isinstance(answer, dict)}

    @property
    def errors(self) -> dict[int, PromptfitError]:
        return {index: answer for index, answer in self.items() if isinstance(answer, PromptfitError)}


def run(
    server: FaultyServer,
    asked: list[Asked],
    *,
    name: str = "openai",
    price_of: ModelSpec | None = None,
    **options: Any,
) -> tuple[Answers, Usage]:
    spec = ModelSpec(provider=name, name="m", base_url=server.url, timeout=options.pop("timeout", 20.0))
    answers = options.pop("answers", None) or Answers()
    options.setdefault("on_answer", answers)
    return answers, ask(asked, provider_of(spec, Path()), price_of or spec, **options)


def echo(seen: Seen) -> Answer:
    return chat(seen.body["messages"][0]["content"])


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_every_question_is_answered_at_most_so_many_at_once(name: str) -> None:
    """After the first, which goes alone, the server answers only when eight are waiting."""
    eight = threading.Barrier(8)

    def answer(seen: Seen) -> Answer:
        if seen.number > 0:
            eight.wait(20)
        return message() if name == "anthropic" else chat()

    with FaultyServer(answer) as server:
        answers, usage = run(server, questions(33), name=name, concurrency=8)

    assert sorted(answers.replies) == list(range(33))
    assert server.peak == 8
    assert (usage.calls, usage.input_tokens, usage.output_tokens) == (33, 3300, 330)
    assert usage.usd is None


def test_answers_belong_to_their_questions() -> None:
    with FaultyServer(echo) as server:
        answers, _ = run(server, questions(30))

    assert answers.texts == {n: str(n) for n in range(30)}


def test_no_questions_ask_nothing() -> None:
    with FaultyServer(chat()) as server:
        assert run(server, []) == ({}, Usage())
    assert server.seen == []


def test_a_caller_inside_a_running_loop() -> None:
    async def main() -> Answers:
        return run(server, questions(3))[0]

    with FaultyServer(chat()) as server:
        assert len(asyncio.run(main()).replies) == 3


def test_many_questions_take_no_task_each() -> None:
    tasks: list[int] = []

    class Counting(httpx2.AsyncBaseTransport):
        def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
            self.inner = inner

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            tasks.append(len(asyncio.all_tasks()))
            return await self.inner.handle_async_request(request)

    with FaultyServer(chat()) as server:
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

    with FaultyServer(chat(), latency=0.01) as server:
        run(server, questions(20), wrap=Watching)

    assert len(passed) == 20
    assert all(asked and asked.body == canonical_body(body) for asked, body in passed)


def test_busy_and_broken_answers_are_asked_again_and_not_counted() -> None:
    def answer(seen: Seen) -> Answer:
        return busy() if seen.number % 3 == 0 else broken(503) if seen.number % 7 == 0 else chat()

    limits = Limits(calls=20)
    with FaultyServer(answer) as server:
        answers, usage = run(server, questions(20), limits=limits)

    assert len(answers.replies) == 20
    assert len(server.seen) > 20
    assert usage.calls == limits.used_calls == 20


def test_the_first_question_goes_alone_and_a_refused_key_ends_the_run() -> None:
    with FaultyServer(error(401, "bad key")) as server:
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

    with FaultyServer(answer) as server:
        answers, usage = run(server, questions(10))

    assert sorted(answers.errors) == [0, 5]
    assert "too long" in str(answers[5])
    assert usage.calls == 8


def test_a_first_question_that_fails_by_chance_is_asked_again() -> None:
    with FaultyServer(lambda seen: error(400, "odd") if seen.number == 0 else chat()) as server:
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

    with FaultyServer(answer) as server:
        answers, _ = run(server, questions(60), concurrency=2)

    assert turned_away == 20
    assert answers.texts == {n: str(n) for n in range(60)}


def test_a_fatal_error_later_ends_the_run() -> None:
    with FaultyServer(lambda seen: chat() if seen.number < 5 else error(401, "expired")) as server:
        answers, usage = run(server, questions(100), concurrency=4)

    assert usage.calls == len(answers.replies) == 5
    assert len(server.seen) <= 5 + 4
    assert len(answers.errors) == 95
    assert str(answers[99]).startswith("not asked: openai/m: ")


def test_a_reply_that_cannot_be_read_is_told_and_counted() -> None:
    limits = Limits()
    with FaultyServer(lambda seen: HTML if seen.number == 2 else chat()) as server:
        answers, usage = run(server, questions(4), limits=limits, concurrency=1)

    assert [type(answers[n]) is dict for n in range(4)] == [True, True, False, True]
    assert "is not JSON" in str(answers[2])
    assert (usage.calls, limits.used_calls) == (3, 4)


@pytest.mark.parametrize("at", [0, 7])
def test_an_error_in_on_answer_ends_the_run_and_is_raised(at: int) -> None:
    def full(index: int, _answer: Any) -> None:
        if index >= at:
            raise CassetteError("disk full")

    with FaultyServer(chat(), latency=0.01) as server, pytest.raises(CassetteError, match="disk full"):
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

    with FaultyServer(chat(), latency=0.01) as server, pytest.raises(CassetteError, match="disk full"):
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
    with FaultyServer(answer) as server:
        answers, _ = run(server, questions(20), wrap=Reading, concurrency=4)
    assert set(answers.texts.values()) == {"yes"}
    assert len(answers.texts) == len(server.seen) == 20


# Budgets


@pytest.mark.parametrize("concurrency", [1, 16])
def test_a_limit_of_calls_is_met_exactly(concurrency: int) -> None:
    with FaultyServer(chat(), latency=0.01) as server:
        answers, usage = run(server, questions(60), limits=Limits(calls=37), concurrency=concurrency)

    assert len(server.seen) == usage.calls == 37
    assert {type(stop) for stop in answers.errors.values()} == {BudgetExceeded}
    assert str(next(iter(answers.errors.values()))) == (
        "limit of 37 calls reached after 37 calls: the rest was not asked; "
        "run again with a larger --promptfit-max-calls"
    )


def test_a_limit_is_shared_by_the_calls_of_a_run() -> None:
    limits = Limits(calls=10)
    with FaultyServer(chat()) as server:
        run(server, questions(6), limits=limits)
        answers, _ = run(server, questions(6), limits=limits)
        none, _ = run(server, questions(2), limits=limits)

    assert len(server.seen) == 10
    assert (len(answers.replies), len(answers.errors)) == (4, 2)
    assert len(none.errors) == 2


@pytest.mark.parametrize("concurrency", [1, 16])
def test_a_budget_in_usd_is_used_but_never_passed(concurrency: int) -> None:
    """The bound of a call's price is several times what it costs, so the last calls wait for the others."""
    assert CALL_USD is not None
    limits = Limits(usd=20 * CALL_USD)
    with FaultyServer(chat(), latency=0.01) as server:
        answers, usage = run(
            server, questions(60, max_tokens=50), limits=limits, price_of=PRICED, concurrency=concurrency
        )

    assert usage.usd == pytest.approx(usage.calls * CALL_USD)
    assert limits.used_usd <= 20 * CALL_USD
    assert 15 <= len(server.seen) == usage.calls <= 20
    assert len(answers.errors) == 60 - usage.calls
    assert "run again with a larger --promptfit-budget" in str(next(iter(answers.errors.values())))


def test_a_budget_too_small_for_one_call_asks_nothing() -> None:
    with FaultyServer(chat()) as server:
        answers, _ = run(server, questions(3, max_tokens=9), limits=Limits(usd=1e-6), price_of=PRICED)

    assert server.seen == []
    assert str(answers[0]).startswith("budget of $0.00 reached after 0 calls")


def test_a_failed_call_gives_its_reservation_back() -> None:
    limits = Limits(usd=1.0)
    with FaultyServer(error(400, "no")) as server:
        run(server, questions(5, max_tokens=9), limits=limits, price_of=PRICED)

    assert len(server.seen) == 6
    assert (limits.used_calls, limits.used_usd) == (0, 0.0)
    assert limits.fit(1.0)


@pytest.mark.parametrize("concurrency", [1, 16])
def test_replies_that_are_cut_off_count_each_time(concurrency: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them was generated, whatever became of it on its way."""
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.001)
    cut = Answer(200, chat().body, AT_ONCE, withheld=1)
    limits = Limits(calls=10)
    with FaultyServer(cut) as server:
        answers, _ = run(server, questions(60), limits=limits, concurrency=concurrency)

    assert len(server.seen) == limits.used_calls == 10
    assert "limit of 10 calls reached after 10 calls" in str(answers[59])


def test_usd_cannot_limit_replies_of_any_length() -> None:
    with FaultyServer(chat()) as server, pytest.raises(PromptfitError) as caught:
        run(server, questions(3), limits=Limits(usd=1.0), price_of=PRICED)

    assert server.seen == []
    assert "--promptfit-budget cannot hold while a reply may be of any length: set max_tokens" in str(caught.value)


def test_what_goes_into_the_prompt_cache_counts_against_a_budget() -> None:
    """A server that puts all of each prompt into its cache, for which Claude takes a quarter more."""
    claude = ModelSpec(provider="anthropic", name="claude-3-5-haiku-latest")
    counts = {"input_tokens": 0, "cache_creation_input_tokens": 1000, "output_tokens": 0}
    answer = json_answer({"content": [{"type": "text", "text": "1"}], "stop_reason": "end_turn", "usage": counts})
    limits = Limits(usd=1.0)
    plain = cost_usd(claude, 1000, 0)
    with FaultyServer(answer) as server:
        _, usage = run(server, questions(4, max_tokens=9), name="anthropic", limits=limits, price_of=claude)

    assert plain is not None
    assert usage.usd == pytest.approx(4 * 1.25 * plain)
    assert limits.used_usd == pytest.approx(usage.usd)


def test_usd_cannot_limit_a_model_whose_price_is_unknown() -> None:
    with FaultyServer(chat()) as server, pytest.raises(PromptfitError, match="--promptfit-max-calls"):
        run(server, questions(3), limits=Limits(usd=1.0))
    assert server.seen == []


def test_a_local_model_costs_nothing() -> None:
    local = ModelSpec(provider="local", name="m")
    with FaultyServer(chat()) as server:
        answers, _ = run(server, questions(3), limits=Limits(usd=0.0), price_of=local)

    assert len(answers.replies) == 3


# What fails with a 200, and what fails for all


ROUTER_ERROR = {
    "choices": [
        {"message": {"content": ""}, "finish_reason": "error", "error": {"code": 502, "message": "upstream broke"}}
    ]
}
NOTHING = {"choices": [{"message": {"content": None}, "finish_reason": None}], "usage": {"completion_tokens": 0}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (ROUTER_ERROR, "upstream broke"),
        ({"choices": None, "error": {"message": "no capacity"}}, "no capacity"),
        ({"choices": None}, "the server failed"),
        ({"choices": []}, "the server failed"),
        ({"error": {"message": "overloaded"}}, "overloaded"),
        ({"error": "overloaded"}, "overloaded"),
        (NOTHING, "an error, or nothing, in it"),
    ],
)
def test_a_200_that_is_no_reply_is_asked_again_as_a_failed_server_is(body: Any, said: str) -> None:
    failed = json_answer(body, **AT_ONCE)
    with FaultyServer(lambda seen: failed if seen.number < 2 else chat()) as server:
        answers, _ = run(server, questions(1))
    assert (len(server.seen), list(answers.replies)) == (3, [0])

    with FaultyServer(lambda seen: failed if seen.body["messages"][0]["content"] == "1" else chat()) as server:
        answers, _ = run(server, questions(3))
    assert list(answers.errors) == [1]
    assert said in str(answers[1])
    assert isinstance(answers[1], CallError)
    assert answers[1].passing


def test_an_error_in_a_200_is_taken_for_what_its_code_says() -> None:
    with FaultyServer(json_answer({"error": {"code": 401, "message": "No auth credentials found"}})) as server:
        answers, _ = run(server, questions(9))

    assert len(server.seen) == 1
    assert "was refused (200, with an error, or nothing, in it): No auth credentials found" in str(answers[0])


def test_an_empty_text_that_the_model_wrote_is_a_reply() -> None:
    with FaultyServer(chat("")) as server:
        answers, _ = run(server, questions(3))

    assert answers.texts == {0: "", 1: "", 2: ""}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            403,
            {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["violence"], "flagged_input": "…"}}},
        ),
        (403, {"type": "error", "error": {"type": "permission_error", "message": "This input is not permitted"}}),
        (400, {"error": {"code": "content_filter", "message": "The response was filtered", "innererror": {}}}),
        (400, {"error": {"code": "x", "message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        (403, {"message": "Forbidden by the gateway"}),
    ],
    ids=["openrouter", "anthropic", "azure", "azure-inner", "gateway"],
)
@pytest.mark.parametrize("at", ["0", "7"])
def test_one_flagged_text_fails_alone(status: int, body: Any, at: str) -> None:
    with FaultyServer(lambda seen: json_answer(body, status) if said_in(seen) == at else chat()) as server:
        answers, usage = run(server, questions(40))

    assert list(answers.errors) == [int(at)]
    assert usage.calls == 39


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        ({"error": {"message": "Your API key does not have permission to use the specified resource."}}, 1),
        ({"error": {"message": "Country, region, or territory not supported"}}, 4),
    ],
)
def test_a_403_is_the_keys_where_it_says_so_or_everybody_gets_it(body: Any, calls: int) -> None:
    with FaultyServer(json_answer(body, 403)) as server:
        answers, _ = run(server, questions(50), concurrency=1)

    assert len(server.seen) == calls
    assert str(answers[49]).startswith("not asked: ")
    assert body["error"]["message"] in str(answers[49])


@pytest.mark.parametrize(
    ("status", "body", "params", "said"),
    [
        (
            400,
            {
                "error": {
                    "message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
                    "Use 'max_completion_tokens' instead.",
                    "type": "invalid_request_error",
                    "param": "max_tokens",
                    "code": "unsupported_parameter",
                }
            },
            {"max_tokens": 5},
            "write max_completion_tokens in the place of max_tokens",
        ),
        (
            400,
            {"error": {"message": "Unsupported value: 'temperature' does not support 0", "param": "temperature"}},
            {"temperature": 0},
            "leave temperature out of params",
        ),
        (
            400,
            {"type": "error", "error": {"message": "`temperature` is deprecated for this model."}},
            {"max_tokens": 5, "temperature": 0},
            "leave temperature out of params",
        ),
        (
            422,
            {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
            {"seed": 1},
            "seed: Extra inputs are not permitted; leave seed out of params",
        ),
        (
            422,
            {"object": "error", "message": {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs"}]}},
            {"seed": 1},
            "seed: Extra inputs; leave seed out of params",
        ),
        (400, {"detail": "Unknown parameter: top_k"}, {"top_k": 1}, "leave top_k out of params"),
        (
            400,
            [{"error": {"code": 400, "message": 'Invalid JSON payload received. Unknown name "top_k": no field.'}}],
            {"top_k": 1},
            "leave top_k out of params",
        ),
    ],
    ids=["max_tokens", "value", "anthropic", "fastapi", "mistral", "text", "google"],
)
def test_a_refused_parameter_stops_after_the_first_call(status: int, body: Any, params: Any, said: str) -> None:
    with FaultyServer(json_answer(body, status)) as server:
        answers, usage = run(server, questions(30, **params))

    assert (len(server.seen), usage.calls) == (1, 0)
    assert said in str(answers[0])
    assert said in str(answers[29])
    assert str(answers[29]).startswith("not asked: ")


@pytest.mark.parametrize(
    "message",
    [
        "This model does not support assistant message prefill. The conversation must end with a user message.",
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant",
        "Cannot set `add_generation_prompt` to True when the last message is from the assistant.",
    ],
)
def test_a_refused_trailing_assistant_turn_stops_after_the_first_call(message: str) -> None:
    begun = [
        Asked.of(URL, {"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "L:"}]})
        for n in range(20)
    ]
    with FaultyServer(error(400, message)) as server:
        answers, _ = run(server, begun)

    assert len(server.seen) == 1
    assert message[:40] in str(answers[19])
    assert "write reply_prefix: ask under model" in str(answers[19])


def test_a_text_that_is_too_long_fails_alone_though_the_message_names_a_parameter() -> None:
    long = "max_tokens is too large: 50. This model's maximum context length is 100 tokens and your prompt has 90."
    with FaultyServer(lambda seen: error(400, long) if said_in(seen) == "0" else chat()) as server:
        answers, _ = run(server, questions(9, max_tokens=50))

    assert list(answers.errors) == [0]


def said_in(seen: Seen) -> str:
    said: str = seen.body["messages"][0]["content"]
    return said


def test_a_deadline_is_for_all_tries_together() -> None:
    with FaultyServer(HANG) as server:
        spec = ModelSpec(provider="openai", name="m", base_url=server.url, timeout=0.2, deadline=0.7)
        answers, started = Answers(), time.monotonic()
        ask(questions(1), provider_of(spec, Path()), spec, on_answer=answers, first_alone=False)

    assert time.monotonic() - started < 3
    assert str(answers[0]) == "openai/m: no reply within 0.7 s, retries included; raise model.deadline"


@pytest.mark.parametrize("max_retries", [0, 1])
def test_the_prompt_file_says_how_often_to_try_again(max_retries: int) -> None:
    with FaultyServer(busy()) as server:
        spec = ModelSpec(provider="openai", name="m", base_url=server.url, max_retries=max_retries)
        answers = Answers()
        ask(questions(1), provider_of(spec, Path()), spec, on_answer=answers, first_alone=False)

    assert len(server.seen) == max_retries + 1
    assert "over the rate limit, still after the retries (429)" in str(answers[0])
    assert "--promptfit" not in str(answers[0])


# Ctrl-C


def press_ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.skipif(os.name == "nt", reason="a process cannot send itself Ctrl-C there")
def test_ctrl_c_lets_arrive_what_was_sent_and_sends_nothing_more() -> None:
    answers, said = Answers(), list[str]()

    def on_answer(index: int, answer: Any) -> None:
        answers(index, answer)
        if len(answers) == 5:
            press_ctrl_c()

    with FaultyServer(chat(), latency=0.3) as server, pytest.raises(KeyboardInterrupt):
        run(server, questions(100), on_answer=on_answer, concurrency=4, on_wait=said.append)

    assert len(answers.replies) == len(answers) == len(server.seen) == 9
    assert said == [
        "Ctrl-C: waiting for 4 replies that are on their way, they are paid for; Ctrl-C again stops at once"
    ]


@pytest.mark.skipif(os.name == "nt", reason="a process cannot send itself Ctrl-C there")
def test_ctrl_c_does_not_wait_for_what_is_to_be_asked_again() -> None:
    """Between two tries nothing is on its way, however long the server wants them to wait."""
    answers = Answers()

    def answer(seen: Seen) -> Answer:
        if seen.body["messages"][0]["content"] != "1":
            return chat()
        threading.Timer(0.2, press_ctrl_c).start()
        return error(503, "later", **{"retry-after": "50"})

    with FaultyServer(answer) as server, pytest.raises(KeyboardInterrupt):
        run(server, questions(2), on_answer=answers, concurrency=4)

    assert (len(server.seen), list(answers)) == (2, [0])


@pytest.mark.skipif(os.name == "nt", reason="a process cannot send itself Ctrl-C there")
def test_a_second_ctrl_c_stops_at_once() -> None:
    answers = Answers()

    def on_answer(index: int, answer: Any) -> None:
        answers(index, answer)
        if len(answers) == 5:
            press_ctrl_c()

    with (
        FaultyServer(lambda seen: chat() if seen.number < 5 else HANG) as server,
        pytest.raises(KeyboardInterrupt),
    ):
        run(
            server,
            questions(100),
            on_answer=on_answer,
            concurrency=4,
            timeout=600,
            on_wait=lambda _: threading.Timer(0.2, press_ctrl_c).start(),
        )

    assert len(answers.replies) == len(answers) == 5
    asking = [thread for thread in threading.enumerate() if thread.name == "promptfit-asking"]
    for thread in asking:
        thread.join(5)
    assert not any(thread.is_alive() for thread in asking)


def test_call_error_is_what_the_answers_hold() -> None:
    """``CallError`` and ``BudgetExceeded`` are told apart by callers that stop for one and not for the other."""
    with FaultyServer(error(404, "no such model")) as server:
        answers, _ = run(server, questions(2))

    assert [(type(answer), answer.fatal) for answer in answers.values()] == [(CallError, True), (CallError, True)]
