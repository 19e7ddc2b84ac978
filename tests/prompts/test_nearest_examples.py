"""``prompt.examples: {nearest: 8, from: train.csv}``: each text is shown after the labeled rows most like it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import command_line
import pytest
from mood_project import PROMPT, Project
from summary_lines import gate

from pytest_promptfit import load_prompt
from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.prompts.model import Prompt
from pytest_promptfit.prompts.split import place_of

if TYPE_CHECKING:
    from pathlib import Path

TRAIN = (
    ("a lovely day by the sea", "good"),
    ("a lovely day in the hills", "good"),
    ("a dreadful walk in the rain", "bad"),
    ("a dreadful walk through the mud", "bad"),
    ("the soup was cold", "bad"),
    ("the soup was warm and rich", "good"),
)
SAMPLES = (
    ("s1", "a lovely afternoon near the sea", "good"),
    ("s2", "such a dreadful walk, nothing but wind and rain", "bad"),
    ("s3", "they served us soup that was quite cold", "bad"),
)
NEAREST = PROMPT | {"examples": {"nearest": 2, "from": "train.csv"}}


def write_train(project: Project, rows: tuple[tuple[str, str], ...] = TRAIN, name: str = "train.csv") -> None:
    with (project.path / name).open("w", encoding="utf-8", newline="") as sink:
        csv.writer(sink).writerows([("text", "label"), *rows])


@pytest.fixture
def nearest(project: Project) -> Project:
    """A project whose prompt draws its examples from train.csv."""
    write_train(project)
    project.write(SAMPLES, prompt=NEAREST)
    return project


def shown(body: dict[str, Any]) -> tuple[list[tuple[str, str]], str]:
    """Return the examples of a request, as texts and replies, and the text that is asked about."""
    said = [message["content"] for message in body["messages"] if message["role"] != "system"]
    texts = [text.removeprefix("<text>").removesuffix("</text>") for text in said[::2]]
    return list(zip(texts[:-1], said[1::2], strict=True)), texts[-1]


def asked(project: Project) -> dict[str, list[tuple[str, str]]]:
    """Return the examples that each text was asked with."""
    bodies = map(json.loads, project.model.asked)
    return {text: examples for examples, text in map(shown, bodies)}


def said(result: pytest.RunResult, case: str) -> str:
    """Return the first line that a failed case says."""
    (at,) = [at for at, line in enumerate(result.outlines) if line.strip("_") == f" {case} "]
    return str(result.outlines[at + 1])


def test_each_text_is_asked_after_the_rows_most_like_it(nearest: Project) -> None:
    nearest.record().assert_outcomes(passed=3, skipped=1)
    assert asked(nearest) == {
        "a lovely afternoon near the sea": [("a lovely day in the hills", "good"), ("a lovely day by the sea", "good")],
        "such a dreadful walk, nothing but wind and rain": [
            ("a dreadful walk through the mud", "bad"),
            ("a dreadful walk in the rain", "bad"),
        ],
        "they served us soup that was quite cold": [
            ("the soup was warm and rich", "good"),
            ("the soup was cold", "bad"),
        ],
    }


def test_a_replay_finds_what_was_sent(nearest: Project) -> None:
    nearest.record()
    nearest.replay().assert_outcomes(passed=3, skipped=1)
    report = nearest.report()
    assert report["prompts"][0]["usage"]["replayed"] == 3


def test_show_and_production_send_the_same(nearest: Project) -> None:
    nearest.record()
    path = nearest.path / "mood.prompt.yaml"
    printed = json.loads(command_line.promptfit("show", path, "--sample", "s2", "--json", cwd=nearest.path).out)
    with load_prompt(path) as classify:
        for body in map(json.loads, nearest.model.asked):
            text = shown(body)[1]
            assert classify.messages(text) == body["messages"]
            assert classify.payload(text) == body
            assert text != "such a dreadful walk, nothing but wind and rain" or printed == body


def test_production_needs_no_samples_where_the_labels_are_listed(nearest: Project) -> None:
    (nearest.path / "mood.csv").unlink()
    with load_prompt(nearest.path / "mood.prompt.yaml") as classify:
        assert classify.messages("why was my soup so cold today")[-2]["content"] == "bad"


def test_a_changed_row_is_missed_by_the_samples_it_touches_alone(nearest: Project) -> None:
    nearest.record()
    write_train(nearest, (*TRAIN[:4], ("the soup was cold", "good"), TRAIN[5]))
    result = nearest.replay("-v")
    result.assert_outcomes(passed=2, failed=1, skipped=1)
    assert said(result, "sample-s3") == "not recorded: the rows of train.csv that are nearest to it changed"


def test_a_new_sample_is_not_said_to_miss_its_examples(nearest: Project) -> None:
    nearest.record()
    nearest.write((*SAMPLES, ("s4", "a grey day", "bad")), prompt=NEAREST)
    result = nearest.replay("-v")
    assert said(result, "sample-s4") == "not recorded: this sample is new, was not asked yet, or its text was edited"


def test_other_parts_are_named_beside_the_rows(nearest: Project) -> None:
    nearest.record()
    nearest.write(SAMPLES, prompt=NEAREST | {"examples": {"nearest": 3, "from": "train.csv"}})
    assert said(nearest.replay("-v"), "sample-s1") == "not recorded: examples changed"
    nearest.write(SAMPLES, prompt=NEAREST | {"system_prompt": "?"})
    assert said(nearest.replay("-v"), "sample-s1") == "not recorded: system_prompt changed"


def test_rows_of_the_samples_own_file_leave_out_holdout_and_canonicals(project: Project) -> None:
    rows = tuple((f"s{n}", f"a {'lovely' if n % 2 else 'dreadful'} day no {n}", "bg"[n % 2]) for n in range(40))
    rows = tuple((key, text, {"b": "bad", "g": "good"}[label]) for key, text, label in rows)
    canonical = [{"text": rows[0][1], "label": "bad"}, {"text": "a lovely new day", "label": "good"}]
    project.write(rows, prompt=PROMPT | {"examples": {"nearest": 64}}, canonical=canonical)
    project.record()
    seen = {text for examples in asked(project).values() for text, _ in examples}
    holdout = {text for _, text, _ in rows if place_of(text) >= 0.8}
    assert holdout
    assert seen == {text for _, text, _ in rows[1:]} - holdout


def test_inline_samples_are_a_pool_too(project: Project) -> None:
    samples = [{"text": text, "label": label} for text, label in TRAIN]
    project.write((), samples=samples, prompt=PROMPT | {"examples": {"nearest": 1}})
    project.record().assert_outcomes(passed=5, failed=1, skipped=1)
    assert all(len(examples) == 1 for examples in asked(project).values())


MISTAKES = {
    "no such file": (
        "{nearest: 2, from: trian.csv}",
        "prompt.examples.from: 'trian.csv': no such file: expected it at *",
    ),
    "a folder": ("{nearest: 2, from: '..'}", "prompt.examples.from: '..': not a regular file: *"),
    "empty file": ("{nearest: 2, from: empty.csv}", "empty.csv:1: empty: expected a first line with the names *"),
    "no rows": ("{nearest: 2, from: head.csv}", "prompt.examples.from: 'head.csv': no rows: expected texts with *"),
    "no such column": (
        "{nearest: 2, from: other.csv}",
        "prompt.examples.from: 'label': no such column in other.csv; did you mean `labels`?",
    ),
    "unknown label": (
        "{nearest: 2, from: wrong.csv}",
        "wrong.csv:3: label: 'godo' is not one of `labels`; did you mean `good`?",
    ),
    "two labels": (
        "{nearest: 2, from: twice.csv}",
        "twice.csv:3: label: 'bad', but the same text has the label 'good' *",
    ),
    "none": ("{nearest: 0, from: train.csv}", "prompt.examples.nearest: 0: expected at least 1"),
    "too many": ("{nearest: 65, from: train.csv}", "prompt.examples.nearest: 65: expected at most 64"),
    "a word": ("{nearest: many, from: train.csv}", "prompt.examples.nearest: 'many': expected a whole number"),
    "not said": ("{from: train.csv}", "prompt.examples.nearest: missing: expected it here"),
    "unknown key": ("{nearest: 2, form: train.csv}", "prompt.examples.form: unknown key; did you mean `from`?"),
    "neither": ("train.csv", "prompt.examples: 'train.csv': expected a list"),
}
FILES = {
    "train.csv": "text,label\na,good\nb,bad\n",
    "empty.csv": "",
    "head.csv": "text,label\n",
    "other.csv": "text,labels\na,good\n",
    "wrong.csv": "text,label\na,good\nb,godo\n",
    "twice.csv": "text,label\na,good\na,bad\n",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name: str, tmp_path: Path) -> None:
    value, expected = MISTAKES[name]
    for file, text in FILES.items():
        (tmp_path / file).write_text(text)
    head = f"model: openai/m\nprompt:\n  system_prompt: Classify.\n  examples: {value}\n"
    path = tmp_path / "p.yaml"
    path.write_text(f"{head}samples: [{{text: fine, label: good}}, {{text: awful, label: bad}}]\n")
    with pytest.raises(PromptFileError) as caught:
        load_prompt(path)
    start = "" if expected.partition(":")[0] in FILES else "p.yaml:4: "
    assert fnmatchcase(str(caught.value).replace(f"{tmp_path}{os.sep}", ""), f"{start}{expected}")


def test_without_samples_the_file_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "p.prompt.yaml"
    path.write_text("model: openai/m\nprompt: {examples: {nearest: 2}}\nlabels: [a, b]\n")
    with pytest.raises(PromptFileError, match=r"p.prompt.yaml:2: prompt.examples.from: missing: expected a file"):
        load_prompt(path)


def test_the_mistake_fails_the_prompt_and_not_the_others(nearest: Project) -> None:
    (nearest.path / "train.csv").unlink()
    nearest.write(at="other.prompt.yaml")
    nearest.record("--continue-on-collection-errors").assert_outcomes(passed=4, errors=1, skipped=1)


def test_a_prompt_without_it_keeps_its_hash() -> None:
    assert Prompt(system_prompt="Classify.").content_hash == "acf51e54bfa5"
    examples = [{"text": "a", "label": "b"}]
    assert Prompt.model_validate({"system_prompt": "Classify.", "examples": examples}).content_hash == "fba179dc7700"


def test_a_replay_without_it_loads_no_scikit_learn(project: Project) -> None:
    project.write(prompt=PROMPT | {"examples": [{"text": "a", "label": "good"}]})
    project.record()
    program = "import sys, pytest; code = pytest.main(['-q', '-p', 'promptfit', '--promptfit']); "
    program += "print(code, *{'numpy', 'pandas', 'scipy', 'sklearn'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], cwd=project.path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"


def test_the_cache_is_not_written_for_turns_that_change(nearest: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a key")
    models = {"provider": "anthropic", "name": "claude-haiku-4-5"}
    path = nearest.write(SAMPLES, prompt=NEAREST, model=models)
    with load_prompt(path) as classify:
        payload = classify.payload("a lovely afternoon near the sea")
    assert payload["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in json.dumps(payload["messages"])


@pytest.fixture
def repository(nearest: Project) -> Project:
    """A repository whose one commit is recorded and accepted."""
    nearest.record("--promptfit-update")
    nearest.git("init", "--quiet", "--initial-branch=main")
    nearest.git("add", ".")
    nearest.git("commit", "--quiet", "--message=first")
    return nearest


def test_rows_that_came_and_went_since_a_ref_are_told_and_loosen_nothing(repository: Project) -> None:
    write_train(repository, (*TRAIN[:5], ("a grey day", "bad"), ("such fine weather", "good")))
    repository.record("--promptfit-update")
    result = repository.replay("--promptfit-against", "main")
    assert result.ret == 0
    said = gate(result, "contract")
    assert said.startswith("gate contract: passed: nothing that main holds it to is loosened")
    assert said.endswith("; 2 rows for its examples came and 1 went since main")


def test_the_train_file_of_a_ref_is_read_from_git(repository: Project) -> None:
    repository.write(SAMPLES, prompt=NEAREST | {"examples": {"nearest": 2, "from": "new.csv"}})
    (repository.path / "train.csv").rename(repository.path / "new.csv")
    repository.record("--promptfit-update")
    result = repository.replay("--promptfit-against", "main")
    assert result.ret == 0
    assert gate(result, "contract") == "gate contract: passed: nothing that main holds it to is loosened"
    write_train(repository, TRAIN[:4], name="new.csv")
    repository.record("--promptfit-update")
    said = gate(repository.replay("--promptfit-against", "main"), "contract")
    assert said.endswith("; 0 rows for its examples came and 2 went since main")
