"""What a session tells people and machines: the live line, what stands in and behind pytest's summary, the files.

Which words are said is decided in ``reports``; here they meet the terminal, the environment and the disk.
"""

from __future__ import annotations

import os
import time
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.read import parse_prompt_file, under_model
from pytest_promptfit.providers.usage import Pace
from pytest_promptfit.reports import github, terminal, tuning
from pytest_promptfit.reports import machine as json_report
from pytest_promptfit.reports.canary import canary_line
from pytest_promptfit.reports.verdict import verdict_lines
from pytest_promptfit.text import fitted, plain, relative_to, with_short_paths, wrapped
from pytest_promptfit.tuning.result import TuneFailure, TuneResult

if TYPE_CHECKING:
    from collections.abc import Generator

    from _pytest.terminal import TerminalReporter

    from pytest_promptfit.evaluation.canary import Canary
    from pytest_promptfit.evaluation.verdicts import PromptResult
    from pytest_promptfit.reports.change import Change
    from pytest_promptfit.reports.page.tuning import Tuning

REDRAW_SECONDS = 0.1
LINE_SECONDS = 15.0
"""How often the live line is renewed on a terminal, and a line written elsewhere."""

FEW_MISSES = 3
"""So many failed samples are told in full; more are rows of the summary's table."""


class Reports:
    """The plugin object that holds what came of a session, and tells it."""

    def __init__(self, config: pytest.Config) -> None:
        self.results: list[PromptResult] = []
        self.tuned: list[TuneResult | TuneFailure] = []
        self.tunings: list[Tuning] = []
        """The runs of ``tuned`` that came to an end, with the models they asked."""
        self.canaries: list[Canary] = []
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
            json_report.write(target, self.results, self.tuned, self.canaries, self._relative)

    def write_page(self) -> None:
        """Write what ``--promptfit-report`` asks for; raise PromptfitError when it cannot be written."""
        target = self._config.option.promptfit_report
        if target and not self._config.option.collectonly:
            from pytest_promptfit.reports import page as html

            price = partial(price_of_call, model=self._config.option.promptfit_model)
            html.write(target, self.results, self.tunings, self._relative, changes=self._changes, price=price)

    def write_job_summary(self) -> None:
        """Append to GitHub's job summary where there is one; raise PromptfitError when it cannot be written."""
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if (self.results or self.canaries) and summary and _is_on_github():
            github.append_summary(Path(summary), self.results, self._in_repository, self._changes, self.canaries)

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Print figures, gates and misses of every prompt; on GitHub the misses are annotations."""
        if not (self.results or self.lines or self.tuned or self.canaries):
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
            for line in github.annotation_lines(self.results, self._in_repository, self._changes, self.canaries):
                terminalreporter.write_line(line)

    def print_verdicts(self, reporter: TerminalReporter) -> None:
        """Print a line a prompt: what a person looks for first, so it comes last."""
        finished = [result for result in self.tuned if isinstance(result, TuneResult)]
        lines = [*tuning.verdict_lines(finished, self._relative), *verdict_lines(self.results)]
        lines += [(canary_line(canary), canary.fails) for canary in self.canaries]
        lines += [(plain(line), True) for line in self.failures]
        if lines:
            reporter.write_sep("=", "verdict")
        for line, fails in lines:
            self._print(reporter, line, bold=True, red=fails is True, green=fails is False)

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


class Progress:
    """Shows how many replies have arrived; called from the thread that asks."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._shown = 0.0
        self._pace = Pace()
        self._is_open = False

    def line(self, text: str) -> None:
        """Show what a long run is at."""
        now = time.monotonic()
        reporter = self._reporter()
        if reporter is None or now - self._shown < (REDRAW_SECONDS if reporter.isatty else LINE_SECONDS):
            return
        self._shown = now
        self._write(reporter, plain(text))

    def show(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` replies have arrived; none have when the model is only started."""
        now = time.monotonic()
        if done:  # how long a model takes to start says nothing of its pace
            self._pace.note(now, done)
        reporter = self._reporter()
        if reporter is None:
            return
        pause = REDRAW_SECONDS if reporter.isatty else LINE_SECONDS
        if 0 < done < total and now - self._shown < pause:
            return
        self._shown = now
        self._write(reporter, progress_line(done, total, self._pace))

    def say(self, message: str) -> None:
        """Write a line, such as that another run holds the cassette."""
        reporter = self._reporter()
        if reporter is not None:
            self.finish()
            reporter.write_line(plain(message))

    def finish(self) -> None:
        """End the line that was being rewritten."""
        reporter = self._reporter()
        if self._is_open and reporter is not None:
            reporter.write_line("")
        self._is_open = False
        self._pace = Pace()

    def _write(self, reporter: TerminalReporter, line: str) -> None:
        if reporter.isatty:
            # A line that wraps cannot be rewritten.
            reporter.rewrite(fitted(line, self._config.get_terminal_writer().fullwidth - 1), erase=True)
            self._is_open = True
        else:
            reporter.write_line(line)

    def _reporter(self) -> TerminalReporter | None:
        reporter: TerminalReporter | None = self._config.pluginmanager.get_plugin("terminalreporter")
        return None if reporter is None or reporter.verbosity < 0 else reporter


def progress_line(done: int, total: int, pace: Pace, width: int = 24) -> str:
    """Return a bar, the counts, the replies a second and the time that is left."""
    filled = width * done // total
    left = pace.left(total - done)
    rate = f", {pace.rate:.1f}/s" if pace.rate else ""
    said = f"{rate}{f', {left} left' if left else ''}" if done else ", starting the model"
    return f"asking [{'#' * filled}{'.' * (width - filled)}] {done}/{total}{said}"


def price_of_call(path: str, tokens_in: float, tokens_out: float, *, model: str | None = None) -> float | None:
    """Return what so many tokens of a prompt file's model, or of ``model``, cost in USD.

    ``None`` where nobody knows or it is local.
    """
    from pytest_promptfit.providers.usage import cost_usd

    try:
        parsed = parse_prompt_file(Path(path))
        spec = (under_model(parsed, model) if model else parsed).config.model
    except PromptfitError:
        return None
    return None if spec.provider == "local" else cost_usd(spec, round(tokens_in), round(tokens_out))


def _is_on_github() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"
