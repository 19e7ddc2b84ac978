"""The optimizer at work: asked for drafts before the race, for patches and rewrites in the rounds of reflection.

What its answers may change is up to ``patches`` and ``drafts``, whether that pays off to the gate.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from pytest_promptfit.prompts.split import rng, shuffled
from pytest_promptfit.text import short
from pytest_promptfit.tuning.arena import is_mistake
from pytest_promptfit.tuning.candidates import Candidate, balanced
from pytest_promptfit.tuning.drafts import (
    EMPHASES,
    SHOWN_AT_LEAST,
    Draft,
    draft_messages,
    draft_schema,
    drafted_fields,
    read_draft,
    rewrite_messages,
)
from pytest_promptfit.tuning.feedback import LONGEST_SUMMARY, choose_samples, feedback_messages, shown_as_wrong
from pytest_promptfit.tuning.gate import BLOCK
from pytest_promptfit.tuning.meter import OutOfBudget
from pytest_promptfit.tuning.patches import Applied, apply_patches, known_fields, patch_schema, read_patches
from pytest_promptfit.tuning.race import probabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.prompts.model import Prompt, TextField, TuneSettings
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.tuning.gate import Duels
    from pytest_promptfit.tuning.memory import Tried
    from pytest_promptfit.tuning.optimizer import Optimizer
    from pytest_promptfit.tuning.steps import Rules


ENOUGH_FOR_DRAFTS = 4
"""Optimizer calls below which none is spent on drafts; of more, half are left to what comes after them."""

UNUSABLE = 2
"""Answers in a row that bring nothing new, after which the optimizer is not asked for the like."""

MISTAKES_SHARE = 0.6
"""Mistakes among what the optimizer is shown at once; the others are right ones."""

ALL_OF_TRAIN = 80
"""So many train samples are asked in every round; of more, as many as it takes."""


Arm = Literal["patches", "rewrites"]
ARMS: Final[tuple[Arm, ...]] = get_args(Arm)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one question in a round of reflection."""

    arm: Arm
    accepted: bool
    gain: int | None
    """Samples fixed less those broken, on dev as far as it was asked; ``None`` where the answer could not be used."""


