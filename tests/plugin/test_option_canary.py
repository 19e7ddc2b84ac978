"""``--promptfit-canary N``: recorded samples asked again, live, nothing written; a drift beyond chance fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from command_line import promptfit
from loopback_server import error
from mood_project import by_keyword
from numbered_samples import numbered, wrong_about
from scipy.stats import betabinom, binom

if TYPE_CHECKING:
    from pathlib import Path

    from mood_project import Project

COLD = {"temperature": 0}
COUNT = 30


def tree(folder: Path) -> dict[str, bytes]:
    """Return all files of a project but pytest's own cache and the reports that were asked for."""
    found = (path for path in folder.rglob("*") if path.is_file() and "cache" not in path.name)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if ".pytest_cache" not in path.parts}


def recorded(project: Project, wrong: set[int] = frozenset(), **fields: Any) -> None:  # type: ignore[assignment]
    project.write(numbered(COUNT), cases="gated", **{"params": COLD, **fields})
    project.model.says = wrong_about({*wrong})
    assert project.record("--promptfit-update").ret == 0


def canary(project: Project, count: int = COUNT, *arguments: str) -> pytest.RunResult:
    return project.run("--promptfit-canary", str(count), *arguments)


def line(result: pytest.RunResult) -> str:
    (found,) = [one for one in result.outlines if one.startswith("mood: canary: ")]
    return found.removeprefix("mood: canary: ")


def midp(broken: int, fixed: int) -> float:
    return float(binom.sf(broken, broken + fixed, 0.5) + binom.pmf(broken, broken + fixed, 0.5) / 2)


def test_an_unchanged_model_passes_and_nothing_is_written(project: Project) -> None:
    recorded(project)
    before, asked = tree(project.path), len(project.model.asked)
    result = canary(project, 20)
    assert result.ret == 0
    assert len(project.model.asked) == asked + 20
    assert len({*project.model.asked[asked:]}) == 20
    assert line(result) == (
        "0 of 20 labels differ from the recording (noise 5.0 %, allowed at temperature 0, p = 1); accuracy on them "
        "100.0 % → 100.0 % (fixed 0, broke 0, p = 0.5); within chance, p = 1, alpha 0.05. Passes."
    )
    assert tree(project.path) == before


def test_other_samples_are_drawn_each_time(project: Project) -> None:
    recorded(project)
    drawn = []
    for _ in range(2):
        asked = len(project.model.asked)
        canary(project, 8, "mood.prompt.yaml::canary")
        drawn.append({*project.model.asked[asked:]})
    assert drawn[0] != drawn[1]  # alike in one of six million


def test_a_model_that_got_worse_fails(project: Project) -> None:
    recorded(project, {0})
    project.model.says = wrong_about({1, 2, 3, 4, 5, 6})
    result = canary(project, COUNT, "--promptfit-json=report.json")
    assert result.ret == 1
    p_labels, p_accuracy = float(binom.sf(6, COUNT, 0.05)), midp(6, 1)
    (found,) = json.loads((project.path / "report.json").read_text())["canary"]
    assert found["p_labels"] == pytest.approx(p_labels)
    assert found["p_accuracy"] == pytest.approx(p_accuracy)
    assert found["p_drift"] == pytest.approx(2 * p_labels)
    assert (found["has_drifted"], found["fails"], found["expected"]) == (True, True, 0.05)
    assert (found["accuracy_before"], found["accuracy"]) == (29 / 30, 24 / 30)
    assert (found["fixed"], found["broken"]) == (["sample-n000"], [f"sample-n00{n}" for n in range(1, 7)])
    assert (found["usage"]["calls"], found["usage"]["replayed"]) == (30, 0)
    said = line(result)
    assert said == found["line"].removeprefix("mood: canary: ")
    assert said.startswith("7 of 30 labels differ from the recording (noise 5.0 %, allowed at temperature 0, p")
    assert f"accuracy on them 96.7 % → 80.0 % (fixed 1, broke 6, p = {p_accuracy:.2g}); drifted beyond chance, " in said
    assert said.endswith("Fails.")
    result.stdout.fnmatch_lines(["  broke: sample-n001, *", "  fixed: sample-n000"])
    # The verdict on the prompt itself is that of its recordings.
    assert any(one.startswith("mood: unchanged from its baseline: 96.7 %. Passes.") for one in result.outlines)


