"""What GitHub Actions shows: an annotation at each failed sample's line, and a table in the job summary."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_promptfit.cases import headline
from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.report.terminal import accuracy_line, first_steps, usage_line
from pytest_promptfit.report.text import cut, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_promptfit.verdicts import PromptResult

MAX_ANNOTATIONS = 50
_MARKUP = re.compile(r"[&<>\"'|\\`*_\[\]~$@#!:]|(?<=www)\.", re.IGNORECASE)


def annotation_lines(results: Iterable[PromptResult], relative: Callable[[str], str]) -> Iterator[str]:
    """Yield the ``::error`` commands, the first ones of each prompt."""
    for result in results:
        unrecorded = result.evaluation.unrecorded
        if unrecorded and unrecorded.is_everything:
            place = f"file={_property(relative(result.evaluation.path))},line=1"
            said = " ".join(first_steps(result, relative))
            yield f"::error {place},title={_property(result.evaluation.name)}::{_data(said)}"
            continue
        failed = [name for name, verdict in result.verdicts.items() if verdict == "failed"]
        for name in failed[:MAX_ANNOTATIONS]:
            outcome = result.evaluation.by_case[name]
            place = f"file={_property(relative(outcome.sample.path))},line={outcome.sample.line}"
            title = _property(f"{result.evaluation.name}: {name}")
            yield f"::error {place},title={title}::{_data(headline(outcome))}: {_data(cut(outcome.sample.text, 100))}"
        for gate in result.gates:
            if gate.passed is False:
                place = f"file={_property(relative(result.evaluation.path))},line=1"
                yield f"::error {place},title={_property(f'gate {gate.name}')}::{_data(gate.detail)}"


def append_summary(path: Path, results: Sequence[PromptResult], relative: Callable[[str], str]) -> None:
    """Append the table to the job summary; raise PromptfitError when it cannot be written."""
    try:
        with path.open("a", encoding="utf-8") as sink:
            sink.write("\n".join(summary_lines(results, relative)) + "\n")
    except OSError as error:
        raise PromptfitError(f"GITHUB_STEP_SUMMARY {path}: cannot be written: {error.strerror}") from None


def summary_lines(results: Iterable[PromptResult], relative: Callable[[str], str]) -> Iterator[str]:
    """Yield the job summary in Markdown."""
    yield "### promptfit"
    yield ""
    yield "| prompt | model | figures | baseline | gates |"
    yield "| --- | --- | --- | --- | --- |"
    for result in results:
        evaluation, compared = result.evaluation, result.comparison
        baseline = (
            f"fixed {len(compared.fixed)}, broken {len(compared.broken)}, p = {compared.p_value:.3g}"
            if compared
            else "none"
        )
        gates = ", ".join(
            f"{gate.name} {'**failed**' if gate.passed is False else gate.verdict}" for gate in result.gates
        )
        cells = (_quoted(relative(evaluation.path)), _quoted(evaluation.model), accuracy_line(evaluation), baseline)
        yield f"| {' | '.join(cells)} | {gates} |"
    yield ""
    for result in results:
        yield from _failures(result)


def _failures(result: PromptResult) -> Iterator[str]:
    failed = [name for name, verdict in result.verdicts.items() if verdict == "failed"]
    if failed:
        yield f"<details><summary>{_quoted(result.evaluation.name)}: {len(failed)} failed cases</summary>"
        yield ""
        yield "| case | expected | read | text |"
        yield "| --- | --- | --- | --- |"
        for name in failed[:MAX_ANNOTATIONS]:
            outcome = result.evaluation.by_case[name]
            cells = (
                name,
                outcome.sample.label,
                outcome.predicted or outcome.status,
                cut(outcome.sample.text, 100),
            )
            yield f"| {' | '.join(map(_quoted, cells))} |"
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
