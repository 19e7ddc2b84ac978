"""What optimizers make of one plain prompt, on labeled tasks: ``python -m tests.benchmarks.tuning --table``.

A task is three files, ``NAME.train.csv``, ``NAME.dev.csv`` and ``NAME.test.csv``, with the columns ``text`` and
``label``. Optimizers see train and dev; a figure counts on test alone. All rows of the table ask the same task model,
and those that want one the same optimizer model, within the same number of calls. Every reply is recorded below the
work folder as it arrives, so a run that was killed goes on where it stopped, and a finished one replays for nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import yaml

from pytest_promptfit.api import evaluate, tune
from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.prompts.model import ModelSpec
from pytest_promptfit.prompts.samples import Sample, normal_form, text_id
from pytest_promptfit.prompts.split import place_of
from pytest_promptfit.providers.wire import provider_of
from tests.benchmarks.table_figures import figures, markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_promptfit.evaluation.outcomes import Evaluation

START = "Classify the text into exactly one of: {labels}. Answer with the label and nothing else."
PARAMS = {"temperature": 0, "max_tokens": 64}
OPTIMIZER_PARAMS = {"temperature": 0.7, "max_tokens": 600}
TUNED_FOLDER = "cassettes"
"""Below the folder of a cell: all that its optimizer asked."""


@dataclass(frozen=True)
class Task:
    """A labeled task: what an optimizer may see, and what it is judged on."""

    name: str
    labels: tuple[str, ...]
    train: tuple[Sample, ...]
    dev: tuple[Sample, ...]
    test: tuple[Sample, ...]

    @property
    def known(self) -> tuple[Sample, ...]:
        """All rows that an optimizer may see."""
        return (*self.train, *self.dev)


@dataclass(frozen=True)
class Settings:
    """What all cells of a table have in common."""

    model: dict[str, Any]
    optimizer: dict[str, Any]
    calls: int = 600
    optimizer_calls: int = 20
    test_rows: int = 300
    start: str = START


@dataclass(frozen=True)
class Spent:
    """Replies that were needed, whether or not a killed run had asked for them before; seconds are the replies'."""

    calls: int = 0
    optimizer_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Cell:
    """What one row of the table comes to on one task, with one seed.

    ``right`` has 1 or 0 for each test row; of ``unread`` of them no label could be read from the reply.
    """

    task: str
    row: str
    seed: int
    right: list[int]
    tuning: Spent = field(default_factory=Spent)
    test: Spent = field(default_factory=Spent)
    note: str = ""
    unread: int = 0

    @property
    def accuracy(self) -> float:
        """The share of test rows that are right."""
        return mean(self.right)


@dataclass(frozen=True)
class Place:
    """Where a cell is made, and how many calls may be in flight."""

    task: Task
    row: str
    seed: int
    settings: Settings
    work: Path
    concurrency: int = 1

    @property
    def folder(self) -> Path:
        """Its own folder."""
        return self.work / self.task.name / f"{self.row}-{self.seed}"


def read_task(folder: Path, name: str, test_rows: int) -> Task:
    """Read a task's files; of two rows with the same text the first counts, and test is its first ``test_rows``."""
    train, dev, test = (_rows(folder / f"{name}.{part}.csv") for part in ("train", "dev", "test"))
    known = _distinct([*train, *dev])
    labels = tuple(sorted({sample.label for sample in (*train, *dev, *test)}))
    in_train = {sample.id for sample in train}
    return Task(
        name,
        labels,
        tuple(sample for sample in known if sample.id in in_train),
        tuple(sample for sample in known if sample.id not in in_train),
        tuple(_distinct(test)[:test_rows]),
    )


def _rows(path: Path) -> list[Sample]:
    with path.open(encoding="utf-8", newline="") as file:
        return [Sample(text_id(row["text"]), row["text"], row["label"]) for row in csv.DictReader(file)]


def _distinct(samples: Iterable[Sample]) -> list[Sample]:
    found: dict[str, Sample] = {}
    for sample in samples:
        found.setdefault(normal_form(sample.text), sample)
    return list(found.values())


def write_prompt(place: Place, system_prompt: str, **more: Any) -> Path:
    """Write a prompt file and its samples into the cell's folder."""
    task, settings = place.task, place.settings
    place.folder.mkdir(parents=True, exist_ok=True)
    with (place.folder / "known.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("text", "label"), *((sample.text, sample.label) for sample in task.known)])
    path = place.folder / f"{task.name}.prompt.yaml"
    content = {
        "name": task.name,
        "model": settings.model,
        "params": PARAMS,
        "prompt": {"system_prompt": system_prompt},
        "labels": list(task.labels),
        "samples": "known.csv",
        **more,
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000), encoding="utf-8")
    return path


