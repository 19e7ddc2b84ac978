"""What earlier tuning runs of a prompt tried, beside their recordings: a later one does not try the same again.

A line of JSON a run, so that git can merge two branches and a person can read it. A run notes that it begins, and with
it which runs had ended by then, and when it ends what came of it. Started again it uses those alone: what it decides
hangs on nothing that came later, and neither a kill nor a replay changes it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_promptfit.cassettes.recorder import Recorder
    from pytest_promptfit.prompts.model import Prompt, PromptConfig
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.tuning.result import Step


FILE: Final = "tried.jsonl"

MOST_RUNS: Final = 50
"""Runs that are remembered; the oldest are forgotten first."""

UNDECIDED: Final = "not decided within the budget"
"""The verdict on a candidate that a larger budget may find better."""

Tried = tuple[str, int, int, str]
"""A change that was tried, on one line, how many samples it fixed and broke, and the verdict."""

_MERGING: Final = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")
"""How the lines of a conflict begin: each run stands for itself, so both sides are kept."""


class _Noted(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class NotedStep(_Noted):
    """A candidate that was put against the incumbent; both by name, ``fixed`` and ``broken`` are counts."""

    stage: str
    summary: str
    incumbent: str
    candidate: str
    fixed: int
    broken: int
    accepted: bool
    verdict: str


class NotedRun(_Noted):
    """A run: its name, the runs that it knows of, and once it is ``done`` what it tried."""

    version: Literal[1] = 1
    run: str
    after: tuple[str, ...] = ()
    asked: str
    """Which model was asked, how, for which labels: figures of another one say nothing."""
    samples: str
    """What candidates were compared on."""
    done: bool = False
    steps: tuple[NotedStep, ...] = ()
    mistakes: tuple[str, ...] = ()
    """The ids of the train samples that the first or the last prompt got wrong."""


@dataclass(frozen=True)
class Earlier:
    """What a run knows of earlier ones: nothing, where there are none."""

    tried: tuple[Tried, ...] = ()
    rejected: frozenset[tuple[str, str]] = frozenset()
    """Incumbent and candidate, by name, that were compared on the same samples; the candidate was turned down."""
    mistakes: Counter[str] = field(default_factory=Counter)
    """How many runs left a train sample wrong, by its id."""

    def has_rejected(self, incumbent: Prompt, candidate: Prompt) -> bool:
        """Tell whether a candidate was turned down already."""
        return bool(self.rejected) and (name_of(incumbent), name_of(candidate)) in self.rejected


@dataclass
class Memory:
    """The notes of one run; made by ``remember``."""

    recorder: Recorder
    own: NotedRun | None
    """``None`` where the file cannot be used: then nothing is written into it either."""
    earlier: Earlier = field(default_factory=Earlier)
    warnings: tuple[str, ...] = ()

    def complete(self, steps: Iterable[tuple[Step, Prompt, Prompt]], mistakes: Iterable[str]) -> None:
        """Note what came of the run: its steps, each with incumbent and candidate, and the ids of its mistakes."""
        if self.own is None:
            return
        noted = [
            NotedStep(
                stage=step.stage,
                summary=step.summary,
                incumbent=name_of(incumbent),
                candidate=name_of(candidate),
                fixed=len(step.fixed),
                broken=len(step.broken),
                accepted=step.accepted,
                verdict=step.verdict,
            )
            for step, incumbent, candidate in steps
        ]
        fields = {"done": True, "steps": tuple(noted), "mistakes": tuple(sorted(set(mistakes)))}
        try:
            self._write(self.own.model_copy(update=fields))
        except (OSError, ValueError) as error:  # what the run found is worth more than its notes
            self.warnings = (*self.warnings, _told(self.recorder, error, "this run is noted as one that was not ended"))

    def begin(self) -> None:
        """Note that the run begins; one that was noted already goes on, or is told again."""
        if self.own is not None and not self.own.done:
            self._write(self.own)

    def _write(self, run: NotedRun) -> None:
        runs = {**_read(self.recorder.note(FILE)), run.run: run}
        text = "".join(f"{json.dumps(noted.model_dump(mode='json'))}\n" for noted in [*runs.values()][-MOST_RUNS:])
        if text != self.recorder.note(FILE):
            self.recorder.keep_note(FILE, text)


@dataclass(frozen=True, slots=True)
class About:
    """What decides how a run goes, and what its figures are of."""

    config: PromptConfig
    labels: Sequence[str]
    samples: Sequence[Sample]
    """All of them."""
    compared: Sequence[Sample]
    """Those that candidates are compared on."""
    settings: Sequence[int | str | None]
    """The seed, and whatever else was said besides the prompt file."""

    @property
    def asked(self) -> str:
        """The name of the question but for the prompt: which model, how it is asked, for which labels."""
        fields = {"model", "params", "extract", "probabilities", "decision"}
        return _digest([self.config.model_dump(mode="json", include=fields, exclude_defaults=True), list(self.labels)])

    @property
    def run(self) -> str:
        """The name of the run."""
        tune = self.config.tune.model_dump(mode="json", exclude_defaults=True)
        samples = [[*_content(sample), sample.note] for sample in self.samples]
        return _digest([self.asked, name_of(self.config.prompt), samples, tune, list(self.settings)])


def remember(recorder: Recorder, about: About) -> Memory:
    """Return the notes of a run, which says here that it begins, and what it knows of earlier ones."""
    path = recorder.folder / FILE
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise ValueError("not a regular file")
        runs = _read(recorder.note(FILE))
        own = runs.get(about.run) or _begun(runs, about)
        memory = Memory(recorder, own, _earlier(runs, own))
        memory.begin()
    except (OSError, ValueError) as error:
        follows = "earlier runs are not known, and this one is not noted: delete the file to begin anew"
        return Memory(recorder, None, warnings=(_told(recorder, error, follows),))
    return memory


def _told(recorder: Recorder, error: OSError | ValueError, follows: str) -> str:
    said = error.strerror if isinstance(error, OSError) else error
    return f"{recorder.folder / FILE}: {said}: {follows}"


def name_of(prompt: Prompt) -> str:
    """Return the name of a prompt's content: 12 hex digits; a field that is added with a default changes none."""
    return _digest(prompt.model_dump(mode="json", exclude_defaults=True))


