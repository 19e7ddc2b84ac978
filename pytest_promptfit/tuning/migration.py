"""A prompt file on its way to another model: judged by what was accepted, tuned where that is worse, written at once.

The prompt file and its baseline stay as they are until the end. Replies are kept as they arrive among those of other
models, so whatever breaks off a migration, the next one starts from there.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.cassettes.recorder import Recorder, prune
from pytest_promptfit.errors import CassetteError, PromptfitError
from pytest_promptfit.evaluation.baseline import USUAL_ALPHA, accept, baseline_path, read_baseline, write_baseline
from pytest_promptfit.evaluation.forward import forward, replayed
from pytest_promptfit.evaluation.verdicts import judge
from pytest_promptfit.prompts.model import model_named
from pytest_promptfit.prompts.read import ParsedPrompt, parse_prompt_file, parsed_prompt
from pytest_promptfit.prompts.samples import check_prompt_labels, read_samples
from pytest_promptfit.prompts.yaml_source import YamlSource
from pytest_promptfit.providers.known import KEPT, switched_params
from pytest_promptfit.providers.wire import Wire, refuse_keys, secrets_of
from pytest_promptfit.text import counted
from pytest_promptfit.tuning.meter import OPTIMIZER_CALLS, TASK_CALLS
from pytest_promptfit.tuning.rewrite import file_text, switched, write_rewritten
from pytest_promptfit.tuning.run import TuneOptions, Unwritten, excusing_both, tune_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_promptfit.cassettes.where import Where
    from pytest_promptfit.evaluation.baseline import Baseline
    from pytest_promptfit.evaluation.forward import Asking
    from pytest_promptfit.evaluation.outcomes import Evaluation
    from pytest_promptfit.evaluation.verdicts import PromptResult
    from pytest_promptfit.prompts.samples import SampleSet
    from pytest_promptfit.tuning.result import TuneResult

OPTIMIZER_SHARE = 10
"""Of so many calls that are left one is the optimizer's."""


@dataclass(frozen=True)
class Version:
    """A prompt file as it is or may be: its text, and that read."""

    text: str
    parsed: ParsedPrompt

    @classmethod
    def of(cls, text: str, path: Path, *, instead_of: str = "") -> Version:
        """Read a text of the prompt file at ``path``, whose model is ``instead_of`` another one."""
        parsed = parsed_prompt(YamlSource(path, text.removeprefix("\ufeff")))
        return cls(text, replace(parsed, instead_of=instead_of))

    @property
    def model(self) -> str:
        """The model that it asks."""
        return str(self.parsed.config.model)


@dataclass(frozen=True)
class Plan:
    """What a migration starts from: the file as it is, and as it would ask the new model; where replies are.

    ``why`` tells where the new parameters are from; ``baseline`` is what was accepted, ``None`` where nothing was.
    """

    now: Version
    new: Version
    why: str
    sample_set: SampleSet
    before: Evaluation
    baseline: Baseline | None
    own: Path
    of_new: Path
    of_old: Path

    @property
    def path(self) -> Path:
        """The prompt file."""
        return self.now.parsed.path

    @property
    def cases(self) -> tuple[str, ...]:
        """The names of all its cases."""
        return tuple(sample.case_name for sample in self.sample_set.samples)

    @property
    def replies(self) -> int:
        """How many replies a run over all of them needs."""
        return len(self.cases) * self.now.parsed.config.repeats

    def evaluate(self, version: Version, asking: Asking | None = None) -> Evaluation:
        """Return how a version under the new model does."""
        samples = self.sample_set.samples
        return forward(version.parsed, self.sample_set, samples, self.of_new, asking=asking)

    def judge(self, evaluation: Evaluation) -> PromptResult:
        """Judge an evaluation by what was accepted; where nothing was, by the recorded replies of the old model."""
        baseline = self.baseline or accept(None, self.before, self.cases)
        return judge(evaluation, baseline, gates=self.now.parsed.config.gates, strict=False, known_cases=self.cases)


