"""Providers: the JSON that goes out, the reply that comes back, keys, and errors in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from loopback_server import (
    CUT,
    HANG,
    HTML,
    Answer,
    LoopbackServer,
    broken,
    chat,
    error,
    json_answer,
    message,
    raw,
)
from provider_calls import QUESTION, failure, provider, send

from pytest_promptfit.chat.request import ChatRequest, Turn
from pytest_promptfit.errors import CallError
from pytest_promptfit.prompts.model import ModelSpec
from pytest_promptfit.providers.usage import cost_usd

# Addresses


@pytest.mark.parametrize(
    ("model", "base_url", "url"),
    [
        ("openai/m", None, "https://api.openai.com/v1/chat/completions"),
        ("openai/m", "http://localhost:11434/v1/", "http://localhost:11434/v1/chat/completions"),
        (
            "openai/m",
            "https://x.example/v1?api-version=3",
            "https://x.example/v1/chat/completions?api-version=3",
        ),
        ("gemini/m", None, "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
        ("anthropic/m", None, "https://api.anthropic.com/v1/messages"),
        ("anthropic/m", "http://localhost:8080", "http://localhost:8080/v1/messages"),
        ("anthropic/m", "http://localhost:8080/v1/", "http://localhost:8080/v1/messages"),
        ("local/models/m.gguf", None, "http://localhost/v1/chat/completions"),
    ],
)
def test_recorded_url(model: str, base_url: str | None, url: str) -> None:
    assert provider(model, base_url=base_url).url == url


@pytest.mark.parametrize(
    ("base_url", "said"),
    [
        ("localhost:8080", "is not a URL such as"),
        ("ftp://host/v1", "is not a URL such as"),
        ("http://host:port/v1", "is not a URL"),
    ],
)
def test_a_wrong_base_url_is_told_before_anything_is_sent(base_url: str, said: str) -> None:
    with pytest.raises(CallError, match=said) as caught:
        provider("openai/m", base_url=base_url).check()
    assert caught.value.fatal
    assert "hunter2" not in str(caught.value)


# The reply prefix


@pytest.mark.parametrize(
    ("model", "continues"),
    [
        ("openai/gpt-4.1-nano", False),
        ("gemini/gemini-2.5-flash", False),
        ("local/smollm2-135m", True),
        ("anthropic/claude-3-5-haiku-latest", True),
        ("anthropic/claude-3-opus-20240229", True),
        ("anthropic/claude-opus-4-20250514", True),
        ("anthropic/claude-sonnet-4-5-20250929", True),
        ("anthropic/claude-opus-4-6", False),
        ("anthropic/claude-opus-4-10", False),
        ("anthropic/claude-haiku-5", False),
        ("anthropic/claude-haiku-5-20270101", False),
        ("anthropic/something-new", False),
        ({"provider": "openai", "name": "m", "base_url": "http://localhost:1/v1"}, False),
        ({"provider": "openai", "name": "m", "base_url": "https://eu.api.openai.com/v1"}, False),
        ({"provider": "anthropic", "name": "claude-opus-4-6", "base_url": "http://localhost:1"}, False),
        ({"provider": "openai", "name": "m", "reply_prefix": "continue"}, True),
        ({"provider": "anthropic", "name": "claude-3-opus", "reply_prefix": "ask"}, False),
        ({"provider": "local", "name": "m", "reply_prefix": "ask"}, False),
    ],
)
def test_which_apis_continue_a_prefix(model: str | dict[str, Any], continues: bool) -> None:
    asked = provider(model)

    assert asked.continues_prefix is continues
    last = asked.payload(QUESTION)["messages"][-1]
    assert last["role"] == ("assistant" if continues else "user")


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("1", "Label: 1"),
        (" 1", "Label: 1"),
        ("Label: 1", "Label: 1"),
        ("Label:1", "Label: 1"),
        ("", "Label: "),
    ],
)
def test_a_reply_starts_with_the_prefix_whether_or_not_the_server_echoes_it(said: str, text: str) -> None:
    openai = provider("openai/m", base_url="http://localhost:1/v1", reply_prefix="continue")
    anthropic = provider("anthropic/claude-3-opus")

    assert openai.reply(json.loads(chat(said).body), "Label: ").text == text
    assert anthropic.reply(json.loads(message(said).body), "Label: ").text == text


def test_a_prefix_that_was_only_asked_for_is_not_added() -> None:
    """Words before the prefix are the model's own: with a prefix before them another label would be read."""
    reply = provider("openai/m").reply(json.loads(chat("Hm. <label>1</label>").body), "Label: <label>")

    assert reply.text == "Hm. <label>1</label>"


