"""What is shipped: the wheel holds the package and nothing else, and its entry points are there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from typing import TYPE_CHECKING

from repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_the_wheel_holds_the_package_only(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        said = archive.read(entry_points).decode()
        (metadata,) = (name for name in names if name.endswith("METADATA"))
        classifiers = archive.read(metadata).decode()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"pytest_promptfit"}
    assert "pytest_promptfit/py.typed" in names
    parts = ("page.html.jinja", "prompt.html.jinja", "tuning.html.jinja", "pictures.html.jinja", "page.css", "page.js")
    assert {f"pytest_promptfit/reports/page/{part}" for part in parts} <= set(names)
    assert not [name for name in names if "__pycache__" in name]
    assert "[pytest11]\npromptfit = pytest_promptfit.plugin" in said
    assert "Classifier: Framework :: Pytest" in classifiers


def test_what_the_package_imports_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = (project["optional-dependencies"][extra] for extra in ("gepa", "local", "parquet", "xdist"))
    declared = {distribution(name) for names in (project["dependencies"], *extras) for name in names}
    providers = packages_distributions()
    found = {
        module: {distribution(name) for name in providers.get(module, [module])}
        for path in (ROOT / "pytest_promptfit").rglob("*.py")
        for module in imported(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert {"yaml", "pytest", "anyio", "xllamacpp"} <= found.keys()
    assert {module: names for module, names in found.items() if not names & declared} == {}


def distribution(requirement: str) -> str:
    """Return the name in a requirement, in the one spelling that names are compared in."""
    (name,) = re.findall(r"^[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the top names of what is imported from elsewhere; what only types need is passed over."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
        yield from {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"pytest_promptfit"}
        yield from imported(node)
