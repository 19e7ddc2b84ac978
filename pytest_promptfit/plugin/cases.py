"""A prompt file as pytest sees it: the collector, a case for each sample, and one for each gate.

What a case reports was decided in ``verdicts``; here, and nowhere else, it becomes pytest's outcome and its word.
"""

from __future__ import annotations

from traceback import format_exception
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import pytest

from pytest_promptfit.errors import NoSamplesError, PromptfitError, UnexpectedError
from pytest_promptfit.evaluation.baseline import baseline_path
from pytest_promptfit.evaluation.verdicts import PART
from pytest_promptfit.plugin import hooks
from pytest_promptfit.reports.canary import differing_lines
from pytest_promptfit.reports.case_text import failure_lines, gate_lines, properties
from pytest_promptfit.text import plain, relative_to, with_short_paths

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from os import PathLike

    from _pytest._code.code import ExceptionInfo, TerminalRepr

    from pytest_promptfit.plugin.run import PromptRun
    from pytest_promptfit.prompts.samples import Sample


Kind = Literal["", "missed", "xpassed", "stopped", "unrecorded"]
"""What a case comes to that pytest has no exception for; ``""`` where its own words do."""

STATUSES: dict[str, tuple[str, str, tuple[str, dict[str, bool]]]] = {
    "missed": ("missed", "m", ("MISSED", {"yellow": True})),
    "stopped": ("stopped", "E", ("STOPPED", {"red": True})),
    "unrecorded": ("failed", "u", ("UNRECORDED", {"red": True})),
}
"""How they are counted and shown: a miss of a gated file does not fail alone; one that is not recorded is a failure."""


class CaseFailure(Exception):  # noqa: N818 - what a user reads is its text
    """A failed case or gate; the text is what is shown."""


class OutsideWarning(PromptfitError, pytest.PytestWarning):  # noqa: N818 - a warning that -W makes an error
    """A prompt file names a file outside pytest's root directory; ``-W error`` refuses to read it."""