# What goes out


def test_openai_payload() -> None:
    assert provider("openai/m").payload(QUESTION) == {
        "model": "some-model",
        "messages": [
            {"role": "system", "content": "Classify."},
            {"role": "user", "content": "nice"},
            {"role": "assistant", "content": "Label: 1"},
            {"role": "user", "content": "awful"},
        ],
        "temperature": 0,
    }


def test_anthropic_payload_marks_the_constant_parts_for_the_prompt_cache() -> None:
    cached = {"cache_control": {"type": "ephemeral"}}

    assert provider("anthropic/claude-3-opus").payload(QUESTION) == {
        "model": "some-model",
        "system": [{"type": "text", "text": "Classify.", **cached}],
        "messages": [
            {"role": "user", "content": "nice"},
            {"role": "assistant", "content": [{"type": "text", "text": "Label: 1", **cached}]},
            {"role": "user", "content": "awful"},
            {"role": "assistant", "content": "Label:"},
        ],
        "max_tokens": 1024,
        "temperature": 0,
    }


def test_anthropic_payload_without_system_and_with_own_max_tokens() -> None:
    request = ChatRequest("m", "", (Turn("user", "awful"),), params={"max_tokens": 5})

    assert provider("anthropic/claude-3-opus").payload(request) == {
        "model": "m",
        "messages": [{"role": "user", "content": "awful"}],
        "max_tokens": 5,
    }


def test_a_local_path_is_sent_as_its_stem() -> None:
    request = ChatRequest("../models/tiny.Q4.gguf", "", (Turn("user", "awful"),))

    assert provider("local/../models/tiny.Q4.gguf").payload(request)["model"] == "tiny.Q4"


