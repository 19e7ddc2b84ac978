"""What git leaves in the place of a file's content: conflict markers, and Git LFS pointers.

For every text file that is read; nothing here knows what the file is for.
"""

from __future__ import annotations

import re

LFS_POINTER = "version https://git-lfs.github.com/spec/"
POINTER = "a Git LFS pointer, not the file itself: run `git lfs pull`"
CONFLICT = "an unresolved merge conflict"
_OURS = re.compile(r"^[ \t]*<{7}(?: .*)?$", re.MULTILINE)
_MIDDLE = re.compile(r"^[ \t]*={7}[ \t\r]*$", re.MULTILINE)
_THEIRS = re.compile(r"^[ \t]*>{7}(?: .*)?$", re.MULTILINE)


def git_mark(text: str) -> tuple[int, str] | None:
    """Return the line (from 1) of what git left in a text, with what it is and what to do; else ``None``."""
    if text.startswith(LFS_POINTER):
        return 1, POINTER
    line = conflict_line(text)
    return (line, f"{CONFLICT}: keep one side, and delete the lines <<<<<<<, ======= and >>>>>>>") if line else None


def conflict_line(text: str) -> int:
    """Return the line (from 1) where a merge conflict starts, or 0; takes time in proportion to the text.

    A conflict is all three of its marker lines in their order, wherever an editor has indented them to: a line
    of seven equals signs alone underlines a heading.
    """
    ours = _OURS.search(text)
    middle = ours and _MIDDLE.search(text, ours.end())
    if not ours or not middle or not _THEIRS.search(text, middle.end()):
        return 0
    return text.count("\n", 0, ours.start()) + 1
