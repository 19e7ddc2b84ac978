"""What GitHub Actions shows: annotations, the verdicts first, and verdicts, diff and misses in the job summary."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.reports.canary import canary_line, differing_lines
from pytest_promptfit.reports.case_text import answer, confused, headline, said_of_gate
from pytest_promptfit.reports.terminal import unstable_lines, usage_line, without_reply_lines
from pytest_promptfit.reports.verdict import verdict_lines, verdict_on
from pytest_promptfit.text import counted, cut, percent, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_promptfit.evaluation.canary import Canary
    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.evaluation.verdicts import PromptResult
    from pytest_promptfit.reports.change import Change

MOST_ANNOTATIONS = 10
"""GitHub keeps no more errors of a step."""

MOST_ROWS = 50
"""Misses of a prompt in the job summary."""

# GitHub makes links of bare www. too, and formulas of what stands between dollars.
_MARKUP = re.compile(r"[&<>\"'|\\`*_\[\]~$@#!:]|(?<=www)\.", re.IGNORECASE)


def annotation_lines(
    results: Sequence[PromptResult],
    relative: Callable[[str], str],
    changes: Mapping[str, Change],
    canaries: Sequence[Canary] = (),
) -> Iterator[str]:
    """Yield the ``::error`` commands by weight: verdicts, canaries, then canonicals, then samples that fail or broke.

    A verdict stands at the first changed line of its prompt file; ``changes`` are by path.
    """
    # What comes last may not be shown at all, so the verdicts come first.
    failing = sorted((r for r in results if verdict_on(r).fails), key=lambda r: verdict_on(r).tone != "worse")
    found = [_verdict(result, relative, changes.get(result.evaluation.path)) for result in failing]
    found += [_error(relative(one.path), 1, f"{one.name}: canary", canary_line(one)) for one in canaries if one.fails]
    wrong: list[tuple[str, Outcome]] = []
    for result in failing:
        names = {*result.failed_cases, *(result.comparison.broken if result.comparison and result.is_worse else ())}
        misses = (outcome for group in confused(result) for outcome in group.outcomes)
        wrong += [(result.evaluation.name, outcome) for outcome in misses if outcome.sample.case_name in names]
    for name, outcome in sorted(wrong, key=lambda pair: not pair[1].sample.canonical):
        sample = outcome.sample
        said = f"{headline(outcome)}: {cut(sample.text, 100)}"
        found.append(_error(relative(sample.path), sample.line, f"{name}: {sample.case_name}", said))
    yield from found[: MOST_ANNOTATIONS - 1]
    last = found[MOST_ANNOTATIONS - 1 :]
    if last:
        yield last[0] + (_data(f" (and {len(last) - 1} more in the job summary)") if len(last) > 1 else "")


def _verdict(result: PromptResult, relative: Callable[[str], str], change: Change | None) -> str:
    verdict = verdict_on(result)
    gates = [(gate.name, *said_of_gate(gate)) for gate in result.failed_gates]
    said = [
        f"{verdict.sentence}. {verdict.end}",
        *(line for line in without_reply_lines(result, relative) if line != verdict.sentence),
        *(f"gate {name}: {sentence}" for name, sentence, _ in gates),
        *(f"- {what}" for _, _, looser in gates for what in looser),
    ]
    line = change.line if change and change.diff else 1
    return _error(relative(result.evaluation.path), line, verdict.name, "\n".join(said))


def _error(path: str, line: int, title: str, said: str) -> str:
    return f"::error file={_property(path)},line={line},title={_property(title)}::{_data(said)}"


def append_summary(
    path: Path,
    results: Sequence[PromptResult],
    relative: Callable[[str], str],
    changes: Mapping[str, Change],
    canaries: Sequence[Canary] = (),
) -> None:
    """Append the report to the job summary; raise PromptfitError when it cannot be written."""
    try:
        with path.open("a", encoding="utf-8") as sink:
            sink.write("\n".join(summary_lines(results, relative, changes, canaries)) + "\n")
    except OSError as error:
        raise PromptfitError(f"GITHUB_STEP_SUMMARY {path}: cannot be written: {error.strerror}") from None


def summary_lines(
    results: Sequence[PromptResult],
    relative: Callable[[str], str],
    changes: Mapping[str, Change],
    canaries: Sequence[Canary] = (),
) -> Iterator[str]:
    """Yield the job summary in Markdown: verdicts, what was changed, the figures of each prompt, the misses."""
    yield "### promptfit"
    yield ""
    for line, fails in [*verdict_lines(results), *((canary_line(one), one.fails) for one in canaries)]:
        yield f"- {'⚪' if fails is None else '❌' if fails else '✅'} {_quoted(line)}"
    yield ""
    for result in results:
        change = changes.get(result.evaluation.path)
        if change and change.diff:
            # A fence ends at as many backticks as opened it, and a prompt may hold any number of them.
            longest = max(len(run) for line in change.diff for run in re.findall("`*", line))
            fence = "`" * max(3, longest + 1)
            yield f"{_quoted(relative(result.evaluation.path))} since {_quoted(change.since)}:"
            yield from ("", f"{fence}diff", *change.diff, fence, "")
    if results:
        yield "| prompt | model | accuracy | against | gates |"
        yield "| --- | --- | --- | --- | --- |"
    for result in results:
        evaluation, compared, against = result.evaluation, result.comparison, "none"
        if compared:
            moved = f"fixed {len(compared.fixed)}, broke {len(compared.broken)}"
            against = f"{_quoted(compared.reference)} {'unchanged' if compared.is_unchanged else moved}"
        gates = (f"{gate.name} {'**failed**' if gate.passed is False else gate.verdict}" for gate in result.gates)
        right, total = evaluation.confusion.correct, evaluation.confusion.total
        accuracy = f"{percent(right / total)} ({right} of {total})" if total else "–"
        cells = (_quoted(relative(evaluation.path)), _quoted(evaluation.model), accuracy, against, ", ".join(gates))
        yield f"| {' | '.join(cells)} |"
    yield ""
    for result in results:
        yield from _details(result, relative)
    for one in canaries:
        yield from (f"- {_quoted(line.strip())}" for line in differing_lines(one))


def _details(result: PromptResult, relative: Callable[[str], str]) -> Iterator[str]:
    misses = [(group, outcome) for group in confused(result) for outcome in group.outcomes]
    for gate in result.failed_gates:
        sentence, looser = said_of_gate(gate)
        yield f"- gate {gate.name}: {_quoted(sentence)}"
        yield from (f"  - {_quoted(what)}" for what in looser)
    yield from (f"- {_quoted(line.strip())}" for line in without_reply_lines(result, relative))
    yield from (f"- {_quoted(line.strip())}" for line in unstable_lines(result.evaluation))
    yield ""
    if misses:
        yield f"<details><summary>{_quoted(result.evaluation.name)}: {counted(len(misses), 'miss', 'misses')}</summary>"
        yield ""
        yield "| label → read | case | text |"
        yield "| --- | --- | --- |"
        for group, outcome in misses[:MOST_ROWS]:
            confusion = f"{_quoted(group.label)} → {_quoted(answer(group.predicted))}"
            cells = (confusion, _quoted(outcome.sample.case_name), _quoted(cut(outcome.sample.text, 100)))
            yield f"| {' | '.join(cells)} |"
        if len(misses) > MOST_ROWS:
            yield f"| {len(misses) - MOST_ROWS} more | | |"
        yield ""
        yield "</details>"
        yield ""
    yield f"{_quoted(result.evaluation.name)}: {usage_line(result.evaluation)}"
    yield ""


def _quoted(text: str) -> str:
    """Return a stranger's words as code that ends no table cell, with no HTML, Markdown, link or formula in it.

    In code GitHub looks for no mentions and no issue numbers either.
    """
    return f"<code>{_MARKUP.sub(lambda char: f'&#{ord(char[0])};', plain(text))}</code>"


def _data(text: str) -> str:
    return plain(text, keep_lines=True).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(plain(text)).replace(":", "%3A").replace(",", "%2C")
