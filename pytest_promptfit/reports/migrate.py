"""What is said of a prompt file that goes to another model: the text of a pull request, and JSON for machines."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from pytest_promptfit.evaluation.gates import listed
from pytest_promptfit.evaluation.metrics import wilson_interval
from pytest_promptfit.reports.tuning import holdout_line
from pytest_promptfit.reports.verdict import verdict_on
from pytest_promptfit.text import percent, plain
from pytest_promptfit.tuning.rewrite import diff_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_promptfit.evaluation.baseline import Baseline
    from pytest_promptfit.evaluation.outcomes import Evaluation
    from pytest_promptfit.evaluation.verdicts import PromptResult
    from pytest_promptfit.tuning.migration import Migrated

VERSION = 1

UNKNOWN = "–"


def title(found: Migrated) -> str:
    """Return the pull request's title."""
    now = found.plan.now
    return plain(f"Ask {found.version.model} instead of {now.model}: {now.parsed.name}")


def lines(found: Migrated, path: str, ends: Sequence[str], *, is_written: bool) -> Iterator[str]:
    """Yield the pull request's text as Markdown: the verdict, a table of before and after, what changed, what to check.

    ``ends`` says which of the two models is going to be shut down.
    """
    plan, verdict = found.plan, verdict_on(found.result)
    yield f"# {title(found)}"
    yield ""
    because = f" It does not hold: {', '.join(verdict.reasons)}." if verdict.reasons else ""
    yield f"{verdict.sentence[0].upper()}{verdict.sentence[1:]}.{because}"
    yield from (f"{plain(end)}." for end in ends)
    yield ""
    yield f"| | {_cell(plan.now.model)} | {_cell(found.version.model)} |"
    yield "| --- | --- | --- |"
    for name, before, after in _rows(found):
        yield f"| {name} | {before} | {after} |"
    yield ""
    yield from (f"- {line}" for line in _points(found))
    if is_written:
        yield ""
        yield "To check, offline:"
        yield ""
        yield "```console"
        yield f"pytest --promptfit {shlex.quote(plain(path))}"
        yield f"pytest --promptfit --promptfit-against origin/main {shlex.quote(plain(path))}"
        yield "```"


def _cell(text: str) -> str:
    return plain(text).replace("|", "\\|")


def _rows(found: Migrated) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the table of which at least one side is known."""
    columns = zip(
        _cells(figures(found.plan.before, found.plan.baseline)), _cells(figures(found.result.evaluation)), strict=True
    )
    for (name, before), (_, after) in columns:
        if before or after:
            yield name, before or UNKNOWN, after or UNKNOWN


def _cells(of: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    accuracy, canonical, usd = of["accuracy_ci95"], of["canonical"], of["usd_per_call"]
    right = f"{percent(of['accuracy'])} ({of['correct']} of {of['total']})" if accuracy else ""
    yield "accuracy", right
    yield "95 % interval", " to ".join(map(percent, accuracy or ()))
    yield "canonical right", f"{canonical['correct']} of {canonical['total']}" if canonical else ""
    yield "tokens in, a call", _number(of["input_tokens"], ",.0f")
    yield "tokens out, a call", _number(of["output_tokens"], ",.0f")
    yield "USD, 1,000 calls", _number(None if usd is None else usd * 1000, ",.4f")
    yield "seconds, a call", _number(of["seconds_per_call"], ".2f")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _points(found: Migrated) -> Iterator[str]:
    """Yield what changed, and what was done for it."""
    yield from _changes(found.result)
    old, new = (version.parsed.config.all_params for version in (found.plan.now, found.version))
    changed = f"{_flow(old)} → {_flow(new)} ({plain(found.plan.why)})"
    yield f"parameters: {f'{_flow(new)}, as they were' if old == new else changed}"
    if not found.is_rewritten:
        yield "the prompt is as it was"
    for run in found.tunings:
        if run.accepted:
            yield f"the prompt was rewritten by tuning: {plain(run.reason)}"
            yield from [] if run.holdout is None else [holdout_line(run.holdout)]
    if found.stopped:
        yield plain(found.stopped)


def _changes(result: PromptResult) -> Iterator[str]:
    change = result.comparison
    if change is not None:
        for what, names in (("fixed", change.fixed), ("broke", change.broken)):
            if names:
                yield f"{what}: {plain(listed(names))}"
    for gate in result.gates:
        yield f"gate {plain(gate.name)} {gate.verdict}: {plain(gate.detail)}"


def _flow(params: Mapping[str, Any]) -> str:
    return f"`{plain(json.dumps(params, ensure_ascii=False))}`"


def figures(evaluation: Evaluation, baseline: Baseline | None = None) -> dict[str, Any]:
    """Return an evaluation's figures, those of a call on average over its labeled samples.

    Where nothing of it is recorded any more, those that the ``baseline`` has; what nobody knows is ``None``.
    """
    replies = [outcome.reply for outcome in evaluation.labeled if outcome.reply]
    metrics: Mapping[str, Any] = {
        "correct": evaluation.confusion.correct,
        "total": evaluation.confusion.total,
        "input_tokens": sum(reply.input_tokens for reply in replies) / (len(replies) or 1),
        "output_tokens": sum(reply.output_tokens for reply in replies) / (len(replies) or 1),
    }
    if not replies and baseline is not None:
        metrics = baseline.metrics
    correct, total = metrics["correct"], metrics["total"]
    canonical = [outcome.correct for outcome in evaluation.canonical if outcome.reply is not None]
    usd, seconds = evaluation.per_call
    return {
        "correct": correct,
        "total": total,
        "accuracy": correct / total if total else None,
        "accuracy_ci95": list(wilson_interval(correct, total)) if total else None,
        "canonical": {"correct": sum(canonical), "total": len(canonical)} if canonical else None,
        "input_tokens": metrics.get("input_tokens"),
        "output_tokens": metrics.get("output_tokens"),
        "usd_per_call": usd,
        "seconds_per_call": seconds,
    }


def as_json(found: Migrated, path: str, ends: Sequence[str], *, is_written: bool) -> dict[str, Any]:
    """Return all of it for machines; ``body`` is the text of the pull request."""
    result, change = found.result, found.result.comparison
    return {
        "version": VERSION,
        "path": path,
        "from": found.plan.now.model,
        "to": found.version.model,
        "holds": found.holds,
        "written": is_written,
        "verdict": verdict_on(result).sentence,
        "before": figures(found.plan.before, found.plan.baseline),
        "after": figures(result.evaluation),
        "change": None
        if change is None or not change.shared
        else {
            "points": change.change,
            "ci95": list(change.interval),
            "shared": change.shared,
            "fixed": list(change.fixed),
            "broken": list(change.broken),
            "p_value": change.p_value,
            "alpha": change.alpha,
        },
        "gates": _gates(result),
        "params": dict(found.version.parsed.config.all_params),
        "rewritten": found.is_rewritten,
        "tuned": [{"accepted": run.accepted, "reason": run.reason} for run in found.tunings],
        "stopped": found.stopped,
        "shutdown": list(ends),
        "diff": diff_lines(found.plan.now.text, found.version.text, found.plan.path.name),
        "title": title(found),
        "body": "\n".join(lines(found, path, ends, is_written=is_written)),
    }


def _gates(result: PromptResult) -> list[dict[str, Any]]:
    return [{"name": gate.name, "passed": gate.passed, "detail": gate.detail} for gate in result.gates]
