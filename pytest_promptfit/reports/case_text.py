"""What is said of a case, of the misses together, and of a gate: to a person who must act, and to JUnit."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.evaluation.gates import listed
from pytest_promptfit.text import cut, percent, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.evaluation.gates import GateResult
    from pytest_promptfit.evaluation.outcomes import Evaluation, Outcome
    from pytest_promptfit.evaluation.verdicts import PromptResult


def properties(outcome: Outcome) -> list[tuple[str, object]]:
    """Return what JUnit XML tells of a case."""
    found: list[tuple[str, object]] = [
        ("label", outcome.sample.label),
        ("predicted", outcome.predicted or ""),
    ]
    if outcome.reply is not None:
        found += [
            ("reply", outcome.reply.shown),
            ("input_tokens", outcome.reply.input_tokens),
            ("output_tokens", outcome.reply.output_tokens),
        ]
    if outcome.confidence is not None:
        found.append(("confidence", round(outcome.confidence, 6)))
    return found if outcome.seconds is None else [*found, ("latency", outcome.seconds)]


def failure_lines(result: PromptResult, name: str, path: str) -> Iterator[str]:
    """Yield what a person needs to act: the sample, the label wanted and read, the reply, the next command.

    ``path`` and ``name`` select the case. Accepting takes the whole file: a part of the samples cannot show that the
    prompt did not get worse.
    """
    outcome = result.evaluation.by_case[name]
    sample = outcome.sample
    yield headline(outcome)
    yield f"  sample:  {plain(sample.place)} ({'canonical ' if sample.canonical else ''}{plain(sample.id)})"
    yield f"  text:    {cut(sample.text, 300)}"
    yield f"  label:   {plain(sample.label)}"
    if outcome.reply is not None:
        repeated = f" ({said_answers(outcome.answers)})" if outcome.answers else ""
        yield f"  read:    {answer(outcome.best)}{repeated}"
        yield f"  reply:   {cut(outcome.reply.shown, 300)}"
    if sample.note:
        yield f"  note:    {cut(sample.note, 300)}"
    quoted = asked_of(result.evaluation, f"{path}::{name}")
    if not outcome.asking_helps:
        return
    if outcome.reply is None:
        yield f"  record:  pytest --promptfit {result.evaluation.record_option} {quoted}"
        return
    # A canonical sample has to be right: no baseline excuses it.
    if not sample.canonical:
        yield f"  accept:  {how_to_accept(result, shlex.quote(path))}"
    yield f"  re-ask:  pytest --promptfit --promptfit-record=all {quoted}"


def headline(outcome: Outcome) -> str:
    """Return in a few words what is wrong with an outcome."""
    if outcome.reply is None:
        return plain(outcome.error)
    if outcome.abstained:
        sure = percent(outcome.confidence or 0.0)
        return f"expected {plain(outcome.sample.label)}, and abstained: {answer(outcome.best)} is only {sure} sure"
    if outcome.predicted is not None:
        return f"expected {plain(outcome.sample.label)}, read {plain(outcome.predicted)}"
    why = f": {plain(outcome.why_missing.text)}" if outcome.why_missing else ""
    return f"expected {plain(outcome.sample.label)}, and no label could be read{why}"


def how_to_accept(result: PromptResult, path: str) -> str:
    """Return what makes today's outcomes pass, where that is meant; ``path`` is quoted for a shell."""
    if result.evaluation.instead_of:
        model = plain(result.evaluation.model)
        return f"no baseline is written under another model: name {model} in the file, and accept it then"
    refs = [plain(name) for name in result.worse_than if name in result.against]
    if refs:
        # A git ref keeps its own baseline, whatever is written here.
        where = " and ".join(refs)
        return (
            f"commit what pytest --promptfit --promptfit-update=force {path} writes; the regression gate fails until "
            f"{where} {'have' if len(refs) > 1 else 'has'} it, so a person merges it all the same"
        )
    return f"pytest --promptfit --promptfit-update{'=force' if result.is_worse else ''} {path}"


def asked_of(evaluation: Evaluation, path: str) -> str:
    """Return what follows ``pytest --promptfit`` for a path, quoted for a shell: the model where it is another one."""
    words = ["--promptfit-model", evaluation.other_model] if evaluation.other_model else []
    return shlex.join([*words, path])


@dataclass(frozen=True)
class Confused:
    """Samples of one label that were read as the same other one, or as none; the worst first."""

    label: str
    predicted: str | None
    outcomes: tuple[Outcome, ...]
    failed: int
    canonical: int
    broken: int

    @property
    def title(self) -> str:
        """``negative → neutral (18, 12 broke)``: safe to show."""
        counts = ((self.canonical, "canonical"), (self.broken, "broke"))
        said = "".join(f", {count} {word}" for count, word in counts if count)
        return f"{plain(self.label)} → {answer(self.predicted)} ({len(self.outcomes)}{said})"


def answer(predicted: str | None) -> str:
    """Return what was read, safe to show."""
    return "no label" if predicted is None else plain(predicted)


def said_answers(answers: Sequence[str | None]) -> str:
    """Return how often each label was answered, safe to show: ``2 good, 1 bad``."""
    return ", ".join(f"{count} {answer(predicted)}" for predicted, count in Counter(answers).most_common())


def confused(result: PromptResult) -> list[Confused]:
    """Return the misses by label and answer: first those with a failed canonical, then by what fails and broke."""
    broken = frozenset(result.comparison.broken) if result.comparison else frozenset()
    failed = frozenset(result.failed_cases)

    def rank(outcome: Outcome) -> tuple[bool, bool, bool]:
        name = outcome.sample.case_name
        return not outcome.sample.canonical, name not in failed, name not in broken

    groups: dict[tuple[str, str | None], list[Outcome]] = {}
    for outcome in sorted(result.evaluation.outcomes, key=rank):
        if outcome.reply is not None and not outcome.correct:
            groups.setdefault((outcome.sample.label, outcome.given), []).append(outcome)
    found = [
        Confused(
            label,
            predicted,
            tuple(outcomes),
            failed=sum(o.sample.case_name in failed for o in outcomes),
            canonical=sum(o.sample.canonical for o in outcomes),
            broken=sum(o.sample.case_name in broken for o in outcomes),
        )
        for (label, predicted), outcomes in groups.items()
    ]
    return sorted(found, key=lambda one: (-one.canonical, -one.failed, -one.broken, -len(one.outcomes)))


def said_of_gate(gate: GateResult) -> tuple[str, tuple[str, ...]]:
    """Return the sentence on a gate, and what is to be listed below it: everything that was loosened."""
    return gate.head or gate.detail, gate.samples if gate.name == "contract" else ()


def gate_lines(gate: GateResult, result: PromptResult, path: str) -> Iterator[str]:
    """Yield why a gate failed, and the samples behind it."""
    if gate.name == "contract":
        yield f"{path}: gate contract: looser than before (a person lets it through: --promptfit-accept-contract)"
        yield from (f"  {line}" for line in gate.samples)
        return
    yield f"{path}: gate {gate.name}: {gate.detail}"
    if gate.samples:
        what = "broken" if gate.name == "regression" else "behind it"
        yield f"  {what}: {listed(gate.samples)}"
    if gate.name == "regression":
        yield f"  accept: {how_to_accept(result, shlex.quote(path))}"
