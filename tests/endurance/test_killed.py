"""SIGKILL and Ctrl-C at any moment of recording, putting in order, updating and rewriting: nothing is lost."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from broken_runs import FORKS, KILLS, SIGNALS, moments, run_broken_off, run_pytest
from mood_project import by_keyword

from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.tuning.rewrite import file_text, write_rewritten

if TYPE_CHECKING:
    from pathlib import Path

    from loopback_server import Seen
    from mood_project import Project, Row

pytestmark = FORKS
CONCURRENCY = 4


def rows(count: int) -> tuple[Row, ...]:
    kinds = (("lovely", "good"), ("dreadful", "bad"))
    return tuple((f"s{n}", f"a {kinds[n % 2][0]} day, number {n}", kinds[n % 2][1]) for n in range(count))


def text_of(body: dict[str, Any]) -> str:
    text: str = body["messages"][-1]["content"]
    return text


def recorded(project: Project) -> dict[str, str]:
    """Return what is on disk: the reply to each text; reading it must meet no damage but a torn last line."""
    cassette = Cassette.load(project.path / "cassettes" / "mood")
    assert all("the last line is torn" in warning for warning in cassette.warnings)
    return {text_of(json.loads(entry.request_body)): entry.body for entry in cassette}


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, hidden ones included."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@SIGNALS
def test_recording_keeps_every_reply_that_has_arrived(project: Project, by: int) -> None:
    project.write(rows(60 * KILLS))
    server, kept, before = project.model.server, dict[str, str](), 0

    def says(text: str) -> str:
        # However fast the machine: no run may come to its end before it is broken off.
        server.latency = 0.005 if len(server.seen) - before < 50 else 0.5
        return by_keyword(text)

    project.model.says = says
    options = ("--promptfit-record", f"--promptfit-concurrency={CONCURRENCY}")
    for kill, moment in enumerate(moments(by, "replies-new", changes=1, seconds=0.25), 1):
        before = len(server.seen)
        ended = run_broken_off(run_pytest, project.path, *options, moment=moment)
        assert ended in (-by, 2, 130), (project.path / "out.txt").read_text(encoding="utf-8")
        now = recorded(project)
        assert not kept.keys() & set(map(text_said, server.seen[before:])), "what is kept was asked again"
        assert kept.items() <= now.items(), "what was kept is lost"
        assert len(server.answered) - len(now) <= kill * CONCURRENCY, "more is lost than was in flight"
        kept = now
    assert kept
    project.model.says, server.latency = by_keyword, 0.0
    project.record().assert_outcomes(passed=60 * KILLS, skipped=1)
    assert kept.items() <= recorded(project).items()
    assert len(server.answered) - 60 * KILLS <= KILLS * CONCURRENCY
    assert list(files_in(project.path / "cassettes" / "mood")) == ["replies.yaml"]
    project.replay().assert_outcomes(passed=60 * KILLS, skipped=1)


def text_said(seen: Seen) -> str:
    return text_of(seen.body)


@SIGNALS
def test_putting_in_order_loses_nothing_and_is_made_up_for(project: Project, by: int) -> None:
    """Each run takes over what a killed recording left: new replies, in place of some of the recorded ones."""
    project.write(rows(14))
    folder, left, before = project.path / "cassettes" / "mood", project.path / "left", project.path / "before"
    large = "x" * 400_000
    project.model.says = lambda text: f"old {large} {by_keyword(text)}"
    project.record()
    shutil.copytree(folder, before)
    project.model.says = lambda text: f"new {large} {by_keyword(text)}"
    project.ask_anew()
    lines = [line for content in files_in(folder).values() for line in content.splitlines(keepends=True)[2:]]
    shutil.copytree(before, left)
    (left / "replies-new.yaml").write_bytes(b"".join([b"version: 1\ninteractions:\n", *lines[:8]]))
    put_back(left, folder)
    wanted, asked = recorded(project), len(project.model.asked)
    project.record()
    whole = files_in(folder)
    assert len(whole) > 1
    for moment in moments(by, "replies", changes=20, seconds=0.02):
        put_back(left, folder)
        run_broken_off(run_pytest, project.path, "--promptfit-record", moment=moment)
        assert recorded(project) == wanted
        project.record().assert_outcomes(passed=14, skipped=1)
        assert files_in(folder) == whole
    assert len(project.model.asked) == asked


def put_back(source: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(source, folder)


@SIGNALS
def test_a_baseline_is_the_old_or_the_new_one(project: Project, by: int) -> None:
    project.write(rows(100))
    project.record("--promptfit-update")
    path = project.path / "mood.baseline.json"
    old = path.read_bytes()
    project.model.says = lambda text: by_keyword("lovely")
    project.ask_anew("--promptfit-update=force")
    new = path.read_bytes()
    assert new != old
    names = set(files_in(project.path)) | {"out.txt"}
    for moment in moments(by, "mood.baseline.json", changes=4, seconds=0.003):
        path.write_bytes(old)
        run_broken_off(run_pytest, project.path, "--promptfit-update=force", moment=moment)
        assert path.read_bytes() in (old, new)
    path.write_bytes(old)
    project.replay("--promptfit-update=force")
    assert path.read_bytes() == new
    assert set(files_in(project.path)) == names


@SIGNALS
def test_a_prompt_file_is_the_old_or_the_new_one(tmp_path: Path, by: int) -> None:
    path = tmp_path / "mood.prompt.yaml"
    old, new = ("# written by hand\n" + f"prompt: {{system_prompt: {word}}}\n" * 2000 for word in ("Old.", "New."))
    path.write_text(old, encoding="utf-8")
    for moment in moments(by, "mood.prompt.yaml", changes=4, seconds=0.003):
        path.write_text(old, encoding="utf-8")
        run_broken_off(write_rewritten, path, old, new, moment=moment)
        assert file_text(path) in (old, new)
    path.write_text(old, encoding="utf-8")
    write_rewritten(path, old, new)
    assert files_in(tmp_path) == {"mood.prompt.yaml": new.encode()}
