"""The ``promptfit`` command in a process of its own, as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY")


@dataclass(frozen=True)
class Ran:
    """What a run of the command left behind."""

    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The lines that say what the user did wrong; nothing else is said then."""
        assert self.code == 1, self.out + self.err
        assert self.out == ""
        assert "Traceback" not in self.err
        return self.err.rstrip("\n")


def promptfit(*arguments: object, cwd: Path, **environment: str) -> Ran:
    """Run the command without any key but those in ``environment``."""
    own = {name: value for name, value in os.environ.items() if name not in KEYS}
    done = subprocess.run(
        [sys.executable, "-m", "pytest_promptfit.cli.command", *map(str, arguments)],
        cwd=cwd,
        env={**own, "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
