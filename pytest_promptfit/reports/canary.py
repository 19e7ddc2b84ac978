"""What is said of a canary: one line for people, and the same for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_promptfit.evaluation.gates import listed
from pytest_promptfit.text import counted, percent, plain, probability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_promptfit.evaluation.canary import Canary

PICKED = ("wanted", "drawn", "shared", "expected", "p_labels", "p_drift", "level", "has_drifted", "answered_by")


def canary_line(canary: Canary) -> str:
    """Return the line on a canary: how many labels differ, accuracy before and now, how sure, and whether it fails."""
    return f"{plain(canary.name)}: canary: {'; '.join(_said(canary))}. {'Fails' if canary.fails else 'Passes'}."


def differing_lines(canary: Canary) -> Iterator[str]:
    """Yield which samples are answered otherwise than they were, as far as they can be listed."""
    for what, names in (("broke", canary.broken), ("fixed", canary.fixed), ("other label", canary.differing)):
        if names:
            yield f"  {what}: {plain(listed(names))}"


def _said(canary: Canary) -> Iterator[str]:
    if canary.shared:
        before, now = percent(canary.before / canary.shared), percent(canary.now / canary.shared)
        moved = f"fixed {len(canary.fixed)}, broke {len(canary.broken)}, {probability(canary.p_value)}"
        yield f"{len(canary.differing)} of {canary.shared} labels differ from the recording ({_expected(canary)})"
        yield f"accuracy on them {before} → {now} ({moved})"
        yield f"{'drifted beyond chance' if canary.has_drifted else 'within chance'}, {_together(canary)}"
    if canary.answered_by:
        yield canary.answered_by
    if canary.drawn < canary.wanted:
        yield f"no more than {canary.drawn} of {canary.wanted} are recorded"
    for cause, count in canary.unanswered:
        yield f"{counted(count, 'sample')} without a reply: {plain(cause)}"
    yield from map(plain, canary.key_went)


def _expected(canary: Canary) -> str:
    if canary.p_labels is None:
        return "not judged: their noise is not known, promptfit noise measures it"
    noise = canary.noise
    measured = f", measured on {counted(noise.samples, 'sample')}" if noise else ", allowed at temperature 0"
    return f"noise {percent(canary.expected or 0)}{measured}, {probability(canary.p_labels)}"


def _together(canary: Canary) -> str:
    shared = f" of {canary.alpha:g} for all canaries" if canary.level < canary.alpha else ""
    return f"{probability(canary.p_drift)}, alpha {canary.level:.2g}{shared}"


def as_json(canaries: Sequence[Canary], relative: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return canaries for machines."""
    return [
        {
            "name": one.name,
            "path": relative(one.path),
            "model": one.model,
            "line": canary_line(one),
            "fails": one.fails,
            **{name: getattr(one, name) for name in PICKED},
            "accuracy_before": one.before / one.shared if one.shared else None,
            "accuracy": one.now / one.shared if one.shared else None,
            "fixed": list(one.fixed),
            "broken": list(one.broken),
            "p_accuracy": one.p_value,
            "differing": list(one.differing),
            "unanswered": dict(one.unanswered),
            "noise": one.noise and asdict(one.noise),
            "usage": asdict(one.usage),
        }
        for one in canaries
    ]
