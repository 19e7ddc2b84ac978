"""Examples that are spread out over the training samples, however many those are."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from pytest_promptfit.prompts.samples import Sample
from pytest_promptfit.tuning.candidates import example_sets, farthest_first


def sample(at: int, text: str, label: str) -> Sample:
    return Sample(str(at), text, label)


def test_each_is_as_far_as_can_be_from_those_before() -> None:
    texts = ["a red apple", "a red apples", "the blue sea", "a red appl", "the blue seas", "zzz qqq"]
    order = farthest_first([sample(at, text, "x") for at, text in enumerate(texts)])
    assert order[0].text == "a red apple"
    assert {one.text for one in order[1:3]} <= {"zzz qqq", "the blue sea", "the blue seas"}
    assert len(order) == len(texts)


@pytest.mark.endurance
def test_a_large_set_takes_no_memory_of_its_square_and_keeps_its_rare_label() -> None:
    words = [f"word{at}" for at in range(500)]
    rng = random.Random(1)
    pool = [sample(at, " ".join(rng.choices(words, k=8)), "rare" if at == 9_000 else "often") for at in range(12_000)]
    tracemalloc.start()
    found = list(example_sets(pool, ["often", "rare"], [], random.Random(2), 3))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12_000**2  # a byte for each pair; likenesses take eight
    examples = next(examples for examples, kind in found if "spread out" in kind)
    assert {example.label for example in examples} == {"often", "rare"}
