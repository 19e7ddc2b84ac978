"""``slices``: accuracy by further columns of the data file, in terminal, JSON and page, and a gate that names one."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
from scipy.stats import binomtest
from summary_lines import gate

from pytest_promptfit import PromptFileError, evaluate, load_prompt
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples

if TYPE_CHECKING:
    from pathlib import Path

    from browser import Browser
    from mood_project import Project

RIGHT = {"en": (9, 10), "de": (3, 5), "": (1, 1)}
"""Right answers and samples by language."""


def write(project: Project, **fields: Any) -> Path:
    path = project.write(cases="gated", **fields)
    with (project.path / "mood.csv").open("w", encoding="utf-8", newline="") as sink:
        rows = [("id", "text", "label", "language", "source")]
        for language, (right, total) in RIGHT.items():
            rows += [
                (
                    f"{language}{n}",
                    f"a {'lovely' if n < right else 'dreadful'} day {language}{n}",
                    "good",
                    language,
                    "a",
                )
                for n in range(total)
            ]
        csv.writer(sink).writerows(rows)
    return path


def interval(right: int, total: int) -> list[float]:
    found = binomtest(right, total).proportion_ci(method="wilson")
    return [pytest.approx(found.low), pytest.approx(found.high)]


def test_accuracy_by_a_column_with_intervals(project: Project, browser: Browser) -> None:
    write(project, slices=["language", "source"])
    project.record()
    result = project.replay("--promptfit-json=report.json", "--promptfit-report=report.html")
    result.stdout.fnmatch_lines(
        [
            "  language   accuracy      95 % interval  samples",
            "  en           90.0 %   59.6 % to 98.2 %       10",
            "  de           60.0 %   23.1 % to 88.2 %        5",
            "  (empty)     100.0 %  20.7 % to 100.0 %        1",
            "  source   accuracy      95 % interval  samples",
            "  a          81.2 %   57.0 % to 93.4 %       16",
        ]
    )
    (prompt,) = json.loads((project.path / "report.json").read_text())["prompts"]
    assert list(prompt["metrics"]["slices"]) == ["language", "source"]
    assert prompt["metrics"]["slices"]["language"] == {
        value: {"total": n, "correct": right, "accuracy": right / n, "accuracy_ci95": interval(right, n)}
        for value, (right, n) in RIGHT.items()
    }
    browser.open(project.path / "report.html")
    (by_language, by_source) = browser.all("#prompt-1-slices section")
    assert by_language.text.splitlines()[0] == "By language"
    assert "de 5 60.0" in by_language.text.replace("\u00a0", " ")
    assert "(empty)" in by_language.text
    assert "a 16" in by_source.text


def test_the_same_under_xdist(project: Project) -> None:
    write(project, slices=["language"])
    project.record()
    alone = project.report()
    assert project.report("-p", "xdist", "-n2", "--dist=load") == alone


@pytest.mark.parametrize(
    ("floors", "verdict"),
    [
        ({"de": 0.6}, "passed: slices language de: 60.0 % of 5, floor 60.0 %"),
        ({"de": 0.61}, "FAILED: slices language de: 60.0 % of 5, floor 61.0 %"),
        (
            {"en": 0.9, "fr": 0.5},
            "FAILED: slices language en: 90.0 % of 10, floor 90.0 %; language fr: no samples to show it, floor 50.0 %",
        ),
    ],
)
def test_a_gate_holds_a_slice_to_a_floor(project: Project, floors: dict[str, float], verdict: str) -> None:
    write(project, gates={"slices": {"language": floors}})
    result = project.record("-v")
    assert gate(result, "slices") == f"gate slices: {verdict}"
    assert result.ret == (0 if verdict.startswith("passed") else 1)
    if "de" in floors and result.ret:
        assert any("behind it: sample-de3, sample-de4" in line for line in result.outlines)
    skipped = project.replay("-k", "en", "-rs")
    assert "are not selected" in skipped.stdout.str()


def test_a_change_must_not_take_a_slice_out_of_the_contract(project: Project) -> None:
    write(project, gates={"accuracy": 0.5, "slices": {"language": {"de": 0.5}}})
    project.record("--promptfit-update")
    project.git("init", "--quiet", "--initial-branch=main")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message=first")
    write(project, gates={"accuracy": 0.5, "slices": {"language": {"de": 0.4}}})
    result = project.replay("--promptfit-against", "main")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*gate slices of language de: 0.5 → 0.4 (at main)*"])
    write(project, gates={"accuracy": 0.5})
    result = project.replay("--promptfit-against", "main", "--promptfit-accept-contract")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*gate slices of language de: removed (was 0.5) (at main)*"])


SAMPLES_OF_ITS_OWN = [{"text": "a lovely day", "label": "good"}]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"slices": ["langage"]},
            "slices.0: 'langage': no column of mood.csv besides those of the samples; did you mean `language`?",
        ),
        ({"slices": ["label"]}, "slices.0: 'label': no column of mood.csv besides those of the samples; did you mean"),
        (
            {"gates": {"slices": {"sorce": {"a": 0.5}}}},
            "gates.slices.sorce: 'sorce': no column of mood.csv besides those of the samples; did you mean `source`?",
        ),
        ({"gates": {"slices": {"source": {"a": 2}}}}, "gates.slices.source.a: 2: expected at most 1.0"),
        ({"gates": {"slices": {"source": 0.5}}}, "gates.slices.source: 0.5: expected a mapping"),
        ({"slices": "language"}, "slices: 'language': expected a list"),
        (
            {"slices": ["language"], "samples": SAMPLES_OF_ITS_OWN},
            "slices.0: 'language': no column of a data file besides those of the samples; it has none",
        ),
    ],
)
def test_a_mistake_is_one_line(project: Project, fields: dict[str, Any], said: str) -> None:
    path = write(project, **fields)
    line = next(at for at, text in enumerate(path.read_text().splitlines(), 1) if text.startswith(("slices", "gates")))
    with pytest.raises(PromptFileError) as caught:
        read_samples(parse_prompt_file(path))
    place, _, message = str(caught.value).partition(": ")
    assert message.startswith(said)
    assert int(place.rpartition(":")[2]) >= line


def test_many_values_are_cut_in_the_terminal_and_whole_in_json(project: Project) -> None:
    path = project.write(cases="gated", slices=["user"])
    rows = "".join(f"a lovely day {n},good,u{n:02}\n" for n in range(20))
    (project.path / "mood.csv").write_text(f"text,label,user\n{rows}")
    path.write_text(path.read_text().replace("  id: id\n", ""))
    project.record()
    result = project.replay()
    result.stdout.fnmatch_lines(["  u11 *", "  8 more values: -v tells all of them"])
    assert "u19" not in result.stdout.str()
    assert "  u19 " in project.replay("-v").stdout.str()
    assert len(project.report()["prompts"][0]["metrics"]["slices"]["user"]) == 20


def test_production_and_scripts_take_the_file_as_it_is(project: Project) -> None:
    path = write(project, slices=["language"])
    with load_prompt(path) as classify:
        assert classify("a lovely day").label == "good"
    evaluation = evaluate(path, record="missing")
    assert [(one.value, one.correct, one.total) for one in evaluation.by_slice["language"]] == [
        ("en", 9, 10),
        ("de", 3, 5),
        ("", 1, 1),
    ]
    assert evaluate(path, [("a lovely day", "good")], record="missing").by_slice == {}


def test_a_row_without_the_column_is_an_empty_cell(project: Project) -> None:
    path = project.write(cases="gated", slices=["language"], samples="mood.jsonl")
    (project.path / "mood.jsonl").write_text(
        '{"text": "a lovely day", "label": "good", "language": "en"}\n{"text": "a lovely walk", "label": "good"}\n'
    )
    evaluation = evaluate(path, record="missing")
    assert [(one.value, one.total) for one in evaluation.by_slice["language"]] == [("", 1), ("en", 1)]
    assert list(evaluation.to_frame().language) == ["en", ""]
