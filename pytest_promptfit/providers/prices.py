"""What a call costs, from the price list that ``genai-prices`` ships; nothing is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_promptfit.prompts.model_spec import ModelSpec

PRICE_LISTS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}


def price_usd(
    spec: ModelSpec, input_tokens: int, output_tokens: int, cached_tokens: int = 0, written_tokens: int = 0
) -> float | None:
    """Return the price of a call in USD; ``None`` for a local model and one that the list does not have.

    ``cached_tokens`` are those of the ``input_tokens`` that came from the provider's prompt cache, and
    ``written_tokens`` those that were put into it, which some providers charge more for than for others.
    """
    if spec.provider == "local":
        return None
    import genai_prices

    usage = genai_prices.Usage(
        input_tokens=max(input_tokens, cached_tokens + written_tokens),
        output_tokens=output_tokens,
        cache_read_tokens=cached_tokens,
        cache_write_tokens=written_tokens,
    )
    try:
        if spec.base_url:
            price = genai_prices.calc_price(usage, spec.name, provider_api_url=spec.base_url)
        else:
            price = genai_prices.calc_price(usage, spec.name, provider_id=PRICE_LISTS[spec.provider])
    except (LookupError, ValueError):
        return None
    return float(price.total_price)


def cost_usd(
    spec: ModelSpec, input_tokens: int, output_tokens: int, cached_tokens: int = 0, written_tokens: int = 0
) -> float | None:
    """Return what a call costs in USD: nothing for a local model; ``None`` only where nobody knows."""
    if spec.provider == "local":
        return 0.0
    return price_usd(spec, input_tokens, output_tokens, cached_tokens, written_tokens)
