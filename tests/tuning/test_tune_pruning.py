"""Pruning drops what does not pay, piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mood_project import PROMPT
from tuning_models import RULE, adds_the_rule, by_rule

if TYPE_CHECKING:
    from tuning_models import TuningProject


def test_several_sentences_of_one_text_are_pruned(project: TuningProject) -> None:
    project.model.task, project.model.optimizer = by_rule, adds_the_rule
    project.prompt(
        prompt={**PROMPT, "system_prompt": "Is the mood good or bad? Be kind. Be brief."},
        tune={"model": project.optimizer_model(), "iterations": 1, "edit": ["system_prompt"]},
    )
    entry = project.tuned()
    pruned = [step["summary"] for step in entry["steps"] if step["stage"] == "prune" and step["accepted"]]
    assert pruned == ["system_prompt: without 'Be kind.'", "system_prompt: without 'Be brief.'"]
    assert project.yaml()["prompt"]["system_prompt"] == f"Is the mood good or bad? {RULE}"