def judged(place: Place, path: Path, *, tuning: Spent | None = None, note: str = "") -> Cell:
    """Return the cell of a prompt file: the same request about test is asked once for all cells of the task."""
    # A server may answer it in another way the next time, and the same prompt would get two figures.
    folder = place.work / place.task.name / "test"
    given = [(sample.text, sample.label) for sample in place.task.test]
    found = evaluate(path, given, record="missing", cassettes=folder, concurrency=place.concurrency)
    if found.unanswered:
        raise RuntimeError(f"{path}: {len(found.unanswered)} test rows have no reply: {found.unanswered[0].error}")
    right = [int(outcome.correct) for outcome in found.outcomes]
    unread = sum(outcome.predicted is None for outcome in found.outcomes)
    return Cell(place.task.name, place.row, place.seed, right, tuning or Spent(), _spent_on_test(found), note, unread)


def _spent_on_test(found: Evaluation) -> Spent:
    seconds = math.fsum(outcome.seconds or 0.0 for outcome in found.outcomes)
    return Spent(len(found.outcomes), 0, found.usage.input_tokens, found.usage.output_tokens, round(seconds, 1))


def spent(place: Place, below: str = TUNED_FOLDER) -> Spent:
    """Return what is recorded in the cell's folder: all that its optimizer asked, each request once."""
    task_spec, optimizer_spec = (ModelSpec.model_validate(m) for m in (place.settings.model, place.settings.optimizer))
    task_name = provider_of(task_spec, place.folder).payload(_nothing(task_spec.name))["model"]
    provider = provider_of(optimizer_spec, place.folder)
    total = Spent()
    for folder in sorted({path.parent for path in (place.folder / below).rglob("*.yaml")}):
        if folder.name == place.task.name:  # the harness's own: copies of what tuning asked
            continue
        for entry in Cassette.load(folder):
            reply = provider.reply(json.loads(entry.body), "")
            is_task = json.loads(entry.request_body)["model"] == task_name
            total = replace(
                total,
                calls=total.calls + is_task,
                optimizer_calls=total.optimizer_calls + (not is_task),
                input_tokens=total.input_tokens + reply.input_tokens,
                output_tokens=total.output_tokens + reply.output_tokens,
                seconds=round(total.seconds + (entry.seconds or 0.0), 1),
            )
    return total


def _nothing(model: str) -> Any:
    from pytest_promptfit.chat.request import ChatRequest, Turn

    return ChatRequest(model, "", (Turn("user", ""),), params={})


def free(place: Place) -> Cell:
    """Judge a classifier without a language model."""
    started = time.perf_counter()
    said = by_logistic_regression(place.task.known, [sample.text for sample in place.task.test])
    seconds = round(time.perf_counter() - started, 1)
    right = [int(label == sample.label) for label, sample in zip(said, place.task.test, strict=True)]
    return Cell(place.task.name, place.row, place.seed, right, Spent(seconds=seconds))