def next_arm(trials: Sequence[Trial], arms: Sequence[Arm] = ARMS) -> Arm:
    """Return what the optimizer is asked for next: each arm once, then the one that paid.

    That is the one with more accepted candidates or, where they have as many, whose last one had the larger net gain;
    one that failed twice in a row gets no more while another has not.
    """
    of_arm = {arm: [trial for trial in trials if trial.arm == arm] for arm in arms}
    if untried := [arm for arm in arms if not of_arm[arm]]:
        return untried[0]
    alive = [arm for arm in arms if any(t.accepted for t in of_arm[arm][-UNUSABLE:]) or len(of_arm[arm]) < UNUSABLE]

    def paid(arm: Arm) -> tuple[int, float]:
        last = of_arm[arm][-1].gain
        return sum(t.accepted for t in of_arm[arm]), -math.inf if last is None else last

    return max(alive or arms, key=paid)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the optimizer is told of in one question of reflection."""

    train: Sequence[Outcome]
    canonical: Sequence[Outcome]
    some: Sequence[Outcome]
    """Those of ``train`` that are shown."""


@dataclass
class Reflection:
    """Asks the optimizer for drafts, patches and rewrites, and remembers which samples were wrong how often."""

    duels: Duels
    optimizer: Optimizer
    train: Sequence[Sample]
    rules: Rules
    settings: TuneSettings
    seed: int
    unusable: list[str] = field(default_factory=list)
    """What was wrong with the answers that could not be used."""
    trials: list[Trial] = field(default_factory=list)
    """What came of the questions in the rounds, in their order."""
    _wrong: Counter[str] = field(default_factory=Counter)
    _unusable_drafts: int = 0
    """Drafts in a row, the last ones, that could not be used."""

    def __post_init__(self) -> None:
        """Keep what nothing may be copied from."""
        self.texts = [sample.text for sample in (*self.train, *self.duels.canonical)]

    @property
    def arm(self) -> Arm:
        """What is asked for next in the rounds: no rewrite where the optimizer could write no draft."""
        writes = self.fields and self._unusable_drafts < UNUSABLE
        return next_arm(self.trials, [arm for arm in self.arms if writes or arm == "patches"] or self.arms)

    @property
    def arms(self) -> list[Arm]:
        """What the optimizer may be asked for in the rounds."""
        return [arm for arm in ARMS if arm in self.settings.arms]

    def drafts(self) -> Iterator[Candidate]:
        """Yield whole prompts written from samples, within their part of the optimizer calls."""
        is_enough = self.duels.arena.meter.optimizer_limit >= ENOUGH_FOR_DRAFTS
        if "drafts" not in self.settings.arms or not is_enough or not self.fields or not self.train:
            return
        for draw, emphasis in enumerate(EMPHASES):
            if self._unusable_drafts >= UNUSABLE or not self._may_draft():
                return
            self.duels.history.enter("drafts", len(EMPHASES) - draw)
            samples = self._drawn(draw)
            messages = draft_messages(
                self.duels.incumbent,
                self.rules,
                self.fields,
                samples=samples,
                canonical=self.duels.canonical,
                tried=self.duels.history.earlier.tried,
                emphasis=emphasis,
                continues=self._continues,
            )
            try:
                draft = self._asked_for_draft(*messages, may_repair=self._may_draft)
            except OutOfBudget:  # a race may cost less
                return
            self._unusable_drafts = 0 if draft.prompt else self._unusable_drafts + 1
            if draft.prompt:
                made_of = tuple(sample.id for sample in samples)
                yield Candidate(draft.prompt, f"draft {draw + 1}: {_told(draft.prompt)}", made_of=made_of)

    def patched(self, turn: int, attempt: int) -> Candidate | None:
        """Ask for a set of patches; ``None`` when its answer cannot be used. Raises OutOfBudget."""
        shown = self._chosen(turn, attempt)
        system, user = feedback_messages(
            wire=self.duels.arena.wire(self.duels.incumbent),
            prompt=self.duels.incumbent,
            rules=self.rules,
            train=shown.train,
            canonical=shown.canonical,
            shown=shown.some,
            tried=self._tried,
        )
        applied = self._asked_for_patches(system, user)
        if not applied.applied:
            self.unusable.append(self.optimizer.problem or "; ".join(applied.problems))
            return None
        return _candidate(applied, shown_as_wrong(shown.some, shown.canonical))

    def rewritten(self, turn: int, attempt: int) -> Candidate | None:
        """Ask for another prompt by a diagnosis of the incumbent; ``None`` when it cannot be used. Raises OutOfBudget.

        It is made for the mistakes it was told of, as patches are.
        """
        shown = self._chosen(turn, attempt)
        messages = rewrite_messages(
            self.duels.incumbent,
            self.rules,
            self.fields,
            train=shown.train,
            canonical=shown.canonical,
            shown=shown.some,
            chances=self._chances(shown.train),
            tried=self._tried,
            continues=self._continues,
        )
        draft = self._asked_for_draft(*messages)
        if draft.prompt is None:
            return None
        known = shown_as_wrong(shown.some, shown.canonical)
        targets = [o.sample.id for o in (*shown.canonical, *shown.some) if o.sample.id in known]
        return Candidate(draft.prompt, f"rewritten: {_told(draft.prompt)}", tuple(targets))

    @property
    def fields(self) -> tuple[TextField, ...]:
        """The fields of the incumbent that the optimizer may write; none where no text that asks may change."""
        return drafted_fields(self.duels.incumbent, self.rules, continues=self._continues)

    @property
    def _continues(self) -> bool:
        return self.duels.arena.wire(self.duels.incumbent).provider.continues_prefix

    @property
    def _tried(self) -> list[Tried]:
        """What was tried, in earlier runs too, latest last."""
        history = self.duels.history
        return [*history.earlier.tried, *((s.summary, len(s.fixed), len(s.broken), s.verdict) for s in history.steps)]

    def _may_draft(self) -> bool:
        meter = self.duels.arena.meter
        return meter.optimizer.calls < meter.optimizer_limit // 2

    def _drawn(self, draw: int) -> list[Sample]:
        """Return the samples that a draft is written from: balanced, those with a note first."""
        order = shuffled(self.train, rng(self.seed, draw, "draft"))
        labels = self.rules.labels
        return balanced(sorted(order, key=lambda s: not s.note), labels, max(SHOWN_AT_LEAST, len(labels)))

    def _chosen(self, turn: int, attempt: int) -> _Shown:
        """Look at train, when the optimizer may be asked, and choose what it is told of. Raises OutOfBudget."""
        self.duels.arena.meter.check_optimizer()
        train = self._looked_at()
        canonical = self.duels.arena.outcomes(self.duels.incumbent, self.duels.canonical)
        if attempt == 0:
            self._wrong.update(o.sample.id for o in train if not o.correct)
        some = choose_samples(
            train,
            self._wrong + self.duels.history.earlier.mistakes,
            total=self.settings.samples.total,
            wrong_per_label=self.settings.samples.wrong_per_label,
            right_per_label=self.settings.samples.right_per_label,
            rng=rng(self.seed, turn, f"feedback {attempt}"),
        )
        return _Shown(train, canonical, some)

    def _chances(self, train: Sequence[Outcome]) -> dict[str, float]:
        """Return how likely each answer was, by the sample's id, where that is recorded."""
        told = probabilities(self.duels.arena, self.duels.incumbent, [o.sample for o in train])
        pairs = zip(train, told, strict=True)
        return {o.sample.id: p[o.best] for o, p in pairs if o.best is not None and o.best in p}

    def _looked_at(self) -> list[Outcome]:
        """Return the incumbent's outcomes on all of a small train, of a large one on as much as has mistakes enough.

        Those are the first ones of an order that no answer decides, so the rest stays fresh for the verdict.
        """
        if len(self.train) <= ALL_OF_TRAIN:
            return self.duels.arena.outcomes(self.duels.incumbent, self.train)
        order = shuffled(self.train, rng(self.seed, 0, "probe"))
        wanted = self.settings.samples.total * MISTAKES_SHARE
        most = max(self.settings.samples.total, (len(order) + 1) // 2)
        found: list[Outcome] = []
        while len(found) < min(most, len(order)) and sum(map(is_mistake, found)) < wanted:
            found += self.duels.arena.outcomes(self.duels.incumbent, order[len(found) : len(found) + BLOCK])
        return found

    def _asked_for_patches(self, system: str, user: str) -> Applied:
        """Ask for patches, and once more, with what was wrong, when none of them can be used."""
        schema = patch_schema(known_fields(self.duels.incumbent, self.rules))
        applied = self._applied(self.optimizer.answer(system, user, schema=schema))
        if applied.applied or not applied.problems:
            return applied
        return self._applied(self.optimizer.answer(system, _repair(user, applied.problems), schema=schema))

    def asked(
        self,
        system: str,
        user: str,
        read: Callable[[str], Draft],
        *,
        schema: Mapping[str, Any] | None = None,
        may_repair: Callable[[], bool] = lambda: True,
    ) -> Draft:
        """Ask for a prompt, and once more, with what was wrong, when it cannot be used. Raises OutOfBudget."""
        draft = read(self.optimizer.answer(system, user, schema=schema))
        if draft.prompt is None and may_repair():
            draft = read(self.optimizer.answer(system, _repair(user, draft.problems), schema=schema))
        if draft.prompt is None:
            self.unusable.append(self.optimizer.problem or "; ".join(draft.problems))
        return draft

    def _asked_for_draft(self, system: str, user: str, *, may_repair: Callable[[], bool] = lambda: True) -> Draft:
        schema = draft_schema(self.duels.incumbent, self.rules, self.fields)
        return self.asked(system, user, self._read, schema=schema, may_repair=may_repair)

    def _read(self, answer: str) -> Draft:
        return read_draft(answer, self.duels.incumbent, self.rules, self.fields, texts=self.texts)

    def _applied(self, answer: str) -> Applied:
        """Return what an answer makes of the incumbent, and all that is wrong with it."""
        found, problems = read_patches(answer, known_fields(self.duels.incumbent, self.rules))
        texts = [sample.text for sample in self.train]
        applied = apply_patches(self.duels.incumbent, found, self.rules, train_texts=texts)
        return replace(applied, problems=(*problems, *applied.problems))


def _candidate(applied: Applied, known: Collection[str]) -> Candidate:
    """Return a patched prompt, with those targets of its patches that are known."""
    reasons = (patch.reason or f"{patch.op} in {patch.field}" for patch in applied.applied)
    targets = dict.fromkeys(target for patch in applied.applied for target in patch.targets if target in known)
    return Candidate(applied.prompt, "; ".join(reasons)[:200], tuple(targets))


def _repair(user: str, problems: Sequence[str]) -> str:
    """Return a question with what was wrong with the last answer to it."""
    lines = "\n".join(f"- {line}" for line in problems[:6])
    return f"{user}\n\nYour last answer could not be used:\n{lines}"


def _told(prompt: Prompt) -> str:
    """Return a prompt in a few words."""
    return short(prompt.system_prompt.strip() or prompt.user_prompt_suffix.strip(), LONGEST_SUMMARY)
