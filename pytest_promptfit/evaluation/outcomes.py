"""What a forward pass found: an outcome for every sample, and the figures counted from them.

Values only: nothing here asks, reads or writes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pytest_promptfit.chat.decision import Decided, decide
from pytest_promptfit.chat.missing import Cause, Missing
from pytest_promptfit.chat.reply import ChatReply
from pytest_promptfit.evaluation.confidence import Calibration, Judged, calibration_of
from pytest_promptfit.evaluation.metrics import Confusion, Paired, count, two_sided_midp, wilson_interval
from pytest_promptfit.evaluation.noise import Noise, disagreement, noise_of
from pytest_promptfit.evaluation.served import Served
from pytest_promptfit.prompts.labels import ABSTAINED, MISSING
from pytest_promptfit.prompts.model import Decision, ModelSpec
from pytest_promptfit.prompts.samples import Sample, normal_form
from pytest_promptfit.prompts.split import split
from pytest_promptfit.providers.usage import Estimate, Usage, reply_usd
from pytest_promptfit.text import nfc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

Status = Literal["right", "wrong", "missing", "abstained", "no reply"]

RECORD_OPTION = "--promptfit-record"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One sample, the reply to it and the label read from that; ``error`` says why there is no reply.

    ``asking_helps`` is false where the reply is recorded and a hook failed to read it. ``waits`` says that there is no
    reply yet and nothing is wrong. ``why_missing`` says why no label could be read from a reply. ``answers`` are the
    labels of all answers, in their order, where the sample was asked more than once: reply and label are then those of
    the first answer that says what most of them say. ``decided`` says how sure the label is, where that is known, and
    whether it was held back: then ``predicted`` is ``None``.
    """

    sample: Sample
    reply: ChatReply | None = None
    predicted: str | None = None
    error: str = ""
    replayed: bool = False
    seconds: float | None = None
    asking_helps: bool = True
    why_missing: Missing | None = None
    waits: bool = False
    answers: tuple[str | None, ...] = ()
    decided: Decided | None = None

    @property
    def is_unstable(self) -> bool:
        """Whether not all answers to it are the same."""
        return len({*self.answers}) > 1

    @property
    def status(self) -> Status:
        """Right, wrong, missing (no label could be read), abstained (held back) or no reply at all."""
        if self.reply is None:
            return "no reply"
        if self.abstained:
            return "abstained"
        if self.predicted is None:
            return "missing"
        return "right" if self.predicted == self.sample.label else "wrong"

    @property
    def correct(self) -> bool:
        """Whether the label read is the sample's."""
        return self.status == "right"

    @property
    def abstained(self) -> bool:
        """Whether a label was read and not given, because it was not sure enough."""
        return self.decided is not None and self.decided.abstained

    @property
    def best(self) -> str | None:
        """The label before anything was held back; ``None`` where none could be read."""
        return self.decided.best if self.decided else self.predicted

    @property
    def given(self) -> str | None:
        """The label that is given, ``ABSTAINED`` where it was held back, ``None`` where none could be read."""
        return ABSTAINED if self.abstained else self.predicted

    @property
    def told(self) -> dict[str, float]:
        """How likely each label was, as the model told it; empty where that is not known."""
        return self.decided.told if self.decided else {}

    @property
    def confidence(self) -> float | None:
        """How likely ``best`` is, 0 to 1, after temperature and weights; ``None`` where that is not known."""
        return self.decided.confidence if self.decided else None

    def under(self, decision: Decision) -> Outcome:
        """Return what comes of the same reply by another decision."""
        if self.decided is None:
            return self
        decided = decide(self.decided.read, self.decided.told, decision)
        return replace(self, predicted=decided.label, decided=decided)


