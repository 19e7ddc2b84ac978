"""What tests of tuning start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tuning_models import TuningProject, tuning_project

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[TuningProject]:
    """An empty project whose prompts are tuned, and models that can be asked until the test ends."""
    with tuning_project(pytester, monkeypatch) as project:
        yield project
