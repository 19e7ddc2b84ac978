"""One prompt file in one session: read once, asked once, judged once.

The effects of a run (cassettes, baseline, git) come together here; pytest is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_promptfit.cassettes.where import Where
from pytest_promptfit.errors import PromptfitError, told_in_one_line
from pytest_promptfit.evaluation.baseline import (
    accept,
    baseline_path,
    read_baseline,
    write_baseline,
)
from pytest_promptfit.evaluation.forward import Asking, forward, others_of, replayed
from pytest_promptfit.evaluation.gates import gate_names
from pytest_promptfit.evaluation.verdicts import PromptResult, Reference, UpdateMode, judge, settled
from pytest_promptfit.files import leads_outside
from pytest_promptfit.prompts.pool import pool_of, pool_path
from pytest_promptfit.prompts.read import ParsedPrompt, parse_prompt_file, under_model
from pytest_promptfit.prompts.samples import Sample, SampleSet, data_path, read_samples
from pytest_promptfit.providers.own import OURS
from pytest_promptfit.providers.wire import refuse_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_promptfit.evaluation.canary import Canary
    from pytest_promptfit.evaluation.gates import Gate
    from pytest_promptfit.evaluation.outcomes import Evaluation
    from pytest_promptfit.evaluation.reference import OldPrompt, References
    from pytest_promptfit.providers.own import Custom
    from pytest_promptfit.tuning.result import TuneResult
    from pytest_promptfit.tuning.run import TuneOptions


@dataclass(frozen=True)
class RunSettings:
    """What the user asked of a session."""

    root: Path
    where: Where = field(default_factory=Where)
    against: References | None = None
    model: str | None = None
    """The model that is asked instead of the files' own."""
    update: UpdateMode = "no"
    prune: bool = False
    asking: Asking | None = None


