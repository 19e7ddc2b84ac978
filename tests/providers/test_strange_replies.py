"""An API that answers what is no reply: one clear line, nothing of it recorded, and all other cases go on."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING

import pytest
from loopback_server import HTML, Answer, LoopbackServer, chat, raw

from pytest_promptfit import PromptfitError, load_prompt

if TYPE_CHECKING:
    from mood_project import Project

GOOD = chat("Label: <label>bad</label>")
STRANGE = "a dreadful walk"
"""The text whose reply is strange; the three others get a plain one."""


def answer_strangely(project: Project, answer: Answer, **model: object) -> None:
    project.write(model={"provider": "openai", "name": "m", "base_url": project.model.url, **model})
    plain = project.model.says
    project.model.says = lambda text: answer if STRANGE in text else plain(text)


def recorded(project: Project) -> list[str]:
    """Return the bodies that are recorded."""
    return [
        json.loads(line[2:])["response"]["body"]["string"]
        for path in project.path.glob("cassettes/mood/*.yaml")
        for line in path.read_text(encoding="utf-8").split("\n")[2:]
        if line
    ]


def fails_alone(project: Project, line: str) -> None:
    """Hold that the strange reply fails its own case, in one line, and is asked for again when it is mended."""
    result = project.record()
    result.assert_outcomes(passed=3, failed=1, skipped=1)
    result.stdout.fnmatch_lines([line])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert len(recorded(project)) == 3
    asked, project.model.says = len(project.model.asked), lambda _: GOOD
    project.record().assert_outcomes(passed=4, skipped=1)
    assert len(project.model.asked) == asked + 1


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (HTML, "*the reply is not JSON (<!DOCTYPE html>*); is base_url right?"),
        (
            raw(""),
            "*the server failed, still after the retries (200, with an error, or nothing, in it); try again later",
        ),
        (raw(GOOD.body.decode()[:60]), "*the reply is not JSON ({*); is base_url right?"),
        (raw("[1]"), "*the reply is not in the form this API has; is base_url right?"),
        (
            raw('{"error": {"message": "over capacity"}}'),
            "*the server failed, still after the * (200, *): over capacity; *",
        ),
        (Answer(200, b"\xff\xfe\x00{", {}), "*the reply is not JSON (*); is base_url right?"),
        (raw("[" * 100_000), "*the reply is not JSON (*); is base_url right?"),
    ],
    ids=["html", "nothing", "half", "list", "error", "no-utf-8", "deep"],
)
def test_what_is_no_reply(project: Project, no_waits: None, answer: Answer, line: str) -> None:
    answer_strangely(project, answer)
    fails_alone(project, line)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, GOOD.body, content_type="text/html"),
        Answer(200, GOOD.body, content_type="application/json; charset=utf-16"),
        Answer(200, GOOD.body, content_type="\t"),
        Answer(200, GOOD.body.replace(b"Label:", b"caf\xe9 \xff\xfe\x80")),
        chat(f"{'because ' * 1_250_000}<label>bad</label>"),
        Answer(200, gzip.compress(GOOD.body), {"content-encoding": "gzip"}),
    ],
    ids=["html", "charset", "no-type", "no-utf-8", "10-mb", "packed"],
)
def test_a_reply_is_a_reply_whatever_its_wrapping(project: Project, answer: Answer) -> None:
    """What was read when it arrived is read again from the recording."""
    answer_strangely(project, answer)
    project.record().assert_outcomes(passed=4, skipped=1)
    assert len(recorded(project)) == 4
    project.replay().assert_outcomes(passed=4, skipped=1)


def test_a_body_without_end_is_not_read_on(project: Project) -> None:
    answer_strangely(project, Answer(200, GOOD.body[:-1], endless=b" " * 2**16))
    fails_alone(project, "*the reply is longer than 16 MB and is not read on; is base_url right?")
    assert project.model.server.sent < 40 * 2**20


def test_a_body_that_drips_is_given_up_after_the_timeout(project: Project, no_waits: None) -> None:
    answer_strangely(project, Answer(200, GOOD.body[:-1], endless=b" ", pause=0.02), timeout=0.3)
    fails_alone(project, "*no reply in time; give it longer with model.timeout")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip"])
def test_a_reply_that_unpacks_without_end_is_not_unpacked(project: Project, encoding: str) -> None:
    resource = pytest.importorskip("resource")
    bomb = bomb_of(2**30, gzip.compress if "gzip" in encoding else zlib.compress)
    packed = gzip.compress(bomb) if encoding == "gzip, gzip" else bomb
    answer_strangely(project, Answer(200, packed, {"content-encoding": encoding}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fails_alone(project, "*the reply is longer than 16 MB and is not read on; is base_url right?")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "kB: it was unpacked"


def bomb_of(size: int, pack: object) -> bytes:
    """Return spaces that unpack to ``size`` bytes."""
    wrapper = zlib.MAX_WBITS | (16 if pack is gzip.compress else 0)
    packer = zlib.compressobj(9, zlib.DEFLATED, wrapper)
    start = packer.compress(b"{" + b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + block * (size // 2**20)


def test_a_reply_that_cannot_be_unpacked_is_paid_for_once(project: Project) -> None:
    answer_strangely(project, Answer(200, GOOD.body, {"content-encoding": "gzip"}))
    fails_alone(project, "*the reply cannot be unpacked (*incorrect header check)")
    assert len(project.model.asked) == 5


def test_production_code_gives_up_such_replies_too(project: Project) -> None:
    for answer, line in (
        (Answer(body=bomb_of(2**30, gzip.compress), headers={"content-encoding": "gzip"}), "longer than 16 MB"),
        (Answer(body=b"no gzip", headers={"content-encoding": "gzip"}), "cannot be unpacked"),
    ):
        answer_strangely(project, answer)
        classify = load_prompt(project.path / "mood.prompt.yaml")
        with pytest.raises(PromptfitError, match=line):
            classify(STRANGE)
    assert len(project.model.asked) == 2


def test_a_body_that_is_cut_off(project: Project, no_waits: None) -> None:
    answer_strangely(project, Answer(200, GOOD.body[:-9], withheld=9))
    fails_alone(project, "*: the connection was cut: *")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_no_key_goes_there(
    project: Project, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOOD_KEY", "sk-planted-key")
    with LoopbackServer(GOOD) as other:
        elsewhere = f"{other.url.replace('127.0.0.1', 'localhost')}/v1/chat/completions"
        answer_strangely(project, Answer(status, b"", {"location": elsewhere}), api_key_env="MOOD_KEY")
        fails_alone(project, f"*redirects to {elsewhere} ({status}): set base_url to where the API is")
        assert other.seen == []
    assert project.model.server.seen[0].headers["authorization"] == "Bearer sk-planted-key"
