"""Patches for the mistakes of the incumbent: what the optimizer is told, its answer, and one repair round."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_promptfit.tuning.candidates import Candidate, shuffled
from pytest_promptfit.tuning.feedback import feedback_messages
from pytest_promptfit.tuning.mistakes import choose_samples, is_mistake, shown_as_wrong
from pytest_promptfit.tuning.patches import PATCH_SCHEMA, Applied, apply_patches, read_patches
from pytest_promptfit.tuning.sequential import BLOCK
from pytest_promptfit.tuning.split import rng

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from random import Random

    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.prompts.model import ShownSamples
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.tuning.duel import Duels
    from pytest_promptfit.tuning.guard import Rules
    from pytest_promptfit.tuning.optimizer import Optimizer

MISTAKES_SHARE = 0.6
"""Mistakes among what the optimizer is shown at once; the others are right ones."""

ALL_OF_TRAIN = 80
"""So many train samples are asked in every round; of more, as many as it takes."""


@dataclass
class Reflection:
    """Asks the optimizer for patches of the incumbent, and remembers which samples were wrong how often."""

    duels: Duels
    optimizer: Optimizer
    train: Sequence[Sample]
    rules: Rules
    wanted: ShownSamples
    seed: int
    unusable: list[str] = field(default_factory=list)
    """What was wrong with the answers that could not be used."""
    _wrong: Counter[str] = field(default_factory=Counter)

    def patched(self, turn: int, attempt: int) -> Candidate | None:
        """Ask for a set of patches; ``None`` when its answer cannot be used. Raises OutOfBudget."""
        self.duels.arena.meter.check_optimizer()
        train = self._looked_at()
        canonical = self.duels.arena.outcomes(self.duels.incumbent, self.duels.canonical)
        if attempt == 0:
            self._wrong.update(o.sample.id for o in train if not o.correct)
        shown = self._shown(train, rng(self.seed, turn, f"feedback {attempt}"))
        applied = self._asked(*self._feedback(train, canonical, shown))
        if not applied.applied:
            self.unusable.append(self.optimizer.problem or "; ".join(applied.problems))
            return None
        return _candidate(applied, shown_as_wrong(shown, canonical))

    def _looked_at(self) -> list[Outcome]:
        """Return the incumbent's outcomes on all of a small train, of a large one on as much as has mistakes enough.

        Those are the first ones of an order that no answer decides, so the rest stays fresh for the verdict.
        """
        if len(self.train) <= ALL_OF_TRAIN:
            return self.duels.arena.outcomes(self.duels.incumbent, self.train)
        order = shuffled(self.train, rng(self.seed, 0, "probe"))
        wanted = self.wanted.total * MISTAKES_SHARE
        most = max(self.wanted.total, (len(order) + 1) // 2)
        found: list[Outcome] = []
        while len(found) < min(most, len(order)) and sum(map(is_mistake, found)) < wanted:
            found += self.duels.arena.outcomes(self.duels.incumbent, order[len(found) : len(found) + BLOCK])
        return found

    def _shown(self, train: Sequence[Outcome], draw: Random) -> list[Outcome]:
        return choose_samples(
            train,
            self._wrong,
            total=self.wanted.total,
            wrong_per_label=self.wanted.wrong_per_label,
            right_per_label=self.wanted.right_per_label,
            rng=draw,
        )

    def _feedback(
        self, train: Sequence[Outcome], canonical: Sequence[Outcome], shown: Sequence[Outcome]
    ) -> tuple[str, str]:
        return feedback_messages(
            wire=self.duels.arena.wire(self.duels.incumbent),
            prompt=self.duels.incumbent,
            rules=self.rules,
            train=train,
            canonical=canonical,
            shown=shown,
            tried=[(s.summary, len(s.fixed), len(s.broken), s.verdict) for s in self.duels.history.steps],
        )

    def _asked(self, system: str, user: str) -> Applied:
        """Ask for patches, and once more, with what was wrong, when none of them can be used."""
        applied = self._applied(self.optimizer.answer(system, user, schema=PATCH_SCHEMA))
        if applied.applied or not applied.problems:
            return applied
        listed = "\n".join(f"- {line}" for line in applied.problems[:6])
        repair = f"{user}\n\nYour last answer could not be used:\n{listed}"
        return self._applied(self.optimizer.answer(system, repair, schema=PATCH_SCHEMA))

    def _applied(self, answer: str) -> Applied:
        """Return what an answer makes of the incumbent, and all that is wrong with it."""
        found, problems = read_patches(answer)
        texts = [sample.text for sample in self.train]
        applied = apply_patches(self.duels.incumbent, found, self.rules, train_texts=texts)
        return replace(applied, problems=(*problems, *applied.problems))


def _candidate(applied: Applied, known: Collection[str]) -> Candidate:
    """Return a patched prompt, with those targets of its patches that are known."""
    reasons = (patch.reason or f"{patch.op} in {patch.field}" for patch in applied.applied)
    targets = dict.fromkeys(target for patch in applied.applied for target in patch.targets if target in known)
    return Candidate(applied.prompt, "; ".join(reasons)[:200], tuple(targets))
