"""What a tuning run prints, as lines with their markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_promptfit.evaluation.metrics import mcnemar_midp
from pytest_promptfit.text import cut, percent, plain, points, probability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_promptfit.providers.usage import Estimate
    from pytest_promptfit.reports.terminal import Line
    from pytest_promptfit.tuning.result import Holdout, Step, TuneResult

SHOWN_SUSPECTS = 10


def summary(results: Iterable[TuneResult], relative: Callable[[str], str]) -> Iterator[Line]:
    """Yield for each run the verdict, the holdout, the steps, the diff, suspects and what it used."""
    for result in results:
        verdict = "rewritten" if result.accepted else "left as it was"
        yield (
            f"tuned {plain(relative(result.path))}: {verdict}: {plain(result.reason)}",
            {"bold": True, "green": result.accepted},
        )
        yield f"  stopped: {plain(result.stop_reason)}", {}
        yield from ((f"  {line}", {}) for line in _figures(result))
        yield from ((f"  warning: {plain(warning)}", {"yellow": True}) for warning in result.warnings)
        yield from ((f"  {line}", {}) for line in step_table(result.steps))
        for line in result.diff:
            yield f"  {plain(line)}", {"green": line.startswith("+"), "red": line.startswith("-")}
        yield from _dead_end(result)
        if result.suspects:
            shown, hidden = result.suspects[:SHOWN_SUSPECTS], len(result.suspects[SHOWN_SUSPECTS:])
            named = ", ".join(map(plain, shown)) + (f" and {hidden} more" if hidden else "")
            yield f"  check these labels, every candidate got them wrong: {named}", {"yellow": True}


def verdict_lines(results: Iterable[TuneResult], relative: Callable[[str], str]) -> Iterator[tuple[str, bool]]:
    """Yield for each run whether the prompt was rewritten and what the holdout says; a run never fails by itself."""
    for result in results:
        holdout, said = result.holdout, ""
        if result.accepted and holdout is not None and holdout.n:
            low, high = holdout.gain_ci95
            said = (
                f": {percent(holdout.before / holdout.n)} → {percent(holdout.after / holdout.n)} on the holdout, "
                f"{points(holdout.gain)} points ({points(low)} to {points(high)}), "
                f"fixed {holdout.fixed}, broke {holdout.broken}, {probability(holdout.p_value)}"
            )
        elif not result.accepted:
            said = f": {plain(result.reason)}"
        yield f"{plain(relative(result.path))} {'rewritten' if result.accepted else 'left as it was'}{said}.", False


def holdout_line(holdout: Holdout) -> str:
    """Return the only figures to publish: accuracy before and after with their 95 % Wilson intervals, and p."""
    if not holdout.n:
        return "holdout: empty"
    (low, high), (low_after, high_after), (least, most) = holdout.before_ci95, holdout.after_ci95, holdout.gain_ci95
    return (
        f"holdout ({holdout.n} samples): {percent(holdout.before / holdout.n)} ({percent(low)} to {percent(high)}) "
        f"before, {percent(holdout.after / holdout.n)} ({percent(low_after)} to {percent(high_after)}) after: "
        f"{points(holdout.gain)} points ({points(least)} to {points(most)}), "
        f"fixed {holdout.fixed}, broke {holdout.broken}, {probability(holdout.p_value)}"
    )


def price_line(before: Estimate, after: Estimate) -> str:
    """Return what a call takes under the old and under the new prompt."""
    ratio = after.input_tokens / before.input_tokens if before.input_tokens else 1.0
    said = [
        f"{before.input_tokens:.0f} → {after.input_tokens:.0f} tokens in ({ratio:.1f} times)",
        f"{before.output_tokens:.0f} → {after.output_tokens:.0f} out",
    ]
    if before.usd and after.usd:
        said.append(f"${before.usd:.2g} → ${after.usd:.2g} ({after.usd / before.usd:.1f} times)")
    if before.seconds is not None and after.seconds is not None:
        said.append(f"{before.seconds:.2g} → {after.seconds:.2g} s")
    return f"a call: {', '.join(said)}"


def free_classifier_line(free: Holdout) -> str:
    """Return how a classifier without a language model does against the prompt: is one needed at all?"""
    # In either direction: nobody knew beforehand which of the two is better.
    p_value = min(1.0, 2 * mcnemar_midp(max(free.fixed, free.broken), min(free.fixed, free.broken)))
    return (
        f"without a language model: TF-IDF and ridge regression get {percent(free.before / free.n)} of {free.n} "
        f"samples right, the prompt {percent(free.after / free.n)} ({points(free.gain)} points, {probability(p_value)})"
    )


def _dead_end(result: TuneResult) -> Iterator[Line]:
    """Yield what to do next where nothing was written, and the best candidate whole."""
    if result.advice:
        yield "  what can be done:", {"bold": True}
        yield from ((f"  - {plain(line)}", {}) for line in result.advice)
    if result.unproven is not None:
        for line in result.unproven.diff:
            yield f"    {plain(line)}", {}


def step_table(steps: Iterable[Step]) -> Iterator[str]:
    """Yield the steps that were tried: stage, fixed, broken, p and verdict."""
    rows = list(steps)
    if not rows:
        return
    yield f"{'':>3} {'stage':9} fixed  broke      p  verdict"
    for number, step in enumerate(rows, 1):
        verdict = "accepted" if step.accepted else "rejected"
        said = "" if step.verdict in ("accept", "reject") else f" ({step.verdict})"
        yield (
            f"{number:3} {step.stage:9} {len(step.fixed):5d} {len(step.broken):6d}  {step.p_value:5.3f}  "
            f"{verdict}{plain(said)}: {cut(step.summary, 80)}"
        )


def _figures(result: TuneResult) -> Iterator[str]:
    if result.holdout is not None:
        yield holdout_line(result.holdout)
    if result.canonical_total:
        before, after, total = result.canonical_before, result.canonical_after, result.canonical_total
        yield f"canonical: {before} of {total} right before, {after} after"
    if result.cost_before is not None and result.cost_after is not None:
        yield price_line(result.cost_before, result.cost_after)
    if result.free_classifier is not None:
        yield free_classifier_line(result.free_classifier)
    usage = result.usage
    needed = usage.task_calls + usage.optimizer_calls
    paid, sums = "", (usage.paid_usd, usage.task_usd, usage.optimizer_usd)
    if any(usd is None or usd for usd in sums):  # nothing is said where all is free
        now, task, optimizer = ("an unknown sum" if usd is None else f"${usd:.4f}" for usd in sums)
        paid = f", {now} paid (all: task {task}, optimizer {optimizer})"
    yield (
        f"{usage.task_calls} task calls, {usage.optimizer_calls} optimizer calls, "
        f"{usage.replayed} of {needed} replayed, {usage.input_tokens} tokens in, {usage.output_tokens} out{paid}"
    )