@pytest.mark.parametrize(("name", "answer"), [("openai", chat()), ("anthropic", message())])
def test_the_body_is_sent_as_it_is_whatever_the_environment_says(
    name: str, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.setenv(variable, "Authorization: Bearer other\nX-Other: 1")
    for variable in (
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "ANTHROPIC_AUTH_TOKEN",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
    ):
        monkeypatch.setenv(variable, "other")
    monkeypatch.setenv("MY_KEY", " my-secret\n")
    with LoopbackServer(answer) as server:
        asked = provider(f"{name}/m", base_url=server.url, api_key_env="MY_KEY")
        payload = {**asked.payload(QUESTION), "unheard_of": {"z": [None, 1.5], "a": "ü\u2028"}, "top_k": 0}
        body = send(asked, payload)

    assert asked.reply(body, "").text == "1"
    assert server.seen[0].body == payload
    headers = server.seen[0].headers
    assert "my-secret" in {headers.get("authorization", "").removeprefix("Bearer "), headers.get("x-api-key")}
    assert "other" not in json.dumps(headers)
    assert not {"openai-organization", "openai-project", "x-other"} & set(headers)


@pytest.mark.parametrize(("name", "path"), [("openai", "/chat/completions"), ("anthropic", "/v1/messages")])
def test_a_wrapping_transport_sees_the_recorded_url_and_the_body(name: str, path: str) -> None:
    passed = []

    class Watching(httpx2.AsyncBaseTransport):
        def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
            self.inner = inner

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            passed.append((str(request.url), json.loads(await request.aread())))
            return await self.inner.handle_async_request(request)

    with LoopbackServer(message() if name == "anthropic" else chat()) as server:
        asked = provider(f"{name}/m", base_url=server.url)
        send(asked, {"model": "m"}, wrap=Watching)

    assert asked.url == server.url + path
    assert passed == [(asked.url, {"model": "m"})]


def test_an_error_of_the_wrapping_transport_is_raised_and_nothing_is_sent_again() -> None:
    class Full(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            tries.append(request)
            raise OSError(28, "No space left on device")

    for name in ("openai", "anthropic"):
        tries: list[httpx2.Request] = []
        with pytest.raises(OSError, match="No space left"):
            send(provider(f"{name}/m", base_url="http://127.0.0.1:9"), {}, wrap=lambda _: Full(), max_retries=3)
        assert len(tries) == 1


@pytest.mark.parametrize(
    ("treatment", "turn", "more"),
    [
        ("continue", {}, {}),
        ("prefix", {"prefix": True}, {}),
        ("continue_final_message", {}, {"add_generation_prompt": False, "continue_final_message": True}),
    ],
)
def test_the_words_in_the_models_mouth_are_marked_as_the_server_wants_it(
    treatment: str, turn: dict[str, Any], more: dict[str, Any]
) -> None:
    asked = provider({"provider": "openai", "name": "m", "base_url": "http://localhost:1", "reply_prefix": treatment})
    body = asked.payload(QUESTION)

    assert body.pop("messages")[-1] == {"role": "assistant", "content": "Label: ", **turn}
    assert body == {"model": "some-model", "temperature": 0, **more}
    plain = asked.payload(ChatRequest("some-model", "", (Turn("user", "awful"),)))
    assert plain == {"model": "some-model", "messages": [{"role": "user", "content": "awful"}]}


# What comes back


def test_openai_reply() -> None:
    body = {
        "choices": [
            {
                "finish_reason": "length",
                "message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            }
        ],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 64},
        },
    }

    reply = provider("openai/m").reply(body, "")

    assert (reply.text, reply.stop_reason) == ("ab", "length")
    assert (reply.input_tokens, reply.cached_tokens, reply.output_tokens) == (100, 64, 7)


def test_anthropic_reply_counts_cached_tokens_as_input() -> None:
    body = {
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}],
        "stop_reason": "max_tokens",
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": None,
            "cache_read_input_tokens": 90,
            "output_tokens": 7,
        },
    }

    reply = provider("anthropic/claude-opus-5").reply(body, "")

    assert (reply.text, reply.stop_reason) == ("a", "length")
    assert (reply.input_tokens, reply.cached_tokens, reply.output_tokens) == (100, 90, 7)


@pytest.mark.parametrize(
    ("model", "answer", "reason", "text"),
    [
        ("openai/m", chat("1", "content_filter"), "content_filter", "1"),
        ("openai/m", chat(None, refusal="I can't."), "content_filter", "I can't."),
        ("openai/m", chat(None), "stop", ""),
        ("openai/m", chat("1", "tool_calls"), "other", "1"),
        ("anthropic/m", message("1", "refusal"), "content_filter", "1"),
        ("anthropic/m", message("1", "stop_sequence"), "stop", "1"),
        ("anthropic/m", message("1", "pause_turn"), "other", "1"),
    ],
)
def test_stop_reasons(model: str, answer: Answer, reason: str, text: str) -> None:
    reply = provider(model).reply(json.loads(answer.body), "")

    assert (reply.stop_reason, reply.text) == (reason, text)


@pytest.mark.parametrize("model", ["openai/m", "anthropic/m"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": []},
        {"choices": [{"message": None}]},
        {"choices": "x", "content": None},
        {"content": {"text": "x"}},
        {"error": {"message": "quota\nis\x1b[31m gone"}},
        {"error": "overloaded " * 100},
    ],
)
def test_what_is_no_reply_is_told_in_one_line(model: str, body: dict[str, Any]) -> None:
    with pytest.raises(CallError) as caught:
        provider(model).reply(body, "")
    line = str(caught.value)
    assert line.startswith(f"{model}: the reply ")
    assert line.isprintable()
    assert len(line) < 260
    if "error" in body:
        assert "quota is [31m gone" in line or "overloaded overloaded" in line


