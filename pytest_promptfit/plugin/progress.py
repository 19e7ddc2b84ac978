"""The live line while models are asked: rewritten in place on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_promptfit.providers.usage import Pace
from pytest_promptfit.text import fitted, plain

if TYPE_CHECKING:
    import pytest
    from _pytest.terminal import TerminalReporter

REDRAW_SECONDS = 0.1
LINE_SECONDS = 15.0


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
