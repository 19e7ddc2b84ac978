"""A repository whose prompt gets worse on a branch: 60 samples, 20 of them broken, replies without any server."""

from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING, Any

import yaml

from pytest_promptfit import load_prompt
from pytest_promptfit.cassettes.cassette import Asked
from pytest_promptfit.cassettes.recorder import Recorder
from pytest_promptfit.prompts.labels import words_of
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples
from pytest_promptfit.providers.wire import provider_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mood_project import Project

PROMPT = "prompts/mood.prompt.yaml"
SAMPLES, BROKEN = 60, range(20)
CANONICAL = {"id": "c1", "text": "a lovely evening number 900", "label": "good"}
MODES: dict[str, dict[str, Any]] = {
    "strict": {"cases": "strict", "gates": {"accuracy": 0.6, "recall": {"good": 0.6}, "missing": 0.1}},
    "gated": {"cases": "gated", "gates": {"accuracy": 0.9, "recall": {"good": 0.9}, "missing": 0.1}},
    "default": {},
}


def rows(numbers: Sequence[int] = range(SAMPLES)) -> list[dict[str, str]]:
    return [
        {"id": f"n{number:03}", "text": f"a day number {number:03}", "label": label_of(number)} for number in numbers
    ]


def label_of(number: int) -> str:
    return "bad" if number % 2 else "good"


def number_in(text: str) -> int:
    return int(text.rpartition(" ")[2])


def right(text: str) -> str:
    return label_of(number_in(text))


def broken(text: str, which: Sequence[int] = BROKEN) -> str:
    """Answer as the worse prompt does."""
    wrong = {"good": "bad", "bad": "good"}
    return wrong[right(text)] if number_in(text) in which else right(text)


class Judged:
    """A project in git, whose branch is judged by ``main``."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.path = project.path
        self.prompt = self.path / PROMPT
        self.data = self.prompt.with_name("mood.csv")

    def begin(self, mode: str) -> None:
        """Commit a prompt that is right to ``main``, and start a branch with one that breaks a third."""
        (self.path / "pytest.ini").write_text("[pytest]\naddopts = -q\n")
        self.write_rows(rows())
        self.write(**MODES[mode])
        self.answer(right)
        assert self.project.run("--promptfit-update").ret == 0
        self.project.git("init", "--quiet", "--initial-branch=main")
        self.commit("right")
        self.project.git("checkout", "--quiet", "-b", "topic")
        self.edit(prompt={**self.config()["prompt"], "system_prompt": "Mood?"})
        self.answer(broken)

    def write(self, **fields: Any) -> None:
        self.prompt.parent.mkdir(exist_ok=True)
        value = {
            "model": {"provider": "openai", "name": "m", "base_url": "https://models.example/v1"},
            "prompt": {"system_prompt": "Is the mood good or bad?"},
            "labels": ["good", "bad"],
            "samples": {"file": "mood.csv", "id": "id"},
            "canonical": [CANONICAL],
            **fields,
        }
        self.prompt.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")

    def config(self) -> dict[str, Any]:
        value: dict[str, Any] = yaml.safe_load(self.prompt.read_text(encoding="utf-8"))
        return value

    def edit(self, *, without: str = "", **fields: Any) -> None:
        """Change keys of the prompt file."""
        value = {**self.config(), **fields}
        value.pop(without, None)
        self.prompt.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")

    def write_rows(self, found: Sequence[dict[str, str]], name: str = "mood.csv") -> None:
        path = self.prompt.with_name(name)
        path.parent.mkdir(exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as sink:
            writer = csv.DictWriter(sink, list(found[0]))
            writer.writeheader()
            writer.writerows(found)

    def answer(self, says: Callable[[str], str], *, prompt: Path | None = None, cassettes: str = "cassettes") -> None:
        """Record what a model says to all samples, as ``--promptfit-record=all`` would."""
        parsed = parse_prompt_file(prompt or self.prompt)
        samples = read_samples(parsed)
        classifier, words = load_prompt(parsed.path), words_of(samples.labels, parsed.config.prompt.label_words)
        url = provider_of(parsed.config.model, parsed.path.parent).url
        with Recorder.open(self.path / cassettes / parsed.name, replace=True) as recorder:
            for sample in samples.samples:
                said = says(sample.text)
                asked = Asked.of(url, classifier.payload(sample.text), sample.id)
                recorder.keep(asked.answered(reply_of(f"<label>{words.get(said, said)}</label>")))

    def accept(self) -> None:
        """Write the baseline of the branch by force."""
        self.project.run("--promptfit-update=force")

    def commit(self, message: str = "worse") -> None:
        self.project.git("add", "--all")
        self.project.git("commit", "--quiet", "--allow-empty", f"--message={message}")

    def judged(self, *arguments: object) -> Any:
        return self.project.run("--promptfit-against", "main", *arguments)


def reply_of(text: str) -> str:
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})


def copy_into(made: Path, folder: Path) -> None:
    shutil.copytree(made, folder, dirs_exist_ok=True, symlinks=True)
