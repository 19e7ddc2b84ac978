"""What fails for one question and what fails for all; failures that come with a 200; how often is asked again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from asking_runs import URL, Answers, questions, run, said_in
from loopback_server import (
    AT_ONCE,
    HANG,
    LoopbackServer,
    busy,
    chat,
    error,
    json_answer,
)

from pytest_promptfit.cassettes.cassette import Asked
from pytest_promptfit.errors import CallError
from pytest_promptfit.prompts.model import ModelSpec
from pytest_promptfit.providers.asking import ask
from pytest_promptfit.providers.wire import provider_of

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
    with LoopbackServer(lambda seen: failed if seen.number < 2 else chat()) as server:
        answers, _ = run(server, questions(1))
    assert (len(server.seen), list(answers.replies)) == (3, [0])

    with LoopbackServer(lambda seen: failed if seen.body["messages"][0]["content"] == "1" else chat()) as server:
        answers, _ = run(server, questions(3))
    assert list(answers.errors) == [1]
    assert said in str(answers[1])
    assert isinstance(answers[1], CallError)
    assert answers[1].passing


def test_an_error_in_a_200_is_taken_for_what_its_code_says() -> None:
    with LoopbackServer(json_answer({"error": {"code": 401, "message": "No auth credentials found"}})) as server:
        answers, _ = run(server, questions(9))

    assert len(server.seen) == 1
    assert "was refused (200, with an error, or nothing, in it): No auth credentials found" in str(answers[0])


def test_an_empty_text_that_the_model_wrote_is_a_reply() -> None:
    with LoopbackServer(chat("")) as server:
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
    with LoopbackServer(lambda seen: json_answer(body, status) if said_in(seen) == at else chat()) as server:
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
    with LoopbackServer(json_answer(body, 403)) as server:
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
    with LoopbackServer(json_answer(body, status)) as server:
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
    with LoopbackServer(error(400, message)) as server:
        answers, _ = run(server, begun)

    assert len(server.seen) == 1
    assert message[:40] in str(answers[19])
    assert "write reply_prefix: ask under model" in str(answers[19])


def test_a_text_that_is_too_long_fails_alone_though_the_message_names_a_parameter() -> None:
    long = "max_tokens is too large: 50. This model's maximum context length is 100 tokens and your prompt has 90."
    with LoopbackServer(lambda seen: error(400, long) if said_in(seen) == "0" else chat()) as server:
        answers, _ = run(server, questions(9, max_tokens=50))

    assert list(answers.errors) == [0]


def test_a_deadline_is_for_all_tries_together() -> None:
    with LoopbackServer(HANG) as server:
        spec = ModelSpec(provider="openai", name="m", base_url=server.url, timeout=0.2, deadline=0.7)
        answers, started = Answers(), time.monotonic()
        ask(questions(1), provider_of(spec, Path()), spec, on_answer=answers, first_alone=False)

    assert time.monotonic() - started < 3
    assert str(answers[0]) == "openai/m: no reply within 0.7 s, retries included; raise model.deadline"


@pytest.mark.parametrize("max_retries", [0, 1])
def test_the_prompt_file_says_how_often_to_try_again(max_retries: int) -> None:
    with LoopbackServer(busy()) as server:
        spec = ModelSpec(provider="openai", name="m", base_url=server.url, max_retries=max_retries)
        answers = Answers()
        ask(questions(1), provider_of(spec, Path()), spec, on_answer=answers, first_alone=False)

    assert len(server.seen) == max_retries + 1
    assert "over the rate limit, still after the retries (429)" in str(answers[0])
    assert "--promptfit" not in str(answers[0])
