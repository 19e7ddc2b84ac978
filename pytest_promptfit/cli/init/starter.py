"""The text of a new prompt file: a first prompt that works for a small model, with comments that teach."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cli.init.columns import is_number
from pytest_promptfit.cli.init.models import LOCAL, OFFERS, OPTIMIZERS
from pytest_promptfit.text import cut, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_promptfit.cli.init.columns import Guess
    from pytest_promptfit.cli.init.imports import Imported
    from pytest_promptfit.cli.init.models import Choice

FEW_SAMPLES = 60
"""Below this a tuning run can claim nothing."""
LISTED_LABELS = 30
LONGEST_LIST = 100
SPELLED_LABELS = 5
_PLAIN = re.compile(r"[A-Za-z_][\w.-]*(?: [\w.-]+)*|[A-Za-z_./][\w./ -]*[\w]", re.ASCII)
_NO_TEXT = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


@dataclass(frozen=True)
class Starter:
    """What a new prompt file is made of: ``data`` is the data file as the prompt refers to it."""

    data: str
    guess: Guess
    labels: Mapping[str, int]
    """How many samples each label has."""
    model: Choice
    imported: Imported | None = None

    @property
    def size(self) -> int:
        """How many samples there are."""
        return sum(self.labels.values())

    def text(self) -> str:
        """Return the YAML."""
        parts = (self._head, self._model, self._prompt, self._labels, self._samples, self._gates, self._tune)
        return "\n\n".join("\n".join(part()) for part in parts) + "\n"

    def _head(self) -> Iterator[str]:
        yield f"# Classifies the texts of {plain(self.data)}: {self.size:,} samples, {len(self.labels)} labels."
        yield "# Edit it freely; `promptfit show` prints what is sent, `pytest --promptfit` tells what a change did."

    def _model(self) -> Iterator[str]:
        yield "# The model that is asked; a small one is cheap, and tuning makes up for much of its size."
        yield f"model: {scalar(str(self.model.spec))}"
        others = [(offer.model, f"needs {offer.variable}; params: {_flow(offer.params)}") for offer in OFFERS]
        for name, needs in [*others, (LOCAL, "runs inside the process, without a key")]:
            if name != str(self.model.spec):
                yield f"# model: {name}  # {needs}"
        yield f"# Sent to the API as they are: {self.model.why_params}."
        yield f"params: {_flow(self.model.params)}"

    def _prompt(self) -> Iterator[str]:
        if self.imported and self.imported.has_prompt:
            yield f"# What is said to the model, around each text: that of {self.imported.kind}."
            yield "prompt:"
            yield f"  system_prompt: {scalar(self.imported.system_prompt)}"
            yield f"  user_prompt_prefix: {scalar(self.imported.user_prompt_prefix)}"
            yield f"  user_prompt_suffix: {scalar(self.imported.user_prompt_suffix)}"
            return
        yield "# What is said to the model, around each text. {labels} stands for the labels, listed."
        yield "prompt:"
        yield "  # Say here what each label means, and what to do with doubtful texts: that helps most."
        yield '  system_prompt: "Classify the text as one of: {labels}."'
        yield '  user_prompt_prefix: "<text>"'
        yield "  # The label is read from the last <label>…</label> of the reply."
        yield "  user_prompt_suffix: |-"
        yield "    </text>"
        yield f"    Which one is it: {{labels}}? Answer with Label: {self._answers}"
        if self.model.is_local:
            yield "  # Words put in the model's mouth: a very small model keeps to the format that way."
            yield '  bot_reply_prefix: "Label: <label>"'
        yield from self._label_words()

    @property
    def _answers(self) -> str:
        """The answers, spelled out where they are few words: a very small model copies the form that it sees."""
        few = len(self.labels) <= SPELLED_LABELS and all(map(str.isprintable, self.labels))
        if few and not any(map(is_number, self.labels)):
            return " or ".join(f"<label>{label}</label>" for label in self.labels)
        return "<label>…</label>"

    def _label_words(self) -> Iterator[str]:
        """Yield what the model says for each label: numbers tell it nothing."""
        whole = {label: str(int(float(label))) for label in self.labels if re.fullmatch(r"-?\d+\.0+", label)}
        if len(whole) == len(self.labels) == len(set(whole.values())):
            yield "  # What the model says for each label. Words that mean something work better than numbers."
            yield f"  label_words: {_flow(whole)}"
        elif all(map(is_number, self.labels)) and len(self.labels) <= LISTED_LABELS:
            yield "  # The labels are numbers, which tell the model nothing: say a word for each, such as"
            yield f"  # label_words: {_flow(dict.fromkeys(self.labels, '…'))}"

    def _labels(self) -> Iterator[str]:
        if len(self.labels) > LISTED_LABELS:
            yield f"# labels: those of the samples, {len(self.labels)} of them; a slip is found where they are listed."
            return
        yield "# A sample with any other label is a mistake in the data, and said."
        listed = f"labels: [{', '.join(map(scalar, self.labels))}]"
        if len(listed) <= LONGEST_LIST:
            yield listed
            return
        yield "labels:"
        yield from (f"  - {scalar(label)}" for label in self.labels)

    def _samples(self) -> Iterator[str]:
        guess = self.guess
        yield "# Each row is a test case."
        yield "samples:"
        yield f"  file: {scalar(self.data)}  # relative to this file"
        yield f'  text: {scalar(guess.text.column)}  # a column, or a template such as "{{title}} {{body}}"'
        yield f"  label: {scalar(guess.label.column)}"
        if guess.id:
            yield f"  id: {scalar(guess.id.column)}"
        else:
            yield "  # id: a column; without it a short hash of the text"
        if guess.note:
            yield f"  note: {scalar(guess.note.column)}  # why the label is right; the optimizer reads it"
        if guess.canonical:
            yield f"  canonical: {scalar(guess.canonical.column)}"
        yield ""
        yield "# Samples that must never be got wrong, whatever the average:"
        yield "# canonical:"
        yield f'#   - {{text: "…", label: {scalar(next(iter(self.labels)))}, note: "why it must be right"}}'

    def _gates(self) -> Iterator[str]:
        yield "# gated: a single sample may flip, the gates decide. strict: each wrong sample that is not a known"
        yield "# miss of the baseline fails."
        yield "cases: gated"
        yield "gates:"
        yield "  # accuracy: 0.80                # a floor; set it once you know what the prompt reaches"
        if len(self.labels) <= LISTED_LABELS:
            rare = min(self.labels, key=lambda label: self.labels[label])
            yield f"  # recall: {_flow({rare: 0.7})}"
        # A very small model may miss the format often at first: a gate that fails at once teaches nothing.
        switch = "# " if self.model.is_local else ""
        yield f"  {switch + 'missing: 0.1':31} # at most this share of replies without a label that can be read"
        yield "  regression: {alpha: 0.05}       # not worse than the baseline beyond chance: a paired test"

    def _tune(self) -> Iterator[str]:
        yield "# pytest --tune improves the prompt within this budget, and rewrites this file where that is earned."
        if self.size < FEW_SAMPLES:
            yield f"# {self.size} samples are few: no gain can be proved with less than some {FEW_SAMPLES}."
        yield "tune:"
        optimizer = OPTIMIZERS.get(self.model.spec.provider)
        if optimizer and not self.model.spec.base_url:
            yield f"  model: {optimizer}  # proposes texts; without it, only searches"
            limit = "max_completion_tokens" if optimizer.startswith("openai/") else "max_tokens"
            yield f"  params: {{{limit}: 10000}}  # how long its replies may be, thoughts included: usd needs a limit"
            yield "  budget: {task_calls: 600, optimizer_calls: 10, usd: 1.00}"
        else:
            yield "  # Without a model it searches for examples, words and formats; this one would propose texts too:"
            yield f"  # model: {OPTIMIZERS['openai']}"
            yield "  budget: {task_calls: 600}"


def scalar(text: str) -> str:
    """Return text as YAML reads it back: plain where nobody can mistake it, else in double quotes."""
    if _PLAIN.fullmatch(text) and text.casefold() not in _NO_TEXT:
        return text
    return re.sub(r"[^\x20-\x7e]", _escaped, json.dumps(text, ensure_ascii=False))


def _escaped(char: re.Match[str]) -> str:
    if char[0].isprintable():
        return char[0]
    code = ord(char[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _flow(values: Mapping[str, Any]) -> str:
    def shown(value: object) -> str:
        return scalar(value) if isinstance(value, str) else json.dumps(value)

    return "{" + ", ".join(f"{scalar(key)}: {shown(value)}" for key, value in values.items()) + "}"


def balance(labels: Mapping[str, int], limit: int = 5) -> str:
    """Return how many samples the labels have, the most frequent first."""
    shown = sorted(labels.items(), key=lambda pair: -pair[1])[:limit]
    more = f" and {len(labels) - limit} more" if len(labels) > limit else ""
    return ", ".join(f"{cut(label, 30)} ({count:,})" for label, count in shown) + more
