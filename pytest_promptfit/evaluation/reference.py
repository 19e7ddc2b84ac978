"""The versions that ``--promptfit-against`` names: what they hold a change to, and how they judge a run.

Reads from git what a version says (prompt, samples, baseline), and gives the run's replies its labels and reading.
A sample is paired by its text: its id, its line and its file may change.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_promptfit.chat.label import LabelReader
from pytest_promptfit.errors import CallError, PromptFileError, PromptfitError
from pytest_promptfit.evaluation.baseline import Baseline, baseline_path, parse_baseline
from pytest_promptfit.evaluation.gates import listed
from pytest_promptfit.evaluation.git import Repository
from pytest_promptfit.evaluation.selection import USUAL_FILES
from pytest_promptfit.evaluation.verdicts import Reference
from pytest_promptfit.prompts.model import NearestExamples
from pytest_promptfit.prompts.pool import Pool, pool_of
from pytest_promptfit.prompts.read import ParsedPrompt, parse_prompt_file
from pytest_promptfit.prompts.samples import Sample, SampleSet, normal_form, read_samples
from pytest_promptfit.providers.wire import Wire
from pytest_promptfit.text import cut, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_promptfit.evaluation.git import Version
    from pytest_promptfit.evaluation.outcomes import Evaluation, Outcome
    from pytest_promptfit.prompts.model import CoverageGate, Gates, PromptConfig
    from pytest_promptfit.providers.own import Custom

Loosened = tuple[str, str]
"""What was loosened, and which one of several: ``("labeled sample removed", "s1")``; ``""`` where there is but one."""


@dataclass(frozen=True)
class Contract:
    """The samples, gates and ways to read a reply of one version of a prompt file."""

    gates: Gates
    strict: bool
    extract: Any
    labels: tuple[str, ...]
    label_words: Mapping[str, str]
    samples: tuple[Sample, ...]
    abstain_below: float | None

    @classmethod
    def of(cls, config: PromptConfig, samples: SampleSet) -> Contract:
        """Return the contract of a prompt file as it was read."""
        return cls(
            config.gates,
            config.cases == "strict",
            config.extract,
            samples.labels,
            config.prompt.label_words,
            samples.samples,
            config.decision.abstain_below if config.decision else None,
        )

    def by_text(self, *, canonical: bool) -> dict[str, Sample]:
        """Return the canonical or the labeled samples by the normal form of their text."""
        return {normal_form(sample.text): sample for sample in self.samples if sample.canonical == canonical}


def loosened(reference: Contract, now: Contract, *, target: Contract | None = None) -> tuple[str, ...]:
    """Return a line for each kind of thing that ``now`` takes away from the contract of ``reference``.

    Tightening is none, nor is a new word for a label, as tuning gives it. ``target`` is the contract of the
    version that the change is made to, where that is not ``reference``: what is loosened from there is said there,
    and what that version has looser already is not of this change.
    """
    found = dict.fromkeys(_all(reference, now))
    if target is not None:
        known = {*_all(reference, target), *_all(target, now)}
        found = dict.fromkeys(one for one in found if one not in known)
    return tuple(_lines(list(found)))


def baseline_loosened(reference: Baseline | None, now: Baseline | None, evaluation: Evaluation) -> tuple[str, ...]:
    """Return a line for each kind of thing that a committed baseline does not hold the next change to any more.

    A sample that was right, is right, and is kept as a miss would excuse the change that breaks it.
    """
    if reference is None:
        return ()
    if now is None:
        return ("baseline removed",)
    right = {name for name, case in reference.cases.items() if case.outcome == "right"}
    right &= {name for name, outcome in evaluation.by_case.items() if outcome.correct}
    found = [("sample dropped from the baseline", name) for name in sorted(right - now.cases.keys())]
    found += [
        ("sample right and kept as a miss in the baseline (--promptfit-update renews it)", name)
        for name in sorted(right)
        if now.is_known_miss(name)
    ]
    return tuple(_lines(found))


def shared(reference: Contract, now: Contract) -> Contract:
    """Return what both contracts have: the reference's samples that are the same now, under the gates of now."""
    kept = {(kind, form): s for kind in (False, True) for form, s in now.by_text(canonical=kind).items()}
    samples = tuple(
        sample
        for sample in reference.samples
        if (other := kept.get((sample.canonical, normal_form(sample.text)))) and other.label == sample.label
    )
    return replace(now, samples=samples)


