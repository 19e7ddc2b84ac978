"""A canary: recorded samples asked again, live. Has the model changed under a prompt that nobody touched?

Nothing is recorded but in a temporary folder. Two things are looked at, and share the alpha: whether the answers are
worse (the regression gate's paired test), and whether more labels differ than noise explains.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.evaluation.baseline import USUAL_ALPHA
from pytest_promptfit.evaluation.forward import forward, replayed
from pytest_promptfit.evaluation.metrics import Paired, benjamini_hochberg, beta_binomial_tail, binomial_tail
from pytest_promptfit.evaluation.noise import Noise, noise_of
from pytest_promptfit.evaluation.served import said_of_another, served_by
from pytest_promptfit.prompts.read import asked_times
from pytest_promptfit.providers import where_a_key_goes
from pytest_promptfit.providers.own import OURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_promptfit.evaluation.forward import Asking
    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.prompts.read import ParsedPrompt
    from pytest_promptfit.prompts.samples import Sample, SampleSet
    from pytest_promptfit.providers.own import Custom
    from pytest_promptfit.providers.usage import Usage

NOISE = "noise"
"""Among the recordings of a prompt: several answers to each question, where the harness asks for fewer."""

ALLOWED = 0.05
"""The share of labels that may differ at temperature 0 by noise, however little was measured: 21 of 400 labels of an
unchanged 0.5B model under llama.cpp did, since what it has read before changes the last digits."""


@dataclass(frozen=True)
class Canary(Paired):
    """Recorded samples and what the model says to them now, each asked once.

    ``differing`` are the cases whose label is another one now, ``wanted`` says how many samples were to be asked,
    ``drawn`` how many were, for no more are recorded; ``unanswered`` lists why some have no reply, each cause with its
    count. ``noise`` is what was measured, ``None`` where nothing was. ``expected`` is the share of labels that may
    differ by noise; where it is ``None`` nobody knows, and labels are not judged. ``level`` is what ``p_drift`` must
    not exceed: ``alpha``, or its share where a run has several canaries.
    """

    name: str
    path: str
    model: str
    differing: tuple[str, ...]
    wanted: int
    drawn: int
    unanswered: tuple[tuple[str, int], ...]
    noise: Noise | None
    expected: float | None
    alpha: float
    level: float
    answered_by: str
    usage: Usage
    key_went: tuple[str, ...] = ()
    """Which server the prompt file had a key sent to, if any."""

    @property
    def p_labels(self) -> float | None:
        """How probable so many other labels are by noise alone; ``None`` where the noise is not known."""
        if self.expected is None:
            return None
        return p_of_differing(len(self.differing), self.shared, self.noise)

    @property
    def p_drift(self) -> float:
        """How probable what was seen is without any change: twice the smaller p where both are judged (Bonferroni)."""
        if self.p_labels is None:
            return self.p_value
        return min(1.0, 2 * min(self.p_value, self.p_labels))

    @property
    def has_drifted(self) -> bool:
        """Whether the model answers otherwise beyond chance."""
        return self.p_drift <= self.level

    @property
    def fails(self) -> bool:
        """Whether the run fails: for a drift, and where nothing was answered that could show one."""
        return self.has_drifted or not self.shared


def watch(
    parsed: ParsedPrompt,
    sample_set: SampleSet,
    samples: Sequence[Sample],
    recordings: Path,
    wanted: int,
    asking: Asking,
    custom: Custom = OURS,
) -> Canary:
    """Ask ``wanted`` of the recorded ``samples`` again, drawn at random, and return what is different.

    The first answer that is recorded is compared with one answer now, so that both were drawn alike, however often the
    file has samples asked. Raises PromptfitError where nothing is recorded, or nobody can be asked.
    """
    recorded = replayed(parsed, sample_set.labels, samples, recordings, custom=custom)
    before = {one.sample.case_name: one for one in recorded if one.reply is not None}
    if not before:
        raise PromptfitError("nothing is recorded that could be asked again: --promptfit-record comes first")
    drawn = SystemRandom().sample(sorted(before), min(wanted, len(before)))
    once, asked = asked_times(parsed, 1), [before[name].sample for name in drawn]
    with tempfile.TemporaryDirectory(prefix="promptfit-canary-") as folder:
        now = forward(once, sample_set, asked, Path(folder), asking=asking, custom=custom)
    noise = noise_of([one.answers for one in recorded]) or measured_noise(parsed, sample_set, recordings, custom=custom)
    is_cold = parsed.config.all_params.get("temperature") == 0
    regression = parsed.config.gates.regression
    alpha = regression.alpha if regression else USUAL_ALPHA
    # What is not asked because another one failed has the same cause.
    causes = Counter(one.error.removeprefix("not asked: ") for one in now.outcomes if one.reply is None)
    pairs = ((old, now.by_case.get(name)) for name, old in before.items())
    answered = [(old, new) for old, new in pairs if new is not None and new.reply is not None]
    return Canary(
        **_moved(answered),
        name=now.name,
        path=now.path,
        model=now.model,
        wanted=wanted,
        drawn=len(drawn),
        unanswered=tuple(causes.most_common()),
        noise=noise,
        expected=max(ALLOWED, noise.disagreement) if noise else ALLOWED if is_cold else None,
        alpha=alpha,
        level=alpha,
        answered_by=said_of_another(served_by(old.reply for old, _ in answered if old.reply), now.served, is_part=True),
        usage=now.usage,
        key_went=tuple(where_a_key_goes(parsed.config.model)),
    )


def _moved(pairs: Sequence[tuple[Outcome, Outcome]]) -> dict[str, Any]:
    """Return what is different between the recorded answers and those of now, by the fields of a canary."""
    seen = [(new.sample.case_name, _first(old), new.given, new.sample.label) for old, new in pairs]
    return {
        "before": sum(old == label for _, old, _, label in seen),
        "fixed": tuple(name for name, old, new, label in seen if old != label == new),
        "broken": tuple(name for name, old, new, label in seen if old == label != new),
        "shared": len(seen),
        "differing": tuple(name for name, old, new, _ in seen if old != new),
    }


def _first(outcome: Outcome) -> str | None:
    return outcome.answers[0] if outcome.answers else outcome.given


def sharing_alpha(canaries: Sequence[Canary]) -> list[Canary]:
    """Return the canaries of a run with the level of each: they share their alpha, by Benjamini and Hochberg."""
    levels = benjamini_hochberg([one.p_drift for one in canaries], [one.alpha for one in canaries])
    return [replace(one, level=level) for one, level in zip(canaries, levels, strict=True)]


def measured_noise(
    parsed: ParsedPrompt, sample_set: SampleSet, recordings: Path, *, custom: Custom = OURS
) -> Noise | None:
    """Return the noise that ``promptfit noise`` has measured of the prompt as it is; ``None`` where it has not."""
    folder = recordings / NOISE
    answers = 1 + max((one.repeat for one in Cassette.load(folder)), default=0)
    if answers == 1:
        return None
    found = replayed(asked_times(parsed, answers), sample_set.labels, sample_set.labeled, folder, custom=custom)
    return noise_of([one.answers for one in found])


def p_of_differing(differing: int, shared: int, noise: Noise | None) -> float:
    """Return how probable it is that at least ``differing`` of ``shared`` labels are others by noise alone.

    Noise is at least ``ALLOWED``: the exact binomial tail. Where it was measured, on finitely many samples, what they
    leave open counts too: the tail of the beta-binomial, Jeffreys' prior and as many samples as were measured. The
    larger of the two is returned.
    """
    by_allowance = binomial_tail(differing, shared, ALLOWED)
    if noise is None:
        return by_allowance
    differed = noise.disagreement * noise.samples
    measured = beta_binomial_tail(differing, shared, differed + 0.5, noise.samples - differed + 0.5)
    return max(by_allowance, measured)
