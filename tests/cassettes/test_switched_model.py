"""Replies of another model are found when the prompt file names that model from now on, and the reverse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from command_line import promptfit

if TYPE_CHECKING:
    from mood_project import Project


def named(project: Project, name: str) -> dict[str, str]:
    return {"provider": "openai", "name": name, "base_url": project.model.url}


def compare(project: Project, *arguments: str) -> str:
    ran = promptfit("compare", "mood.prompt.yaml", *arguments, cwd=project.path)
    assert ran.code == 0, ran.err
    return ran.out


def test_who_switches_the_model_by_hand_asks_nothing_again(project: Project) -> None:
    project.write()
    compare(project, "--model", "openai/new", "--record")
    project.write(model=named(project, "new"))
    asked = len(project.model.asked)
    assert asked == 8
    result = project.replay("--promptfit-update")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["  4 replies, all replayed, *"])
    # From now on they are the file's own, and stay when the others go.
    project.record("--promptfit-prune")
    assert len(project.model.asked) == asked
    assert not re.search('"m"', (project.path / "cassettes/mood/replies.yaml").read_text(encoding="utf-8"))
    for path in (project.path / "cassettes/mood/models/openai-new").iterdir():
        path.unlink()
    assert project.replay().ret == 0


def test_the_old_model_is_compared_with_what_the_file_had_recorded(project: Project) -> None:
    project.write()
    project.record("--promptfit-update")
    project.write(model=named(project, "new"))
    project.record()
    assert len(project.model.asked) == 8
    assert "right on the same samples" in compare(project, "--model", "openai/m")
    assert "right on the same samples" in compare(project, "--model", "openai/m", "--record")
    assert len(project.model.asked) == 8


def test_a_part_of_the_replies_is_taken_over_and_the_rest_is_asked(project: Project) -> None:
    project.write()
    promptfit("compare", "mood.prompt.yaml", "--model", "openai/new", "--record", "--max-calls", 6, cwd=project.path)
    project.write(model=named(project, "new"))
    result = project.replay()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["  2 of 4 not recorded: *"])
    assert project.record().ret == 0
    assert len(project.model.asked) == 8
    assert "4 of them are recorded" in promptfit("show", "mood.prompt.yaml", cwd=project.path).out


def test_replies_beside_that_lie_outside_the_project_are_said(project: Project) -> None:
    project.write()
    project.record("--promptfit-update")
    outside = project.path.parent / f"{project.path.name}-outside"
    outside.mkdir()
    beside = project.path / "cassettes/mood/models/openai-m"
    beside.parent.mkdir()
    beside.symlink_to(outside)
    assert f"{beside.relative_to(project.path)} is read and written outside " in project.replay().stdout.str()
