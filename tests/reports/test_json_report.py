"""``--promptfit-json``: the results for machines, with the documented keys and the figures of scikit-learn."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from mood_project import MOODS
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from pytest_promptfit.evaluation.metrics import mcnemar_midp, wilson_interval

if TYPE_CHECKING:
    from mood_project import Project

LABELS = ["good", "bad", "odd"]
ROWS = (
    *MOODS,
    ("w1", "a dreadful bore, and I loved it", "good"),
    ("w2", "a lovely mess", "bad"),
    ("w3", "a lovely duck that barks", "odd"),
    ("w4", "nothing much", "odd"),
    ("u1", "mumble", "odd"),
)
CANONICAL = [
    {"id": "c1", "text": "a lovely dog", "label": "good"},
    {"id": "c2", "text": "a lovely rat", "label": "bad"},
]

KEYS = {
    "": {"version", "prompts", "tune"},
    "prompt": {
        "name",
        "path",
        "model",
        "prompt_hash",
        "labeled",
        "canonical",
        "metrics",
        "baseline",
        "gates",
        "usage",
        "cases",
    },
    "labeled": {"total", "correct", "missing"},
    "canonical": {"total", "correct"},
    "metrics": {"accuracy", "accuracy_ci95", "macro_f1", "labels", "confusion"},
    "label": {"precision", "recall", "f1", "support"},
    "baseline": {"accuracy", "fixed", "broken", "p_value"},
    "gate": {"name", "passed", "detail"},
    "usage": {"calls", "replayed", "input_tokens", "output_tokens", "usd"},
    "case": {"id", "kind", "label", "predicted", "correct", "outcome"},
}
"""What the documentation promises; a report may say more."""


@pytest.fixture
def prompt(project: Project) -> dict[str, Any]:
    """What the report says of a prompt with every kind of outcome and a baseline."""
    project.write(ROWS, labels=LABELS, canonical=CANONICAL, gates={"accuracy": 0.4, "missing": 0.0})
    project.record()
    project.replay("--promptfit-update")
    (prompt,) = project.report()["prompts"]
    return dict(prompt)


def judged(prompt: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return gold and predicted labels as scikit-learn takes them."""
    cases = [case for case in prompt["cases"] if case["kind"] == "labeled"]
    return [case["label"] for case in cases], [case["predicted"] or "(missing)" for case in cases]


def test_documented_keys_are_there(project: Project, prompt: dict[str, Any]) -> None:
    report = json.loads((project.path / "report.json").read_text(encoding="utf-8"))
    assert KEYS[""] <= report.keys()
    assert (report["version"], report["tune"]) == (1, [])
    assert KEYS["prompt"] <= prompt.keys()
    for part in ("labeled", "canonical", "metrics", "baseline", "usage"):
        assert KEYS[part] <= prompt[part].keys()
    assert all(KEYS["label"] <= figures.keys() for figures in prompt["metrics"]["labels"].values())
    assert all(KEYS["gate"] <= gate.keys() for gate in prompt["gates"])
    assert all(KEYS["case"] <= case.keys() for case in prompt["cases"])


def test_counts(prompt: dict[str, Any]) -> None:
    assert (prompt["name"], prompt["path"], prompt["model"]) == ("mood", "mood.prompt.yaml", "openai/m")
    assert {key: prompt["labeled"][key] for key in KEYS["labeled"]} == {"total": 9, "correct": 4, "missing": 1}
    assert prompt["canonical"] == {"total": 2, "correct": 1}
    assert prompt["usage"] == {"calls": 11, "replayed": 11, "input_tokens": 1100, "output_tokens": 110, "usd": 0.0}
    assert [(gate["name"], gate["passed"]) for gate in prompt["gates"]] == [
        ("accuracy", True),
        ("missing", False),
        ("regression", True),
    ]


def test_metrics_are_those_of_scikit_learn(prompt: dict[str, Any]) -> None:
    gold, predicted = judged(prompt)
    metrics = prompt["metrics"]
    assert metrics["accuracy"] == pytest.approx(accuracy_score(gold, predicted))
    assert metrics["accuracy_ci95"] == pytest.approx(list(wilson_interval(4, 9)))
    assert metrics["macro_f1"] == pytest.approx(
        f1_score(gold, predicted, labels=LABELS, average="macro", zero_division=0)
    )
    figures = precision_recall_fscore_support(gold, predicted, labels=LABELS, zero_division=0)
    for label, *expected in zip(LABELS, *figures, strict=True):
        found = metrics["labels"][label]
        assert [found["precision"], found["recall"], found["f1"], found["support"]] == pytest.approx(expected)


