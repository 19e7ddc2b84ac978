"""Putting a challenger against the incumbent: canonical samples first, then dev, block by block until the gate is sure.

Where challengers come from is up to ``proposals``, the statistics are in ``sequential``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.evaluation.metrics import least_broken
from pytest_promptfit.tuning import sequential
from pytest_promptfit.tuning.figures import compared
from pytest_promptfit.tuning.meter import OutOfBudget
from pytest_promptfit.tuning.mistakes import is_mistake
from pytest_promptfit.tuning.result import Step
from pytest_promptfit.tuning.sequential import ALPHA, BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.prompts.model import Prompt
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.tuning.arena import Arena
    from pytest_promptfit.tuning.candidates import Candidate
    from pytest_promptfit.tuning.history import History
    from pytest_promptfit.tuning.sequential import Verdict

FUTILITY = 3
"""Net losses after which a shorter prompt is not looked at further."""

LEAST_WINS = least_broken(ALPHA)
"""So many wins, without a loss, open the gate."""


@dataclass(frozen=True)
class Tally:
    """A challenger against the incumbent on the dev samples seen so far."""

    fixed: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    right: int = 0
    seen: int = 0

    @property
    def pairs(self) -> tuple[int, int]:
        """Wins and losses."""
        return len(self.fixed), len(self.broken)


UNSEEN = Tally()


@dataclass
class Duels:
    """The incumbent, and what it takes to get into its place."""

    arena: Arena
    history: History
    incumbent: Prompt
    dev: Sequence[Sample]
    canonical: Sequence[Sample]

    def can_gain(self, least: int = LEAST_WINS) -> bool:
        """Tell whether a canonical sample is wrong, or at least so many of dev: what it takes to be accepted."""
        if not all(outcome.correct for outcome in self.arena.outcomes(self.incumbent, self.canonical)):
            return True
        wrong = 0
        for start in range(0, len(self.dev), BLOCK):
            wrong += sum(map(is_mistake, self.arena.outcomes(self.incumbent, self.dev[start : start + BLOCK])))
            if wrong >= least:
                return True
        return False

    def passes_screen(self, challenger: Candidate, samples: Sequence[Sample]) -> bool:
        """Try a challenger on those of the samples that it was made for, before dev is spent on it."""
        aimed = [sample for sample in samples if sample.id in challenger.targets]
        if not aimed:
            return True
        gained = sum(self.arena.right(challenger.prompt, aimed)) - sum(self.arena.right(self.incumbent, aimed))
        if gained <= 0:
            self._note(challenger, "fixes none of the samples it was made for")
        return gained > 0

    def fight(self, challenger: Candidate, *, alpha: float = ALPHA, pruned_from: Prompt | None = None) -> bool:
        """Put a challenger against the incumbent, take it over when it earns it, and tell whether it did.

        It must be better at the level ``alpha``; one that was pruned must not be worse than the incumbent, nor
        than the prompt it was ``pruned_from``.
        """
        try:
            accepted, verdict, tally = self._decided(challenger.prompt, alpha, pruned_from)
        except OutOfBudget:
            self._note(challenger, "not decided within the budget")
            raise
        self._note(challenger, verdict, tally, accepted=accepted)
        if accepted:
            self.incumbent = challenger.prompt
        return accepted

    def _decided(self, challenger: Prompt, alpha: float, pruned_from: Prompt | None) -> tuple[bool, str, Tally]:
        """Return whether a challenger is accepted, why, and what it did on dev."""
        kept, gained = self._canonicals(challenger)
        if not kept:
            return False, "loses a canonical sample", UNSEEN
        verdict: Verdict = "go on"
        tally = UNSEEN
        while verdict == "go on" and tally.seen < len(self.dev):
            tally = self._after_next_block(challenger, tally)
            verdict = self._gate(tally, alpha, patient=gained > 0) if pruned_from is None else _futility(tally)
        if pruned_from is not None and verdict == "go on":
            holds = self._is_not_worse(challenger, pruned_from)
            return holds, "accept" if holds else "reject", tally
        if gained and verdict != "accept" and sequential.not_worse(*tally.pairs):
            return True, f"fixes {gained} canonical samples", tally
        return verdict == "accept", verdict, tally

    def _canonicals(self, prompt: Prompt) -> tuple[bool, int]:
        """Return whether every canonical sample that passes still does, and how many more do."""
        self.arena.ask_together([self.incumbent, prompt], self.canonical)
        answered = [o for o in self.arena.outcomes(self.incumbent, self.canonical) if o.reply is not None]
        before = {o.sample.id: o.correct for o in answered}
        after = {o.sample.id: o.correct for o in self.arena.outcomes(prompt, [o.sample for o in answered])}
        return sequential.keeps_canonicals(before, after), sequential.canonical_gain(before, after)

    def _after_next_block(self, challenger: Prompt, tally: Tally) -> Tally:
        block = self.dev[tally.seen : tally.seen + BLOCK]
        fixed, broken = compared(self.arena, self.incumbent, challenger, block)
        right = tally.right + sum(self.arena.right(challenger, block))
        return Tally((*tally.fixed, *fixed), (*tally.broken, *broken), right, tally.seen + len(block))

    def _gate(self, tally: Tally, alpha: float, *, patient: bool) -> Verdict:
        """Say whether the challenger is better; a ``patient`` gate rejects none before the end of dev."""
        verdict = sequential.judge(*tally.pairs, tally.seen, len(self.dev), alpha=alpha)
        return "go on" if patient and verdict == "reject" and tally.seen < len(self.dev) else verdict

    def _is_not_worse(self, pruned: Prompt, start: Prompt) -> bool:
        """Tell whether a pruned prompt holds against the incumbent, and has no net loss to where pruning started.

        Small losses would add up unseen, and take away what the verdict on the run stands on.
        """
        fixed, broken = compared(self.arena, self.incumbent, pruned, self.dev)
        if not sequential.not_worse(len(fixed), len(broken)):
            return False
        fixed, broken = compared(self.arena, start, pruned, self.dev)
        return sequential.holds_up(len(fixed), len(broken))

    def _note(self, challenger: Candidate, verdict: str, tally: Tally = UNSEEN, *, accepted: bool = False) -> None:
        step = Step(
            self.history.stage,
            challenger.summary,
            diff="\n".join(prompt_diff(self.incumbent, challenger.prompt)),
            fixed=tally.fixed,
            broken=tally.broken,
            accepted=accepted,
            verdict=verdict,
            targets=challenger.targets,
            calls=self.arena.meter.task_calls,
            right=tally.right,
            seen=tally.seen,
        )
        self.history.steps.append(step)


def _futility(tally: Tally) -> Verdict:
    wins, losses = tally.pairs
    return "reject" if losses - wins >= FUTILITY else "go on"


def prompt_diff(old: Prompt, new: Prompt) -> Iterator[str]:
    """Yield the fields that differ, as lines of a diff."""
    before, after = old.model_dump(), new.model_dump()
    for name, value in before.items():
        if after[name] != value:
            yield from (f"{name}:", f"- {_shown(value)}", f"+ {_shown(after[name])}")


def _shown(value: object) -> str:
    return f"{len(value)} examples" if isinstance(value, list | tuple) else repr(value)
