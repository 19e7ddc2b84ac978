"""The page of a tuning run: the recorded one, and runs made by hand for what that does not hold."""

from __future__ import annotations

import shutil
from random import Random
from typing import TYPE_CHECKING

import pytest
from examples import TUNING

from pytest_promptfit.chat.reply import ChatReply
from pytest_promptfit.evaluation.outcomes import Evaluation, Outcome
from pytest_promptfit.evaluation.verdicts import PromptResult, judge
from pytest_promptfit.prompts.model import Gates
from pytest_promptfit.prompts.samples import Sample
from pytest_promptfit.providers.usage import Usage
from pytest_promptfit.reports.page import page
from pytest_promptfit.reports.page.pictures import history_picture
from pytest_promptfit.reports.page.tuning import Tuning
from pytest_promptfit.tuning.result import Holdout, Score, Step, TuneResult, TuneUsage

if TYPE_CHECKING:
    from pathlib import Path

    from browser import Browser


def written(folder: Path, text: str) -> Path:
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    return path


def replay_tuning(examples: Path, pytester: pytest.Pytester) -> pytest.RunResult:
    """Tune the examples from its recorded replies and write the page to ``report.html``."""
    return pytester.runpytest_inprocess(
        "-p",
        "promptfit",
        "--tune",
        "--promptfit-report=report.html",
        f"--rootdir={examples}",
        examples / TUNING,
    )


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page of the recorded run is kept once it is written."""
    return tmp_path_factory.mktemp("recorded") / "report.html"


@pytest.fixture
def written_once(kept: Path, examples: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page of the recorded run."""
    if not kept.exists():
        result = replay_tuning(examples, pytester)
        assert "INTERNALERROR" not in result.stdout.str()
        shutil.copy(pytester.path / "report.html", kept)
    monkeypatch.undo()  # the browser is driven through a connection
    return kept


def test_the_recorded_run(written_once: Path) -> None:
    assert "29.6\u00a0% → 59.3\u00a0% right on the holdout" in written_once.read_text(encoding="utf-8")


@pytest.fixture
def recorded(written_once: Path, browser: Browser) -> Browser:
    """The page of the recorded run, opened."""
    browser.open(written_once)
    return browser


class TestRecordedRun:
    def test_tells_what_was_gained_and_what_it_took(self, recorded: Browser) -> None:
        assert recorded.one("h1").text == (
            "Tuning improved the prompt\n29.6 % → 59.3 % right on the holdout, +29.6 points"
        )
        said = recorded.one(".tuning .sentences").text
        assert "On 27 holdout samples that no decision had looked at it fixed 11 and broke 3 (p = 0.018)." in said
        assert "Canonical samples right: 4 of 9 before, 7 after." in said
        assert "556 task calls and 4 optimizer calls were needed, all replayed." in said
        assert recorded.one(".spend .total").text.split() == ["all", "556", "$0.00", "4", "$0.00", "297,023", "4,058"]
        assert recorded.log("browser") == []
        assert recorded.requests() == []

    def test_steps_are_in_the_picture_and_lead_to_their_diffs(self, recorded: Browser) -> None:
        steps = recorded.all(".step")
        marks = recorded.all("svg .mark-step")
        assert len(marks) == len(steps) > 1
        assert len(recorded.all("svg .mark-step.accepted")) == len(recorded.all(".step.accepted")) == 1
        marks[-1].click()
        assert recorded.run("return location.hash") == f"#tuning-1-step-{len(steps)}"
        assert steps[-1].find_element("css selector", "details").get_attribute("open") is not None
        assert "+ 8 examples" in recorded.all(".step.accepted .diff")[0].text

    def test_the_samples_of_a_step_lead_to_their_cases(self, recorded: Browser) -> None:
        link = recorded.all(".step.accepted .samples a")[0]
        name = link.text
        link.click()
        assert recorded.one(".case details[open] summary .name").text == name

    def test_suspects_and_the_diff_of_the_file(self, recorded: Browser) -> None:
        assert len(recorded.all(".suspects li")) == 17
        assert "labeled billing, read returns" in recorded.all(".suspects li")[0].text
        assert '+  bot_reply_prefix: "Label: <label>"' in recorded.texts(".diff .added")


STEPS = (
    Step("examples", "8 examples", "examples:\n+ 8", ("sample-a",), (), True, "accept", (), 40, right=30, seen=60),
    Step("reflect", "<b>bold</b>", "", (), ("sample-b",), False, "reject", ("a",), 60, right=25, seen=60),
    Step("reflect", "no screen", verdict="fixes none of the samples it was made for", calls=61),
    Step("prune", "shorter", "", ("sample-c",), ("sample-d",), True, "accept", (), 90, right=36, seen=60),
)
SCORES = tuple(Score("examples", f"set {at}", 10 + at, at, 12) for at in range(5))
STAGES = (
    TuneUsage("examples", Usage(40, 0, 900, 9, 0.02)),
    TuneUsage("reflect", Usage(30, 0, 600, 6, 0.01), Usage(4, 0, 100, 1, 0.3)),
)


def run(**fields: object) -> TuneResult:
    given: dict[str, object] = {"reason": "better on dev", "stop_reason": "all stages ran", "accepted": True, **fields}
    return TuneResult(path="mood.prompt.yaml", **given)  # type: ignore[arg-type]


