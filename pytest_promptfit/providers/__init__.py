"""Whose protocol is spoken.

Importing this package, and reading replies with it, imports neither an SDK nor an HTTP client: those come
with ``Provider.connect``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_promptfit.prompts.model_spec import ModelSpec
    from pytest_promptfit.providers.provider import Provider


def provider_of(spec: ModelSpec, folder: Path) -> Provider:
    """Return the provider of ``spec``; ``folder`` is where the prompt file is, for relative GGUF paths."""
    if spec.provider == "anthropic":
        from pytest_promptfit.providers.anthropic import AnthropicProvider

        return AnthropicProvider(spec)
    if spec.provider == "local":
        from pytest_promptfit.providers.local import LocalProvider

        return LocalProvider(spec, folder)
    from pytest_promptfit.providers.openai import OpenAIProvider

    return OpenAIProvider(spec)
