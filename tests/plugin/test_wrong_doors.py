"""A run that finds no prompt file, because of a path, a pattern or a flag, says which door is the right one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mood_project import Project


@pytest.fixture
def elsewhere(project: Project) -> Project:
    """A project whose prompt is in a hidden folder, which pytest does not enter."""
    project.write(at=".github/prompts/mood.prompt.yaml")
    project.record(".github/prompts")
    (project.path / "test_own.py").write_text("def test_own(): pass\n")
    return project


def error(result: pytest.RunResult) -> str:
    assert result.ret == 4
    (line,) = [line for line in result.errlines if line]
    return line


def test_prompts_in_a_hidden_folder_are_named(elsewhere: Project) -> None:
    assert error(elsewhere.run()) == (
        "ERROR: no prompt file is collected from ., but there is .github/prompts/mood.prompt.yaml: "
        "pytest --promptfit .github/prompts, or name the folder in testpaths"
    ).replace("from .,", f"from {elsewhere.path},")
    assert elsewhere.run(".github/prompts").ret == 0


def test_prompts_out_of_testpaths_are_named(elsewhere: Project) -> None:
    (elsewhere.path / "tests").mkdir()
    (elsewhere.path / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    elsewhere.write(at="prompts/mood.prompt.yaml")
    assert error(elsewhere.run()).startswith(
        "ERROR: no prompt file is collected from tests, but there is .github/prompts/mood.prompt.yaml and 1 more: "
    )
    (elsewhere.path / "pytest.ini").write_text("[pytest]\ntestpaths = tests .github/prompts\n")
    assert elsewhere.run().ret == 0


def test_a_folder_without_prompts_that_was_typed(elsewhere: Project) -> None:
    (elsewhere.path / "src").mkdir()
    assert "no prompt file is collected from src, but there is" in error(elsewhere.run("src"))


def test_a_project_without_any_prompt_is_left_alone(project: Project) -> None:
    (project.path / "test_own.py").write_text("def test_own(): pass\n")
    assert project.run().ret == 0


def test_the_flag_in_the_ini_file_does_not_fail_a_run_of_other_tests(elsewhere: Project) -> None:
    (elsewhere.path / "pytest.ini").write_text("[pytest]\naddopts = --promptfit\n")
    assert elsewhere.pytest("test_own.py").ret == 0
    assert "there is .github/prompts/mood.prompt.yaml" in error(elsewhere.pytest())


def test_under_xdist_it_is_said_too(elsewhere: Project) -> None:
    result = elsewhere.run("-p", "xdist", "-n1")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["error: no prompt file is collected from *"])


@pytest.mark.parametrize("case", ["", "::sample-s1"])
def test_a_prompt_file_without_the_flag_names_the_flag(project: Project, case: str) -> None:
    project.write(at="prompts/mood.prompt.yaml")
    (project.path / "test_own.py").write_text("def test_own(): pass\n")
    typed = f"prompts/mood.prompt.yaml{case}"
    assert error(project.pytest(typed)) == (
        f"ERROR: 'prompts/mood.prompt.yaml' is a prompt file: pytest --promptfit '{typed}'"
    )
    assert project.pytest("test_own.py").ret == 0
    assert project.pytest().ret == 0


def test_a_file_of_another_name_is_told_the_pattern(project: Project) -> None:
    project.write(at="prompts/mood.prompt.yaml").rename(project.path / "prompts/mood.yaml")
    assert error(project.run("prompts/mood.yaml")) == (
        "ERROR: prompts/mood.yaml: not the name of a prompt file: expected *.prompt.yaml *.prompt.yml "
        "(promptfit_files in the ini file says which)"
    )
    project.record("-o", "promptfit_files=*.yaml", "prompts/mood.yaml")
    assert project.run("-o", "promptfit_files=*.yaml", "prompts/mood.yaml").ret == 0


def test_a_file_that_another_plugin_collects_is_left_alone(project: Project) -> None:
    (project.path / "conftest.py").write_text(
        "import pytest\n\n"
        "class Other(pytest.File):\n"
        "    def collect(self):\n        return []\n\n"
        "def pytest_collect_file(file_path, parent):\n"
        "    if file_path.suffix == '.yaml':\n"
        "        return Other.from_parent(parent, path=file_path)\n"
    )
    (project.path / "other.yaml").write_text("a: 1\n")
    assert "not the name" not in project.run("other.yaml").stderr.str()
