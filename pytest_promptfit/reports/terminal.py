"""What the terminal shows of prompts and of tuning runs, as lines with their markup: tested without a terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pytest_promptfit.evaluation.gates import listed
from pytest_promptfit.evaluation.metrics import wilson_interval
from pytest_promptfit.evaluation.outcomes import count_missing
from pytest_promptfit.reports.case_text import asked_of, confused, how_to_accept, said_answers, said_of_gate
from pytest_promptfit.reports.verdict import MANY_PROMPTS, causes, noise_line, obsolete_replies, verdict_on
from pytest_promptfit.text import fitted, percent, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_promptfit.evaluation.outcomes import Evaluation, Unrecorded
    from pytest_promptfit.evaluation.verdicts import PromptResult

Line: TypeAlias = "tuple[str, dict[str, bool]]"

SHOWN_GROUPS, SHOWN_MISSES = 6, 3
"""Pairs of label and answer, and samples of each, that are shown unless all are asked for."""

SHOWN_CAUSES = 5
SHOWN_UNSTABLE = 10
SHOWN_SLICES = 12
"""Values of a column that are shown unless all are asked for."""

NEAR_TEMPERATURE = 0.1
"""No other temperature is proposed that differs by a smaller share."""

WIDTH = 100
"""Columns of a row where nobody says how wide the screen is."""

OWN_GATES = ("accuracy", "recall", "missing", "slices", "regression", "contract")
"""What is behind their failures is listed elsewhere: among the misses, or one thing a line."""

LETTERS = {
    "m": "missed: wrong, and no failure by itself, the gates decide",
    "x": "a known miss of the baseline",
    "X": "a known miss that is right again",
    "u": "not recorded",
}


@dataclass(frozen=True)
class Screen:
    """How a summary is shown: columns of the screen, ``None`` where they do not matter, and how much is told.

    ``names_failures`` is false where misses, failed gates and missing replies are named elsewhere in the same output.
    """

    width: int | None = None
    everything: bool = False
    names_failures: bool = True


def letters_line(results: Iterable[PromptResult]) -> str:
    """Return what the letters of pytest's progress mean that other tests do not have; empty without any."""
    found = Counter(
        "u" if outcome.reply is None and result.evaluation.unrecorded else letter
        for result in results
        for name, outcome in result.evaluation.by_case.items()
        for letter in ({"missed": "m", "xfailed": "x", "xpassed": "X", "failed": "F"}.get(result.verdicts[name], "."),)
    )
    return "; ".join(f"{letter}: {said}" for letter, said in LETTERS.items() if found[letter])


def summary(
    results: Sequence[PromptResult], relative: Callable[[str], str], screen: Screen = Screen()
) -> Iterator[Line]:
    """Yield the summary of each prompt: figures, gates, table by label, misses, usage.

    Of many prompts only those that fail have one.
    """
    told = results
    if len(results) > MANY_PROMPTS and not screen.everything:
        told = [result for result in results if verdict_on(result).fails]
    for result in told:
        evaluation = result.evaluation
        verdict = verdict_on(result)
        markup = {"bold": True, "green": not (verdict.fails or verdict.is_undecided), "red": verdict.fails}
        yield plain(f"{relative(evaluation.path)} ({evaluation.model})"), markup
        if screen.names_failures:
            yield from ((f"  {line}", {"yellow": True}) for line in without_reply_lines(result, relative))
        if not (evaluation.unrecorded and evaluation.unrecorded.is_everything):
            yield from ((f"  {line}", {}) for line in _figures(result))
            yield from gate_lines(result, relative, screen)
            if evaluation.labeled:
                yield from ((f"  {line}", {}) for line in label_table(evaluation))
                yield from ((f"  {line}", {}) for line in slice_tables(evaluation, everything=screen.everything))
            yield from ((f"  {line}", {}) for line in unstable_lines(evaluation, everything=screen.everything))
            if screen.names_failures:
                yield from ((f"  {line}", {}) for line in miss_lines(result, relative, screen))
            if evaluation.usage.calls:
                yield f"  {usage_line(evaluation)}", {}
            if said := obsolete_replies(evaluation):
                yield f"  {said}", {"yellow": True}
        yield from ((f"  note: {note}", {"yellow": True}) for note in told_once(evaluation.notes))


