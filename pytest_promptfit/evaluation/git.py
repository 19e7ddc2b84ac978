"""Versions of a project in git: which files a ref has, what is in them, and what was renamed since.

A path that a version does not have is told by its tree; whatever else git cannot do is an error, never "absent".
Few processes, however many files are read. What the files mean is not known here.
"""

from __future__ import annotations

import os
import posixpath
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.text import LFS_POINTER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LINK, SUBMODULE = "120000", "160000"
MOST_LINKS = 40
"""Links that are followed from one path, as Linux does."""

SIMILAR = "--find-renames=40%"
"""How much of a file must have stayed for it to count as renamed."""


class Repository:
    """The git repository around a folder; a process for all that is read, and one each for what a version needs."""

    def __init__(self, folder: Path) -> None:
        """Find the repository; raise PromptfitError when there is none, or no git."""
        said = run_git(folder, "rev-parse", "--show-toplevel", "--git-common-dir")
        top, common = said.decode(errors="surrogateescape").splitlines()
        self.top = Path(top).resolve()
        self._folder = folder
        self._common = Path(folder, common)
        self._reader: subprocess.Popen[bytes] | None = None

    def version(self, ref: str) -> Version:
        """Return what a git ref names; raise PromptfitError when git knows no commit of that name here."""
        return Version(self, ref, commit_of(ref, self._folder))

    def path_of(self, path: Path) -> str | None:
        """Return a file's path from the top, its folders' links followed; ``None`` outside of the repository."""
        try:
            return (path.parent.resolve() / path.name).relative_to(self.top).as_posix()
        except ValueError:
            return None

    def blob(self, oid: str, shown: str) -> bytes:
        """Return the content of an object; raise PromptfitError, naming it as ``shown``, when git cannot give it."""
        reader = self._running()
        assert reader.stdin
        assert reader.stdout
        try:
            reader.stdin.write(f"{oid}\n".encode())
            reader.stdin.flush()
            kind = reader.stdout.readline().decode().split()
            if len(kind) == 3:
                content = reader.stdout.read(int(kind[2]) + 1)
                if len(content) == int(kind[2]) + 1:
                    return content[:-1]
        except OSError:
            pass
        self.close()
        self._complaints.seek(0)
        said = _first_line(self._complaints.read()) or f"the object is missing, git ended with {reader.returncode}"
        raise PromptfitError(f"{shown}: git cannot read it ({said}): {_FETCH}")

    def stored(self, pointer: bytes, shown: str) -> bytes:
        """Return what a Git LFS pointer stands for, out of what was fetched; raise PromptfitError otherwise."""
        lines = dict(line.split(" ", 1) for line in pointer.decode(errors="replace").splitlines() if " " in line)
        oid = lines.get("oid", "").removeprefix("sha256:")
        path = self._common / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
        if path.is_file():
            return path.read_bytes()
        raise PromptfitError(f"{shown}: kept in Git LFS and not fetched: run `git lfs fetch origin <that ref>`")

    def close(self) -> None:
        """End the reading process, if there is one."""
        if self._reader is not None:
            self._reader.kill()
            self._reader.communicate()
            self._reader = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._reader is None or self._reader.poll() is not None:
            self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
            self._reader = subprocess.Popen(
                ["git", "cat-file", "--batch"],  # noqa: S607
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
            )
        return self._reader


class Version:
    """The project as it is at a git ref."""

    def __init__(self, repository: Repository, name: str, commit: str) -> None:
        self.name = name
        self.repository = repository
        self.paths: dict[str, tuple[str, str]] = {}
        """All files: ``{path from the top: (mode, object)}``."""
        self._commit = commit
        listed = run_git(repository.top, "ls-tree", "-r", "-z", "--full-tree", commit)
        for entry in listed.decode(errors="surrogateescape").split("\0"):
            head, tab, path = entry.partition("\t")
            if tab:
                mode, _, oid = head.split()
                self.paths[path] = mode, oid

    def read(self, path: str) -> bytes | None:
        """Return a file's content, links followed and Git LFS resolved; ``None`` where this version has no such file.

        Raises:
            PromptfitError: git has the file and cannot give it, or it is a link out of the repository.
        """
        target = self._followed(path)
        if target is None:
            return None
        shown = f"{self.name}:{path}"
        content = self.repository.blob(self.paths[target][1], shown)
        return self.repository.stored(content, shown) if content.startswith(LFS_POINTER.encode()) else content

    def renamed(self, patterns: Sequence[str]) -> Mapping[str, str]:
        """Return ``{path now: path at this version}`` of the renamed files among those that ``patterns`` name."""
        if patterns != self._patterns:
            said = run_git(
                self.repository.top,
                *("diff", "--name-status", "-z", SIMILAR, "-l0", "--no-ext-diff", "--no-textconv", "--diff-filter=R"),
                *(self._commit, "--", *(f":(top,glob)**/{pattern}" for pattern in patterns)),
            )
            fields = said.decode(errors="surrogateescape").split("\0")  # kind, old, new; kind, old, new; …
            self._patterns, self._renames = tuple(patterns), dict(zip(fields[2::3], fields[1::3], strict=False))
        return self._renames

    _patterns: Sequence[str] = ()
    _renames: Mapping[str, str] = {}

    def _followed(self, path: str) -> str | None:
        for _ in range(MOST_LINKS):
            parts = path.split("/")
            ways = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
            # The path, or the first folder on its way, that is a link or another repository.
            link = next((way for way in ways if self.paths.get(way, ("",))[0] in (LINK, SUBMODULE)), None)
            if link is None:
                return path if path in self.paths else None
            mode, oid = self.paths[link]
            if mode == SUBMODULE:
                raise PromptfitError(f"{self.name}:{path}: lies in the submodule {link}: run pytest in there")
            target = self.repository.blob(oid, f"{self.name}:{link}").decode(errors="surrogateescape")
            path = posixpath.normpath(posixpath.join(posixpath.dirname(link), target, path[len(link) + 1 :]))
            if path.startswith(("../", "/")):
                raise PromptfitError(f"{self.name}:{link}: a symbolic link out of the repository: expected a file")
        return None


_FETCH = "a shallow or partial clone needs `git fetch`, a damaged one `git fsck`"


def commit_of(ref: str, folder: Path) -> str:
    """Return the commit that a ref names; raise PromptfitError when git knows none of that name in ``folder``."""
    try:
        said = run_git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except GitError as error:
        raise PromptfitError(
            f"--promptfit-against {ref}: {error.said or 'no such commit'} in {folder}: "
            "expected a git ref such as origin/main (a shallow clone needs `git fetch origin main`)"
        ) from None
    return said.decode().strip()


class GitError(PromptfitError):
    """Git could not do what it was asked to; ``said`` is the first line of what it said."""

    def __init__(self, what: str, said: str) -> None:
        super().__init__(f"--promptfit-against: git {what}: {said or 'failed'}: {_FETCH}")
        self.said = said


def run_git(folder: Path, *arguments: str) -> bytes:
    """Return what git prints; raise GitError when it fails, PromptfitError when there is no git."""
    try:
        # The program and every option are ours; the ref follows --end-of-options.
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=folder,
            env=_environment(),
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise PromptfitError("--promptfit-against needs git, and no git was found") from None
    if done.returncode:
        raise GitError(arguments[0], _first_line(done.stderr))
    return done.stdout


def _environment() -> dict[str, str]:
    """Return an environment in which git neither asks a person nor takes locks."""
    return {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}


def _first_line(said: bytes) -> str:
    return said.decode(errors="replace").strip().partition("\n")[0]
