"""What the page says of a prompt, as values for the template: verdict, pictures, tables, and all its cases."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from pytest_promptfit.prompts.labels import ABSTAINED, MISSING
from pytest_promptfit.reports.case_text import said_answers, said_of_gate
from pytest_promptfit.reports.page.pictures import (
    Confidence,
    Intervals,
    Standing,
    accuracy_picture,
    confidence_picture,
)
from pytest_promptfit.reports.page.sentences import (
    DiffLine,
    Price,
    Verdict,
    address,
    diff_view,
    dollars,
    percent,
    unpriced,
    verdict_on,
)
from pytest_promptfit.reports.terminal import confidence_lines
from pytest_promptfit.reports.verdict import change_of, obsolete_replies
from pytest_promptfit.text import points

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_promptfit.evaluation.gates import GateResult
    from pytest_promptfit.evaluation.metrics import Confusion
    from pytest_promptfit.evaluation.outcomes import Outcome, Slice
    from pytest_promptfit.evaluation.verdicts import PromptResult
    from pytest_promptfit.reports.change import Change

SHOWN = 8
"""Cases in a list of what changed; the others are among all cases."""

STATIC = 100
"""Cases that a browser without JavaScript shows."""

SHOWN_LIKELY = 5
"""Labels of a case, the likeliest ones."""

SHOWN_SLICES = 50
"""Values of a column, the most frequent ones; the JSON report has all."""

SHADES = 8
"""Steps of colour of the confusion matrix."""

FEW_LABELS = 8
"""With more, the matrix is set narrower."""


RENEWED = "The tuning run has just renewed the baseline, so these are the cases of the tuned prompt."


# What could end the script element, or is not allowed in a file: JSON has another way to write each.
_ENDS_SCRIPT = re.compile("[<>&\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


@dataclass(frozen=True)
class Case:
    """One case with everything that is known of it; the fields are the columns of the JSON block."""

    name: str
    canonical: int
    text: str
    label: str
    read: str | None
    status: str
    verdict: str
    change: str
    """broken, fixed, other answer, new or empty: against the baseline."""
    before: str
    before_read: str | None
    reply: str | None
    thought: str
    """What the model thought aloud before it replied."""
    why: str
    """Why no label could be read."""
    answers: str
    """How often each label was answered, where the answers to one sample differ."""
    stop: str
    tokens_in: int
    tokens_out: int
    seconds: float | None
    note: str
    error: str
    place: str
    sure: float | None
    """How likely the label is, or the one that was held back."""
    likely: str
    """The likeliest labels, with how likely they are."""


@dataclass(frozen=True)
class LabelRow:
    """The figures of one label, and its recall in the baseline."""

    label: str
    support: int
    precision: float
    recall: float
    f1: float
    recall_before: float | None

    @property
    def change(self) -> str:
        """The change of recall in points; empty without a baseline."""
        return "" if self.recall_before is None else points(self.recall - self.recall_before)


@dataclass(frozen=True)
class SliceRow:
    """The accuracy of the samples with one value in a further column; ``recall`` is what the bar shows."""

    value: str
    total: int
    accuracy: str
    bounds: str
    recall: float
    recall_before: float | None = None


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix; ``shade`` grows with its share of the row: 0 for none, then 1 to ``SHADES``."""

    predicted: str
    """A label, or nothing where no label could be read."""
    count: int
    shade: int
    right: bool


