"""What calls cost and what asking will take: by recorded replies where there are some, else a guess.

Prices are those of the list that ``genai-prices`` ships; nothing is fetched, and nothing is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_promptfit.chat.body import size_of
from pytest_promptfit.providers.shared import reply_limit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_promptfit.chat.reply import ChatReply
    from pytest_promptfit.prompts.model_spec import ModelSpec

PRICE_LISTS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}

BYTES_PER_TOKEN = 4
SHORT_REPLY = 50
"""Tokens of a reply that nobody has seen yet."""


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


@dataclass(frozen=True)
class Estimate:
    """What calls will take; ``measured_on`` counts the recorded replies it rests on, 0 where it is a guess.

    ``usd`` is ``None`` where the price of the model is not known.
    """

    calls: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    is_local: bool = False
    measured_on: int = 0

    @property
    def price(self) -> str:
        """The price in words."""
        if self.is_local:
            return "local, free"
        if self.usd is None:
            return "its price is not known"
        if self.usd < 0.0001:
            return "less than $0.0001"
        return f"about ${self.usd:.4f}" if self.usd < 1 else f"about ${self.usd:.2f}"

    @property
    def shown(self) -> str:
        """Calls and price in words."""
        return f"{self.calls:,} calls, {self.price}"


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