def planned(path: Path, to: str, params: Mapping[str, Any] | None, where: Where) -> Plan:
    """Return how a prompt file would ask the model ``to``, and with which ``params`` where they are not ours to say.

    Raises PromptfitError where it asks that model already, its form cannot hold it, or there is nothing to compare
    with.
    """
    new = model_named(to)
    parsed, text = parse_prompt_file(path), file_text(path)
    now = Version(text, parsed)
    if str(new) == now.model:
        raise PromptfitError(f"{path}: asks {to} already: expected another model")
    sample_set = read_samples(parsed)
    own = where.of(path, parsed.name)
    of_new, of_old = (where.of(path, parsed.name, model) for model in (str(new), now.model))
    before = forward(parsed, sample_set, sample_set.samples, own)
    baseline = read_baseline(baseline_path(path))
    if baseline is None and any(outcome.reply is None for outcome in before.outcomes):
        raise PromptfitError(
            f"{path}: no baseline, and not all replies of {now.model} are recorded: expected something to compare "
            f"with: pytest --promptfit --promptfit-record --promptfit-update {path}"
        )
    kept = _switched(now, path, to, None)
    said, why = params, "as you say"
    if params is None:
        samples = sample_set.samples
        said, why = switched_params(parsed.config.all_params, parsed.config.model, kept.parsed.config.model)
        # What is recorded was taken; and nobody pays for it twice.
        if why != KEPT and replayed(kept.parsed, sample_set.labels, samples, of_new):
            why = KEPT
    version = kept if why == KEPT else _switched(now, path, to, said)
    check_prompt_labels(version.parsed, sample_set.labels)
    for one in (parsed, version.parsed):
        refuse_keys(one, sample_set.labels, sample_set.samples)
    return Plan(now, version, why, sample_set, before, baseline, own, of_new, of_old)


def _switched(now: Version, path: Path, to: str, params: Mapping[str, Any] | None) -> Version:
    return Version.of(switched(now.text, model_named(to), params, path=path), path, instead_of=now.model)


