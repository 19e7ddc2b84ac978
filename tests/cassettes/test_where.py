"""Where recordings are hangs on the prompt file alone, not on who asks and from where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command_line import promptfit

from pytest_promptfit import PromptfitError, evaluate

if TYPE_CHECKING:
    from mood_project import Project

PROMPT = "packages/shop/prompts/mood.prompt.yaml"
LAYOUTS = {
    "repository": ({".git/HEAD": ""}, "cassettes"),
    "ini at the root": ({"pytest.ini": "[pytest]\npromptfit_cassettes = tapes\n", ".git/HEAD": ""}, "tapes"),
    "pyproject": ({"pyproject.toml": '[tool.pytest]\npromptfit_cassettes = "tapes"\n'}, "tapes"),
    "ini options": ({"pyproject.toml": "[tool.pytest.ini_options]\n", ".git/HEAD": ""}, "cassettes"),
    "nearer ini": ({"packages/shop/pytest.toml": "[pytest]\n", "pytest.ini": ""}, "packages/shop/cassettes"),
    "no pytest in it": ({"packages/shop/pyproject.toml": "[project]\n", ".git/HEAD": ""}, "cassettes"),
    "a worktree": ({".git": "gitdir: elsewhere\n"}, "cassettes"),
    "nothing": ({}, "packages/shop/prompts/cassettes"),
}
STARTS = (
    (".", ()),
    (".", ("packages",)),
    (".", (PROMPT,)),
    ("packages/shop/prompts", ()),
    ("packages/shop", ("prompts/mood.prompt.yaml",)),
    ("packages/other", ("../shop",)),
    ("/", ("{root}",)),
    (".", ("-c", "ci/other.ini", "packages")),
)


@pytest.fixture
def shop(project: Project) -> Project:
    project.write(at=PROMPT)
    lay(project, {"packages/other/readme": "", "ci/other.ini": "[pytest]\naddopts = -q\n"})
    return project


def lay(project: Project, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = project.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def recorded(project: Project) -> list[str]:
    """Return the folders in which there are recordings."""
    return sorted({str(path.relative_to(project.path).parents[1]) for path in project.path.rglob("replies*.yaml")})


def start(project: Project, folder: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.path / folder)
    project.record(*(argument.format(root=project.path) for argument in arguments)).assert_outcomes(passed=4, skipped=1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wherever_it_is_started_a_reply_is_paid_for_once(
    shop: Project, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, expected = LAYOUTS[layout]
    lay(shop, files)
    for folder, arguments in STARTS:
        start(shop, folder, arguments, monkeypatch)
        assert (recorded(shop), len(shop.model.asked)) == ([expected], 4), (folder, arguments)
    monkeypatch.chdir("/")
    assert evaluate(shop.path / PROMPT).confusion.correct == 4
    monkeypatch.chdir(shop.path / "packages")
    assert evaluate("other/../shop/prompts/mood.prompt.yaml", record="missing").usage.replayed == 4
    assert "4 of them are recorded" in promptfit("show", shop.path / PROMPT, cwd=Path("/")).out
    assert len(shop.model.asked) == 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_evaluate_records_pytest_replays(shop: Project, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files, expected = LAYOUTS[layout]
    lay(shop, files)
    monkeypatch.chdir("/")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    evaluate(shop.path / PROMPT, record="missing")
    assert recorded(shop) == [expected]
    monkeypatch.chdir(shop.path)
    shop.replay().assert_outcomes(passed=4, skipped=1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-o", "promptfit_cassettes=here"), "here"),
        (("--rootdir=packages",), "packages/tapes"),
        (("-c", "ci/named.ini"), "ci/named"),
        (("-c", "ci/named.ini", "-o", "promptfit_cassettes=here"), "here"),
        (("-c", "ci/named.ini", "--rootdir=packages"), "packages/named"),
    ],
)
def test_what_the_command_line_says_of_it_wins(shop: Project, arguments: tuple[str, ...], expected: str) -> None:
    lay(shop, {"pytest.ini": "[pytest]\npromptfit_cassettes = tapes\n"})
    lay(shop, {"ci/named.ini": "[pytest]\npromptfit_cassettes = named\n"})
    shop.record(*arguments, "packages").assert_outcomes(passed=4, skipped=1)
    assert recorded(shop) == [expected]


@pytest.mark.parametrize("old", ["cassettes", "packages/cassettes", "packages/shop/cassettes"])
def test_what_an_earlier_version_left_on_the_way_up_is_still_found(shop: Project, old: str) -> None:
    lay(shop, {".git/HEAD": "", "packages/shop/pytest.ini": ""})
    shop.record("-o", f"promptfit_cassettes={shop.path / old}")
    assert recorded(shop) == [old]
    shop.replay().assert_outcomes(passed=4, skipped=1)
    shop.record()
    assert (recorded(shop), len(shop.model.asked)) == ([old], 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[pytest\n", "cannot be read: "),
        ("[pytest]\npromptfit_cassettes = 3\n", "promptfit_cassettes: expected a folder's path, found 3"),
    ],
)
def test_an_ini_file_that_cannot_be_read_is_one_line(shop: Project, text: str, message: str) -> None:
    lay(shop, {"packages/shop/pytest.toml": text})
    with pytest.raises(PromptfitError) as raised:
        evaluate(shop.path / PROMPT)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{Path(shop.path, 'packages/shop/pytest.toml')}: {message}")