class PromptFile(pytest.File):
    """The collector of one prompt file."""

    run: PromptRun

    @classmethod
    def of(cls, parent: pytest.Collector, run: PromptRun) -> PromptFile:
        """Return the collector of a prompt file."""
        node: PromptFile = cls.from_parent(parent, path=run.path)
        node.run = run
        return node

    def collect(self) -> Iterator[pytest.Item]:
        """Yield the canonical cases, the labeled ones, then the gates: the file's own and those of other plugins."""
        try:
            self.run.load(warn=lambda message: self.warn(OutsideWarning(plain(message))))
        except NoSamplesError as error:
            if baseline_path(self.path).exists():  # it had samples: taking them away must not pass unseen
                raise
            self.run.skipped = f"{error}: skipped"
            pytest.skip(shown(self.run.skipped, self.config))
        self.add_marker("promptfit")
        if self.config.option.promptfit_tune:
            yield TuneCase.of(self)
        for sample in self.run.sample_set.samples:
            yield SampleCase.of(self, sample)
        self.run.added_gates = hooks.gates_of(self.ihook, self.config, self.path)
        for name in self.run.gate_names:
            yield GateCase.of(self, name)
        if self.config.option.promptfit_canary:
            yield CanaryCase.of(self)

    def repr_failure(self, excinfo: ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> str | TerminalRepr:
        """Show a mistake of the user as its line, without a traceback."""
        if isinstance(excinfo.value, PromptfitError):
            return told(excinfo.value, self.config)
        return super().repr_failure(excinfo, *args, **kwargs)


class _Case(pytest.Item):
    """What sample cases and gates share."""

    run: PromptRun
    line: int | None = None
    kind: Kind = ""

    @property
    def is_stopped(self) -> bool:
        """Whether its whole prompt could not be run: said once in the summary, not in each case."""
        return self.run.stopped is not None

    @property
    def shown_path(self) -> str:
        """The prompt file, as it is typed where pytest was started."""
        return relative_to(str(self.path), self.config.invocation_params.dir)

    def reportinfo(self) -> tuple[PathLike[str] | str, int | None, str]:
        """Return the place in the prompt file, where it stands there."""
        return self.path, self.line, self.name

    def repr_failure(self, excinfo: ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> str | TerminalRepr:
        """Show the text of a failed case, without a traceback: for an xfail too, where it would cost 0.1 s each."""
        if isinstance(excinfo.value, CaseFailure | PromptfitError | pytest.xfail.Exception):
            return told(excinfo.value, self.config)
        return super().repr_failure(excinfo, *args, **kwargs)


class _WholeCase(_Case):
    """What is said of a whole prompt file, once: its case and marker have the same name."""

    word: ClassVar[str]

    @classmethod
    def of(cls, parent: PromptFile) -> Self:
        """Return the case of a prompt file."""
        case: Self = cls.from_parent(parent, name=cls.word)
        case.run = parent.run
        case.add_marker(cls.word)
        return case


class TuneCase(_WholeCase):
    """The tuning run of a prompt file: it passes when the prompt was improved, and when it was left alone."""

    word = "tune"

    def runtest(self) -> None:
        """Report what came of the run, which was made before the first case."""
        found = self.run.tuned
        if found is None:
            pytest.skip("a dry run: nothing was asked or written")
        if isinstance(found, PromptfitError):
            raise CaseFailure(str(found))
        self.user_properties += [("accepted", found.accepted), ("reason", found.reason)]


class CanaryCase(_WholeCase):
    """Recorded samples of a prompt file asked again: it fails when the model answers otherwise beyond chance."""

    word = "canary"

    def runtest(self) -> None:
        """Report what came of it; it was asked before the first case."""
        if self.run.stopped is not None:
            raise self.run.stopped
        found = self.run.canary
        if isinstance(found, PromptfitError):
            raise CaseFailure(f"{self.shown_path}: canary: {found}")
        if found is not None:
            self.user_properties += [("differing", len(found.differing)), ("p_drift", found.p_drift)]
            if found.fails:
                raise CaseFailure("\n".join([f"{self.shown_path}: canary: see the verdict", *differing_lines(found)]))


class SampleCase(_Case):
    """A labeled or canonical sample: does the model's reply carry its label?"""

    sample: Sample

    @classmethod
    def of(cls, parent: PromptFile, sample: Sample) -> SampleCase:
        """Return the case of a sample."""
        case: SampleCase = cls.from_parent(parent, name=sample.case_name)
        case.run, case.sample = parent.run, sample
        case.line = sample.line - 1 if sample.path == str(parent.path) else None
        case.add_marker("canonical" if sample.canonical else "labeled")
        return case

    def runtest(self) -> None:
        """Report the verdict on this sample."""
        result = self.run.result
        outcome = result.evaluation.by_case[self.name]
        verdict = result.verdicts[self.name]
        if verdict == "missed" or verdict == "xpassed":
            self.kind = verdict
        elif result.evaluation.unrecorded is not None and outcome.reply is None and outcome.asking_helps:
            self.kind = "unrecorded"
        self.user_properties += properties(outcome)
        if verdict == "waiting":
            pytest.skip(plain(outcome.error))
        if verdict == "xfailed":
            pytest.xfail(f"{outcome.status}, as in the baseline" if not result.accepts else "accepted")
        if verdict in ("failed", "xfailed"):  # --runxfail makes pytest.xfail return
            raise CaseFailure("\n".join(failure_lines(result, self.name, self.shown_path)))


class GateCase(_Case):
    """A gate over all labeled samples of the file."""

    gate: str

    @classmethod
    def of(cls, parent: PromptFile, name: str) -> GateCase:
        """Return the case of a gate."""
        case: GateCase = cls.from_parent(parent, name=f"gate-{name}")
        case.run, case.gate = parent.run, name
        case.line = parent.run.parsed.line("gates", name) - 1
        case.add_marker("gate")
        return case

    def runtest(self) -> None:
        """Report the verdict of the gate; one that cannot be judged is skipped and says why."""
        unheld = self.run.unselected if self.gate == "contract" else 0
        if unheld:
            raise CaseFailure(f"{self.shown_path}: gate contract: {unheld} {PART}")
        result = self.run.result_for_gate()
        if isinstance(result, str):
            pytest.skip(result)
        gate = result.gate(self.gate)
        self.user_properties.append(("detail", gate.detail))
        if gate.passed is None:
            pytest.skip(gate.detail)
        if gate.name == "contract" and gate.passed and gate.samples:
            pytest.xfail(gate.detail)
        if gate.passed:
            return
        if gate.name == "regression" and result.accepts:
            pytest.xfail(f"accepted by --promptfit-update=force: {gate.detail}")
        raise CaseFailure("\n".join(gate_lines(gate, result, self.shown_path)))


class CaseReports:
    """Puts into pytest's reports of cases what it has no exception for, and where a failure is told."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Mark a known miss that is right again, a miss of a gated file, a reply that is not recorded."""
        report = yield
        # What a canary failed for is told in its case, unless its prompt could not be run at all.
        if not isinstance(item, SampleCase | GateCase | CanaryCase):
            return report
        if isinstance(item, CanaryCase) and not item.is_stopped:
            return report
        extra: Any = report  # reports carry attributes of their own
        is_call = call.when == "call"
        kind = "stopped" if item.is_stopped else item.kind
        if is_call and kind == "xpassed" and not self._config.option.runxfail:
            extra.wasxfail = "a known miss of the baseline is right again"
        elif is_call and kind in STATUSES:
            extra.promptfit_kind = kind
        if report.failed and (item.run.was_evaluated or (is_call and item.is_stopped)):
            is_miss = isinstance(item, SampleCase) and kind not in ("stopped", "unrecorded")
            extra.promptfit_told = "misses" if is_miss else "summary"
        return report

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, Any] | None:
        """Count and show a case by its own word where it has one."""
        return STATUSES.get(getattr(report, "promptfit_kind", ""))


def shown(message: str, config: pytest.Config) -> str:
    """Return a message as it is shown: safe for the screen, paths from where pytest was started."""
    return with_short_paths(plain(message, keep_lines=True), config.invocation_params.dir)


def told(error: BaseException, config: pytest.Config) -> str:
    """Return an error of the user as its line; one that nobody foresaw with its traceback, for ``--full-trace``."""
    is_traced = isinstance(error, UnexpectedError) and config.getoption("fulltrace", False)
    trace = "".join(format_exception(error.__cause__)) if is_traced else ""
    return shown(f"{trace}{error}", config)
