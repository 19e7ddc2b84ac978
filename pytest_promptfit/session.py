"""The state of one pytest session with ``--promptfit``: which prompt files run, and what came of them.

Registered by ``plugin`` when the flag is given. Collection and cases are in ``cases``, reports in ``report``.
"""

from __future__ import annotations

import fnmatch
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_promptfit.baseline import check_ref
from pytest_promptfit.cases import GateCase, PromptFile, SampleCase, TuneCase
from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.forward import Asking
from pytest_promptfit.report import github, json_report, terminal, tuning
from pytest_promptfit.report.progress import Progress
from pytest_promptfit.report.text import plain, relative_to, with_short_paths
from pytest_promptfit.run import PromptRun, RunSettings, write_accepted
from pytest_promptfit.tune.result import TuneResult

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from _pytest.terminal import TerminalReporter

    from pytest_promptfit.verdicts import PromptResult


ONE_WORKER_A_FILE = ("loadgroup", "loadfile", "loadscope")
"""The ways of pytest-xdist to hand out cases that leave all cases of a prompt file on one worker."""


class PromptfitSession:
    """The plugin object that holds the prompt runs of a session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._folder = config.invocation_params.dir
        self._runs: dict[Path, PromptRun] = {}
        self._names: dict[str, Path] = {}
        self._worker_results: dict[str, PromptResult] = {}
        self._lines: list[str] = []
        self._progress = Progress(config)
        self._settings = self._read_settings()
        _refuse_scattered_recording(config)
        if self._settings.against:
            _refuse_unknown_ref(self._settings.against, config.rootpath)

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Collect prompt files by their names."""
        if not is_prompt_file(self._config, file_path.name):
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
            # --keep-duplicates collects a file as often as it is named.
            run.selected = tuple(dict.fromkeys(samples))
            run.refusal = self._refuse_shared_name(run)
            if run.refusal and not _is_worker(self._config):
                raise pytest.UsageError(run.refusal)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Replay or ask all selected samples before the first case reports; a worker does it prompt by prompt."""
        stopped = session.testsfailed and not session.config.option.continue_on_collection_errors
        if not (session.config.option.collectonly or stopped or _is_distributed(session.config)):
            try:
                self._tune(session)
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
            if item.verdict == "xpassed" and not self._config.option.runxfail:
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
        if _is_worker(self._config):
            self._config.workeroutput["promptfit"] = json_report.dump_results(results)  # type: ignore[attr-defined]
            return
        results = [*self._worker_results.values(), *results]
        self._results = sorted(results, key=lambda result: result.evaluation.path)
        accepting: list[Callable[[], None]] = [partial(self._accept, result) for result in self._results]
        for write in [*accepting, self._write_json, self._write_job_summary]:
            try:
                write()
            except PromptfitError as error:
                self._lines.append(f"error: {error}")
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Keep a prompt file on one worker under ``--dist loadgroup``."""
        return _scheduler(config, log) if config.getoption("dist") == "loadgroup" else None

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the results of a pytest-xdist worker; several may have replayed the same prompt."""
        for result in json_report.load_results(getattr(node, "workeroutput", {}).get("promptfit", "[]")):
            self._worker_results[result.evaluation.path] = result

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Print the summary of every prompt, and on GitHub an annotation for every failed sample."""
        results = getattr(self, "_results", [])
        if not (results or self._lines or self._tuned()):
            return
        terminalreporter.section("promptfit")
        for line, markup in terminal.summary(results, self._relative):
            terminalreporter.write_line(line, **markup)
        for line, markup in tuning.summary(self._tuned(), self._relative):
            terminalreporter.write_line(line, **markup)
        for line in self._lines:
            terminalreporter.write_line(plain(with_short_paths(line, self._folder)), yellow=True)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for line in github.annotation_lines(results, self._in_repository):
                terminalreporter.write_line(line)

    def _tune(self, session: pytest.Session) -> None:
        """Tune the prompts whose run is selected, or say what that would do."""
        runs = [self._runs[item.path] for item in session.items if isinstance(item, TuneCase)]
        option = self._config.option
        if not runs:
            return
        if option.tune_dry_run:
            self._lines += [f"{self._relative(str(run.path))}: {line}" for run in runs for line in run.plan()]
            return
        from pytest_promptfit.tune.run import TuneOptions

        options = TuneOptions(
            seed=option.tune_seed or 0,
            iterations=option.tune_iterations,
            concurrency=option.promptfit_concurrency,
            on_wait=self._progress.say,
            notify=self._progress.line,
        )
        for run in runs:
            run.tune(options)
            self._progress.finish()

    def _refuse_shared_name(self, run: PromptRun) -> str:
        """Return why a prompt must not run when another one has its name; a worker tells it in each case."""
        other = self._names.setdefault(run.parsed.name, run.path)
        if other == run.path:
            return ""
        return (
            f"{self._relative(str(run.path))}: name: {run.parsed.name!r} is also the name of "
            f"{self._relative(str(other))}: expected different names, because recordings are kept by name"
        )

    def _tuned(self) -> list[TuneResult]:
        return [run.tuned for run in self._runs.values() if isinstance(run.tuned, TuneResult)]

    def _own_results(self) -> list[PromptResult]:
        return [run.result for run in self._runs.values() if run.was_evaluated]

    def _accept(self, result: PromptResult) -> None:
        if self._config.option.promptfit_update:
            self._lines.append(write_accepted(result, Path(result.evaluation.path)))

    def _write_json(self) -> None:
        target = self._config.option.promptfit_json
        if target and not self._config.option.collectonly:
            json_report.write(target, self._results, self._tuned(), self._relative)

    def _write_job_summary(self) -> None:
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if self._results and summary and os.environ.get("GITHUB_ACTIONS") == "true":
            github.append_summary(Path(summary), self._results, self._in_repository)

    def _relative(self, path: str) -> str:
        return relative_to(path, self._folder)

    def _in_repository(self, path: str) -> str:
        """Return a path as GitHub wants it: from the root of the repository, wherever pytest was started."""
        workspace = os.environ.get("GITHUB_WORKSPACE")
        return relative_to(path, Path(workspace)) if workspace else self._relative(path)

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


