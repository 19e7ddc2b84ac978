"""The state of one pytest session with ``--promptfit``: which prompt files run, and what came of them.

Registered by ``plugin`` when the flag is given. Collection and cases are in ``cases``, reports in ``report``.
"""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_promptfit.cases import GateCase, PromptFile, SampleCase
from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.forward import Asking
from pytest_promptfit.report import github, json_report, terminal
from pytest_promptfit.report.progress import Progress
from pytest_promptfit.report.text import relative_to
from pytest_promptfit.run import PromptRun, RunSettings, write_accepted

if TYPE_CHECKING:
    from collections.abc import Generator

    from _pytest.terminal import TerminalReporter

    from pytest_promptfit.verdicts import PromptResult


class PromptfitSession:
    """The plugin object that holds the prompt runs of a session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._runs: dict[Path, PromptRun] = {}
        self._names: dict[str, Path] = {}
        self._worker_results: dict[str, PromptResult] = {}
        self._lines: list[str] = []
        self._progress = Progress(config)
        self._settings = self._read_settings()
        _refuse_scattered_recording(config)

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Collect prompt files by their names."""
        patterns = self._config.getini("promptfit_files")
        if not any(fnmatch.fnmatch(file_path.name, pattern) for pattern in patterns):
            return None
        run = self._runs.setdefault(file_path, PromptRun(file_path, self._settings))
        return PromptFile.of(parent, run)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which samples are selected; refuse two prompts that would share a cassette folder."""
        selected: dict[Path, list[Any]] = {}
        for item in session.items:
            if isinstance(item, SampleCase):
                selected.setdefault(item.path, []).append(item.sample)
            elif isinstance(item, GateCase):
                selected.setdefault(item.path, [])
        for path, samples in selected.items():
            run = self._runs[path]
            run.selected = tuple(samples)
            other = self._names.setdefault(run.parsed.name, path)
            if other != path:
                raise pytest.UsageError(
                    f"{path}: name: {run.parsed.name!r} is also the name of {other}: "
                    "expected different names, because recordings are kept by name"
                )

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Replay or ask all selected samples before the first case reports; a worker does it prompt by prompt."""
        stopped = session.testsfailed and not session.config.option.continue_on_collection_errors
        if not (session.config.option.collectonly or stopped or _is_distributed(session.config)):
            try:
                for run in self._runs.values():
                    if run.selected:
                        _ = run.result
            except PromptfitError as error:
                raise pytest.UsageError(str(error)) from None
            finally:
                self._progress.finish()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Mark what pytest has no exception for: a known miss that is right again, and a miss of a gated file."""
        report = yield
        if report.when == "call" and isinstance(item, SampleCase):
            if item.verdict == "xpassed":
                report.wasxfail = "a known miss of the baseline is right again"
            elif item.verdict == "missed":
                report.promptfit_miss = True  # type: ignore[attr-defined]  # reports carry extra attributes
        return report

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, Any] | None:
        """Report a miss of a gated file as ``missed``: it does not fail alone."""
        if getattr(report, "promptfit_miss", False):
            return "missed", "m", ("MISSED", {"yellow": True})
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand results to the controller, or write what was asked for: baseline, JSON, job summary."""
        results = self._own_results()
        if hasattr(self._config, "workerinput"):
            # pytest-xdist sets this on the config of its workers.
            self._config.workeroutput["promptfit"] = json_report.dump_results(results)  # type: ignore[attr-defined]
            return
        results = [*self._worker_results.values(), *results]
        self._results = sorted(results, key=lambda result: result.evaluation.path)
        try:
            self._write(self._results)
        except PromptfitError as error:
            self._lines.append(f"error: {error}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the results of a pytest-xdist worker; several may have replayed the same prompt."""
        for result in json_report.load_results(getattr(node, "workeroutput", {}).get("promptfit", "[]")):
            self._worker_results[result.evaluation.path] = result

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Print the summary of every prompt, and on GitHub an annotation for every failed sample."""
        results = getattr(self, "_results", [])
        if not results and not self._lines:
            return
        terminalreporter.section("promptfit")
        for line, markup in terminal.summary(results, self._relative):
            terminalreporter.write_line(line, **markup)
        for line in self._lines:
            terminalreporter.write_line(line, yellow=True)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for line in github.annotation_lines(results, self._relative):
                terminalreporter.write_line(line)

    def _own_results(self) -> list[PromptResult]:
        return [run.result for run in self._runs.values() if run.was_evaluated]

    def _write(self, results: list[PromptResult]) -> None:
        if self._config.option.promptfit_update:
            self._lines += [write_accepted(result, Path(result.evaluation.path)) for result in results]
        target = self._config.option.promptfit_json
        if target:
            json_report.write(target, results, self._relative)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary and os.environ.get("GITHUB_ACTIONS") == "true":
            github.append_summary(Path(summary), results, self._relative)

    def _relative(self, path: str) -> str:
        return relative_to(path, self._config.invocation_params.dir)

    def _read_settings(self) -> RunSettings:
        option = self._config.option
        return RunSettings(
            cassettes=self._config.rootpath / self._config.getini("promptfit_cassettes"),
            against=option.promptfit_against,
            update=option.promptfit_update or "no",
            prune=option.promptfit_prune,
            asking=self._read_asking(),
        )

    def _read_asking(self) -> Asking | None:
        option = self._config.option
        if not option.promptfit_record:
            return None
        from pytest_promptfit.asking import Budget, Limits

        return Asking(
            budget=Budget(Limits(max_calls=option.promptfit_max_calls, max_usd=option.promptfit_budget)),
            mode=option.promptfit_record,
            concurrency=option.promptfit_concurrency,
            progress=self._progress.show,
            on_wait=self._progress.say,
        )


def _is_distributed(config: pytest.Config) -> bool:
    """Tell whether pytest-xdist hands out the cases: to us as a worker, or by us to workers."""
    return hasattr(config, "workerinput") or getattr(config.option, "dist", "no") != "no"


def _refuse_scattered_recording(config: pytest.Config) -> None:
    """Refuse to write under pytest-xdist when the cases of a prompt may land on several workers."""
    option = config.option
    if getattr(option, "dist", "no") in ("no", "loadgroup") or not getattr(option, "tx", None):
        return
    for name in ("record", "prune"):
        if getattr(option, f"promptfit_{name}"):
            raise pytest.UsageError(
                f"--promptfit-{name} under pytest-xdist needs --dist loadgroup, so that a prompt stays on one worker"
            )
