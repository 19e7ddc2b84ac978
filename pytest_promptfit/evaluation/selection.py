"""What a run collects and selects, held against what a version would have: ini file, conftest.py, prompt files.

What a prompt file itself says is in ``reference``; here is what may keep it, or its cases, from being judged at all.
"""

from __future__ import annotations

import ast
import configparser
import fnmatch
import posixpath
import re
import shlex
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_promptfit.text import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_promptfit.evaluation.git import Version

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "pytest.toml": ("pytest",),
    ".pytest.toml": ("pytest",),
    "pytest.ini": ("pytest",),
    ".pytest.ini": ("pytest",),
    "pyproject.toml": ("tool.pytest", "tool.pytest.ini_options"),
    "tox.ini": ("pytest",),
    "setup.cfg": ("tool:pytest",),
}
"""The files that pytest reads its settings from, the first one that has them, and where they stand in there."""

USUAL_FILES = ("*.prompt.yaml", "*.prompt.yml")
NOT_ENTERED = ("*.egg", ".*", "_darcs", "build", "CVS", "dist", "node_modules", "venv", "{arch}")
"""What pytest's ``norecursedirs`` says where no ini file does."""

HARMLESS = re.compile(
    r"-[vqsl]+|--(verbose|quiet|showlocals|no-header|no-summary|strict\S*|promptfit|exitfirst)|-x|-r\w+"
    r"|(--(tb|color|capture|durations|durations-min|import-mode|cov\S*|junit\S*|html|dist|maxprocesses|timeout)"
    r"|-n|-W|--promptfit-(json|report|concurrency))([ =]?\S.*)?"
)
"""Options that change neither which cases are run nor what comes of them."""

QUIET_HOOKS = {
    *("pytest_addoption", "pytest_addhooks", "pytest_report_header", "pytest_generate_tests"),
    "pytest_promptfit_client",
    *("pytest_make_parametrize_id", "pytest_assertrepr_compare", "pytest_fixture_setup", "pytest_pyfunc_call"),
}
"""Hooks of a conftest.py that reach no case of a prompt file."""

SETTINGS_OF_CONFTEST = {"collect_ignore", "collect_ignore_glob", "pytest_plugins"}


@dataclass(frozen=True)
class Ini:
    """The settings of a pytest ini file."""

    file: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def words(self, name: str, default: Sequence[str] = ()) -> tuple[str, ...]:
        """Return a setting that is a list."""
        value = self.values.get(name)
        if isinstance(value, str):
            try:
                return tuple(shlex.split(value))
            except ValueError:
                return tuple(value.split())
        return tuple(map(str, value)) if isinstance(value, list) else tuple(default)


@dataclass(frozen=True)
class Run:
    """What is collected now; all paths are from the top of the repository.

    ``arguments`` are the paths that were typed, none where pytest took ``testpaths`` or the folder it is ``start``ed
    in, and ``ini`` the settings file where one was typed. ``conftests`` are those that are loaded; ``is_ignored``
    tells what an option keeps from being collected.
    """

    start: str
    arguments: tuple[str, ...]
    patterns: tuple[str, ...]
    collected: frozenset[str]
    conftests: Mapping[str, bytes]
    read: Callable[[str], bytes | None]
    is_ignored: Callable[[str], bool]
    ini: str = ""


def read_ini(folders: Iterable[str], read: Callable[[str], bytes | None], named: str = "") -> Ini:
    """Return the settings that pytest finds first, going through ``folders``; ``read`` returns a file's content.

    ``named`` is the file where one was named on the command line.
    """
    if named:
        places = [one for name, some in SECTIONS.items() if name.endswith(posixpath.splitext(named)[1]) for one in some]
        return Ini(named, _values(posixpath.basename(named), places, read(named) or b"") or {})
    for folder in folders:
        for name, sections in SECTIONS.items():
            path = posixpath.join(folder, name)
            content = read(path)
            values = None if content is None else _values(name, sections, content)
            if values is not None:
                return Ini(path, values)
    return Ini()


def _values(name: str, sections: Sequence[str], content: bytes) -> dict[str, Any] | None:
    """Return the settings in a file's sections; ``None`` where pytest would look into the next file."""
    text = content.decode(errors="replace")
    tables: list[Mapping[str, Any]] = []
    try:
        if name.endswith(".toml"):
            whole = tomllib.loads(text)
            for section in sections:
                table: Any = whole
                for step in section.split("."):
                    table = table.get(step) if isinstance(table, dict) else None
                tables += [table] if isinstance(table, dict) else []
        else:
            parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
            parser.read_string(text)
            tables += [parser[section] for section in sections if section in parser][:1]
    except (tomllib.TOMLDecodeError, configparser.Error):
        return None
    # A pytest.ini counts even where it says nothing.
    is_found = tables or name.endswith("pytest.ini")
    return {key: value for table in tables for key, value in table.items()} if is_found else None