def majority(answers: Sequence[Outcome]) -> Outcome:
    """Return the outcome of a sample by its answers: what most of them say, of several such the first one that came.

    No label is an answer like any other, and so is one that was held back. Where one answer is lacking there is no
    outcome yet, and it says why.
    """
    lacking = next((one for one in answers if one.reply is None), None)
    if lacking is not None or len(answers) == 1:
        return lacking or answers[0]
    said = tuple(one.given for one in answers)
    # Counter keeps the order in which its elements came, and max takes the first of those that tie.
    most = max((counts := Counter(said)), key=counts.__getitem__)
    return replace(answers[said.index(most)], replayed=all(one.replayed for one in answers), answers=said)


@dataclass(frozen=True)
class Unrecorded:
    """The selected samples without a recorded reply, in a run that only replays: what recording them takes.

    ``obstacle`` says why the model cannot be asked now (no key, no file), and is empty when it can.
    """

    estimate: Estimate
    is_everything: bool
    """Whether nothing at all is recorded for this prompt."""
    obstacle: str = ""


@dataclass(frozen=True)
class PairedComparison(Paired):
    """What changes from one evaluation to another, over the labeled samples that both have and have a reply to.

    Samples are the same where text and label are. ``fixed`` and ``broken`` are names of the second one's cases,
    ``unpaired`` counts the labeled samples of each that the other one lacks, or has no reply to. ``usd`` and
    ``seconds`` are those of a call before and now, on average over the shared samples; ``None`` where that is not
    known.
    """

    unpaired: tuple[int, int] = (0, 0)
    usd: tuple[float | None, float | None] = (None, None)
    seconds: tuple[float | None, float | None] = (None, None)

    @property
    def p_two_sided(self) -> float:
        """How probable so clear a difference, either way, is when there is none: twice the one-sided mid-p."""
        return two_sided_midp(len(self.broken), len(self.fixed))


