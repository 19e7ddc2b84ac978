"""``promptfit migrate``: a prompt file goes to another model where that is not worse, whole or not at all."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from command_line import promptfit
from loopback_server import Answer, chat, error
from mood_project import by_keyword

from pytest_promptfit.tuning import migration

if TYPE_CHECKING:
    from collections.abc import Callable

    from mood_project import Project

ROWS = tuple((f"s{n}", f"a {'lovely' if n % 2 else 'dreadful'} day {n}", "good" if n % 2 else "bad") for n in range(20))
CANONICAL = [{"id": "c", "text": "a lovely dog", "label": "good"}]
ALL = len(ROWS) + len(CANONICAL)
PARAMS = {"temperature": 0, "max_tokens": 20}


def migrate(project: Project, *arguments: object, to: str = "openai/new", **environment: str) -> Any:
    return promptfit("migrate", "mood.prompt.yaml", "--to", to, *arguments, cwd=project.path, **environment)


def files(project: Project) -> dict[str, bytes]:
    """Return what only a migration that holds may change."""
    return {name: (project.path / name).read_bytes() for name in ("mood.prompt.yaml", "mood.baseline.json")}


@pytest.fixture
def accepted(project: Project) -> Project:
    """A prompt whose outcomes under ``openai/m`` are accepted."""
    project.write(ROWS, canonical=CANONICAL, params=PARAMS)
    project.record("--promptfit-update")
    return project


def let_new_say(project: Project, says: Callable[[str], str | Answer]) -> None:
    """Let ``new`` answer in its own way, and all others as ever."""

    def answer(seen: Any) -> Answer:
        text = seen.body["messages"][-1]["content"]
        said = (says if seen.body["model"] == "new" else by_keyword)(text)
        return chat(said) if isinstance(said, str) else said

    project.model.server._answer = answer


def bad(_text: str) -> str:
    return "<label>bad</label>"


def bad_dog(text: str) -> str:
    return bad(text) if "dog" in text else by_keyword(text)


def test_what_is_not_worse_is_written_and_replays_green(accepted: Project) -> None:
    project = accepted
    text = (project.path / "mood.prompt.yaml").read_text(encoding="utf-8")
    ran = migrate(project, "--record")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("# Ask openai/new instead of openai/m: mood\n\nUnchanged from its baseline: 100.0 %.\n")
    assert "| | openai/m | openai/new |\n| --- | --- | --- |\n| accuracy | 100.0 % (20 of 20) | 100.0" in ran.out
    assert "\n| canonical right | 1 of 1 | 1 of 1 |\n| tokens in, a call | 100 | 100 |\n" in ran.out
    assert "\npytest --promptfit mood.prompt.yaml\n" in ran.out
    assert len(project.model.asked) == 2 * ALL
    now = (project.path / "mood.prompt.yaml").read_text(encoding="utf-8")
    assert now == text.replace("name: m\n", "name: new\n")
    assert project.baseline()["model"] == "openai/new"
    result = project.replay("-W", "error")
    result.assert_outcomes(passed=ALL + 1)
    assert "obsolete" not in result.stdout.str()
    assert sorted(path.name for path in (project.path / "cassettes/mood").iterdir()) == ["models", "replies.yaml"]
    # And back: what the old model has said is there.
    assert migrate(project, to="openai/m").code == 0
    assert (project.path / "mood.prompt.yaml").read_text(encoding="utf-8") == text
    assert len(project.model.asked) == 2 * ALL
    assert project.replay().ret == 0


def test_each_of_several_answers_goes_with_it(project: Project) -> None:
    project.write(ROWS, params=PARAMS, repeats=2)
    project.record("--promptfit-update")
    needed = 2 * len(ROWS)
    out = migrate(project, "--dry-run").out
    assert out.startswith("would ask openai/new: 40 calls, its price is not known; 0 of 40 replies are recorded\n")
    assert migrate(project, "--record").code == 0
    result = project.replay()
    assert result.ret == 0
    assert "obsolete" not in result.stdout.str()
    # And back: no answer of either model is lost.
    assert migrate(project, to="openai/m").code == 0
    assert project.replay().ret == 0
    assert len(project.model.asked) == 2 * needed


@pytest.mark.parametrize(
    ("says", "said"),
    [
        (bad, "Worse than its baseline: 100.0 % → 50.0 %, −50.0 points (fixed 0, broke 10, p = 0.00049)"),
        (bad_dog, "Unchanged from its baseline: 100.0 %. It does not hold: canonical c wrong."),
    ],
)
def test_what_is_worse_changes_no_file_unless_that_is_meant(
    accepted: Project, says: Callable[[str], str], said: str
) -> None:
    project, before = accepted, files(accepted)
    let_new_say(project, says)
    ran = migrate(project, "--record", "--no-tune")
    assert ran.code == 1
    assert said in ran.out
    assert "\n- not tuned\n" in ran.out
    assert "To check" not in ran.out
    assert ran.err.endswith("mood.prompt.yaml: stays with openai/m, nothing is written (--force writes it)\n")
    assert files(project) == before
    assert project.replay().ret == 0
    asked = len(project.model.asked)
    assert migrate(project, "--force").code == 0
    assert len(project.model.asked) == asked
    assert project.baseline()["model"] == "openai/new"


def test_a_file_without_the_gate_is_held_to_the_usual_level(project: Project) -> None:
    project.write(ROWS, params=PARAMS, gates={"regression": False})
    project.record("--promptfit-update")
    let_new_say(project, bad)
    assert migrate(project, "--record", "--no-tune").code == 1


def test_json_tells_machines(accepted: Project) -> None:
    let_new_say(accepted, bad)
    ran = migrate(accepted, "--record", "--no-tune", "--json")
    found = json.loads(ran.out)
    assert (found["holds"], found["written"], found["from"], found["to"]) == (False, False, "openai/m", "openai/new")
    assert (found["before"]["accuracy"], found["after"]["accuracy"]) == (1.0, 0.5)
    assert found["change"]["broken"] == [f"sample-s{n}" for n in range(1, 20, 2)]
    assert found["change"]["p_value"] == pytest.approx(0.5**11)
    assert "+  name: new" in found["diff"]
    assert found["body"].startswith("# Ask openai/new instead of openai/m: mood\n")


def test_a_budget_that_ends_half_way_loses_nothing(accepted: Project) -> None:
    project, before = accepted, files(accepted)
    ran = migrate(project, "--record", "--max-calls", 8, "--concurrency", 1)
    assert ran.mistake == (
        "promptfit migrate: 13 of 21 samples without a reply: limit of 8 calls reached after 8 calls: the rest was "
        "not asked; run again with a larger --max-calls; 8 replies are kept, and no other file was changed"
    )
    assert files(project) == before
    replayed = migrate(project)
    assert replayed.mistake.startswith("promptfit migrate: 13 of 21 replies of openai/new not recorded: promptfit mig")
    assert "migrate mood.prompt.yaml --to openai/new --record (13 calls, its price is not known)" in replayed.mistake
    assert migrate(project, "--record").code == 0
    assert len(project.model.asked) == 2 * ALL


def test_what_was_compared_is_not_asked_again(accepted: Project) -> None:
    promptfit("compare", "mood.prompt.yaml", "--model", "openai/new", "--record", cwd=accepted.path)
    asked = len(accepted.model.asked)
    assert asked == 2 * ALL
    assert migrate(accepted).code == 0
    assert len(accepted.model.asked) == asked


def test_wherever_it_is_broken_off_the_file_replays_green(accepted: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project, text = accepted, (accepted.path / "mood.prompt.yaml").read_bytes()

    def broken_off(*_: Any) -> None:
        raise KeyboardInterrupt

    for step in ("write_rewritten", "write_baseline", "prune"):
        with monkeypatch.context() as patched:
            patched.setattr(migration, step, broken_off)
            assert migrate(project, "--record").code == 130
        assert project.replay().ret == 0, step
        # Back to the start: the recordings stay.
        (project.path / "mood.prompt.yaml").write_bytes(text)
        assert project.replay("--promptfit-update=force").ret == 0, step
    assert migrate(project).code == 0
    assert len(project.model.asked) == 2 * ALL


def test_a_model_that_is_none_is_one_line(accepted: Project) -> None:
    project, before = accepted, files(accepted)
    let_new_say(project, lambda _: error(404, "The model `new` does not exist", "model_not_found"))
    said = migrate(project, "--record").mistake
    assert said.startswith("promptfit migrate: 21 of 21 samples without a reply: ")
    assert "The model `new` does not exist" in said
    assert len(said.splitlines()) == 1
    assert files(project) == before


@pytest.mark.parametrize(
    ("arguments", "to", "said"),
    [
        ((), "openai/m", "mood.prompt.yaml: asks openai/m already: expected another model"),
        ((), "gpt-4", "'gpt-4': expected PROVIDER/NAME, such as openai/"),
        (("--budget", "1"), "openai/new", "--budget needs --record"),
    ],
)
def test_a_mistake_is_one_line(accepted: Project, arguments: tuple[str, ...], to: str, said: str) -> None:
    assert migrate(accepted, *arguments, to=to).mistake.startswith(f"promptfit migrate: {said}")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("{model: x}", "'{model: x}': expected no `model`: it is made from the prompt"),
        ("high", "'high': expected a mapping, such as {temperature: 0}"),
        ("{a", "--params:2: not YAML: "),
    ],
)
def test_parameters_that_are_none_are_refused(project: Project, params: str, said: str) -> None:
    ran = migrate(project, "--params", params)
    assert ran.code == 2
    assert f"argument --params: {said}" in ran.err


def test_there_must_be_something_to_compare_with(project: Project) -> None:
    project.write(ROWS)
    assert "mood.prompt.yaml: no baseline, and not all replies of openai/m are recorded" in migrate(project).mistake
    project.record()
    assert migrate(project, "--record").code == 0
    assert project.baseline()["metrics"]["accuracy"] == 1.0


def test_a_dry_run_says_what_it_would_ask(accepted: Project) -> None:
    asked, before = len(accepted.model.asked), files(accepted)
    out = migrate(accepted, "--dry-run").out.splitlines()
    assert out[:2] == [
        "would ask openai/new: 21 calls, its price is not known; 0 of 21 replies are recorded",
        'parameters: {"temperature": 0, "max_tokens": 20} (as they were)',
    ]
    assert out[-1] == "a dry run: nothing was asked or written"
    assert any(line.startswith("  task model: openai/new, at most 600 calls") for line in out)
    assert len(accepted.model.asked) == asked
    assert files(accepted) == before


def test_another_provider_s_model_gets_the_parameters_that_it_takes(accepted: Project) -> None:
    out = migrate(accepted, "--dry-run", "--no-tune", to="anthropic/claude-haiku-5-5").out
    assert "would ask anthropic/claude-haiku-5-5: 21 calls, about $0.0" in out
    assert 'parameters: {"max_tokens": 2000} (its thoughts count into the limit, and it refuses a temperature)' in out
    said = migrate(accepted, "--dry-run", "--params", "{max_tokens: 9}", to="anthropic/claude-haiku-5-5").out
    assert 'parameters: {"max_tokens": 9} (as you say)' in said
    assert re.search("first: anthropic/claude-haiku-5-5: no API key", out)
