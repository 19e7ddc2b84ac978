"""A power loss leaves the old file or the new one: the order in which names and contents reach the disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pytest_promptfit.cassettes import recorder
from pytest_promptfit.cassettes.cassette import Asked
from pytest_promptfit.cassettes.recorder import Recorder
from pytest_promptfit.files import write_atomically

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks up what a handle is in /proc")


@pytest.fixture
def effects(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every forced write, replacement and deletion, in order, with the name of what it is about."""
    done: list[tuple[str, str]] = []
    fsync, replace, unlink = os.fsync, Path.replace, Path.unlink

    def told_fsync(handle: int) -> None:
        done.append(("fsync", Path(f"/proc/self/fd/{handle}").readlink().name))
        fsync(handle)

    def told_replace(path: Path, target: Path) -> Path:
        done.append(("replace", target.name))
        return replace(path, target)

    def told_unlink(path: Path, missing_ok: bool = False) -> None:
        if path.exists() and path.suffix != ".lock":
            done.append(("unlink", path.name))
        unlink(path, missing_ok)

    monkeypatch.setattr(os, "fsync", told_fsync)
    monkeypatch.setattr(Path, "replace", told_replace)
    monkeypatch.setattr(Path, "unlink", told_unlink)
    return done


def append(recording: Recorder, number: int) -> None:
    recording.keep(Asked.of("https://api.openai.com/v1/chat/completions", {"number": number}).answered("{}"))


def test_a_file_is_whole_on_the_disk_before_it_takes_the_old_one_s_place(
    tmp_path: Path, effects: list[tuple[str, str]]
) -> None:
    write_atomically(tmp_path / "mood.baseline.json", "{}")
    assert effects == [
        ("fsync", ".mood.baseline.json.tmp"),
        ("replace", "mood.baseline.json"),
        ("fsync", tmp_path.name),
    ]


def test_a_recording_is_on_the_disk_before_what_it_was_made_from_goes(
    tmp_path: Path, effects: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "SYNC_SECONDS", 3600.0)
    with Recorder.open(tmp_path) as recording:
        for number in range(20):
            append(recording, number)
        assert effects == [], "a forced write for each reply would hold up all that are in flight"
    assert effects == [
        ("fsync", "replies-new.yaml"),
        ("fsync", ".replies.yaml.tmp"),
        ("replace", "replies.yaml"),
        ("fsync", tmp_path.name),
        ("unlink", "replies-new.yaml"),
    ]


def test_a_long_recording_is_forced_to_the_disk_again_and_again(
    tmp_path: Path, effects: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "SYNC_SECONDS", 0.0)
    with Recorder.open(tmp_path) as recording:
        for number in range(3):
            append(recording, number)
        assert effects == [("fsync", "replies-new.yaml")] * 3