def is_prompt_file(config: pytest.Config, name: str) -> bool:
    """Tell whether a file is a prompt file, by its name."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in config.getini("promptfit_files"))


def _is_distributed(config: pytest.Config) -> bool:
    """Tell whether pytest-xdist hands out the cases: to us as a worker, or by us to workers."""
    return _is_worker(config) or getattr(config.option, "dist", "no") != "no"


def _is_worker(config: pytest.Config) -> bool:
    """Tell whether this is a worker of pytest-xdist, which sets this on its config."""
    return hasattr(config, "workerinput")


def _refuse_scattered_recording(config: pytest.Config) -> None:
    """Refuse to write under pytest-xdist when the cases of a prompt may land on several workers."""
    option = config.option
    if getattr(option, "dist", "no") == "no" or not getattr(option, "tx", None):
        return
    if option.promptfit_tune:
        raise pytest.UsageError("--tune runs in one process: leave out pytest-xdist's -n")
    for name in ("budget", "max_calls"):
        if getattr(option, f"promptfit_{name}"):
            flag = name.replace("_", "-")
            raise pytest.UsageError(f"--promptfit-{flag} counts in one process: leave out pytest-xdist's -n")
    for name in ("record", "prune"):
        if getattr(option, f"promptfit_{name}") and option.dist not in ONE_WORKER_A_FILE:
            raise pytest.UsageError(
                f"--promptfit-{name} under pytest-xdist needs --dist loadgroup, so that a prompt stays on one worker"
            )


def _refuse_unknown_ref(ref: str, folder: Path) -> None:
    try:
        check_ref(ref, folder)
    except PromptfitError as error:
        raise pytest.UsageError(str(error)) from None


def _scheduler(config: pytest.Config, log: Any) -> Any:
    """Return pytest-xdist's loadgroup scheduler with one group for each prompt file.

    The mark ``xdist_group`` would not do: pytest-xdist 3.8 writes it into a place that pytest 9.2 does not read.
    """
    from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]  # it has no types

    class PromptGroupScheduling(LoadGroupScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            is_prompt = is_prompt_file(config, path.rpartition("/")[2])
            return path if is_prompt else str(super()._split_scope(nodeid))

    return PromptGroupScheduling(config, log)