class PromptRun:
    """A prompt file on its way through a session."""

    parsed: ParsedPrompt
    sample_set: SampleSet
    recordings: Path
    old: tuple[OldPrompt, ...]
    """The prompt file as the versions have it that it is judged by."""

    def __init__(self, path: Path, settings: RunSettings, custom: Custom = OURS) -> None:
        self.path = path
        self.added_gates: tuple[Gate, ...] = ()
        self.selected: tuple[Sample, ...] = ()
        self.selected_gates: set[str] = set()
        """The gates whose cases are selected."""
        self.refusal = ""
        self.tests = 0
        """How many comparisons share the alpha of a run that pytest-xdist spreads; 0: all of them are here."""
        self.skipped = ""
        self.stopped: PromptfitError | None = None
        self.tuned: TuneResult | PromptfitError | None = None
        self.canary: Canary | PromptfitError | None = None
        self._settings = settings
        self._custom = custom

    def load(self, warn: Callable[[str], None] = lambda _: None) -> None:
        """Read the prompt file, its samples and its baseline; raise PromptfitError.

        ``warn`` is told of every file outside the project before it is read: whoever runs a pull request
        should know which files of the machine it names.
        """
        with told_in_one_line(self.path):
            self._warn_of_outside(self.path, warn)
            self.parsed = parse_prompt_file(self.path)
            if self._settings.model is not None:
                self.parsed = under_model(self.parsed, self._settings.model)
            self.recordings = self._settings.where.of(self.path, self.parsed.name, self.parsed.other_model)
            self._warn_of_outside(data_path(self.parsed), warn)
            self._warn_of_outside(pool_path(self.parsed), warn)
            self._warn_of_outside(baseline_path(self.path), warn)
            for folder in (self.recordings, others_of(self.parsed, self.recordings)):
                if target := leads_outside(folder, self._settings.root):
                    warn(f"{folder} is read and written outside {self._settings.root}: {target}")
                    break  # what is in there is, too
            self.sample_set = read_samples(self.parsed)
            refuse_keys(self.parsed, self.sample_set.labels, self.sample_set.samples)
            self.baseline = read_baseline(baseline_path(self.path), is_renewed=self._settings.update != "no")
            self.old = self._settings.against.of(self.path) if self._settings.against else ()

    def tune(self, options: TuneOptions) -> None:
        """Tune the prompt, read what came of it, and keep the outcome, or the error that ended it, in ``tuned``."""
        from pytest_promptfit.tuning.run import tune_prompt

        try:
            options = replace(options, custom=self._custom)
            with told_in_one_line(self.path):
                self.tuned = tune_prompt(self.parsed, self.sample_set, self.recordings, options)
        except PromptfitError as error:
            self.tuned = error
        try:
            self.load()
        except PromptfitError as error:
            self.tuned = self.tuned if isinstance(self.tuned, PromptfitError) else error
            return
        renewed = {sample.case_name: sample for sample in self.sample_set.samples}  # their lines may have moved
        self.selected = tuple(renewed.get(sample.case_name, sample) for sample in self.selected)

    def watch(self, count: int, asking: Asking) -> None:
        """Ask some of the selected samples again, and keep in ``canary`` what is different, or why nothing was asked.

        Where no sample is selected, for the canary's own case alone is, all of them may be drawn.
        """
        from pytest_promptfit.evaluation.canary import watch

        samples = self.selected or self.sample_set.samples
        try:
            with told_in_one_line(self.path):
                self.canary = watch(
                    self.parsed, self.sample_set, samples, self.recordings, count, asking, custom=self._custom
                )
        except PromptfitError as error:
            self.canary = error

    def plan(self, options: TuneOptions) -> list[str]:
        """Return what a tuning run would do, can show and could cost."""
        from pytest_promptfit.prompts.split import split
        from pytest_promptfit.tuning.forecast import forecast
        from pytest_promptfit.tuning.run import check_options

        with told_in_one_line(self.path):
            check_options(self.parsed, options)
            labels, samples = self.sample_set.labels, self.sample_set.samples
            known = replayed(self.parsed, labels, samples, self.recordings, custom=self._custom)
            return [*forecast(self.parsed, self.sample_set, split(samples), known, options.concurrency, options.engine)]

    @property
    def result(self) -> PromptResult:
        """The verdicts over the selected samples; the first use replays or asks.

        Raises PromptfitError when nothing can be replayed or asked, or ``refusal`` says why it must not be.
        """
        if isinstance(self._found, PromptfitError):
            raise self._found
        return self._found

    @cached_property
    def _found(self) -> PromptResult | PromptfitError:
        """The result, or why there is none: under pytest-xdist every case wants it, and it must be asked for once."""
        try:
            with told_in_one_line(self.path):
                return self._evaluated()
        except PromptfitError as error:
            return error

    def _evaluated(self) -> PromptResult:
        if self.refusal:
            raise PromptfitError(self.refusal)
        evaluation = forward(
            self.parsed,
            self.sample_set,
            self.selected,
            self.recordings,
            asking=self._settings.asking,
            prune=self._settings.prune,
            custom=self._custom,
        )
        if evaluation.instead_of:
            said = f"asked {evaluation.model} instead of {evaluation.instead_of}"
            evaluation = replace(evaluation, notes=(f"{said}: the baseline stays as it is", *evaluation.notes))
        result = judge(
            evaluation,
            self.baseline,
            gates=self.parsed.config.gates,
            added_gates=self.added_gates,
            strict=self.parsed.config.cases == "strict",
            known_cases=tuple(sample.case_name for sample in self.sample_set.samples),
            update=self._settings.update,
            against=self._references(evaluation),
            deselected=tuple(name for name in self.gate_names if name not in self.selected_gates),
        )
        return settled([result], tests=self.tests)[0]

    def _references(self, evaluation: Evaluation) -> list[Reference]:
        """Return how the versions judge an evaluation that is whole; of one in parts no gate is judged."""
        against = self._settings.against
        if against is None:
            return []
        from pytest_promptfit.evaluation.reference import Contract, references, unheld

        missing = unheld(self.old, self.sample_set.samples)
        others = replayed(self.parsed, self.sample_set.labels, missing, self.recordings, custom=self._custom)
        now = Contract.of(self.parsed.config, self.sample_set)
        made = references(
            self.old,
            now,
            evaluation,
            others,
            baseline=self.baseline,
            is_renewed=self._settings.update != "no",
            custom=self._custom,
            accepts=against.accepts,
            pool=pool_of(self.parsed, self.sample_set.labels),
        )
        known = {one.name for one in made}
        new = [version.name for version in against.versions if version.name not in known]
        return [*made, *(Reference(name, evaluation, None, self.parsed.config.gates) for name in new)]

    @property
    def gate_names(self) -> list[str]:
        """The gates that judge the file: its own, those of other versions, and other plugins'."""
        asked = [self.parsed.config.gates, *(one.parsed.config.gates for one in self.old)]
        names = [name for gates in asked for name in gate_names(gates)]
        names += [gate.name for gate in self.added_gates]
        return list(dict.fromkeys([*names, *(["contract"] if self.old else [])]))

    def settle(self, result: PromptResult) -> None:
        """Take the result as it is once all prompts of the run are judged together."""
        self.__dict__["_found"] = result

    @property
    def was_evaluated(self) -> bool:
        """Whether the result is there without asking for it."""
        return isinstance(self.__dict__.get("_found"), PromptResult)

    @property
    def unselected(self) -> int:
        """How many samples of the file, canonical ones too, are not selected."""
        return len(self.sample_set.samples) - len(self.selected)

    def result_for_gate(self) -> PromptResult | str:
        """Return the result, or why no gate can be judged: nothing is asked for a gate alone."""
        labeled = {sample.id for sample in self.sample_set.labeled}
        unselected = labeled - {sample.id for sample in self.selected if not sample.canonical}
        if unselected:
            return f"{len(unselected)} of its {len(labeled)} samples are not selected: run the whole file to judge it"
        return self.result

    def _warn_of_outside(self, path: Path | None, warn: Callable[[str], None]) -> None:
        target = leads_outside(path, self._settings.root) if path is not None else None
        if target is not None and target.exists():
            warn(f"{path} is read from outside {self._settings.root}: {target}")


def write_accepted(result: PromptResult, path: Path) -> str:
    """Write the baseline of a result that is accepted, and return the line that says so.

    Raises PromptfitError when the regression gate refuses it, or the file cannot be written.
    """
    target = baseline_path(path)
    if result.refusal:
        raise PromptfitError(f"{target}: not updated: {result.refusal}")
    if all(outcome.reply is None for outcome in result.evaluation.outcomes):
        return f"{target}: not updated: no sample has a reply"
    updated = accept(read_baseline(target, is_renewed=True), result.evaluation, result.known_cases)
    changed = write_baseline(target, updated)
    return f"{target}: {'written' if changed else 'unchanged'}"
