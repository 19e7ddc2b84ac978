"""``promptfit migrate PROMPT --to MODEL``: may the model be switched? If so, it is, and the pull request is told."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cassettes.where import Where
from pytest_promptfit.cli.asking import read_asking, record_command, say
from pytest_promptfit.errors import PromptfitError, told_in_one_line
from pytest_promptfit.evaluation.forward import Asking
from pytest_promptfit.prompts.split import split
from pytest_promptfit.providers.lifetimes import lifetimes, shut_down
from pytest_promptfit.reports import migrate as report
from pytest_promptfit.reports.terminal import usage_line, what_it_takes
from pytest_promptfit.text import counted, plain, relative_to
from pytest_promptfit.tuning.forecast import forecast
from pytest_promptfit.tuning.migration import migrated, planned, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_promptfit.tuning.migration import Plan


def migrate(
    prompt: Path,
    to: str,
    *,
    params: dict[str, Any] | None = None,
    record: bool = False,
    budget: float | None = None,
    max_calls: int | None = None,
    concurrency: int | None = None,
    allow_ci: bool = False,
    tunes: bool = True,
    force: bool = False,
    dry_run: bool = False,
    as_json: bool = False,
    cassettes: Path | None = None,
) -> Iterator[str]:
    """Yield the text of the pull request that switches the model, or JSON; write the files where it is not worse.

    Raises PromptfitError where it is worse, after the text, and ``force`` does not say that it is to be written all
    the same; where replies are missing; and for a mistake.
    """
    asking = read_asking(record=record, allow_ci=allow_ci, budget=budget, max_calls=max_calls, concurrency=concurrency)
    said = ["--params", json.dumps(params, ensure_ascii=False)] if params is not None else []
    again = record_command("migrate", str(prompt), "--to", to, *said, cassettes=cassettes)
    with told_in_one_line(prompt):
        plan = planned(prompt, to, params, Where(cassettes))
        if dry_run:
            yield from _dry_lines(plan, tunes=tunes)
            return
        found = migrated(plan, asking, tunes=tunes, notify=say)
    unrecorded = found.result.evaluation.unrecorded
    if unrecorded and not asking:
        raise PromptfitError(
            f"{unrecorded.estimate.calls:,} of {counted(plan.replies, 'reply', 'replies')} of {to} not recorded: "
            f"{again} ({what_it_takes(unrecorded)})"
        )
    if asking:
        say(usage_line(found.result.evaluation))
    ends = _ends(plan, asking)
    is_written = found.holds or (force and not unrecorded)
    notes = write(found, say) if is_written else []
    path = relative_to(str(plan.path), Path.cwd())
    if as_json:
        yield json.dumps(report.as_json(found, path, ends, is_written=is_written), indent=1, ensure_ascii=False)
    else:
        yield from report.lines(found, path, ends, is_written=is_written)
    for note in notes:
        say(note)
    if not is_written:
        further = "" if asking else f", {again} tunes it first"
        raise PromptfitError(f"{path}: stays with {plan.now.model}, nothing is written (--force writes it{further})")


def _ends(plan: Plan, asking: Asking | None) -> list[str]:
    """Return which of the two models is going to be shut down, as far as a run that asks may look."""
    if asking is None:
        return []
    specs = [version.parsed.config.model for version in (plan.now, plan.new)]
    known = lifetimes(specs)
    for error in known.errors:
        say(error)
    return [shut_down(str(spec), end, date.today()) for spec in specs if (end := known.of(spec))]


def _dry_lines(plan: Plan, *, tunes: bool) -> Iterator[str]:
    """Yield what a migration would ask and do, and what that could cost."""
    evaluation, config = plan.evaluate(plan.new), plan.new.parsed.config
    unrecorded = evaluation.unrecorded
    asks, lacking = ("0 calls", 0) if unrecorded is None else (what_it_takes(unrecorded), unrecorded.estimate.calls)
    known = [outcome for outcome in evaluation.outcomes if outcome.reply is not None]
    recorded = f"{plan.replies - lacking:,} of {plan.replies:,} replies are recorded"
    yield f"would ask {plain(plan.new.model)}: {asks}; {recorded}"
    yield f"parameters: {plain(json.dumps(config.all_params, ensure_ascii=False))} ({plain(plan.why)})"
    if tunes:
        yield "if it is worse, it is tuned, within what --budget and --max-calls leave:"
        samples = plan.sample_set.samples
        told = forecast(plan.new.parsed, plan.sample_set, split(samples), known, Asking.concurrency, "promptfit")
        yield from (f"  {plain(line)}" for line in told)
    yield "a dry run: nothing was asked or written"
