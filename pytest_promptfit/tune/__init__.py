"""The optimizer loop behind ``--tune``; nothing in here knows pytest."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_promptfit.tune.result import TuneResult


class _CallablePackage(ModuleType):
    """This package can be called: importing it puts it in the place of the function ``pytest_promptfit.tune``."""

    def __call__(self, *arguments: Any, **options: Any) -> TuneResult:
        """Do as ``pytest_promptfit.api.tune`` does."""
        from pytest_promptfit.api import tune

        return tune(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
