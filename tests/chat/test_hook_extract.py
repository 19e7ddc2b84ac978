"""``pytest_promptfit_extract``: somebody else's way to read the label of a reply."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from hook_examples import READ_JSON

from pytest_promptfit import evaluate, load_prompt

if TYPE_CHECKING:
    from mood_project import Project

    from pytest_promptfit import ChatReply


COMPARE = """
    def pytest_promptfit_extract(reply, text, path, config):
        assert config.getoption("promptfit")
        if path.name == "mood.prompt.yaml" and reply.text == text:
            return "good"
"""


def conftest(project: Project, text: str, at: str = "conftest.py") -> None:
    path = project.path / at
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))


def in_json(text: str) -> str:
    """Answer in JSON, in any case; a walk gets no JSON."""
    if "walk" in text:
        return "Label: <label>good</label>"
    return f'{{"mood": "{"GOOD" if "lovely" in text else "bad"}"}}'


def predicted(project: Project, prompt: int = 0) -> list[str | None]:
    return [case["predicted"] for case in project.report()["prompts"][prompt]["cases"]]


def test_recorded_replies_are_read_by_the_hook(project: Project) -> None:
    project.model.says = in_json
    project.write()
    project.record()
    assert predicted(project) == ["good", "good", "bad", "good"]
    conftest(project, READ_JSON)
    assert predicted(project) == ["good", None, "bad", None]


def test_none_leaves_the_reply_to_the_file_s_own_pattern(project: Project) -> None:
    project.model.says = in_json
    project.write()
    project.record()
    conftest(project, READ_JSON.replace('return ""', "return None"))
    assert predicted(project) == ["good", "good", "bad", "good"]


def test_label_words_and_text_around_the_label_are_read_as_ever(project: Project) -> None:
    project.model.says = lambda _text: "9"
    project.write(prompt={"label_words": {"good": "fine"}})
    project.record()
    for said, label in (("FINE.", "good"), ("<label>fine</label>", "good"), ("bad", "bad"), ("great", None)):
        conftest(project, f"def pytest_promptfit_extract(): return {said!r}")
        assert set(predicted(project)) == {label}, said


def test_it_is_told_the_text_and_the_file(project: Project) -> None:
    project.model.says = lambda text: text
    for name in ("mood", "other"):
        project.write(at=f"{name}.prompt.yaml", prompt={"system_prompt": "Say it again."})
    project.record()
    conftest(project, COMPARE)
    assert predicted(project, 0) == ["good"] * 4
    assert predicted(project, 1) == [None] * 4


def test_the_first_plugin_that_can_read_it_does(project: Project) -> None:
    for name in ("mood", "other"):
        project.write(at=f"{name}/{name}.prompt.yaml")
    project.record()
    conftest(project, 'def pytest_promptfit_extract(): return "bad"')
    conftest(project, 'def pytest_promptfit_extract(): return "good"', at="mood/conftest.py")
    assert predicted(project, 0) == ["good"] * 4
    assert predicted(project, 1) == ["bad"] * 4


WRONG = (
    ("reply.txt", "conftest.py:2: pytest_promptfit_extract: AttributeError: *txt*, for the reply 'Label: *'"),
    ("3", "conftest.py: pytest_promptfit_extract: expected a str, or None to leave it to others; found 3 (int)"),
)


@pytest.mark.parametrize(("answer", "line"), WRONG)
def test_a_hook_gone_wrong_fails_the_case_and_nothing_is_accepted(project: Project, answer: str, line: str) -> None:
    project.write(cases="gated", gates={"accuracy": 0.5})
    project.record()
    conftest(
        project, f"def pytest_promptfit_extract(reply, text):\n  return {answer} if text == 'a lovely walk' else None"
    )
    result = project.replay("--promptfit-update")
    result.assert_outcomes(passed=3, failed=1, skipped=2)
    result.stdout.fnmatch_lines([line])
    shown = result.stdout.str()
    assert "INTERNALERROR" not in shown
    assert "--promptfit-record" not in shown  # asking again would not help
    assert sorted(project.baseline()["cases"]) == ["sample-s1", "sample-s3", "sample-s4"]


@pytest.mark.endurance
def test_under_xdist(project: Project) -> None:
    project.model.says = in_json
    for name in ("mood", "other"):
        project.write(at=f"{name}.prompt.yaml")
    project.record()
    two = ("-p", "xdist", "-n2")
    conftest(project, READ_JSON)
    alone, both = project.replay(), project.replay(*two)
    assert both.parseoutcomes() == alone.parseoutcomes() == {"passed": 4, "failed": 4, "skipped": 2}
    conftest(project, "def pytest_promptfit_extract(reply): return reply.txt")
    result = project.replay(*two)
    result.assert_outcomes(failed=8, skipped=2)
    assert "INTERNALERROR" not in result.stdout.str()


def test_production_code_brings_the_same_function(project: Project) -> None:
    def extract(reply: ChatReply, text: str) -> str | None:
        return "bad" if text == "a lovely day" else None

    path = project.write()
    classifier = load_prompt(path, extract=extract)
    assert [prediction.label for prediction in classifier.batch(["a lovely day", "a lovely walk"])] == ["bad", "good"]
    project.record()
    assert evaluate(path).confusion.correct == 4
    assert evaluate(path, extract=extract).confusion.correct == 3
    assert evaluate(classifier).confusion.correct == 3
