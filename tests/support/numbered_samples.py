"""Samples by number, a model that gets some of them wrong, and how its change of mind compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from mood_project import Project


def numbered(count: int) -> tuple[tuple[str, ...], ...]:
    return tuple((f"n{number:03}", f"a lovely day number {number:03}", "good") for number in range(count))


def wrong_about(numbers: set[int]) -> Callable[[str], str]:
    """Return a model that gets just these of the numbered samples wrong."""

    def says(text: str) -> str:
        is_wrong = int(text.partition("</text>")[0][-3:]) in numbers
        return f"<label>{'bad' if is_wrong else 'good'}</label>"

    return says


def compared(project: Project, count: int, before: set[int], after: set[int], **gates: Any) -> pytest.RunResult:
    """Accept what a model says, let it change its mind, and return how the new replies compare."""
    project.write(numbered(count), cases="gated", gates=gates)
    project.model.says = wrong_about(before)
    project.record("--promptfit-update")
    project.model.says = wrong_about(after)
    project.ask_anew()
    return project.replay("-v")
