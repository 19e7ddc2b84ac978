"""Prompt files among other tests: names, markers, selection, and mistakes in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mood_project import MOODS

if TYPE_CHECKING:
    from mood_project import Project

CANONICAL = [{"id": "never", "text": "a lovely dog", "label": "good"}]
WRONG = ("w1", "a dreadful bore, and I loved it", "good")


def collected(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if "::" in line]


def names(result: pytest.RunResult) -> list[str]:
    """Return the names of the cases that ``-v`` lists."""
    return [line.partition("::")[2].split()[0] for line in result.outlines if "::" in line and "%]" in line]


@pytest.fixture
def recorded(project: Project) -> Project:
    """A recorded project with a canonical sample and a case that fails."""
    project.write((*MOODS, WRONG), canonical=CANONICAL, gates={"accuracy": 0.5})
    project.record()
    return project


def test_canonicals_come_first_then_samples_then_gates(project: Project) -> None:
    gates = {"missing": 0.1, "recall": {"good": 0.5}, "accuracy": 0.5}
    project.write(MOODS[:2], at="prompts/mood.prompt.yaml", canonical=CANONICAL, gates=gates)
    assert collected(project.run("--collect-only", "-q")) == [
        "prompts/mood.prompt.yaml::canonical-never",
        "prompts/mood.prompt.yaml::sample-s1",
        "prompts/mood.prompt.yaml::sample-s2",
        "prompts/mood.prompt.yaml::gate-accuracy",
        "prompts/mood.prompt.yaml::gate-recall",
        "prompts/mood.prompt.yaml::gate-missing",
        "prompts/mood.prompt.yaml::gate-regression",
    ]
    assert project.model.asked == []


def test_without_the_flag_no_prompt_file_is_opened(project: Project) -> None:
    (project.path / "broken.prompt.yaml").write_text("prompt: [")
    (project.path / "test_own.py").write_text("def test_own(): pass\n")
    project.pytest().assert_outcomes(passed=1)
    assert project.run().ret == 2


def test_prompt_files_run_beside_other_tests(recorded: Project) -> None:
    (recorded.path / "test_own.py").write_text("def test_own(): pass\n")
    recorded.replay().assert_outcomes(passed=7, failed=1, skipped=1)


def test_ids_without_an_id_column_are_stable_when_rows_move(project: Project) -> None:
    data = project.write(samples={"file": "mood.csv"}).with_name("mood.csv")
    data.write_text("text,label\na lovely day,good\na dreadful day,bad\n")
    before = collected(project.run("--collect-only", "-q"))
    data.write_text("text,label\na new day,good\na dreadful day,bad\na lovely day,good\n")
    after = collected(project.run("--collect-only", "-q"))
    assert len(before) == 3
    assert set(before) < set(after)


@pytest.mark.parametrize("own", ["a[0]", "a::b", "a b", "ü/ö", "-x", "100%", "a@b", "q'\"", "a\tb", "a\x1b[31mb", "*"])
def test_every_id_can_be_selected(project: Project, own: str) -> None:
    project.write(((own, "a lovely day", "good"), *MOODS))
    listed = collected(project.run("--collect-only", "-q"))
    case = listed[0]
    name = case.partition("::sample-")[2]
    assert case.startswith("mood.prompt.yaml::sample-")
    assert name.isprintable()
    assert not set(name) & set("[]")
    assert "::" not in name
    assert collected(project.run("--collect-only", "-q", case)) == [case]


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("canonical", ["canonical-never"]),
        ("labeled", ["sample-s1", "sample-s2", "sample-s3", "sample-s4", "sample-w1"]),
        ("gate", ["gate-accuracy", "gate-regression"]),
        ("promptfit and not labeled", ["canonical-never", "gate-accuracy", "gate-regression"]),
        ("not promptfit", []),
    ],
)
def test_markers_select(project: Project, expression: str, chosen: list[str]) -> None:
    project.write((*MOODS, WRONG), canonical=CANONICAL, gates={"accuracy": 0.5})
    listed = collected(project.run("--collect-only", "-q", "--strict-markers", "-m", expression))
    assert [case.partition("::")[2] for case in listed] == chosen


def test_markers_are_listed(project: Project) -> None:
    result = project.pytest("--markers")
    result.stdout.fnmatch_lines([f"@pytest.mark.{name}: *" for name in ("promptfit", "canonical", "labeled", "gate")])


def test_only_what_is_selected_is_asked(project: Project) -> None:
    project.write(canonical=CANONICAL)
    project.write(at="other.prompt.yaml")
    project.record("mood.prompt.yaml::sample-s2").assert_outcomes(passed=1)
    assert len(project.model.asked) == 1
    assert "a lovely walk" in project.model.asked[0]
    project.record("-k", "mood and (s2 or s3 or never)").assert_outcomes(passed=3)
    assert len(project.model.asked) == 3
    project.record("-m", "canonical").assert_outcomes(passed=1)
    assert len(project.model.asked) == 3
    project.record("mood.prompt.yaml").assert_outcomes(passed=5, skipped=1)
    assert len(project.model.asked) == 5


def test_collecting_asks_nothing(project: Project) -> None:
    project.write()
    assert project.record("--collect-only").ret == 0
    assert project.model.asked == []
    assert not (project.path / "cassettes").exists()


def test_lf_runs_what_failed(recorded: Project) -> None:
    recorded.replay().assert_outcomes(passed=6, failed=1, skipped=1)
    result = recorded.replay("--lf", "-v")
    assert names(result) == ["sample-w1"]
    result.assert_outcomes(failed=1)


def test_x_stops_at_the_first_failure(recorded: Project) -> None:
    result = recorded.replay("-x")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])


def test_durations_list_cases(recorded: Project) -> None:
    result = recorded.replay("--durations=2", "-vv")
    result.stdout.re_match_lines([r"[\d.]+s (call|setup|teardown) +mood.prompt.yaml::\S+"])


def test_file_named_twice_counts_once(recorded: Project) -> None:
    result = recorded.replay("--keep-duplicates", "mood.prompt.yaml", "mood.prompt.yaml")
    result.stdout.fnmatch_lines(["  canonical 1 of 1 right", "  gate accuracy: passed: accuracy 80.0 % (4 of 5, *"])


@pytest.mark.parametrize("style", ["auto", "long", "short", "line", "native", "no"])
def test_no_style_shows_a_traceback(recorded: Project, style: str) -> None:
    result = recorded.replay(f"--tb={style}", "-k", "w1")
    assert result.ret == 1
    assert "Traceback" not in result.stdout.str()
    assert "cases.py" not in result.stdout.str()
    assert result.errlines == []


def test_runs_without_a_terminal_reporter(recorded: Project) -> None:
    assert recorded.replay("-p", "no:terminal").ret == 1
    assert recorded.replay("-p", "no:terminal", "-k", "s1").ret == 0


def test_names_of_prompt_files_are_an_ini_setting(project: Project) -> None:
    path = project.write()
    path.rename(project.path / "mood.yaml")
    (project.path / "pytest.ini").write_text("[pytest]\npromptfit_files = *.yaml *.prompt.yml\n")
    assert collected(project.run("--collect-only", "-q"))[0] == "mood.yaml::sample-s1"


def test_cassettes_folder_is_an_ini_setting_relative_to_the_root(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(at="a/b/mood.prompt.yaml")
    (project.path / "pytest.ini").write_text("[pytest]\npromptfit_cassettes = a/tapes\n")
    monkeypatch.chdir(project.path / "a" / "b")
    assert project.record().ret == 0
    assert list((project.path / "a" / "tapes" / "mood").glob("*.yaml"))
    assert project.replay().ret == 0


def test_mistake_is_one_line_and_nothing_is_asked(project: Project) -> None:
    project.write()
    bad = project.write(at="bad.prompt.yaml", labls=["good"])
    line = bad.read_text().splitlines().index("labls:") + 1
    result = project.record()
    assert result.ret == 2
    assert project.model.asked == []
    (said,) = [text for text in result.outlines if text.startswith("bad.prompt.yaml")]
    assert said.startswith(f"bad.prompt.yaml:{line}: labls: ")
    assert "Traceback" not in result.stdout.str()


def test_other_files_run_with_continue_on_collection_errors(project: Project) -> None:
    project.write()
    project.write(at="bad.prompt.yaml", labls=["good"])
    result = project.record("--continue-on-collection-errors")
    assert result.ret == 1
    result.assert_outcomes(passed=4, skipped=1, errors=1)
    assert len(project.model.asked) == 4


def test_mistake_in_a_python_test_stops_the_asking_too(project: Project) -> None:
    project.write()
    (project.path / "test_own.py").write_text("import nothing_of_that_name\n")
    assert project.record().ret == 2
    assert project.model.asked == []


def test_two_prompts_with_one_name_are_refused(project: Project) -> None:
    (project.path / "pytest.ini").touch()
    project.write(at="a/mood.prompt.yaml")
    project.write(at="b/other.prompt.yaml", name="mood")
    result = project.record()
    assert result.ret == 4
    (line,) = [line for line in result.errlines if line]
    assert line == (
        "ERROR: b/other.prompt.yaml: name: 'mood' is also the name of a/mood.prompt.yaml: "
        "expected different names, because recordings are kept by name"
    )
    assert project.model.asked == []
    assert project.record("a").ret == 0


def test_two_prompts_with_one_name_in_two_projects_keep_their_recordings_apart(project: Project) -> None:
    for folder in ("a", "b"):
        project.write(at=f"{folder}/mood.prompt.yaml")
        (project.path / folder / "pytest.ini").touch()
    project.record().assert_outcomes(passed=8, skipped=2)
    assert (project.path / "a/cassettes/mood/replies.yaml").is_file()
    assert (project.path / "b/cassettes/mood/replies.yaml").is_file()


def test_refused_key_stops_the_run_in_one_line(project: Project) -> None:
    from loopback_server import error

    project.model.says = lambda _: error(401, "bad key")
    project.write()
    result = project.record()
    assert result.ret != 0
    assert len(project.model.asked) == 1
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert "bad key" in result.stdout.str() + result.stderr.str()
