"""What is shipped: the wheel holds the package and nothing else, and its entry points are there."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


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
    assert {f"pytest_promptfit/report/html/{part}" for part in parts} <= set(names)
    assert not [name for name in names if "__pycache__" in name]
    assert "[pytest11]\npromptfit = pytest_promptfit.plugin" in said
    assert "Classifier: Framework :: Pytest" in classifiers
