"""A pytest plugin for the benchmarks: says at the end of a traced run whose lines made the memory that is held.

``python -X tracemalloc -m pytest -p tests.benchmarks.memory_owners`` prints a line of JSON,
``{owner: bytes}``; an owner is a module of pytest's or ours, a package, or the standard library.
"""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

MARK = "memory owners: "


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Print what is held."""
    owners: Counter[str] = Counter()
    for statistic in tracemalloc.take_snapshot().statistics("filename"):
        owners[_owner(Path(statistic.traceback[0].filename))] += statistic.size
    print(f"\n{MARK}{json.dumps(owners)}")


def _owner(path: Path) -> str:
    parts = path.parts
    for package in ("pytest_promptfit", "_pytest"):
        if package in parts:
            return "/".join(parts[parts.index(package) :])
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    return "standard library"