def _begun(runs: dict[str, NotedRun], about: About) -> NotedRun:
    known = tuple(other.run for other in runs.values() if other.done and other.asked == about.asked)
    compared = sorted(_content(sample) for sample in about.compared)
    return NotedRun(run=about.run, after=known, asked=about.asked, samples=_digest(compared))


def _earlier(runs: dict[str, NotedRun], own: NotedRun) -> Earlier:
    known = [run for run in runs.values() if run.run in own.after and run.done and run.run != own.run]
    # Of pruning nobody is told: it left out what did not pay, and whether that pays elsewhere is another question; nor
    # of weights, which no text has a part in.
    steps = [(run, step) for run in known for step in run.steps if step.stage not in ("prune", "weights")]
    return Earlier(
        tuple((s.summary, s.fixed, s.broken, f"{s.verdict}, in an earlier run") for _, s in steps),
        frozenset(
            (s.incumbent, s.candidate)
            for run, s in steps
            if run.samples == own.samples and not s.accepted and s.verdict != UNDECIDED
        ),
        Counter(sample for run in known for sample in run.mistakes),
    )


def _read(text: str) -> dict[str, NotedRun]:
    """Return the runs that are noted, in their order; raise ValueError for a line that says none."""
    runs: dict[str, NotedRun] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith(_MERGING):
            continue
        try:
            noted = NotedRun.model_validate_json(line)
        except ValidationError:
            raise ValueError(f"line {number} is no note of a tuning run") from None
        if not (noted.run in runs and runs[noted.run].done):
            runs[noted.run] = noted
    return runs


def _content(sample: Sample) -> list[str]:
    return [sample.case_name, sample.text, sample.label]


def _digest(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:12]
