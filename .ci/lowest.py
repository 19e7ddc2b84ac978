"""Print a constraint for each requirement of pyproject.toml: the lowest version that it allows."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirements in (project["dependencies"], *project["optional-dependencies"].values()):
    for name, lowest in re.findall(r"^([\w.-]+)>=([\w.]+)", "\n".join(requirements), re.MULTILINE):
        print(f"{name}=={lowest}")
