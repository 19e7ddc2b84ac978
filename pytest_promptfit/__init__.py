"""Regression tests for classification prompts, and the same prompts in production.

``load_prompt`` makes a classifier of a prompt file; ``evaluate`` runs it over samples as the pytest
plugin does, and ``tune`` improves it. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_promptfit.api import evaluate, tune
    from pytest_promptfit.chat import ChatReply
    from pytest_promptfit.classifier import Call, Classifier, Prediction, load_prompt
    from pytest_promptfit.errors import CallError, CassetteError, HookError, PromptFileError, PromptfitError
    from pytest_promptfit.evaluation import Evaluation, Outcome, Usage
    from pytest_promptfit.gates import Gate, GateResult
    from pytest_promptfit.model_spec import ModelSpec
    from pytest_promptfit.samples import Sample
    from pytest_promptfit.tune.result import TuneResult

_HOMES = {
    "Call": "classifier",
    "CallError": "errors",
    "CassetteError": "errors",
    "ChatReply": "chat",
    "Classifier": "classifier",
    "Evaluation": "evaluation",
    "Gate": "gates",
    "GateResult": "gates",
    "HookError": "errors",
    "ModelSpec": "model_spec",
    "Outcome": "evaluation",
    "Prediction": "classifier",
    "PromptFileError": "errors",
    "PromptfitError": "errors",
    "Sample": "samples",
    "TuneResult": "tune.result",
    "Usage": "evaluation",
    "evaluate": "api",
    "load_prompt": "classifier",
    "tune": "api",
}

__all__ = [
    "Call",
    "CallError",
    "CassetteError",
    "ChatReply",
    "Classifier",
    "Evaluation",
    "Gate",
    "GateResult",
    "HookError",
    "ModelSpec",
    "Outcome",
    "Prediction",
    "PromptFileError",
    "PromptfitError",
    "Sample",
    "TuneResult",
    "Usage",
    "evaluate",
    "load_prompt",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