def _lines(found: list[Loosened]) -> Iterator[str]:
    for what in dict.fromkeys(what for what, _ in found):
        names = [plain(name) for kind, name in found if kind == what and name]
        kind = plain(what) if len(names) < 2 else f"{len(names)} {plain(what).replace('sample ', 'samples ', 1)}"
        yield f"{kind}: {listed(names)}" if names else kind


def _all(reference: Contract, now: Contract) -> Iterator[Loosened]:
    yield from _gates(reference.gates, now.gates)
    if reference.strict and not now.strict:
        yield "cases: strict → gated", ""
    for label in reference.labels:
        if label not in now.labels:
            yield "label removed", label
    if reference.extract != now.extract:
        yield f"extract: {cut(str(reference.extract), 60)} → {cut(str(now.extract), 60)}", ""
    if (now.abstain_below or 0.0) < (reference.abstain_below or 0.0):
        yield _moved("decision.abstain_below", reference.abstain_below or 0.0, now.abstain_below), ""
    yield from _words(reference, now)
    yield from _samples(reference, now)


def _gates(before: Gates, now: Gates) -> Iterator[Loosened]:
    if before.accuracy is not None and (now.accuracy or 0) < before.accuracy:
        yield _moved("gate accuracy", before.accuracy, now.accuracy), ""
    for label, floor in before.recall.items():
        if now.recall.get(label, 0) < floor:
            yield _moved(f"gate recall of {cut(label, 40)}", floor, now.recall.get(label)), ""
    for column, floors in before.slices.items():
        for value, floor in floors.items():
            kept = now.slices.get(column, {}).get(value)
            if (kept or 0) < floor:
                yield _moved(f"gate slices of {cut(column, 40)} {cut(value, 40)}", floor, kept), ""
    if before.coverage is not None:
        yield from _coverage(before.coverage, now.coverage)
    if before.missing is not None and (now.missing is None or now.missing > before.missing):
        yield _moved("gate missing", before.missing, now.missing), ""
    if before.regression and (now.regression is None or now.regression.alpha < before.regression.alpha):
        alpha = now.regression.alpha if now.regression else None
        yield _moved("gate regression", before.regression.alpha, alpha), ""


def _coverage(before: CoverageGate, now: CoverageGate | None) -> Iterator[Loosened]:
    if now is None:
        yield _moved("gate coverage", before.at_least, None), ""
    elif now.at_least < before.at_least or now.at_error > before.at_error:
        shown = (f"{one.at_least:g} at an error of {one.at_error:g}" for one in (before, now))
        yield f"gate coverage: {' → '.join(shown)}", ""


def _moved(what: str, before: float, now: float | None) -> str:
    return f"{what}: removed (was {before:g})" if now is None else f"{what}: {before:g} → {now:g}"


def _words(reference: Contract, now: Contract) -> Iterator[Loosened]:
    """Yield the words that are read as another label than before; one that is not read any more is none."""
    before, after = (_Reader(contract) for contract in (reference, now))
    for word in (*reference.labels, *reference.label_words.values()):
        was, becomes = before.read(word), after.read(word)
        if was is not None and becomes not in (None, was):
            yield "label_words read as another label", f"{cut(word, 40)} ({cut(was, 40)} → {cut(str(becomes), 40)})"


class _Reader:
    def __init__(self, contract: Contract) -> None:
        self._reader = LabelReader(r"(?!)()", contract.labels, contract.label_words)

    def read(self, word: str) -> str | None:
        """Return the label of a reply that is just a word."""
        try:
            return self._reader.read(word, "")
        except CallError:
            return None


