"""What calls cost, and what asking will take: by recorded replies where there are some, else a guess.

Prices are those of the list that ``genai-prices`` ships; nothing is fetched, and nothing is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_promptfit.chat.body import size_of
from pytest_promptfit.providers.shared import reply_limit
from pytest_promptfit.providers.usage import Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_promptfit.chat.reply import ChatReply
    from pytest_promptfit.prompts.model_spec import ModelSpec

PRICE_LISTS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}

BYTES_PER_TOKEN = 4
SHORT_REPLY = 50
"""Tokens of a reply that nobody has seen yet."""


def cost_usd(
    spec: ModelSpec, input_tokens: int, output_tokens: int, cached_tokens: int = 0, written_tokens: int = 0
) -> float | None:
    """Return what a call costs in USD: nothing for a local model; ``None`` for one that the list does not have.

    ``cached_tokens`` are those of the ``input_tokens`` that came from the provider's prompt cache, and
    ``written_tokens`` those that were put into it, which some providers charge more for than for others.
    """
    if spec.provider == "local":
        return 0.0
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


def reply_usd(spec: ModelSpec, reply: ChatReply) -> float | None:
    """Return what a reply cost in USD, as ``cost_usd`` does."""
    return cost_usd(spec, reply.input_tokens, reply.output_tokens, reply.cached_tokens, reply.written_tokens)


def most_usd(spec: ModelSpec, input_tokens: int, output_tokens: int) -> float:
    """Return the most that a call with so many tokens can cost in USD; 0 where nobody knows."""
    kinds = ((0, 0), (0, input_tokens))  # all of it may be put into the prompt cache
    return max(cost_usd(spec, input_tokens, output_tokens, *cached) or 0.0 for cached in kinds)


def estimate(
    spec: ModelSpec, payloads: Sequence[Mapping[str, Any]], seen: Sequence[tuple[Mapping[str, Any], ChatReply]] = ()
) -> Estimate:
    """Return what asking for these JSON bodies takes; ``seen`` are bodies with the replies to them."""
    seen = [(payload, reply) for payload, reply in seen if reply.input_tokens and reply.output_tokens]
    known_size = sum(size_of(payload) for payload, _ in seen)
    tokens_per_byte = sum(reply.input_tokens for _, reply in seen) / known_size if known_size else 1 / BYTES_PER_TOKEN
    given = round(sum(map(size_of, payloads)) * tokens_per_byte)
    if seen:
        written = round(len(payloads) * sum(reply.output_tokens for _, reply in seen) / len(seen))
    else:
        limit = reply_limit(payloads[0]) if payloads else None
        written = len(payloads) * min(SHORT_REPLY, limit or SHORT_REPLY)
    usd = cost_usd(spec, given, written)
    return Estimate(len(payloads), given, written, usd, spec.provider == "local", len(seen))
