"""Limits of calls and USD: used up, shared, and never passed."""

from __future__ import annotations

import pytest
from asking_runs import CALL_USD, PRICED, questions, run
from loopback_server import (
    AT_ONCE,
    Answer,
    LoopbackServer,
    chat,
    error,
    json_answer,
)

from pytest_promptfit.errors import BudgetExceeded, PromptfitError
from pytest_promptfit.prompts.model import ModelSpec
from pytest_promptfit.providers.usage import Limits, cost_usd


@pytest.mark.parametrize("concurrency", [1, 16])
def test_a_limit_of_calls_is_met_exactly(concurrency: int) -> None:
    with LoopbackServer(chat(), latency=0.01) as server:
        answers, usage = run(server, questions(60), limits=Limits(calls=37), concurrency=concurrency)

    assert len(server.seen) == usage.calls == 37
    assert {type(stop) for stop in answers.errors.values()} == {BudgetExceeded}
    assert str(next(iter(answers.errors.values()))) == (
        "limit of 37 calls reached after 37 calls: the rest was not asked; "
        "run again with a larger --promptfit-max-calls"
    )


def test_a_limit_is_shared_by_the_calls_of_a_run() -> None:
    limits = Limits(calls=10)
    with LoopbackServer(chat()) as server:
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
    with LoopbackServer(chat(), latency=0.01) as server:
        answers, usage = run(
            server, questions(60, max_tokens=50), limits=limits, price_of=PRICED, concurrency=concurrency
        )

    assert usage.usd == pytest.approx(usage.calls * CALL_USD)
    assert limits.used_usd <= 20 * CALL_USD
    assert 15 <= len(server.seen) == usage.calls <= 20
    assert len(answers.errors) == 60 - usage.calls
    assert "run again with a larger --promptfit-budget" in str(next(iter(answers.errors.values())))


def test_a_budget_too_small_for_one_call_asks_nothing() -> None:
    with LoopbackServer(chat()) as server:
        answers, _ = run(server, questions(3, max_tokens=9), limits=Limits(usd=1e-6), price_of=PRICED)

    assert server.seen == []
    assert str(answers[0]).startswith("budget of $0.00 reached after 0 calls")


def test_a_failed_call_gives_its_reservation_back() -> None:
    limits = Limits(usd=1.0)
    with LoopbackServer(error(400, "no")) as server:
        run(server, questions(5, max_tokens=9), limits=limits, price_of=PRICED)

    assert len(server.seen) == 6
    assert (limits.used_calls, limits.used_usd) == (0, 0.0)
    assert limits.fit(1.0)


@pytest.mark.parametrize("concurrency", [1, 16])
def test_replies_that_are_cut_off_count_each_time(concurrency: int, no_waits: None) -> None:
    """Each of them was generated, whatever became of it on its way."""
    cut = Answer(200, chat().body, AT_ONCE, withheld=1)
    limits = Limits(calls=10)
    with LoopbackServer(cut) as server:
        answers, _ = run(server, questions(60), limits=limits, concurrency=concurrency)

    assert len(server.seen) == limits.used_calls == 10
    assert "limit of 10 calls reached after 10 calls" in str(answers[59])


def test_usd_cannot_limit_replies_of_any_length() -> None:
    with LoopbackServer(chat()) as server, pytest.raises(PromptfitError) as caught:
        run(server, questions(3), limits=Limits(usd=1.0), price_of=PRICED)

    assert server.seen == []
    assert "--promptfit-budget cannot hold while a reply may be of any length: set max_tokens" in str(caught.value)


def test_what_goes_into_the_prompt_cache_counts_against_a_budget() -> None:
    """A server that puts all of each prompt into its cache, for which Claude takes a quarter more."""
    claude = ModelSpec(provider="anthropic", name="claude-3-5-haiku-latest")
    usage = {"input_tokens": 0, "cache_creation_input_tokens": 1000, "output_tokens": 0}
    answer = json_answer({"content": [{"type": "text", "text": "1"}], "stop_reason": "end_turn", "usage": usage})
    limits = Limits(usd=1.0)
    plain = cost_usd(claude, 1000, 0)
    with LoopbackServer(answer) as server:
        _, usage = run(server, questions(4, max_tokens=9), name="anthropic", limits=limits, price_of=claude)

    assert plain is not None
    assert usage.usd == pytest.approx(4 * 1.25 * plain)
    assert limits.used_usd == pytest.approx(usage.usd)


def test_usd_cannot_limit_a_model_whose_price_is_unknown() -> None:
    with LoopbackServer(chat()) as server, pytest.raises(PromptfitError, match="--promptfit-max-calls"):
        run(server, questions(3), limits=Limits(usd=1.0))
    assert server.seen == []


def test_a_local_model_costs_nothing() -> None:
    local = ModelSpec(provider="local", name="m")
    with LoopbackServer(chat()) as server:
        answers, _ = run(server, questions(3), limits=Limits(usd=0.0), price_of=local)

    assert len(answers.replies) == 3
