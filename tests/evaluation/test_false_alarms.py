"""Over a whole run of many prompts chance alone does not fail it, and a real drop is found all the same."""

from __future__ import annotations

import random

from pytest_promptfit.chat.reply import ChatReply
from pytest_promptfit.evaluation.baseline import Comparison
from pytest_promptfit.evaluation.gates import GateResult
from pytest_promptfit.evaluation.outcomes import Evaluation, Outcome
from pytest_promptfit.evaluation.verdicts import PromptResult, settled
from pytest_promptfit.prompts.samples import Sample

PROMPTS, SAMPLES, RUNS = 200, 100, 40
SEED = 20261125
EVALUATION = Evaluation("p", "p", "m", "h", ("a",), (Outcome(Sample("a", "a", "a"), ChatReply("a"), "a"),))


def recorded(draw: random.Random, accuracies: list[float]) -> list[bool]:
    """Return which samples a model gets right in one recording: each with a chance of its own."""
    return [draw.random() < accuracy for accuracy in accuracies]


def compared(before: list[bool], now: list[bool]) -> PromptResult:
    """Return how one recording of a prompt compares with another one, not yet judged."""
    pairs = list(zip(before, now, strict=True))
    comparison = Comparison(
        reference="main",
        before=sum(before),
        fixed=("sample",) * pairs.count((False, True)),
        broken=("sample",) * pairs.count((True, False)),
        shared=len(pairs),
        added=0,
        removed=0,
        accuracy=None,
    )
    return PromptResult(EVALUATION, (comparison,), (GateResult("regression", None, ""),), ("sample-a",))


def chances(draw: random.Random) -> list[float]:
    """Return how often each sample of a prompt comes out right: most are sure, some flip from reply to reply."""
    return [draw.choice((1.0, 1.0, 1.0, 1.0, 0.0, 0.9, 0.7, 0.5)) for _ in range(SAMPLES)]


def test_a_run_over_many_unchanged_noisily_recorded_prompts_is_green() -> None:
    """Of runs over 200 prompts at alpha 0.05 at least 95 % are green; each gate alone would fail ten a run."""
    draw = random.Random(SEED)
    green = alone = 0
    for _ in range(RUNS):
        prompts = [chances(draw) for _ in range(PROMPTS)]
        results = [compared(recorded(draw, one), recorded(draw, one)) for one in prompts]
        alone += sum(settled([result])[0].is_worse for result in results)
        green += not any(result.is_worse for result in settled(results))
    print(f"green: {green} of {RUNS}; false alarms with each gate alone: {alone / RUNS:.1f} a run")
    assert green >= RUNS * 0.95
    assert alone / RUNS > 3


def test_a_real_drop_of_one_prompt_among_many_is_found() -> None:
    draw = random.Random(SEED)
    found = 0
    for _ in range(RUNS):
        prompts = [chances(draw) for _ in range(PROMPTS)]
        before = [recorded(draw, one) for one in prompts]
        now = [recorded(draw, one) for one in prompts]
        for number in draw.sample([at for at, ok in enumerate(now[0]) if ok], SAMPLES // 4):
            now[0][number] = False
        results = settled([compared(*pair) for pair in zip(before, now, strict=True)])
        found += results[0].is_worse
    print(f"found: {found} of {RUNS}")
    assert found > RUNS * 0.6
