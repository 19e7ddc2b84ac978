"""A missing recording says what changed since the sample was last recorded."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from mood_project import MOODS, PROMPT

from pytest_promptfit.cassettes.cassette import Cassette, Recorded
from pytest_promptfit.cassettes.misses import Misses
from pytest_promptfit.prompts.samples import Sample

if TYPE_CHECKING:
    from mood_project import Project

EXAMPLES = [{"text": "a lovely cat", "label": "good"}]


def said(project: Project) -> str:
    """Return why sample s1 has no reply."""
    result = project.replay("-v")
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
    assert said(project) == f"not recorded: {changed} changed"


def test_model_and_endpoint(project: Project) -> None:
    project.write(MOODS[:2])
    project.record()
    project.write(MOODS[:2], model={"provider": "openai", "name": "n", "base_url": "http://127.0.0.1:9/v1"})
    assert said(project) == (
        f'not recorded: the endpoint (was {project.model.url}/chat/completions), model ("m" → "n") changed'
    )


def test_several_parts_at_once(project: Project) -> None:
    project.write(MOODS[:2])
    project.record()
    prompt = PROMPT | {"system_prompt": "?", "user_prompt_prefix": "", "user_prompt_suffix": ""}
    project.write(MOODS[:2], prompt=prompt)
    assert said(project).endswith(": system_prompt, user_prompt_prefix, user_prompt_suffix changed")


def test_text_of_a_sample_with_an_id_of_its_own(project: Project) -> None:
    project.write(MOODS[:2])
    project.record()
    project.write((("s1", "a lovely day indeed", "good"), MOODS[1]))
    result = project.replay()
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    assert said(project) == "not recorded: the text of this sample changed"


def test_new_sample(project: Project) -> None:
    project.write(MOODS[1:])
    project.record()
    project.write(MOODS)
    assert said(project) == "not recorded: this sample is new, was not asked yet, or its text was edited"
    project.write(MOODS, params={"temperature": 0})
    assert said(project) == (
        "not recorded: this sample is new, was not asked yet, or its text was edited; "
        "also changed: parameter temperature (none → 0)"
    )


def test_new_id_for_a_text_that_was_recorded(project: Project) -> None:
    project.write((("old", *MOODS[0][1:]), MOODS[1]))
    project.record()
    project.write(MOODS[:2])
    project.replay().assert_outcomes(passed=2, skipped=1)
    project.write(MOODS[:2], params={"temperature": 0})
    assert said(project).endswith(": parameter temperature (none → 0) changed")


def test_never_recorded(project: Project) -> None:
    project.write(MOODS[:2])
    result = project.replay("--junitxml=cases.xml")
    assert result.ret == 1
    assert (project.path / "cases.xml").read_text().count("nothing of this prompt is recorded yet") >= 2


def test_the_nearest_of_several_recordings_counts(project: Project) -> None:
    for temperature in range(5):
        project.write(
            MOODS[:1], params={"temperature": temperature}, prompt=PROMPT | {"system_prompt": str(temperature)}
        )
        project.record()
    project.write(MOODS[:1], params={"temperature": 3}, prompt=PROMPT | {"system_prompt": "3."})
    assert said(project).endswith(": system_prompt changed")


def test_what_is_said_of_all_is_said_once(project: Project) -> None:
    project.write()
    project.record("--promptfit-update")
    project.write(prompt=PROMPT | {"system_prompt": "Good or bad?"})
    result = project.replay()
    printed = result.stdout.str()
    assert result.ret == 1
    assert printed.count("system_prompt changed") == 2  # once, and in the verdict
    assert printed.count("--promptfit-record") == 1
    assert "obsolete" not in printed
    assert "FAILURES" not in printed
    result.stdout.fnmatch_lines(
        [
            "  4 of 4 not recorded: system_prompt changed",
            "  record:  pytest --promptfit --promptfit-record mood.prompt.yaml",
            "           4 calls, its price is not known",
            "mood: 4 of 4 not recorded: system_prompt changed. Fails.",
            "*= 4 failed, 1 skipped in *",
        ],
        consecutive=False,
    )


def test_several_causes_are_counted(project: Project) -> None:
    project.write(MOODS[:3])
    project.record()
    project.write((*MOODS, ("s5", "a lovely rest", "good")), params={"temperature": 0})
    lines = project.replay().outlines
    at = lines.index("  5 of 5 not recorded:")
    assert lines[at + 1 : at + 3] == [
        "    3: parameter temperature (none → 0) changed",
        "    2: this sample is new, was not asked yet, or its text was edited; "
        "also changed: parameter temperature (none → 0)",
    ]


@pytest.mark.parametrize("text", ['he said "lovely"', "<text>", "e", "a\\b\nc", 'x</text>"'])
def test_odd_texts_under_a_new_id(project: Project, text: str) -> None:
    project.write((("old", text, "good"),))
    project.record()
    project.write((("s1", text, "good"),), params={"temperature": 0})
    assert said(project) == "not recorded: parameter temperature (none → 0) changed"
    project.write((("s1", text, "good"),), prompt=PROMPT | {"user_prompt_suffix": "</t>"})
    assert "suffix" in said(project) or "its text was edited" in said(project)


DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize(
    "body",
    [
        '{"messages": null}',
        '{"messages": 7, "model": []}',
        '{"messages": [{"role": null, "content": [null, {"text": null}]}, 3]}',
        f'{{"messages": [], "seed": {DEEP}}}',
        "[]",
        "{",
    ],
)
def test_a_recorded_body_of_another_form_is_only_different(body: str) -> None:
    recorded = Recorded("k", "POST", "http://x", body, "{}", sample="s1")

    def payload(text: str) -> dict[str, Any]:
        return {"model": "m", "messages": [{"role": "user", "content": f"<{text}>"}]}

    misses = Misses(Cassette([recorded]), "http://x", payload)
    assert misses.explain(Sample("s1", "a lovely day", "good")).endswith(" changed")
    assert misses.explain(Sample("s2", "a lovely day", "good")).startswith("not recorded: this sample is new")


def test_the_time_grows_with_the_samples_and_no_faster(project: Project) -> None:
    def seconds(count: int) -> float:
        def payload(text: str) -> dict[str, Any]:
            return {"model": "m", "messages": [{"role": "user", "content": f"<{text}>"}]}

        texts = [f'"{at}" {"word " * 30}' for at in range(count)]
        recorded = [
            Recorded(f"k{at}", "POST", "http://x", json.dumps(payload(text)), "{}") for at, text in enumerate(texts)
        ]
        misses = Misses(Cassette(recorded), "http://x", lambda text: {**payload(text), "seed": 1})
        started = time.thread_time()
        for at, text in enumerate(texts):
            assert misses.explain(Sample(f"n{at}", text, "good")) == "not recorded: parameter seed (none → 1) changed"
        return time.thread_time() - started

    assert min(seconds(4000) for _ in range(3)) < 30 * max(seconds(400), 0.01)  # a busy machine is slow at times
