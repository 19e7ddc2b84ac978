"""The verdict on a prompt or a tuning run in sentences: better, worse or the same, how sure, at what cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_promptfit.metrics import paired_difference_interval, wilson_interval
from pytest_promptfit.report.html.marks import percent, points, probability

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.baseline import Comparison
    from pytest_promptfit.evaluation import Evaluation, Usage
    from pytest_promptfit.tune.result import Holdout, TuneResult
    from pytest_promptfit.verdicts import PromptResult

Tone = Literal["better", "worse", "same", "open"]

ALPHA = 0.05
"""The level where no gate says another one."""


@dataclass(frozen=True)
class Verdict:
    """What is said first: a headline, and the sentences that stand behind it."""

    tone: Tone
    headline: str
    sentences: tuple[str, ...]

    @property
    def lead(self) -> str:
        """The words before the figures."""
        return self.headline.partition(": ")[0]

    @property
    def figures(self) -> str:
        """The figures of the headline, if there are any."""
        return self.headline.partition(": ")[2]


def change_of(result: PromptResult) -> Comparison | None:
    """Return what changed since the baseline; ``None`` where nothing can be compared."""
    return result.comparison if result.comparison and result.comparison.shared else None


def verdict_on(result: PromptResult) -> Verdict:
    """Return the verdict on a prompt against its baseline."""
    evaluation, change = result.evaluation, change_of(result)
    cost = (cost_sentence(evaluation.usage),) if evaluation.usage.calls else ()
    if change is None:
        return Verdict("open", _standing(evaluation), (*_why_open(result), *_asides(result), *cost))
    tone = tone_of(result, change)
    return Verdict(tone, _headline(tone, change), (*_sureness(tone, change), *_asides(result), *cost))


def tone_of(result: PromptResult, change: Comparison) -> Tone:
    """Return which way the prompt went beyond chance; the regression gate decides what is worse."""
    p_worse = change.p_value
    gate = next((gate.passed for gate in result.gates if gate.name == "regression"), None)
    if gate is False or (gate is None and p_worse <= ALPHA):
        return "worse"
    return "better" if 1 - p_worse <= ALPHA and len(change.fixed) > len(change.broken) else "same"


def _headline(tone: Tone, change: Comparison) -> str:
    if change.is_unchanged:
        return f"The same as the baseline: {percent(change.now / change.shared)} right"
    said = {
        "better": "Better than the baseline",
        "worse": "Worse than the baseline",
        "same": "No different from the baseline beyond chance",
    }[tone]
    before, now = percent(change.before / change.shared), percent(change.now / change.shared)
    return f"{said}: {before} → {now} right, {points(change.change)} points"


def _sureness(tone: Tone, change: Comparison) -> Iterator[str]:
    if change.is_unchanged:
        yield f"Each of the {change.shared:,} cases they share came out as before."
        return
    yield f"Fixed {len(change.fixed):,}, broke {len(change.broken):,} of the {change.shared:,} cases they share."
    low, high = change.interval
    yield f"The change in accuracy lies between {points(low)} and {points(high)} points (95\u00a0% interval)."
    if tone != "same":
        yield _chance("drop" if tone == "worse" else "gain", p_of(change, tone))


def p_of(change: Comparison, tone: Tone) -> float:
    """Return the one-sided p-value that speaks for the tone."""
    return change.p_value if tone == "worse" else change.p_of_change


def _chance(what: str, p_value: float) -> str:
    often = "less than 0.1\u00a0%" if p_value < 0.001 else percent(p_value)
    return f"Were nothing changed, a {what} this clear would come in {often} of runs ({probability(p_value)})."


def _standing(evaluation: Evaluation) -> str:
    confusion = evaluation.confusion
    if confusion.total:
        return f"{percent(confusion.correct / confusion.total)} right, and no baseline to compare with"
    if evaluation.canonical and not evaluation.unanswered:
        right = sum(outcome.correct for outcome in evaluation.canonical)
        return f"{right} of {len(evaluation.canonical)} canonical cases are right"
    return "Nothing could be judged: no case has a reply" if evaluation.outcomes else "No case was selected"


def _why_open(result: PromptResult) -> Iterator[str]:
    confusion = result.evaluation.confusion
    if confusion.total:
        low, high = wilson_interval(confusion.correct, confusion.total)
        yield (
            f"{confusion.correct:,} of {confusion.total:,} labeled cases are right "
            f"(95\u00a0% interval {percent(low)} to {percent(high)})."
        )
    if result.comparison is None:
        yield "There is no baseline yet: pytest --promptfit --promptfit-update writes it."
    elif confusion.total:
        yield "No labeled case is in the baseline: pytest --promptfit --promptfit-update renews it."


def _asides(result: PromptResult) -> Iterator[str]:
    evaluation, comparison, baseline = result.evaluation, result.comparison, result.baseline
    unanswered = len(evaluation.unanswered)
    if unanswered:
        what = "labeled case has" if unanswered == 1 else "labeled cases have"
        yield f"{unanswered:,} {what} no recorded reply and cannot be counted."
    if comparison is None or baseline is None:
        return
    if comparison.other_models:
        yield f"The baseline is of another model, {', '.join(comparison.other_models)}."
    if comparison.added or comparison.removed:
        yield f"Since the baseline {comparison.added} cases were added, and {comparison.removed} removed or not run."


def cost_sentence(usage: Usage) -> str:
    """Return what a forward pass took, in words."""
    tokens = f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out"
    asked = usage.calls - usage.replayed
    if not asked:
        return f"Cost: nothing, all {usage.calls:,} replies were replayed from recordings ({tokens})."
    paid = "an unknown price" if usage.usd is None else dollars(usage.usd)
    return f"Cost: {paid} for {asked:,} of {usage.calls:,} replies, the others were replayed ({tokens})."


def dollars(usd: float | None) -> str:
    """Return an amount in USD with as many digits as say something."""
    if usd is None:
        return "unknown"
    return f"${usd:,.2f}" if usd == 0 or usd >= 1 else f"${usd:.4f}"


def verdict_on_tuning(result: TuneResult) -> Verdict:
    """Return the verdict on a tuning run: only the holdout says how much was gained."""
    sentences = [f"{_capital(result.reason)}.", *_holdout_sentences(result.holdout), *_canonical_sentence(result)]
    if not result.accepted:
        return Verdict("same", "Tuning left the prompt as it was", (*sentences, _tuning_cost(result)))
    holdout = result.holdout
    if holdout is None or not holdout.n:
        return Verdict("better", "Tuning improved the prompt", (*sentences, _tuning_cost(result)))
    gain = (holdout.after - holdout.before) / holdout.n
    figures = f"{percent(holdout.before / holdout.n)} → {percent(holdout.after / holdout.n)} right"
    headline = (
        f"Tuning {'improved' if gain > 0 else 'changed'} the prompt: {figures} on the holdout, {points(gain)} points"
    )
    return Verdict("better", headline, (*sentences, _tuning_cost(result)))


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _holdout_sentences(holdout: Holdout | None) -> Iterator[str]:
    if holdout is None:
        return
    if not holdout.n:
        yield "There was no holdout to confirm it."
        return
    yield (
        f"On {holdout.n} holdout samples that no decision had looked at it fixed {holdout.fixed} and broke "
        f"{holdout.broken} ({probability(holdout.p_value)})."
    )
    low, high = paired_difference_interval(holdout.broken, holdout.fixed, holdout.n)
    yield f"The change in accuracy lies between {points(low)} and {points(high)} points (95\u00a0% interval)."


def _canonical_sentence(result: TuneResult) -> Iterator[str]:
    if result.canonical_total:
        yield (
            f"Canonical samples right: {result.canonical_before} of {result.canonical_total} before, "
            f"{result.canonical_after} after."
        )


def _tuning_cost(result: TuneResult) -> str:
    usage = result.usage
    needed = usage.task_calls + usage.optimizer_calls
    if not needed:
        return "Cost: nothing, no call was needed."
    replayed = "all replayed" if usage.replayed == needed else f"{usage.replayed:,} replayed"
    return (
        f"Cost: {dollars(usage.paid_usd)} paid now; {usage.task_calls:,} task calls and "
        f"{usage.optimizer_calls:,} optimizer calls were needed, {replayed}."
    )


def overall(verdicts: Sequence[Verdict], failed: int) -> Verdict:
    """Return the verdict over several prompts; ``failed`` of them have a failed case or gate."""
    total = len(verdicts)
    counts = {tone: sum(v.tone == tone for v in verdicts) for tone in ("worse", "better", "same", "open")}
    words = {"worse": "worse", "better": "better", "same": "no different", "open": "without a baseline"}
    tone: Tone = "worse" if counts["worse"] else "better" if counts["better"] and not failed else "same"
    lead = {
        "worse": f"{counts['worse']} of {total} prompts got worse",
        "better": f"{counts['better']} of {total} prompts got better, none worse",
    }.get(tone, f"None of {total} prompts got worse")
    others = {word: counts[one] for one, word in words.items() if counts[one] and (one != tone or tone == "same")}
    listed = ", ".join(f"{count} {word}" for word, count in others.items())
    failing = f"{failed} with a failed case or gate" if failed else "no case or gate fails"
    return Verdict(tone, f"{lead}: {'; '.join(filter(None, (listed, failing)))}", ())
