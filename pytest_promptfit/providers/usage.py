"""What calls took, what they may take and what they will: calls, tokens, USD and time.

Prices are those of the list that ``genai-prices`` ships; nothing is fetched, and nothing is asked.
"""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_promptfit.chat.request import size_of
from pytest_promptfit.errors import BudgetExceeded
from pytest_promptfit.providers.replies import reply_limit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_promptfit.chat.reply import ChatReply
    from pytest_promptfit.prompts.model import ModelSpec

PRICE_LISTS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "google",
    "openai-decisions": "openai-decisions",
    "systemone": "typesafe",
}

BATCH = {"processing": "batch"}
"""Asks the price list for the prices of a batch."""

BYTES_PER_TOKEN = 4
UNSEEN_REPLY_TOKENS = 50
"""What an estimate takes for a reply of a model that nobody has seen any of."""

WINDOW_SECONDS = 10.0
"""The rate is that of so long ago until now: it moves when the model's pace does."""


@dataclass(frozen=True)
class Usage:
    """What calls took: replies needed, those of them replayed, tokens (cached ones included), and USD.

    ``usd`` is what this run paid, and ``None`` when something was asked whose price is unknown.
    """

    calls: int = 0
    replayed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = 0.0

    def __add__(self, other: Usage) -> Usage:
        """Return what both took together."""
        return Usage(
            self.calls + other.calls,
            self.replayed + other.replayed,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            plus(self.usd, other.usd),
        )

    def __sub__(self, earlier: Usage) -> Usage:
        """Return what was taken since."""
        return Usage(
            self.calls - earlier.calls,
            self.replayed - earlier.replayed,
            self.input_tokens - earlier.input_tokens,
            self.output_tokens - earlier.output_tokens,
            plus(self.usd, earlier.usd, -1),
        )


def plus(usd: float | None, more: float | None, sign: int = 1) -> float | None:
    """Return the sum of two costs, or with -1 their difference; not known where one of them is not."""
    return None if usd is None or more is None else usd + sign * more


def read_usd(text: str) -> float | None:
    """Return an amount above 0 as people write it, ``0.50`` or ``$0.50``; ``None`` where it is none."""
    try:
        amount = float(text.removeprefix("$"))
    except ValueError:
        return None
    return amount if 0 < amount < float("inf") else None


@dataclass(slots=True)
class Limits:
    """What a run may use at most, calls that may be paid for and USD, and what its ``ask`` calls have used of it.

    A call is reserved, with the most it can cost, before it is made, and settled with what it did cost.
    ``calls_option`` and ``usd_option`` are what the user calls the limits.
    """

    calls: int | None = None
    usd: float | None = None
    calls_option: str = "--promptfit-max-calls"
    usd_option: str = "--promptfit-budget"
    used_calls: int = field(default=0, init=False)
    used_usd: float = field(default=0.0, init=False)
    _reserved_calls: int = field(default=0, init=False)
    _reserved_usd: float = field(default=0.0, init=False)

    def fit(self, usd: float) -> bool:
        """Tell whether one more call that costs at most ``usd`` stays within them."""
        if self.calls is not None and self.used_calls + self._reserved_calls >= self.calls:
            return False
        return self.usd is None or self.used_usd + self._reserved_usd + usd <= self.usd

    def reserve(self, usd: float) -> None:
        """Set one call aside, and the most it can cost."""
        self._reserved_calls += 1
        self._reserved_usd += usd

    def settle(self, reserved: float, usd: float, *, calls: int) -> None:
        """Put what a call did cost in the place of what was reserved; ``calls`` is 0 for one not paid for."""
        self._reserved_calls -= 1
        # A sum of floats may miss zero by a hair, and the next call by that hair.
        self._reserved_usd = self._reserved_usd - reserved if self._reserved_calls else 0.0
        self.used_calls += calls
        self.used_usd += usd

    @property
    def is_out_of_calls(self) -> bool:
        """Whether no more calls may be made, whatever they cost."""
        return self.calls is not None and self.used_calls >= self.calls

    def exceeded(self) -> BudgetExceeded:
        """Return the error that tells which of them stopped the run."""
        if self.is_out_of_calls:
            limit, option = f"limit of {self.calls} calls", self.calls_option
        else:
            limit, option = f"budget of ${self.usd or 0:.2f}", self.usd_option
        spent = f" (${self.used_usd:.4f} spent)" if self.used_usd else ""
        return BudgetExceeded(
            f"{limit} reached after {self.used_calls} calls{spent}: "
            f"the rest was not asked; run again with a larger {option}"
        )


class Tries:
    """What is told of the tries of one call, since a retry may cost as much as the first; this one takes no note.

    ``begin`` waits until a try may be sent, or raises what forbids it; ``end`` says that it is not under way any
    more, ``lose`` that it may be paid for and brought no reply.
    """

    async def begin(self) -> None:
        """Wait until the next try may be sent."""

    def end(self) -> None:
        """Take note that the try is over."""

    def lose(self) -> None:
        """Take note that the try may be paid for all the same."""


