"""The ``promptfit`` command, as people run it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_promptfit.cli.command import main

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "TYPESAFE_API_KEY")


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
    """Run the command in this process without any key but those in ``environment``."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
        patched.chdir(cwd)
        for name in KEYS:
            patched.delenv(name, raising=False)
        for name, value in environment.items():
            patched.setenv(name, value)
        try:
            code = main([*map(str, arguments)])
        except SystemExit as ended:  # argparse leaves this way
            code = int(ended.code or 0)
    return Ran(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def promptfit_process(*arguments: object, cwd: Path, **environment: str) -> Ran:
    """Run the command as ``promptfit`` does, in a process of its own: for what only a start of Python shows."""
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
