"""Stock vcrpy replays what is recorded here, and what stock vcrpy recorded is found here."""

from __future__ import annotations

import asyncio
import json
import socket

import httpx2
import pytest
import vcr
from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncOpenAI, OpenAI
from recording_helpers import QUESTION, chat_body, chat_server
from vcr.errors import CannotOverwriteExistingCassetteException

from pytest_promptfit.cassette import Cassette, request_key
from pytest_promptfit.recorder import Recorder
from pytest_promptfit.transport import RecordingTransport

TEXTS = [QUESTION, "control \x85 \u2028 \ufeff \x00 characters", "plain"]


def openai_body(text: str) -> dict:
    return chat_body(text, temperature=0)


def anthropic_body(text: str) -> dict:
    return chat_body(text, max_tokens=9, system="Be short — ça suffit")


def openai_replies(url: str) -> list[str]:
    with OpenAI(api_key="sk-other", base_url=f"{url}/v1", max_retries=0) as client:
        create = client.chat.completions.create
        return [create(**openai_body(text)).choices[0].message.content or "" for text in TEXTS]


def anthropic_replies(url: str) -> list[str]:
    with Anthropic(api_key="sk-other", base_url=url, max_retries=0) as client:
        return [client.messages.create(**anthropic_body(text)).content[0].text for text in TEXTS]


def record_through_both_sdks(recorder: Recorder, url: str) -> tuple[list[str], list[str]]:
    def http_client() -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=RecordingTransport(httpx2.AsyncHTTPTransport(verify=False), recorder))

    async def both() -> tuple[list[str], list[str]]:
        openai = AsyncOpenAI(api_key="sk-one", base_url=f"{url}/v1", http_client=http_client())
        anthropic = AsyncAnthropic(api_key="sk-one", base_url=url, http_client=http_client())
        async with openai, anthropic:
            chats = [await openai.chat.completions.create(**openai_body(text)) for text in TEXTS]
            messages = [await anthropic.messages.create(**anthropic_body(text)) for text in TEXTS]
        return [chat.choices[0].message.content or "" for chat in chats], [
            message.content[0].text for message in messages
        ]

    return asyncio.run(both())


@pytest.mark.parametrize("packed", [False, True])
def test_stock_vcrpy_replays_our_file_through_both_sdks_with_the_server_down(tmp_path, packed):
    with chat_server() as server, Recorder.open(tmp_path) as recorder:
        server.packed = packed
        chats, messages = record_through_both_sdks(recorder, server.url)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
    stock = vcr.VCR(match_on=["method", "uri", "body"], record_mode="none")
    with stock.use_cassette(str(tmp_path / "replies.yaml")) as played:
        assert openai_replies(server.url) == chats
        assert anthropic_replies(server.url) == messages
        assert (played.play_count, played.all_played) == (6, True)
        with pytest.raises(CannotOverwriteExistingCassetteException):
            httpx2.post(server.chat_url, json=chat_body("never asked"))


@pytest.mark.parametrize("packed", [False, True])
def test_what_stock_vcrpy_recorded_is_found_by_key(tmp_path, packed):
    stock = vcr.VCR(match_on=["method", "uri", "body"], record_mode="once")
    with chat_server() as server, stock.use_cassette(str(tmp_path / "stock.yaml")):
        server.packed = packed
        chats, messages = openai_replies(server.url), anthropic_replies(server.url)
    assert ("!!binary" in (tmp_path / "stock.yaml").read_text()) == packed
    cassette = Cassette.load(tmp_path)
    for texts, url, body, read in (
        (chats, server.chat_url, openai_body, lambda reply: reply["choices"][0]["message"]["content"]),
        (messages, f"{server.url}/v1/messages", anthropic_body, lambda reply: reply["content"][0]["text"]),
    ):
        found = [cassette.find(request_key("POST", url, body(text))) for text in TEXTS]
        assert [read(json.loads(entry.body)) for entry in found] == texts
        assert all(entry.content_type == "application/json" for entry in found)
    assert (len(cassette), cassette.obsolete()) == (6, 0)


def test_taken_over_from_stock_vcrpy_a_cassette_loses_its_keys_and_stays_playable(tmp_path):
    stock = vcr.VCR(match_on=["method", "uri", "body"])
    with chat_server() as server:
        with stock.use_cassette(str(tmp_path / "stock.yaml"), record_mode="once"):
            server.packed = True
            chats, messages = openai_replies(server.url), anthropic_replies(server.url)
        assert b"sk-other" in (tmp_path / "stock.yaml").read_bytes()
        with Recorder.open(tmp_path) as recorder:
            record_through_both_sdks(recorder, server.url)
            recorder.append(
                method="POST",
                url=server.chat_url,
                body=chat_body("one more"),
                response_status=200,
                response_text="{}",
                response_content_type="application/json",
            )
        assert set(server.asked.values()) == {2}
    assert [path.name for path in tmp_path.iterdir()] == ["replies.yaml"]
    assert b"sk-other" not in (tmp_path / "replies.yaml").read_bytes()
    with stock.use_cassette(str(tmp_path / "replies.yaml"), record_mode="none"):
        assert (openai_replies(server.url), anthropic_replies(server.url)) == (chats, messages)
