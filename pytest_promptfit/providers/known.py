"""What is known of models before anybody asks them: which are offered, which are on their way out, what they take.

Names, prices and what is deprecated are genai-prices'; the one thing that no package tells is which parameters a
model takes, so one short table does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from pytest_promptfit.prompts.model import DecidingProvider
from pytest_promptfit.providers.replies import LIMIT_PARAMETERS, reply_limit
from pytest_promptfit.providers.usage import PRICE_LISTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_promptfit.prompts.model import ModelSpec

LONGEST_REPLY = 50
"""Tokens of a reply that is a label."""

THOUGHT_AND_REPLY = 2000
"""Tokens of a reply whose thoughts count into the limit, or of one that nobody has said the length of."""


@dataclass(frozen=True)
class Family:
    """Models that take the same parameters: whose they are, their names, what they start with, and why.

    ``limit`` is the parameter that limits a reply, ``""`` where nothing is written; ``thinks`` says that thoughts count
    into it.
    """

    provider: str
    names: str
    params: Mapping[str, Any] = field(default_factory=dict)
    limit: str = "max_tokens"
    thinks: bool = False
    why: str = "always the same reply, and a short one"

    @property
    def start(self) -> dict[str, Any]:
        """The parameters of a new prompt file, whose replies are labels."""
        return {**self.params, **self.limited(THOUGHT_AND_REPLY if self.thinks else LONGEST_REPLY)}

    def limited(self, tokens: int) -> dict[str, int]:
        """Return the parameter that lets a reply have so many tokens."""
        return {self.limit: tokens} if self.limit else {}


NONE = "a decision model takes hardly any"

_DATED = r"(-\d{4}-?\d{2}-?\d{2})?"

FAMILIES = (
    Family("local", ".*", {"temperature": 0}),
    *(Family(provider, ".*", limit="", why=NONE) for provider in get_args(DecidingProvider)),
    # A model that thinks tells no log-probabilities, and refuses a temperature; 6-astra and 6.1-sol always do.
    Family(
        "openai",
        rf"gpt-(5\.[1-6](-(mini|nano|sol|terra))?|6-sol|6\.1-terra|[\d.]+-luna){_DATED}",
        {"reasoning_effort": "none", "temperature": 0},
        "max_completion_tokens",
        why="without thoughts it takes a temperature, and max_completion_tokens is its max_tokens",
    ),
    Family("openai", r"gpt-(3\.5|4)[\w.-]*", {"temperature": 0}, "max_completion_tokens"),
    Family("anthropic", rf"claude-(3[\w-]*|\w+-4(-[0-6])?){_DATED}", {"temperature": 0}),
    Family(
        "anthropic",
        r"claude-haiku.*",
        thinks=True,
        why="its thoughts count into the limit, and it refuses a temperature",
    ),
    Family(
        "gemini",
        r"gemini-[\d.]+-flash-lite",
        {"reasoning_effort": "minimal"},
        thinks=True,
        why="its thoughts count into the limit, and it passes over a temperature",
    ),
)
"""The first one that has a model's name counts. Last looked up in November 2026, in the providers' documentation."""

KEPT = "as they were"
"""Why parameters are those that another model had."""

ANY = "room for thoughts; add temperature: 0 where the model takes it"

OF_A_FAMILY = (
    *LIMIT_PARAMETERS,
    *("temperature", "top_p", "top_k", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty"),
    *("reasoning_effort", "reasoning", "thinking", "verbosity", "output_config"),
)
"""Parameters that a model of another family may refuse; all others are the protocol's."""


@dataclass(frozen=True)
class Offer:
    """A small model of a provider, the variable of its key, and a larger one to propose texts."""

    model: str
    variable: str
    optimizer: str


_OFFERED = {
    "openai": ("OPENAI_API_KEY", r"gpt-([\d.]+)-luna", r"gpt-([\d.]+)-terra"),
    "anthropic": ("ANTHROPIC_API_KEY", r"claude-haiku-([\d-]+)", r"claude-sonnet-([\d-]+)"),
    "gemini": ("GEMINI_API_KEY", r"gemini-([\d.]+)-flash-lite", r"gemini-([\d.]+)-flash"),
}
"""Of each provider the variable of its key, and the names of its small and of its middling models."""


def offers() -> tuple[Offer, ...]:
    """Return, of each provider, the newest models that the price list has and that will not be shut down."""
    return tuple(
        Offer(_newest(provider, small), variable, _newest(provider, larger))
        for provider, (variable, small, larger) in _OFFERED.items()
    )


def offer_like(spec: ModelSpec) -> str:
    """Return the small model that its provider offers, to put in the place of one; ``""`` where it is that itself."""
    found = next((one.model for one in offers() if one.model.startswith(f"{spec.provider}/")), "")
    return found if found != str(spec) else ""


def _newest(provider: str, names: str) -> str:
    versions = (
        ([int(number) for number in re.findall(r"\d+", found[1])], name)
        for name, is_deprecated in listed_models(provider)
        if not is_deprecated and (found := re.fullmatch(names, name))
    )
    return f"{provider}/{max(versions)[1]}"


def listed_models(provider: str) -> Iterator[tuple[str, bool]]:
    """Yield the models of a provider's price list, and whether each will be shut down."""
    from genai_prices.data_snapshot import get_snapshot

    for known in get_snapshot().providers:
        if known.id == PRICE_LISTS[provider]:
            yield from ((model.id, bool(model.deprecated)) for model in known.models)


def is_deprecated(spec: ModelSpec) -> bool:
    """Tell whether the price list says that a model's provider is going to shut it down."""
    if spec.provider not in PRICE_LISTS or spec.base_url:
        return False
    import genai_prices

    try:
        usage = genai_prices.Usage(input_tokens=1, output_tokens=1)
        found = genai_prices.calc_price(usage, spec.name, provider_id=PRICE_LISTS[spec.provider])
    except (LookupError, ValueError):
        return False
    return bool(found.model.deprecated)


def family_of(spec: ModelSpec) -> Family:
    """Return the family of a model: of one that is not known, what every model of its provider takes."""
    limit = "max_completion_tokens" if spec.provider == "openai" else "max_tokens"
    unknown = Family(spec.provider, ".*", limit=limit, thinks=True, why=ANY)
    of_it = (one for one in FAMILIES if one.provider == spec.provider and re.fullmatch(one.names, spec.name))
    return next(of_it, unknown)


def switched_params(params: Mapping[str, Any], old: ModelSpec, new: ModelSpec) -> tuple[dict[str, Any], str]:
    """Return the parameters of calls to ``old`` as ``new`` takes them, and why they are those.

    Within a family, and at one server, they stay. Elsewhere a new family's own begin anew; a limit of the reply stays
    as large as it was, and the protocol's other parameters stay where it is the same protocol.
    """
    family = family_of(new)
    if old.provider == new.provider and (new.base_url or family == family_of(old)):
        return dict(params), KEPT
    room = reply_limit(params) or THOUGHT_AND_REPLY
    is_same_protocol = "anthropic" not in (old.provider, new.provider) and not (old.decides or new.decides)
    kept = {name: value for name, value in params.items() if is_same_protocol and name not in OF_A_FAMILY}
    mild = {name: params.get(name, value) for name, value in family.params.items() if name == "temperature"}
    limit = family.limited(max(room, THOUGHT_AND_REPLY) if family.thinks else room)
    return {**kept, **family.params, **mild, **limit}, family.why
