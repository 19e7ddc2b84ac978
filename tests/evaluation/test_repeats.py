"""``repeats``: each sample is asked several times, most answers count, and what differs is told as noise."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from command_line import promptfit
from loopback_server import error
from mood_project import MOODS, by_keyword

from pytest_promptfit import load_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from browser import Browser
    from loopback_server import Answer
    from mood_project import Project

ORDERED = ("--promptfit-concurrency", "1")


def in_turn(**answers: Sequence[str]) -> Callable[[str], str]:
    """Return a model that answers a text with a word in it in turn; all else by its keyword."""
    asked: Counter[str] = Counter()

    def says(text: str) -> str:
        for word, labels in answers.items():
            if word in text:
                asked[text] += 1
                label = labels[(asked[text] - 1) % len(labels)]
                return f"<label>{label}</label>" if label else "I cannot tell."
        return by_keyword(text)

    return says


def repeated(project: Project, repeats: int = 3, **fields: Any) -> None:
    project.write(cases="gated", repeats=repeats, **fields)


def case(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in report["prompts"][0]["cases"] if one["id"] == name)


def test_most_answers_count_and_the_noise_stands_beside_the_verdict(project: Project, browser: Browser) -> None:
    repeated(project)
    # s1 is right in two of three, s3 in one, s4 has no label twice.
    project.model.says = in_turn(
        **{
            "lovely day": ("bad", "good", "good"),
            "dreadful day": ("bad", "good", "good"),
            "dreadful walk": ("", "bad", ""),
        }
    )
    result = project.record(*ORDERED, "--promptfit-update", "--promptfit-report=report.html")
    assert len(project.model.asked) == 12
    result.stdout.fnmatch_lines(
        [
            "  noise 75.0 % (3 of 4 unstable in 3 answers), 95 % interval 30.1 % to 95.4 %",
            "    unstable: sample-s1: 2 good, 1 bad",
            "    unstable: sample-s3: 2 good, 1 bad",
            "    unstable: sample-s4: 2 no label, 1 bad",
            "  12 replies, none replayed, 1200 tokens in, 120 out, price unknown",
            "mood: no baseline yet: 50.0 % right; noise 75.0 % (3 of 4 unstable in 3 answers). Passes.",
        ]
    )
    report = project.report()
    (prompt,) = report["prompts"]
    assert prompt["repeats"] == 3
    assert prompt["noise"] == {
        "samples": 4,
        "unstable": 3,
        "answers": 3,
        "disagreement": pytest.approx(3 / 4 * 2 / 3),
        "share": 0.75,
        "share_ci95": [pytest.approx(0.301, abs=1e-3), pytest.approx(0.954, abs=1e-3)],
    }
    assert case(report, "s1")["answers"] == ["bad", "good", "good"]
    assert (case(report, "s1")["predicted"], case(report, "s3")["predicted"]) == ("good", "good")
    assert (case(report, "s4")["answers"], case(report, "s4")["predicted"]) == ([None, "bad", None], None)
    assert (prompt["usage"]["calls"], prompt["usage"]["replayed"]) == (12, 12)
    assert project.baseline()["cases"]["sample-s4"] == {"outcome": "missing", "label": "bad", "predicted": None}
    assert "unchanged from its baseline: 50.0 %; noise 75.0 %" in project.replay().stdout.str()
    browser.open(project.path / "report.html")
    (unstable,) = [one for one in browser.all(".case-list") if one.text.startswith("Unstable")]
    assert "sample-s1" in unstable.text
    assert "2 good, 1 bad" in unstable.text


def test_of_answers_that_tie_the_first_one_counts(project: Project) -> None:
    repeated(project, 2)
    project.model.says = in_turn(lovely=("bad", "good"), dreadful=("bad", "good"))
    project.record(*ORDERED)
    report = project.report()
    assert [case(report, name)["predicted"] for name in ("s1", "s2", "s3", "s4")] == ["bad"] * 4
    assert report["prompts"][0]["noise"]["share"] == 1.0


def test_what_is_recorded_once_is_asked_as_often_as_is_lacking(project: Project) -> None:
    project.write(cases="gated")
    project.record()
    repeated(project)
    result = project.replay()
    result.stdout.fnmatch_lines(
        [
            "  4 of 4 not recorded: 2 of 3 answers (repeats)",
            "           8 calls, its price is not known",
        ]
    )
    ran = promptfit("show", "mood.prompt.yaml", cwd=project.path)
    assert "full run: 12 calls" in ran.out
    assert "4 of them are recorded" in ran.out
    project.record("-k", "s1")
    assert len(project.model.asked) == 4 + 2
    project.record()
    assert len(project.model.asked) == 12
    assert project.replay().ret == 0
    # Asked less often again, the further answers are obsolete.
    project.write(cases="gated")
    project.replay().stdout.fnmatch_lines(["  8 recorded replies are obsolete: --promptfit-prune deletes them"])
    project.replay("--promptfit-prune")
    assert len((project.path / "cassettes/mood/replies.yaml").read_text().splitlines()) == 2 + 4


def test_a_limit_leaves_whole_samples_and_the_next_run_asks_for_the_rest(project: Project) -> None:
    repeated(project)
    result = project.record(*ORDERED, "--promptfit-max-calls", "7")
    assert len(project.model.asked) == 7
    assert result.ret == 1
    result.stdout.fnmatch_lines(["  2 of 4 without a reply: limit of 7 calls reached*"])
    assert project.record().ret == 0
    assert len(project.model.asked) == 12


def test_a_sample_one_of_whose_answers_failed_has_no_outcome_yet(project: Project) -> None:
    repeated(project)
    asked = Counter[str]()

    def says(text: str) -> str | Answer:
        asked[text] += 1
        return error(400, "no", "content_filter") if "lovely day" in text and asked[text] == 2 else by_keyword(text)

    project.model.says = says
    result = project.record(*ORDERED)
    result.assert_outcomes(passed=3, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["  1 of 4 without a reply: *content filter*"])
    assert project.record().ret == 0


def test_the_same_under_xdist(project: Project) -> None:
    repeated(project)
    project.model.says = in_turn(lovely=("bad", "good", "good"))
    project.record()
    alone = project.report()
    assert project.report("-p", "xdist", "-n2", "--dist=load") == alone


def test_production_asks_once(project: Project) -> None:
    repeated(project)
    with load_prompt(project.path / "mood.prompt.yaml") as classify:
        assert classify(MOODS[0][1]).label == "good"
    assert len(project.model.asked) == 1


def test_github_is_told_the_noise(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    repeated(project)
    project.model.says = in_turn(lovely=("bad", "good", "good"))
    project.record()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    project.replay()
    summary = (project.path / "summary.md").read_text()
    assert "- <code>noise 50.0 % (2 of 4 unstable in 3 answers), 95 % interval 15.0 % to 85.0 %</code>" in summary
    assert "- <code>unstable&#58; sample-s1&#58; 2 good, 1 bad</code>" in summary


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "repeats: 0: expected at least 1"),
        (26, "repeats: 26: expected at most 25"),
        ("3", "repeats: '3': expected a whole number"),
        (True, "repeats: True: expected a whole number"),
    ],
)
def test_another_number_is_a_mistake(project: Project, value: object, said: str) -> None:
    repeated(project, value)  # type: ignore[arg-type]
    project.replay().stdout.fnmatch_lines([f"mood.prompt.yaml:*: {said}*"])
