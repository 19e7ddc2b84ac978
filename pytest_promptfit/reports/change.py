"""What was changed in a prompt file since a git ref, for the people who review it; without git, nothing."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.evaluation.git import run_git
from pytest_promptfit.text import plain

if TYPE_CHECKING:
    from pathlib import Path

MOST_LINES = 100
"""Lines of a diff that are shown."""


@dataclass(frozen=True)
class Change:
    """The change of a prompt file since a git ref: a unified diff, each line safe to show, and where it begins.

    ``diff`` is empty where nothing changed; ``line`` counts from 1 in the file as it is now; ``commit`` and ``date``
    are those of HEAD.
    """

    since: str
    diff: tuple[str, ...]
    line: int
    commit: str = ""
    date: str = ""


def change_since(ref: str, path: Path) -> Change | None:
    """Return what changed since ``ref``; ``None`` where that cannot be known: no git, a new file, an unreadable one."""
    try:
        # A path that starts with ./ is relative to the folder git runs in.
        old = run_git(path.parent, "show", "--end-of-options", f"{ref}:./{path.name}").decode(errors="replace")
        head = run_git(path.parent, "log", "-1", "--format=%h %cs").decode(errors="replace")
        new = path.read_text(encoding="utf-8")
    except (PromptfitError, OSError, UnicodeDecodeError):
        return None
    commit, _, date = head.strip().partition(" ")
    return Change(ref, diff_of(old, new, path.name), first_changed_line(old, new), commit, date)


def diff_of(old: str, new: str, name: str) -> tuple[str, ...]:
    """Return the unified diff, each line safe to show; of a long one the first lines and how many more there are."""
    lines = [
        plain(line)
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), f"a/{name}", f"b/{name}", lineterm="")
    ]
    more = [f"… {len(lines) - MOST_LINES} more lines"] if len(lines) > MOST_LINES else []
    return (*lines[:MOST_LINES], *more)


def first_changed_line(old: str, new: str) -> int:
    """Return the first line of ``new`` that differs, from 1."""
    before, after = old.splitlines(), new.splitlines()
    same = next((at for at, (one, two) in enumerate(zip(before, after, strict=False)) if one != two), None)
    at = min(len(before), len(after)) if same is None else same
    return 1 if before == after else max(1, min(at + 1, len(after)))
