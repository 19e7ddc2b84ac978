"""What a cassette folder gives back: found by key, in any layout, with every damage said in one line."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import pytest
import yaml
from cassette_files import URL, interaction
from hash_model import QUESTION, chat_body
from prompt_files import NESTED_MERGES

from pytest_promptfit.cassettes.cassette import Cassette, canonical_body, request_key
from pytest_promptfit.cassettes.file import HEADER
from pytest_promptfit.errors import CassetteError


def line(text: str, reply: str, **tag: object) -> str:
    return f"- {json.dumps(interaction(text, reply, **tag), ensure_ascii=False)}\n"


def key(text: str, repeat: int = 0) -> str:
    return request_key("POST", URL, chat_body(text), repeat)


def reply(cassette: Cassette, text: str, repeat: int = 0) -> str | None:
    found = cassette.find(key(text, repeat))
    return found.body if found else None


def load(tmp_path, content: str | bytes, name: str = "replies.yaml") -> Cassette:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return Cassette.load(tmp_path)


def refusal(tmp_path, content: str | bytes) -> str:
    with pytest.raises(CassetteError) as refused:
        load(tmp_path, content)
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith(f"{tmp_path / 'replies.yaml'}:")
    return message.removeprefix(f"{tmp_path / 'replies.yaml'}:")


def test_key_counts_method_url_body_and_repeat_whatever_the_form_of_the_body():
    body = {"model": "m", "b": [1, {"é": 0.5}]}
    same = ['{"b": [1, {"\\u00e9": 0.5}], "model": "m"}', '{"model":"m","b":[1,{"é":0.5}]}'.encode()]
    first = request_key("POST", URL, body)
    assert [request_key("POST", URL, form) for form in same] == [first, first]
    others = [
        request_key("GET", URL, body),
        request_key("POST", URL + "?x", body),
        request_key("POST", URL, {**body, "b": []}),
        request_key("POST", URL, body, 1),
    ]
    assert len({first, *others}) == 5


def test_key_of_text_that_cannot_be_sent_is_only_never_found(tmp_path):
    assert reply(Cassette.load(tmp_path), "half a pair: \ud83d") is None


def test_no_folder_is_an_empty_cassette(tmp_path):
    cassette = Cassette.load(tmp_path / "none")
    assert (len(cassette), cassette.obsolete(), cassette.warnings) == (0, 0, [])


@pytest.mark.parametrize("content", ["", "\n", HEADER, HEADER.rstrip(), "version: 1\ninteractions: []\n"])
def test_a_file_without_interactions_is_empty(tmp_path, content):
    cassette = load(tmp_path, content)
    assert (len(cassette), cassette.warnings) == (0, [])


def test_found_entries_tell_reply_sample_and_seconds_and_the_rest_is_obsolete(tmp_path):
    cassette = load(tmp_path, HEADER + line(QUESTION, "sí", sample="ab12", seconds=0.412) + line("other", "no"))
    found = cassette.find(key(QUESTION))
    assert found is not None
    assert (found.body, found.sample, found.seconds, found.url) == ("sí", "ab12", 0.412, URL)
    assert found.request_body == canonical_body(chat_body(QUESTION))
    assert (len(cassette), cassette.obsolete(), cassette.asked_keys()) == (2, 1, {key(QUESTION)})
    assert [entry.body for entry in cassette.of_sample("ab12")] == ["sí"]
    assert cassette.of_sample("other") == []
    assert key("other") in cassette
    assert cassette.obsolete() == 1


def test_every_yaml_file_of_the_folder_is_read_and_no_subfolder(tmp_path):
    (tmp_path / "tune").mkdir()
    load(tmp_path, HEADER + line("a", "1"), "replies-0.yaml")
    load(tmp_path, HEADER + line("b", "2"), "more.yml")
    load(tmp_path, HEADER + line("c", "3"), "notes.txt")
    load(tmp_path / "tune", HEADER + line("d", "4"))
    cassette = Cassette.load(tmp_path)
    assert [reply(cassette, text) for text in "abcd"] == ["1", "2", None, None]


def test_two_replies_to_one_request_are_an_error_that_names_both_lines(tmp_path):
    message = refusal(tmp_path, HEADER + line("a", "first") + line("b", "1") + line("a", "second"))
    assert message == (
        f"5: another reply to the request that is answered at {tmp_path / 'replies.yaml'}:3; delete one of the two "
        "lines, or both and record it again: pytest --promptfit --promptfit-record"
    )


def test_two_replies_in_two_files_or_spacings_are_an_error_too(tmp_path):
    other = interaction("a", "second")
    other["request"]["body"] = json.dumps(chat_body("a"), indent=2)
    load(tmp_path, HEADER + line("a", "first"), "other.yaml")
    message = refusal(tmp_path, f"{HEADER}- {json.dumps(other)}\n")
    assert message.startswith(f"3: another reply to the request that is answered at {tmp_path / 'other.yaml'}:3; ")


def test_the_same_reply_twice_does_no_harm(tmp_path):
    """As a merge that keeps both sides leaves it."""
    cassette = load(tmp_path, HEADER + line("a", "one", seconds=0.1) + line("a", "one", seconds=0.2))
    assert (len(cassette), reply(cassette, "a")) == (1, "one")


def test_what_a_killed_recording_left_supersedes_older_replies(tmp_path):
    load(tmp_path, HEADER + line("a", "newer") + line("a", "newest"), "replies-new.yaml")
    load(tmp_path, HEADER + line("a", "newest"), "replies-0.yaml")
    cassette = load(tmp_path, HEADER + line("a", "old"))
    assert (len(cassette), reply(cassette, "a")) == (1, "newest")


def test_repeats_are_found_by_their_index(tmp_path):
    cassette = load(tmp_path, HEADER + line("a", "again", repeat=1) + line("a", "once"))
    assert [reply(cassette, "a", repeat) for repeat in range(3)] == ["once", "again", None]


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path):
    content = "\ufeff" + (HEADER + line("a", "1") + line("b", "2")).replace("\n", "\r\n")
    cassette = load(tmp_path, content)
    assert [reply(cassette, "a"), reply(cassette, "b")] == ["1", "2"]


@pytest.mark.parametrize("sort_keys", [True, False])
def test_a_reformatted_file_still_loads(tmp_path, sort_keys):
    content = (
        HEADER + line(QUESTION, "tab\t nul\0 next\x85line", sample="s1") + line("a", "once") + line("a", "2", repeat=1)
    )
    reformatted = yaml.safe_dump(yaml.safe_load(content.replace("\x85", "\\u0085")), sort_keys=sort_keys)
    cassette = load(tmp_path, reformatted)
    assert reply(cassette, QUESTION) == "tab\t nul\0 next\x85line"
    assert [reply(cassette, "a", repeat) for repeat in range(2)] == ["once", "2"]
    assert len(cassette.of_sample("s1")) == 1


def test_a_body_edited_by_hand_is_found_whatever_its_spacing(tmp_path):
    edited = interaction("a", "1")
    edited["request"]["body"] = json.dumps(chat_body("a"), indent=2)
    cassette = load(tmp_path, f"{HEADER}- {json.dumps(edited)}\n")
    assert reply(cassette, "a") == "1"
    assert cassette.obsolete() == 0


def test_comments_between_interactions_are_allowed(tmp_path):
    cassette = load(tmp_path, HEADER + "# checked by hand\n" + line("a", "1"))
    assert reply(cassette, "a") == "1"


def test_bytes_packed_replies_and_failures(tmp_path):
    entry = interaction("a", gzip.compress("first é".encode()))
    entry["request"]["body"] = entry["request"]["body"].encode()
    entry["response"]["headers"] = {"Content-Type": ["text/x"], "Content-Encoding": ["gzip"]}
    failed = interaction("a", "busy")
    failed["response"]["status"] = {"code": 429, "message": "Too Many Requests"}
    content = yaml.safe_dump({"interactions": [failed, entry], "version": 1})
    assert "!!binary" in content
    cassette = load(tmp_path, content)
    assert [reply(cassette, "a", repeat) for repeat in range(2)] == ["first é", None]
    assert [warning.split(": ")[1] for warning in cassette.warnings] == ["a recorded failure is left out"]


def test_failures_that_were_recorded_are_said_once_a_file(tmp_path):
    failed = interaction("a", "busy")
    failed["response"]["status"]["code"] = 503
    (warning,) = load(tmp_path, yaml.safe_dump({"interactions": [failed] * 300, "version": 1})).warnings
    assert warning.endswith(": a recorded failure is left out: not a 2xx, and 299 more in this file")


@pytest.mark.parametrize("tag", [None, {}, {"sample": "s1"}])
def test_an_entry_without_a_checksum_is_an_error_with_the_command_that_records_it(tmp_path, tag):
    entry = interaction("b", "edited by hand")
    del entry["promptfit"]
    content = HEADER + line("a", "1") + f"- {json.dumps(entry if tag is None else {**entry, 'promptfit': tag})}\n"
    assert refusal(tmp_path, content) == (
        "4: an interaction that cannot be used: it has no checksum: another tool recorded it, or it was edited by "
        "hand; delete it and record it again: pytest --promptfit --promptfit-record"
    )


@pytest.mark.parametrize("torn", ["-", '- {"promptfit": {"sam', line("b", "2")[:-3], "\0" * 40, "- {\ud83d"])
def test_a_torn_last_line_is_left_out_with_a_warning(tmp_path, torn):
    cassette = load(tmp_path, (HEADER + line("a", "1") + torn).encode("utf-8", "surrogatepass"))
    assert (len(cassette), reply(cassette, "a")) == (1, "1")
    (warning,) = cassette.warnings
    assert warning.startswith(f"{tmp_path / 'replies.yaml'}:4: the last line is torn")


def test_a_last_line_that_lacks_only_its_line_end_counts(tmp_path):
    cassette = load(tmp_path, HEADER + line("a", "1") + line("b", "2").rstrip())
    assert (reply(cassette, "b"), cassette.warnings) == ("2", [])


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    content = HEADER + line("a", "1") + line("b", "2")[:-9] + "\n" + line("c", "3")
    assert refusal(tmp_path, content).startswith("4: not one whole interaction of JSON; ")


def test_merge_conflict_markers_are_named_with_what_to_do(tmp_path):
    both = line("b", "2") + "=======\n" + line("c", "3")
    message = refusal(tmp_path, f"{HEADER}{line('a', '1')}<<<<<<< HEAD\n{both}>>>>>>> topic\n")
    assert message.startswith("4: an unresolved merge conflict; delete the marker lines and keep both sides")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "1: a Git LFS pointer"),
        (HEADER.encode() + b'- {"\xff"}\n', "3: not valid UTF-8"),
        ("name: a prompt\n", "1: not a cassette"),
        ("just words\n", "1: not a cassette"),
        ("version: 2\ninteractions: []\n", "1: cassette version 2, expected 1"),
        ("interactions: []\n\nversion: two\n", "3: cassette version 'two', expected 1"),
        (f"{HEADER}- request: [\n", "4: not YAML ("),
        (f"{HEADER}- request: 1\n  response: 2\n", "3: not an interaction"),
        (f"{HEADER}- {{}}\n", "3: not an interaction"),
        (f"{HEADER}{line('a', '1')}- [1]\n", "4: not an interaction"),
        (f"{HEADER}- &a [*a]\n", "1: aliases make more than 2,000,000 values: write them out"),
        (f"{HEADER}- when: 2024-13-99\n", "3: not YAML (not a value of the type !!timestamp)"),
        (f"{HEADER}- when: 1:{'59:' * 200_000}1\n", "3: not YAML (not a value of the type !!int)"),
        (f"version: 0x{'f' * 5000}\ninteractions: []\n", "1: not YAML (not a value of the type !!int)"),
        ("version: 1\ninteractions: 3\n", "1: `interactions` is no list"),
        ("version: 1\ninteractions: {a: 1}\n", "1: `interactions` is no list"),
        (
            f"a: &a {{k: x}}\n{NESTED_MERGES}version: 1\ninteractions: []\n",
            "1: aliases make more than 2,000,000 values",
        ),
        (
            f"{HEADER}- {{body: &b {'x' * 10_000}, more: [{'*b,' * 2000}]}}\n",
            "1: aliases make more than 10,000,000 char",
        ),
        ("[" * 5000, "1: nested too deep"),
        (f'{HEADER}- {{"a": {"[" * 5000}\n', "3: nested too deep"),
        (f"{HEADER}- request: !!python/object/apply:os.getcwd []\n", "3: a !!python tag is never loaded"),
    ],
)
def test_what_cannot_be_a_cassette_is_said_in_one_line(tmp_path, content, message):
    assert refusal(tmp_path, content).startswith(message)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("promptfit", "sample"), {"a": 1}),
        (("promptfit", "seconds"), "x"),
        (("promptfit", "repeat"), "x"),
        (("promptfit",), 3),
        (("request", "method"), {}),
        (("request", "uri"), None),
        (("response", "status", "code"), 1e400),
    ],
)
def test_a_value_of_another_type_is_said_at_its_line(tmp_path, place, value):
    entry = {**interaction("a", "1"), "promptfit": {"sample": "s", "seconds": 0.1, "repeat": 0}}
    *path, last = place
    inner = entry
    for step in path:
        inner = inner[step]
    inner[last] = value
    content = f"{HEADER}{line('b', '1')}- {json.dumps(entry)}\n"
    assert refusal(tmp_path, content).startswith("4: not an interaction with a text request and a text response")


def test_a_reply_packed_in_a_way_that_cannot_be_read_is_said(tmp_path):
    entry = interaction("a", "")
    entry["response"]["body"]["string"] = b"\x8b\x02\x80"
    entry["response"]["headers"]["content-encoding"] = ["br"]
    content = yaml.safe_dump({"interactions": [interaction("b", ""), entry], "version": 1})
    place = [at for at, text in enumerate(content.split("\n"), 1) if text == "- promptfit:"][1]
    assert refusal(tmp_path, content).startswith(f"{place}: an interaction that cannot be used: its content-encoding")


def test_replay_imports_no_sdk_no_yaml_and_nothing_that_records(tmp_path):
    load(tmp_path, HEADER + line("a", "1"))
    program = (
        "import sys, pathlib\n"
        "from pytest_promptfit.cassettes.cassette import Cassette\n"
        f"assert len(Cassette.load(pathlib.Path({str(tmp_path)!r}))) == 1\n"
        "print({'yaml', 'vcr', 'httpx2', 'filelock', 'openai', 'anthropic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_nesting_that_would_end_the_process_is_one_line(tmp_path):
    (tmp_path / "deep.yaml").write_text("version: 1\ninteractions: " + "[" * 100_000)
    with pytest.raises(CassetteError, match=r"deep\.yaml:2: nested too deep"):
        Cassette.load(tmp_path)
