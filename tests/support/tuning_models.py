"""Made-up models for tuning runs: a task model whose answers depend on the prompt, and an optimizer."""

from __future__ import annotations

import importlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import genai_prices
import yaml
from loopback_server import Answer, chat, told
from mood_project import Model, Project, Row

# pytester forgets what a run inside it has imported: what is loaded here is loaded once.
for _name in ("arena", "optimizer", "run", "search"):
    importlib.import_module(f"pytest_promptfit.tuning.{_name}")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

    Says = Callable[[dict[str, Any]], str | Answer]

RULE = "What is lovely is good."
PLACES = ("day", "walk", "house", "song", "meal", "town", "garden", "letter")


def rows(count: int = 30, *, note: str = "") -> tuple[Row, ...]:
    """Return samples that ``by_rule`` gets right once it is told how: even ones are good, odd ones bad."""
    kinds = (("lovely", "good"), ("dreadful", "bad"))
    return tuple(
        (f"s{n}", f"a {kinds[n % 2][0]} {PLACES[n // 2 % 8]} of the year {1900 + n}", kinds[n % 2][1], note)
        for n in range(count)
    )


def messages_of(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in body["messages"]]


def text_of(body: dict[str, Any]) -> str:
    """Return the last thing that the user says."""
    return [said for role, said in messages_of(body) if role == "user"][-1]


def system_of(body: dict[str, Any]) -> str:
    return "".join(said for role, said in messages_of(body) if role == "system")


def shown_labels(body: dict[str, Any]) -> set[str]:
    """Return the labels that the examples show; a reply prefix is no example."""
    said = [said for role, said in messages_of(body)[:-1] if role == "assistant"]
    return {label for label in ("good", "bad") for reply in said if label in reply}


def tagged(label: str) -> str:
    return f"Label: <label>{label}</label>"


def by_keyword(body: dict[str, Any]) -> str:
    return tagged("good" if "lovely" in text_of(body) else "bad")


def by_rule(body: dict[str, Any]) -> str:
    """Answer by keyword when the system prompt says the rule, else bad."""
    return by_keyword(body) if RULE in system_of(body) else tagged("bad")


def by_examples(body: dict[str, Any]) -> str:
    """Answer by keyword when there is an example of each label, else bad."""
    return by_keyword(body) if len(shown_labels(body)) == 2 else tagged("bad")


def by_either(body: dict[str, Any]) -> str:
    """Need the rule for some texts and examples for the others, so that every stage has something to do."""
    return (by_rule if "day" in text_of(body) or "meal" in text_of(body) else by_examples)(body)


def always_bad(body: dict[str, Any]) -> str:
    return tagged("bad")


def patch(**fields: Any) -> dict[str, Any]:
    known = {"field": "system_prompt", "op": "append", "find": "", "text": RULE, "reason": "says what lovely is"}
    return {**known, "targets": [], **fields}


def patches(*some: dict[str, Any]) -> str:
    return json.dumps({"patches": list(some)})


def draft(system: str, **fields: str) -> str:
    """Return an answer with a whole prompt."""
    return json.dumps({"system_prompt": system, **fields})


def asks_for_patches(body: dict[str, Any]) -> bool:
    """Tell whether the optimizer is asked for patches, and not for a whole prompt."""
    return "patches as JSON" in text_of(body)


def price_of(input_tokens: int, output_tokens: int) -> float:
    """Return what a call costs at the models of ``with_a_price``: OpenAI's list has 0.10 and 0.40 USD a million."""
    return (0.10 * input_tokens + 0.40 * output_tokens) / 1e6


def with_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the made-up models cost what a real one does."""
    listed = genai_prices.calc_price
    monkeypatch.setattr(
        genai_prices, "calc_price", lambda usage, *_, **__: listed(usage, "gpt-4.1-nano", provider_id="openai")
    )


def sure(said: str, probability: float) -> Answer:
    """Answer ``Label: <label>…</label>`` in tokens of which the label's word has a probability."""
    other = {"good": "bad", "bad": "good"}[said]
    return told({"Label: <label>": 1.0}, {said: probability, other: 1 - probability}, {"</label>": 1.0})


def label_of(reply: str) -> str:
    return "good" if "good" in reply else "bad"


def adds_the_rule(body: dict[str, Any]) -> str:
    return patches(patch())


class TuningModel(Model):
    """A task model and an optimizer behind one server, told apart by name."""

    def __init__(self) -> None:
        self.task: Says = by_examples
        self.optimizer: Says = adds_the_rule
        super().__init__()

    @property
    def task_bodies(self) -> list[dict[str, Any]]:
        return [seen.body for seen in self.server.seen if seen.body["model"] != OPTIMIZER]

    @property
    def optimizer_bodies(self) -> list[dict[str, Any]]:
        return [seen.body for seen in self.server.seen if seen.body["model"] == OPTIMIZER]

    @property
    def patch_bodies(self) -> list[dict[str, Any]]:
        return [body for body in self.optimizer_bodies if asks_for_patches(body)]

    @property
    def draft_bodies(self) -> list[dict[str, Any]]:
        return [body for body in self.optimizer_bodies if not asks_for_patches(body)]

    def go_down(self) -> None:
        """Answer nobody any more, as a server that is not there."""
        self.server.__exit__()

    def _answer(self, seen: Any) -> Answer:
        said = (self.optimizer if seen.body["model"] == OPTIMIZER else self.task)(seen.body)
        return chat(said) if isinstance(said, str) else said


OPTIMIZER = "optimizer"


@contextmanager
def tuning_project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[TuningProject]:
    """Give an empty project, and models that can be asked until the block ends."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    model = TuningModel()
    with model.server:
        yield TuningProject(pytester, model)


class TuningProject(Project):
    """A project whose prompts are tuned."""

    model: TuningModel

    def __init__(self, pytester: pytest.Pytester, model: TuningModel) -> None:
        super().__init__(pytester, model)

    def prompt(self, samples: tuple[Row, ...] | None = None, *, at: str = "mood.prompt.yaml", **fields: Any) -> Path:
        """Write a prompt file with samples and, in ``tune``, a budget."""
        tune = {"budget": {"task_calls": 110}, **fields.pop("tune", {})}
        return self.write(rows() if samples is None else samples, at=at, tune=tune, **fields)

    def optimizer_model(self, **fields: Any) -> dict[str, Any]:
        """Return what ``tune.model`` says of the optimizer."""
        return {"provider": "openai", "name": OPTIMIZER, "base_url": self.model.url, **fields}

    def tune(self, *arguments: object) -> pytest.RunResult:
        """Tune, and keep the JSON report."""
        return self.pytest("--tune", "--promptfit-json", self.path / "report.json", *arguments)

    def tuned(self, *arguments: object) -> dict[str, Any]:
        """Tune the one prompt there is and return its entry in the JSON report."""
        self.tune(*arguments)
        (entry,) = self.entries()
        return entry

    def entries(self) -> list[dict[str, Any]]:
        """Return the entries of the last tuning run."""
        report = json.loads((self.path / "report.json").read_text(encoding="utf-8"))
        entries: list[dict[str, Any]] = report["tune"]
        return entries

    def text(self, name: str = "mood") -> str:
        """Return a prompt file as it is."""
        return (self.path / f"{name}.prompt.yaml").read_bytes().decode()

    def yaml(self, name: str = "mood") -> dict[str, Any]:
        value: dict[str, Any] = yaml.safe_load(self.text(name))
        return value
