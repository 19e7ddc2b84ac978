"""Stock vcrpy replays what is recorded here; what it recorded itself has no checksum and is refused."""

from __future__ import annotations

import asyncio
import socket

import httpx2
import pytest
import vcr
from anthropic import Anthropic, AsyncAnthropic
from hash_model import QUESTION, HashModel, chat_body
from openai import AsyncOpenAI, OpenAI
from vcr.errors import CannotOverwriteExistingCassetteException

from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.cassettes.recorder import Recorder
from pytest_promptfit.cassettes.transport import RecordingTransport
from pytest_promptfit.errors import CassetteError

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
    with HashModel() as server, Recorder.open(tmp_path) as recorder:
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
def test_what_stock_vcrpy_recorded_is_refused_with_the_command_that_records_it(tmp_path, packed):
    """It has no checksum, and neither has a reply that was edited by hand."""
    stock = vcr.VCR(match_on=["method", "uri", "body"], record_mode="once")
    with HashModel() as server, stock.use_cassette(str(tmp_path / "stock.yaml")):
        server.packed = packed
        openai_replies(server.url)
    with pytest.raises(
        CassetteError, match=r"stock\.yaml:2: .*it has no checksum: another tool recorded it, or"
    ) as said:
        Cassette.load(tmp_path)
    assert str(said.value).endswith("record it again: pytest --promptfit --promptfit-record")
    with pytest.raises(CassetteError, match="it has no checksum"), Recorder.open(tmp_path):
        pass
