"""What this run of pytest collects: the paths and options it was started with, and what they leave out.

Said is where they lead to no prompt file, and what is not selected that a version it is judged by would have.
"""

from __future__ import annotations

import fnmatch
import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_promptfit.text import plain, relative_to

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_promptfit.evaluation.reference import References

YAML = (".yaml", ".yml")
NEVER_ENTERED = {".git", ".hg", ".svn", "node_modules", "__pycache__", "site-packages", ".tox", ".nox"}
MOST_FOLDERS = 20_000
"""Folders that are looked into for prompt files outside of what is collected."""

ACCEPT = "--promptfit-accept-contract"


def is_prompt_file(config: pytest.Config, name: str) -> bool:
    """Tell whether a file is a prompt file, by its name."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in config.getini("promptfit_files"))


def paths_given(config: pytest.Config) -> list[Path]:
    """Return the paths that were typed; none where pytest took ``testpaths``, or the folder it was started in."""
    worker = getattr(config, "workerinput", None)
    source = config.args_source is pytest.Config.ArgsSource.ARGS
    if not (worker["promptfit_paths_given"] if worker else source):
        return []
    folder = config.invocation_params.dir
    return [Path(os.path.abspath(folder / argument.partition("::")[0])) for argument in config.args]  # noqa: PTH100


def refuse_other_names(config: pytest.Config) -> None:
    """Raise UsageError where a YAML file was typed whose name is not that of a prompt file."""
    patterns = " ".join(config.getini("promptfit_files"))
    for path in paths_given(config):
        if path.suffix in YAML and path.is_file() and not is_prompt_file(config, path.name):
            raise pytest.UsageError(
                f"{plain(relative_to(str(path), config.invocation_params.dir))}: not the name of a prompt file: "
                f"expected {patterns} (promptfit_files in the ini file says which)"
            ) from None


def where_prompts_are(config: pytest.Config) -> str:
    """Return where the prompt files are of a run that found none; ``""`` where there are none, or none was wanted."""
    given = paths_given(config)
    typed = {"--promptfit", "--tune", "--promptfit-tune"} & {str(one) for one in config.invocation_params.args}
    if given and not (typed and any(path.is_dir() for path in given)):
        return ""
    found = []
    for folder, folders, files in islice(os.walk(config.rootpath), MOST_FOLDERS):
        # Hidden folders and those out of testpaths too; but a virtual environment is not the project's own.
        entered = [name for name in folders if name not in NEVER_ENTERED]
        folders[:] = [name for name in entered if not Path(folder, name, "pyvenv.cfg").is_file()]
        found += [Path(folder, name) for name in files if is_prompt_file(config, name)]
    if not found:
        return ""
    first, start = min(found), config.invocation_params.dir
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    looked = " ".join(relative_to(str(path), start) for path in given) or " ".join(config.args)
    return plain(
        f"no prompt file is collected from {looked}, but there is {relative_to(str(first), start)}{more}: "
        f"pytest --promptfit {relative_to(str(first.parent), start)}, or name the folder in testpaths"
    )


def refuse_options_by_the_change(config: pytest.Config) -> None:
    """Raise UsageError where a contract is accepted, or a version not judged by, otherwise than a person typed it."""
    typed = [str(one) for one in config.invocation_params.args]
    asked = sum(one.partition("=")[0] == "--promptfit-against" for one in typed)
    if len(config.option.promptfit_against or ()) < asked:
        raise pytest.UsageError("--promptfit-against: taken back by a conftest.py or plugin: a change could do that")
    by_hand = ACCEPT in typed or ACCEPT in os.environ.get("PYTEST_ADDOPTS", "").split()
    if config.option.promptfit_accept_contract and not hasattr(config, "workerinput"):
        if not by_hand or ACCEPT in config.getini("addopts"):
            raise pytest.UsageError(
                f"{ACCEPT} in addopts or conftest.py: a change could accept itself: give it on the command line"
            )
        if not config.option.promptfit_against:
            raise pytest.UsageError(f"{ACCEPT} needs --promptfit-against: pytest --promptfit --promptfit-against REF …")


def narrowed_selection(config: pytest.Config, references: References, collected: Iterable[Path]) -> list[str]:
    """Return a line for each thing that makes this run collect or select less than at the versions it is judged by.

    Of a further version only what the first one would not say counts.
    """
    from pytest_promptfit.evaluation.selection import Run, narrowed

    repository = references.repository

    def path_of(path: Path) -> str | None:
        return repository.path_of(path)

    def read(path: str) -> bytes | None:
        file = repository.top / path
        return file.read_bytes() if file.is_file() else None

    loaded = (getattr(plugin, "__file__", None) or "" for plugin in config.pluginmanager.get_plugins())
    conftests = {path for file in loaded if Path(file).name == "conftest.py" and (path := path_of(Path(file)))}
    run = Run(
        start=path_of(config.invocation_params.dir) or "",
        arguments=tuple(path for one in paths_given(config) if (path := path_of(one)) is not None),
        patterns=tuple(config.getini("promptfit_files")),
        collected=frozenset(path for one in collected if (path := path_of(one)) is not None),
        conftests={path: read(path) or b"" for path in conftests},
        read=read,
        is_ignored=lambda path: _is_ignored(config, repository.top / path),
        ini=(path_of(config.inipath) or "") if config.inipath and config.option.inifilename else "",
    )
    found: dict[str, str] = {}
    for version in references.versions:
        for line in narrowed(version, run, lambda path, at=version: references.old_path(at, path)):  # type: ignore[misc]
            found.setdefault(line, version.name)
    return [f"{line} (at {name})" for line, name in found.items()]


def _is_ignored(config: pytest.Config, path: Path) -> bool:
    """Tell whether an option says not to collect a path."""
    folder = config.invocation_params.dir
    ignored = [Path(os.path.abspath(folder / one)) for one in config.getoption("ignore") or ()]  # noqa: PTH100
    globs = [str(folder / one) for one in config.getoption("ignore_glob") or ()]
    ways = (path, *path.parents)
    return any(way in ignored or any(fnmatch.fnmatch(str(way), one) for one in globs) for way in ways)