def told_once(notes: Iterable[str]) -> Iterator[str]:
    """Yield notes safe to show: of those that end alike the first, and how many more there are."""
    alike: dict[str, list[str]] = {}
    for note in notes:
        alike.setdefault(note.rpartition(": ")[2], []).append(plain(note))
    for first, *more in alike.values():
        yield f"{first} (and {len(more)} more like it)" if more else first


def without_reply_lines(result: PromptResult, relative: Callable[[str], str]) -> Iterator[str]:
    """Yield why samples have no reply, once a cause, with the one command that records them and what that takes."""
    evaluation = result.evaluation
    found = causes(evaluation)
    if not found:
        return
    if evaluation.unrecorded is None:
        yield from cause_lines(found, evaluation, "without a reply")
        if any(outcome.reply is None and outcome.asking_helps for outcome in evaluation.outcomes):
            yield f"again:   pytest --promptfit {evaluation.record_option} {_typed(evaluation, relative)}"
        return
    if evaluation.unrecorded.is_everything:
        yield from first_steps(result, relative)
        return
    yield from cause_lines(found, evaluation, "not recorded")
    yield f"record:  pytest --promptfit --promptfit-record {_typed(evaluation, relative)}"
    yield f"         {what_it_takes(evaluation.unrecorded)}"


def first_steps(result: PromptResult, relative: Callable[[str], str]) -> Iterator[str]:
    """Yield three lines for a prompt of which nothing is recorded: what it takes, the command, the baseline."""
    evaluation, unrecorded = result.evaluation, result.evaluation.unrecorded
    assert unrecorded is not None
    path = _typed(evaluation, relative)
    is_lost = result.comparison and not evaluation.instead_of
    why = ", though there is a baseline: was its cassette folder committed?" if is_lost else " yet."
    yield f"nothing is recorded{why} Recording takes {what_it_takes(unrecorded)}."
    yield f"record:  pytest --promptfit --promptfit-record {path}"
    if result.comparison or evaluation.instead_of:
        yield f"then:    pytest --promptfit {path}  (replays, and compares with the baseline)"
    else:
        yield f"then:    pytest --promptfit --promptfit-update {path}  (accepts the outcomes as baseline; commit it)"


def what_it_takes(unrecorded: Unrecorded) -> str:
    """Return what recording takes, and what has to be done first."""
    obstacle = f"; first: {plain(unrecorded.obstacle).rstrip('.')}" if unrecorded.obstacle else ""
    return f"{unrecorded.estimate.shown}{obstacle}"


def cause_lines(found: Sequence[tuple[str, int]], evaluation: Evaluation, what: str) -> Iterator[str]:
    """Yield how many samples have no reply and why: ``60 of 60 not recorded: system_prompt changed``."""
    missing = sum(count for _, count in found)
    head = f"{missing:,} of {len(evaluation.outcomes):,} {what}"
    if len(found) == 1:
        yield f"{head}: {plain(found[0][0])}"
        return
    yield f"{head}:"
    yield from (f"  {count:,}: {plain(cause)}" for cause, count in found[:SHOWN_CAUSES])
    if len(found) > SHOWN_CAUSES:
        yield f"  {sum(count for _, count in found[SHOWN_CAUSES:]):,}: other causes"


def _typed(evaluation: Evaluation, relative: Callable[[str], str]) -> str:
    return plain(asked_of(evaluation, relative(evaluation.path)))


