"""What asking a model takes: calls, tokens and USD; by recorded replies where there are some, else a guess.

Nothing is asked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_promptfit.chat.body import size_of
from pytest_promptfit.providers.prices import cost_usd
from pytest_promptfit.providers.shared import reply_limit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_promptfit.chat.reply import ChatReply
    from pytest_promptfit.prompts.model_spec import ModelSpec

BYTES_PER_TOKEN = 4
SHORT_REPLY = 50
"""Tokens of a reply that nobody has seen yet."""


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
