"""The search for a better prompt: stages that propose candidates, one paired gate that accepts them.

Knows samples, candidates and statistics; files are written elsewhere.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.metrics import mcnemar_midp
from pytest_promptfit.tune import feedback, patches, race, sequential
from pytest_promptfit.tune.candidates import (
    REPLY_PREFIX,
    Candidate,
    balanced,
    changed,
    example_sets,
    format_variants,
    shuffled,
)
from pytest_promptfit.tune.meter import OptimizerSpent, OutOfBudget
from pytest_promptfit.tune.result import Holdout, Step
from pytest_promptfit.tune.split import rng

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_promptfit.evaluation import Outcome
    from pytest_promptfit.prompt_file import Prompt, TuneSettings
    from pytest_promptfit.samples import Sample
    from pytest_promptfit.tune.arena import Arena
    from pytest_promptfit.tune.optimizer import Optimizer
    from pytest_promptfit.tune.split import Split

PROBE = 12
RACERS = 16
UNREADABLE = 0.2
"""A larger share of replies without a label calls for a repair of the format."""

ALPHA = sequential.ALPHA
RACE_ALPHA = 0.02
"""The level for the winner of a race on the same samples: chosen as the best of many, it looks better than it is."""

FUTILITY = 3
"""Net losses after which a shorter prompt is not looked at further."""

FINALISTS = 3
PATCH_SETS = 2
"""Questions to the optimizer in one round."""

WORD_DRAWS = 3
"""Questions for label words, each with other samples."""

UNUSABLE = 2
"""Answers in a row that bring nothing new, after which deterministic steps take over."""

REJECTED_ROUNDS = 3
CONTEXT_GROWTH = 1500
"""Characters that patches may add to a prompt's texts."""


TEXTS = ("system_prompt", "user_prompt_prefix", "user_prompt_suffix", "bot_reply_prefix")


class NothingToGain(Exception):  # noqa: N818 - it ends the search, and nothing is wrong
    """No candidate could be told from the prompt as it is."""