def by_logistic_regression(known: Sequence[Sample], texts: Sequence[str]) -> list[str]:
    """Return what scikit-learn's usual pipeline for texts says, learned from known samples."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    model = make_pipeline(make_union(words, letters), LogisticRegression(C=10, class_weight="balanced", max_iter=1000))
    rows = sorted(known, key=lambda sample: place_of(sample.text))
    model.fit([normal_form(sample.text) for sample in rows], [sample.label for sample in rows])
    return [str(label) for label in model.predict([normal_form(text) for text in texts])]


def start(place: Place) -> Cell:
    """Judge the prompt that all optimizers start from."""
    return judged(place, write_prompt(place, place.settings.start))


def ours(place: Place, optimizer: dict[str, Any] | None = None) -> Cell:
    """Tune as ``pytest --tune`` does, and judge what the file says then."""
    settings = place.settings
    budget = {"task_calls": settings.calls, "optimizer_calls": settings.optimizer_calls if optimizer else 0}
    more: dict[str, Any] = {"budget": budget}
    if optimizer:
        more |= {"model": optimizer, "params": OPTIMIZER_PARAMS}
    # What a run that was killed has made of these is made again, from its recordings.
    path = write_prompt(place, settings.start, tune=more)
    path.with_name(f"{place.task.name}.baseline.json").unlink(missing_ok=True)
    cassettes = place.folder / TUNED_FOLDER
    result = tune(path, seed=place.seed, cassettes=cassettes, concurrency=place.concurrency)
    place.folder.joinpath("diff.txt").write_text("\n".join(result.diff), encoding="utf-8")
    note = f"{'rewritten' if result.accepted else 'left alone'}: {result.reason}"
    return judged(place, path, tuning=spent(place), note=note)


def ours_with_optimizer(place: Place) -> Cell:
    """Tune with an optimizer model."""
    return ours(place, place.settings.optimizer)


def _peer(name: str) -> Callable[[Place], Cell]:
    def make(place: Place) -> Cell:
        from tests.benchmarks import peers

        cell: Cell = getattr(peers, name)(place)
        return cell

    return make


ROWS: dict[str, Callable[[Place], Cell]] = {
    "start": start,
    "free": free,
    "ours": ours,
    "ours+optimizer": ours_with_optimizer,
    "gepa": _peer("gepa"),
    "bfrs": _peer("bfrs"),
    "mipro": _peer("mipro"),
}
SEEDED = ("ours", "ours+optimizer")
"""The rows that have as many seeds as are wanted; the others have one."""


def cells(places: Iterable[Place], *, only_made: bool, told: Callable[[str], None]) -> Iterator[Cell]:
    """Yield the cells: made, or as they were written when they were made with the same settings before."""
    for place in places:
        path = place.folder / "cell.json"
        settings = asdict(place.settings)
        if path.is_file() and (found := json.loads(path.read_text(encoding="utf-8")))["settings"] == settings:
            yield _read(found["cell"])
            continue
        if only_made:
            continue
        started = time.monotonic()
        cell = ROWS[place.row](place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"settings": settings, "cell": asdict(cell)}) + "\n", encoding="utf-8")
        seconds = time.monotonic() - started
        told(f"{cell.task}, {cell.row}, seed {cell.seed}: {cell.accuracy:.3f} in {seconds:.0f} s. {cell.note}")
        yield cell


def _read(found: dict[str, Any]) -> Cell:
    return Cell(**{**found, "tuning": Spent(**found["tuning"]), "test": Spent(**found["test"])})


def main(arguments: Sequence[str]) -> None:
    """Make the table that the command line says."""
    chosen = _parsed(arguments)
    names = chosen.tasks or sorted(path.name.removesuffix(".test.csv") for path in chosen.data.glob("*.test.csv"))
    models = [model_of(name, chosen.base_url) for name in (chosen.model, chosen.optimizer)]
    settings = Settings(*models, chosen.calls, chosen.optimizer_calls, chosen.test_rows)
    places = [
        Place(read_task(chosen.data, name, chosen.test_rows), row, seed, settings, chosen.work, chosen.concurrency)
        for row in chosen.rows
        for name in names
        for seed in (chosen.seeds if row in SEEDED else chosen.seeds[:1])
    ]
    found = list(cells(places, only_made=chosen.only_made, told=lambda line: print(line, file=sys.stderr, flush=True)))
    print(*markdown(found, names, chosen.rows), sep="\n")
    report = {"version": 1, "settings": asdict(settings), "cells": figures(found)}
    path = chosen.json or chosen.work / "table.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def model_of(said: str, base_url: str | None) -> dict[str, Any]:
    """Return the model of ``provider/name``, at another server than its provider's where one is named."""
    provider, _, name = said.partition("/")
    return {"provider": provider, "name": name, **({"base_url": base_url} if base_url else {})}


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", required=True, help="this, and not what the loop takes")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where the tasks' files are")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="recordings, prompts and results")
    parser.add_argument("--model", required=True, help="the task model, such as openai/gpt-4.1-nano")
    parser.add_argument("--optimizer", required=True, help="the model that proposes, for the rows that want one")
    parser.add_argument("--base-url", metavar="URL", help="the server of both models; default: the provider's own")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help="default: all in the folder")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of our rows; others have the first")
    parser.add_argument("--calls", type=int, default=600, help="task calls of an optimizer (default: 600)")
    parser.add_argument("--optimizer-calls", type=int, default=20, help="calls of the optimizer model (default: 20)")
    parser.add_argument("--test-rows", type=int, default=300, help="the first rows of test (default: 300)")
    parser.add_argument("--concurrency", type=int, default=1, help="calls in flight at once (default: 1)")
    parser.add_argument("--only-made", action="store_true", help="show what was made before, and ask nothing")
    parser.add_argument("--json", type=Path, metavar="PATH", help="the figures; default: table.json in --work")
    return parser.parse_args(arguments)