@dataclass(frozen=True)
class Matrix:
    """The confusion matrix: a row for each label, the last column where no label could be read, if any."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[Cell, ...]], ...]
    is_narrow: bool


@dataclass(frozen=True)
class CaseList:
    """Cases worth a look before all others."""

    title: str
    tone: str
    view: str
    """The filter that shows all of them."""
    total: int
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class PromptView:
    """Everything that the page says of one prompt."""

    number: int
    name: str
    path: str
    model: str
    prompt_hash: str
    verdict: Verdict
    fails: bool
    failed: int
    accuracy: str
    change: str
    fixed: int
    broken: int
    macro_f1: str
    cost: str
    gates: tuple[GateResult, ...]
    failed_gates: tuple[GateResult, ...]
    standing: Standing | None
    picture: Intervals | None
    labels: tuple[LabelRow, ...]
    matrix: Matrix | None
    lists: tuple[CaseList, ...]
    cases: tuple[Case, ...]
    canonical: tuple[int, int]
    slices: tuple[tuple[str, tuple[SliceRow, ...], int], ...]
    """Each column that accuracy is told by, its values, and how many more of those there are."""
    confidence: Confidence | None
    said_of_confidence: tuple[str, ...]
    change_of_file: Change | None
    diff: tuple[DiffLine, ...]
    notes: tuple[str, ...]
    label_names: tuple[str, ...]

    def address(self, case: str) -> str:
        """Return the link to a case."""
        return address(self.name, case)

    @property
    def said_of_gates(self) -> list[tuple[GateResult, str, tuple[str, ...]]]:
        """Each gate with the sentence on it and what is listed below."""
        return [(gate, *said_of_gate(gate)) for gate in self.gates]

    @property
    def static_cases(self) -> list[Case]:
        """The cases that need no JavaScript to be read: what changed, then what is not right, then the others."""
        first = ["broken", "fixed", "other answer"]

        def rank(case: Case) -> tuple[int, bool]:
            return first.index(case.change) if case.change in first else len(first), case.status == "right"

        return sorted(self.cases, key=rank)[:STATIC]


def prompt_view(
    result: PromptResult,
    number: int,
    relative: Callable[[str], str],
    *,
    is_renewed: bool = False,
    changed: Change | None = None,
    price: Price = unpriced,
) -> PromptView:
    """Return what the page says of a prompt; ``is_renewed``: its tuning run has just written the baseline.

    ``changed`` is the change of its file, ``price`` what its model's tokens cost.
    """
    evaluation, confusion, change = result.evaluation, result.evaluation.confusion, change_of(result)
    cases, standing = tuple(cases_of(result, relative)), _standing(result)
    before = result.comparison.by_label if result.comparison else {}
    labels = (
        LabelRow(label, figures.support, figures.precision, figures.recall, figures.f1, right / n if n else None)
        for label, figures in confusion.by_label.items()
        for right, n in (before.get(label, (0, 0)),)
    )
    macro = confusion.macro_f1
    usage = evaluation.usage
    return PromptView(
        number=number,
        name=evaluation.name,
        path=relative(evaluation.path),
        model=evaluation.model,
        prompt_hash=evaluation.prompt_hash,
        verdict=verdict_on(result, price),
        fails=result.fails,
        failed=len(result.failed_cases),
        accuracy=percent(confusion.correct / confusion.total) if confusion.total else "",
        change=points(change.change) if change else "",
        fixed=len(change.fixed) if change else 0,
        broken=len(change.broken) if change else 0,
        macro_f1=f"{macro:.3f}" if macro is not None else "",
        cost="–" if usage.calls == usage.replayed else "price unknown" if usage.usd is None else dollars(usage.usd),
        gates=result.gates,
        failed_gates=tuple(result.failed_gates),
        standing=standing,
        picture=accuracy_picture(standing) if standing else None,
        labels=tuple(labels) if evaluation.labeled else (),
        matrix=_matrix(confusion),
        lists=tuple(_lists(cases)),
        cases=cases,
        canonical=(sum(o.correct for o in evaluation.canonical), len(evaluation.canonical)),
        slices=tuple(
            (column, tuple(map(_slice_row, slices[:SHOWN_SLICES])), max(0, len(slices) - SHOWN_SLICES))
            for column, slices in evaluation.by_slice.items()
        ),
        confidence=_confidence(result),
        said_of_confidence=tuple(confidence_lines(evaluation)),
        change_of_file=changed if changed and changed.diff else None,
        diff=tuple(diff_view(changed.diff)) if changed else (),
        notes=tuple(filter(None, (RENEWED if is_renewed else "", *evaluation.notes, obsolete_replies(evaluation)))),
        label_names=(*evaluation.labels, *((ABSTAINED,) if confusion.abstained else ())),
    )


def _confidence(result: PromptResult) -> Confidence | None:
    evaluation = result.evaluation
    if evaluation.calibration is None:
        return None
    at_error = next((gate.at_error for gate in result.gates if gate.at_error is not None), None)
    held = evaluation.confusion.abstained
    answered = 1 - held / evaluation.confusion.total if evaluation.decision.abstain_below else None
    return confidence_picture(evaluation.calibration, at_error, answered)


def _slice_row(one: Slice) -> SliceRow:
    low, high = one.interval
    return SliceRow(one.value, one.total, percent(one.accuracy), f"{percent(low)} to {percent(high)}", one.accuracy)


def worst_first(prompts: Iterable[PromptView]) -> list[PromptView]:
    """Return prompts as an overview lists them: those that fail or got worse first."""
    rank = {"worse": 0, "open": 1, "same": 2, "better": 3}
    return sorted(prompts, key=lambda view: (not view.fails, rank[view.verdict.tone]))


def _standing(result: PromptResult) -> Standing | None:
    confusion = result.evaluation.confusion
    if not confusion.total:
        return None
    before = result.comparison.by_label.values() if result.comparison else ()
    right, accepted = sum(right for right, _ in before), sum(count for _, count in before)
    return Standing(
        (confusion.correct, confusion.total),
        (right, accepted) if accepted else None,
        next((gate.floor for gate in result.gates if gate.floor is not None), None),
    )


def _matrix(confusion: Confusion) -> Matrix | None:
    if not confusion.total:
        return None
    table = confusion.table
    held = (ABSTAINED,) if confusion.abstained else ()
    columns = (*confusion.labels, *held, *(("",) if confusion.missing else ()))
    rows = []
    for gold in confusion.labels:
        counts = [table.get(gold, {}).get(column or MISSING, 0) for column in columns]
        total = sum(counts)
        cells = tuple(
            Cell(column, count, min(SHADES, 1 + count * SHADES // total) if count else 0, column == gold)
            for column, count in zip(columns, counts, strict=True)
        )
        rows.append((gold, total, cells))
    return Matrix(columns, tuple(rows), len(columns) > FEW_LABELS)


def _lists(cases: Sequence[Case]) -> Iterator[CaseList]:
    """Yield what is to be looked at first: what broke, what got fixed, what fails, has no reply, or is unstable."""
    broken = [case for case in cases if case.change == "broken"]
    other = [case for case in cases if case.verdict == "failed" and case.reply is not None and case not in broken]
    wanted: tuple[tuple[str, str, str, list[Case]], ...] = (
        ("Broke", "bad", "broken", broken),
        ("Fixed", "good", "fixed", [case for case in cases if case.change == "fixed"]),
        ("Fails besides" if broken else "Fails", "bad", "failed", other),
        ("Without a reply", "bad", "no reply", [case for case in cases if case.reply is None]),
    )
    if not any(found for *_, found in wanted):
        wanted = (("Misses", "plain", "misses", [case for case in cases if case.status in ("wrong", "missing")]),)
    unstable = [case for case in cases if case.answers]
    for title, tone, view, found in (*wanted, ("Unstable", "plain", "unstable", unstable)):
        if found:
            yield CaseList(title, tone, view, len(found), tuple(found[:SHOWN]))


def cases_of(result: PromptResult, relative: Callable[[str], str]) -> list[Case]:
    """Return all cases of a prompt, in the order of its file."""
    comparison = result.comparison
    accepted = comparison.accepted.cases if comparison and comparison.accepted else {}
    moved = dict.fromkeys(comparison.broken, "broken") if comparison else {}
    moved |= dict.fromkeys(comparison.fixed, "fixed") if comparison else {}

    found = []
    for name, outcome in result.evaluation.by_case.items():
        sample, reply, before = outcome.sample, outcome.reply, accepted.get(name)
        is_other = before is not None and reply is not None and before.predicted != outcome.predicted
        change = moved.get(name) or ("other answer" if is_other else "") if before else "new" if accepted else ""
        case = Case(
            name=sample.case_name,
            canonical=int(sample.canonical),
            text=sample.text,
            label=sample.label,
            read=outcome.given,
            status=outcome.status,
            verdict=result.verdicts[name],
            change=change,
            before=before.outcome if before else "",
            before_read=before.predicted if before else None,
            reply=reply.shown if reply else None,
            thought=reply.thought if reply else "",
            why=outcome.why_missing.text if outcome.why_missing else "",
            answers=said_answers(outcome.answers) if outcome.is_unstable else "",
            stop=reply.stop_reason if reply and reply.stop_reason != "stop" else "",
            tokens_in=reply.input_tokens if reply else 0,
            tokens_out=reply.output_tokens if reply else 0,
            seconds=round(outcome.seconds, 3) if outcome.seconds is not None else None,
            note=sample.note,
            error=outcome.error,
            place=f"{relative(sample.path)}:{sample.line}",
            sure=round(outcome.confidence, 4) if outcome.confidence is not None else None,
            likely=_likely(outcome),
        )
        found.append(case)
    return found


def _likely(outcome: Outcome) -> str:
    probabilities = outcome.decided.probabilities if outcome.decided else {}
    first = sorted(probabilities.items(), key=lambda pair: -pair[1])[:SHOWN_LIKELY]
    return ", ".join(f"{label} {percent(p)}" for label, p in first)


def block(prompts: Iterable[tuple[str, str, Sequence[str], Sequence[Case]]]) -> Markup:
    """Return the JSON of all cases, which page.js shows a page at a time: name, path, labels, cases of each prompt."""
    columns = list(Case.__dataclass_fields__)
    value: list[dict[str, Any]] = [
        {
            "name": name,
            "path": path,
            "labels": list(labels),
            "columns": columns,
            "rows": [[getattr(case, column) for column in columns] for case in cases],
        }
        for name, path, labels, cases in prompts
    ]
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    escaped = _ENDS_SCRIPT.sub(lambda char: f"\\u{ord(char[0]):04x}", text)
    return Markup(escaped)  # noqa: S704 - nothing in it can end the element