@dataclass
class Search:
    """One run from the initial prompt to the best one found."""

    arena: Arena
    optimizer: Optimizer | None
    split: Split
    canonical: tuple[Sample, ...]
    initial: Prompt
    settings: TuneSettings
    seed: int
    dev_size: int
    """So many of the dev samples are compared on."""
    notify: Callable[[], None] = lambda: None
    steps: list[Step] = field(default_factory=list)
    stop_reason: str = "all stages ran"
    unusable: list[str] = field(default_factory=list)
    """What was wrong with the optimizer's answers that could not be used."""
    stage: str = "probe"
    left: int = 0
    """What the stage has left: candidates of a race, rounds of reflection."""

    def __post_init__(self) -> None:
        """Start from the initial prompt, with dev in an order whose every prefix is balanced."""
        self.incumbent = self.initial
        self._dev = race.stratified_order(self.split.dev, self.seed)[: self.dev_size]
        self._tried = {self.initial.content_hash}
        self._wrong: Counter[str] = Counter()
        self._edit = frozenset(self.settings.edit)
        self._calls_before_dev = 0

    def run(self, iterations: int) -> None:
        """Run the stages until they end or the budget does."""
        stages: Iterable[Callable[[], None]] = (
            self._repair_format,
            self._look_for_mistakes,
            self._race_examples,
            lambda: self._reflect(iterations),
            self._prune,
        )
        try:
            for stage in stages:
                try:
                    stage()
                except OptimizerSpent as error:
                    self.stop_reason = str(error)
        except (NothingToGain, OutOfBudget) as error:
            self.stop_reason = str(error)

    @property
    def tried(self) -> int:
        """How many candidates there were besides the initial prompt."""
        return len(self._tried) - 1

    # The stages.

    def _repair_format(self) -> None:
        """Probe a few balanced samples; repair the format only when replies cannot be read."""
        self._enter("probe")
        probe = balanced(self._shuffled(self.split.train, "probe"), self.arena.labels, PROBE)
        first = self.arena.outcomes(self.incumbent, probe)
        if first and all(outcome.reply is None for outcome in first):
            raise PromptfitError(f"none of {len(first)} samples got a reply: {first[0].error}")
        unread = self._unreadable(self.incumbent, probe)
        if unread <= UNREADABLE:
            return
        self._enter("format")
        variants = [c for c in format_variants(self.incumbent, self.arena.labels, edit=self._edit) if self._is_new(c)]
        self.arena.ask_together([c.prompt for c in variants], probe)
        scored = [
            (self._unreadable(c.prompt, probe), -self._right(c.prompt, probe), at) for at, c in enumerate(variants)
        ]
        for missing, _, at in sorted(scored):
            if missing < unread and self._duel(variants[at], "format"):
                return

    def _look_for_mistakes(self) -> None:
        """Raise NothingToGain when no candidate could be accepted, however good it is."""
        self._calls_before_dev = self.arena.meter.task_calls
        if not self._can_gain():
            wrong = sum(not right for right in self.arena.right(self.incumbent, self._dev))
            raise NothingToGain(
                f"{wrong} of {len(self._dev)} dev samples are wrong: too few to tell a better prompt from chance"
            )

    def _can_gain(self) -> bool:
        """Tell whether a canonical sample is wrong, or so much of dev that the gate could open."""
        if not all(outcome.correct for outcome in self.arena.outcomes(self.incumbent, self.canonical)):
            return True
        wrong = 0
        for start in range(0, len(self._dev), sequential.BLOCK):
            block = self.arena.outcomes(self.incumbent, self._dev[start : start + sequential.BLOCK])
            wrong += sum(outcome.status in ("wrong", "missing") for outcome in block)
            if mcnemar_midp(wrong, 0) <= ALPHA:
                return True
        return False

    def _race_examples(self) -> None:
        """Race label words, reply prefixes and sets of examples by sequential halving on dev."""
        self._enter("examples")
        candidates = [c for c in self._racers() if self._is_new(c)]
        known = self.arena.meter.task_calls - self._calls_before_dev  # the first look at dev is part of the race
        left = known + self.arena.affordable([c.prompt for c in candidates], (*self.split.train, *self.canonical)[0])
        plan = self._race_plan(len(candidates) + 1, left)
        if not candidates or not plan:
            return
        if plan[0].keep < 2 and self._dev:
            self.stop_reason = f"the budget is too small to race {len(candidates)} candidates"
        field_ = [Candidate(self.incumbent, "as it is"), *_starters(candidates, plan[0].keep - 1)]
        for turn in plan:
            self.arena.ask_together([c.prompt for c in field_], self._dev[: turn.samples])
            scores = [self._score(c.prompt, self._dev[: turn.samples]) for c in field_]
            following = plan[plan.index(turn) + 1].keep if turn is not plan[-1] else len(field_)
            field_ = [field_[at] for at in race.survivors(scores, following)]
            self._enter("examples", len(field_))
        for finalist in field_[:FINALISTS]:
            if finalist.prompt == self.incumbent or self._duel(finalist, "examples"):
                return

    def _race_plan(self, candidates: int, left: int) -> list[race.Round]:
        """Plan a race that leaves the gate what it takes: the incumbent on all of dev, the winner on its rest."""
        budget, dev = int(left * (0.6 if self.optimizer else 0.85)), len(self._dev)
        plan = race.rounds(candidates, dev, budget)
        while plan and plan[0].keep > 1 and budget + 2 * dev - plan[-1].samples > left:
            budget = budget * 19 // 20
            plan = race.rounds(candidates, dev, budget)
        return plan

    def _racers(self) -> Iterator[Candidate]:
        """Yield what races, in turn over the ways the labels may be said, so that a small budget tries each."""
        bases = [Candidate(self.incumbent, ""), *self._worded()]
        if "bot_reply_prefix" in self._edit and not self.incumbent.bot_reply_prefix:
            bases += [
                Candidate(changed(base.prompt, bot_reply_prefix=REPLY_PREFIX), f"{base.summary}reply prefix, ")
                for base in bases
                if self.arena.wire(base.prompt).provider.continues_prefix
                and "<label>" in self.arena.parsed.config.extract
            ]
        for base in bases[1:]:
            yield Candidate(base.prompt, base.summary.removesuffix(", "))
        if "examples" not in self._edit:
            return
        known = self.seen(self.incumbent, self.split.train)
        mistakes = [o.sample for o in known if o.status in ("wrong", "missing")]
        sets = list(example_sets(self.split.train, self.arena.labels, mistakes, rng(self.seed, 2, "examples"), RACERS))
        for at, (examples, kind) in enumerate(sets):
            base = bases[-1 - at % len(bases)]
            yield Candidate(changed(base.prompt, examples=examples), f"{base.summary}{kind}")

    def _worded(self) -> list[Candidate]:
        """Ask the optimizer for words where the data's labels say nothing."""
        labels = self.arena.labels
        if self.optimizer is None or self.incumbent.label_words or "label_words" not in self._edit:
            return []
        if not feedback.are_opaque(labels):
            return []
        notes = [(s.label, s.note) for s in self.split.train if s.note]
        found: dict[str, Candidate] = {}
        for draw in range(WORD_DRAWS):
            shown = balanced(self._shuffled(self.split.train, f"words {draw}"), labels, 6 * len(labels))
            system, user = feedback.word_messages(labels, shown, notes)
            answer = self.optimizer.answer(system, user, schema=feedback.word_schema(labels))
            words = feedback.read_words(answer, labels)
            worded = with_words(self.incumbent, words, edit=self._edit) if words else None
            if words and worded:
                found[worded.content_hash] = Candidate(worded, f"label words {', '.join(words.values())}, ")
        return list(found.values())

    def _reflect(self, iterations: int) -> None:
        """Let the optimizer propose patches for the mistakes; fall back to deterministic steps when it cannot."""
        if self.optimizer is None:
            return
        rejected = unusable = 0
        for turn in range(iterations):
            if rejected >= REJECTED_ROUNDS:
                return
            self._enter("reflect", iterations - turn)
            accepted = False
            for attempt in range(PATCH_SETS):
                if not self._can_gain():
                    return
                candidate, targets = self._proposed(turn, attempt) if unusable < UNUSABLE else (None, ())
                # What was tried before is as little use as an answer that cannot be read.
                if candidate is not None and not self._is_new(candidate):
                    candidate = None
                unusable = 0 if candidate else unusable + 1
                if candidate is None and unusable >= UNUSABLE:
                    candidate = self._deterministic(turn, attempt)
                if candidate is not None:
                    accepted |= self._passes_screen(candidate, targets) and self._duel(candidate, "reflect", targets)
            rejected = 0 if accepted else rejected + 1

    def _proposed(self, turn: int, attempt: int) -> tuple[Candidate | None, tuple[str, ...]]:
        """Ask the optimizer for one set of patches, with one repair round."""
        if self.optimizer is None:
            return None, ()
        self.arena.meter.check_optimizer()
        train = self.arena.outcomes(self.incumbent, self.split.train)
        if attempt == 0:
            self._wrong.update(o.sample.id for o in train if not o.correct)
        wanted = self.settings.samples
        shown = feedback.choose_samples(
            train,
            self._wrong,
            total=wanted.total,
            wrong_per_label=wanted.wrong_per_label,
            right_per_label=wanted.right_per_label,
            rng=rng(self.seed, turn, f"feedback {attempt}"),
        )
        system, user = self._feedback(shown)
        applied, problems = self._answered(self.optimizer.answer(system, user, schema=patches.PATCH_SCHEMA))
        if problems and not (applied and applied.applied):
            repair = f"{user}\n\nYour last answer could not be used:\n" + "\n".join(
                f"- {line}" for line in problems[:6]
            )
            applied, problems = self._answered(self.optimizer.answer(system, repair, schema=patches.PATCH_SCHEMA))
        if applied is None or not applied.applied:
            self.unusable.append(self.optimizer.problem or "; ".join(problems))
            return None, ()
        summary = "; ".join(patch.reason or f"{patch.op} in {patch.field}" for patch in applied.applied)
        targets = tuple(dict.fromkeys(target for patch in applied.applied for target in patch.targets))
        return Candidate(applied.prompt, summary[:200]), targets

    def _prune(self) -> None:
        """Drop each example and each sentence that does not pay."""
        if self.incumbent == self.initial:
            return
        best = self.incumbent
        steps = patches.prune_steps(
            best, edit=self._edit, labels=self.arena.labels, extract=self.arena.parsed.config.extract
        )
        for summary, prompt in steps:
            self._enter("prune")
            left = _without_same(self.incumbent, best, prompt)
            if left is None or not self._is_new(Candidate(left, summary)):
                continue
            self._duel(Candidate(left, summary), "prune", against=best)

    # What the stages share.

    def _duel(
        self, challenger: Candidate, stage: str, targets: Sequence[str] = (), *, against: Prompt | None = None
    ) -> bool:
        """Put a candidate against the incumbent, and take it over when it earns it.

        Pruning asks less: not worse than the incumbent, nor than the prompt that pruning started ``against``.
        """
        try:
            return self._decided(challenger, stage, targets, against=against)
        except OutOfBudget:
            self._note(challenger, stage, (), (), False, "not decided within the budget", targets)
            raise

    def _decided(self, challenger: Candidate, stage: str, targets: Sequence[str], *, against: Prompt | None) -> bool:
        """Ask block by block of dev until the gate is sure."""
        kept, gained = self._canonicals(challenger.prompt)
        fixed: list[str] = []
        broken: list[str] = []
        verdict = "go on" if kept else "reject"
        reason = "" if kept else "loses a canonical sample"
        seen = 0
        while verdict == "go on" and seen < len(self._dev):
            block = self._dev[seen : seen + sequential.BLOCK]
            won, lost = compared(self.arena, self.incumbent, challenger.prompt, block)
            fixed += won
            broken += lost
            seen += len(block)
            if stage == "prune":
                verdict = "reject" if len(broken) - len(fixed) >= FUTILITY else "go on"
            else:
                alpha = RACE_ALPHA if stage == "examples" else ALPHA
                verdict = sequential.judge(len(fixed), len(broken), seen, len(self._dev), alpha=alpha)
                if verdict == "reject" and gained:
                    verdict = "go on" if seen < len(self._dev) else verdict
        if stage == "prune" and verdict == "go on":
            verdict = "accept" if self._is_not_worse(challenger.prompt, against or self.incumbent) else "reject"
        elif kept and gained and verdict != "accept" and sequential.not_worse(len(fixed), len(broken)):
            verdict, reason = "accept", f"fixes {gained} canonical samples"
        accepted = verdict == "accept"
        self._note(challenger, stage, fixed, broken, accepted, reason or verdict, targets)
        if accepted:
            self.incumbent = challenger.prompt
        return accepted

    def _is_not_worse(self, prompt: Prompt, best: Prompt) -> bool:
        """Tell whether a pruned prompt holds against the incumbent and the one that pruning started from."""
        for other in (self.incumbent, best):
            fixed, broken = compared(self.arena, other, prompt, self._dev)
            if not sequential.not_worse(len(fixed), len(broken)):
                return False
        return True

    def _passes_screen(self, candidate: Candidate, targets: Sequence[str]) -> bool:
        """Try a candidate on the samples it was made for before dev is spent on it."""
        wanted = set(targets)
        aimed = [s for s in (*self.split.train, *self.canonical) if s.id in wanted or s.case_name in wanted]
        if not aimed:
            return True
        gained = self._right(candidate.prompt, aimed) - self._right(self.incumbent, aimed)
        if gained > 0:
            return True
        self._note(candidate, "reflect", (), (), False, "fixes none of the samples it was made for", targets)
        return False

    def _canonicals(self, prompt: Prompt) -> tuple[bool, int]:
        """Return whether every canonical sample that passes still does, and how many more do."""
        self.arena.ask_together([self.incumbent, prompt], self.canonical)
        answered = [o for o in self.arena.outcomes(self.incumbent, self.canonical) if o.reply is not None]
        before = {o.sample.id: o.correct for o in answered}
        after = {o.sample.id: o.correct for o in self.arena.outcomes(prompt, [o.sample for o in answered])}
        return sequential.keeps_canonicals(before, after), sequential.canonical_gain(before, after)

    def _deterministic(self, turn: int, attempt: int) -> Candidate | None:
        notes = [(s.label, s.note) for s in self.split.train if s.note]
        draw = rng(self.seed, turn, f"deterministic {attempt}")
        steps = patches.deterministic_steps(
            self.incumbent,
            notes,
            draw,
            edit=self._edit,
            labels=self.arena.labels,
            extract=self.arena.parsed.config.extract,
            max_length=patches.text_length(self.initial) + CONTEXT_GROWTH,
        )
        found = [Candidate(prompt, summary) for summary, prompt in steps]
        fresh = [c for c in found if c.prompt.content_hash not in self._tried]
        if not fresh:
            return None
        candidate = shuffled(fresh, draw)[0]
        self._tried.add(candidate.prompt.content_hash)
        return candidate

    def _feedback(self, shown: Sequence[Outcome]) -> tuple[str, str]:
        canonical = self.arena.outcomes(self.incumbent, self.canonical)
        return feedback.feedback_messages(
            wire=self.arena.wire(self.incumbent),
            prompt=self.incumbent,
            labels=self.arena.labels,
            extract=self.arena.parsed.config.extract,
            train=self.arena.outcomes(self.incumbent, self.split.train),
            canonical=canonical,
            shown=shown,
            tried=[(s.summary, len(s.fixed), len(s.broken), s.verdict) for s in self.steps],
            edit=self.settings.edit,
        )

    def _answered(self, answer: str) -> tuple[patches.Applied | None, list[str]]:
        """Return what an answer makes of the incumbent, and what is wrong with it."""
        found, problems = patches.read_patches(answer)
        applied = self._applied(found)
        return applied, [*problems, *(applied.problems if applied else ())]

    def _applied(self, found: Sequence[patches.Patch]) -> patches.Applied | None:
        if not found:
            return None
        return patches.apply_patches(
            self.incumbent,
            found,
            edit=self.settings.edit,
            extract=self.arena.parsed.config.extract,
            labels=self.arena.labels,
            train_texts=[s.text for s in self.split.train],
            max_length=patches.text_length(self.initial) + CONTEXT_GROWTH,
        )

    def _note(
        self,
        candidate: Candidate,
        stage: str,
        fixed: Sequence[str],
        broken: Sequence[str],
        accepted: bool,
        verdict: str,
        targets: Sequence[str],
    ) -> None:
        diff = "\n".join(prompt_diff(self.incumbent, candidate.prompt))
        calls = self.arena.meter.task_calls
        self.steps.append(
            Step(stage, candidate.summary, diff, tuple(fixed), tuple(broken), accepted, verdict, tuple(targets), calls)
        )

    def _is_new(self, candidate: Candidate) -> bool:
        """Tell whether a candidate was not tried yet, and note that it is now."""
        name = candidate.prompt.content_hash
        if name in self._tried:
            return False
        self._tried.add(name)
        return True

    def _score(self, prompt: Prompt, samples: Sequence[Sample]) -> race.CandidateScore:
        return race.CandidateScore(self._right(prompt, samples), None, _length(prompt))

    def _right(self, prompt: Prompt, samples: Sequence[Sample]) -> int:
        return sum(self.arena.right(prompt, samples))

    def _unreadable(self, prompt: Prompt, samples: Sequence[Sample]) -> float:
        outcomes = [o for o in self.arena.outcomes(prompt, samples) if o.reply is not None]
        return sum(o.predicted is None for o in outcomes) / len(outcomes) if outcomes else 0.0

    def seen(self, prompt: Prompt, samples: Sequence[Sample]) -> list[Outcome]:
        """Return what is known already of a prompt on samples; nothing is asked."""
        seen = self.arena.seen()
        found = (seen.get((prompt.content_hash, sample.case_name)) for sample in samples)
        return [outcome for outcome in found if outcome is not None]

    def _shuffled(self, samples: Sequence[Sample], purpose: str) -> list[Sample]:
        return shuffled(samples, rng(self.seed, 0, purpose))

    def _enter(self, stage: str, left: int = 0) -> None:
        self.stage, self.left = stage, left
        self.notify()


