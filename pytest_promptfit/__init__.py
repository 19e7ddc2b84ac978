"""Regression tests for classification prompts, and the same prompts in production.

``load_prompt`` makes a classifier of a prompt file; ``evaluate`` runs it over samples as the pytest
plugin does, and ``tune`` improves it. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_promptfit.api import Call, Classifier, Prediction, evaluate, load_prompt, tune
    from pytest_promptfit.chat.reply import ChatReply
    from pytest_promptfit.errors import CallError, CassetteError, HookError, PromptFileError, PromptfitError
    from pytest_promptfit.evaluation.gates import Gate, GateResult
    from pytest_promptfit.evaluation.outcomes import Evaluation, Outcome, PairedComparison
    from pytest_promptfit.prompts.model import ModelSpec
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.providers.usage import Usage
    from pytest_promptfit.tuning.result import TuneResult

_HOMES = {
    "Call": "api",
    "CallError": "errors",
    "CassetteError": "errors",
    "ChatReply": "chat.reply",
    "Classifier": "api",
    "Evaluation": "evaluation.outcomes",
    "Gate": "evaluation.gates",
    "GateResult": "evaluation.gates",
    "HookError": "errors",
    "ModelSpec": "prompts.model",
    "Outcome": "evaluation.outcomes",
    "PairedComparison": "evaluation.outcomes",
    "Prediction": "api",
    "PromptFileError": "errors",
    "PromptfitError": "errors",
    "Sample": "prompts.samples",
    "TuneResult": "tuning.result",
    "Usage": "providers.usage",
    "evaluate": "api",
    "load_prompt": "api",
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
    "PairedComparison",
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
