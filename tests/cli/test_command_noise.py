"""``promptfit noise``: how often a model answers the same sample otherwise, measured once."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from command_line import promptfit
from mood_project import MOODS, by_keyword

if TYPE_CHECKING:
    from mood_project import Project

ROWS = (*MOODS, *((f"u{n}", f"a lovely odd day {n}", "good") for n in range(4)))
"""Of eight samples four are answered otherwise each second time, and are right when they are asked first."""


def noise(project: Project, *arguments: object, **environment: str) -> Any:
    return promptfit("noise", "mood.prompt.yaml", *arguments, cwd=project.path, **environment)


@pytest.fixture
def unstable(project: Project) -> Project:
    """A recorded prompt whose model is unstable on half of the samples."""
    asked: Counter[str] = Counter()

    def says(text: str) -> str:
        asked[text] += 1
        return by_keyword(text) if "odd" not in text or asked[text] % 2 else "<label>bad</label>"

    project.model.says = says
    project.write(ROWS, cases="gated")
    project.record("--promptfit-update")
    return project


def test_it_is_measured_once_and_told_from_the_recordings(unstable: Project) -> None:
    nothing = noise(unstable)
    assert nothing.code == 1
    assert "not known of 8 samples: 2 of 3 answers (repeats)" in nothing.out
    assert "ask for them: promptfit noise mood.prompt.yaml --record\n              16 calls, " in nothing.out
    assert nothing.err == "promptfit noise: no labeled sample has 3 answers, so its noise is not known\n"
    ran = noise(unstable, "--record", "--concurrency", 1)
    assert (ran.code, len(unstable.model.asked)) == (0, 8 + 16)
    assert "asked: 16 replies" in ran.out
    out = noise(unstable).out.splitlines()
    assert out[:5] == [
        "mood.prompt.yaml: openai/m",
        "8 samples, 3 answers each: 4 unstable, noise 50.0 % (95 % interval 21.5 % to 78.5 %)",
        "two answers to the same sample differ in 33.3 %",
        "accuracy answer by answer: 100.0 %, 50.0 %, 100.0 %; of the majority: 100.0 %",
        "by noise 16.7 % flip each way, so with one answer each no drop is found (80 % power)",
    ]
    assert out[5] == "  sample-u0: 2 good, 1 bad: a lovely odd day 0"
    assert len(unstable.model.asked) == 24


def test_the_harness_neither_asks_for_further_answers_nor_deletes_them(unstable: Project) -> None:
    noise(unstable, "--record")
    result = unstable.replay("--promptfit-prune")
    assert "obsolete" not in result.stdout.str()
    assert noise(unstable).code == 0


def test_json(unstable: Project) -> None:
    noise(unstable, "--record", "--concurrency", 1)
    found = json.loads(noise(unstable, "--json").out)
    assert found["noise"]["unstable"] == 4
    assert found["noise"]["disagreement"] == pytest.approx(1 / 3)
    assert found["accuracy"] == {"by_answer": [1.0, 0.5, 1.0], "majority": 1.0}
    assert found["unstable"][0] == {"case": "sample-u0", "label": "good", "answers": ["good", "bad", "good"]}
    assert (found["labeled"], found["unknown"]) == ({"total": 8, "chosen": 8, "known": 8}, None)


def test_more_answers_and_fewer_samples(unstable: Project) -> None:
    assert noise(unstable, "--record", "--samples", 4, "--repeats", 5).code == 0
    assert len(unstable.model.asked) == 8 + 4 * 4
    assert "4 samples, 5 answers each" in noise(unstable, "--samples", 4, "--repeats", 5).out
    assert "4 samples, 2 answers each" in noise(unstable, "--samples", 4, "--repeats", 2).out


def test_of_a_file_with_repeats_its_own_answers_are_told(unstable: Project) -> None:
    unstable.write(ROWS, cases="gated", repeats=2)
    assert noise(unstable, "--record").code == 0
    assert len(unstable.model.asked) == 16
    assert "8 samples, 2 answers each" in noise(unstable).out
    assert unstable.replay().ret == 0


def test_a_limit_ends_it_and_what_was_paid_for_is_told(unstable: Project) -> None:
    ran = noise(unstable, "--record", "--max-calls", 5, "--concurrency", 1)
    assert ran.code == 0
    assert len(unstable.model.asked) == 8 + 5
    assert "2 samples, 3 answers each" in ran.out
    assert "not known of 6 samples: limit of 5 calls reached after 5 calls" in ran.out
    assert "run again with a larger --max-calls" in ran.out
    out = noise(unstable).out
    assert "not known of 5 samples: 2 of 3 answers (repeats)\nnot known of 1 sample: 1 of 3 answers (repeats)\n" in out
    assert "\n              11 calls, " in out


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("--repeats", "1"), {}, "--repeats 1: expected 2 to 25 answers to each sample"),
        (("--repeats", "26"), {}, "--repeats 26: expected 2 to 25 answers to each sample"),
        (("--max-calls", "1"), {}, "--max-calls needs --record"),
        (("--record",), {"CI": "true"}, "--record is refused while CI is set: add --allow-ci if that is meant"),
    ],
)
def test_a_mistake_is_one_line(
    project: Project, arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    project.write()
    assert noise(project, *arguments, **environment).mistake == f"promptfit noise: {said}"
    assert project.model.asked == []