def _samples(reference: Contract, now: Contract) -> Iterator[Loosened]:
    for kind, reworded in (("canonical", "reworded"), ("labeled", "given another text")):
        is_canonical = kind == "canonical"
        kept, others = now.by_text(canonical=is_canonical), now.by_text(canonical=not is_canonical)
        ids = {sample.id for sample in kept.values()}
        for form, sample in reference.by_text(canonical=is_canonical).items():
            # A labeled one may become canonical: there it has to be right, which is no loosening.
            other = kept.get(form) or (None if is_canonical else others.get(form))
            if other is not None:
                if other.label != sample.label:
                    change = f"{cut(sample.label, 40)} → {cut(other.label, 40)}"
                    yield f"{kind} sample relabeled", f"{sample.id} ({change})"
            elif is_canonical and form in others:
                yield "canonical sample made an ordinary one", sample.id
            else:
                yield f"{kind} sample {reworded if sample.id in ids else 'removed'}", sample.id


@dataclass(frozen=True)
class OldPrompt:
    """A prompt file as a version has it; ``moved_from`` is its path there where that was another."""

    version: str
    parsed: ParsedPrompt
    sample_set: SampleSet
    baseline: Baseline | None
    moved_from: str = ""
    pool: Pool = field(default_factory=Pool)

    @property
    def contract(self) -> Contract:
        """What it holds a change to."""
        return Contract.of(self.parsed.config, self.sample_set)


class References:
    """The versions that a session is judged by; ``patterns`` name prompt files, for git's rename detection.

    ``accepts`` says that a person accepts what is loosened.
    """

    def __init__(self, folder: Path, names: Sequence[str], patterns: Sequence[str], *, accepts: bool = False) -> None:
        """Find the versions; raise PromptfitError where git knows none of that name."""
        self.accepts = accepts
        self.patterns = (*patterns, *USUAL_FILES)
        self.repository = Repository(folder)
        self.versions = tuple(self.repository.version(name) for name in names)
        self._copies = tempfile.TemporaryDirectory(prefix="promptfit-")

    def close(self) -> None:
        """End git, and remove the copies of what was read."""
        self.repository.close()
        with suppress(OSError):
            self._copies.cleanup()

    def of(self, path: Path) -> tuple[OldPrompt, ...]:
        """Return a prompt file as each version has it, without those that do not have it.

        Raises:
            PromptfitError: git cannot read it, or it cannot be understood as it is there.
        """
        now = self.repository.path_of(path)
        found = []
        for at, version in enumerate(self.versions):
            old = self.old_path(version, now) if now is not None else None
            if old is None:
                continue
            folder = Path(self._copies.name, str(at))
            try:
                found.append(self._read(version, old, folder, moved_from=old if old != now else ""))
            except PromptFileError as error:
                if not self.accepts:
                    said = str(error).replace(f"{folder}{os.sep}", f"{version.name}:")
                    raise PromptFileError(f"{said} (--promptfit-accept-contract does without this version)") from None
        return tuple(one for one in found if one is not None)

    def old_path(self, version: Version, path: str) -> str | None:
        """Return where a version has the prompt file that is at ``path`` now; ``None`` where it has none."""
        return path if path in version.paths else version.renamed(self.patterns).get(path)

    def _read(self, version: Version, path: str, folder: Path, moved_from: str) -> OldPrompt | None:
        copy = _copied(version, path, folder)
        if copy is None:
            return None
        parsed = self._with_data(version, path, parse_prompt_file(copy), folder)
        beside = posixpath.join(posixpath.dirname(path), baseline_path(Path(path)).name)
        text = version.read(beside)
        try:
            shown = f"{version.name}:{beside}"
            baseline = None if text is None else parse_baseline(text.decode(errors="replace"), shown)
        except PromptfitError as error:
            raise PromptFileError(str(error)) from None
        sample_set, pool = read_samples(parsed), Pool()
        with suppress(PromptFileError):  # nothing is asked with it
            pool = pool_of(parsed, sample_set.labels)
        return OldPrompt(version.name, parsed, sample_set, baseline, moved_from, pool)

    def _with_data(self, version: Version, path: str, parsed: ParsedPrompt, folder: Path) -> ParsedPrompt:
        """Lay the data files beside the copy of their prompt; one that is not in git is read where it is now."""
        config = parsed.config
        source, examples = config.samples, config.prompt.examples
        if source is not None and (here := self._elsewhere(version, path, source.file, folder)):
            config = config.model_copy(update={"samples": source.model_copy(update={"file": here})})
        if isinstance(examples, NearestExamples) and (here := self._elsewhere(version, path, examples.file, folder)):
            moved = {"examples": examples.model_copy(update={"file": here})}
            config = config.model_copy(update={"prompt": config.prompt.model_copy(update=moved)})
        return parsed if config is parsed.config else ParsedPrompt(config, parsed.source)

    def _elsewhere(self, version: Version, path: str, file: str | None, folder: Path) -> str | None:
        """Lay a data file of a prompt beside its copy; return where the file is now if the version has none."""
        if file is None or Path(file).expanduser().is_absolute():
            return None
        data = posixpath.normpath(posixpath.join(posixpath.dirname(path), file.replace(os.sep, "/")))
        if not data.startswith("../") and _copied(version, data, folder) is not None:
            return None
        return str(self.repository.top / data)


