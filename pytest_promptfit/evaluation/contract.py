"""What a version of a prompt file holds a change to, and what a change takes away from it.

Pure values. A sample is paired by its text: its id, its line and its file may change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_promptfit.chat.label import LabelReader
from pytest_promptfit.errors import CallError
from pytest_promptfit.evaluation.gates import listed
from pytest_promptfit.prompts.samples import Sample, SampleSet, normal_form
from pytest_promptfit.text import cut, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_promptfit.evaluation.baseline import Baseline
    from pytest_promptfit.evaluation.outcomes import Evaluation
    from pytest_promptfit.prompts.model import Gates, PromptConfig

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
        yield plain(what) if not names else f"{_several(plain(what), len(names))}: {listed(names)}"


def _several(what: str, count: int) -> str:
    return what if count == 1 else f"{count} {what.replace('sample ', 'samples ', 1)}"


def _all(reference: Contract, now: Contract) -> Iterator[Loosened]:
    yield from _gates(reference.gates, now.gates)
    if reference.strict and not now.strict:
        yield "cases: strict → gated", ""
    for label in reference.labels:
        if label not in now.labels:
            yield "label removed", label
    if reference.extract != now.extract:
        yield f"extract: {cut(str(reference.extract), 60)} → {cut(str(now.extract), 60)}", ""
    yield from _words(reference, now)
    yield from _canonicals(reference, now)
    yield from _labeled(reference, now)


def _gates(before: Gates, now: Gates) -> Iterator[Loosened]:
    if before.accuracy is not None and (now.accuracy or 0) < before.accuracy:
        yield _moved("gate accuracy", before.accuracy, now.accuracy), ""
    for label, floor in before.recall.items():
        if now.recall.get(label, 0) < floor:
            yield _moved(f"gate recall of {cut(label, 40)}", floor, now.recall.get(label)), ""
    if before.missing is not None and (now.missing is None or now.missing > before.missing):
        yield _moved("gate missing", before.missing, now.missing), ""
    if before.regression and (now.regression is None or now.regression.alpha < before.regression.alpha):
        alpha = now.regression.alpha if now.regression else None
        yield _moved("gate regression", before.regression.alpha, alpha), ""


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


def _canonicals(reference: Contract, now: Contract) -> Iterator[Loosened]:
    kept, ordinary = now.by_text(canonical=True), now.by_text(canonical=False)
    ids = {sample.id for sample in kept.values()}
    for form, sample in reference.by_text(canonical=True).items():
        if form in kept:
            yield from _relabeled("canonical", sample, kept[form])
        elif form in ordinary:
            yield "canonical sample made an ordinary one", sample.id
        else:
            yield f"canonical sample {'reworded' if sample.id in ids else 'removed'}", sample.id


def _labeled(reference: Contract, now: Contract) -> Iterator[Loosened]:
    kept, canonical = now.by_text(canonical=False), now.by_text(canonical=True)
    ids = {sample.id for sample in kept.values()}
    for form, sample in reference.by_text(canonical=False).items():
        other = kept.get(form) or canonical.get(form)  # as a canonical it has to be right: that is no loosening
        if other is not None:
            yield from _relabeled("labeled", sample, other)
        else:
            yield f"labeled sample {'given another text' if sample.id in ids else 'removed'}", sample.id


def _relabeled(kind: str, before: Sample, now: Sample) -> Iterator[Loosened]:
    if before.label != now.label:
        yield f"{kind} sample relabeled", f"{before.id} ({cut(before.label, 40)} → {cut(now.label, 40)})"
