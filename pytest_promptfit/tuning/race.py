"""Finding the best of many candidates with few calls: sequential halving on growing prefixes of dev.

All candidates of a round have seen the same samples, so their scores are paired; of those that are right equally
often the surer one is better, where the API tells log-probabilities. No decision needs them, since many tell none.
The winner of a race is no accepted candidate: it was picked by its answers, and whether it beats the incumbent is up
to the gate.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

from pytest_promptfit.chat.reply import without_logprobs
from pytest_promptfit.tuning.arena import ALTERNATIVES, known_outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_promptfit.cassettes.cassette import Recorded
    from pytest_promptfit.prompts.model import Prompt
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.tuning.arena import Arena


ABLE = 0.6
"""Ranking AUC from which a model can tell labels apart, whatever it answers; .5 is chance."""

LONGEST_WITH_LOGPROBS = 24
"""Tokens of the replies, on average, up to which their log-probabilities are worth their place in a recording."""

NEGLECT: Final = 0.15
"""Share of all samples by which a label is answered too rarely before it counts as neglected."""

LEAST: Final = 1e-4
"""No label is taken to be less likely than this, so that one sample cannot decide a mean."""

WORST: Final = -math.log(LEAST)
"""The loss of a reply without a label, in nats."""

FIRST_PREFIX: Final = 3
"""Nobody is dropped on fewer samples than this, unless dev has fewer."""


@dataclass(frozen=True, slots=True)
class Round:
    """The ``keep`` best candidates so far have been asked the first ``samples`` samples of dev."""

    keep: int
    samples: int


@dataclass(frozen=True, slots=True)
class CandidateScore:
    """What a candidate did on the samples of a round.

    ``right`` is a count, ``log_loss`` the mean over the same samples (lower is better) or ``None`` where
    the API tells no probabilities, ``length`` the size of the prompt with its examples.
    """

    right: int
    log_loss: float | None
    length: int


def rounds(candidates: int, dev: int, budget: int) -> list[Round]:
    """Plan a race of ``candidates`` on ``dev`` samples for at most ``budget`` calls.

    In each round the ``keep`` best candidates so far answer what they have not seen of the first
    ``samples`` of dev; ``survivors`` picks the next round's, and the winner after the last. The field
    halves down to two; every round costs about the same, until a prefix is all of dev: then the rest of
    the budget makes the earlier rounds longer, and rounds that would ask nothing new are left out.

    The first round's ``keep`` is how many start: fewer than ``candidates`` (take the first ones) where the
    budget does not give each of them ``FIRST_PREFIX`` samples. One alone has won without a call, so the
    plan is then ``[Round(1, 0)]``; it is empty only without candidates. Raises ``ValueError`` for a
    negative argument. Source: Karnin, Koren and Somekh (2013), whose rounds forget earlier answers.
    """
    if min(candidates, dev, budget) < 0:
        raise ValueError(f"expected counts, got {candidates} candidates, {dev} samples, {budget} calls")
    prefix = min(FIRST_PREFIX, dev)
    affordable = min(candidates, budget // prefix) if prefix else 0
    for start in range(affordable, 1, -1):
        share = _share(start, dev, budget)
        if share >= start * prefix:
            return _rounds(start, dev, share)
    return [Round(1, 0)] if candidates else []


def calls(plan: Sequence[Round]) -> int:
    """Return how many calls a race costs: each candidate is asked each sample once."""
    steps = pairwise([Round(0, 0), *plan])
    return sum(now.keep * (now.samples - before.samples) for before, now in steps)


def survivors(scores: Sequence[CandidateScore], keep: int, *, is_last: bool = False) -> list[int]:
    """Return the indices of the ``keep`` best candidates, best first; all scores are on the same samples.

    More right answers come first; then the lower log-loss, and who has none after those who have; then the
    shorter prompt; then the earlier candidate. When it ``is_last``, the shorter of two that are right equally often
    comes first: it is cheaper for ever. Raises ``ValueError`` for a negative ``keep``.
    """
    if keep < 0:
        raise ValueError(f"keep must not be negative, got {keep}")

    def place(at: int) -> tuple[int, int, float, int, int]:
        score = scores[at]
        unknown = score.log_loss is None or math.isnan(score.log_loss)
        log_loss = math.inf if unknown else score.log_loss or 0.0
        return -score.right, score.length if is_last else 0, log_loss, score.length, at

    return sorted(range(len(scores)), key=place)[:keep]


def _share(start: int, dev: int, budget: int) -> int:
    """Return the most calls that a round may cost: the cost of a race never falls with it."""
    shares = range(start * dev + 1)
    return bisect_right(shares, budget, key=lambda share: calls(_rounds(start, dev, share))) - 1


def _rounds(start: int, dev: int, share: int) -> list[Round]:
    """Return the rounds of which each costs ``share`` calls, as far as dev goes."""
    keeps = [start]
    while keeps[-1] > 2:
        keeps.append(-(-keeps[-1] // 2))
    reached = accumulate(Fraction(share, keep) for keep in keeps)
    plan = [Round(keep, min(dev, int(samples))) for keep, samples in zip(keeps, reached, strict=True)]
    return [plan[0], *(now for before, now in pairwise(plan) if now.samples > before.samples)]


def neglected(gold: Sequence[str], predicted: Sequence[str | None]) -> str | None:
    """Return the label that is answered much too rarely, by ``NEGLECT`` of all samples, while another takes its place.

    ``None`` where the answers are not one-sided: there is no such label, or no label is answered too often.
    """
    right, said = Counter(gold), Counter(predicted)
    lack = {label: right[label] - said[label] for label in sorted(right)}
    if not lack or -min(lack.values()) < NEGLECT * len(gold):
        return None
    return max(lack, key=lambda label: lack[label])


def ranking_auc(gold: Sequence[str], probabilities: Sequence[Mapping[str, float]]) -> float | None:
    """Return the area under the ROC curve, for more than two labels the mean of one against the rest.

    ``None`` where a sample has no probabilities or only one label occurs.
    """
    labels = sorted(set(gold))
    if len(labels) < 2 or not all(probabilities):
        return None
    from sklearn.metrics import roc_auc_score

    areas = [
        float(roc_auc_score([right == label for right in gold], [p.get(label, 0.0) for p in probabilities]))
        for label in labels
    ]
    return math.fsum(areas) / len(areas)


def want_logprobs(arena: Arena, candidates: Sequence[Prompt], like: Prompt, sample: Sample) -> None:
    """Ask for log-probabilities, from now on, with the candidates that were not asked anything yet.

    Nothing changes where the replies to ``like``, a prompt that was asked, are long, or where the API has no
    log-probabilities or refuses to tell them, which is tried with the first candidate and ``sample``.
    """
    name = like.content_hash
    lengths = [o.reply.output_tokens for (asked, _), o in arena.seen().items() if asked == name and o.reply]
    if not (candidates and lengths) or sum(lengths) > LONGEST_WITH_LOGPROBS * len(lengths):
        return
    plain = arena.new_wire(candidates[0])
    if plain.asks_for_logprobs:  # the prompt file does, for all its prompts
        return
    wires = [arena.new_wire(candidate, alternatives=ALTERNATIVES) for candidate in candidates]
    was_refused = plain.asked(sample).key in arena.recorder.cassette
    if not wires[0].asks_for_logprobs or was_refused or not arena.takes(wires[0], sample):
        return
    for candidate, wire in zip(candidates, wires, strict=True):
        arena.use(candidate, wire)


def probabilities(arena: Arena, candidate: Prompt, samples: Sequence[Sample]) -> list[Mapping[str, float]]:
    """Return for each sample how likely each label was; ``{}`` where that is not known."""
    told = {outcome.sample.case_name: outcome.told for outcome in known_outcomes(arena, candidate, samples)}
    return [told.get(sample.case_name, {}) for sample in samples]


def log_loss(arena: Arena, candidate: Prompt, samples: Sequence[Sample]) -> float | None:
    """Return the mean loss of the right labels in nats; ``None`` where the API told no probabilities."""
    if not samples or not arena.wire(candidate).asks_for_logprobs:
        return None
    losses = [
        WORST if not o.best else -math.log(max(o.told[o.sample.label], LEAST)) if o.told else None
        for o in arena.outcomes(candidate, samples)
    ]
    known = [loss for loss in losses if loss is not None]
    return math.fsum(known) / len(known) if len(known) == len(losses) else None


def neglected_label(arena: Arena, candidate: Prompt, samples: Sequence[Sample]) -> str | None:
    """Return the label that a candidate says much too rarely though it can tell the labels apart.

    That is bias, not ignorance: other orders of its examples may mend it. Only what is known is looked at.
    """
    known = known_outcomes(arena, candidate, samples)
    seen = [outcome.sample for outcome in known]
    rare = neglected([sample.label for sample in seen], [outcome.best for outcome in known])
    area = ranking_auc([sample.label for sample in seen], probabilities(arena, candidate, seen)) if rare else None
    return rare if area is not None and area >= ABLE else None


def harness_replies(
    arena: Arena, candidate: Prompt, samples: Sequence[Sample]
) -> Iterator[tuple[str, Recorded | None]]:
    """Yield for each answer that the harness wants the key that it looks for, and the reply recorded here in its form.

    A harness that asks for no log-probabilities finds them nowhere: a reply that came with them is the same without.
    """
    wire, plain, repeats = arena.wire(candidate), arena.new_wire(candidate), arena.parsed.config.repeats
    for sample in samples:
        for asked, sent in zip(plain.questions(sample, repeats), wire.questions(sample, repeats), strict=True):
            recorded = arena.recorder.cassette.find(sent.key)
            if recorded and wire.asks_for_logprobs and not plain.asks_for_logprobs:
                body = without_logprobs(recorded.body)
                recorded = replace(recorded, key=asked.key, request_body=asked.body, body=body)
            yield asked.key, recorded
