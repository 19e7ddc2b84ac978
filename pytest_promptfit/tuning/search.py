"""The search for a better prompt: its stages, in their order.

What is proposed comes from ``proposals``, what is accepted is up to ``gate``; files are written elsewhere.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.model import Decision
from pytest_promptfit.prompts.split import rng, shuffled, stratified_order
from pytest_promptfit.tuning.arena import ask_what_fits, changed, known_outcomes, unreadable_share
from pytest_promptfit.tuning.candidates import Candidate, balanced
from pytest_promptfit.tuning.gate import Duels, Pairs, least_mistakes
from pytest_promptfit.tuning.gepa_engine import STAGE
from pytest_promptfit.tuning.meter import OutOfBudget
from pytest_promptfit.tuning.proposals import Proposals
from pytest_promptfit.tuning.race import (
    CandidateScore,
    Round,
    log_loss,
    neglected_label,
    rounds,
    survivors,
    want_logprobs,
)
from pytest_promptfit.tuning.result import Score
from pytest_promptfit.tuning.steps import sent_length
from pytest_promptfit.tuning.weights import weighing_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.prompts.model import Prompt
    from pytest_promptfit.prompts.samples import Sample
    from pytest_promptfit.prompts.split import Split
    from pytest_promptfit.tuning.arena import Arena
    from pytest_promptfit.tuning.meter import History, Shares
    from pytest_promptfit.tuning.optimizer import Optimizer
    from pytest_promptfit.tuning.weights import Weighing


PROBE = 12
UNREADABLE = 0.2
"""A larger share of replies without a label calls for a repair of the format."""

BEST_OF_RACE = 3
"""So many of a race are put against the incumbent, until one wins."""

PRUNING_SHARE = 0.2
"""The part of the task calls left after the race that reflection leaves to pruning."""

PATCH_SETS = 2
"""Questions to the optimizer in one round: patches and a rewrite in the first, then more of what paid."""

REJECTED_ROUNDS = 3


Engine = Literal["promptfit", "gepa"]
"""Who says what is tried: the stages below, or GEPA."""
ENGINES: tuple[Engine, ...] = get_args(Engine)


class NothingToGain(Exception):  # noqa: N818 - it ends the search, and nothing is wrong
    """No candidate could be told from the prompt as it is."""


class TooSmallToRace(OutOfBudget):
    """The calls that are left do not do for a race; told as the end of a search that nothing else has stopped."""


@dataclass(frozen=True)
class Found:
    """How a search came out, besides the incumbent: why it ended, and what the verdict has to allow for."""

    stop_reason: str
    unfinished: tuple[str, ...]
    """Stages that the budget cut short."""
    rivals: tuple[Pairs, ...]
    """What each candidate did on dev: the final prompt is the best of them, but for what pruning left out."""
    unpruned: Prompt
    """The prompt that pruning started from."""


class Search:
    """One run from the initial prompt to the best one found."""

    def __init__(
        self,
        arena: Arena,
        history: History,
        optimizer: Optimizer | None,
        split: Split,
        shares: Shares,
        canonical: Sequence[Sample],
        seed: int,
        engine: Engine = "promptfit",
    ) -> None:
        config = arena.parsed.config
        self.arena, self.history, self.optimizer = arena, history, optimizer
        self.split, self.shares, self.canonical, self.seed = split, shares, canonical, seed
        self.initial, self.engine = config.prompt, engine
        # What is compared on, in an order whose every prefix is balanced.
        self.dev = stratified_order(split.dev, seed)[: shares.dev_size]
        self.duels = Duels(arena, history, config.prompt, self.dev, canonical)
        self.proposals = Proposals(self.duels, optimizer, split.train, config.tune, seed)
        self.decision = config.decision or Decision()
        self.weighing: Weighing | None = None
        """The weights that earned their place beside the incumbent."""
        self.tried_weighing: Weighing | None = None

    @property
    def incumbent(self) -> Prompt:
        """The best prompt found so far."""
        return self.duels.incumbent

    def run(self, iterations: int) -> Found:
        """Run the stages until they end or the budget does."""
        stopped: dict[str, str] = {}
        unfinished: dict[str, None] = {}
        reason = "all stages ran"

        def cut_short(error: OutOfBudget) -> None:
            limit = str(error).partition(":")[0]  # one limit may end several stages, each with other counts
            stopped.setdefault(limit, str(error))
            if self.history.stage != STAGE:  # a limit is what ends GEPA
                unfinished[self.history.stage] = None

        try:
            self._repair_format()  # who cannot pay for the probe need not begin
            before_dev = self.arena.meter.task.calls
            ours = (
                partial(self._race_examples, before_dev),
                self._balance_examples,
                partial(self._reflect, iterations),
            )
            for stage in (self._look_for_mistakes, *((self._evolve,) if self.engine == "gepa" else ours)):
                try:
                    stage()
                except TooSmallToRace as error:
                    reason = str(error)
                    unfinished[self.history.stage] = None
                except OutOfBudget as error:  # the others may need less, or have their own part
                    cut_short(error)
        except NothingToGain as error:
            stopped[""] = str(error)
        except OutOfBudget as error:
            cut_short(error)
        rivals, unpruned = self._rivals(), self.incumbent
        try:
            self._prune()
        except OutOfBudget as error:
            cut_short(error)
        if self._weigh():
            rivals.append(self._pairs_of_weights())
        return Found("; ".join(stopped.values()) or reason, tuple(unfinished), tuple(rivals), unpruned)

    def _repair_format(self) -> None:
        """Probe a few balanced samples; repair the format only when replies cannot be read."""
        self.history.enter("probe")
        order = shuffled(self.split.train, rng(self.seed, 0, "probe"))
        probe = balanced(order, self.arena.labels, PROBE)
        first = self.arena.outcomes(self.incumbent, probe)
        if first and all(outcome.reply is None for outcome in first):
            raise PromptfitError(f"none of {len(first)} samples got a reply: {first[0].error}")
        unread = unreadable_share(self.arena, self.incumbent, probe)
        if unread <= UNREADABLE or self.engine == "gepa":
            return
        self.history.enter("format")
        variants = self.proposals.formats()
        self.arena.ask_together([c.prompt for c in variants], probe)
        missing = [unreadable_share(self.arena, c.prompt, probe) for c in variants]
        right = [sum(self.arena.right(c.prompt, probe)) for c in variants]
        # The first that is better, beginning with the one whose replies can be read most often.
        for at in sorted(range(len(variants)), key=lambda at: (missing[at], -right[at], at)):
            if missing[at] < unread and self.duels.fight(variants[at]):
                return

    def _look_for_mistakes(self) -> None:
        """Raise NothingToGain when no candidate could be accepted, however good it is."""
        fresh = (self.arena.meter.task_limit, len(self.split.train) + len(self.shares.holdout))
        if not self.duels.can_gain(least_mistakes(len(self.dev), min(fresh))):
            wrong = sum(not right for right in self.arena.right(self.incumbent, self.dev))
            raise NothingToGain(
                f"{wrong} of {len(self.dev)} dev samples are wrong: too few to tell a better prompt from chance"
            )

    def _race_examples(self, before_dev: int) -> None:
        """Race label words, reply prefixes and sets of examples by sequential halving on dev.

        ``before_dev`` are the task calls that were needed before dev was first looked at.
        """
        self.history.enter("examples")
        asked = self.arena.meter.task.calls
        candidates = self.proposals.for_race()
        before_dev += self.arena.meter.task.calls - asked
        self.history.enter("examples", len(candidates))
        if not candidates:
            return
        plan = self._race_plan(candidates, before_dev)
        if plan[0].keep < 2:
            if self.dev:
                raise TooSmallToRace(f"the budget is too small to race {len(candidates)} candidates")
            return
        # Where there are not calls enough for all: examples pay off most, and drafts are paid for.
        first = sorted(
            range(len(candidates)), key=lambda at: not (candidates[at].prompt.examples or candidates[at].made_of)
        )
        candidates = [candidates[at] for at in sorted(first[: plan[0].keep - 1])]
        want_logprobs(self.arena, [c.prompt for c in candidates], self.incumbent, self.dev[0])
        self._fight_in_turn(self._raced([self._as_it_is, *candidates], plan)[:BEST_OF_RACE])

    def _balance_examples(self) -> None:
        """Race other orders of examples and labels, where the incumbent knows the labels but says one too rarely."""
        rare = neglected_label(self.arena, self.incumbent, self.dev)
        candidates = self.proposals.reordered(rare) if rare else []
        if not candidates:
            return
        self.history.enter("balance", len(candidates))
        want_logprobs(self.arena, [c.prompt for c in candidates], self.incumbent, self.dev[0])
        left = self.arena.affordable([c.prompt for c in candidates], self.dev[0])
        plan = rounds(len(candidates) + 1, len(self.dev), left // 3)
        if plan[0].keep > 1:
            self._fight_in_turn(self._raced([self._as_it_is, *candidates[: plan[0].keep - 1]], plan)[:1])

    @property
    def _as_it_is(self) -> Candidate:
        return Candidate(self.incumbent, "as it is")

    def _fight_in_turn(self, best: Sequence[Candidate]) -> None:
        """Put the best of a race against the incumbent, until one wins or the incumbent itself was as good."""
        for candidate in best:
            if candidate.prompt == self.incumbent or self.duels.fight(candidate):
                return

    def _race_plan(self, candidates: Sequence[Candidate], before_dev: int) -> list[Round]:
        """Plan a race that leaves the gate what it takes: the incumbent on all of dev, the winner on its rest."""
        known = self.arena.meter.task.calls - before_dev  # the first look at dev is part of the race
        sample = (*self.split.train, *self.canonical)[0]
        left = known + self.arena.affordable([c.prompt for c in candidates], sample)
        budget, dev = int(left * (0.6 if self.optimizer else 0.85)), len(self.dev)
        plan = rounds(len(candidates) + 1, dev, budget)
        while plan[0].keep > 1 and budget + 2 * dev - plan[-1].samples > left:
            budget = budget * 19 // 20
            plan = rounds(len(candidates) + 1, dev, budget)
        return plan

    def _raced(self, candidates: list[Candidate], plan: Sequence[Round]) -> list[Candidate]:
        """Run the rounds of a race and return who is left, best first."""
        train = self.split.train
        usual = sum(len(sample.text) for sample in train) // max(1, len(train))
        for turn, following in zip(plan, (*plan[1:], None), strict=True):
            samples = self.dev[: turn.samples]
            self.arena.ask_together([c.prompt for c in candidates], samples)
            candidates = [c for c in candidates if c.prompt == self.incumbent or not self.duels.is_too_dear(c.prompt)]
            scores = []
            for candidate in candidates:
                right = sum(self.arena.right(candidate.prompt, samples))
                length = sent_length(candidate.prompt, usual)
                scores.append(CandidateScore(right, log_loss(self.arena, candidate.prompt, samples), length))
                calls = self.arena.meter.task.calls
                self.history.scores.append(Score(self.history.stage, candidate.summary, calls, right, len(samples)))
            candidates = [
                candidates[at]
                for at in survivors(scores, following.keep if following else turn.keep, is_last=following is None)
            ]
            self.history.enter(self.history.stage, len(candidates))
        return candidates

    def _reflect(self, iterations: int) -> None:
        """Put patches and rewrites made for the mistakes against the incumbent, until round after round is rejected."""
        if self.optimizer is None or not {"patches", "rewrites"} & set(self.arena.parsed.config.tune.arms):
            return
        meter = self.arena.meter
        for_pruning = int(meter.task_calls_left * PRUNING_SHARE) if self.incumbent != self.initial else 0
        meter.reserved += for_pruning
        try:
            self._reflect_in_rounds(iterations)
        finally:
            meter.reserved -= for_pruning

    def _reflect_in_rounds(self, iterations: int) -> None:
        rejected = 0
        for turn in range(iterations):
            if rejected >= REJECTED_ROUNDS:
                return
            self.history.enter("reflect", iterations - turn)
            accepted = False
            for attempt in range(PATCH_SETS):
                if not self.duels.can_gain():
                    return
                accepted |= self._reflect_once(turn, attempt)
            rejected = 0 if accepted else rejected + 1

    def _reflect_once(self, turn: int, attempt: int) -> bool:
        """Put one answer of the optimizer against the incumbent, and tell whether it was accepted."""
        candidate = self.proposals.reflected(turn, attempt)
        if candidate is None:
            self.proposals.learn(accepted=False, gain=None)
            return False
        passed = self.duels.passes_screen(candidate, (*self.split.train, *self.canonical))
        accepted = passed and self.duels.fight(candidate)
        step = self.history.steps[-1]
        self.proposals.learn(accepted=accepted, gain=len(step.fixed) - len(step.broken))
        return accepted

    def _evolve(self) -> None:
        """Let GEPA look for candidates, put its best against the incumbent, and raise what ended it."""
        self.history.enter(STAGE)
        evolution, meter = self.proposals.evolution(), self.arena.meter
        for_canonicals = BEST_OF_RACE * len(self.canonical)
        meter.reserved += for_canonicals
        try:
            limit = evolution.run()
        finally:
            meter.reserved -= for_canonicals
        self._fight_in_turn(evolution.best[:BEST_OF_RACE])
        raise limit or NothingToGain("GEPA found no mistake any more among the train samples")

    def _prune(self) -> None:
        """Drop each example and each sentence that does not pay."""
        best = self.incumbent
        if best == self.initial or self.engine == "gepa":
            return
        self.history.enter("prune")
        self.arena.ask_together([self.initial, best], self.dev)  # what the verdict stands on comes first
        for candidate in self.proposals.pruned(best):
            self.history.enter("prune")
            self.duels.fight(candidate, pruned_from=best)

    def _weigh(self) -> bool:
        """Fit weights on what is known of dev, for no calls, and tell whether they earned their place."""
        arena = self.arena
        # Where the prompt file does not ask for probabilities, production would not know them.
        if "weights" not in arena.parsed.config.tune.arms or not arena.new_wire(self.initial).asks_for_logprobs:
            return False
        self.history.enter("weights")
        ask_what_fits(arena, self.incumbent, [one for one in self.dev if arena.is_recorded(self.incumbent, one)])
        known = known_outcomes(arena, self.incumbent, self.dev)
        self.tried_weighing = weighing_of(known, arena.labels, self.decision)
        if self.tried_weighing and self.duels.weigh(self.tried_weighing, self.decision.weights):
            self.weighing = self.tried_weighing
        return self.weighing is not None

    def _pairs_of_weights(self) -> Pairs:
        """Return what the incumbent with its weights fixed and broke on dev against the initial prompt."""
        known = set(self.known_on_dev(self.incumbent))
        places = {sample.case_name: 1 << at for at, sample in enumerate(self.dev) if sample in known}
        samples = [sample for sample in self.dev if sample in known]
        moved = changed(self.arena.outcomes(self.initial, samples), self.held_out(self.incumbent, samples))
        return Pairs(*(sum(places[case] for case in cases) for cases in moved))

    def held_out(self, prompt: Prompt, samples: Sequence[Sample]) -> list[Outcome]:
        """Return a prompt's outcomes with the weights that were found, none of them fitted on the sample itself."""
        outcomes = self.arena.outcomes(prompt, samples)
        return [self.weighing.held_out(outcome) for outcome in outcomes] if self.weighing else outcomes

    def as_written(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Return the incumbent's outcomes as the harness sees them, with the weights that are written."""
        return [one.under(self.weighing.decision) for one in outcomes] if self.weighing else list(outcomes)

    @property
    def is_initial(self) -> bool:
        """Whether nothing has taken the place of the prompt and the weights as they were."""
        return self.incumbent == self.initial and self.weighing is None

    def known_on_dev(self, prompt: Prompt) -> list[Sample]:
        """Return the samples of dev that both the initial prompt and another were asked."""
        seen = self.arena.seen()
        names = (self.initial.content_hash, prompt.content_hash)
        return [sample for sample in self.dev if all((name, sample.case_name) in seen for name in names)]

    @property
    def asked_of_train(self) -> set[str]:
        """The train cases that the search has asked a prompt about."""
        train = {sample.case_name for sample in self.split.train}
        return train & {case for _, case in self.arena.seen()}

    def _rivals(self) -> list[Pairs]:
        """Return for each prompt that has answered a sample of dev what it fixed and broke against the initial one."""
        places = {sample.case_name: 1 << at for at, sample in enumerate(self.dev)}
        seen = {key: outcome for key, outcome in self.arena.seen().items() if key[1] in places}
        first = self.initial.content_hash
        fixed: Counter[str] = Counter()
        broken: Counter[str] = Counter()
        for (name, case), outcome in seen.items():
            before = seen.get((first, case))
            if name != first and before is not None:
                fixed[name] += places[case] * (outcome.correct and not before.correct and before.reply is not None)
                broken[name] += places[case] * (before.correct and not outcome.correct)
        return [Pairs(fixed[name], broken[name]) for name in fixed]
