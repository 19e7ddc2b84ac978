"""The summary on the terminal: figures, the table by label, misses, usage; and no text of a sample takes it over."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from conftest import MOODS
from faulty_server import error
from sklearn.metrics import precision_recall_fscore_support

from pytest_promptfit.report.text import plain

if TYPE_CHECKING:
    from conftest import Project

ROWS = (
    *MOODS,
    ("w1", "a dreadful bore, and I loved it", "good"),
    ("w2", "a lovely mess", "bad"),
    ("u1", "mumble", "bad"),
)
HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202e\u2067\u061c\u2028\x00\x08\xad\u200b\u200d\ufeff\U000e0041"
"""Clears a screen, sets a title, goes back, turns around, hides: whatever a terminal obeys or does not show."""


def section(result: pytest.RunResult) -> list[str]:
    """Return the lines of our summary."""
    start = next(at for at, line in enumerate(result.outlines) if line.strip("=") == " promptfit ")
    end = next(at for at in range(start + 1, len(result.outlines)) if result.outlines[at].startswith("="))
    return [line for line in result.outlines[start + 1 : end] if line]


def test_summary_of_a_prompt(project: Project) -> None:
    project.write(ROWS, canonical=[{"id": "c", "text": "a lovely rat", "label": "bad"}])
    project.record()
    assert section(project.replay()) == [
        "mood.prompt.yaml (openai/m)",
        "  accuracy 0.571 (4 of 7), 95 % interval 0.250-0.842, 1 without a readable label",
        "  canonical 0 of 1 right",
        "  no baseline: --promptfit-update writes it",
        "  gate regression: not judged: no baseline yet: --promptfit-update writes it",
        "  label  precision  recall     f1  support",
        "  good       0.667   0.667  0.667        3",
        "  bad        0.667   0.500  0.571        4",
        "  misses (4 of 4):",
        "    canonical-c: bad read as good: a lovely rat",
        "    sample-w1: good read as bad: a dreadful bore, and I loved it",
        "    sample-w2: bad read as good: a lovely mess",
        "    sample-u1: bad read as no label: mumble",
        "  8 replies, 100% replayed, 800 tokens in, 80 out, $0.0000 paid",
    ]


def test_table_by_label_is_that_of_scikit_learn(project: Project) -> None:
    project.write(ROWS)
    project.record()
    rows = [line.split() for line in section(project.replay()) if line.startswith(("  good", "  bad"))]
    gold = ["good", "good", "bad", "bad", "good", "bad", "bad"]
    predicted = ["good", "good", "bad", "bad", "bad", "good", ""]
    figures = precision_recall_fscore_support(gold, predicted, labels=["good", "bad"], zero_division=0)
    for row, precision, recall, f1, support in zip(rows, *figures, strict=True):
        assert row[1:] == [f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}", str(support)]


def test_broken_misses_come_before_old_ones(project: Project) -> None:
    project.write(ROWS, cases="gated")
    project.record("--promptfit-update")
    project.model.says = lambda text: "<label>good</label>" if "walk" in text else "<label>odd</label>"
    project.ask_anew()
    lines = section(project.replay())
    assert "  misses (5 of 6):" in lines
    shown = [line.split(":")[0].strip() for line in lines[lines.index("  misses (5 of 6):") + 1 :]][:5]
    assert shown == ["sample-s1", "sample-s3", "sample-s4", "sample-w1", "sample-w2"]


def test_baseline_line(project: Project) -> None:
    project.write(ROWS, cases="gated")
    project.record("--promptfit-update")
    project.model.says = lambda text: f"<label>{'bad' if 'walk' in text or 'mumble' in text else 'good'}</label>"
    project.ask_anew()
    lines = section(project.replay())
    assert "  its baseline 0.571: fixed 2, broke 2" in lines


def test_unanswered_samples_are_told_apart(project: Project) -> None:
    project.write()
    project.record("-k", "s1")
    assert "  accuracy 1.000 (1 of 1), 95 % interval 0.207-1.000, 3 without a reply" in section(project.replay())


def test_usage_tells_what_was_asked_and_what_it_cost(project: Project) -> None:
    project.write()
    project.record("-k", "s1")
    lines = section(project.record())
    assert "  4 replies, 25% replayed, 400 tokens in, 40 out, price unknown" in lines


def test_progress_is_shown_while_asking_and_not_in_replay(project: Project) -> None:
    project.write()
    result = project.record()
    result.stdout.fnmatch_lines(["asking [[]########################] 4/4, *"])
    project.replay().stdout.no_fnmatch_line("asking *")
    project.write(params={"temperature": 0})
    project.record("-q").stdout.no_fnmatch_line("asking *")


def test_each_prompt_has_its_summary(project: Project) -> None:
    project.write(at="b.prompt.yaml")
    project.write(at="a.prompt.yaml")
    project.record()
    lines = [line for line in section(project.replay()) if not line.startswith(" ")]
    assert lines == ["a.prompt.yaml (openai/m)", "b.prompt.yaml (openai/m)"]


def test_nothing_is_said_without_prompt_files(project: Project) -> None:
    (project.path / "test_own.py").write_text("def test_own(): pass\n")
    assert "promptfit ===" not in project.replay().stdout.str()


def test_doubled_sample_is_noted(project: Project) -> None:
    path = project.write(samples={"file": "mood.csv"})
    path.with_name("mood.csv").write_text("text,label\na lovely day,good\na lovely  day,good\n")
    assert any(line.startswith("  note: ") and "counted once" in line for line in section(project.record()))


SCREENS = [
    ("-v",),
    ("-rA", "--color=yes"),
    ("-rA", "--tb=long", "--showlocals", "--full-trace"),
    ("--tb=line",),
    ("--promptfit-update", "-rx"),
    ("--setup-show", "--collect-only"),
    ("--log-cli-level=DEBUG", "--durations=0"),
]


@pytest.mark.parametrize("options", SCREENS)
def test_no_text_of_a_sample_or_reply_takes_over_the_screen(project: Project, options: tuple[str, ...]) -> None:
    project.model.says = lambda text: f"{HOSTILE}{text}<label>bad{HOSTILE}</label>"
    hostile = f"a{HOSTILE}b"
    labels = [f"one{HOSTILE}", f"bad{HOSTILE}"]
    samples = {"file": "samples.json", "id": "id"}
    gates = {"recall": {labels[0]: 0.5}}
    path = project.write((), labels=labels, samples=samples, gates=gates)
    rows = [
        {"id": f"i{HOSTILE}", "text": f"text {hostile}", "label": f"one{HOSTILE}", "note": hostile},
        {"id": "other", "text": "text", "label": f"bad{HOSTILE}", "note": ""},
    ]
    path.with_name("samples.json").write_text(json.dumps(rows))
    project.record()
    result = project.replay(*options)
    assert result.ret == (0 if "--collect-only" in options else 1)
    printed = re.sub("\x1b\\[[0-9;]*m", "", result.stdout.str() + result.stderr.str())  # pytest's own colours
    assert not {char for char in printed if not char.isprintable()} - {"\n"}
    assert "\\x1b" in printed or "--collect-only" in options


def test_no_name_takes_over_the_screen(project: Project) -> None:
    model = {"provider": "openai", "name": f"m{HOSTILE}", "base_url": project.model.url}
    project.write(at="a.prompt.yaml", model=model)
    asked = project.record()
    assert asked.ret == 0
    assert any(line.startswith("a.prompt.yaml (openai/m\\x1b[2J") for line in asked.outlines)
    project.model.says = lambda _: error(404, f"no model {HOSTILE}")
    refused = project.ask_anew()
    assert refused.ret == 1
    project.write(at=f"b{HOSTILE[-5:]}.prompt.yaml", name="a")
    doubled = project.replay("-q")
    assert doubled.ret == pytest.ExitCode.USAGE_ERROR
    assert any(line.startswith("ERROR: b\\xad") for line in doubled.errlines)
    for run in (asked, refused, doubled):
        printed = run.stdout.str() + run.stderr.str()
        assert not {char for char in printed if not char.isprintable()} - {"\n"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u0645\u06cc\u200c\u062e\u0648", "\u0645\u06cc\u200c\u062e\u0648"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("\u2764\ufe0f", "\u2764\ufe0f"),
        ("pay\u200dpal", "pay\\u200dpal"),
        ("é\u200b", "é\\u200b"),
        ("a\U000e0041", "a\\U000e0041"),
        ("a::b", "a::b"),
        ("  ::warning::x", "  \\x3a:warning::x"),
        ("see ##[error]x # 1", "see \\x23#[error]x # 1"),
    ],
)
def test_what_is_written_out_and_what_is_left(text: str, shown: str) -> None:
    assert plain(text) == shown
