"""``prompt.label_notes``: what each label means, listed with the labels where a text says ``{labels}``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import command_line
import pytest
from mood_project import PROMPT

from pytest_promptfit import load_prompt
from pytest_promptfit.chat.request import ChatBuilder
from pytest_promptfit.prompts.model import Prompt

if TYPE_CHECKING:
    from mood_project import Project

NOTES = {"good": "fine weather, and all who like it", "bad": "rain"}
LISTED = "- good: fine weather, and all who like it\n- bad: rain"


def sent(**fields: Any) -> list[str]:
    """Return the system prompt and the user turn of a prompt with notes."""
    prompt = Prompt(**{"label_notes": NOTES, **fields})
    request = ChatBuilder(prompt, ["good", "bad"], model="m", params={}, continues=True).request("Sun!")
    return [request.system, request.turns[-1].text]


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("{labels}", LISTED),
        ("Is it one of: {labels}.", f"Is it one of:\n{LISTED}"),
        ("Is it one of\n{labels}\nor none?", f"Is it one of\n{LISTED}\nor none?"),
        ("Choose from {labels}. Say no more.", f"Choose from\n{LISTED}\nSay no more."),
        ("<labels>{labels}</labels>", f"<labels>\n{LISTED}\n</labels>"),
    ],
)
def test_the_list_has_its_lines_for_itself(text: str, becomes: str) -> None:
    assert sent(system_prompt=text)[0] == becomes


@pytest.mark.parametrize(
    ("fields", "becomes"),
    [
        ({"user_prompt_prefix": "Of {labels}"}, f"Of\n{LISTED}\nSun!"),
        ({"user_prompt_suffix": "{labels}?"}, f"Sun!\n{LISTED}"),
    ],
)
def test_the_list_is_set_apart_from_the_sample(fields: dict[str, str], becomes: str) -> None:
    assert sent(**fields)[1] == becomes


def test_notes_are_told_once_and_a_label_without_one_is_listed_too() -> None:
    system, user = sent(
        system_prompt="{labels}\nOne of {labels}.",
        user_prompt_suffix="\nWhich is it: {labels}?",
        label_notes={"bad": "rain,\nsleet"},
        label_words={"bad": "awful"},
    )
    assert system == "- good\n- awful: rain, sleet\nOne of good, awful."
    assert user == "Sun!\nWhich is it: good, awful?"


def test_what_is_asked_replays_and_is_what_show_and_production_send(project: Project) -> None:
    project.write(prompt={**PROMPT, "system_prompt": "Is it {labels}?", "label_notes": NOTES})
    project.record().assert_outcomes(passed=4, skipped=1)
    project.replay().assert_outcomes(passed=4, skipped=1)
    path = project.path / "mood.prompt.yaml"
    printed = command_line.promptfit("show", path, "--sample", "s1", cwd=project.path).out
    assert "  - good: fine weather, and all who like it\n  - bad: rain\n" in printed
    asked = json.loads(project.model.asked[0])["messages"]
    with load_prompt(path) as classify:
        assert classify.messages("a lovely day") == asked
    assert asked[0] == {"role": "system", "content": f"Is it\n{LISTED}"}


def test_a_prompt_without_notes_has_the_name_it_had_before_there_were_any() -> None:
    prompt = Prompt(system_prompt="Is it {labels}?")
    assert prompt.content_hash == "5c776e695e7d"
    assert prompt.model_copy(update={"label_notes": NOTES}).content_hash != prompt.content_hash


def test_labels_are_listed_in_an_order_of_their_own() -> None:
    order = {"label_order": ["c", "a"], "label_notes": {"a": "x"}}
    prompt = Prompt(system_prompt="{labels}", user_prompt_suffix=" {labels}", **order)
    request = ChatBuilder(prompt, ["a", "b", "c"], model="m", params={}, continues=True).request("?")
    assert (request.system, request.turns[-1].text) == ("- c\n- a: x\n- b", "? c, a, b")