def _figures(result: PromptResult) -> Iterator[str]:
    """Yield the figures that no gate's line has."""
    evaluation = result.evaluation
    judged = {gate.name for gate in result.gates if gate.passed is not None}
    if "accuracy" not in judged and (evaluation.labeled or not evaluation.unanswered):
        yield accuracy_line(evaluation)
    yield from confidence_lines(evaluation)
    yield from (f"no label could be read in {one.count}: {plain(one.text)}" for one in count_missing(evaluation))
    if any(outcome.reply is not None for outcome in evaluation.canonical):
        right = sum(outcome.correct for outcome in evaluation.canonical)
        yield f"canonical {right} of {len(evaluation.canonical)} right"
    comparison = result.comparison
    if comparison is None:
        if not any(gate.name == "regression" for gate in result.gates):
            yield "no baseline: --promptfit-update writes it"
        return
    if "regression" not in judged and comparison.shared:
        moved = f"fixed {len(comparison.fixed)}, broke {len(comparison.broken)}"
        yield f"{plain(comparison.reference)}: {percent(comparison.before / comparison.shared)} right: {moved}"
    if comparison.other_models:
        yield f"the baseline is of another model: {plain(', '.join(comparison.other_models))}"
    if comparison.added or comparison.removed:
        yield f"since the baseline: {comparison.added} samples added, {comparison.removed} removed or not run"


def accuracy_line(evaluation: Evaluation) -> str:
    """Return accuracy with its 95 % Wilson interval, and how many have no reply."""
    confusion = evaluation.confusion
    unanswered = f", {len(evaluation.unanswered)} without a reply" if evaluation.unanswered else ""
    if not confusion.total:
        return f"no labeled sample was judged{unanswered}"
    low, high = wilson_interval(confusion.correct, confusion.total)
    return (
        f"accuracy {percent(confusion.correct / confusion.total)} ({confusion.correct} of {confusion.total}), "
        f"95 % interval {percent(low)} to {percent(high)}{unanswered}"
    )


def confidence_lines(evaluation: Evaluation) -> Iterator[str]:
    """Yield how much was answered, how far confidence is from accuracy, and the temperature that would mend it."""
    labeled = evaluation.labeled
    answered = [outcome for outcome in labeled if not outcome.abstained]
    if evaluation.decision.abstain_below and labeled:
        right = sum(outcome.correct for outcome in answered)
        said = f"answered {percent(len(answered) / len(labeled))} ({len(answered)} of {len(labeled)})"
        low, high = map(percent, wilson_interval(right, len(answered)))
        share = f", {percent(right / len(answered))} of those right (95 % interval {low} to {high})" if answered else ""
        yield f"{said}{share}"
    if (calibration := evaluation.calibration) is None:
        return
    said = f"calibration error {percent(calibration.error)} on {calibration.samples} probabilities"
    scaling, now = calibration.scaling, evaluation.decision.temperature
    if scaling and scaling.after < scaling.before and abs(scaling.temperature - now) > NEAR_TEMPERATURE * now:
        said += (
            f"; decision.temperature: {scaling.temperature:g} makes it {percent(scaling.after)} on {scaling.samples} "
            f"dev samples, by folds ({percent(scaling.before)} before)"
        )
    yield said


def gate_lines(result: PromptResult, relative: Callable[[str], str], screen: Screen) -> Iterator[Line]:
    """Yield each gate with its verdict; those that could not be judged for one reason share a line."""
    open_gates: dict[str, list[str]] = {}
    for gate in result.gates:
        if gate.passed is None and not result.evaluation.unanswered:  # why is said with what is not recorded
            open_gates.setdefault(gate.detail, []).append(gate.name)
    for detail, names in open_gates.items():
        yield f"  gate{'s' if len(names) > 1 else ''} {', '.join(names)}: not judged: {detail}", {}
    for gate in result.gates:
        if gate.passed or (gate.passed is False and screen.names_failures):
            sentence, looser = said_of_gate(gate)
            markup = {"red": not gate.passed}
            yield f"  gate {gate.name}: {'passed' if gate.passed else 'FAILED'}: {sentence}", markup
            yield from ((f"    - {plain(what)}", markup) for what in looser)
            if gate.samples and not gate.passed and gate.name not in OWN_GATES:
                yield f"    behind it: {plain(listed(gate.samples))}", markup
            if gate.name == "regression" and not gate.passed and not result.accepts:
                yield f"    accept:  {how_to_accept(result, _typed(result.evaluation, relative))}", {}
        if gate.warning:
            yield f"  warning: {gate.warning}", {"yellow": True}


