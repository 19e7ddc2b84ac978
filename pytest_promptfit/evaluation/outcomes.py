"""What a forward pass found: an outcome for every sample, and the figures counted from them.

Values only: nothing here asks, reads or writes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pytest_promptfit.chat.missing import Cause, Missing
from pytest_promptfit.chat.reply import ChatReply
from pytest_promptfit.evaluation.metrics import Confusion, count
from pytest_promptfit.prompts.samples import Sample
from pytest_promptfit.providers.usage import Estimate, Usage

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["right", "wrong", "missing", "no reply"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One sample, the reply to it and the label read from that; ``error`` says why there is no reply.

    ``asking_helps`` is false where the reply is recorded and a hook failed to read it. ``why_missing`` says why
    no label could be read from a reply.
    """

    sample: Sample
    reply: ChatReply | None = None
    predicted: str | None = None
    error: str = ""
    replayed: bool = False
    seconds: float | None = None
    asking_helps: bool = True
    why_missing: Missing | None = None

    @property
    def status(self) -> Status:
        """Right, wrong, missing (no label could be read) or no reply at all."""
        if self.reply is None:
            return "no reply"
        if self.predicted is None:
            return "missing"
        return "right" if self.predicted == self.sample.label else "wrong"

    @property
    def correct(self) -> bool:
        """Whether the label read is the sample's."""
        return self.status == "right"


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
class Evaluation:
    """The outcomes of one prompt over its selected samples."""

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
    def confusion(self) -> Confusion:
        """Gold against predicted labels, over the labeled samples."""
        return count(((o.sample.label, o.predicted) for o in self.labeled), self.labels)

    @property
    def accuracy(self) -> float | None:
        """The share of labeled samples that are right, 0 to 1; ``None`` without any."""
        return self.confusion.accuracy

    def to_frame(self) -> pd.DataFrame:
        """Return the outcomes as a pandas frame, one row a sample, indexed by case."""
        import pandas as pd

        columns = ("case", "text", "label", "predicted", "status", "canonical", "reply", "note", "error")
        rows = [
            (
                s.case_name,
                s.text,
                s.label,
                o.predicted,
                o.status,
                s.canonical,
                o.reply and o.reply.text,
                s.note,
                o.error,
            )
            for o in self.outcomes
            for s in (o.sample,)
        ]
        return pd.DataFrame(rows, columns=list(columns)).set_index("case")


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