@dataclass(frozen=True)
class Migrated:
    """What came of a migration: the version that was judged last, how, and the tuning runs that led there.

    ``stopped`` says why no further one was made where it does not hold.
    """

    plan: Plan
    version: Version
    result: PromptResult
    tunings: tuple[TuneResult, ...] = ()
    stopped: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is not worse: by the regression gate, the canonical samples and the gates of the file."""
        return holds(self.result)

    @property
    def is_rewritten(self) -> bool:
        """Whether the prompt, or what is made of probabilities, is another one, too."""
        before, now = self.plan.now.parsed.config, self.version.parsed.config
        return (before.prompt, before.decision) != (now.prompt, now.decision)


def holds(result: PromptResult) -> bool:
    """Tell whether an evaluation is whole and not worse, at the usual level where the file has no regression gate."""
    change = result.comparison
    is_ungated = change is not None and change.alpha is None
    is_worse = is_ungated and change is not None and change.p_value <= USUAL_ALPHA
    return not (is_worse or result.fails or any(outcome.reply is None for outcome in result.evaluation.outcomes))


def migrated(
    plan: Plan, asking: Asking | None, *, tunes: bool = True, notify: Callable[[str], None] = lambda _line: None
) -> Migrated:
    """Ask the new model for what is not recorded, judge it, and tune the prompt for as long as it is worse.

    ``asking`` is ``None`` for what replays only: then nothing is tuned. Raises PromptfitError where a sample has no
    reply; those that were paid for are kept.
    """
    version, result = plan.new, plan.judge(plan.evaluate(plan.new, asking))
    _refuse_unanswered(result)
    tunings: list[TuneResult] = []
    stopped = "" if tunes else "not tuned"
    while not (holds(result) or stopped):
        if asking is None:
            stopped = "not tuned without --record"
        elif (limited := _within(version, plan, asking, result, tunings)) is None:
            stopped = "the budget leaves no calls to tune with"
        else:
            options = TuneOptions(concurrency=asking.concurrency, on_wait=asking.on_wait, notify=notify)
            unwritten = Unwritten(version.text, plan.of_new)
            tunings.append(tuned := tune_prompt(limited, plan.sample_set, plan.own, options, unwritten))
            if not tuned.accepted:
                stopped = f"tuning found nothing better: {tuned.reason}"
                break
            version = Version.of(tuned.text, plan.path, instead_of=plan.now.model)
            result = plan.judge(plan.evaluate(version))
            if missing := sum(outcome.reply is None for outcome in result.evaluation.outcomes):
                stopped = f"the budget left {counted(missing, 'sample')} without a reply to the tuned prompt"
    return Migrated(plan, version, result, tuple(tunings), stopped)


def _refuse_unanswered(result: PromptResult) -> None:
    outcomes = result.evaluation.outcomes
    missing = [outcome.error for outcome in outcomes if outcome.reply is None]
    if missing and result.evaluation.unrecorded is None:
        raise PromptfitError(
            f"{len(missing):,} of {counted(len(outcomes), 'sample')} without a reply: {missing[-1]}; "
            f"{len(outcomes) - len(missing):,} replies are kept, and no other file was changed"
        )


def _within(
    version: Version, plan: Plan, asking: Asking, result: PromptResult, tunings: list[TuneResult]
) -> ParsedPrompt | None:
    """Return a version whose tuning run keeps within what the limits leave; ``None`` where they leave nothing.

    Every reply counts, paid now or earlier, so that a migration that goes on decides as the unbroken one.
    """
    config, limits = version.parsed.config, asking.limits
    budget, tune = config.tune.budget, config.tune
    task = budget.task_calls or TASK_CALLS
    optimizer = OPTIMIZER_CALLS if budget.optimizer_calls is None else budget.optimizer_calls
    update: dict[str, Any] = {}
    if limits.calls is not None:
        used = sum(run.usage.task_calls + run.usage.optimizer_calls for run in tunings)
        left = limits.calls - plan.replies - used
        optimizer = min(optimizer, left // OPTIMIZER_SHARE) if tune.model else 0
        update = {"task_calls": min(task, left - optimizer), "optimizer_calls": optimizer}
    if limits.usd is not None:
        paid = [*result.evaluation.usd_by_case.values()] if not tunings else []
        paid += [usd for run in tunings for usd in (run.usage.task_usd, run.usage.optimizer_usd)]
        update["usd"] = min(budget.usd or limits.usd, limits.usd - sum(usd or 0.0 for usd in paid))
    if min(update.values(), default=1) < 0 or update.get("task_calls", 1) < 1:
        return None
    limited = tune.model_copy(update={"budget": budget.model_copy(update=update)})
    return replace(version.parsed, config=config.model_copy(update={"tune": limited}))


def write(found: Migrated, on_wait: Callable[[str], None]) -> list[str]:
    """Write prompt file, recordings and baseline; return what is to be said.

    In this order, so that wherever that is broken off the prompt file as it then is replays green: the new replies
    join the file's own, the old ones are kept as another model's, the baseline excuses what either gets wrong, the
    prompt file, the baseline of the new model, and last what is in two places goes. Raises PromptfitError where a file
    cannot be written; the prompt file is then as it was.
    """
    plan, version = found.plan, found.version
    if file_text(plan.path) != plan.now.text:
        raise PromptfitError(f"{plan.path}: changed since it was read, so it is left as it is: run again")
    wire = Wire.of(version.parsed, plan.sample_set.labels)
    repeats = version.parsed.config.repeats
    keys = [asked.key for sample in plan.sample_set.samples for asked in wire.questions(sample, repeats)]
    known, others = Cassette.load(plan.own), Cassette.load(plan.of_new)
    secrets = (*secrets_of(plan.now.parsed), *secrets_of(version.parsed))
    with Recorder.open(plan.own, secrets, on_wait=on_wait) as recorder:
        for recorded in filter(None, map(others.find, keys)):
            recorder.keep(recorded)
    with Recorder.open(plan.of_old, secrets, on_wait=on_wait) as recorder:
        for recorded in known:
            if recorded.key not in keys:
                recorder.keep(recorded)
    accepted = accept(plan.baseline, found.result.evaluation, plan.cases)
    with excusing_both(plan.now.parsed, plan.sample_set, plan.own, accepted):
        write_rewritten(plan.path, plan.now.text, version.text)
    write_baseline(baseline_path(plan.path), accepted)
    try:
        prune(plan.own, keys, known, on_wait)
        prune(plan.of_new, (), others, on_wait)
        with suppress(OSError):  # somebody keeps something of theirs in there
            plan.of_new.rmdir()
    except CassetteError as error:  # the model is switched all the same
        return [f"recordings that are not needed any more are still there: {error}"]
    return []
