"""What prompts did on samples: counts and cases read from their outcomes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.prompts.model import Prompt
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.tuning.arena import Arena

SUSPECT_AFTER: Final = 3
"""Candidates that must have been asked for a case before its label is doubted."""


def known_outcomes(arena: Arena, prompt: Prompt, samples: Sequence[Sample]) -> list[Outcome]:
    """Return what is known already of a prompt on samples; nothing is asked."""
    seen = arena.seen()
    found = (seen.get((prompt.content_hash, sample.case_name)) for sample in samples)
    return [outcome for outcome in found if outcome is not None]


def unreadable_share(arena: Arena, prompt: Prompt, samples: Sequence[Sample]) -> float:
    """Return the share of a prompt's replies, from 0 to 1, that carry no label."""
    outcomes = [o for o in arena.outcomes(prompt, samples) if o.reply is not None]
    return sum(o.predicted is None for o in outcomes) / len(outcomes) if outcomes else 0.0


def compared(arena: Arena, old: Prompt, new: Prompt, samples: Sequence[Sample]) -> tuple[list[str], list[str]]:
    """Return the cases that the new prompt fixes and those that it breaks.

    A sample that the old prompt got no reply to is not fixed by getting one: the server may have been down.
    """
    arena.ask_together([old, new], samples)
    pairs = list(zip(arena.outcomes(old, samples), arena.outcomes(new, samples), strict=True))
    fixed = [o.sample.case_name for o, n in pairs if n.correct and not o.correct and o.reply is not None]
    broken = [o.sample.case_name for o, n in pairs if o.correct and not n.correct]
    return fixed, broken


def suspects(arena: Arena, samples: Sequence[Sample]) -> list[str]:
    """Return the cases that each of at least ``SUSPECT_AFTER`` candidates got wrong."""
    met: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for (_, case), outcome in arena.seen().items():
        met[case] += outcome.reply is not None
        missed[case] += outcome.status == "wrong"
    return [
        s.case_name for s in samples if met[s.case_name] >= SUSPECT_AFTER and met[s.case_name] == missed[s.case_name]
    ]
