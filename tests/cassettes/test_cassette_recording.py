"""Recording: through the SDK's own client, kept at once, put in order at the end, whatever stops it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx2
import pytest
import yaml
from hash_model import QUESTION, HashModel, chat_body
from openai import AsyncOpenAI, RateLimitError
from recording_process import child, files_of, numbered_bodies, replies_of

from pytest_promptfit.cassettes.cassette import ASKED, Asked, Cassette, request_key
from pytest_promptfit.cassettes.file import HEADER
from pytest_promptfit.cassettes.recorder import Recorder, layout, prune
from pytest_promptfit.cassettes.transport import RecordingTransport
from pytest_promptfit.errors import CassetteError

if TYPE_CHECKING:
    import subprocess

URL = "https://api.openai.com/v1/chat/completions"


@pytest.fixture
def server():
    with HashModel() as running:
        yield running


def keep(recorder: Recorder, text: str, reply: str = "reply", **more) -> str:
    body = chat_body(text)
    asked = Asked.of(more.pop("url", URL), body, more.pop("sample", None), repeat=more.pop("repeat", 0))
    recorder.keep(asked.answered(reply, **more))
    return asked.key


def ask(
    recorder: Recorder, url: str, bodies: list[dict], *, api_key="sk-none", max_retries=3, asked_url="", **transport
) -> list[str]:
    """Ask through the OpenAI SDK, one after another, and return the texts of the replies."""

    async def all_of_them() -> list[str]:
        http_client = httpx2.AsyncClient(
            transport=RecordingTransport(httpx2.AsyncHTTPTransport(verify=False), recorder, **transport)
        )
        async with AsyncOpenAI(
            api_key=api_key, base_url=f"{url}/v1", http_client=http_client, max_retries=max_retries
        ) as client:
            return [await ask_one(client, number, body) for number, body in enumerate(bodies)]

    async def ask_one(client: AsyncOpenAI, number: int, body: dict) -> str:
        ASKED.set(Asked.of(asked_url or f"{url}/v1/chat/completions", body, f"sample-{number}"))
        completion = await client.chat.completions.create(**body)
        return completion.choices[0].message.content or ""

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("packed", [False, True])
def test_what_the_sdk_was_told_is_found_by_the_key_of_what_was_asked(tmp_path, server, packed):
    server.packed = packed
    bodies = [chat_body(QUESTION, temperature=0), chat_body("other")]
    with Recorder.open(tmp_path / "new" / "folder") as recorder:
        texts = ask(recorder, server.url, bodies)
        assert [server.key(body) in recorder.cassette for body in bodies] == [True, True]
    cassette = Cassette.load(tmp_path / "new" / "folder")
    found = [cassette.find(server.key(body)) for body in bodies]
    assert [json.loads(entry.body)["choices"][0]["message"]["content"] for entry in found] == texts
    assert [entry.sample for entry in found] == ["sample-0", "sample-1"]
    assert all(entry.seconds >= 0 for entry in found)
    assert list(files_of(tmp_path / "new" / "folder")) == ["replies.yaml"]


def test_a_reply_is_on_disk_before_the_caller_has_it(tmp_path):
    with Recorder.open(tmp_path) as recorder:
        for number in range(3):
            key = keep(recorder, f"question {number}")
            assert Cassette.load(tmp_path).find(key) is not None


def test_failures_are_retried_by_the_sdk_and_never_recorded(tmp_path, server):
    server.failures = [429, 500, 503]
    with Recorder.open(tmp_path) as recorder:
        ask(recorder, server.url, [chat_body("a")])
    (entry,) = Cassette.load(tmp_path)
    assert server.asked_for(chat_body("a")) == 4
    assert "failure" not in entry.body
    assert len(files_of(tmp_path)["replies.yaml"].splitlines()) == 3


def test_nothing_is_written_where_all_that_comes_back_is_a_failure(tmp_path, server):
    server.failures = [429]
    with pytest.raises(RateLimitError), Recorder.open(tmp_path) as recorder:
        ask(recorder, server.url, [chat_body("a")], max_retries=0)
    assert files_of(tmp_path) == {}
    with Recorder.open(tmp_path) as recorder, pytest.raises(ValueError, match="status 429"):
        keep(recorder, "a", status=429)


def test_a_page_that_is_no_reply_is_passed_on_and_not_kept(tmp_path, server):
    with Recorder.open(tmp_path) as recorder:
        (text,) = ask(recorder, server.url, [chat_body("a")], keep=lambda body: "no such word" in body)
    assert text.startswith("Réponse")
    assert files_of(tmp_path) == {}


def test_a_recorded_page_that_is_no_reply_gives_way_to_the_reply_that_is_asked_for_again(tmp_path, server):
    with Recorder.open(tmp_path) as recorder:
        key = keep(recorder, "a", reply="<p>log in here</p>", url=server.chat_url)
    for _ in range(2):
        with Recorder.open(tmp_path) as recorder:
            (text,) = ask(recorder, server.url, [chat_body("a")], keep=lambda body: body.startswith("{"))
        assert json.loads(replies_of(Cassette.load(tmp_path))[key])["choices"][0]["message"]["content"] == text
    assert len(Cassette.load(tmp_path)) == 1


def test_a_server_of_changing_address_is_recorded_under_one(tmp_path, server):
    with Recorder.open(tmp_path) as recorder:
        ask(recorder, server.url, [chat_body("a")], asked_url="http://local/v1/chat/completions")
    assert Cassette.load(tmp_path).find(request_key("POST", "http://local/v1/chat/completions", chat_body("a")))


def test_keys_cookies_and_organisations_never_reach_the_folder(tmp_path, server):
    secrets = ["sk-planted-in-header", 'planted"quote', "planted/in url", "short"]
    server.say = f"{secrets[0]} {secrets[1]} short "
    body = chat_body(f"a {secrets[0]} and {secrets[1]}, but short words stay")
    with Recorder.open(tmp_path, secrets) as recorder:
        (text,) = ask(recorder, server.url, [body], api_key=secrets[0])
        keep(recorder, "in the address", url=f"{URL}?key=planted%2Fin%20url&also=sk-planted-in-header")
        written = b"".join(files_of(tmp_path).values())
        assert server.key(body) in recorder.cassette
    assert secrets[0] in text
    assert server.seen[0].headers["authorization"] == f"Bearer {secrets[0]}"
    for content in (written, b"".join(files_of(tmp_path).values())):
        assert content.count(b"[REDACTED]") == 6
        assert b"but short words stay" in content
        for planted in (b"planted", b"cookie-of-a-person", b"org-of-a-person", b"uthorization"):
            assert planted not in content


def test_only_the_client_with_the_transport_is_recorded(tmp_path, server):
    with Recorder.open(tmp_path) as recorder:
        httpx2.post(server.chat_url, json=chat_body("of the user's own test"))
        ask(recorder, server.url, [chat_body("a")])
    assert [server.asked_for(chat_body(text)) for text in ("of the user's own test", "a")] == [1, 1]
    assert len(Cassette.load(tmp_path)) == 1


def test_every_character_comes_back_through_json_and_through_yaml(tmp_path):
    every = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    with Recorder.open(tmp_path) as recorder:
        key = keep(recorder, every, reply=every)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes().decode()
    assert len(content.splitlines()) == 3
    loaded = [json.loads(content.split("\n")[2][2:]), *yaml.load(content, yaml.CSafeLoader)["interactions"]]
    for entry in loaded:
        assert entry["response"]["body"]["string"] == every
        assert json.loads(entry["request"]["body"]) == chat_body(every)
    assert Cassette.load(tmp_path).find(key).body == every


def test_control_characters_come_back_without_libyaml_too(tmp_path):
    odd = "".join(map(chr, [*range(0x100), 0x2028, 0x2029, 0xD7FF, 0xE000, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, 0x1F600]))
    with Recorder.open(tmp_path) as recorder:
        keep(recorder, "a", reply=odd)
    (entry,) = yaml.load((tmp_path / "replies.yaml").read_bytes(), yaml.SafeLoader)["interactions"]
    assert entry["response"]["body"]["string"] == odd


@pytest.mark.parametrize(("replace", "expected"), [(False, "first"), (True, "third")])
def test_what_is_recorded_is_kept_unless_it_is_to_be_replaced(tmp_path, replace, expected):
    with Recorder.open(tmp_path) as recorder:
        key = keep(recorder, "a", reply="first")
    with Recorder.open(tmp_path, replace=replace) as recorder:
        for reply in ("second", "third"):
            keep(recorder, "a", reply=reply)
        assert recorder.cassette.find(key).body == expected
    assert replies_of(Cassette.load(tmp_path)) == {key: expected}


def test_replacing_keeps_the_old_reply_until_the_new_one_is_there(tmp_path):
    with Recorder.open(tmp_path) as recorder:
        kept, replaced = keep(recorder, "a", reply="old a"), keep(recorder, "b", reply="old b")
    with suppress(KeyboardInterrupt), Recorder.open(tmp_path, replace=True) as recorder:
        assert recorder.cassette.find(replaced).body == "old b"
        keep(recorder, "b", reply="new b")
        assert replies_of(Cassette.load(tmp_path)) == {kept: "old a", replaced: "new b"}
        raise KeyboardInterrupt
    assert replies_of(Cassette.load(tmp_path)) == {kept: "old a", replaced: "new b"}
    assert list(files_of(tmp_path)) == ["replies.yaml"]


def test_repeats_of_one_request_are_told_apart_and_lie_together(tmp_path):
    with Recorder.open(tmp_path) as recorder:
        keys = [keep(recorder, "a", reply=str(repeat), repeat=repeat) for repeat in (2, 0, 1)]
        for number in range(20):
            keep(recorder, f"other {number}")
    cassette = Cassette.load(tmp_path)
    assert [cassette.find(key).body for key in keys] == ["2", "0", "1"]
    in_file = [entry.body for entry in cassette]
    at = in_file.index("0")
    assert in_file[at : at + 3] == ["0", "1", "2"]


def test_files_depend_on_what_is_recorded_not_on_the_order_or_the_sessions(tmp_path):
    texts = [f"question {number}" for number in range(30)]
    for name, order in (("one", texts), ("two", texts[::-1])):
        for part in (order[:7], order[7:]):
            with Recorder.open(tmp_path / name) as recorder:
                for text in part:
                    keep(recorder, text, reply=f"reply to {text}", sample=text, seconds=0.25)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_cassette_to_which_nothing_was_added_is_not_touched(tmp_path):
    with Recorder.open(tmp_path) as recorder:
        keep(recorder, "a")
    reformatted = yaml.safe_dump(yaml.safe_load((tmp_path / "replies.yaml").read_bytes()))
    (tmp_path / "replies.yaml").write_text(reformatted)
    before = (tmp_path / "replies.yaml").stat()
    with Recorder.open(tmp_path) as recorder:
        keep(recorder, "a")
    assert (tmp_path / "replies.yaml").read_text() == reformatted
    assert (tmp_path / "replies.yaml").stat().st_mtime_ns == before.st_mtime_ns


def test_reformatted_and_other_tools_files_are_taken_over_by_the_next_recording(tmp_path):
    with Recorder.open(tmp_path) as recorder:
        keep(recorder, "a", reply="of a", sample="s")
        keep(recorder, "b", reply="of b")
    expected = files_of(tmp_path)["replies.yaml"]
    data = yaml.safe_load(expected)
    (tmp_path / "replies.yaml").unlink()
    for name, entry in zip(("one.yaml", "two.yml"), data["interactions"], strict=True):
        (tmp_path / name).write_text(yaml.safe_dump({"interactions": [entry], "version": 1}))
    with Recorder.open(tmp_path) as recorder:
        keep(recorder, "c")
    files = files_of(tmp_path)
    assert list(files) == ["replies.yaml"]
    assert set(expected.splitlines()) < set(files["replies.yaml"].splitlines())


def test_a_large_cassette_is_split_by_key_and_only_what_changes_is_rewritten(tmp_path):
    large = "x" * 150_000
    with Recorder.open(tmp_path) as recorder:
        keys = {keep(recorder, f"question {number}", reply=f"{number}{large}") for number in range(40)}
    files = files_of(tmp_path)
    assert {name[:8] for name in files} == {"replies-"}
    assert set(files) == {f"replies-{key[0]}.yaml" for key in keys}
    assert set(replies_of(Cassette.load(tmp_path))) == keys
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in files}
    with Recorder.open(tmp_path) as recorder:
        added = keep(recorder, "one more")
    changed = {name for name, at in times.items() if (tmp_path / name).stat().st_mtime_ns != at}
    assert changed <= {f"replies-{added[0]}.yaml"}
    assert set(replies_of(Cassette.load(tmp_path))) == keys | {added}
    assert prune(tmp_path, [added], Cassette.load(tmp_path)) == 40
    assert list(files_of(tmp_path)) == ["replies.yaml"]


def test_a_very_large_cassette_is_split_by_two_digits(tmp_path):
    with Recorder.open(tmp_path) as recorder:
        keep(recorder, "a", reply="x" * 2**20)
        (entry,) = recorder.cassette
    files = layout([entry] * 65)
    assert list(files) == [f"replies-{entry.key[:2]}.yaml"]


def test_two_thousand_replies_are_all_found_again(tmp_path):
    with Recorder.open(tmp_path) as recorder:
        keys = [keep(recorder, f"question {number}", reply=f"reply {number}") for number in range(2000)]
    cassette = Cassette.load(tmp_path)
    assert [cassette.find(key).body for key in keys] == [f"reply {number}" for number in range(2000)]
    assert (len(cassette), cassette.obsolete()) == (2000, 0)


def test_pruning_deletes_what_was_never_asked_for(tmp_path):
    with Recorder.open(tmp_path) as recorder:
        asked = [keep(recorder, text) for text in ("a", "b")]
    cassette = Cassette.load(tmp_path)
    assert cassette.find(asked[0]) is not None
    assert (cassette.obsolete(), prune(tmp_path, cassette.asked_keys(), cassette)) == (1, 1)
    assert set(replies_of(Cassette.load(tmp_path))) == {asked[0]}
    before = (tmp_path / "replies.yaml").stat().st_mtime_ns
    assert prune(tmp_path, cassette.asked_keys(), cassette) == 0
    assert (tmp_path / "replies.yaml").stat().st_mtime_ns == before
    assert prune(tmp_path, [], cassette) == 1
    assert files_of(tmp_path) == {}
    assert prune(tmp_path / "no folder", [], cassette) == 0


def test_pruning_spares_what_was_recorded_since(tmp_path):
    with Recorder.open(tmp_path) as recorder:
        replaced, _ = keep(recorder, "a"), keep(recorder, "b")
    cassette = Cassette.load(tmp_path)
    with Recorder.open(tmp_path, replace=True) as recorder:
        new = [keep(recorder, "a", reply="another"), keep(recorder, "c")]
    assert new[0] == replaced
    assert prune(tmp_path, [], cassette) == 1
    assert set(replies_of(Cassette.load(tmp_path))) == set(new)


def test_pruning_keeps_what_was_asked_for_though_its_request_was_spaced_by_hand(tmp_path):
    with Recorder.open(tmp_path) as recorder:
        key, _ = keep(recorder, "a"), keep(recorder, "b")
    (tmp_path / "replies.yaml").write_bytes(files_of(tmp_path)["replies.yaml"].replace(b'\\",\\"', b'\\", \\"'))
    cassette = Cassette.load(tmp_path)
    assert cassette.find(key) is not None
    assert prune(tmp_path, cassette.asked_keys(), cassette) == 1
    assert set(replies_of(Cassette.load(tmp_path))) == {key}


@pytest.mark.parametrize("name", ["replies.yaml", "replies-new.yaml"])
@pytest.mark.parametrize("torn", ['- {"promptfit": {"sam', "\0\0\0"])
def test_recording_goes_on_after_a_torn_last_line(tmp_path, name, torn):
    with Recorder.open(tmp_path) as recorder:
        before = keep(recorder, "a")
        lines = files_of(tmp_path)["replies-new.yaml"].decode()
    (tmp_path / "replies.yaml").unlink()
    (tmp_path / name).write_text(lines + torn)
    with Recorder.open(tmp_path) as recorder:
        assert [warning.split(": ")[1][:21] for warning in recorder.cassette.warnings] == ["the last line is torn"]
        added = keep(recorder, "b")
    cassette = Cassette.load(tmp_path)
    assert (set(replies_of(cassette)), cassette.warnings) == ({before, added}, [])


@pytest.mark.parametrize("torn", ["version", HEADER.rstrip(), HEADER])
def test_recording_goes_on_after_a_torn_header(tmp_path, torn):
    (tmp_path / "replies-new.yaml").write_text(torn)
    with Recorder.open(tmp_path) as recorder:
        added = keep(recorder, "b")
    assert set(replies_of(Cassette.load(tmp_path))) == {added}
    assert list(files_of(tmp_path)) == ["replies.yaml"]


def test_a_damaged_cassette_stops_the_recording_before_anything_is_asked(tmp_path):
    (tmp_path / "replies.yaml").write_text("name: a prompt\n")
    with pytest.raises(CassetteError, match="not a cassette"), Recorder.open(tmp_path):
        pytest.fail("the recording began")
    assert files_of(tmp_path) == {"replies.yaml": b"name: a prompt\n"}


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_asked(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CassetteError) as refused, Recorder.open(tmp_path / "file" / "folder"):
        pytest.fail("the recording began")
    assert str(refused.value).startswith(f"{tmp_path / 'file' / 'folder'}: Not a directory; ")


@pytest.mark.endurance
def test_killed_twenty_times_a_recording_loses_and_repeats_nothing(tmp_path, server):
    """A kill costs at most the calls in flight; what is on disk stays there and is never asked again."""
    chance, at_once, bodies = random.Random(20), 4, numbered_bodies(400)
    on_disk: dict[str, str] = {}
    asked_when_on_disk: dict[str, int] = {}
    with child("record_often", tmp_path, server.url, len(bodies), at_once) as recordings:
        for _ in range(20):
            told, now_on_disk = record_and_kill(recordings, chance), replies_of(Cassette.load(tmp_path))
            assert set(told) <= set(now_on_disk)
            assert on_disk.items() <= now_on_disk.items()
            asked = server.asked
            asked_when_on_disk |= {key: asked[key] for key in now_on_disk.keys() - on_disk.keys()}
            on_disk = now_on_disk
        assert 100 < len(on_disk) < len(bodies)
        assert recordings.communicate("record to the end\n")[0].endswith("done\nended\n")
    final = Cassette.load(tmp_path)
    assert on_disk.items() <= replies_of(final).items()
    assert set(replies_of(final)) == {server.key(body) for body in bodies}
    asked = server.asked
    assert {key: asked[key] for key in asked_when_on_disk} == asked_when_on_disk
    assert asked.total() <= len(bodies) + 20 * at_once
    assert (list(files_of(tmp_path)), final.warnings) == (["replies.yaml"], [])


def record_and_kill(recordings: subprocess.Popen[str], chance: random.Random) -> list[str]:
    """Kill a recording at a moment of chance; return the keys of the replies that its caller had got."""
    recordings.stdin.write("record\n")
    recordings.stdin.flush()
    pid = int(recordings.stdout.readline())
    assert recordings.stdout.readline() == "ready\n"
    told = [recordings.stdout.readline() for _ in range(chance.randint(0, 24))]
    time.sleep(chance.uniform(0, 0.004))
    os.kill(pid, signal.SIGKILL)
    told += iter(recordings.stdout.readline, "ended\n")
    return [line.strip() for line in told]


def test_killed_before_any_change_to_its_files_a_compaction_loses_nothing(tmp_path):
    """The next recording is killed while it takes over what a killed one, that replaced replies, left."""
    killed, work = tmp_path / "killed", tmp_path / "work"
    texts = [text for text in map(str, range(400)) if request_key("POST", URL, chat_body(text))[0] in "012"]
    with Recorder.open(killed) as recorder:
        for text in texts[:8]:
            keep(recorder, text, reply="old" + "x" * 600_000)
    with Recorder.open(killed, replace=True) as recorder:
        for text in texts[4:12]:
            keep(recorder, text, reply="new")
        left = {**files_of(killed), ".replies-f.yaml.tmp": b"half of"}
    for path in killed.iterdir():
        path.unlink()
    for name, content in left.items():
        (killed / name).write_bytes(content)
    expected = replies_of(Cassette.load(killed))
    assert sorted({body[:3] for body in expected.values()}) == ["new", "old"]
    crashed = child("crash", killed, work)
    deaths = int(crashed.communicate()[0])
    assert deaths >= 5
    with Recorder.open(killed):
        pass
    whole = files_of(killed)
    assert list(whole) == ["replies.yaml"]
    for number in range(deaths + 1):
        assert replies_of(Cassette.load(work / str(number))) == expected
        with Recorder.open(work / str(number)):
            pass
        assert files_of(work / str(number)) == whole


def test_two_processes_record_one_prompt_and_pay_for_each_reply_once(tmp_path, server):
    server.hold()
    first = child("record", tmp_path, server.url, 40, 4)
    assert first.stdout.readline() == "ready\n"
    second = child("record", tmp_path, server.url, 40, 4)
    waits = second.stdout.readline()
    server.release()
    told = [process.communicate()[0].split("\n") for process in (first, second)]
    assert waits == f"waiting: {tmp_path}: another process is recording here; waiting for it to finish\n"
    assert len(told[0]) == 42
    assert told[1] == ["ready", "done", ""]
    assert {server.asked_for(body) for body in numbered_bodies(40)} == {1}
    assert len(Cassette.load(tmp_path)) == 40


@pytest.mark.endurance
def test_a_full_disk_stops_the_asking_and_keeps_what_was_recorded(tmp_path, server):
    """A limit on the size of files stands in for the full disk."""
    told = child("fill", tmp_path, server.url, 6000).communicate()[0].splitlines()
    replies = told.count("reply")
    assert told[replies:] == ["stopped", "the file is whole", told[-1]]
    assert told[-1].startswith(f"{tmp_path / 'replies-new.yaml'}: ")
    kept = f"{replies - 1} replies are kept; lost, though they arrived: 1"
    assert told[-1].endswith(f"; free some space and run again: {kept}")
    assert 1 < replies < 40
    assert sum(server.asked.values()) == replies
    cassette = Cassette.load(tmp_path)
    assert (len(cassette), cassette.warnings) == (replies - 1, [])
    bodies = [chat_body(f"question {number}", max_tokens=9) for number in range(40)]
    url = f"{server.url}/v1/messages"
    with Recorder.open(tmp_path) as recorder:
        missing = [body for body in bodies if request_key("POST", url, body) not in recorder.cassette]
        assert missing == bodies[replies - 1 :]
        added = keep(recorder, "now that there is space")
    assert added in Cassette.load(tmp_path)
