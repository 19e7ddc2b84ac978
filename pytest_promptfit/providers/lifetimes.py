"""Until when models live, as their providers' own lists say: OpenAI's and Anthropic's, which tell dates.

Only what asks models anyway looks here, and what was seen is not written down. A list that cannot be reached is one
line, and a few seconds.
"""

from __future__ import annotations

import asyncio
import shlex
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.providers import is_own
from pytest_promptfit.providers.anthropic import OWN_URL, AnthropicProvider
from pytest_promptfit.providers.background import run_in_own_thread
from pytest_promptfit.providers.known import offer_like
from pytest_promptfit.providers.openai import OWN_URLS, OpenAIProvider
from pytest_promptfit.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_promptfit.prompts.model import ModelSpec
    from pytest_promptfit.providers.sdk import SdkProvider

SECONDS = 4.0
"""That a list may take."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """When models will be shut down, where that is announced, and why some lists said nothing."""

    ends: dict[str, date]
    """By ``provider/name``."""
    errors: tuple[str, ...] = ()

    def of(self, spec: ModelSpec) -> date | None:
        """Return when a model will be shut down; ``None`` where nobody has said so, as of a server of your own."""
        return self.ends.get(str(spec)) if _provider(spec) else None


def lifetimes(models: Iterable[ModelSpec]) -> Lifetimes:
    """Ask the lists of the providers of these models, each once; of a server of one's own there is none to ask."""
    wanted: dict[tuple[str | None, ...], list[ModelSpec]] = {}
    for spec in models:
        if _provider(spec) is not None:
            wanted.setdefault((spec.provider, spec.base_url, spec.api_key_env), []).append(spec)
    ends: dict[str, date] = {}
    errors: list[str] = []

    async def look(specs: list[ModelSpec]) -> None:
        provider = _provider(specs[0])
        assert provider is not None
        try:
            told = {str(model.get("id")): model for model in await provider.listed(SECONDS)}
        except PromptfitError as error:
            errors.append(f"until when {specs[0].provider}'s models live is not known: {error}")
            return
        found = ((spec, _end(told.get(spec.name, {}))) for spec in specs)
        ends.update((str(spec), end) for spec, end in found if end is not None)

    async def look_at_all() -> None:
        await asyncio.gather(*map(look, wanted.values()))

    if wanted:
        run_in_own_thread(look_at_all(), lambda: None)
    return Lifetimes(ends, tuple(errors))


def _provider(spec: ModelSpec) -> SdkProvider | None:
    """Return who is asked for the list that has a model, ``None`` where none tells dates."""
    if spec.provider == "openai" and is_own(spec, OWN_URLS["openai"]):
        return OpenAIProvider(spec)
    if spec.provider == "anthropic" and is_own(spec, OWN_URL):
        return AnthropicProvider(spec)
    return None


def _end(model: dict[str, Any]) -> date | None:
    """Return the day on which a model is shut down, in the words of OpenAI's list or of Anthropic's."""
    said = model.get("shutdown_date") or model.get("retires_at")
    with suppress(ValueError):
        return date.fromisoformat(str(said)[:10])
    return None


def shut_down(model: str, end: date, today: date) -> str:
    """Return when a model is shut down, in words."""
    days = (end - today).days
    if days > 0:
        return f"{model} will be shut down on {end}, in {counted(days, 'day')}"
    return f"{model} was to be shut down on {end}"


def migrate_command(spec: ModelSpec, prompt: str) -> str:
    """Return the command that takes a prompt from a model to the small one that its provider offers now."""
    return f"promptfit migrate {shlex.quote(prompt)} --to {offer_like(spec) or 'PROVIDER/NAME'} --record"