def judge_final(search: Search, holdout: Sequence[Sample]) -> tuple[bool, str, Holdout | None]:
    """Return whether the final prompt earned the rewrite, why, and the figures of the holdout, looked at only now."""
    if search.incumbent == search.initial:
        return False, "no candidate was better beyond chance" if search.tried else "no candidate was tried", None
    earned, why = _earned_on_dev(search)
    if not earned:
        return False, why, None
    try:
        looked = _look_at(search, holdout)
    except OutOfBudget as error:
        return False, f"the holdout cannot be asked: {error}", None
    if not sequential.holds_up(looked.fixed, looked.broken):
        return False, "worse on the holdout", looked
    return True, f"{why} and not worse on the holdout", looked


def _earned_on_dev(search: Search) -> tuple[bool, str]:
    """Compare the final prompt with the initial one where both are known: dev as far as asked, and canonicals."""
    arena, initial, final = search.arena, search.initial, search.incumbent
    seen = arena.seen()
    both = [s for s in search.split.dev if all((p.content_hash, s.case_name) in seen for p in (initial, final))]
    fixed, broken = compared(arena, initial, final, both)
    p_value = mcnemar_midp(len(fixed), len(broken))
    counts = f"fixed {len(fixed)}, broken {len(broken)}, p = {p_value:.3g}"
    if p_value <= ALPHA:
        return True, f"better on dev ({counts})"
    gained, lost = compared(arena, initial, final, search.canonical)
    if gained and not lost and sequential.not_worse(len(fixed), len(broken)):
        return True, f"fixes {len(gained)} canonical samples, not worse on dev ({counts})"
    return False, f"not better than the initial prompt on dev: {counts}"