@dataclass(frozen=True, slots=True)
class Slice:
    """The labeled samples with a reply that have one value in a further column of their data file."""

    column: str
    value: str
    outcomes: tuple[Outcome, ...]

    @property
    def total(self) -> int:
        """How many there are: at least one."""
        return len(self.outcomes)

    @property
    def correct(self) -> int:
        """How many of them are right."""
        return sum(outcome.correct for outcome in self.outcomes)

    @property
    def accuracy(self) -> float:
        """The share that is right, 0 to 1."""
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of ``accuracy``."""
        return wilson_interval(self.correct, self.total)


@dataclass(frozen=True)
class Evaluation:
    """The outcomes of one prompt over its selected samples.

    ``slices`` are the columns of the data file that accuracy is told by. ``served`` are the models that answered,
    ``repeats`` says how often each sample was asked, and ``decision`` what is made of probabilities. ``record_option``
    is the option that asks for what has no reply.
    ``instead_of`` is the model that the prompt file names, where another one was asked; ``base_url`` is that of the
    model that was.
    """

    name: str
    path: str
    model: str
    prompt_hash: str
    labels: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    usage: Usage = field(default_factory=Usage)
    obsolete: int = 0
    notes: tuple[str, ...] = ()
    unrecorded: Unrecorded | None = None
    base_url: str | None = None
    instead_of: str = ""
    record_option: str = RECORD_OPTION
    slices: tuple[str, ...] = ()
    served: tuple[Served, ...] = ()
    repeats: int = 1
    decision: Decision = field(default_factory=Decision)

    @property
    def other_model(self) -> str:
        """The model that was asked, where it is not the prompt file's own; else ``""``."""
        return self.model if self.instead_of else ""

    @cached_property
    def by_case(self) -> dict[str, Outcome]:
        """The outcomes by the name of their case."""
        return {outcome.sample.case_name: outcome for outcome in self.outcomes}

    @cached_property
    def labeled(self) -> tuple[Outcome, ...]:
        """The outcomes that the figures count: labeled samples with a reply."""
        return tuple(o for o in self.outcomes if not o.sample.canonical and o.reply is not None)

    @cached_property
    def canonical(self) -> tuple[Outcome, ...]:
        """The outcomes of the canonical samples."""
        return tuple(o for o in self.outcomes if o.sample.canonical)

    @cached_property
    def unanswered(self) -> tuple[Outcome, ...]:
        """The labeled samples without a reply: no figure can count them."""
        return tuple(o for o in self.outcomes if not o.sample.canonical and o.reply is None)

    @cached_property
    def noise(self) -> Noise | None:
        """How the answers to the same labeled sample differ; ``None`` where each was asked once."""
        return noise_of([outcome.answers for outcome in self.labeled if outcome.answers])

    @cached_property
    def unstable(self) -> tuple[Outcome, ...]:
        """The outcomes of samples, canonical ones too, whose answers differ: those that agree least come first."""
        found = [outcome for outcome in self.outcomes if outcome.is_unstable]
        return tuple(sorted(found, key=lambda one: -disagreement(one.answers)))

    @cached_property
    def confusion(self) -> Confusion:
        """Gold against predicted labels, over the labeled samples."""
        return count(((o.sample.label, o.given) for o in self.labeled), self.labels)

    @cached_property
    def calibration(self) -> Calibration | None:
        """How well confidence tells what is right, over the labeled samples; ``None`` where none has a probability."""
        if not self.sure:
            return None
        dev = {sample.case_name for sample in split(outcome.sample for outcome in self.labeled).dev}
        fit = [judged for outcome, judged in self.sure if outcome.sample.case_name in dev]
        return calibration_of([judged for _, judged in self.sure], len(self.labeled), fit, self.decision)

    @cached_property
    def sure(self) -> list[tuple[Outcome, Judged]]:
        """The labeled samples whose probabilities are known, each with what became of them and the right label."""
        return [(o, (o.decided, o.sample.label)) for o in self.labeled if o.decided and o.sample.label in o.told]

    @cached_property
    def by_slice(self) -> dict[str, list[Slice]]:
        """The slices by each of the columns in ``slices``; a column that no sample has, as in a script, is left out."""
        return {column: found for column in self.slices if (found := self.sliced(column))}

    def sliced(self, column: str) -> list[Slice]:
        """Return the slices by a further column of the data file, the largest first; an empty cell is a value too."""
        groups: dict[str, list[Outcome]] = {}
        is_known = any(column in outcome.sample.columns for outcome in self.labeled)
        for outcome in self.labeled if is_known else ():
            groups.setdefault(nfc(outcome.sample.columns.get(column, "").strip()), []).append(outcome)
        slices = [Slice(column, value, tuple(outcomes)) for value, outcomes in groups.items()]
        return sorted(slices, key=lambda one: (-one.total, one.value))

    @property
    def accuracy(self) -> float | None:
        """The share of labeled samples that are right, 0 to 1; ``None`` without any."""
        return self.confusion.accuracy

    @cached_property
    def usd_by_case(self) -> dict[str, float | None]:
        """What the reply of each case costs in USD, whenever it was paid; ``None`` where nobody knows."""
        provider, _, name = self.model.partition("/")
        spec = ModelSpec.model_validate({"provider": provider, "name": name, "base_url": self.base_url})
        return {name: reply_usd(spec, one.reply) if one.reply else None for name, one in self.by_case.items()}

    @property
    def per_call(self) -> tuple[float | None, float | None]:
        """USD and seconds of a call, on average over the labeled samples; ``None`` where that is not known."""
        return self._mean_call(self.labeled)

    def _mean_call(self, outcomes: Sequence[Outcome]) -> tuple[float | None, float | None]:
        usd = _mean([self.usd_by_case[outcome.sample.case_name] for outcome in outcomes])
        return usd, _mean([outcome.seconds for outcome in outcomes])

    def compare(self, other: Evaluation) -> PairedComparison:
        """Return what changes from this evaluation to ``other``: of the prompt, of the model, or of both."""
        theirs = {(normal_form(o.sample.text), o.sample.label): o for o in other.labeled}
        keyed = ((o, theirs.get((normal_form(o.sample.text), o.sample.label))) for o in self.labeled)
        pairs = [(before, now) for before, now in keyed if now is not None]
        names = [now.sample.case_name for _, now in pairs]
        moved = [now.correct - before.correct for before, now in pairs]
        usd_before, seconds_before = self._mean_call([before for before, _ in pairs])
        usd_now, seconds_now = other._mean_call([now for _, now in pairs])
        return PairedComparison(
            before=sum(before.correct for before, _ in pairs),
            fixed=tuple(name for name, step in zip(names, moved, strict=True) if step > 0),
            broken=tuple(name for name, step in zip(names, moved, strict=True) if step < 0),
            shared=len(pairs),
            unpaired=(len(self.labeled) - len(pairs), len(other.labeled) - len(pairs)),
            usd=(usd_before, usd_now),
            seconds=(seconds_before, seconds_now),
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the outcomes as a pandas frame, one row a sample, indexed by case.

        Where no label could be read, ``predicted`` is ``(missing)``, which scikit-learn takes as one more label;
        so it is where there is no reply, and ``status`` says so. Where one was held back it is ``(abstained)``. A
        prompt with probabilities has ``confidence``, from 0 to 1. ``usd`` is what the reply costs, whenever it was
        paid. The data file's other columns follow as text; one that has a name of ours is called ``data_<name>``.
        """
        import pandas as pd

        rows = [self._row(outcome) for outcome in self.outcomes]
        ours = dict.fromkeys(self._row(Outcome(Sample("", "", ""))))
        if any(outcome.told for outcome in self.outcomes):
            ours["confidence"] = None
            for row, outcome in zip(rows, self.outcomes, strict=True):
                row["confidence"] = outcome.confidence
        others = dict.fromkeys(name for outcome in self.outcomes for name in outcome.sample.columns)
        names = {name: f"data_{name}" if name in ours else name for name in others}
        for row, outcome in zip(rows, self.outcomes, strict=True):
            row.update({named: outcome.sample.columns.get(name, "") for name, named in names.items()})
        return pd.DataFrame(rows, columns=[*ours, *names.values()]).set_index("case")

    def _row(self, outcome: Outcome) -> dict[str, object]:
        sample, reply = outcome.sample, outcome.reply
        return {
            "case": sample.case_name,
            "text": sample.text,
            "label": sample.label,
            "predicted": MISSING if outcome.given is None else outcome.given,
            "kind": "canonical" if sample.canonical else "labeled",
            "status": outcome.status,
            "reply": reply.text if reply else None,
            "input_tokens": reply.input_tokens if reply else None,
            "output_tokens": reply.output_tokens if reply else None,
            "seconds": outcome.seconds,
            "usd": self.usd_by_case.get(sample.case_name),
            "model": self.model,
            "note": sample.note,
            "error": outcome.error,
        }


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of figures that are all known; ``None`` where one is not, or there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


_SHOWN_DETAILS = 3


@dataclass(frozen=True, slots=True)
class MissingCount:
    """A cause, how many replies it left without a label, the reason in words, and the cases."""

    cause: Cause
    count: int
    text: str
    cases: tuple[str, ...]


def count_missing(evaluation: Evaluation) -> list[MissingCount]:
    """Return each cause once, the most frequent first; forms are told apart by what would read them."""
    groups: dict[tuple[Cause, str], list[tuple[str, Missing]]] = {}
    for outcome in evaluation.outcomes:
        if outcome.why_missing is not None:
            key = (outcome.why_missing.cause, outcome.why_missing.proposal)
            groups.setdefault(key, []).append((outcome.sample.case_name, outcome.why_missing))
    counts = []
    for (cause, proposal), found in groups.items():
        details = Counter(missing.detail for _, missing in found)
        shown = [detail for detail, _ in details.most_common(_SHOWN_DETAILS)]
        listed = ", ".join(shown) + (", …" if len(details) > _SHOWN_DETAILS else "")
        text = Missing(cause, listed, proposal).text
        counts.append(MissingCount(cause, len(found), text, tuple(case for case, _ in found)))
    return sorted(counts, key=lambda one: -one.count)
