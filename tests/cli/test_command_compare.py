"""``promptfit compare``: prompt files, or one under several models, on the samples that they share."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from command_line import promptfit
from loopback_server import chat
from mood_project import MOODS
from scipy.stats import binom, norm

if TYPE_CHECKING:
    from browser import Browser
    from mood_project import Project

FIXED, BROKEN = 9, 2
ROWS = (
    *((f"f{n}", f"a walk {n}, so long", "bad") for n in range(FIXED)),
    *((f"b{n}", f"a joke {n}, so long", "good") for n in range(BROKEN)),
    *((f"s{n}", f"a lovely day {n}", "good") for n in range(34)),
    *((f"w{n}", f"mumble {n}", "good") for n in range(15)),
)
"""Samples of which the model ``better`` gets nine right that ``m`` gets wrong, and two the reverse."""


def answers(project: Project) -> None:
    """Let the server answer by the model that is asked."""

    def says(body: dict[str, Any]) -> str:
        text, is_better = body["messages"][-1]["content"], body["model"] == "better"
        if "mumble" in text:
            return "I cannot tell."
        return f"<label>{'good' if 'day' in text or ('long' in text and not is_better) else 'bad'}</label>"

    project.model.server._answer = lambda seen: chat(says(seen.body))


def compare(project: Project, *arguments: object, **environment: str) -> Any:
    return promptfit("compare", *arguments, cwd=project.path, **environment)


@pytest.fixture
def two(project: Project) -> Project:
    """A prompt that is recorded under its own model, and under ``better``."""
    answers(project)
    project.write(ROWS, canonical=[{"id": "c", "text": "a lovely day out", "label": "good"}])
    ran = compare(project, "mood.prompt.yaml", "--model", "openai/better", "--record")
    assert ran.code == 0, ran.err
    return project


def two_sided_midp(fixed: int, broken: int) -> float:
    return 2 * (binom.sf(fixed, fixed + broken, 0.5) + binom.pmf(fixed, fixed + broken, 0.5) / 2)


def test_a_pair_is_one_line_with_what_a_call_costs(two: Project) -> None:
    asked = len(two.model.asked)
    assert asked == 2 * 61
    out = compare(two, "mood.prompt.yaml", "--model", "openai/better").out.splitlines()
    assert len(two.model.asked) == asked
    assert out[:3] == [
        "60 samples shared",
        "A  mood.prompt.yaml (openai/m)",
        "   accuracy 60.0 % (36 of 60), 95 % interval 47.4 % to 71.4 %",
    ]
    assert "B  mood.prompt.yaml (openai/better)" in out
    assert "   canonical 1 of 1 right" in out
    (line,) = (one for one in out if one.startswith("B is better: "))
    p = two_sided_midp(FIXED, BROKEN)
    assert line.startswith(f"B is better: 60.0 → 71.7 %, +11.7 points, fixed 9, broke 2, p = {p:.2g}; cost unknown, ")
    # Agresti and Min: Wald's interval with half a pair added to each of the four kinds.
    n, b, c = 62, FIXED + 0.5, BROKEN + 0.5
    half = norm.ppf(0.975) * ((b + c - (b - c) ** 2 / n) ** 0.5) / n
    low, high = 100 * ((b - c) / n - half), 100 * ((b - c) / n + half)
    assert f"   95 % interval of the change: {low:+.1f} to {high:+.1f} points".replace("-", "−") in out
    assert "   fixed: sample-f0, sample-f1, sample-f2 and 6 more" in out
    assert "   broke: sample-b0, sample-b1" in out


def test_other_models_are_nothing_to_the_harness(two: Project) -> None:
    result = two.replay("--promptfit-prune")
    assert not re.search("obsolete|not recorded", result.stdout.str())
    two.record("--promptfit-prune")
    assert compare(two, "mood.prompt.yaml", "--model", "openai/better").code == 0


def test_json_has_the_figures_and_the_samples(two: Project) -> None:
    found = json.loads(compare(two, "mood.prompt.yaml", "--model", "openai/better", "--json").out)
    (pair,) = found["pairs"]
    assert pair["p_value"] == pytest.approx(two_sided_midp(FIXED, BROKEN))
    assert (pair["direction"], pair["shared"], pair["accuracy_before"]) == ("better", 60, 0.6)
    assert [side["correct"] for side in found["sides"]] == [36, 43]
    assert {row["case"] for row in found["differing"]} == {*pair["fixed"], *pair["broken"]}


def test_more_than_two_have_a_matrix_of_eighty_columns(two: Project) -> None:
    models = [word for n in range(5) for word in ("--model", f"openai/m{n}")]
    assert compare(two, "mood.prompt.yaml", *models, "--record", "--concurrency", 2).code == 0
    out = compare(two, "mood.prompt.yaml", "--model", "openai/m", "--model", "openai/better", *models).out
    assert "A  mood.prompt.yaml (openai/m)\n" in out
    # p = 0.039 is beyond chance for one pair, and not for one of 21.
    assert "A and B: no difference shown: 60.0 → 71.7 %, +11.7 points, fixed 9, broke 2, p = 0.039; " in out
    assert "C and D: right on the same samples: 60.0 %; " in out
    assert "* beyond chance (21 pairs share alpha 0.05, Benjamini-Hochberg)" in out
    rows = out.partition("Benjamini-Hochberg)\n")[2].splitlines()
    assert rows[0].split() == ["B", "C", "D", "E"]
    assert all(len(row) <= 80 for row in rows)
    assert [row.split() for row in rows if row.startswith("A ")] == [
        ["A", "+11.7", *["+0.0"] * 3],
        ["A", "+0.0", "+0.0"],
    ]


def test_files_are_compared_on_the_samples_they_share(project: Project) -> None:
    first, second = project.write(), project.write((*MOODS[:3], ("x", "a lovely tree", "good")), at="b.prompt.yaml")
    project.record()
    out = compare(project, first, second).out.splitlines()
    assert out[0] == "3 samples shared; not shared: 1 of A, 1 of B"
    assert any(line.startswith("A and B: right on the same samples: 100.0 %") for line in out)
    project.write(tuple((f"y{n}", f"a lovely tree {n}", "good") for n in range(2)), at="b.prompt.yaml")
    said = compare(project, first, second).mistake
    assert said.startswith("promptfit compare: no labeled sample is in all of them: expected some with the same text")


def test_what_is_not_recorded_is_said_with_the_command_that_records_it(project: Project) -> None:
    project.write(MOODS, model="openai/gpt-4.1-nano")
    arguments = ("mood.prompt.yaml", "--model", "openai/gpt-4.1-mini", "--model", "openai/gpt-4.1")
    ran = compare(project, *arguments)
    assert ran.code == 1
    assert "A: 4 of 4 not recorded: nothing of this prompt is recorded yet\n" in ran.out
    command = "promptfit compare mood.prompt.yaml --model openai/gpt-4.1-mini --model openai/gpt-4.1 --record"
    assert f"record:  {command}\n         A: 4 calls, about $0.000" in ran.out
    assert "first: openai/gpt-4.1-mini: no API key: set OPENAI_API_KEY" in ran.out
    assert ran.err == "promptfit compare: A and B cannot be compared: no sample has a reply from both\n"


def test_a_limit_holds_for_all_of_them_together_and_keeps_what_was_paid_for(project: Project) -> None:
    project.write()
    arguments = ("mood.prompt.yaml", "--model", "openai/other", "--record")
    ran = compare(project, *arguments, "--max-calls", 6, "--concurrency", 1)
    assert len(project.model.asked) == 6
    assert "B: 2 of 4 without a reply: limit of 6 calls reached after 6 calls" in ran.out
    assert "run again with a larger --max-calls" in ran.out
    assert "A and B: right on the same samples: 100.0 % on 2 samples; " in ran.out
    assert compare(project, *arguments).code == 0
    assert len(project.model.asked) == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "mood.prompt.yaml under openai/m alone: expected another prompt file, or --model PROVIDER/NAME"),
        (("--model", "openai/m"), "mood.prompt.yaml under openai/m alone: expected another prompt file"),
        (("--model", "gpt-4"), "'gpt-4': expected PROVIDER/NAME, such as openai/"),
        (("none.prompt.yaml",), "none.prompt.yaml:1: cannot be read: No such file or directory"),
        (("--model", "openai/x", "--budget", "1"), "--budget needs --record"),
        (("--model", "openai/x", "--max-calls", "1"), "--max-calls needs --record"),
        (("--model", "openai/m", "--model", "openai/m"), "mood.prompt.yaml under openai/m alone"),
    ],
)
def test_a_mistake_is_one_line(project: Project, arguments: tuple[str, ...], said: str) -> None:
    project.write()
    assert compare(project, "mood.prompt.yaml", *arguments).mistake.startswith(f"promptfit compare: {said}")


def test_nothing_is_asked_in_ci_unless_that_is_meant(project: Project) -> None:
    project.write()
    arguments = ("mood.prompt.yaml", "--model", "openai/x", "--record")
    assert "--record is refused while CI is set" in compare(project, *arguments, CI="true").mistake
    assert project.model.asked == []
    assert compare(project, *arguments, "--allow-ci", CI="true").code == 0


def test_the_page_shows_the_samples_on_which_they_differ(two: Project, browser: Browser) -> None:
    path = two.path / "compared.html"
    ran = compare(two, "mood.prompt.yaml", "--model", "openai/better", "--html", path)
    assert ran.code == 0
    browser.open(path)
    assert browser.one("h1 .lead").text == "B is better"
    names = browser.texts(".static-case .name")
    assert sorted(names) == sorted([*(f"sample-f{n}" for n in range(9)), "sample-b0", "sample-b1"])
    assert browser.texts(".static-case h4 .good") == ["fixed"] * 9
    assert browser.texts(".static-case h4 .bad") == ["broken"] * 2
    unwritable = compare(two, "mood.prompt.yaml", "--model", "openai/better", "--html", two.path / "no/page.html")
    assert unwritable.mistake.startswith("promptfit compare: --html ")
    assert "create the folder" in unwritable.mistake


def test_what_a_stranger_wrote_is_shown_as_text(project: Project) -> None:
    project.write((("<b>", "a lovely <script>alert(1)</script>", "good"),))
    project.model.says = lambda _: "<label>good</label>\x1b[2J"
    arguments = ("mood.prompt.yaml", "--model", "openai/\x1b[2Jx")
    ran = compare(project, *arguments, "--record", "--html", "page.html")
    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert "<script>alert" not in (project.path / "page.html").read_text(encoding="utf-8")
