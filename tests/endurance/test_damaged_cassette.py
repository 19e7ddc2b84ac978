"""A cassette that was damaged gives the same replies, fewer, or one clear line; never another reply."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
import yaml
from mood_project import MOODS

from pytest_promptfit.cassettes.cassette import Asked, Cassette
from pytest_promptfit.cassettes.recorder import Recorder
from pytest_promptfit.errors import CassetteError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mood_project import Project

URL = "https://api.openai.com/v1/chat/completions"
FLIPS = int(os.environ.get("PROMPTFIT_TEST_FLIPS", "400"))
SEED = int(os.environ.get("PROMPTFIT_TEST_SEED", str(random.randrange(10**6))))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cassette whose requests and replies differ by a character, with a request that was repeated."""
    with Recorder.open(tmp_path) as recorder:
        for number, repeat in ((1, 0), (2, 0), (3, 0), (3, 1), (4, 0)):
            body = {"model": "m", "messages": [{"role": "user", "content": f"question {number} é"}]}
            reply = f'{{"choices": [{{"message": {{"content": "Label: {number % 2}{repeat}"}}}}]}}'
            recorder.keep(Asked.of(URL, body, f"s{number}", repeat=repeat).answered(reply))
    return tmp_path / "replies.yaml"


def replies(path: Path) -> dict[str, str]:
    return {entry.key: entry.body for entry in Cassette.load(path.parent)}


def holds(path: Path, damaged: bytes, whole: dict[str, str]) -> str:
    """Hold that a damaged file gives no other reply than the whole one; return what is said of it."""
    path.write_bytes(damaged)
    try:
        found = replies(path)
    except CassetteError as error:
        message = str(error)
        assert "\n" not in message
        place, line, _ = message.removeprefix(str(path)).split(":", 2)
        assert (place, line.isdecimal()) == ("", True), message
        return message
    asked = {key: found[key] for key in found.keys() & whole.keys()}
    assert asked.items() <= whole.items()
    return ""


def test_cut_off_at_any_byte_the_whole_lines_are_kept(path: Path) -> None:
    content, whole = path.read_bytes(), replies(path)
    for end in range(len(content)):
        path.write_bytes(content[:end])
        lines = max(0, content[: end + 1].count(b"\n") - 2)  # the last line may lack its end
        assert list(replies(path).items()) == list(whole.items())[:lines]


@pytest.mark.parametrize("reformatted", [False, True], ids=["ours", "reformatted"])
def test_a_byte_that_is_flipped_anywhere_never_makes_another_reply(path: Path, reformatted: bool) -> None:
    print(f"PROMPTFIT_TEST_SEED={SEED} PROMPTFIT_TEST_FLIPS={FLIPS}")
    content, whole = path.read_bytes(), replies(path)
    if reformatted:
        content = yaml.safe_dump(yaml.safe_load(content), allow_unicode=True).encode()
    draw, said = random.Random(SEED), []
    for _ in range(FLIPS // (4 if reformatted else 1)):
        at, bit = draw.randrange(len(content)), 1 << draw.randrange(8)
        damaged = bytearray(content)
        damaged[at] = damaged[at] ^ bit if draw.random() < 0.5 else draw.randrange(256)
        said.append(holds(path, bytes(damaged), whole))
    assert [message for message in said if "its checksum does not fit: it was damaged, or edited by hand" in message]


def test_a_reply_that_was_taken_over_from_another_line_is_noticed(path: Path) -> None:
    """As a merge by hand does it: each line is whole, the pairs are wrong."""
    content = path.read_bytes()
    content = content.replace(b"question 1", b"question X").replace(b"question 2", b"question 1")
    path.write_bytes(content.replace(b"question X", b"question 2"))
    with pytest.raises(CassetteError, match=r":\d+: an interaction that cannot be used: its checksum does not fit"):
        Cassette.load(path.parent)


def _flipped(content: bytes) -> bytes:
    at = content.index(b"<label>") + len(b"<label>")
    return content[:at] + b"hood" + content[at + 4 :]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "1: a Git LFS pointer*lfs pull*",
        ),
        (lambda content: b"<<<<<<< HEAD\n" + content + b"=======\n>>>>>>> a\n", "1: an unresolved merge conflict*"),
        (_flipped, "[3-6]: an interaction that cannot be used: its checksum does not fit*record it again: *"),
        (lambda content: content.replace(b'{"', b"\xff", 1), "3: not valid UTF-8*"),
        (lambda content: content.replace(b'"request"', b'"request', 1), "3: not one whole interaction of JSON*"),
    ],
    ids=["lfs", "conflict", "flipped", "utf-8", "json"],
)
def test_a_run_says_in_one_line_which_file_and_line_is_damaged(
    project: Project, damage: Callable[[bytes], bytes], said: str
) -> None:
    project.write()
    project.record()
    (cassette,) = project.path.glob("cassettes/mood/*.yaml")
    cassette.write_bytes(damaged := damage(cassette.read_bytes()))
    for result in (project.replay(), project.record()):
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: *cassettes/mood/replies.yaml:{said}"])
        assert not [line for line in result.outlines + result.errlines if "Traceback" in line]
    assert len(project.model.asked) == 4
    assert cassette.read_bytes() == damaged


def test_a_damaged_line_that_is_deleted_as_was_said_is_recorded_again(project: Project) -> None:
    project.write()
    project.record()
    (cassette,) = project.path.glob("cassettes/mood/*.yaml")
    whole = Cassette.load(cassette.parent)
    lines = _flipped(cassette.read_bytes()).splitlines(keepends=True)
    cassette.write_bytes(b"".join(line for line in lines if b"hood" not in line))
    project.record().assert_outcomes(passed=4, skipped=1)
    assert len(project.model.asked) == 5
    assert {entry.key: entry.body for entry in Cassette.load(cassette.parent)} == {e.key: e.body for e in whole}


def test_an_empty_file_is_recorded_anew(project: Project) -> None:
    project.write()
    project.record()
    (cassette,) = project.path.glob("cassettes/mood/*.yaml")
    cassette.write_bytes(b"")
    project.replay().stdout.fnmatch_lines(["*4 failed, 1 skipped*"])
    project.record().assert_outcomes(passed=4, skipped=1)
    assert len(project.model.asked) == 8


def test_git_s_windows_line_ends_change_nothing(project: Project) -> None:
    project.write()
    project.record("--promptfit-update")
    project.git("init", "-q")
    project.git("config", "core.autocrlf", "true")
    project.git("add", ".")
    project.git("commit", "-qm", "recorded")
    for name in ("cassettes/mood/replies.yaml", "mood.baseline.json", "mood.prompt.yaml", "mood.csv"):
        (project.path / name).unlink()
    project.git("checkout", "--", ".")
    (cassette,) = project.path.glob("cassettes/mood/*.yaml")
    assert b"\r\n" in cassette.read_bytes()
    result = project.replay("--promptfit-update")
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["*mood.baseline.json: unchanged"])
    project.write(
        (*((f"s{n}", text, label) for n, (_, text, label) in enumerate(MOODS)), ("new", "a lovely tea", "good"))
    )
    project.record()
    assert len(project.model.asked) == 5
    assert b"\r\n" not in cassette.read_bytes()
    assert cassette.read_bytes().count(b"\n") == 7
