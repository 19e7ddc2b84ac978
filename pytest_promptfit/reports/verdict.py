"""The verdict on a prompt in one line, so that terminal, GitHub, page and JSON say the same of a result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_promptfit.evaluation.baseline import USUAL_ALPHA
from pytest_promptfit.prompts.labels import ABSTAINED
from pytest_promptfit.text import counted, percent, plain, points, probability

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.evaluation.baseline import Comparison
    from pytest_promptfit.evaluation.noise import Noise
    from pytest_promptfit.evaluation.outcomes import Evaluation
    from pytest_promptfit.evaluation.verdicts import PromptResult

Tone = Literal["worse", "better", "same", "open"]
"""Which way a prompt went; ``open`` where nothing can be compared."""

MANY_PROMPTS = 10
"""With more, those that pass are only counted."""

MOST_LINES = 50
"""Failing prompts that are named, however many there are."""

FEW_TO_BE_SWALLOWED = 10
"""With fewer samples one answer may well be given to all."""

SWALLOWED, FAIR = 0.9, 2 / 3
"""One answer has swallowed the rest when so large a share is read as it, and no more than a fair one should be."""

NOT_RECORDED = "not recorded: "
"""How the error of an outcome begins whose reply is not recorded."""


@dataclass(frozen=True)
class Verdict:
    """What is said of a prompt first: which way it went, its figures, and why it fails if it does."""

    name: str
    tone: Tone
    lead: str
    figures: str = ""
    asides: tuple[str, ...] = ()
    fails: bool = False
    reasons: tuple[str, ...] = ()
    """What else than being worse makes it fail."""
    is_undecided: bool = False
    """Whether it neither fails nor passes, because its gates are deselected, or replies are still to come."""
    is_waiting: bool = False

    @property
    def sentence(self) -> str:
        """The verdict without the name and whether it fails."""
        return "; ".join((f"{self.lead}: {self.figures}" if self.figures else self.lead, *self.asides))

    @property
    def end(self) -> str:
        """Whether it fails, and what for."""
        if self.is_undecided:
            return "Not judged yet." if self.is_waiting else "Not judged: gates deselected."
        if not self.fails:
            return "Passes."
        return f"Fails: {', '.join(self.reasons)}." if self.reasons else "Fails."

    @property
    def line(self) -> str:
        """The one line."""
        return f"{self.name}: {self.sentence}. {self.end}"


def verdict_on(result: PromptResult) -> Verdict:
    """Return the verdict on a prompt: by the reference that fails it, else the first git ref, else its baseline."""
    tone, lead, figures = _standing(result)
    fails = result.fails or bool(result.refusal)
    return Verdict(
        name=plain(f"{result.evaluation.name}{f' under {other}' if (other := result.evaluation.other_model) else ''}"),
        tone=tone,
        lead=lead,
        figures=figures,
        asides=tuple(_asides(result)),
        fails=fails,
        reasons=tuple(_reasons(result)),
        is_undecided=(result.is_undecided or result.is_waiting) and not fails,
        is_waiting=result.is_waiting,
    )


def verdict_lines(results: Sequence[PromptResult]) -> Iterator[tuple[str, bool | None]]:
    """Yield a line a prompt with whether it fails, ``None`` where its gates are deselected.

    Of many prompts only those that fail have one, the worst first, and the others are counted.
    """
    verdicts = [verdict_on(result) for result in results]
    if len(verdicts) <= MANY_PROMPTS:
        yield from ((one.line, None if one.is_undecided else one.fails) for one in verdicts)
        return
    failing = sorted((one for one in verdicts if one.fails), key=lambda one: one.tone != "worse")
    yield from ((one.line, True) for one in failing[:MOST_LINES])
    if len(failing) > MOST_LINES:
        yield f"and {len(failing) - MOST_LINES} more prompts fail.", True
    undecided = sum(one.is_undecided for one in verdicts)
    passing = Counter(one.lead.partition(" ")[0] for one in verdicts if not (one.fails or one.is_undecided))
    words = {"unchanged": "unchanged", "better": "better", "not": "not worse", "worse": "worse"}
    kinds = ", ".join(f"{passing[word]} {said}" for word, said in words.items() if passing[word])
    if passing or not undecided:
        yield f"{passing.total()} of {len(verdicts)} prompts pass{f' ({kinds})' if kinds else ''}.", False
    if undecided:
        waiting = sum(one.is_undecided and one.is_waiting for one in verdicts)
        why = ["gates deselected"] * (waiting < undecided) + ["replies are still to come"] * (waiting > 0)
        yield f"{undecided} of {len(verdicts)} prompts are not judged: {', '.join(why)}.", None


def tone_of(result: PromptResult, change: Comparison) -> Tone:
    """Return which way the prompt went beyond chance; the regression gate decides what is worse."""
    # Of a part of the samples nothing is called worse: the others could make up for it.
    gate = next((gate.passed for gate in result.gates if gate.name == "regression"), None)
    if result.is_worse or (gate is None and not result.unselected and change.p_value <= USUAL_ALPHA):
        return "worse"
    return "better" if change.change > 0 and change.p_of_change <= (change.alpha or USUAL_ALPHA) else "same"


def change_of(result: PromptResult) -> Comparison | None:
    """Return what changed since the baseline; ``None`` where nothing can be compared."""
    return result.comparison if result.comparison and result.comparison.shared else None


def noise_line(noise: Noise) -> str:
    """Return the noise of a prompt and its model: ``5.0 % (3 of 60 unstable in 3 answers)``."""
    return f"{percent(noise.share)} ({noise.unstable:,} of {noise.samples:,} unstable in {noise.answers} answers)"


def causes(evaluation: Evaluation) -> list[tuple[str, int]]:
    """Return why samples have no reply, the most frequent cause first, each with the count of its samples."""
    found = Counter(o.error.removeprefix(NOT_RECORDED) for o in evaluation.outcomes if o.reply is None)
    return found.most_common()


def obsolete_replies(evaluation: Evaluation) -> str:
    """Return how many recorded replies nothing asks for any more; empty where that cannot be told yet."""
    if not evaluation.obsolete or any(outcome.reply is None for outcome in evaluation.outcomes):
        return ""
    return f"{evaluation.obsolete} recorded replies are obsolete: --promptfit-prune deletes them"


def _standing(result: PromptResult) -> tuple[Tone, str, str]:
    """Return which way the prompt went, and that in words and figures."""
    evaluation, change = result.evaluation, change_of(result)
    right = evaluation.confusion.correct
    if any(outcome.reply is None for outcome in evaluation.outcomes):
        found = causes(evaluation)
        what = "not recorded" if evaluation.unrecorded else "without a reply"
        lead = f"{sum(count for _, count in found):,} of {len(evaluation.outcomes):,} {what}"
        others = f", and {counted(len(found) - 1, 'other cause')}" if len(found) > 1 else ""
        return "open", lead, f"{plain(found[0][0])}{others}"
    if result.unselected:
        of = counted(len(evaluation.labeled) + result.unselected, "sample")
        moved = f", fixed {len(change.fixed)}, broke {len(change.broken)}" if change else ""
        return "open", f"{len(evaluation.labeled)} of {of} selected", f"{right} right{moved}"
    if not evaluation.labeled:
        canonical = evaluation.canonical
        return "open", "canonical", f"{sum(o.correct for o in canonical)} of {len(canonical)} right"
    if change is None:
        why = "no sample is in the baseline" if result.comparison else "no baseline yet"
        return "open", why, f"{percent(right / len(evaluation.labeled))} right"
    return _compared(result, change)


def _compared(result: PromptResult, change: Comparison) -> tuple[Tone, str, str]:
    before, now = percent(change.before / change.shared), percent(change.now / change.shared)
    reference, tone = plain(change.reference), tone_of(result, change)
    if change.is_unchanged:
        return tone, f"unchanged from {reference}", now
    moved = f"fixed {len(change.fixed)}, broke {len(change.broken)}"
    if tone != "same":
        sure = probability(change.p_value if tone == "worse" else change.p_of_change)
        return tone, f"{tone} than {reference}", f"{before} → {now}, {points(change.change)} points ({moved}, {sure})"
    if change.alpha is not None and not change.can_fail:
        return tone, f"too few samples to compare with {reference}", f"{before} → {now} ({moved})"
    if change.change >= 0:
        return tone, f"not worse than {reference}", f"{before} → {now}"
    dropped = f"{before} → {now}, {points(change.change)} points"
    if change.is_excused_by_alpha:
        why = f"above the file's own alpha {change.alpha:g}"
        return tone, f"not worse than {reference}", f"{dropped}, {why} ({moved}, {probability(change.p_value)})"
    return tone, f"not worse than {reference}", f"{dropped}, within chance ({moved})"


def _asides(result: PromptResult) -> Iterator[str]:
    """Yield what stands beside the comparison.

    That is whether another model answered, how it stands to other git refs, the noise of repeated answers, and which
    answer has swallowed the rest: ``59 of 60 read as neutral``.
    """
    shown = change_of(result)
    if shown and shown.answered_by:
        blame = "the prompt is the same, the model is not" if shown.is_same_prompt else "prompt and model both changed"
        yield f"{shown.answered_by}{'' if shown.is_unchanged else f': {blame}'}"
    if shown and shown.reference in result.against:
        for other in result.comparisons:
            if other.reference in result.against and other is not shown and other.shared:
                before, now = percent(other.before / other.shared), percent(other.now / other.shared)
                yield f"{plain(other.reference)}: {before} → {now}"
    labeled, noise = result.evaluation.labeled, result.evaluation.noise
    if noise:
        yield f"noise {noise_line(noise)}"
    if len(labeled) < FEW_TO_BE_SWALLOWED:
        return
    predicted, count = Counter(outcome.given for outcome in labeled).most_common(1)[0]
    gold = sum(outcome.sample.label == predicted for outcome in labeled)
    if count >= SWALLOWED * len(labeled) and gold <= FAIR * len(labeled):
        what = "without a readable label" if predicted is None else f"read as {plain(predicted)}"
        what = "abstained" if predicted == ABSTAINED else what
        yield f"{count:,} of {len(labeled):,} {what}"


def _reasons(result: PromptResult) -> Iterator[str]:
    """Yield what fails besides the comparison: gates, canonicals, samples of a strict file, an update refused."""
    is_failed_regression = False
    for gate in result.failed_gates:
        if gate.name == "regression":
            is_failed_regression = True
        else:
            looser = f" ({len(gate.samples)} looser)" if gate.name == "contract" and gate.samples else ""
            yield f"gate {plain(gate.name)}{looser}"
    answered = [result.evaluation.by_case[name] for name in result.failed_cases]
    answered = [outcome for outcome in answered if outcome.reply is not None]
    canonical = [plain(outcome.sample.id) for outcome in answered if outcome.sample.canonical]
    if canonical:
        more = f" and {len(canonical) - 3} more" if len(canonical) > 3 else ""
        yield f"canonical {', '.join(canonical[:3])}{more} wrong"
    if len(answered) > len(canonical) and not is_failed_regression:
        yield f"{counted(len(answered) - len(canonical), 'sample')} newly wrong"
    if result.refusal and not is_failed_regression:
        yield "not accepted as its baseline"
