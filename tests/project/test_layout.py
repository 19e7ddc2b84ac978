"""The rooms of the package: what may import what, so that a reader walks one way."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pytest_promptfit

PACKAGE = Path(pytest_promptfit.__file__).parent

ROOMS = (
    ("errors", "text", "files"),
    ("prompts",),
    ("chat",),
    ("cassettes",),
    ("providers",),
    ("evaluation",),
    ("tuning",),
    ("reports", "api"),
    ("plugin", "cli"),
)
"""From the ground up: a room imports from itself and from floors below; rooms of one floor leave each other alone."""

FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path: Path, *, at_run_time: bool = False) -> set[str]:
    """Return the modules of the package that a module imports; with ``at_run_time`` only those it loads itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING") or isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef
        ):
            skipped.update(inner for child in node.body for inner in ast.walk(child))
    found: set[str] = set()
    for node in ast.walk(tree):
        if at_run_time and node in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE.name:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name in MODULES)
    return found


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_module_is_in_a_room() -> None:
    assert {room_of(module) for module in MODULES} - {""} == set(FLOOR)


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module)])
def test_imports_go_down(module: str) -> None:
    room = room_of(module)
    others = {other for other in imports_of(MODULES[module]) if room_of(other) not in ("", room)}
    assert sorted(other for other in others if FLOOR[room_of(other)] >= FLOOR[room]) == []


def test_no_circle_of_imports() -> None:
    graph = {module: imports_of(path) - {module} for module, path in MODULES.items() if module != PACKAGE.name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))