def test_confusion_is_that_of_scikit_learn(prompt: dict[str, Any]) -> None:
    columns = [*LABELS, "(missing)"]
    matrix = confusion_matrix(*judged(prompt), labels=columns)
    found = prompt["metrics"]["confusion"]
    for gold, row in zip(columns, matrix, strict=True):
        assert [found.get(gold, {}).get(predicted, 0) for predicted in columns] == list(row)


def test_cases_tell_label_prediction_and_outcome(prompt: dict[str, Any]) -> None:
    cases = {
        case["id"]: (case["kind"], case["predicted"], case["correct"], case["outcome"]) for case in prompt["cases"]
    }
    assert list(cases) == ["c1", "c2", *(row[0] for row in ROWS)]
    assert cases["c1"] == ("canonical", "good", True, "passed")
    assert cases["c2"] == ("canonical", "good", False, "failed")
    assert cases["s1"] == ("labeled", "good", True, "passed")
    assert cases["w1"] == ("labeled", "bad", False, "xfailed")
    assert cases["u1"] == ("labeled", None, False, "xfailed")


def test_baseline_tells_fixed_and_broken(project: Project) -> None:
    project.write(MOODS, cases="gated")
    project.record("--promptfit-update")
    project.model.says = lambda text: "<label>good</label>" if "a lovely day" in text else "<label>bad</label>"
    project.ask_anew()
    (prompt,) = project.report()["prompts"]
    assert prompt["baseline"] == {
        "accuracy": 1.0,
        "fixed": 0,
        "broken": 1,
        "p_value": mcnemar_midp(1, 0),
        "served": [{"model": "test", "replies": 0, "fingerprints": []}],
        "answered_by": "",
    }
    assert {case["outcome"] for case in prompt["cases"]} == {"passed", "missed"}


def test_without_a_baseline(project: Project) -> None:
    project.write()
    project.record()
    (prompt,) = project.report()["prompts"]
    assert prompt["baseline"] is None
    assert prompt["gates"] == [
        {"name": "regression", "passed": None, "detail": "no baseline yet: --promptfit-update writes it"}
    ]


def test_without_replies(project: Project) -> None:
    project.write()
    (prompt,) = project.report()["prompts"]
    assert prompt["labeled"] == {"total": 0, "correct": 0, "missing": 0, "unanswered": 4}
    assert prompt["metrics"]["accuracy"] is prompt["metrics"]["accuracy_ci95"] is prompt["metrics"]["macro_f1"] is None
    assert {(case["predicted"], case["correct"], case["outcome"]) for case in prompt["cases"]} == {
        (None, False, "failed")
    }


def test_recording_counts_what_was_replayed_and_what_is_paid(project: Project) -> None:
    project.write()
    project.record("-k", "s1")
    project.record("--promptfit-json=report.json")
    (prompt,) = json.loads((project.path / "report.json").read_text(encoding="utf-8"))["prompts"]
    assert prompt["usage"] == {"calls": 4, "replayed": 1, "input_tokens": 400, "output_tokens": 40, "usd": None}


def test_prompts_are_in_the_order_of_their_paths(project: Project) -> None:
    for name in ("b", "c", "a"):
        project.write(at=f"{name}.prompt.yaml")
    project.record()
    report = project.report("c.prompt.yaml", "b.prompt.yaml", "a.prompt.yaml")
    assert [prompt["name"] for prompt in report["prompts"]] == ["a", "b", "c"]


def test_path_is_as_typed_where_pytest_was_started(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(at="a/b/mood.prompt.yaml")
    (project.path / "pytest.ini").write_text("[pytest]\n")
    project.record()
    monkeypatch.chdir(project.path / "a")
    assert project.report()["prompts"][0]["path"] == "b/mood.prompt.yaml"


def test_report_replaces_an_older_one_in_one_step(project: Project) -> None:
    path = project.path / "report.json"
    path.write_text("old")
    path.chmod(0o640)
    project.write()
    with path.open() as reader:
        project.report()
        assert reader.read() == "old"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in project.path.iterdir() if "report" in each.name] == ["report.json"]


@pytest.mark.parametrize("target", ["no/such/folder/report.json", "folder", "mood.csv/report.json"])
def test_path_that_cannot_be_written_is_one_line(project: Project, target: str) -> None:
    project.write()
    project.record()
    (project.path / "folder").mkdir()
    result = project.replay(f"--promptfit-json={target}", "--promptfit-update")
    assert result.ret == 1
    (line,) = [line for line in result.outlines if line.startswith("error:")]
    assert line.startswith(f"error: --promptfit-json {target}: cannot be written: ")
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert len(project.baseline()["cases"]) == 4
    assert os.listdir(project.path / "folder") == []  # noqa: PTH208 - hidden files too
    assert not [path for path in project.path.iterdir() if path.name.startswith(".report")]


def test_collecting_writes_no_report(project: Project) -> None:
    project.write()
    project.replay("--promptfit-json=report.json", "--collect-only")
    assert not (project.path / "report.json").exists()
