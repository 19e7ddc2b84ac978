"""Where candidates come from: formats, label words, sets of examples, the optimizer, small steps.

Whether one is any good is decided elsewhere. Dev and holdout are not known here.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_promptfit.prompts.labels import words_of
from pytest_promptfit.prompts.split import rng, shuffled
from pytest_promptfit.providers.replies import reply_limit
from pytest_promptfit.text import counted
from pytest_promptfit.tuning.arena import is_mistake, known_outcomes
from pytest_promptfit.tuning.candidates import (
    LONGEST_SET,
    SHOWN_A_LABEL,
    Candidate,
    are_opaque,
    balanced,
    changed,
    example_sets,
    label_orders,
    nearest_examples,
    nearest_told,
    read_words,
    reordered,
    searched_fields,
    shortlists,
    with_label_moved,
    with_words,
    word_messages,
    word_schema,
)
from pytest_promptfit.tuning.formats import (
    REPLY_PREFIX,
    SIZES_WITH_REASONS,
    format_variants,
    gives_reason,
    label_alone,
    reason_first,
    with_reasons,
)
from pytest_promptfit.tuning.gepa_engine import Evolution
from pytest_promptfit.tuning.meter import OptimizerSpent, OutOfBudget
from pytest_promptfit.tuning.optimizer import LONGEST_MESSAGE
from pytest_promptfit.tuning.reflection import UNUSABLE, Reflection, Trial
from pytest_promptfit.tuning.steps import (
    Rules,
    allowed,
    deterministic_steps,
    is_noted,
    prune_steps,
    text_length,
    without_same,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_promptfit.prompts.model import Prompt, TuneSettings
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.tuning.gate import Duels
    from pytest_promptfit.tuning.meter import Meter
    from pytest_promptfit.tuning.optimizer import Optimizer
    from pytest_promptfit.tuning.reflection import Arm


MOST_ASKED, SHARE_ASKED = 24, 25
"""Train samples that are asked for replies with reasons, at most, and of how many task calls they are one at most."""

EXAMPLE_SETS = 16
SETS_FIRST = 4
"""Sets of examples that come before those nearest to a text, which race on a small budget too: one of each kind."""

MANY_LABELS = 8
"""With more labels than these a set of examples has hardly two of each: those nearest to a text are tried first."""

WORD_DRAWS = 3
"""Questions for label words, each with other samples."""

TEXT_GROWTH = LONGEST_MESSAGE - LONGEST_SET
"""Characters that the texts may have more than the initial ones, however they come about.

