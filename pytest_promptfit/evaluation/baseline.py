"""The committed baseline: for every sample the outcome that was last accepted, and what changed since.

Written to be read in a diff: sorted, one sample a line.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.evaluation.metrics import Paired, least_broken
from pytest_promptfit.evaluation.served import Served, said_of_another, together
from pytest_promptfit.files import write_atomically
from pytest_promptfit.prompts.read import stem_of
from pytest_promptfit.text import CONFLICT, conflict_line, git_mark

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_promptfit.evaluation.outcomes import Evaluation, Outcome

VERSION = 1

USUAL_ALPHA = 0.05
"""The level of a comparison where no gate says another one."""

THEIRS = re.compile(r"^<{7}[^\n]*\n(.*?)(?:^\|{7}[^\n]*\n.*?)?^={7}\n.*?^>{7}[^\n]*\n", re.MULTILINE | re.DOTALL)


class Accepted(BaseModel):
    """The accepted outcome of one sample; ``prompt_hash`` and ``model`` where they are not those of the file's head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outcome: Literal["right", "wrong", "missing", "abstained"]
    label: str
    predicted: str | None = None
    prompt_hash: str | None = None
    model: str | None = None


class Baseline(BaseModel):
    """Outcomes that were accepted for a prompt, by the name of their case."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Annotated[int, Field(ge=1, le=VERSION)] = VERSION
    prompt_hash: str
    model: str
    served: tuple[Served, ...] = ()
    """Who answered, as the replies said; empty in a baseline from before that was kept."""
    metrics: dict[str, float | int | None] = Field(default_factory=dict)
    cases: dict[str, Accepted]

    def is_known_miss(self, case_name: str) -> bool:
        """Tell whether a case was accepted although it is not right."""
        accepted = self.cases.get(case_name)
        return accepted is not None and accepted.outcome != "right"


@dataclass(frozen=True)
class Comparison(Paired):
    """An evaluation against accepted outcomes, paired over the labeled samples that both have.

    ``reference`` names what it is compared with: "its baseline", or a git ref. ``alpha`` is the level of the
    regression gate, ``None`` where there is none. A sample whose label was changed since is judged by the label
    that was accepted: a new label must not turn a miss into a right answer unseen.
    """

    reference: str
    added: int
    removed: int
    accuracy: float | None
    """The accuracy over all that was accepted, shared or not."""
    other_models: tuple[str, ...] = ()
    """Models other than this run's that the outcomes were accepted from."""
    alpha: float | None = USUAL_ALPHA
    accepted: Baseline | None = None
    """The accepted outcomes themselves."""
    by_label: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of all labeled ones that were accepted, shared or not: how many were right, and how many there are."""
    answered_by: str = ""
    """Who answered now instead of whom, where the same model was asked and another one answered."""
    is_same_prompt: bool = False
    """Whether the outcomes were accepted from the prompt as it is now."""

    @property
    def is_excused_by_alpha(self) -> bool:
        """Whether the drop is one by the usual level, and none by the lower one that the gate was given."""
        return self.alpha is not None and self.alpha < self.p_value <= USUAL_ALPHA

    @property
    def can_fail(self) -> bool:
        """Whether so few shared samples could show a drop at all."""
        return self.alpha is not None and self.shared >= least_broken(self.alpha)


def baseline_path(prompt: Path) -> Path:
    """Return where the baseline of a prompt file is: beside it."""
    return prompt.with_name(f"{stem_of(prompt)}.baseline.json")


def read_baseline(path: Path, *, is_renewed: bool = False) -> Baseline | None:
    """Read a baseline; ``None`` when there is none yet; raise PromptfitError when it cannot be understood.

    One with git's conflict markers is read as our side has it where the run writes it anew (``is_renewed``).
    """
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may never end
            raise PromptfitError(f"{path}:1: cannot be read: not a regular file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise PromptfitError(f"{path}:1: cannot be read: {error}") from None
    return parse_baseline(THEIRS.sub(r"\1", text) if is_renewed else text, str(path))


def parse_baseline(text: str, shown: str) -> Baseline:
    """Read a baseline's text; raise PromptfitError, which names it as ``shown``, when it cannot be understood."""
    again = "restore it from git or write it anew with --promptfit-update"
    if line := conflict_line(text):
        raise PromptfitError(f"{shown}:{line}: {CONFLICT}: --promptfit-update writes it anew")
    if mark := git_mark(text):
        raise PromptfitError(f"{shown}:{mark[0]}: {mark[1]}")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise PromptfitError(f"{shown}:{error.lineno}: not JSON: {error.msg}: {again}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or nested too deep
        raise PromptfitError(f"{shown}:1: not a baseline: {again}") from None
    version = value.get("version") if isinstance(value, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise PromptfitError(
            f"{shown}:1: version {version} was written by a newer pytest-promptfit: expected {VERSION}: upgrade it here"
        )
    try:
        return Baseline.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise PromptfitError(f"{shown}:1: {place}: {first['msg'].lower()}: {again}") from None


def compare(
    baseline: Baseline, evaluation: Evaluation, *, reference: str = "its baseline", alpha: float | None = USUAL_ALPHA
) -> Comparison:
    """Pair the labeled outcomes of an evaluation with the accepted ones."""
    now = {outcome.sample.case_name: outcome for outcome in evaluation.labeled}
    before = {name: case for name, case in baseline.cases.items() if not name.startswith("canonical-")}
    shared = [name for name in now if name in before]
    was_right = {name for name in shared if before[name].outcome == "right"}
    is_right = {name for name in shared if now[name].predicted == before[name].label}
    models = dict.fromkeys(before[name].model or baseline.model for name in shared)
    prompts = {before[name].prompt_hash or baseline.prompt_hash for name in shared}
    is_part = len(shared) < len(before)
    accepted = Counter(case.label for case in before.values())
    right = Counter(case.label for case in before.values() if case.outcome == "right")
    return Comparison(
        reference=reference,
        before=len(was_right),
        fixed=tuple(name for name in shared if name in is_right - was_right),
        broken=tuple(name for name in shared if name in was_right - is_right),
        shared=len(shared),
        added=len(now) - len(shared),
        removed=len(before.keys() - now.keys() - {o.sample.case_name for o in evaluation.unanswered}),
        accuracy=_share(right.total(), len(before)),
        other_models=tuple(model for model in models if model != evaluation.model),
        alpha=alpha,
        accepted=baseline,
        by_label={label: (right[label], count) for label, count in accepted.items()},
        answered_by=said_of_another(baseline.served, evaluation.served, is_part=is_part)
        if {*models} == {evaluation.model}
        else "",
        is_same_prompt=prompts == {evaluation.prompt_hash},
    )


def accept(old: Baseline | None, evaluation: Evaluation, known_cases: Iterable[str]) -> Baseline:
    """Return the baseline that accepts these outcomes; samples that were not run and still exist keep theirs.

    Those keep the prompt and model they were accepted with, and the file's head stays theirs.
    """
    known = set(known_cases)
    new = {o.sample.case_name: _accepted(o) for o in evaluation.outcomes if o.reply is not None}
    kept = {name: case for name, case in (old.cases if old else {}).items() if name in known and name not in new}
    head = (old.prompt_hash, old.model) if old and kept else (evaluation.prompt_hash, evaluation.model)
    origin = {
        "prompt_hash": evaluation.prompt_hash if evaluation.prompt_hash != head[0] else None,
        "model": evaluation.model if evaluation.model != head[1] else None,
    }
    cases = {**kept, **{name: case.model_copy(update=origin) for name, case in new.items()}}
    served = evaluation.served
    if old and kept:  # who answered what is kept is not known where the old file does not say
        served = together(old.served, evaluation.served) if old.served else ()
    metrics = _metrics(cases)
    if not kept:  # the tokens of a call on average, so that it can be said later what a call cost before
        replies = [outcome.reply for outcome in evaluation.outcomes if outcome.reply is not None]
        count = len(replies) or 1
        metrics["input_tokens"] = round(sum(reply.input_tokens for reply in replies) / count, 1)
        metrics["output_tokens"] = round(sum(reply.output_tokens for reply in replies) / count, 1)
    return Baseline(prompt_hash=head[0], model=head[1], served=served, metrics=metrics, cases=cases)


def excusing(baseline: Baseline, evaluation: Evaluation) -> Baseline:
    """Return the baseline with every sample that the evaluation gets wrong accepted as a miss too."""
    misses = {o.sample.case_name: _accepted(o) for o in evaluation.outcomes if o.reply is not None and not o.correct}
    cases = {**baseline.cases, **misses}
    return baseline.model_copy(update={"cases": cases, "metrics": _metrics(cases)})


def _accepted(outcome: Outcome) -> Accepted:
    status = outcome.status
    if status == "no reply":
        raise ValueError(f"{outcome.sample.case_name} has no reply to accept")
    return Accepted(outcome=status, label=outcome.sample.label, predicted=outcome.predicted)


def _metrics(cases: Mapping[str, Accepted]) -> dict[str, float | int | None]:
    labeled = [case.outcome for name, case in cases.items() if not name.startswith("canonical-")]
    right = labeled.count("right")
    return {
        "accuracy": _share(right, len(labeled)),
        "correct": right,
        "missing": labeled.count("missing"),
        "total": len(labeled),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def render(baseline: Baseline) -> str:
    """Return the file's text: sorted, one sample a line."""
    head: dict[str, Any] = baseline.model_dump(exclude={"cases", *(() if baseline.served else ("served",))})
    if baseline.served:
        head["served"] = [_served(one, is_alone=len(baseline.served) == 1) for one in baseline.served]
    lines = [f"  {json.dumps(key)}: {_compact(value)}" for key, value in head.items()]
    cases = []
    for name, case in sorted(baseline.cases.items()):
        # A case without a label says so; where prompt and model are the head's, nothing is said.
        told = {key: value for key, value in case.model_dump().items() if value is not None or key == "predicted"}
        cases.append(f"    {_compact(name)}: {_compact(told)}")
    lines.append('  "cases": {\n' + ",\n".join(cases) + "\n  }" if cases else '  "cases": {}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _served(one: Served, *, is_alone: bool) -> dict[str, Any]:
    """Return a model that answered as the file says it: how often only where others answered too."""
    replies = {"replies": one.replies} if one.replies and not is_alone else {}
    return {"model": one.model, **replies, "fingerprints": list(one.fingerprints)}


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def write_baseline(path: Path, baseline: Baseline) -> bool:
    """Write the baseline whole or not at all; return whether the file changed.

    Raises PromptfitError, one line, when it cannot be written.
    """
    text = render(baseline)
    try:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return False
        write_atomically(path, text)
    except OSError as error:
        raise PromptfitError(f"{path}: cannot be written: {error.strerror}: the old baseline is unchanged") from None
    return True