class TestRunsMadeByHand:
    def test_a_run_that_tells_its_shares(self, tmp_path: Path, browser: Browser) -> None:
        result = run(steps=STEPS, scores=SCORES, stages=STAGES, holdout=Holdout(20, 5, 12, 8, 1))
        browser.open(written(tmp_path, page([], [Tuning(result, "openai/small", "openai/large")])))
        assert browser.one(".axis-name.dev").text == "Right on dev samples"
        assert len(browser.all("svg.dev .racer")) == 5
        places = [mark.location for mark in browser.all("svg .mark-step circle")]
        assert places[0]["y"] > places[2]["y"]  # 60 % stand higher than 50 %; the third is below, with what met no dev
        assert places[3]["y"] > places[1]["y"] > places[0]["y"]
        assert [place["x"] for place in places[:3]] == sorted(place["x"] for place in places[:3])
        assert browser.run("return document.querySelectorAll('svg.dev .incumbent').length") == 3
        assert browser.texts("svg.hold .value") == ["25 %", "60 %"]
        assert browser.one(".step:nth-child(2) .what").text == "reflect <b>bold</b>"
        assert [row.split()[:3] for row in browser.texts(".spend tbody tr")[:2]] == [
            ["examples", "40", "$0.0200"],
            ["reflect", "30", "$0.0100"],
        ]
        assert "openai/large" in browser.one(".spend thead").text
        assert browser.log("browser") == []

    def test_the_line_follows_the_accepted_steps(self) -> None:
        picture = history_picture(run(steps=STEPS, usage=TuneUsage(task=Usage(100))))
        assert picture is not None
        first, second = (mark for mark in picture.marks if mark.accepted)
        level, up, rest = picture.incumbent
        assert (level.x1, level.y1, level.x2, level.y2) == (first.x, first.y, second.x, first.y)
        assert (up.x1, up.y1, up.y2) == (second.x, first.y, second.y)
        assert (rest.x2, rest.y2) == (97.0, second.y)

    def test_a_run_that_turned_everything_down(self, tmp_path: Path, browser: Browser) -> None:
        result = run(accepted=False, reason="nothing was better", steps=STEPS[1:3], scores=SCORES)
        browser.open(written(tmp_path, page([], [Tuning(result, "openai/small")])))
        assert len(browser.all("svg.dev .mark-step")) == 2
        assert browser.run("return document.querySelectorAll('svg.dev .incumbent').length") == 0
        assert browser.log("browser") == []

    def test_marks_do_not_cover_each_other(self) -> None:
        same = tuple(Step("prune", f"without {at}", calls=50) for at in range(5))
        picture = history_picture(run(steps=same))
        assert picture is not None
        assert len({(mark.x, mark.y) for mark in picture.unseen}) == 5
        assert picture.strip > max(mark.y for mark in picture.unseen)

    def test_half_a_character_in_a_step_is_no_obstacle(self, tmp_path: Path, browser: Browser) -> None:
        step = Step("prune", "half \ud83d of it", calls=3)
        browser.open(written(tmp_path, page([], [Tuning(run(steps=(step,)), "m")])))
        assert browser.one(".step .what").text == "prune half U+D83D of it"

    def test_a_run_that_tried_nothing(self, tmp_path: Path, browser: Browser) -> None:
        result = run(accepted=False, reason="no candidate was tried", stop_reason="too few")
        browser.open(written(tmp_path, page([], [Tuning(result, "openai/small")])))
        assert browser.one("h1").text == "Tuning left the prompt as it was"
        assert browser.texts(".tuning .quiet") == ["No candidate was put to the test.", "It was left as it was."]
        assert browser.log("browser") == []


def result_of(count: int) -> PromptResult:
    """Return a prompt with so many cases of 200 characters each, and replies of 150."""
    draw = Random(3)
    outcomes = []
    for at in range(count):
        label, read = draw.choice("ab"), draw.choice(["a", "b", "b", None])
        text = f"{at} {'word ' * 40}"
        reply = ChatReply("because " * 19, 100, 10)
        outcomes.append(Outcome(Sample(f"n{at}", text, label, path="d.csv", line=at + 2), reply, read))
    outcomes.append(Outcome(Sample("half", "half \ud83d", "a"), ChatReply("\udc00", 1, 1), "a"))
    evaluation = Evaluation("big", "big.prompt.yaml", "openai/m", "h", ("a", "b"), tuple(outcomes), Usage(count, count))
    return judge(evaluation, None, gates=Gates(), strict=False, known_cases=())


class TestManyCases:
    def test_a_thousand_cases_are_less_than_a_megabyte(self) -> None:
        assert len(page([result_of(1000)]).encode()) < 1_000_000

    def test_ten_thousand_cases_are_shown_a_page_at_a_time(self, tmp_path: Path, browser: Browser) -> None:
        browser.open(written(tmp_path, page([result_of(10_000)])))
        assert browser.one(".found").text == "1–50 of 10,001 cases"
        assert len(browser.all(".case")) == 50
        assert browser.run("return document.querySelectorAll('*').length") < 2500
        browser.one(".next").click()
        assert browser.one(".page").text == "Page 2 of 201"
        assert browser.one(".found").text == "51–100 of 10,001 cases"
        browser.open(tmp_path / "page.html", "#big/sample-n9998")
        assert browser.one("details[open] .name").text == "sample-n9998"

    def test_half_a_character_is_written_out(self, tmp_path: Path, browser: Browser) -> None:
        browser.open(written(tmp_path, page([result_of(3)])), "#big/sample-half")
        assert browser.one(".for-text dd").text == "half U+D83D"
        assert browser.one(".for-reply dd").text == "U+DC00"
