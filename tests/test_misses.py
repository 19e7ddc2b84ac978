"""A missing recording says what changed since the sample was last recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conftest import MOODS, PROMPT

if TYPE_CHECKING:
    from conftest import Project

EXAMPLES = [{"text": "a lovely cat", "label": "good"}]


def said(result: pytest.RunResult) -> str:
    """Return why sample s1 has no reply."""
    (at,) = [at for at, line in enumerate(result.outlines) if line.strip("_") == " sample-s1 "]
    return result.outlines[at + 1]


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ({"prompt": PROMPT | {"system_prompt": "Good or bad?"}}, "system_prompt"),
        ({"prompt": PROMPT | {"user_prompt_prefix": "<t>"}}, "user_prompt_prefix"),
        ({"prompt": PROMPT | {"user_prompt_suffix": "</t>"}}, "user_prompt_suffix"),
        ({"prompt": PROMPT | {"bot_reply_prefix": "Label:"}}, "bot_reply_prefix"),
        ({"prompt": PROMPT | {"examples": EXAMPLES}}, "examples"),
        ({"params": {"temperature": 0.5, "top_p": 1}}, "parameter temperature (0 → 0.5)"),
        ({"params": {"top_p": 1}}, "parameter temperature (0 → none)"),
        ({"params": {"temperature": 0, "top_p": 1, "seed": 7}}, "parameter seed (none → 7)"),
    ],
)
def test_a_miss_names_the_part_that_changed(project: Project, fields: dict[str, Any], changed: str) -> None:
    params = {"temperature": 0, "top_p": 1}
    project.write(MOODS[:2], params=params)
    project.record()
    project.write(MOODS[:2], **{"params": params, **fields})
    result = project.replay()
    result.assert_outcomes(failed=2, skipped=1)
    assert said(result) == f"no recorded reply: changed since it was recorded: {changed}"


def test_model_and_endpoint(project: Project) -> None:
    project.write(MOODS[:2])
    project.record()
    project.write(MOODS[:2], model={"provider": "openai", "name": "n", "base_url": "http://127.0.0.1:9/v1"})
    assert said(project.replay()) == (
        "no recorded reply: changed since it was recorded: "
        f'the endpoint (was {project.model.url}/chat/completions), model ("m" → "n")'
    )


def test_several_parts_at_once(project: Project) -> None:
    project.write(MOODS[:2])
    project.record()
    prompt = PROMPT | {"system_prompt": "?", "user_prompt_prefix": "", "user_prompt_suffix": ""}
    project.write(MOODS[:2], prompt=prompt)
    assert said(project.replay()).endswith(": system_prompt, user_prompt_prefix, user_prompt_suffix")


def test_text_of_a_sample_with_an_id_of_its_own(project: Project) -> None:
    project.write(MOODS[:2])
    project.record()
    project.write((("s1", "a lovely day indeed", "good"), MOODS[1]))
    result = project.replay()
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    assert said(result) == "no recorded reply: changed since it was recorded: this sample's text"


def test_new_sample(project: Project) -> None:
    project.write(MOODS[1:])
    project.record()
    project.write(MOODS)
    assert said(project.replay()) == "no recorded reply: this sample is new, or its text was edited"
    project.write(MOODS, params={"temperature": 0})
    assert said(project.replay()) == (
        "no recorded reply: this sample is new, or its text was edited; also changed: parameter temperature (none → 0)"
    )


def test_new_id_for_a_text_that_was_recorded(project: Project) -> None:
    project.write((("old", *MOODS[0][1:]), MOODS[1]))
    project.record()
    project.write(MOODS[:2])
    project.replay().assert_outcomes(passed=2, skipped=1)
    project.write(MOODS[:2], params={"temperature": 0})
    assert said(project.replay()).endswith("changed since it was recorded: parameter temperature (none → 0)")


def test_never_recorded(project: Project) -> None:
    project.write(MOODS[:2])
    result = project.replay("--junitxml=cases.xml")
    assert result.ret == 1
    assert (project.path / "cases.xml").read_text().count("no reply is recorded for this prompt yet") >= 2


def test_the_nearest_of_several_recordings_counts(project: Project) -> None:
    for temperature in range(5):
        project.write(
            MOODS[:1], params={"temperature": temperature}, prompt=PROMPT | {"system_prompt": str(temperature)}
        )
        project.record()
    project.write(MOODS[:1], params={"temperature": 3}, prompt=PROMPT | {"system_prompt": "3."})
    assert said(project.replay()).endswith("changed since it was recorded: system_prompt")
