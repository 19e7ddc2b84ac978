"""The summary on the terminal: figures, the table by label, misses, usage; and no text of a sample takes it over."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from loopback_server import error
from mood_project import MOODS
from sklearn.metrics import precision_recall_fscore_support
from summary_lines import section

from pytest_promptfit.text import plain

if TYPE_CHECKING:
    from mood_project import Project

ROWS = (
    *MOODS,
    ("w1", "a dreadful bore, and I loved it", "good"),
    ("w2", "a lovely mess", "bad"),
    ("u1", "mumble", "bad"),
)
HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202e\u2067\u061c\u2028\x00\x08\xad\u200b\u200d\ufeff\U000e0041"
"""Clears a screen, sets a title, goes back, turns around, hides: whatever a terminal obeys or does not show."""


def test_summary_of_a_prompt(project: Project) -> None:
    project.write(ROWS, canonical=[{"id": "c", "text": "a lovely rat", "label": "bad"}])
    project.record()
    assert section(project.replay()) == [
        "mood.prompt.yaml (openai/m)",
        "  accuracy 57.1 % (4 of 7), 95 % interval 25.0 % to 84.2 %",
        '  no label could be read in 1: "I cannot tell." is no label',
        "  canonical 0 of 1 right",
        "  gate regression: not judged: no baseline yet: --promptfit-update writes it",
        "  label  precision   recall     f1  support",
        "  good      66.7 %   66.7 %  0.667        3",
        "  bad       66.7 %   50.0 %  0.571        4",
        "  misses (4), label → read:",
        "    bad → good (2, 1 canonical)",
        "      canonical-c  a lovely rat",
        "      sample-w2    a lovely mess",
        "    good → bad (1)",
        "      sample-w1  a dreadful bore, and I loved it",
        "    bad → no label (1)",
        "      sample-u1  mumble",
        "  with replies: pytest --promptfit -v mood.prompt.yaml",
        "  8 replies, all replayed, 800 tokens in, 80 out",
    ]


def test_table_by_label_is_that_of_scikit_learn(project: Project) -> None:
    project.write(ROWS)
    project.record()
    rows = [line.split() for line in section(project.replay()) if line.startswith(("  good", "  bad"))]
    gold = ["good", "good", "bad", "bad", "good", "bad", "bad"]
    predicted = ["good", "good", "bad", "bad", "bad", "good", ""]
    figures = precision_recall_fscore_support(gold, predicted, labels=["good", "bad"], zero_division=0)
    for row, precision, recall, f1, support in zip(rows, *figures, strict=True):
        assert row[1:] == [f"{precision * 100:.1f}", "%", f"{recall * 100:.1f}", "%", f"{f1:.3f}", str(support)]


def test_broken_misses_come_before_old_ones(project: Project) -> None:
    project.write(ROWS, cases="gated")
    project.record("--promptfit-update")
    project.model.says = lambda text: "<label>good</label>" if "walk" in text else "<label>odd</label>"
    project.ask_anew()
    lines = section(project.replay())
    start = lines.index("  misses (6), label → read:")
    assert [line.strip() for line in lines[start + 1 : start + 10]] == [
        "bad → no label (3, 1 broke)",
        "sample-s3  a dreadful day",
        "sample-w2  a lovely mess",
        "sample-u1  mumble",
        "good → no label (2, 1 broke)",
        "sample-s1  a lovely day",
        "sample-w1  a dreadful bore, and I loved it",
        "bad → good (1, 1 broke)",
        "sample-s4  a dreadful walk",
    ]


def test_baseline_line(project: Project) -> None:
    project.write(ROWS, cases="gated", gates={"regression": False})
    project.record("--promptfit-update")
    project.model.says = lambda text: f"<label>{'bad' if 'walk' in text or 'mumble' in text else 'good'}</label>"
    project.ask_anew()
    said = "its baseline: 57.1 % right: fixed 2, broke 2"
    assert [line for line in section(project.replay()) if "fixed 2, broke 2" in line] == [f"  {said}"]


def test_unanswered_samples_are_told_apart(project: Project) -> None:
    project.write()
    project.record("-k", "s1")
    assert "  accuracy 100.0 % (1 of 1), 95 % interval 20.7 % to 100.0 %, 3 without a reply" in section(
        project.replay()
    )


def test_usage_tells_what_was_asked_and_what_it_cost(project: Project) -> None:
    project.write()
    project.record("-k", "s1")
    lines = section(project.record())
    assert "  4 replies, 1 replayed, 400 tokens in, 40 out, price unknown" in lines


def test_progress_is_shown_while_asking_and_not_in_replay(project: Project) -> None:
    project.write()
    result = project.record()
    result.stdout.fnmatch_lines(
        ["asking [[]........................] 0/4, starting the model", "asking [[]########################] 4/4*"]
    )
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


@pytest.mark.parametrize("columns", [80, 100])
def test_lines_break_at_words_on_a_screen(project: Project, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    text = "a lovely day in \u6771\u4eac\u3068\u5927\u962a " * 20
    project.write((*ROWS, ("long", text, "bad")), gates={"accuracy": 0.9, "recall": {"good": 0.9, "bad": 0.1}})
    project.record("--promptfit-update")
    whole = section(project.replay())
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = section(project.replay())
    commands = [line for line in lines if re.match(" *[a-z]+[a-z ,]*: +pytest ", line)]
    assert max(len(line) for line in lines if line not in commands) <= columns
    assert len(lines) > len(whole)
    row = next(line for line in lines if "sample-long" in line)
    assert row.endswith("…")
    assert sum(2 if char > "\u3000" else 1 for char in row) <= columns
    words = " ".join(line.strip() for line in lines if "sample-long" not in line)
    assert words == " ".join(line.strip() for line in whole if "sample-long" not in line)


def test_no_price_is_told_where_nothing_was_asked(project: Project) -> None:
    project.write()
    assert any("price unknown" in line for line in section(project.record()))
    assert "$" not in project.replay().stdout.str()


def test_letters_are_explained_where_they_occur(project: Project) -> None:
    project.write(ROWS)
    project.record("--promptfit-update")
    assert section(project.replay())[0] == "x: a known miss of the baseline"
    project.write(ROWS, cases="gated")
    assert section(project.replay())[0].startswith("m: missed: ")
    assert section(project.replay("-v"))[0].startswith("mood.prompt.yaml")
    project.write(MOODS)
    assert section(project.replay())[0].startswith("mood.prompt.yaml")


def test_many_failed_samples_are_rows_and_told_in_full_where_asked(project: Project) -> None:
    project.model.says = lambda _: "<label>bad</label>"
    project.write(tuple((f"n{number}", f"a lovely day {number}", "good") for number in range(8)))
    project.record()
    result = project.replay()
    result.assert_outcomes(failed=8, skipped=1)
    printed = result.stdout.str()
    assert "FAILURES" not in printed
    assert "short test summary" not in printed
    assert "  misses (8), label → read:" in result.outlines
    command = next(line for line in result.outlines if line.startswith("  all of them, with replies: pytest "))
    told = project.pytest(*command.partition(": pytest ")[2].split()).stdout.str()
    assert told.count("  reply:   <label>bad</label>") == 8
    assert told.count("      sample-n") == 8


def test_a_path_is_told_without_detours(project: Project) -> None:
    project.write(at="prompts/mood.prompt.yaml", samples={"file": "../mood.csv", "id": "id"})
    (project.path / "mood.csv").write_text("id,text,label\na,a lovely day,bad\na2,a lovely  day,bad\n")
    printed = project.record().stdout.str()
    assert "sample:  mood.csv:2 (a)" in printed
    assert "mood.csv:3: the same sample as mood.csv:2: counted once" in printed
    assert "/../" not in printed
