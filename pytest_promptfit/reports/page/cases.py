"""The cases of a prompt as the page holds them: one compact block of JSON, shown by page.js a page at a time."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_promptfit.evaluation.baseline import Accepted
    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.evaluation.verdicts import PromptResult

# What could end the script element, or is not allowed in a file: JSON has another way to write each.
_UNSAFE = re.compile("[<>&\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


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
    stop: str
    tokens_in: int
    tokens_out: int
    seconds: float | None
    note: str
    error: str
    place: str


def cases_of(result: PromptResult, relative: Callable[[str], str]) -> list[Case]:
    """Return all cases of a prompt, in the order of its file."""
    comparison = result.comparison
    accepted = comparison.accepted.cases if comparison and comparison.accepted else {}
    moved = dict.fromkeys(comparison.broken, "broken") if comparison else {}
    moved |= dict.fromkeys(comparison.fixed, "fixed") if comparison else {}

    def change(name: str, outcome: Outcome) -> str:
        before = accepted.get(name)
        if before is None:
            return "new" if accepted else ""
        is_other = outcome.reply is not None and before.predicted != outcome.predicted
        return moved.get(name) or ("other answer" if is_other else "")

    return [
        _case(outcome, result.verdicts[name], accepted.get(name), change(name, outcome), relative)
        for name, outcome in result.evaluation.by_case.items()
    ]


def _case(outcome: Outcome, verdict: str, before: Accepted | None, change: str, relative: Callable[[str], str]) -> Case:
    sample, reply = outcome.sample, outcome.reply
    return Case(
        name=sample.case_name,
        canonical=int(sample.canonical),
        text=sample.text,
        label=sample.label,
        read=outcome.predicted,
        status=outcome.status,
        verdict=verdict,
        change=change,
        before=before.outcome if before else "",
        before_read=before.predicted if before else None,
        reply=reply.shown if reply else None,
        thought=reply.thought if reply else "",
        why=outcome.why_missing.text if outcome.why_missing else "",
        stop=reply.stop_reason if reply and reply.stop_reason != "stop" else "",
        tokens_in=reply.input_tokens if reply else 0,
        tokens_out=reply.output_tokens if reply else 0,
        seconds=round(outcome.seconds, 3) if outcome.seconds is not None else None,
        note=sample.note,
        error=outcome.error,
        place=f"{relative(sample.path)}:{sample.line}",
    )


def address(prompt: str, case: str) -> str:
    """Return the link to a case, as page.js and an element's id understand it."""
    return f"#{quote(f'{prompt}/{case}', safe='/', errors='replace')}"


def block(prompts: Iterable[tuple[str, str, Sequence[str], Sequence[Case]]]) -> Markup:
    """Return the JSON of all cases: name, path, labels and cases of each prompt."""
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
    return Markup(escaped_json(value))  # noqa: S704 - nothing in it can end the element


def escaped_json(value: object) -> str:
    """Return JSON in which no text can end the script element that holds it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda char: f"\\u{ord(char[0]):04x}", text)