# Keys


@pytest.mark.parametrize(
    ("model", "variable"),
    [("openai/m", "OPENAI_API_KEY"), ("anthropic/m", "ANTHROPIC_API_KEY"), ("gemini/m", "GEMINI_API_KEY")],
)
def test_a_missing_key_is_told_with_its_variable(model: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = provider(model)
    with pytest.raises(CallError) as caught:
        asked.check()
    assert str(caught.value) == (
        f"{model}: no API key: set {variable} (or name another variable with model.api_key_env)"
    )
    assert caught.value.fatal
    assert asked.secrets() == ()

    monkeypatch.setenv(variable, "sk-secret")
    asked.check()
    assert asked.secrets() == ("sk-secret",)


def test_gemini_takes_the_key_of_google_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "AIza-secret")

    provider("gemini/m").check()

    assert provider("gemini/m").secrets() == ("AIza-secret",)


def test_a_named_variable_must_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    asked = provider("openai/m", base_url="http://localhost:1/v1", api_key_env="MY_KEY")

    with pytest.raises(CallError, match="set MY_KEY, the variable that model"):
        asked.check()


def test_a_compatible_server_is_not_sent_the_providers_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with LoopbackServer(chat()) as server:
        asked = provider("openai/m", base_url=server.url)
        asked.check()
        send(asked, asked.payload(QUESTION))

    assert asked.secrets() == ()
    assert "sk-secret" not in json.dumps(server.seen[0].headers)


# Errors