def test_at_another_temperature_labels_are_judged_where_their_noise_was_measured(project: Project) -> None:
    recorded(project, params={"temperature": 1})
    project.model.says = wrong_about({1, 2, 3})
    result = canary(project)
    assert result.ret == 0
    said = line(result)
    assert "(not judged: their noise is not known, promptfit noise measures it)" in said
    assert f"within chance, p = {midp(3, 0):.2g}, alpha 0.05. Passes." in said
    project.model.says = by_keyword
    assert promptfit("noise", "mood.prompt.yaml", "--record", cwd=project.path).code == 0
    project.model.says = wrong_about({1, 2, 3, 4, 5})
    result = canary(project)
    p = max(binom.sf(4, COUNT, 0.05), betabinom.sf(4, COUNT, 0.5, COUNT + 0.5))
    assert f"5 of 30 labels differ from the recording (noise 5.0 %, measured on 30 samples, p = {p:.2g})" in line(
        result
    )
    assert result.ret == 1


def test_the_noise_of_repeats_counts_and_the_first_answer_is_compared(project: Project) -> None:
    asked = dict.fromkeys(range(COUNT), 0)

    def says(text: str) -> str:
        number = int(text.partition("</text>")[0][-3:])
        asked[number] += 1
        return f"<label>{'bad' if number < 10 and asked[number] == 2 else 'good'}</label>"

    project.write(numbered(COUNT), cases="gated", repeats=2, params={"temperature": 1})
    project.model.says = says
    project.record("--promptfit-concurrency", "1")
    project.model.says = wrong_about({0, 1, 2, 3})
    result = canary(project)
    assert result.ret == 0
    p = float(betabinom.sf(3, COUNT, 10.5, 20.5))
    assert f"4 of 30 labels differ from the recording (noise 33.3 %, measured on 30 samples, p = {p:.2g})" in line(
        result
    )
    assert len(project.model.asked) == 2 * COUNT + COUNT


def test_another_model_that_answers_is_named(project: Project) -> None:
    recorded(project)
    project.model.server._answer = lambda seen: _renamed(by_keyword(seen.body["messages"][-1]["content"]))
    result = canary(project)
    assert result.ret == 0
    assert "; answered by test-2 instead of test. Passes." in line(result)


def _renamed(said: str) -> Any:
    from loopback_server import json_answer

    return json_answer({"model": "test-2", "choices": [{"message": {"content": said}}]})


def test_a_limit_that_ends_it_half_way_is_told_and_the_rest_judged(project: Project) -> None:
    recorded(project)
    before = tree(project.path)
    result = canary(project, 20, "--promptfit-max-calls", "7", "--promptfit-concurrency", "1")
    assert result.ret == 0
    assert line(result).startswith("0 of 7 labels differ")
    assert "; 13 samples without a reply: limit of 7 calls reached after 7 calls" in line(result)
    assert tree(project.path) == before


def test_an_api_that_fails_is_told_in_one_line(project: Project, no_waits: None) -> None:
    recorded(project)
    project.model.says = lambda _: error(401, "Incorrect API key")
    result = canary(project, 5)
    assert result.ret == 1
    assert line(result).startswith("5 samples without a reply: ")
    assert "refused (401)" in line(result)
    assert line(result).endswith(". Fails.")
    assert "Traceback" not in result.stdout.str()


def test_more_than_is_recorded(project: Project) -> None:
    recorded(project)
    result = canary(project, 500)
    assert result.ret == 0
    assert line(result).startswith("0 of 30 labels differ")
    assert "; no more than 30 of 500 are recorded. Passes." in line(result)


def test_without_recordings(project: Project) -> None:
    project.write(params=COLD)
    result = canary(project)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*mood.prompt.yaml: canary: nothing is recorded that could be asked again: --promptfit-record comes first"]
    )
    assert project.model.asked == []


