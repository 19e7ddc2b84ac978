"""``examples: {nearest: 8, shortlist: 3}``: for each text the likeliest labels alone, and rows of those."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import command_line
import pytest
from prompt_files import HEAD, mistakes

from pytest_promptfit import load_prompt
from pytest_promptfit.chat.nearest import Neighbours
from pytest_promptfit.prompts.pool import Pool
from pytest_promptfit.prompts.samples import Sample

if TYPE_CHECKING:
    from pathlib import Path

    from mood_project import Project

THINGS = ("parcel", "invoice", "password", "refund", "website", "job")
WORDS = ("late", "wrong", "lost", "broken", "odd", "new")
ROWS = tuple((f"r{n}", f"my {THINGS[n % 6]} is {WORDS[n // 6]} again", f"about {THINGS[n % 6]}") for n in range(36))
LABELS = sorted({label for _, _, label in ROWS})
PROMPT = {
    "system_prompt": "Which is it?\n{labels}",
    "user_prompt_suffix": "\nOne of {labels}.",
    "examples": {"nearest": 2, "shortlist": 3},
    "label_notes": {label: f"all {label}" for label in LABELS},
}
ASKED = "there is a new invoice, and it is the wrong one"


@pytest.fixture
def short(project: Project) -> Project:
    """A project whose prompt lists three of six labels."""
    project.model.says = lambda said: f"about {THINGS[0]}"
    project.write(ROWS, prompt=PROMPT, labels=LABELS, cases="gated")
    return project


def said(messages: list[dict[str, Any]]) -> tuple[list[str], list[str], list[str]]:
    """Return the labels that the system prompt lists, those of the last turn, and those of the examples."""
    listed = re.findall("^- (.*): all (.*)$", messages[0]["content"], re.MULTILINE)
    assert all(label == of_note for label, of_note in listed)
    last = messages[-1]["content"].rpartition("One of ")[2].rstrip(".").split(", ")
    return [label for label, _ in listed], last, [m["content"] for m in messages if m["role"] == "assistant"]


def test_three_labels_are_listed_with_their_notes_and_the_rows_are_of_those(short: Project) -> None:
    with load_prompt(short.path / "mood.prompt.yaml") as classify:
        listed, last, shown = said(classify.messages(ASKED))
        assert listed == last == sorted(listed)  # as the file lists them, however likely they are
        assert len(listed) == 3
        assert "about invoice" in listed
        assert len(shown) == 2
        assert set(shown) <= set(listed)
        assert classify.labels == tuple(LABELS)


def test_it_replays_and_show_sends_the_same(short: Project) -> None:
    short.record()
    assert short.replay().ret == 0
    path = short.path / "mood.prompt.yaml"
    printed = json.loads(command_line.promptfit("show", path, "--sample", "r7", "--json", cwd=short.path).out)
    bodies = [json.loads(body) for body in short.model.asked]
    assert printed in bodies
    with load_prompt(path) as classify:
        assert classify.payload(ROWS[7][1]) == printed


def test_a_label_that_is_not_listed_is_read_all_the_same(short: Project) -> None:
    short.record("-k", "r7 or r8")
    outcomes = {case["id"]: case["predicted"] for case in short.report("-k", "r7 or r8")["prompts"][0]["cases"]}
    assert {outcomes["r7"], outcomes["r8"]} == {"about parcel"}
    assert not all("about parcel" in said(json.loads(body)["messages"])[0] for body in short.model.asked)


def test_what_is_nearly_the_text_teaches_the_classifier_nothing() -> None:
    texts = [
        ("the parcel is late", "a"),
        ("a refund please", "b"),
        ("where is the parcel now", "c"),
        ("my refund", "d"),
    ]
    odd = ("a peculiar quetzal sings", "odd")
    rows = tuple(Sample(str(n), text, label) for n, (text, label) in enumerate([*texts, odd]))
    known = Neighbours(Pool(rows))
    assert known.likeliest("some quetzal, and peculiar it was", 1) == ["odd"]
    assert "odd" not in known.likeliest("a peculiar quetzal  sings!", 4)[:3]
    # Of dev nothing is known to a text of dev, as its own label is not.
    of_dev = Neighbours(Pool(rows, frozenset({"a refund please", "a peculiar quetzal sings"})))
    assert set(of_dev.likeliest("a refund please", 4)) == {"a", "c", "d"}


def test_rows_may_move(short: Project) -> None:
    with load_prompt(short.path / "mood.prompt.yaml") as classify:
        before = classify.messages(ASKED)
    short.write(ROWS[::-1], prompt=PROMPT, labels=LABELS, cases="gated")
    with load_prompt(short.path / "mood.prompt.yaml") as classify:
        assert said(classify.messages(ASKED))[0] == said(before)[0]


def test_a_miss_tells_of_the_rows_and_of_the_labels_that_are_listed(short: Project) -> None:
    short.record("-k", "r7 or r8")
    relabeled = tuple((name, text, "about job" if label == "about invoice" else label) for name, text, label in ROWS)
    short.write(relabeled, prompt=PROMPT, labels=LABELS, cases="gated")
    result = short.replay("-v", "-k", "r7 or r8 or r9")
    lines = [line.partition(": ")[2] for line in result.outlines if line.startswith("not recorded: ")]
    assert "this sample is new, was not asked yet, or its text was edited" in lines
    assert any(line.startswith("system_prompt, or the labels that it lists for this sample,") for line in lines)


def test_a_label_without_a_row_is_never_listed(short: Project) -> None:
    short.write(ROWS, prompt=PROMPT, labels=[*LABELS, "other"], cases="gated")
    path = short.path / "mood.prompt.yaml"
    path.write_text(path.read_text().replace("shortlist: 3", "shortlist: 6"))
    with load_prompt(path) as classify:
        assert said(classify.messages(ASKED))[1] == LABELS


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ("{nearest: 2, shortlist: 2}", "prompt.examples.shortlist: 2: expected fewer than the 2 labels"),
        ("{nearest: 2, shortlist: 1}", "prompt.examples.shortlist: 1: expected at least 2"),
        ("{nearest: 2, shortlist: all}", "prompt.examples.shortlist: 'all': expected a whole number"),
        ("{shortlist: 3}", "prompt.examples.nearest: missing: expected it here"),
        ("{nearest: 2, shortlst: 3}", "prompt.examples.shortlst: unknown key; did you mean `shortlist`?"),
    ],
)
def test_mistakes(tmp_path: Path, examples: str, message: str) -> None:
    prompt = HEAD.replace("{system_prompt: Classify.}", f"{{examples: {examples}}}")
    assert mistakes(tmp_path, prompt) == [f"p.yaml:2: {message}"]
