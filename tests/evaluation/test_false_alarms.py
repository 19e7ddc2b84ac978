"""Chance alone fails neither a run over many prompts nor a canary, and a real drop is found all the same."""

from __future__ import annotations

import random

import pytest

from pytest_promptfit.chat.reply import ChatReply
from pytest_promptfit.evaluation.baseline import Comparison
from pytest_promptfit.evaluation.canary import ALLOWED, Canary
from pytest_promptfit.evaluation.gates import GateResult
from pytest_promptfit.evaluation.noise import noise_of
from pytest_promptfit.evaluation.outcomes import Evaluation, Outcome
from pytest_promptfit.evaluation.verdicts import PromptResult, settled
from pytest_promptfit.prompts.samples import Sample
from pytest_promptfit.providers.usage import Usage

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


CANARIES = 600
COLD = (1.0,) * 80 + (0.0,) * 18 + (0.5,) * 3
"""How often samples come out right at temperature 0: nearly all always or never, so 1.5 % of labels differ."""
WARM = (1.0, 1.0, 1.0, 1.0, 0.0, 0.9, 0.7, 0.5)
HOT = (0.9, 0.8, 0.7, 0.6, 0.5)


def watched(
    draw: random.Random, often: tuple[float, ...], answers: int, samples: int, asked: int, drop: float
) -> Canary:
    """Return a canary over samples that come out right so ``often``; a share ``drop`` of them is wrong from now on."""
    chance = [draw.choice(often) for _ in range(samples)]
    before = [[str(draw.random() < one) for _ in range(answers)] for one in chance]
    chosen = draw.sample(range(samples), asked)
    now = {at: str(draw.random() >= drop and draw.random() < chance[at]) for at in chosen}
    noise = noise_of(before)
    return Canary(
        before=sum(before[at][0] == "True" for at in chosen),
        fixed=tuple(str(at) for at in chosen if (before[at][0], now[at]) == ("False", "True")),
        broken=tuple(str(at) for at in chosen if (before[at][0], now[at]) == ("True", "False")),
        shared=asked,
        name="p",
        path="p",
        model="m",
        differing=tuple(str(at) for at in chosen if before[at][0] != now[at]),
        wanted=asked,
        drawn=asked,
        unanswered=(),
        noise=noise,
        expected=max(ALLOWED, noise.disagreement) if noise else ALLOWED,
        alpha=0.05,
        level=0.05,
        answered_by="",
        usage=Usage(),
    )


@pytest.mark.parametrize(("often", "answers"), [(COLD, 1), (WARM, 3), (HOT, 2), (HOT, 3)])
@pytest.mark.parametrize(("samples", "asked"), [(60, 20), (164, 60)])
def test_canaries_over_an_unchanged_model_stay_below_their_alpha(
    often: tuple[float, ...], answers: int, samples: int, asked: int
) -> None:
    draw = random.Random(SEED)
    alarms = sum(watched(draw, often, answers, samples, asked, 0.0).has_drifted for _ in range(CANARIES))
    print(f"{alarms} false alarms of {CANARIES}")
    assert alarms <= 0.05 * CANARIES


@pytest.mark.parametrize(("often", "answers", "asked", "least"), [(COLD, 1, 30, 0.8), (WARM, 3, 60, 0.8)])
def test_canaries_find_a_model_that_gets_three_in_ten_wrong_from_now_on(
    often: tuple[float, ...], answers: int, asked: int, least: float
) -> None:
    draw = random.Random(SEED)
    found = sum(watched(draw, often, answers, 60, asked, 0.3).has_drifted for _ in range(CANARIES // 4))
    print(f"found: {found} of {CANARIES // 4}")
    assert found >= least * CANARIES // 4
