"""The versions that ``--promptfit-against`` names: a prompt file as a version has it, and how it judges a run.

Reads from git what the version says (prompt, samples, baseline), and gives the run's replies its labels and reading.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_promptfit.errors import CallError, PromptFileError, PromptfitError
from pytest_promptfit.evaluation.baseline import Baseline, baseline_path, parse_baseline
from pytest_promptfit.evaluation.contract import Contract, baseline_loosened, loosened, shared
from pytest_promptfit.evaluation.git import Repository
from pytest_promptfit.evaluation.selection import USUAL_FILES
from pytest_promptfit.evaluation.verdicts import Reference
from pytest_promptfit.prompts.read import ParsedPrompt, parse_prompt_file
from pytest_promptfit.prompts.samples import SampleSet, normal_form, read_samples
from pytest_promptfit.providers.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_promptfit.evaluation.git import Version
    from pytest_promptfit.evaluation.outcomes import Evaluation, Outcome
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.providers.own import Custom


@dataclass(frozen=True)
class OldPrompt:
    """A prompt file as a version has it; ``moved_from`` is its path there where that was another."""

    version: str
    parsed: ParsedPrompt
    sample_set: SampleSet
    baseline: Baseline | None
    moved_from: str = ""

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
        found = (self._at(version, path) for version in self.versions)
        return tuple(old for old in found if old is not None)

    def old_path(self, version: Version, path: str) -> str | None:
        """Return where a version has the prompt file that is at ``path`` now; ``None`` where it has none."""
        return path if path in version.paths else version.renamed(self.patterns).get(path)

    def _at(self, version: Version, path: Path) -> OldPrompt | None:
        now = self.repository.path_of(path)
        old = self.old_path(version, now) if now is not None else None
        if old is None:
            return None
        folder = Path(self._copies.name, str(self.versions.index(version)))
        try:
            return self._read(version, old, folder, moved_from=old if old != now else "")
        except PromptFileError as error:
            if self.accepts:
                return None
            said = str(error).replace(f"{folder}{os.sep}", f"{version.name}:")
            raise PromptFileError(f"{said} (--promptfit-accept-contract does without this version)") from None

    def _read(self, version: Version, path: str, folder: Path, moved_from: str) -> OldPrompt | None:
        copy = _copied(version, path, folder)
        if copy is None:
            return None
        parsed = self._with_data(version, path, parse_prompt_file(copy), folder)
        beside = posixpath.join(posixpath.dirname(path), baseline_path(Path(path)).name)
        text = version.read(beside)
        accepted = None if text is None else _accepted(text.decode(errors="replace"), f"{version.name}:{beside}")
        return OldPrompt(version.name, parsed, read_samples(parsed), accepted, moved_from)

    def _with_data(self, version: Version, path: str, parsed: ParsedPrompt, folder: Path) -> ParsedPrompt:
        """Lay the data file beside the copy of its prompt; one that is not in git is read where it is now."""
        source = parsed.config.samples
        if source is None or source.file is None or Path(source.file).expanduser().is_absolute():
            return parsed
        data = posixpath.normpath(posixpath.join(posixpath.dirname(path), source.file.replace(os.sep, "/")))
        if not data.startswith("../") and _copied(version, data, folder) is not None:
            return parsed
        here = source.model_copy(update={"file": str(self.repository.top / data)})
        return ParsedPrompt(parsed.config.model_copy(update={"samples": here}), parsed.source)


def _accepted(text: str, shown: str) -> Baseline:
    try:
        return parse_baseline(text, shown)
    except PromptfitError as error:
        raise PromptFileError(str(error)) from None


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
) -> list[Reference]:
    """Return how each version judges an evaluation; the first is the one that the change is made to.

    ``others`` are replies to samples that only those versions have; ``baseline`` is the committed one, which this
    run writes anew where it ``is_renewed``. With ``accepts`` what is judged is what both
    have: the samples that stayed as they were, by the gates and the reading of now.
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
        made.append(Reference(one.version, seen, one.baseline, counted.gates, lines, accepts, one.moved_from))
    return made


def _read_as_there(sample: Sample, outcome: Outcome, wire: Wire | None, labels: Sequence[str]) -> Outcome:
    """Return the outcome of a version's sample: its label, and its reading where that reads one.

    Where it reads none the prompt may ask for other words now, so what is read now counts.
    """
    if outcome.reply is None:
        return replace(outcome, sample=sample)
    predicted = outcome.predicted
    with suppress(CallError):  # its pattern takes too long on this reply
        predicted = (wire and wire.label(outcome.reply, sample.text)) or predicted
    return replace(outcome, sample=sample, predicted=predicted if predicted in labels else None)