TRIES: ContextVar[Tries] = ContextVar("promptfit_tries", default=Tries())  # noqa: B039 - it holds nothing
"""The tries of the call that the current task makes."""


def cost_usd(
    spec: ModelSpec,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int = 0,
    written_tokens: int = 0,
    *,
    in_batch: bool = False,
) -> float | None:
    """Return what a call costs in USD: nothing for a local model; ``None`` for one that the list does not have.

    ``cached_tokens`` are those of the ``input_tokens`` that came from the provider's prompt cache, and
    ``written_tokens`` those that were put into it, which some providers charge more for than for others.
    ``in_batch`` asks for the price in a batch.
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

    def listed(context: dict[str, str] | None) -> float:
        if spec.base_url:
            # Another server that speaks the protocol has prices of its own.
            price = genai_prices.calc_price(usage, spec.name, provider_api_url=spec.base_url, price_context=context)
        else:
            provider = PRICE_LISTS[spec.provider]
            price = genai_prices.calc_price(usage, spec.name, provider_id=provider, price_context=context)
        return float(price.total_price)

    try:
        usd = listed(None)
        # The list tells the usual price of a model whose price in a batch it does not have: that is half of it.
        return usd if not in_batch else half if (half := listed(BATCH)) != usd else usd / 2
    except (LookupError, ValueError):
        return None


def reply_usd(spec: ModelSpec, reply: ChatReply, *, in_batch: bool = False) -> float | None:
    """Return what a reply cost in USD, as ``cost_usd`` does."""
    cached = (reply.cached_tokens, reply.written_tokens)
    return cost_usd(spec, reply.input_tokens, reply.output_tokens, *cached, in_batch=in_batch)


def most_usd(spec: ModelSpec, input_tokens: int, output_tokens: int, *, in_batch: bool = False) -> float:
    """Return the most that a call with so many tokens can cost in USD; 0 where nobody knows."""
    kinds = ((0, 0), (0, input_tokens))  # all of it may be put into the prompt cache
    return max(cost_usd(spec, input_tokens, output_tokens, *cached, in_batch=in_batch) or 0.0 for cached in kinds)


@dataclass(frozen=True)
class Estimate:
    """What calls will take; ``measured_on`` counts the replies it rests on, 0 where it is a guess.

    ``usd`` and ``seconds`` are ``None`` where nobody knows them. Tokens need not be whole: they may be a mean.
    """

    calls: int
    input_tokens: float
    output_tokens: float
    usd: float | None
    is_local: bool = False
    measured_on: int = 0
    seconds: float | None = None

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
    spec: ModelSpec,
    payloads: Sequence[Mapping[str, Any]],
    seen: Sequence[tuple[Mapping[str, Any], ChatReply]] = (),
    *,
    in_batch: bool = False,
) -> Estimate:
    """Return what asking for these JSON bodies takes; ``seen`` are bodies with the replies to them."""
    seen = [(p, reply) for p, reply in seen if reply.input_tokens and (reply.output_tokens or spec.decides)]
    known_size = sum(size_of(payload) for payload, _ in seen)
    tokens_per_byte = sum(reply.input_tokens for _, reply in seen) / known_size if known_size else 1 / BYTES_PER_TOKEN
    given = round(sum(map(size_of, payloads)) * tokens_per_byte)
    if seen:
        written = round(len(payloads) * sum(reply.output_tokens for _, reply in seen) / len(seen))
    else:
        limit = reply_limit(payloads[0]) if payloads else None
        written = len(payloads) * min(UNSEEN_REPLY_TOKENS, UNSEEN_REPLY_TOKENS if limit is None else limit)
    usd = cost_usd(spec, given, written, in_batch=in_batch)
    return Estimate(len(payloads), given, written, usd, spec.provider == "local", len(seen))


class Pace:
    """How many are done in a second, over the last ``window`` seconds; times are seconds of one clock."""

    def __init__(self, window: float = WINDOW_SECONDS) -> None:
        self._window = window
        self._marks: deque[tuple[float, int]] = deque()

    def note(self, now: float, done: int) -> None:
        """Note that ``done`` are done by now; fewer than before begin a new count."""
        if self._marks and done < self._marks[-1][1]:
            self._marks.clear()
        self._marks.append((now, done))
        # The newest mark that is older than the window stays: the rate is measured from it.
        while len(self._marks) > 2 and self._marks[1][0] <= now - self._window:
            self._marks.popleft()

    @property
    def rate(self) -> float:
        """How many are done in a second; 0 where too little is known."""
        if len(self._marks) < 2:
            return 0.0
        (start, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / (end - start) if end > start else 0.0

    def left(self, count: int) -> str:
        """Return how long so many more take, in words; empty where that is not known."""
        return duration(count / self.rate) if self.rate and count else ""


def duration(seconds: float) -> str:
    """Return a span of time as people say it: ``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
