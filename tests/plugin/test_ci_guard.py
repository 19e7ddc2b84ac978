"""What costs money or rewrites files is refused in CI, and so is an option without ``--promptfit`` anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mood_project import Project

WRITING = (
    "--promptfit-record",
    "--promptfit-record=all",
    "--promptfit-update",
    "--promptfit-update=force",
    "--promptfit-prune",
    "--promptfit-canary=5",
)


def error_line(result: pytest.RunResult) -> str:
    """Return the one line of a usage error."""
    assert result.ret == 4
    (line,) = [line for line in result.errlines if line]
    return line


@pytest.mark.parametrize("option", WRITING)
@pytest.mark.parametrize("value", ["true", "1", "woodpecker"])
def test_writing_is_refused_in_ci(project: Project, monkeypatch: pytest.MonkeyPatch, option: str, value: str) -> None:
    project.write()
    monkeypatch.setenv("CI", value)
    name = option.partition("=")[0]
    assert error_line(project.run(option)) == (
        f"ERROR: {name} is refused while CI is set: add --promptfit-allow-ci if that is meant"
    )
    assert project.model.asked == []
    assert sorted(path.name for path in project.path.iterdir()) == ["mood.csv", "mood.prompt.yaml"]


@pytest.mark.parametrize("value", ["false", "False", "0", ""])
def test_ci_set_to_no_is_no_ci(project: Project, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    project.write()
    monkeypatch.setenv("CI", value)
    assert project.record("--promptfit-update", "--promptfit-prune").ret == 0
    assert len(project.model.asked) == 4


def test_allowed_in_ci(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write()
    monkeypatch.setenv("CI", "true")
    assert project.record("--promptfit-update", "--promptfit-prune", "--promptfit-allow-ci").ret == 0
    assert len(project.model.asked) == 4
    assert len(project.baseline()["cases"]) == 4


def test_replay_is_never_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write()
    project.record()
    monkeypatch.setenv("CI", "true")
    assert project.replay("--promptfit-json", "report.json").ret == 0
    assert (project.path / "report.json").exists()


@pytest.mark.parametrize(
    "option",
    [
        *WRITING,
        "--promptfit-against=main",
        "--promptfit-budget=1",
        "--promptfit-max-calls=1",
        "--promptfit-json=report.json",
        "--promptfit-concurrency=2",
        "--promptfit-allow-ci",
    ],
)
def test_option_without_promptfit_is_a_usage_error(project: Project, option: str) -> None:
    project.write()
    name = option.partition("=")[0]
    assert error_line(project.pytest(option)) == f"ERROR: {name} needs --promptfit: pytest --promptfit {name} …"


@pytest.mark.parametrize("option", ["--promptfit-budget=1", "--promptfit-max-calls=1"])
def test_limit_without_recording_is_a_usage_error(project: Project, option: str) -> None:
    project.write()
    name = option.partition("=")[0]
    assert error_line(project.run(option)) == (f"ERROR: {name} needs --promptfit-record or --promptfit-canary")
    assert error_line(project.pytest("--tune", option)) == (
        f"ERROR: {name} needs --promptfit-record or --promptfit-canary; "
        "a tuning run is limited by tune.budget in the prompt file"
    )


@pytest.mark.parametrize("option", ["--promptfit-record", "--promptfit-update", "--promptfit-prune"])
def test_dry_run_that_would_write_is_a_usage_error(project: Project, option: str) -> None:
    project.write()
    assert error_line(project.pytest("--tune", "--tune-dry-run", option)) == (
        f"ERROR: {option} and --tune-dry-run: a dry run asks and writes nothing: leave out one"
    )
    assert project.model.asked == []


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--promptfit-concurrency=0", "--promptfit-concurrency"),
        ("--promptfit-concurrency=many", "--promptfit-concurrency"),
        ("--promptfit-max-calls=-1", "--promptfit-max-calls"),
        ("--promptfit-budget=free", "--promptfit-budget"),
        ("--promptfit-budget=0", "--promptfit-budget"),
        ("--promptfit-budget=inf", "--promptfit-budget"),
        ("--promptfit-budget=nan", "--promptfit-budget"),
    ],
)
def test_value_that_makes_no_sense_is_a_usage_error(project: Project, option: str, said: str) -> None:
    project.write()
    result = project.run("--promptfit-record", option)
    assert result.ret == 4
    assert "Traceback" not in result.stderr.str()
    assert said in result.stderr.str()
    assert option.partition("=")[2] in result.stderr.str()


def test_bare_record_does_not_swallow_the_path_behind_it(project: Project) -> None:
    project.write(at="prompts/mood.prompt.yaml")
    project.write(at="others/mind.prompt.yaml")
    project.record("prompts").assert_outcomes(passed=4, skipped=1)
    assert len(project.model.asked) == 4


def test_max_calls_stops_before_it_is_passed(project: Project) -> None:
    project.write()
    result = project.record("--promptfit-max-calls=3")
    assert result.ret == 1
    result.assert_outcomes(passed=3, failed=1, skipped=1)
    assert len(project.model.asked) == 3
    result.stdout.fnmatch_lines(["limit of 3 calls reached after 3 calls*"])
    assert project.record("--promptfit-max-calls=3").ret == 0
    assert len(project.model.asked) == 4
