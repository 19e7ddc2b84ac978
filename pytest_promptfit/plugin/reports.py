"""What a session leaves behind for people and machines: printed between and behind pytest's own summary, or written.

Which words are said is decided in ``report``; here they meet the terminal, the environment and the disk.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.reports import github, terminal, tuning
from pytest_promptfit.reports import machine as json_report
from pytest_promptfit.reports.verdict import verdict_lines
from pytest_promptfit.text import plain, relative_to, with_short_paths, wrapped
from pytest_promptfit.tuning.result import TuneFailure, TuneResult

if TYPE_CHECKING:
    from collections.abc import Generator

    from _pytest.terminal import TerminalReporter

    from pytest_promptfit.evaluation.verdicts import PromptResult
    from pytest_promptfit.reports.change import Change
    from pytest_promptfit.reports.page.tuning import Tuning

FEW_MISSES = 3
"""So many failed samples are told in full; more are rows of the summary's table."""


class Reports:
    """The plugin object that holds what came of a session, and tells it."""

    def __init__(self, config: pytest.Config) -> None:
        self.results: list[PromptResult] = []
        self.tuned: list[TuneResult | TuneFailure] = []
        self.tunings: list[Tuning] = []
        """The runs of ``tuned`` that came to an end, with the models they asked."""
        self.lines: list[str] = []
        """What else is to be said."""
        self.failures: list[str] = []
        """Why the run fails whatever its prompts come to: said with their verdicts."""
        self._config = config
        self._folder = config.invocation_params.dir

    def write_json(self) -> None:
        """Write what ``--promptfit-json`` asks for; raise PromptfitError when it cannot be written."""
        target = self._config.option.promptfit_json
        if target and not self._config.option.collectonly:
            json_report.write(target, self.results, self.tuned, self._relative)

    def write_page(self) -> None:
        """Write what ``--promptfit-report`` asks for; raise PromptfitError when it cannot be written."""
        target = self._config.option.promptfit_report
        if target and not self._config.option.collectonly:
            from pytest_promptfit.reports import page as html

            html.write(target, self.results, self.tunings, self._relative, changes=self._changes, price=price_of_call)

    def write_job_summary(self) -> None:
        """Append to GitHub's job summary where there is one; raise PromptfitError when it cannot be written."""
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if self.results and summary and _is_on_github():
            github.append_summary(Path(summary), self.results, self._in_repository, self._changes)

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Print figures, gates and misses of every prompt; on GitHub the misses are annotations."""
        if not (self.results or self.lines or self.tuned):
            return
        terminalreporter.write_sep("=", "promptfit")
        verbose = terminalreporter.verbosity > 0
        if not verbose and (said := terminal.letters_line(self.results)):
            self._print(terminalreporter, said)
        screen = terminal.Screen(self._width(terminalreporter), verbose, names_failures=not _is_on_github())
        for line, markup in terminal.summary(self.results, self._relative, screen):
            self._print(terminalreporter, line, **markup)
        finished = [result for result in self.tuned if isinstance(result, TuneResult)]
        for line, markup in tuning.summary(finished, self._relative):
            self._print(terminalreporter, line, **markup)
        for line in self.lines:
            self._print(terminalreporter, plain(line), yellow=True)
        if _is_on_github():
            for line in github.annotation_lines(self.results, self._in_repository, self._changes):
                terminalreporter.write_line(line)

    def print_verdicts(self, reporter: TerminalReporter) -> None:
        """Print a line a prompt: what a person looks for first, so it comes last."""
        finished = [result for result in self.tuned if isinstance(result, TuneResult)]
        lines = [*tuning.verdict_lines(finished, self._relative), *verdict_lines(self.results)]
        lines += [(plain(line), True) for line in self.failures]
        if lines:
            reporter.write_sep("=", "verdict")
        for line, fails in lines:
            self._print(reporter, line, bold=True, red=fails, green=not fails)

    def _print(self, reporter: TerminalReporter, line: str, **markup: bool) -> None:
        for part in wrapped(with_short_paths(line, self._folder), self._width(reporter)):
            reporter.write_line(part, **markup)

    def _width(self, reporter: TerminalReporter) -> int | None:
        """Return the columns of a screen; a log has none, and whoever searches it wants whole lines."""
        is_known = reporter.isatty or "COLUMNS" in os.environ
        return self._config.get_terminal_writer().fullwidth if is_known else None

    @cached_property
    def _changes(self) -> dict[str, Change]:
        """What was changed in the prompt files since the first git ref that they are judged by, else since HEAD."""
        from pytest_promptfit.reports.change import change_since

        ref = next(iter(self._config.option.promptfit_against or ()), "HEAD")
        paths = (result.evaluation.path for result in self.results)
        return {path: change for path in paths if (change := change_since(ref, Path(path)))}

    def _relative(self, path: str) -> str:
        return relative_to(path, self._folder)

    def _in_repository(self, path: str) -> str:
        """Return a path as GitHub wants it: from the root of the repository, wherever pytest was started."""
        workspace = os.environ.get("GITHUB_WORKSPACE")
        return relative_to(path, Path(workspace)) if workspace else self._relative(path)


class LastWord:
    """Stands around pytest's own summary: leaves out what ours tells, and puts the verdicts behind all of it."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> Generator[None, None, None]:
        """Keep pytest from telling of each case what the summary tells of all, unless more is asked for (``-v``).

        A few misses are told with all that is known of them. What is left out is put back before pytest counts it in
        its last line.
        """
        stats = terminalreporter.stats
        failed = stats.get("failed", [])
        if terminalreporter.verbosity <= 0 and failed:
            told = [getattr(report, "promptfit_told", "") for report in failed]
            left_out = {"summary", "misses"} if told.count("misses") > FEW_MISSES else {"summary"}
            stats["failed"] = [report for report, how in zip(failed, told, strict=True) if how not in left_out]
        try:
            return (yield)
        finally:
            if failed:
                stats["failed"] = failed
            self._reports.print_verdicts(terminalreporter)


def price_of_call(path: str, tokens_in: float, tokens_out: float) -> float | None:
    """Return what so many tokens of a prompt file's model cost in USD; ``None`` where nobody knows or it is local."""
    from pytest_promptfit.providers.usage import cost_usd

    try:
        model = parse_prompt_file(Path(path)).config.model
    except PromptfitError:
        return None
    return None if model.provider == "local" else cost_usd(model, round(tokens_in), round(tokens_out))


def _is_on_github() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"
