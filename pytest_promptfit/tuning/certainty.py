"""How sure candidates were of their labels, where the API tells log-probabilities: asked for, and read."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_promptfit.chat.logprobs import without_logprobs
from pytest_promptfit.tuning import soft
from pytest_promptfit.tuning.figures import known_outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.cassettes.cassette import Recorded
    from pytest_promptfit.prompts.model import Prompt
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.tuning.arena import Arena

SHORT_REPLY = 24
"""Tokens of the replies, on average, up to which their log-probabilities are worth their place in a recording."""

ABLE = 0.6
"""Ranking AUC from which a model can tell labels apart, whatever it answers; .5 is chance."""


def want_logprobs(arena: Arena, candidates: Sequence[Prompt], like: Prompt, sample: Sample) -> None:
    """Ask for log-probabilities, from now on, with the candidates that were not asked anything yet.

    Nothing changes where the replies to ``like``, a prompt that was asked, are long, or where the API has no
    log-probabilities or refuses to tell them, which is tried with the first candidate and ``sample``.
    """
    if not candidates or not _are_short(arena, like):
        return
    wires = [arena.new_wire(candidate, alternatives=soft.ALTERNATIVES) for candidate in candidates]
    plain = arena.new_wire(candidates[0])
    was_refused = plain.asked(sample).key in arena.recorder.cassette
    if not wires[0].asks_for_logprobs or was_refused or not arena.takes(wires[0], sample):
        return
    for candidate, wire in zip(candidates, wires, strict=True):
        arena.use(candidate, wire)


def probabilities(arena: Arena, candidate: Prompt, samples: Sequence[Sample]) -> list[dict[str, float]]:
    """Return for each sample how likely each label was; ``{}`` where that is not known."""
    wire = arena.wire(candidate)
    if not wire.asks_for_logprobs:
        return [{} for _ in samples]
    replies = (arena.recorded(candidate, sample) for sample in samples)
    return [wire.probabilities(r.body, s.text) if r else {} for r, s in zip(replies, samples, strict=True)]


def log_loss(arena: Arena, candidate: Prompt, samples: Sequence[Sample]) -> float | None:
    """Return the mean loss of the right labels in nats; ``None`` where the API told no probabilities."""
    if not samples or not arena.wire(candidate).asks_for_logprobs:
        return None
    told = zip(arena.outcomes(candidate, samples), probabilities(arena, candidate, samples), strict=True)
    losses = [soft.log_loss(p, outcome.sample.label) if outcome.predicted else soft.WORST for outcome, p in told]
    known = [loss for loss in losses if loss is not None]
    return math.fsum(known) / len(known) if len(known) == len(losses) else None


def neglected_label(arena: Arena, candidate: Prompt, samples: Sequence[Sample]) -> str | None:
    """Return the label that a candidate says much too rarely though it can tell the labels apart.

    That is bias, not ignorance: other orders of its examples may mend it. Only what is known is looked at.
    """
    known = known_outcomes(arena, candidate, samples)
    seen = [outcome.sample for outcome in known]
    rare = soft.neglected([sample.label for sample in seen], [outcome.predicted for outcome in known])
    area = soft.ranking_auc([sample.label for sample in seen], probabilities(arena, candidate, seen)) if rare else None
    return rare if area is not None and area >= ABLE else None


def harness_replies(
    arena: Arena, candidate: Prompt, samples: Sequence[Sample]
) -> Iterator[tuple[str, Recorded | None]]:
    """Yield for each sample the key that the harness looks for, and the reply recorded here, in the harness's form.

    The harness asks for no log-probabilities; a reply that came with them is the same without.
    """
    wire, plain = arena.wire(candidate), arena.new_wire(candidate)
    for sample in samples:
        asked = plain.asked(sample)
        recorded = arena.recorded(candidate, sample)
        if recorded and wire.asks_for_logprobs:
            body = without_logprobs(recorded.body)
            recorded = replace(recorded, key=asked.key, request_body=asked.body, body=body)
        yield asked.key, recorded


def _are_short(arena: Arena, prompt: Prompt) -> bool:
    name = prompt.content_hash
    lengths = [o.reply.output_tokens for (asked, _), o in arena.seen().items() if asked == name and o.reply]
    return bool(lengths) and sum(lengths) <= SHORT_REPLY * len(lengths)