def _look_at(search: Search, samples: Sequence[Sample]) -> Holdout:
    arena, initial, final = search.arena, search.initial, search.incumbent
    fixed, broken = compared(arena, initial, final, samples)
    before, after = sum(arena.right(initial, samples)), sum(arena.right(final, samples))
    return Holdout(len(samples), before, after, len(fixed), len(broken))


def compared(arena: Arena, old: Prompt, new: Prompt, samples: Sequence[Sample]) -> tuple[list[str], list[str]]:
    """Return the cases that the new prompt fixes and those that it breaks.

    A sample that the old prompt got no reply to is not fixed by getting one: the server may have been down.
    """
    arena.ask_together([old, new], samples)
    pairs = list(zip(arena.outcomes(old, samples), arena.outcomes(new, samples), strict=True))
    fixed = [o.sample.case_name for o, n in pairs if n.correct and not o.correct and o.reply is not None]
    broken = [o.sample.case_name for o, n in pairs if o.correct and not n.correct]
    return fixed, broken


def with_words(prompt: Prompt, words: dict[str, str], *, edit: frozenset[str]) -> Prompt | None:
    """Return the prompt with label words, also where its texts and examples spell a label in its tag.

    ``None`` where one of those may not be changed.
    """

    def said(text: str) -> str:
        for label, word in words.items():
            text = text.replace(f"<label>{label}</label>", f"<label>{word}</label>")
        return text

    examples = tuple(e.model_copy(update={"reply": e.reply and said(e.reply)}) for e in prompt.examples)
    fields: dict[str, object] = {name: said(getattr(prompt, name)) for name in TEXTS}
    fields["examples"] = examples
    needed = {name for name, value in fields.items() if value != getattr(prompt, name)}
    return changed(prompt, label_words=dict(words), **fields) if needed <= edit else None


