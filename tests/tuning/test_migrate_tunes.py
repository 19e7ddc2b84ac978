"""``promptfit migrate`` tunes the prompt where the new model is worse, and writes all of it or nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from command_line import promptfit
from loopback_server import error
from tuning_models import always_bad, by_examples, by_keyword, rows

if TYPE_CHECKING:
    from tuning_models import Says, TuningProject


def migrate(project: TuningProject, *arguments: object) -> Any:
    return promptfit("migrate", "mood.prompt.yaml", "--to", "openai/new", *arguments, cwd=project.path)


def accepted(project: TuningProject, new: Says) -> None:
    """Accept what the old model gets right: all of it; the new one answers in its own way."""
    project.prompt(rows(40), canonical=[{"id": "c", "text": "a lovely dog", "label": "good"}], cases="gated")
    project.model.task = lambda body: (new if body["model"] == "new" else by_keyword)(body)
    project.pytest("--promptfit", "--promptfit-record", "--promptfit-update")


def test_a_worse_model_is_tuned_until_it_is_not_worse(project: TuningProject) -> None:
    accepted(project, by_examples)
    ran = migrate(project, "--record", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert (found["holds"], found["written"], found["rewritten"]) == (True, True, True)
    assert found["after"]["accuracy"] == 1.0
    assert [run["accepted"] for run in found["tuned"]] == [True]
    assert "\n- the prompt was rewritten by tuning: better beyond chance (dev: fixed " in found["body"]
    assert "\n- holdout (" in found["body"]
    assert project.yaml()["model"]["name"] == "new"
    assert project.yaml()["prompt"]["examples"]
    asked = len(project.model.server.seen)
    result = project.pytest("--promptfit")
    assert result.ret == 0
    assert "obsolete" not in result.stdout.str()
    assert project.baseline()["model"] == "openai/new"
    assert len(project.model.server.seen) == asked


def test_where_tuning_does_not_help_nothing_is_written(project: TuningProject) -> None:
    accepted(project, always_bad)
    text = project.text()
    ran = migrate(project, "--record", "--max-calls", 120)
    assert ran.code == 1
    assert "\n- tuning found nothing better: no candidate was better beyond chance\n" in ran.out
    assert "stays with openai/m, nothing is written" in ran.err
    assert project.text() == text
    assert project.baseline()["model"] == "openai/m"
    asked = len(project.model.server.seen)
    assert asked - 41 <= 120
    # The same again is replayed; without --record nothing is tuned.
    assert migrate(project, "--record", "--max-calls", 120).out == ran.out
    assert "\n- not tuned without --record\n" in migrate(project).out
    assert len(project.model.server.seen) == asked


def test_the_budget_is_for_recording_and_tuning_together(project: TuningProject) -> None:
    accepted(project, by_examples)
    ran = migrate(project, "--record", "--max-calls", 41)
    assert ran.code == 1
    assert "\n- the budget leaves no calls to tune with\n" in ran.out
    assert len(project.model.server.seen) == 2 * 41


def test_a_key_that_is_refused_while_tuning_loses_no_reply(project: TuningProject) -> None:
    accepted(project, by_examples)
    project.model.task = lambda body: error(401) if len(project.model.server.seen) > 120 else by_examples(body)
    text = project.text()
    ran = migrate(project, "--record")
    assert ran.code == 1
    assert ran.out == ""
    assert len(ran.err.splitlines()[-1].split("promptfit migrate: ")) == 2
    assert project.text() == text
    asked = len(project.model.server.seen)
    project.model.task = by_examples
    assert migrate(project, "--record").code == 0
    assert len(project.model.server.seen) - asked < asked