def test_a_prompt_that_cannot_be_run_fails_its_canary_too_and_leaves_the_others_theirs(project: Project) -> None:
    project.write(numbered(COUNT), cases="gated", params=COLD, at="other.prompt.yaml")
    recorded(project)
    cassette = project.path / "cassettes/other/replies.yaml"
    cassette.write_text(cassette.read_text().replace("lovely day number 003", "lovely day number 303", 1))
    result = canary(project, 5)
    assert result.ret == 1
    assert line(result).startswith("0 of 5 labels differ")
    said = [one for one in result.outlines if "its checksum does not fit" in one]
    assert len(said) == 1
    result.stdout.fnmatch_lines(["other.prompt.yaml E*E *"])


def test_only_selected_samples_are_drawn_and_a_deselected_canary_is_said(project: Project) -> None:
    recorded(project)
    asked = len(project.model.asked)
    result = canary(project, 20, "-k", "n001 or n002 or canary")
    assert line(result).startswith("0 of 2 labels differ")
    assert len(project.model.asked) == asked + 2
    result = canary(project, 20, "-m", "labeled")
    assert len(project.model.asked) == asked + 2
    result.stdout.fnmatch_lines(["mood.prompt.yaml: no canary: its case is deselected"])


def test_canaries_of_one_run_share_their_alpha(project: Project) -> None:
    project.write(numbered(COUNT), cases="gated", params=COLD, at="other.prompt.yaml")
    recorded(project)
    project.model.says = wrong_about({1, 2, 3, 4, 5})
    result = canary(project)
    assert result.ret == 1
    said = line(result)
    assert "drifted beyond chance" in said
    result = canary(project, COUNT, "mood.prompt.yaml")
    assert "alpha 0.05. Fails." in line(result)
    project.model.says = lambda text: wrong_about({1, 2, 3} if "other" in text else set())(text)
    assert "alpha 0.025 of 0.05 for all canaries. Passes." in line(canary(project))


def test_github_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(project)
    project.model.says = wrong_about({*range(10)})
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    result = canary(project)
    result.stdout.fnmatch_lines(["::error file=mood.prompt.yaml,line=1,title=mood%3A canary::mood: canary: 10 of 30 *"])
    summary = (project.path / "summary.md").read_text()
    assert "- ❌ <code>mood&#58; canary&#58; 10 of 30 labels differ" in summary
    assert "<code>broke&#58; sample-n000" in summary
    # As every night: the canary alone.
    (project.path / "summary.md").unlink()
    assert canary(project, COUNT, "-m", "canary").ret == 1
    summary = (project.path / "summary.md").read_text()
    assert "- ❌ <code>mood&#58; canary&#58; 10 of 30 labels differ" in summary
    assert "| prompt |" not in summary


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--promptfit-record",), "--promptfit-record and --promptfit-canary: a canary writes nothing: leave out one"),
        (("--promptfit-update",), "--promptfit-update and --promptfit-canary: a canary writes nothing: leave out one"),
        (("--promptfit-prune",), "--promptfit-prune and --promptfit-canary: a canary writes nothing: leave out one"),
        (("--tune",), "--tune and --promptfit-canary: a canary writes nothing: leave out one"),
        (("-p", "xdist", "-n2"), "--promptfit-canary runs in one process: leave out pytest-xdist's -n"),
    ],
)
def test_what_contradicts_it_is_refused(project: Project, arguments: tuple[str, ...], said: str) -> None:
    project.write()
    result = canary(project, 5, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.errlines[0] == f"ERROR: {said}"
    assert project.model.asked == []


@pytest.mark.parametrize("count", ["0", "-1", "1.5", "many"])
def test_a_number_of_samples_is_wanted(project: Project, count: str) -> None:
    project.write()
    result = project.run(f"--promptfit-canary={count}")
    assert result.errlines[0] == f"ERROR: --promptfit-canary {count!r}: expected a whole number from 1"
