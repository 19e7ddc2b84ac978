"""Parts of what a run says on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def section(result: pytest.RunResult) -> list[str]:
    """Return the lines of our summary."""
    start = next(at for at, line in enumerate(result.outlines) if line.strip("=") == " promptfit ")
    end = next(at for at in range(start + 1, len(result.outlines)) if result.outlines[at].startswith("="))
    return [line for line in result.outlines[start + 1 : end] if line]


def gate(result: pytest.RunResult, name: str) -> str:
    """Return the line of the summary about a gate."""
    (line,) = [line.strip() for line in result.outlines if line.strip().startswith(f"gate {name}:")]
    return line
