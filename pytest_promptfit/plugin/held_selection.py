"""What this run of pytest collects, held against the versions it is judged by: see ``selection``."""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_promptfit.evaluation.selection import Run, narrowed
from pytest_promptfit.plugin.paths_given import paths_given

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from pytest_promptfit.evaluation.reference import References


def narrowed_selection(config: pytest.Config, references: References, collected: Iterable[Path]) -> list[str]:
    """Return a line for each thing that makes this run collect or select less than at the versions it is judged by.

    Of a further version only what the first one would not say counts.
    """
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
