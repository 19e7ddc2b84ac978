"""``promptfit models``: which models the prompt files ask, what they cost, when they end, when they were last recorded.

Offline, from the files, the price list and git; the providers' lists are asked only where that is said.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cassettes.where import Where
from pytest_promptfit.errors import PromptfitError, told_in_one_line
from pytest_promptfit.evaluation.git import run_git
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.providers.known import is_deprecated
from pytest_promptfit.providers.lifetimes import Lifetimes, lifetimes, migrate_command, shut_down
from pytest_promptfit.providers.usage import cost_usd
from pytest_promptfit.text import columns, plain, relative_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_promptfit.prompts.model import ModelSpec

ENDINGS = (".prompt.yaml", ".prompt.yml")
PASSED_OVER = ("node_modules", "venv", "build", "dist")
"""Folders that nobody's prompts are in, beside those whose names begin with a dot; pytest passes over them, too."""

UNKNOWN = "–"

VERSION = 1


@dataclass(frozen=True)
class Asked:
    """A model that a prompt file names: for what, and when it was recorded last."""

    prompt: str
    spec: ModelSpec
    role: str
    recorded: date | None


def models(
    paths: Sequence[Path] = (), *, online: bool = False, as_json: bool = False, cassettes: Path | None = None
) -> Iterator[str]:
    """Yield a table of the models, or JSON, and what is to be done about those that end.

    Raises PromptfitError where there is no prompt file, and at the end where one cannot be read.
    """
    found: list[Asked] = []
    mistakes = []
    for path in _prompt_files(paths or [Path()]):
        try:
            with told_in_one_line(path):
                found += _asked(path, Where(cassettes))
        except PromptfitError as error:
            mistakes.append(str(error))
    known = lifetimes(one.spec for one in found) if online else Lifetimes({})
    if as_json:
        yield json.dumps({"version": VERSION, "models": [_as_json(one, known) for one in found]}, indent=1)
    elif found:
        yield from _table(found, known)
        yield from known.errors
        yield from _advice(found, known)
    if mistakes:
        raise PromptfitError("\n".join(mistakes))


def _prompt_files(paths: Iterable[Path]) -> list[Path]:
    """Return the prompt files that are named, and those below the folders that are; raise PromptfitError for none."""
    found: dict[Path, None] = {}
    for path in paths:
        found.update(dict.fromkeys(_below(path) if path.is_dir() else [path]))
    if not found:
        raise PromptfitError(f"no prompt file in {', '.join(map(str, paths))}: expected some *{' or *'.join(ENDINGS)}")
    return list(found)


def _below(top: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if not (name.startswith(".") or name in PASSED_OVER))
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(ENDINGS))


def _asked(path: Path, where: Where) -> Iterator[Asked]:
    parsed, shown = parse_prompt_file(path), relative_to(str(path), Path.cwd())
    yield Asked(shown, parsed.config.model, "", _last_recorded(where.of(path, parsed.name)))
    if parsed.config.tune.model is not None:
        yield Asked(shown, parsed.config.tune.model, "optimizer", None)


def _last_recorded(folder: Path) -> date | None:
    """Return the day of the last recording: that of its commit, or of the files where they are newer than that."""
    files = [path.stat().st_mtime for path in folder.glob("*.y*ml")] if folder.is_dir() else []
    if not files:
        return None
    try:
        if not run_git(folder, "status", "--porcelain", "--", ".").strip():
            return date.fromisoformat(run_git(folder, "log", "-1", "--format=%cs", "--", ".").decode().strip())
    except (PromptfitError, ValueError):  # no git, or nothing committed
        pass
    return date.fromtimestamp(max(files))


def _table(found: Sequence[Asked], known: Lifetimes) -> Iterator[str]:
    """Yield a row for each model; a prompt file is named once."""
    rows = [("prompt", "model", "shut down", "USD in/out, 1M tokens", "recorded")]
    for one in found:
        name = f"  {one.role}" if one.role else plain(one.prompt)
        recorded = str(one.recorded) if one.recorded else UNKNOWN
        rows.append((name, plain(str(one.spec)), _end_of(one.spec, known), _price(one.spec), recorded))
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _end_of(spec: ModelSpec, known: Lifetimes) -> str:
    end = known.of(spec)
    return str(end) if end else "deprecated" if is_deprecated(spec) else UNKNOWN


def _prices(spec: ModelSpec) -> tuple[float, float] | None:
    """Return USD for a million tokens in and out, as short requests pay them."""
    given, written = cost_usd(spec, 1000, 0), cost_usd(spec, 0, 1000)
    return None if given is None or written is None else (given * 1000, written * 1000)


def _price(spec: ModelSpec) -> str:
    prices = _prices(spec)
    if prices is None:
        return UNKNOWN
    return "free" if spec.provider == "local" else f"{prices[0]:,.2f} / {prices[1]:,.2f}"


def _advice(found: Iterable[Asked], known: Lifetimes) -> Iterator[str]:
    """Yield what to do about each model that ends, once a prompt file."""
    for one in found:
        end = known.of(one.spec)
        if end is None and not is_deprecated(one.spec):
            continue
        when = shut_down(str(one.spec), end, date.today()) if end else f"{one.spec} is deprecated by its provider"
        what = f"name another in tune.model of {one.prompt}" if one.role else migrate_command(one.spec, one.prompt)
        yield plain(f"{when}: {what}")


def _as_json(one: Asked, known: Lifetimes) -> dict[str, Any]:
    end, prices = known.of(one.spec), _prices(one.spec)
    return {
        "prompt": one.prompt,
        "model": str(one.spec),
        "role": one.role or "task",
        "shutdown": str(end) if end else None,
        "deprecated": is_deprecated(one.spec),
        "usd_per_million": {"input": prices[0], "output": prices[1]} if prices else None,
        "recorded": str(one.recorded) if one.recorded else None,
    }