def suspects(arena: Arena, samples: Sequence[Sample], *, candidates: int = 3) -> list[str]:
    """Return the cases that every one of at least so many candidates got wrong."""
    met: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for (_, case), outcome in arena.seen().items():
        met[case] += outcome.reply is not None
        missed[case] += outcome.status == "wrong"
    return [s.case_name for s in samples if met[s.case_name] >= candidates and met[s.case_name] == missed[s.case_name]]


def prompt_diff(old: Prompt, new: Prompt) -> Iterator[str]:
    """Yield the fields that differ, as lines of a diff."""
    before, after = old.model_dump(), new.model_dump()
    for name, value in before.items():
        if after[name] == value:
            continue
        yield f"{name}:"
        yield f"- {value!r}" if not isinstance(value, list | tuple) else f"- {len(value)} examples"
        yield f"+ {after[name]!r}" if not isinstance(value, list | tuple) else f"+ {len(after[name])} examples"


def _starters(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """Return the candidates that race where there are not calls enough for all: examples pay off most."""
    first = sorted(range(len(candidates)), key=lambda at: (not candidates[at].prompt.examples, at))[:count]
    return [candidates[at] for at in sorted(first)]


def _without_same(incumbent: Prompt, best: Prompt, pruned: Prompt) -> Prompt | None:
    """Take what ``pruned`` leaves out of ``best`` out of the incumbent too; ``None`` when it is gone already."""
    if pruned.examples != best.examples:
        gone = [example for example in best.examples if example not in pruned.examples]
        left = tuple(example for example in incumbent.examples if example not in gone)
        return None if left == incumbent.examples else changed(incumbent, examples=left)
    for name in TEXTS:
        old, new = getattr(best, name), getattr(pruned, name)
        if old != new:
            return changed(incumbent, **{name: new}) if getattr(incumbent, name) == old else None
    return None


def _length(prompt: Prompt) -> int:
    return sum(len(getattr(prompt, name)) for name in TEXTS) + sum(len(example.text) for example in prompt.examples)
