"""The table of optimizers, ``python -m tests.benchmarks.tuning --table``, on a made-up task and model."""

from __future__ import annotations

import csv
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from loopback_server import Answer, LoopbackServer, chat, error
from scipy.stats import binomtest
from tuning_models import label_of, system_of, text_of

from pytest_promptfit.errors import CallError
from tests.benchmarks import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RULE = "What is lovely is good."
LIMIT = 130


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a task: 40 train, 30 dev and 21 test rows, the last of test being one of its first again."""
    monkeypatch.setenv("OPENAI_API_KEY", "unused-key")
    texts = [(f"a {('lovely', 'dreadful')[n % 2]} day of {1900 + n}", ("good", "bad")[n % 2]) for n in range(90)]
    for part, rows in (("train", texts[:40]), ("dev", texts[40:70]), ("test", [*texts[70:], texts[70]])):
        with (tmp_path / f"mood.{part}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    return tmp_path


class Models:
    """A task model that needs examples, or the rule, and an optimizer that knows it; ``calls`` may come to an end."""

    def __init__(self) -> None:
        self.calls: float = float("inf")
        self.answered: Counter[str] = Counter()

    def __call__(self, seen: Any) -> Answer:
        if self.calls <= 0:
            return error(401, "no more")
        self.calls -= 1
        self.answered[seen.content.decode()] += 1
        body = seen.body
        if body["model"] == "optimizer":
            return chat(f"```\n{RULE} Answer good or bad.\n```")
        knows = RULE in system_of(body) or len({label_of(m["content"]) for m in body["messages"][:-1]}) == 2
        label = "good" if "lovely" in text_of(body) and knows else "bad"
        return chat(f"[[ ## label ## ]]\n{label}" if "[[ ## label ## ]]" in text_of(body) else label)


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
def make(task: Path, models: Models) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    with LoopbackServer(models) as server:

        def run(*arguments: str) -> list[dict[str, Any]]:
            models_of = ["--model=openai/task", "--optimizer=openai/optimizer", f"--base-url={server.url}/v1"]
            where = [f"--data={task}", f"--work={task / 'work'}", "--calls=160", "--seeds", "0"]
            table.main(["--table", *models_of, *where, *arguments])
            found: list[dict[str, Any]] = json.loads((task / "work" / "table.json").read_text())["cells"]
            return found

        yield run


def test_rows_are_judged_on_test_and_paired(
    make: Callable[..., list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    start, free, ours = make("--rows", "start", "free", "ours")
    assert start["right"] == "01" * 10
    assert free["right"] == ours["right"] == "1" * 20
    assert start["interval"] == [0.2993, 0.7007]  # scipy.stats.binomtest(10, 20).proportion_ci(method="wilson")
    p = binomtest(10, 10).pvalue
    assert ours["against"] == {"start": {"fixed": 10, "broke": 0, "p": float(f"{p:.3g}")}}
    assert free["against"]["ours"] == {"fixed": 0, "broke": 0, "p": 1.0}
    assert 0 < ours["tuning"]["calls"] <= 160
    assert start["tuning"]["calls"] == free["test"]["calls"] == 0
    out = capsys.readouterr().out
    assert "| `--tune`, no optimizer model | 1.000 | 1.000 |" in out
    assert "+10 −0, p .002 |" in out


def test_a_run_that_was_stopped_goes_on_and_asks_nothing_twice(
    make: Callable[..., list[dict[str, Any]]], models: Models, task: Path
) -> None:
    models.calls = LIMIT
    with pytest.raises(CallError, match="401"):
        make("--rows", "start", "ours")
    models.calls = float("inf")
    (start, ours) = make("--rows", "start", "ours")
    assert max(models.answered.values()) == 1
    assert models.answered.total() == 20 + ours["tuning"]["calls"] + 20
    for path in task.rglob("cell.json"):
        path.unlink()
    models.calls = 0
    assert make("--rows", "start", "ours") == [start, ours]


def test_what_was_not_made_is_said(
    make: Callable[..., list[dict[str, Any]]], models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    make("--rows", "start")
    models.calls = 0
    (start,) = make("--rows", "start", "ours", "--only-made")
    assert start["row"] == "start"
    assert "| `--tune`, no optimizer model | not run | – |" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")
@pytest.mark.parametrize(("row", "package"), [("gepa", "gepa"), ("bfrs", "dspy")])
def test_peers_keep_within_the_calls_and_resume(
    make: Callable[..., list[dict[str, Any]]], models: Models, task: Path, row: str, package: str
) -> None:
    pytest.importorskip(package)
    (cell,) = make("--rows", row)
    assert cell["right"] == "1" * 20
    assert cell["tuning"]["optimizer_calls"] == (row == "gepa")
    assert 0 < cell["tuning"]["calls"] <= 160
    next(task.rglob("cell.json")).unlink()
    models.calls = 0
    assert make("--rows", row) == [cell]