@pytest.mark.parametrize("name", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("answer", "fatal", "said"),
    [
        (
            error(401, "Incorrect key: sk-secret-1"),
            True,
            "the key in MY_KEY was refused (401): Incorrect key: [REDACTED]",
        ),
        (error(403, "not here"), False, "the API does not let this one pass (403): not here"),
        (error(403, "This API key may not"), True, "the key in MY_KEY was refused (403): This API key may not"),
        (
            json_answer([{"error": {"code": 400, "message": "API key not valid."}}], 400),
            True,
            "was refused (400)",
        ),
        (error(404, "The model does not exist"), True, "not found at http://127.0.0.1"),
        (error(429, "Rate limit"), False, "over the rate limit, still after the retries (429): Rate limit"),
        (error(429, "You exceeded", "insufficient_quota"), True, "no quota left (429): You exceeded"),
        (error(400, "Your credit balance is too low"), True, "no quota left (400): Your credit"),
        (error(402, "pay", "billing_error"), True, "no quota left (402): pay"),
        (
            error(400, "max_tokens\nis too \x1b large"),
            False,
            "does not take the request (400): max_tokens is too large",
        ),
        (error(400, "bad words", "content_filter"), False, "refused by the content filter (400): bad words"),
        (broken(503), False, "the server failed, still after the retries (503): oops"),
        (Answer(502, b"<html>Bad\ngateway</html>"), False, "(502): <html>Bad gateway</html>"),
        (Answer(500), False, "the server failed, still after the retries (500); try"),
        (
            Answer(307, headers={"location": "https://elsewhere.example/v1"}),
            False,
            "redirects to https://elsewhere",
        ),
        (HTML, False, "the reply is not JSON (<!DOCTYPE html> <html>"),
        (raw(""), False, "the server failed, still after the retries (200, with an error, or nothing, in it)"),
        (raw('{"choices": [{"mess'), False, "the reply is not JSON"),
        (raw("[1]"), False, "the reply is not in the form this API has"),
        (CUT, False, "the connection was cut"),
    ],
)
def test_errors_are_one_line_that_says_what_and_what_to_do(
    name: str, answer: Answer, fatal: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-1")
    with LoopbackServer(answer) as server:
        told = failure(provider(f"{name}/m", base_url=server.url, api_key_env="MY_KEY"))

    assert told.fatal is fatal
    assert str(told).startswith(f"{name}/m: ")
    assert said in str(told)
    assert "sk-secret-1" not in str(told)


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_server_that_says_nothing_is_given_up_after_the_timeout(name: str) -> None:
    with LoopbackServer(HANG) as server:
        told = failure(provider(f"{name}/m", base_url=server.url), timeout=0.2)

    assert str(told) == f"{name}/m: no reply in time; give it longer with model.timeout"
    assert not told.fatal


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_no_server_is_fatal(name: str) -> None:
    with LoopbackServer(chat()) as server:
        closed = server.url
    told = failure(provider(f"{name}/m", base_url=closed))

    assert told.fatal
    assert f"no server can be reached at {closed}" in str(told)


@pytest.mark.parametrize(("name", "reply"), [("openai", chat()), ("anthropic", message())])
def test_busy_and_broken_servers_are_asked_again(name: str, reply: Answer) -> None:
    with LoopbackServer(lambda seen: [broken(429), broken(500), broken(529), reply][seen.number]) as server:
        asked = provider(f"{name}/m", base_url=server.url)
        body = send(asked, asked.payload(QUESTION), max_retries=3)

    assert asked.reply(body, "").text == "1"
    assert len(server.seen) == 4


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_half_a_surrogate_pair_is_told(name: str) -> None:
    with LoopbackServer(chat()) as server:
        asked = provider(f"{name}/m", base_url=server.url)
        with pytest.raises(CallError, match="half a surrogate pair"):
            send(asked, {"model": "m", "text": "\ud800"})
    assert server.seen == []


def test_a_proxy_of_the_environment_is_used_but_not_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackServer(chat()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        asked = provider("openai/m", base_url="http://model.example/v1")
        body = send(asked, asked.payload(QUESTION))

    assert asked.reply(body, "").text == "1"
    assert [seen.path for seen in proxy.seen] == ["http://model.example/v1/chat/completions"]


# Imports


def test_replay_imports_no_sdk() -> None:
    code = """
import sys
from pathlib import Path
from pytest_promptfit.prompts.model import ModelSpec
from pytest_promptfit.providers.wire import provider_of
from pytest_promptfit.chat.request import ChatRequest, Turn
for model in ("openai/m", "anthropic/claude-3-opus", "gemini/m", "local/m"):
    asked = provider_of(ModelSpec.model_validate(model), Path())
    asked.payload(ChatRequest("m", "", (Turn("user", "hi"),)))
    try:
        asked.reply({}, "")
    except Exception as error:
        assert "the reply is not" in str(error), error
heavy = {"openai", "anthropic", "httpx2", "httpx", "genai_prices", "xllamacpp", "asyncio", "pytest"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Prices


def test_prices_come_from_the_price_list() -> None:
    def price(model: str | dict[str, Any], *tokens: int) -> float | None:
        return cost_usd(ModelSpec.model_validate(model), *tokens)

    nano = price("openai/gpt-4.1-nano", 1_000_000, 1_000_000)
    assert nano is not None
    assert price("openai/gpt-4.1-nano", 1_000_000, 0) == pytest.approx(
        nano - price("openai/gpt-4.1-nano", 0, 1_000_000)
    )
    assert price("openai/gpt-4.1-nano", 1_000_000, 1_000_000, 900_000) < nano
    assert price("anthropic/claude-3-5-haiku-latest", 1000, 1000) > 0
    assert price("gemini/gemini-2.5-flash", 1000, 1000) > 0
    assert price("openai/no-such-model", 1, 1) is None
    assert price("local/smollm2-135m", 1, 1) == 0.0
    assert price({"provider": "openai", "name": "gpt-4.1-nano", "base_url": "http://localhost:1/v1"}, 1, 1) is None
