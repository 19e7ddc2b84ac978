"""What a tuning run would do and could cost, and what of its budget is set aside for the end. Nothing is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.chat.request import ChatRequest, Turn
from pytest_promptfit.providers.replies import reply_limit
from pytest_promptfit.providers.usage import BYTES_PER_TOKEN, SHORT_REPLY, cost_usd
from pytest_promptfit.providers.wire import provider_of
from pytest_promptfit.tuning.candidates import SIZES
from pytest_promptfit.tuning.messages import LONGEST_MESSAGE
from pytest_promptfit.tuning.meter import Meter
from pytest_promptfit.tuning.race import stratified_order
from pytest_promptfit.tuning.split import split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_promptfit.prompts.model import ParsedPrompt, TuneLimits
    from pytest_promptfit.prompts.model_spec import ModelSpec
    from pytest_promptfit.prompts.samples import Sample, SampleSet
    from pytest_promptfit.tuning.split import Split

LONG_REPLY = 1000
"""Tokens that an estimate takes for a reply of the optimizer."""


def plan_lines(parsed: ParsedPrompt, sample_set: SampleSet) -> list[str]:
    """Return what a tuning run would do, and the most it could need."""
    check_prices(parsed)
    parts = split(sample_set.samples)
    tune = parsed.config.tune
    shares = shares_of(parts, tune.budget)
    meter = Meter(tune.budget, reserved=shares.reserved)
    optimizer = f"{tune.model}, at most {meter.optimizer_limit} calls" if tune.model else "none: searches only"
    limits = [f"{name} {limit:g}" for name, (limit, _, _) in meter.limits.items()]
    return [
        f"split: {len(parts.train)} train, {shares.dev_size} dev, {len(shares.holdout)} holdout",
        f"task model: {parsed.config.model}, at most {meter.task_limit} calls, {meter.reserved} of them set aside",
        f"optimizer: {optimizer}",
        f"limits: {', '.join(limits) or 'calls alone'}",
        f"may change: {', '.join(tune.edit) or 'nothing'}",
        *_cost_lines(parsed, sample_set, meter),
        *parts.warnings,
        *shares.warnings,
    ]


@dataclass(frozen=True)
class Shares:
    """What the budget leaves for each part: with many samples and few calls not all of dev and holdout are looked at.

    ``reserved`` task calls are set aside for the end: the holdout under two prompts, and train samples, whose replies
    the verdict and the recordings need, too. They are two thirds of the calls at most.
    """

    holdout: tuple[Sample, ...]
    dev_size: int
    reserved: int
    warnings: tuple[str, ...]


def shares_of(parts: Split, budget: TuneLimits) -> Shares:
    """Return the shares of a budget."""
    limit = Meter(budget).task_limit
    held = min(len(parts.holdout), max(1, limit // 6))
    reserved = 2 * held + min(len(parts.train), limit // 3)
    # The race needs its part, and then winner and incumbent must get through dev, or nothing is ever accepted.
    dev_size = min(len(parts.dev), max(1, (limit - reserved) // 3))
    warnings = [
        f"{limit} task calls are few for {len(samples)} {name} samples: {size} of them are looked at"
        for name, samples, size in (("dev", parts.dev, dev_size), ("holdout", parts.holdout, held))
        if size < len(samples)
    ]
    return Shares(tuple(stratified_order(parts.holdout, 0)[:held]), dev_size, reserved, tuple(warnings))


def check_prices(parsed: ParsedPrompt) -> None:
    """Raise PromptFileError when USD are limited and nobody can tell what a model's next reply costs at most."""
    config = parsed.config
    if config.tune.budget.usd is None:
        return
    for model, params in ((config.model, config.all_params), (config.tune.model, config.tune.params)):
        if model is None:
            continue
        asked = ChatRequest(model.name, "", (Turn("user", ""),), params={**model.params, **params})
        limit, price = reply_limit(provider_of(model, parsed.path.parent).payload(asked)), cost_usd(model, 1, 1)
        if price and limit is None:
            raise parsed.error(
                f"tune.budget.usd: cannot hold while a reply of {model} may be of any length: set max_tokens, or "
                "max_completion_tokens, in its params, or limit task_calls, optimizer_calls or tokens",
                *("tune", "budget", "usd"),
            )
        if price is None:
            raise parsed.error(
                f"tune.budget.usd: the price of {model} is not known: limit task_calls, optimizer_calls or tokens",
                *("tune", "budget", "usd"),
            )


def _cost_lines(parsed: ParsedPrompt, sample_set: SampleSet, meter: Meter) -> Iterator[str]:
    """Yield what all calls could cost, reckoned from the lengths of texts."""
    config = parsed.config
    text = sum(len(sample.text.encode()) for sample in sample_set.samples) // len(sample_set.samples)
    own = len(str(config.prompt.model_dump()).encode())
    given = (own + (max(SIZES) + 1) * text) // BYTES_PER_TOKEN
    yield _cost_line("task model", config.model, config.all_params, meter.task_limit, given, SHORT_REPLY)
    if config.tune.model:
        params = {**config.tune.model.params, **config.tune.params}
        given = LONGEST_MESSAGE // BYTES_PER_TOKEN
        yield _cost_line("optimizer", config.tune.model, params, meter.optimizer_limit, given, LONG_REPLY)


def _cost_line(who: str, model: ModelSpec, params: Mapping[str, object], calls: int, given: int, written: int) -> str:
    written = reply_limit(params) or written
    price = cost_usd(model, given, written)
    shown = "its price is not known" if price is None else f"about ${calls * price:.2f}"
    return f"estimated cost, {who}: {shown} ({calls} calls of {given} tokens in, {written} out)"
