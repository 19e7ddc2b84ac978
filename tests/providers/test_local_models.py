"""Models in a GGUF file: where they are looked for, how many questions they work on, and how a run of them ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from loopback_server import (
    LoopbackServer,
    chat,
)
from provider_calls import QUESTION, failure, provider, send

from pytest_promptfit import evaluate
from pytest_promptfit.cassettes.cassette import Asked
from pytest_promptfit.cassettes.recorder import Recorder
from pytest_promptfit.chat.request import ChatRequest, Turn
from pytest_promptfit.errors import CallError
from pytest_promptfit.providers import local
from pytest_promptfit.providers.asking import ask_and_record
from pytest_promptfit.providers.local import find_gguf, serve, threads


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMPTFIT_MODELS", raising=False)


def test_a_relative_gguf_path_counts_from_the_prompt_file(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / "tiny.gguf"
    file.write_bytes(b"GGUF")

    assert find_gguf("models/tiny.gguf", tmp_path) == file.resolve()


def test_a_named_model_is_looked_for_in_the_models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTFIT_MODELS", str(tmp_path))
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")

    assert find_gguf("tiny", Path("elsewhere")) == (tmp_path / "tiny.gguf").resolve()


@pytest.mark.parametrize(
    ("name", "said"),
    [("tiny", "put the file there, or name a file"), ("sub/tiny.gguf", "put the file there or mend")],
)
def test_a_missing_gguf_is_told_with_the_places(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTFIT_MODELS", str(tmp_path))
    with pytest.raises(CallError, match=said) as caught:
        provider(f"local/{name}", tmp_path).check()
    assert caught.value.fatal
    assert str(tmp_path) in str(caught.value)


def test_a_missing_xllamacpp_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    asked = provider("local/tiny.gguf", tmp_path)

    with pytest.raises(CallError, match=r"pip install 'pytest-promptfit\[local\]'") as caught:
        asked.check()
    assert caught.value.fatal


def test_a_broken_gguf_is_told(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    (tmp_path / "tiny.gguf").write_bytes(b"no model at all")

    told = failure(provider("local/tiny.gguf", tmp_path))

    assert told.fatal
    assert "llama.cpp cannot load" in str(told)


@pytest.mark.parametrize(
    ("processors", "load", "expected"), [(8, 0.2, 7), (8, 3.4, 5), (8, 20.0, 1), (2, 0.0, 1), (1, 0.0, 1)]
)
def test_a_local_model_leaves_busy_processors_alone(
    processors: int, load: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert threads() == expected
    monkeypatch.setenv("PROMPTFIT_THREADS", "3")
    assert threads() == 3


def test_a_local_model_is_asked_no_more_than_it_works_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for its turn is not late: together these take longer than one may."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    asked = provider("local/tiny.gguf", tmp_path)

    async def ask_many() -> list[dict[str, Any]]:
        async with asked.connect(max_retries=0, timeout=1.0) as post:
            return await asyncio.gather(*(post(asked.payload(QUESTION)) for _ in range(25)))

    with LoopbackServer(chat("Label: x"), latency=0.1) as server:
        monkeypatch.setattr(local, "serve", lambda _: server.url)
        assert len(asyncio.run(ask_many())) == 25
    assert server.peak == 1


def test_the_seconds_of_a_local_reply_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded is how long the model took, and not how long the question stood in line."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    asked = provider("local/tiny.gguf", tmp_path)
    questions = [Asked.of(asked.url, asked.payload(QUESTION), repeat=n) for n in range(8)]

    with LoopbackServer(chat("Label: x"), latency=0.2) as server, Recorder.open(tmp_path / "replies") as recorder:
        monkeypatch.setattr(local, "serve", lambda _: server.url)
        ask_and_record(questions, asked, recorder, concurrency=8)
        took = [found.seconds for one in questions if (found := recorder.cassette.find(one.key))]
    assert len(took) == 8
    assert all(0.2 <= seconds < 0.8 for seconds in took if seconds is not None), took


@pytest.mark.parametrize("said", ["0", "-1", "two", "²"])
def test_a_wrong_number_of_threads_is_told(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xllamacpp")
    monkeypatch.setenv("PROMPTFIT_THREADS", said)
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")

    told = failure(provider("local/tiny.gguf", tmp_path))

    assert told.fatal
    assert f"PROMPTFIT_THREADS={said}: expected the number" in str(told)


@pytest.fixture(scope="module")
def smollm2() -> Path:
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    try:
        return find_gguf("smollm2-135m", Path())
    except CallError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
def test_a_real_model_continues_the_prefix_in_both_protocols(protocol: str, smollm2: Path) -> None:
    if protocol == "openai":
        asked = provider("local/smollm2-135m")
    else:
        asked = provider({"provider": "anthropic", "name": "smollm2-135m", "base_url": serve(smollm2)})
    request = ChatRequest(
        "smollm2-135m",
        "Answer with one word.",
        (Turn("user", "2+2?"), Turn("assistant", "Answer: four"), Turn("user", "Is fire hot or cold?")),
        "Answer: ",
        {"temperature": 0, "max_tokens": 6},
    )

    body = send(asked, asked.payload(request))
    reply = asked.reply(body, "Answer: ")

    assert reply.text.startswith("Answer: ")
    assert len(reply.text) > len("Answer: ")
    assert reply.text.count("Answer:") == 1
    assert reply.input_tokens > 10
    assert reply.output_tokens > 0
    assert os.sep not in body["model"]


def test_a_real_model_tells_how_likely_each_label_is_and_replays(smollm2: Path, tmp_path: Path) -> None:
    path = tmp_path / "mood.prompt.yaml"
    path.write_text(
        f"model: local/{smollm2}\nparams: {{temperature: 0, max_tokens: 8}}\nprobabilities: true\n"
        "prompt:\n  user_prompt_suffix: ' Is this good or bad?'\n  bot_reply_prefix: 'Label: <label>'\n"
        "  examples: [{text: a lovely song, label: good}, {text: a dreadful song, label: bad}]\n"
        "samples: [{text: a lovely day, label: good}, {text: a dreadful day, label: bad}]\n"
    )

    asked = evaluate(path, record="missing", cassettes=tmp_path).outcomes

    for outcome in asked:
        assert sum(outcome.told.values()) == pytest.approx(1)
        assert outcome.best == max(outcome.told, key=lambda label: outcome.told[label])
    assert [one.decided for one in evaluate(path, cassettes=tmp_path).outcomes] == [one.decided for one in asked]


def test_a_local_run_is_quiet_and_ends(smollm2: Path, tmp_path: Path) -> None:
    """One server serves all; the process ends by itself and llama.cpp's log stays out of the terminal."""
    code = """
import asyncio, sys
from pathlib import Path
from pytest_promptfit.chat.request import ChatRequest, Turn
from pytest_promptfit.prompts.model import ModelSpec
from pytest_promptfit.providers.wire import provider_of
from pytest_promptfit.providers.local import _servers
asked = provider_of(ModelSpec.model_validate(f"local/{sys.argv[1]}"), Path())
request = ChatRequest(sys.argv[1], "", (Turn("user", "hi"),), "", {"max_tokens": 2})
async def main():
    async with asked.connect() as send:
        return await asyncio.gather(*(send(asked.payload(request)) for _ in range(2)))
bodies = asyncio.run(main()) + asyncio.run(main())
print(len(_servers), len(bodies), {body["model"] for body in bodies})
"""
    linked = tmp_path / "linked.gguf"
    linked.symlink_to(smollm2)
    done = subprocess.run([sys.executable, "-c", code, str(linked)], capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 4 {")
    assert str(smollm2.parent) not in done.stdout