With the largest set of examples they then still fit into a context of 4,096 tokens. It is room for some 450 words,
which define a dozen labels and what tells them apart; patches come after whole prompts, so they have the same.
"""


def asked_for_reasons(meter: Meter) -> int:
    """Return how many train samples may be asked for replies that become examples with reasons."""
    asked = min(MOST_ASKED, meter.task_limit // SHARE_ASKED)
    return asked if asked >= max(SIZES_WITH_REASONS) else 0


@dataclass
class Proposals:
    """Proposes candidates of the incumbent, each prompt once."""

    duels: Duels
    optimizer: Optimizer | None
    train: Sequence[Sample]
    settings: TuneSettings
    seed: int

    def __post_init__(self) -> None:
        """Start from the incumbent as the only prompt that was tried."""
        initial = self.duels.incumbent
        self._tried = {initial.content_hash}
        self._arena = self.duels.arena
        self._useless = 0
        self._arm: Arm = "patches"
        self._shown: list[Sample] = []
        self._began_replies = bool(initial.bot_reply_prefix)
        self._takes_prefix: bool | None = None
        self._edit = searched_fields(self._arena.parsed)
        self._rules = Rules(
            self._edit,
            self._arena.labels,
            self._arena.parsed.config.extract,
            max_length=text_length(initial) + TEXT_GROWTH,
            decides=self._arena.parsed.config.model.decides,
        )
        self._notes = [(s.label, s.note) for s in self.train if s.note]
        self._known_rejects = 0
        self._reflection = (
            Reflection(self.duels, self.optimizer, self.train, self._rules, self.settings, self.seed)
            if self.optimizer
            else None
        )

    @property
    def tried(self) -> int:
        """How many candidates there were besides the initial prompt."""
        return len(self._tried) - 1

    @property
    def shown(self) -> list[Sample]:
        """The train samples whose text or note a candidate was made of, besides its own examples."""
        written = [s for s in self.train if s.id in self.duels.made_of or is_noted(self._incumbent, s.note)]
        return [*self._shown, *written]

    @property
    def unusable(self) -> list[str]:
        """What was wrong with the optimizer's answers that could not be used."""
        return self._reflection.unusable if self._reflection else []

    def formats(self) -> list[Candidate]:
        """Return formats whose replies are easier to read."""
        if not self._reads_tags:
            return []
        return self._new(format_variants(self._incumbent, self._arena.labels, edit=self._edit))

    def for_race(self) -> list[Candidate]:
        """Return what races, in turn over the ways the labels may be said, so that a small budget tries each."""
        bases = [Candidate(self._incumbent, ""), *self._worded()]
        bases += self._with_reply_prefix(bases)
        formats = "formats" in self.settings.arms
        bases += label_alone(self._incumbent, self._rules) if formats else ()
        bases += self._reflection.drafts() if self._reflection else ()
        room = reply_limit(self._arena.parsed.config.all_params)
        others = [*(reason_first(self._incumbent, self._rules, room) if formats else ()), *self._with_reasons(room)]
        others += [*self._noted(bases), *self._ordered()]
        sets, nearest = list(self._with_examples(bases)), list(self._with_nearest(bases))
        before = 0 if len(self._arena.labels) > MANY_LABELS else SETS_FIRST
        return self._new([*bases[1:], *others, *sets[:before], *nearest, *sets[before:]])

    def reordered(self, rare: str) -> list[Candidate]:
        """Return the incumbent with its examples or labels in other orders, so that it may say ``rare`` more often."""
        labels, prompt = self._arena.labels, self._incumbent
        examples = reordered(prompt, rare) if "examples" in self._edit else ()
        listed = with_label_moved(prompt, labels, rare) if self._may_order else ()
        return self._new([*examples, *listed])

    def reflected(self, turn: int, attempt: int) -> Candidate | None:
        """Return a rewritten or patched prompt by the optimizer, or a small step while its patches are of no use."""
        self._arm = self._reflection.arm if self._reflection else "patches"
        if self._reflection and self._arm == "rewrites":
            rewritten = self._reflection.rewritten(turn, attempt)
            return next(iter(self._new([rewritten])), None) if rewritten else None
        candidate = None
        if self._reflection and self._useless < UNUSABLE:
            candidate = self._reflection.patched(turn, attempt)
        # What was tried before is as little use as an answer that cannot be read.
        if candidate and self._new([candidate]):
            self._useless = 0
            return candidate
        self._useless += 1
        if self._useless < UNUSABLE:
            return None
        draw = rng(self.seed, turn, f"deterministic {attempt}")
        found = deterministic_steps(self._incumbent, self._notes, draw, self._rules)
        fresh = [step for step in found if step.prompt.content_hash not in self._tried]
        return next(iter(self._new(shuffled(fresh, draw)[:1])), None)

    def learn(self, *, accepted: bool, gain: int | None) -> None:
        """Take note of what came of the last question: it decides what the optimizer is asked for next.

        ``gain`` is samples fixed less those broken, ``None`` where there was no candidate.
        """
        if self._reflection:
            self._reflection.trials.append(Trial(self._arm, accepted, gain))

    def evolution(self) -> Evolution:
        """Return a run of GEPA from the incumbent; there must be an optimizer."""
        assert self._reflection is not None
        return Evolution(self._reflection, lambda candidate: bool(self._new([candidate])), self.seed)

    def pruned(self, best: Prompt) -> Iterator[Candidate]:
        """Yield the incumbent of that moment without each example and each sentence that ``best`` has."""
        for step in prune_steps(best, self._rules):
            left = without_same(self._incumbent, best, step.prompt)
            if left is not None:
                shorter = Candidate(left, step.summary)
                yield from self._new(allowed(self._incumbent, [shorter], self._rules))

    def _worded(self) -> list[Candidate]:
        """Ask the optimizer for words where the data's labels say nothing."""
        labels = self._arena.labels
        if self.optimizer is None or self._incumbent.label_words or "label_words" not in self._edit:
            return []
        # A JSON schema or a tool among the parameters may list the labels, which other words do not fit.
        parameters = self._arena.parsed.config.all_params.keys()
        if not are_opaque(labels) or {"response_format", "tools", "output_format"} & parameters:
            return []
        found: dict[str, Candidate] = {}
        for draw in range(WORD_DRAWS):
            order = shuffled(self.train, rng(self.seed, 0, f"words {draw}"))
            shown = balanced(order, labels, SHOWN_A_LABEL * len(labels))
            self._shown += shown
            system, user = word_messages(labels, shown, self._notes)
            try:
                answer = self.optimizer.answer(system, user, schema=word_schema(labels))
            except OptimizerSpent:  # the race needs no optimizer
                break
            words = read_words(answer, labels)
            worded = with_words(self._incumbent, words, edit=self._edit) if words else None
            if words and worded:
                found[worded.content_hash] = Candidate(worded, f"label words {', '.join(words.values())}")
        return list(found.values())

    def _with_reasons(self, room: int | None) -> Iterator[Candidate]:
        """Yield prompts that ask for a reason, with examples that give one; a part of train is asked for them.

        ``room`` is what a reply may have, in tokens.
        """
        if "examples" not in self._edit or "reasons" not in self.settings.arms:
            return
        labels = self._arena.labels
        order = shuffled(self.train, rng(self.seed, 0, "reasons"))
        samples = balanced(order, labels, asked_for_reasons(self._arena.meter))
        first = max(SIZES_WITH_REASONS)
        for base in self._reasoning(room) if samples else ():
            words = words_of(labels, base.prompt.label_words)
            self.duels.history.enter("reasons")
            with suppress(OutOfBudget):  # a race may cost less
                if any(gives_reason(o, words) for o in self._arena.outcomes(base.prompt, samples[:first])):
                    yield from with_reasons(base, self._arena.outcomes(base.prompt, samples), labels)

    def _reasoning(self, room: int | None) -> Iterator[Candidate]:
        """Yield the incumbent, without its examples, as it is where it makes the model reason, else asking for that."""
        plain = changed(self._incumbent, examples=())
        words = words_of(self._arena.labels, plain.label_words)
        known = [o for o in known_outcomes(self._arena, self._incumbent, self.train) if o.correct]
        if known and 2 * sum(gives_reason(outcome, words) for outcome in known) >= len(known):
            yield Candidate(plain, "")
        else:
            yield from (c for c in reason_first(plain, self._rules, room) if not self.duels.is_too_dear(c.prompt))

    def _noted(self, bases: Sequence[Candidate]) -> Iterator[Candidate]:
        """Yield the incumbent without its label notes, or with those of the first draft that has some."""
        prompt = self._incumbent
        if "label_notes" not in self._edit or not self._rules.lists_labels(prompt):
            return
        if prompt.label_notes:
            yield Candidate(changed(prompt, label_notes={}), "without label notes")
        for draft in [base for base in bases if base.made_of and base.prompt.label_notes != prompt.label_notes][:1]:
            noted = changed(prompt, label_notes=draft.prompt.label_notes)
            yield replace(draft, prompt=noted, summary=f"the label notes of {draft.summary.partition(':')[0]}")

    def _ordered(self) -> Iterator[Candidate]:
        """Yield the incumbent with its labels listed in other orders."""
        if self._may_order:
            often = Counter(sample.label for sample in self.train)
            yield from label_orders(self._incumbent, self._arena.labels, often, rng(self.seed, 0, "label order"))

    def _with_reply_prefix(self, bases: Sequence[Candidate]) -> list[Candidate]:
        """Return the bases with a reply prefix, where the server continues one."""
        arena = self._arena
        if "bot_reply_prefix" not in self._edit or self._incumbent.bot_reply_prefix:
            return []
        if not arena.wire(self._incumbent).provider.continues_prefix or not self._reads_tags:
            return []
        return [
            Candidate(changed(base.prompt, bot_reply_prefix=REPLY_PREFIX), _said(base.summary, "reply prefix"))
            for base in bases
        ]

    def _with_examples(self, bases: Sequence[Candidate]) -> Iterator[Candidate]:
        """Yield sets of examples, on the bases in turn."""
        if "examples" not in self._edit or "examples" not in self.settings.arms:
            return
        known = known_outcomes(self._arena, self._incumbent, self.train)
        mistakes = [o.sample for o in known if is_mistake(o)]
        draw = rng(self.seed, 2, "examples")
        for at, (examples, kind) in enumerate(
            example_sets(self.train, self._arena.labels, mistakes, draw, EXAMPLE_SETS)
        ):
            base = bases[-1 - at % len(bases)]
            yield replace(base, prompt=changed(base.prompt, examples=examples), summary=_said(base.summary, kind))

    def _with_nearest(self, bases: Sequence[Candidate]) -> Iterator[Candidate]:
        """Yield the last two bases with the samples nearest to each text as its examples, most of them first.

        Then, with many labels, those of a shortlist alone.
        """
        arms = self.settings.arms
        if "examples" not in self._edit or not {"nearest", "shortlist"} & set(arms):
            return
        nearest = list(nearest_examples(self._arena.parsed, self.train))
        short = list(shortlists(nearest, self._arena.labels)) if "shortlist" in arms else []
        for at, examples in enumerate([*(nearest if "nearest" in arms else ()), *short]):
            for base in bases[-2:][:: -1 if at % 2 == 0 else 1]:
                if examples.shortlist is None or base.prompt.lists_labels:
                    yield replace(
                        base,
                        prompt=changed(base.prompt, examples=examples),
                        summary=_said(base.summary, f"the {nearest_told(examples)}"),
                    )

    @property
    def _may_order(self) -> bool:
        return "label_order" in self._edit and self._rules.lists_labels(self._incumbent)

    @property
    def _incumbent(self) -> Prompt:
        return self.duels.incumbent

    @property
    def _reads_tags(self) -> bool:
        """Whether a label's tag is what the reader looks for: candidates that ask for it are of use."""
        extract = self._rules.extract
        return isinstance(extract, str) and "<label>" in extract

    def _new(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Return the candidates that were not tried yet, and note that they are now."""
        return [
            candidate
            for candidate in candidates
            if self._rules.lists_labels(candidate.prompt)
            or not candidate.prompt.label_notes  # else they would not be sent
            if not self.duels.is_too_dear(candidate.prompt)
            and self._is_taken(candidate.prompt)
            and self._is_new(candidate)
            and not self._was_rejected(candidate)
        ]

    def _is_taken(self, prompt: Prompt) -> bool:
        """Tell whether the API takes a prompt that begins the reply, where the initial one did not."""
        provider = self._arena.wire(prompt).provider
        may_refuse = provider.continues_prefix and provider.spec.provider != "local"
        if not (prompt.bot_reply_prefix and may_refuse and self.train) or self._began_replies:
            return True
        if self._takes_prefix is None:
            self._takes_prefix = self._arena.takes_prefix(prompt, self.train[0], (*self.train, *self.duels.dev))
        return self._takes_prefix

    @property
    def warnings(self) -> list[str]:
        """What is to be said of candidates that could not be tried."""
        said = []
        if self._takes_prefix is False:
            said.append(
                f"{self._arena.parsed.config.model} refuses a reply that has begun, so no bot_reply_prefix was tried: "
                "with reply_prefix: ask under model, the user turn asks for it"
            )
        if self.duels.too_dear:
            said.append(
                f"{counted(len(self.duels.too_dear), 'candidate')} left out: a call would cost more than "
                f"tune.max_cost_ratio allows ({self.settings.max_cost_ratio:g} times the prompt as it was)"
            )
        if self._known_rejects:
            said.append(
                f"{counted(self._known_rejects, 'candidate')} not tried again: an earlier run rejected "
                f"{'it' if self._known_rejects == 1 else 'them'} on the same samples"
            )
        return said

    def _was_rejected(self, candidate: Candidate) -> bool:
        """Tell whether an earlier run turned a candidate down on the same samples; pruning asks for less."""
        history = self.duels.history
        was_rejected = history.stage != "prune" and history.earlier.has_rejected(self._incumbent, candidate.prompt)
        self._known_rejects += was_rejected
        return was_rejected

    def _is_new(self, candidate: Candidate) -> bool:
        name = candidate.prompt.content_hash
        if name in self._tried:
            return False
        self._tried.add(name)
        return True


def _said(*parts: str) -> str:
    return ", ".join(filter(None, parts))