def label_table(evaluation: Evaluation) -> Iterator[str]:
    """Yield precision, recall, F1 and support by label."""
    rows = [(plain(label)[:32], metrics) for label, metrics in evaluation.confusion.by_label.items()]
    width = max(len("label"), *(len(label) for label, _ in rows))
    yield f"{'label':{width}}  precision   recall     f1  support"
    for label, m in rows:
        yield f"{label:{width}}  {percent(m.precision):>9}  {percent(m.recall):>7}  {m.f1:5.3f}  {m.support:7d}"


def slice_tables(evaluation: Evaluation, *, everything: bool = False) -> Iterator[str]:
    """Yield accuracy with its 95 % interval by further columns of the data file: of many values the most frequent."""
    for column, slices in evaluation.by_slice.items():
        shown = slices if everything else slices[:SHOWN_SLICES]
        rows = [(plain(one.value)[:32] or "(empty)", one) for one in shown]
        head = plain(column)[:32]
        width = max(len(head), *(len(value) for value, _ in rows))
        yield f"{head:{width}}   accuracy      95 % interval  samples"
        for value, one in rows:
            low, high = map(percent, one.interval)
            yield f"{value:{width}}  {percent(one.accuracy):>9}  {f'{low} to {high}':>17}  {one.total:7d}"
        if len(slices) > len(shown):
            yield f"{len(slices) - len(shown):,} more values: -v tells all of them"


def unstable_lines(evaluation: Evaluation, *, everything: bool = False) -> Iterator[str]:
    """Yield the noise, and the samples whose answers differ, those that agree least first, with what was answered."""
    if evaluation.noise is None:
        return
    low, high = map(percent, evaluation.noise.interval)
    yield f"noise {noise_line(evaluation.noise)}, 95 % interval {low} to {high}"
    shown = evaluation.unstable if everything else evaluation.unstable[:SHOWN_UNSTABLE]
    yield from (f"  unstable: {plain(one.sample.case_name)}: {said_answers(one.answers)}" for one in shown)
    if len(evaluation.unstable) > len(shown):
        yield f"  {len(evaluation.unstable) - len(shown):,} more unstable samples: -v tells all of them"


def miss_lines(result: PromptResult, relative: Callable[[str], str], screen: Screen) -> Iterator[str]:
    """Yield the misses grouped by label and answer, the worst first, and the command that tells all."""
    groups = confused(result)
    if not groups:
        return
    total = hidden = sum(len(group.outcomes) for group in groups)
    yield f"misses ({total}), label → read:"
    for group in groups if screen.everything else groups[:SHOWN_GROUPS]:
        yield f"  {group.title}"
        shown = group.outcomes if screen.everything else group.outcomes[:SHOWN_MISSES]
        hidden -= len(shown)
        names = [plain(outcome.sample.case_name) for outcome in shown]
        width = min(max(map(len, names)), 40)
        for name, outcome in zip(names, shown, strict=True):
            room = max((screen.width or WIDTH) - 8 - max(width, len(name)), 20)
            yield f"    {name:{width}}  {fitted(outcome.sample.text, room)}"
        if len(group.outcomes) > len(shown):
            yield f"    {len(group.outcomes) - len(shown)} more"
    fails = any(group.failed for group in groups)
    if not screen.everything and (hidden or fails):
        what = f"{'all of them' if hidden else ''}{', ' if hidden and fails else ''}{'with replies' if fails else ''}"
        yield f"{what}: pytest --promptfit -v {_typed(result.evaluation, relative)}"


def usage_line(evaluation: Evaluation) -> str:
    """Return replies, how many of them were replayed, tokens, and what was paid in this run if anything was asked."""
    usage = evaluation.usage
    asked = usage.calls - usage.replayed
    replayed = "all replayed" if not asked else f"{usage.replayed} replayed" if usage.replayed else "none replayed"
    paid = ""
    if asked and not evaluation.model.startswith("local/"):
        paid = ", price unknown" if usage.usd is None else f", ${usage.usd:.4f} paid"
    return f"{usage.calls} replies, {replayed}, {usage.input_tokens} tokens in, {usage.output_tokens} out{paid}"
