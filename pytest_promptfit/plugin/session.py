"""The state of one pytest session with ``--promptfit``: which prompt files run, and what came of them.

Registered by ``plugin`` when the flag is given. Collection and cases are in ``cases``, reports in ``reports``.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_promptfit.cassettes.where import SETTING, Where, setting_of
from pytest_promptfit.errors import CassetteError, PromptfitError, told_in_one_line
from pytest_promptfit.evaluation.forward import Asking
from pytest_promptfit.evaluation.verdicts import settled
from pytest_promptfit.plugin import xdist as distributed
from pytest_promptfit.plugin.cases import CanaryCase, CaseReports, GateCase, PromptFile, SampleCase, TuneCase, told
from pytest_promptfit.plugin.hooks import custom_of
from pytest_promptfit.plugin.reports import LastWord, Progress, Reports
from pytest_promptfit.plugin.run import PromptRun, RunSettings, write_accepted
from pytest_promptfit.plugin.selection import (
    is_prompt_file,
    narrowed_selection,
    paths_given,
    refuse_options_by_the_change,
    refuse_other_names,
    where_prompts_are,
)
from pytest_promptfit.prompts.model import model_named
from pytest_promptfit.prompts.read import parse_prompt_file, under_model
from pytest_promptfit.text import plain, relative_to, with_short_paths
from pytest_promptfit.tuning.result import TuneFailure, TuneResult

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from pytest_promptfit.evaluation.reference import References
    from pytest_promptfit.evaluation.verdicts import PromptResult
    from pytest_promptfit.prompts.model import ModelSpec


CONCURRENCY = 16
"""Calls in flight at once, unless the user says another number."""


class PromptfitSession:
    """The plugin object that holds the prompt runs of a session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._folder = config.invocation_params.dir
        self._runs: dict[Path, PromptRun] = {}
        self._folders: dict[Path, Path] = {}
        self._worker_results: dict[str, PromptResult] = {}
        self._recordings: dict[str, dict[str, str]] = {}
        self._other_errors = False
        self._reports = Reports(config)
        self._lines = self._reports.lines
        self._progress = Progress(config)
        self._narrowed: dict[str, None] = {}
        self._collected = 0
        refuse_options_by_the_change(config)
        option = config.option
        self._settings = RunSettings(
            root=config.rootpath,
            where=_where(config),
            against=self._read_against(),
            model=self._read_model(),
            update=option.promptfit_update or "no",
            prune=option.promptfit_prune,
            asking=self._asking() if option.promptfit_record else None,
        )
        config.pluginmanager.register(CaseReports(config), "promptfit-case-reports")
        config.pluginmanager.register(self._reports, "promptfit-reports")
        config.pluginmanager.register(LastWord(self._reports), "promptfit-last-word")
        distributed.refuse_scattered_writing(config)

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Collect prompt files by their names."""
        if not is_prompt_file(self._config, file_path.name):
            return None
        if file_path not in self._runs:
            self._runs[file_path] = PromptRun(file_path, self._settings, custom_of(parent.session, file_path))
        run = self._runs[file_path]
        return PromptFile.of(parent, run)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note whether anything but a prompt file could not be collected."""
        if report.failed and not is_prompt_file(self._config, Path(report.nodeid).name):
            self._other_errors = True

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Say which names prompt files have where a YAML file was typed that nobody collects."""
        try:
            return (yield)
        except pytest.UsageError:
            refuse_other_names(self._config)
            raise

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which samples are selected; refuse two prompts that would share a cassette folder, or a wrong door."""
        distributes = distributed.is_distributed(self._config)
        if not self._runs and not distributes and (elsewhere := where_prompts_are(self._config)):
            raise pytest.UsageError(elsewhere)
        self._lines += [run.skipped for run in self._runs.values() if run.skipped]
        selected: dict[Path, list[Any]] = {}
        for item in session.items:
            if isinstance(item, SampleCase):
                selected.setdefault(item.path, []).append(item.sample)
            elif isinstance(item, GateCase):
                selected.setdefault(item.path, [])
                self._runs[item.path].selected_gates.add(item.gate)
            elif isinstance(item, CanaryCase):
                selected.setdefault(item.path, [])
        against = self._settings.against
        comparisons = len(selected) * (1 + len(against.versions if against else ()))
        for path, samples in selected.items():
            run = self._runs[path]
            # --keep-duplicates collects a file as often as it is named.
            run.selected = tuple(dict.fromkeys(samples))
            run.tests = comparisons if distributed.is_worker(self._config) else 0
            run.refusal = self._refuse_shared_name(run)
            if run.refusal and not distributed.is_worker(self._config):
                raise pytest.UsageError(plain(run.refusal))
        if against and not self._config.option.collectonly:
            with _as_usage_error():
                self._narrowed.update(dict.fromkeys(narrowed_selection(self._config, against, self._runs)))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Replay or ask all selected samples before the first case reports; a worker does it prompt by prompt."""
        option = session.config.option
        pays = self._settings.asking or option.promptfit_tune or option.promptfit_canary
        if not (pays or self._other_errors) and any(run.selected for run in self._runs.values()):
            # What is wrong with the files of one prompt fails, and leaves the others their results; before anything
            # is paid for, it is mended first.
            session.config.option.continue_on_collection_errors = True
        stopped = session.testsfailed and not session.config.option.continue_on_collection_errors
        if not (session.config.option.collectonly or stopped or distributed.is_distributed(session.config)):
            try:
                self._tune(session)
                self._evaluate([run for run in self._runs.values() if run.selected])
                self._watch(session)
            except PromptfitError as error:
                raise pytest.UsageError(told(error, self._config)) from None
            finally:
                self._progress.finish()
        return (yield)

    def _evaluate(self, runs: list[PromptRun]) -> None:
        """Replay or ask prompt by prompt: what is wrong with one is said once and leaves the others their results.

        Raises PromptfitError where nothing is left to report, and where replies can no longer be written.
        """
        for run in runs:
            try:
                _ = run.result
            except PromptfitError as error:
                if self._settings.asking and isinstance(error, CassetteError):
                    raise
                run.stopped = error
        answered = [run for run in runs if run.stopped is None]
        for run, result in zip(answered, settled([run.result for run in answered]), strict=True):
            run.settle(result)
        stopped = [run.stopped for run in runs if run.stopped]
        if stopped and len(stopped) == len(runs):
            raise stopped[0] if len(stopped) == 1 else PromptfitError("\n".join(told(e, self._config) for e in stopped))
        for failure in stopped:
            *trace, line = told(failure, self._config).split("\n")
            self._lines += [*trace, f"error: {line}"]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand results to the controller, or write what was asked for: baseline, JSON, job summary."""
        results = [run.result for run in self._runs.values() if run.was_evaluated]
        if distributed.is_worker(self._config):
            self._config.workeroutput["promptfit"] = self._parcel(results).dump()  # type: ignore[attr-defined]
            return
        found_none = distributed.is_distributed(self._config) and not self._collected
        if found_none and (elsewhere := where_prompts_are(self._config)):
            self._lines.append(f"error: {elsewhere}")
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        sent = list(self._worker_results.values())
        reports = self._reports
        reports.results = sorted(settled([*sent, *results]), key=lambda result: result.evaluation.path)
        self._tell_tuning()
        self._tell_ends(session)
        if sum(result.fails for result in reports.results) > sum(result.fails for result in [*sent, *results]):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED  # a worker did not know how many others there are
        self._judge_selection(session)
        writing: list[Callable[[], None]] = [
            partial(
                distributed.bring_home,
                files,
                distributed.folder_of(self._worker_results[path].evaluation, self._settings.where),
            )
            for path, files in self._recordings.items()
        ]
        writing += [partial(self._accept, result) for result in reports.results]
        for write in [*writing, reports.write_json, reports.write_page, reports.write_job_summary]:
            try:
                write()
            except PromptfitError as error:
                self._lines.append(f"error: {error}")
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Keep a prompt file on one worker under ``--dist loadgroup``."""
        if config.getoption("dist") != "loadgroup":
            return None
        return distributed.scheduler(config, log, partial(is_prompt_file, config))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a pytest-xdist worker where the project is: elsewhere its recordings have to be brought home."""
        node.workerinput["promptfit_paths_given"] = bool(paths_given(self._config))
        node.workerinput["promptfit_place"] = distributed.place(self._config.rootpath)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a pytest-xdist worker sends; several may have replayed the same prompt."""
        sent = getattr(node, "workeroutput", {}).get("promptfit")
        parcel = distributed.Parcel.load(sent) if sent else distributed.Parcel()
        for result in parcel.results_at(str(self._config.rootpath)):
            self._worker_results[result.evaluation.path] = result
        self._recordings.update(parcel.recordings_at(str(self._config.rootpath)))
        self._narrowed.update(dict.fromkeys(parcel.narrowed))
        self._collected += parcel.collected

    def pytest_unconfigure(self) -> None:
        """End the git process that versions were read with."""
        if self._settings.against:
            self._settings.against.close()

    def _judge_selection(self, session: pytest.Session) -> None:
        """Fail a run that collects or selects less than the versions it is judged by, unless that is accepted."""
        accepts = self._config.option.promptfit_accept_contract
        if accepts:
            self._lines += [f"{line}: accepted by --promptfit-accept-contract" for line in self._narrowed]
        elif self._narrowed:
            self._reports.failures = [
                f"error: {line}: --promptfit-accept-contract accepts it" for line in self._narrowed
            ]
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _tune(self, session: pytest.Session) -> None:
        """Tune the prompts whose run is selected, or say what that would do."""
        runs = [self._runs[item.path] for item in session.items if isinstance(item, TuneCase)]
        option = self._config.option
        if not runs:
            return
        if option.tune_take and len(runs) > 1:
            raise pytest.UsageError(f"--tune-take {option.tune_take}: {len(runs)} prompts are selected: name one file")
        from pytest_promptfit.tuning.run import TuneOptions

        options = TuneOptions(
            seed=option.tune_seed or 0,
            engine=option.tune_engine or "promptfit",
            iterations=option.tune_iterations,
            concurrency=option.promptfit_concurrency or CONCURRENCY,
            take=option.tune_take,
            on_wait=self._progress.say,
            notify=self._progress.line,
        )
        if option.tune_dry_run:
            self._lines += [f"{self._relative(str(run.path))}: {line}" for run in runs for line in run.plan(options)]
            return
        for run in runs:
            run.tune(options)
            self._progress.finish()

    def _watch(self, session: pytest.Session) -> None:
        """Ask recorded samples again where that is wanted, and judge the canaries of all prompts together."""
        count = self._config.option.promptfit_canary
        if not count:
            return
        from pytest_promptfit.evaluation.canary import Canary, sharing_alpha

        runs = {item.path: item.run for item in session.items if isinstance(item, CanaryCase)}
        read = (path for path, run in self._runs.items() if hasattr(run, "sample_set"))
        deselected = (self._relative(str(path)) for path in read if path not in runs)
        self._lines += [f"{path}: no canary: its case is deselected" for path in deselected]
        asking = self._asking()
        for run in runs.values():
            if run.stopped is None:
                run.watch(count, asking)
                self._progress.finish()
        found = {run.path: run.canary for run in runs.values() if isinstance(run.canary, Canary)}
        for path, canary in zip(found, sharing_alpha([*found.values()]), strict=True):
            runs[path].canary = canary
            self._reports.canaries.append(canary)

    def _refuse_shared_name(self, run: PromptRun) -> str:
        """Return why a prompt must not run when another one has its name; a worker tells it in each case."""
        other = self._folders.setdefault(run.recordings, run.path)
        if other == run.path:
            return ""
        return (
            f"{self._relative(str(run.path))}: name: {run.parsed.name!r} is also the name of "
            f"{self._relative(str(other))}: expected different names, because recordings are kept by name"
        )

    def _tell_tuning(self) -> None:
        """Hand on the tuning runs, those that an error ended too, and the others with the models that they asked."""
        for run in self._runs.values():
            if isinstance(run.tuned, PromptfitError):
                self._reports.tuned.append(TuneFailure(str(run.path), with_short_paths(str(run.tuned), self._folder)))
            elif run.tuned is not None:
                from pytest_promptfit.reports.page.tuning import Tuning  # brings the page's templates

                config = run.parsed.config
                self._reports.tuned.append(run.tuned)
                self._reports.tunings.append(Tuning(run.tuned, str(config.model), str(config.tune.model or "")))

    def _tell_ends(self, session: pytest.Session) -> None:
        """Say which of the models that were asked in this run are going to be shut down, and what to do."""
        asked: dict[tuple[Path, str], ModelSpec] = {}
        with suppress(PromptfitError):  # a file that has changed meanwhile
            asked.update(self._asked(session))
        if not asked:
            return
        from pytest_promptfit.providers.lifetimes import lifetimes, migrate_command, shut_down

        known = lifetimes(asked.values())
        self._lines += known.errors
        for (path, role), spec in asked.items():
            if end := known.of(spec):
                shown = self._relative(str(path))
                what = f"name another in tune.model of {shown}" if role else migrate_command(spec, shown)
                self._lines.append(f"{shut_down(str(spec), end, date.today())}: {what}")

    def _asked(self, session: pytest.Session) -> Iterator[tuple[tuple[Path, str], ModelSpec]]:
        """Yield the models that were asked, by prompt file and role, unless somebody's own client asked them."""
        tuned = {Path(run.path): run.usage for run in self._reports.tuned if isinstance(run, TuneResult)}
        recorded = {
            Path(result.evaluation.path): result.evaluation.other_model or None
            for result in self._reports.results
            if any(outcome.reply is not None and not outcome.replayed for outcome in result.evaluation.outcomes)
        }
        for path in {**recorded, **tuned}:
            if custom_of(session, path).brings_client():
                continue
            parsed = parse_prompt_file(path)
            usage, other = tuned.get(path), recorded.get(path)
            if path in recorded or (usage and usage.task.calls > usage.task.replayed):
                yield (path, ""), (under_model(parsed, other) if other else parsed).config.model
            if parsed.config.tune.model and usage and usage.optimizer.calls > usage.optimizer.replayed:
                yield (path, "optimizer"), parsed.config.tune.model

    def _parcel(self, results: list[PromptResult]) -> distributed.Parcel:
        root = self._config.rootpath
        known_place = self._config.workerinput["promptfit_place"]  # type: ignore[attr-defined]
        is_elsewhere = known_place != distributed.place(root)
        recorded = results if is_elsewhere and self._settings.asking else []
        recordings = distributed.recordings_of(recorded, self._settings.where)
        return distributed.Parcel(str(root), tuple(results), recordings, tuple(self._narrowed), len(self._runs))

    def _accept(self, result: PromptResult) -> None:
        if self._config.option.promptfit_update:
            path = Path(result.evaluation.path)
            with told_in_one_line(path):
                self._lines.append(write_accepted(result, path))

    def _relative(self, path: str) -> str:
        return relative_to(path, self._folder)

    def _read_model(self) -> str | None:
        name: str | None = self._config.option.promptfit_model
        if name is not None:
            try:
                model_named(name)
            except PromptfitError as error:
                raise pytest.UsageError(f"--promptfit-model {plain(str(error))}") from None
        return name

    def _read_against(self) -> References | None:
        names = tuple(dict.fromkeys(self._config.option.promptfit_against or ()))
        if not names:
            return None
        from pytest_promptfit.evaluation.reference import References

        with _as_usage_error():
            accepts = self._config.option.promptfit_accept_contract
            return References(self._config.rootpath, names, self._config.getini("promptfit_files"), accepts=accepts)

    def _asking(self) -> Asking:
        from pytest_promptfit.providers.usage import Limits

        option = self._config.option
        return Asking(
            limits=Limits(option.promptfit_max_calls, option.promptfit_budget),
            mode=option.promptfit_record or "missing",
            concurrency=option.promptfit_concurrency or CONCURRENCY,
            progress=self._progress.show,
            on_wait=self._progress.say,
        )


def _where(config: pytest.Config) -> Where:
    """Return what the command line says of where recordings are: nothing, as a rule."""
    option, setting = config.option, config.getini(SETTING)
    overridden = any(override.startswith(f"{SETTING}=") for override in option.override_ini or ())
    try:
        named_by_ini = bool(option.inifilename and config.inipath and setting_of(config.inipath))
    except PromptfitError as error:
        raise pytest.UsageError(str(error)) from None
    if option.rootdir or (named_by_ini and not overridden):
        return Where(folder=config.rootpath / setting)
    return Where(setting=setting if overridden else None)


@contextmanager
def _as_usage_error() -> Iterator[None]:
    try:
        yield
    except PromptfitError as error:
        raise pytest.UsageError(plain(str(error))) from None
