"""Candidates that need no optimizer model: formats that can be read, and sets of few-shot examples.

Pure: everything random comes from the generators that are passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_promptfit.prompts.labels import words_of
from pytest_promptfit.prompts.model import Example

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_promptfit.prompts.model import Prompt
    from pytest_promptfit.prompts.samples import Sample

T = TypeVar("T")

LONGEST_EXAMPLE = 600
"""Characters; a longer text is not taken as an example."""

LONGEST_SET = 6000
"""Characters that all examples of a prompt may take together."""

SPREAD_POOL = 1000
"""Samples that are compared to spread examples out: each with each other, so that all of a large set take too long."""

SIZES = (4, 8, 16)
REPLY_PREFIX = "Label: <label>"


@dataclass(frozen=True)
class Candidate:
    """A prompt that is proposed, what is new about it, in a few words, and the ids of the samples it is made for."""

    prompt: Prompt
    summary: str
    targets: tuple[str, ...] = ()


def changed(prompt: Prompt, **fields: object) -> Prompt:
    """Return the prompt with other values in some of its fields."""
    return prompt.model_copy(update=fields)


def format_variants(prompt: Prompt, labels: Sequence[str], *, edit: frozenset[str]) -> Iterator[Candidate]:
    """Yield variants whose replies are easier to read: the labels asked for one by one, a reply prefix, both."""
    words = [*words_of(labels, prompt.label_words).values()]
    tags = " or ".join(filter(None, (", ".join(map(_tag, words[:-1])), _tag(words[-1]))))
    asked = f"{prompt.user_prompt_suffix.rstrip()}\nAnswer with exactly one of {tags}, and nothing else."
    if "bot_reply_prefix" in edit:
        yield Candidate(changed(prompt, bot_reply_prefix=REPLY_PREFIX), "begin the reply with the label's tag")
    if "user_prompt_suffix" in edit:
        yield Candidate(changed(prompt, user_prompt_suffix=asked), "ask for exactly one of the labels")
    if {"user_prompt_suffix", "bot_reply_prefix"} <= edit:
        both = changed(prompt, user_prompt_suffix=asked, bot_reply_prefix=REPLY_PREFIX)
        yield Candidate(both, "ask for exactly one of the labels, begin the reply with its tag")


def _tag(word: str) -> str:
    return f"<label>{word}</label>"


def example_sets(
    pool: Sequence[Sample], labels: Sequence[str], mistakes: Sequence[Sample], rng: random.Random, count: int
) -> Iterator[tuple[tuple[Example, ...], str]]:
    """Yield up to ``count`` sets of examples with a few words about each: random, from mistakes, spread out.

    Every set is balanced over the labels as far as its size and the pool allow.
    """
    usable = [sample for sample in pool if len(sample.text) <= LONGEST_EXAMPLE]
    largest = max(len(labels), min(max(SIZES), len(usable) // 2))
    sizes = [size for size in SIZES if size <= largest] or [min(largest, len(usable))]
    plans = [("spread out", size) for size in sizes[:2]]
    plans += [("half mistakes", sizes[min(1, len(sizes) - 1)])] if mistakes else []
    at = 0
    while len(plans) < count:
        plans.append(("random", sizes[(1, 1, 0, 2)[at % 4] % len(sizes)]))
        at += 1
    seen = set()
    for kind, size in plans[:count]:
        chosen = _draw(kind, size, usable, labels, mistakes, rng)
        examples = fitting(chosen)
        if examples and examples not in seen:
            seen.add(examples)
            yield examples, f"{len(examples)} examples, {kind}"


def reordered(prompt: Prompt, rare: str) -> Iterator[Candidate]:
    """Yield the prompt with its examples in other orders; small models lean towards what they saw last.

    ``rare`` is the label that should be answered more often. Source: Zhao et al. (2021), Calibrate Before Use.
    """
    examples = prompt.examples
    of_rare = [example for example in examples if example.label == rare]
    others = [example for example in examples if example.label != rare]
    orders = (
        (f"examples of {rare} last", [*others, *of_rare]),
        (f"examples of {rare} first", [*of_rare, *others]),
        ("examples in reverse", examples[::-1]),
    )
    for summary, order in orders:
        if tuple(order) != examples:
            yield Candidate(changed(prompt, examples=tuple(order)), summary)


def _draw(
    kind: str,
    size: int,
    pool: Sequence[Sample],
    labels: Sequence[str],
    mistakes: Sequence[Sample],
    rng: random.Random,
) -> list[Sample]:
    order = shuffled(pool, rng)
    if kind == "spread out":
        order = farthest_first(balanced(order, labels, SPREAD_POOL) if len(order) > SPREAD_POOL else order)
    if kind == "half mistakes":
        wrong = {sample.id for sample in mistakes}
        half = [sample for sample in order if sample.id in wrong][: size // 2]
        order = [*half, *(sample for sample in order if sample.id not in wrong)]
    return shuffled(balanced(order, labels, size), rng)


def shuffled(items: Sequence[T], rng: random.Random) -> list[T]:
    """Return the items in random order; ``Random.shuffle`` may differ from one Python to the next, this does not."""
    return [item for _, _, item in sorted((rng.random(), at, item) for at, item in enumerate(items))]


def balanced(order: Sequence[Sample], labels: Sequence[str], size: int) -> list[Sample]:
    """Take ``size`` samples in the given order, the labels in turn as long as they last."""
    queues: Mapping[str, list[Sample]] = {label: [s for s in order if s.label == label] for label in labels}
    chosen: list[Sample] = []
    while len(chosen) < size and any(queues.values()):
        for label in labels:
            if queues[label] and len(chosen) < size:
                chosen.append(queues[label].pop(0))
    return chosen


def fitting(samples: Sequence[Sample]) -> tuple[Example, ...]:
    """Return examples of the samples, as many as fit."""
    examples: list[Example] = []
    used = 0
    for sample in samples:
        used += len(sample.text)
        if used <= LONGEST_SET:
            examples.append(Example(text=sample.text, label=sample.label))
    return tuple(examples)


def farthest_first(samples: Sequence[Sample]) -> list[Sample]:
    """Order samples so that each is as far as can be from those before it (Gonzalez 1985).

    Distance is the cosine distance of character n-gram TF-IDF; the first sample stays the first.
    """
    if len(samples) < 3:
        return list(samples)
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)).fit_transform([s.text for s in samples])

    def likeness(index: int) -> Any:
        """Return how like a sample each is; one at a time, because all of them take the square of the samples."""
        return (vectors @ vectors[index].T).toarray().ravel()

    order, left = [0], set(range(1, len(samples)))
    nearest = likeness(0)
    while left:
        at = min(left, key=lambda index: (round(float(nearest[index]), 9), index))
        order.append(at)
        left.remove(at)
        nearest = nearest.clip(min=likeness(at))
    return [samples[at] for at in order]
