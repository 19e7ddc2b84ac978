"""Which model answered: kept in the baseline, and said where another one answers under the same name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from loopback_server import Answer, json_answer
from mood_project import PROMPT, by_keyword

if TYPE_CHECKING:
    from collections.abc import Callable

    from mood_project import Project


def served(model: str, *fingerprints: str, says: Callable[[str], str] = by_keyword) -> Callable[[str], Answer]:
    """Return a model that answers by a name, with one of its fingerprints after the other."""
    count = iter(range(10**6))

    def answer(text: str) -> Answer:
        body: dict[str, Any] = {"model": model, "choices": [{"message": {"content": says(text)}}]}
        if fingerprints:
            body["system_fingerprint"] = fingerprints[next(count) % len(fingerprints)]
        return json_answer(body)

    return answer


def worse(text: str) -> str:
    """Answer as a model that has forgotten what is bad."""
    del text
    return "<label>good</label>"


def verdict(result: pytest.RunResult) -> str:
    (line,) = [line for line in result.outlines if line.startswith("mood: ")]
    return line


def accepted(project: Project, answer: Callable[[str], Answer]) -> None:
    project.write(cases="gated")
    project.model.says = answer
    assert project.record("--promptfit-update").ret == 0


def test_another_model_under_the_same_name_is_named_and_the_prompt_is_not_blamed(project: Project) -> None:
    accepted(project, served("m-2025-04-14", "fp_b", "fp_a"))
    assert project.baseline()["served"] == [{"model": "m-2025-04-14", "fingerprints": ["fp_a", "fp_b"]}]
    text = (project.path / "mood.baseline.json").read_text()
    assert '  "served": [{"model": "m-2025-04-14", "fingerprints": ["fp_a", "fp_b"]}],\n' in text
    project.model.says = served("m-2026-11-01", "fp_c", says=worse)
    said = verdict(project.ask_anew())
    instead = "answered by m-2026-11-01 instead of m-2025-04-14"
    assert f"{instead}: the prompt is the same, the model is not" in said
    (prompt,) = project.report()["prompts"]
    assert prompt["served"] == [{"model": "m-2026-11-01", "replies": 4, "fingerprints": ["fp_c"]}]
    assert prompt["baseline"]["answered_by"] == instead
    assert prompt["baseline"]["served"][0]["model"] == "m-2025-04-14"
    project.write(cases="gated", prompt={**PROMPT, "system_prompt": "Which mood?"})
    project.record()
    assert f"{instead}: prompt and model both changed" in verdict(project.replay())


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (("m", "fp_a", "fp_b"), ("m", "fp_b", "fp_c"), ""),
        (("m", "fp_a"), ("m",), ""),
        (("m",), ("m", "fp_a"), ""),
        (("m", "fp_a", "fp_b"), ("m", "fp_c"), "answered by m (fp_c) instead of m (fp_a, fp_b)"),
    ],
)
def test_fingerprints_speak_only_where_none_is_shared(
    project: Project, before: tuple[str, ...], now: tuple[str, ...], said: str
) -> None:
    accepted(project, served(*before))
    project.model.says = served(*now)
    line = verdict(project.ask_anew())
    assert line.startswith("mood: unchanged from its baseline: 100.0 %")
    assert said in line
    assert ("answered by" in line) == bool(said)


def test_several_models_are_counted(project: Project) -> None:
    small, large = served("small"), served("large")
    accepted(project, lambda text: large(text) if "walk" in text else small(text))
    assert [(one["model"], one["replies"]) for one in project.baseline()["served"]] == [("large", 2), ("small", 2)]
    assert "answered by" not in verdict(project.replay())
    # Of a part of the samples not all models need to answer.
    assert "answered by" not in verdict(project.replay("-k", "s1"))
    project.model.says = small
    said = verdict(project.ask_anew())
    assert "answered by small instead of large (2 replies) and small (2 replies)" in said


def test_an_old_baseline_says_nothing_and_loses_nothing(project: Project) -> None:
    accepted(project, served("m-2025"))
    path = project.path / "mood.baseline.json"
    value = json.loads(path.read_text())
    del value["served"]
    path.write_text(json.dumps(value))
    project.model.says = served("m-2026")
    result = project.ask_anew()
    assert result.ret == 0
    assert "answered by" not in result.stdout.str()
    # Who answered what is kept is not known, so a part of the samples does not say it of all.
    project.replay("--promptfit-update", "-k", "s1")
    assert "served" not in project.baseline()
    project.replay("--promptfit-update")
    assert project.baseline()["served"] == [{"model": "m-2026", "fingerprints": []}]


def test_a_part_that_is_renewed_adds_who_answered_it(project: Project) -> None:
    accepted(project, served("m-2025"))
    project.model.says = served("m-2026")
    project.ask_anew("-k", "s1")
    project.replay("--promptfit-update", "-k", "s1")
    assert [one["model"] for one in project.baseline()["served"]] == ["m-2025", "m-2026"]


@pytest.mark.parametrize("name", [None, 7, {"a": 1}, "\ud800", "m" * 1000, ""])
def test_what_is_no_name_does_no_harm(project: Project, name: object) -> None:
    project.write(cases="gated")
    project.model.says = lambda text: json_answer(
        {"model": name, "system_fingerprint": name, "choices": [{"message": {"content": by_keyword(text)}}]}
    )
    assert project.record("--promptfit-update").ret == 0
    found = project.baseline().get("served", [])
    assert [len(one["model"]) for one in found] == (
        [] if not isinstance(name, str) or not name else [min(len(name), 200)]
    )