def narrowed(version: Version, run: Run, old_path: Callable[[str], str | None]) -> Iterator[str]:
    """Yield a line for each thing that makes a run collect or select less than at ``version``.

    ``old_path`` returns where the version has a prompt file of now.
    """
    folders = _upwards(posixpath.commonpath(run.arguments) if run.arguments else run.start)
    before, now = (read_ini(folders, read, run.ini) for read in (version.read, run.read))
    changed = list(_changed(version, run, before, now))
    yield from changed
    old = {old_path(path) for path in run.collected}
    for path in _collected_at(version, run, before):
        if path in old or run.is_ignored(path):
            continue
        if run.read(path) is None:
            yield f"{path}: gone, and no prompt file succeeds it (one that was renamed has to be added to git)"
        elif not _matches(path, run.patterns):
            yield f"{path}: promptfit_files in {now.file or 'the ini file'} does not match it any more"
        elif changed or before.values != now.values:
            yield f"{path}: not collected any more"


def _collected_at(version: Version, run: Run, ini: Ini) -> Iterator[str]:
    """Yield the prompt files that a run like this one would collect at a version."""
    patterns = ini.words("promptfit_files", USUAL_FILES)
    closed = ini.words("norecursedirs", NOT_ENTERED)
    root = posixpath.dirname(ini.file) if ini.file else run.start
    paths = [_joined(root, path) for path in ini.words("testpaths")] if root == run.start else []
    scopes = ["" if scope == "." else scope for scope in run.arguments or paths or (run.start,)]
    for path in sorted(version.paths):
        if not _matches(path, patterns):
            continue
        steps = path.split("/")
        for scope in scopes:
            depth = scope.count("/") + 1 if scope else 0
            start = "/".join(steps[:depth])
            # `testpaths` may hold globs.
            is_inside = start == scope or fnmatch.fnmatchcase(start, scope)
            if is_inside and not any(_matches(folder, closed) for folder in steps[depth:-1]):
                yield path
                break


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(posixpath.basename(path), pattern) for pattern in patterns)


def _changed(version: Version, run: Run, before: Ini, now: Ini) -> Iterator[str]:
    """Yield the options of the ini file, and the hooks and lists of what to ignore, that are others than there."""
    old, new = _options(before.words("addopts")), _options(now.words("addopts"))
    for option in new:
        if option not in old and not HARMLESS.fullmatch(option):
            yield f"{now.file}: addopts: {cut(option, 60)} added"
    for option in old:
        if option not in new and option.startswith("--promptfit"):
            yield f"{before.file}: addopts: {cut(option, 60)} removed"
    above = {folder for path in run.collected for folder in _upwards(posixpath.dirname(path))}
    there = {_joined(folder, "conftest.py") for folder in above} & version.paths.keys()
    for path in sorted({*run.conftests, *there}):
        hooks, others = hooks_of(version.read(path) or b""), hooks_of(run.read(path) or b"")
        names = sorted(name for name in hooks.keys() | others.keys() if hooks.get(name) != others.get(name))
        if names:
            yield f"{path}: {', '.join(names)} changed, which may decide what is run and what comes of it"


def _options(words: Sequence[str]) -> list[str]:
    """Return the options, each with the words that follow it."""
    options: list[str] = []
    for word in words:
        if word.startswith("-") or not options:
            options.append(word)
        else:
            options[-1] += f" {word}"
    return options


def hooks_of(source: bytes) -> dict[str, str]:
    """Return what a conftest.py says to pytest about cases, each thing with all of the file that it uses, as text."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return {"": source.decode(errors="replace")}
    named: dict[str, list[ast.stmt]] = {}
    for statement in body:
        for name in _names_bound(statement):
            named.setdefault(name, []).append(statement)
    hooks = [name for name in named if name.startswith("pytest_") and name not in QUIET_HOOKS]
    said = {}
    for name in (*hooks, *SETTINGS_OF_CONFTEST & named.keys()):
        used = [name]
        for known in used:  # it grows by what each uses
            uses = (node.id for part in named[known] for node in ast.walk(part) if isinstance(node, ast.Name))
            used += dict.fromkeys(use for use in uses if use in named and use not in used)
        said[name] = "\n".join(ast.dump(part) for known in used for part in named[known])
    return said


def _names_bound(statement: ast.stmt) -> set[str]:
    """Return the names that a statement defines or, as ``collect_ignore.append`` does, changes."""
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and (isinstance(node.ctx, ast.Store) or node.id in SETTINGS_OF_CONFTEST):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
    return names


def _upwards(folder: str) -> list[str]:
    """Return a folder and those around it, up to the top, which is ``""``."""
    folders = [] if folder in (".", "") else [folder]
    while folders and posixpath.dirname(folders[-1]):
        folders.append(posixpath.dirname(folders[-1]))
    return [*folders, ""]


def _joined(folder: str, name: str) -> str:
    return posixpath.normpath(posixpath.join(folder, name))