def _copied(version: Version, path: str, folder: Path) -> Path | None:
    content = version.read(path)
    if content is None:
        return None
    copy = folder / path
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(content)
    return copy


def unheld(old: Sequence[OldPrompt], samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples of other versions whose texts are not among ``samples``."""
    known = {normal_form(sample.text) for sample in samples}
    missing = {normal_form(sample.text): sample for one in old for sample in one.sample_set.samples}
    return [sample for form, sample in missing.items() if form not in known]


def references(
    old: Sequence[OldPrompt],
    now: Contract,
    evaluation: Evaluation,
    others: Sequence[Outcome] = (),
    *,
    baseline: Baseline | None,
    is_renewed: bool = False,
    custom: Custom,
    accepts: bool = False,
    pool: Pool,
) -> list[Reference]:
    """Return how each version judges an evaluation; the first is the one that the change is made to.

    ``others`` are replies to samples that only those versions have; ``baseline`` is the committed one, which this
    run writes anew where it ``is_renewed``, ``pool`` what its nearest examples are drawn from. With ``accepts`` what is
    judged is what both have: the samples that stayed as they were, by the gates and the reading of now.
    """
    answers = {normal_form(outcome.sample.text): outcome for outcome in (*others, *evaluation.outcomes)}
    made = []
    for at, one in enumerate(old):
        lines = loosened(one.contract, now, target=old[0].contract if at else None)
        if not at and not is_renewed:
            lines += baseline_loosened(one.baseline, baseline, evaluation)
        counted = shared(one.contract, now) if accepts and lines else one.contract
        wire = Wire(one.parsed.config, one.sample_set.labels, one.parsed.path.parent, custom=custom)
        outcomes = tuple(
            _read_as_there(sample, answers[form], None if accepts and lines else wire, one.sample_set.labels)
            for sample in counted.samples
            if (form := normal_form(sample.text)) in answers
        )
        seen = replace(evaluation, labels=one.sample_set.labels, outcomes=outcomes)
        rows = pool_change(one.pool, pool)
        made.append(Reference(one.version, seen, one.baseline, counted.gates, lines, accepts, one.moved_from, rows))
    return made


def pool_change(before: Pool, now: Pool) -> str:
    """Return how many of the rows that nearest examples are drawn from came and went; ``""`` where none did.

    They are a part of the prompt, as examples are: nothing is held to them.
    """
    old, new = ({(normal_form(row.text), row.label) for row in pool.rows} for pool in (before, now))
    if old == new or not old or not new:
        return ""
    return f"{len(new - old)} rows for its examples came and {len(old - new)} went"


def _read_as_there(sample: Sample, outcome: Outcome, wire: Wire | None, labels: Sequence[str]) -> Outcome:
    """Return the outcome of a version's sample: its label, and its reading where that reads one.

    Where it reads none the prompt may ask for other words now, so what is read now counts.
    """
    if outcome.reply is None:
        return replace(outcome, sample=sample)
    predicted, decided = outcome.predicted, outcome.decided
    if decided and decided.label != decided.read:  # held back, or another label by its weight
        return replace(outcome, sample=sample, predicted=predicted if predicted in labels else None)
    with suppress(CallError):  # its pattern takes too long on this reply
        predicted = (wire and wire.label(outcome.reply, sample.text)) or predicted
    return replace(outcome, sample=sample, predicted=predicted if predicted in labels else None)
