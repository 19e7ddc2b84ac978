"""The terminal summary as lines with their markup: tested without a terminal."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, TypeAlias

from pytest_promptfit.metrics import wilson_interval
from pytest_promptfit.report.text import cut, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_promptfit.evaluation import Evaluation, Outcome, Unrecorded
    from pytest_promptfit.verdicts import PromptResult

Line: TypeAlias = "tuple[str, dict[str, bool]]"
SHOWN_MISSES = 5


def summary(results: Iterable[PromptResult], relative: Callable[[str], str]) -> Iterator[Line]:
    """Yield the summary of each prompt: verdict, gates, table by label, worst misses, usage."""
    for result in results:
        yield from _prompt(result, relative)


def _prompt(result: PromptResult, relative: Callable[[str], str]) -> Iterator[Line]:
    evaluation = result.evaluation
    good = not any(verdict == "failed" for verdict in result.verdicts.values())
    good = good and all(gate.passed is not False for gate in result.gates)
    yield plain(f"{relative(evaluation.path)} ({evaluation.model})"), {"bold": True, "green": good, "red": not good}
    if evaluation.unrecorded and evaluation.unrecorded.is_everything:
        yield from ((f"  {line}", {"yellow": True}) for line in first_steps(result, relative))
        yield from ((f"  note: {plain(note)}", {"yellow": True}) for note in evaluation.notes)
        return
    for line in (accuracy_line(evaluation), canonical_line(evaluation), *_comparison_lines(result)):
        if line:
            yield f"  {line}", {}
    for gate in result.gates:
        verdict = "FAILED" if gate.passed is False else gate.verdict
        yield f"  gate {gate.name}: {verdict}: {gate.detail}", {"red": gate.passed is False}
        if gate.warning:
            yield f"  warning: {gate.warning}", {"yellow": True}
    if evaluation.labeled:
        yield from ((f"  {line}", {}) for line in label_table(evaluation))
    yield from ((f"  {line}", {}) for line in _worst_misses(result))
    yield f"  {usage_line(evaluation)}", {}
    if evaluation.unrecorded:
        yield f"  {unrecorded_line(evaluation.unrecorded, evaluation, relative)}", {"yellow": True}
    if evaluation.obsolete:
        yield (
            f"  {evaluation.obsolete} recorded replies are obsolete: --promptfit-prune deletes them",
            {"yellow": True},
        )
    yield from ((f"  note: {plain(note)}", {"yellow": True}) for note in evaluation.notes)


def first_steps(result: PromptResult, relative: Callable[[str], str]) -> Iterator[str]:
    """Yield three lines for a prompt of which nothing is recorded: what it takes, the command, the baseline."""
    evaluation, unrecorded = result.evaluation, result.evaluation.unrecorded
    assert unrecorded is not None
    path = _typed(evaluation, relative)
    why = ", though there is a baseline: was its cassette folder committed?" if result.comparison else " yet."
    obstacle = f" First: {plain(unrecorded.obstacle)}." if unrecorded.obstacle else ""
    yield f"nothing is recorded{why} Recording takes {unrecorded.estimate.shown}.{obstacle}"
    yield f"record:  pytest --promptfit --promptfit-record {path}"
    if result.comparison:
        yield f"then:    pytest --promptfit {path}  (replays, and compares with the baseline)"
    else:
        yield f"then:    pytest --promptfit --promptfit-update {path}  (accepts the outcomes as baseline; commit it)"


def unrecorded_line(unrecorded: Unrecorded, evaluation: Evaluation, relative: Callable[[str], str]) -> str:
    """Return what records the samples that have no reply, and what it takes."""
    obstacle = f"; first: {plain(unrecorded.obstacle)}" if unrecorded.obstacle else ""
    command = f"pytest --promptfit --promptfit-record {_typed(evaluation, relative)}"
    return f"not recorded: {unrecorded.estimate.shown}: {command}{obstacle}"


def _typed(evaluation: Evaluation, relative: Callable[[str], str]) -> str:
    return plain(shlex.quote(relative(evaluation.path)))


def accuracy_line(evaluation: Evaluation) -> str:
    """Return accuracy with its 95 % Wilson interval, and what is missing."""
    confusion = evaluation.confusion
    unanswered = f", {len(evaluation.unanswered)} without a reply" if evaluation.unanswered else ""
    if not confusion.total:
        return f"no labeled sample was judged{unanswered}"
    low, high = wilson_interval(confusion.correct, confusion.total)
    missing = f", {confusion.missing} without a readable label" if confusion.missing else ""
    return (
        f"accuracy {confusion.correct / confusion.total:.3f} ({confusion.correct} of {confusion.total}), "
        f"95 % interval {low:.3f}-{high:.3f}{missing}{unanswered}"
    )


def canonical_line(evaluation: Evaluation) -> str:
    """Return how many canonical samples are right; empty when there are none."""
    total = len(evaluation.canonical)
    return f"canonical {sum(o.correct for o in evaluation.canonical)} of {total} right" if total else ""


def _comparison_lines(result: PromptResult) -> Iterator[str]:
    comparison = result.comparison
    if comparison is None:
        yield "no baseline: --promptfit-update writes it"
        return
    before = "none" if comparison.accuracy is None else f"{comparison.accuracy:.3f}"
    yield f"{comparison.reference} {before}: fixed {len(comparison.fixed)}, broke {len(comparison.broken)}"
    if comparison.other_models:
        yield f"the baseline is of another model: {plain(', '.join(comparison.other_models))}"
    if comparison.added or comparison.removed:
        yield f"since the baseline: {comparison.added} samples added, {comparison.removed} removed or not run"


def label_table(evaluation: Evaluation) -> Iterator[str]:
    """Yield precision, recall, F1 and support by label."""
    rows = [(plain(label)[:32], metrics) for label, metrics in evaluation.confusion.by_label.items()]
    width = max(len("label"), *(len(label) for label, _ in rows))
    yield f"{'label':{width}}  precision  recall     f1  support"
    for label, m in rows:
        yield f"{label:{width}}  {m.precision:9.3f}  {m.recall:6.3f}  {m.f1:5.3f}  {m.support:7d}"


def _worst_misses(result: PromptResult) -> Iterator[str]:
    """Yield the misses worth a look first: canonical ones, then broken ones, then any other."""
    broken = set(result.comparison.broken) if result.comparison else set()
    misses = [o for o in result.evaluation.outcomes if o.reply is not None and not o.correct]
    misses.sort(key=lambda o: (not o.sample.canonical, o.sample.case_name not in broken))
    if misses:
        yield f"misses ({min(len(misses), SHOWN_MISSES)} of {len(misses)}):"
    for outcome in misses[:SHOWN_MISSES]:
        yield f"  {_miss(outcome)}"


def _miss(outcome: Outcome) -> str:
    read = plain(outcome.predicted) if outcome.predicted is not None else "no label"
    sample = outcome.sample
    return f"{sample.case_name}: {plain(sample.label)} read as {read}: {cut(sample.text, 60)}"


def usage_line(evaluation: Evaluation) -> str:
    """Return replies, the share of them replayed, tokens and what was paid in this run."""
    usage = evaluation.usage
    share = f"{usage.replayed / usage.calls:.0%} replayed" if usage.calls else "none replayed"
    paid = "price unknown" if usage.usd is None else f"${usage.usd:.4f} paid"
    return f"{usage.calls} replies, {share}, {usage.input_tokens} tokens in, {usage.output_tokens} out, {paid}"
