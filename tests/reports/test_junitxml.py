"""``--junitxml``: what CI systems read of a case."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from mood_project import MOODS

if TYPE_CHECKING:
    from mood_project import Project

WRONG = ("w1", "a dreadful bore, and I loved it", "good")


def cases(project: Project, *arguments: str) -> dict[str, ET.Element]:
    """Replay and return the cases of the report by name."""
    project.replay("--junitxml=report.xml", *arguments)
    tree = ET.parse(project.path / "report.xml")
    return {case.attrib["name"]: case for case in tree.iter("testcase")}


def properties(case: ET.Element) -> dict[str, str]:
    return {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}


def test_properties_of_a_case(project: Project) -> None:
    project.write((*MOODS, WRONG, ("u1", "mumble", "bad")))
    project.record()
    found = cases(project)
    right = properties(found["sample-s1"])
    assert float(right.pop("latency")) >= 0
    assert right == {
        "label": "good",
        "predicted": "good",
        "reply": "Label: <label>good</label>",
        "input_tokens": "100",
        "output_tokens": "10",
    }
    assert properties(found["sample-w1"])["predicted"] == "bad"
    assert properties(found["sample-u1"])["predicted"] == ""


def test_outcomes(project: Project) -> None:
    project.write((*MOODS, WRONG), gates={"accuracy": 0.9})
    project.record()
    found = cases(project)
    assert {name: [child.tag for child in case if child.tag != "properties"] for name, case in found.items()} == {
        **{f"sample-s{number}": [] for number in range(1, 5)},
        "sample-w1": ["failure"],
        "gate-accuracy": ["failure"],
        "gate-regression": ["skipped"],
    }
    failure = found["sample-w1"].find("failure")
    assert failure is not None
    assert "expected good, read bad" in failure.attrib["message"]
    assert "accept:  pytest --promptfit --promptfit-update" in (failure.text or "")
    assert properties(found["gate-accuracy"])["detail"].startswith("accuracy 80.0 % (4 of 5")
    assert found["sample-w1"].attrib["classname"] == "mood.prompt.yaml"


def test_case_without_a_reply_has_its_label_alone(project: Project) -> None:
    project.write()
    assert properties(cases(project)["sample-s1"]) == {"label": "good", "predicted": ""}


@pytest.mark.parametrize("said", ["\x00\x01\x1b[31m\x7f", "]]><testcase/>&amp;\"'", "\ufffe\uffff\U0001f600", "\ud83d"])
def test_reply_with_any_characters_leaves_the_xml_whole(project: Project, said: str) -> None:
    project.model.says = lambda _: f"{said}<label>bad</label>"
    project.write((("s1", "a lovely day", "good"),))
    project.record()
    found = cases(project, "-s")
    assert list(found) == ["sample-s1", "gate-regression"]
    assert properties(found["sample-s1"])["reply"].endswith("<label>bad</label>")


def test_gated_miss_is_no_failure(project: Project) -> None:
    project.write((*MOODS, WRONG), cases="gated")
    project.record()
    found = cases(project)
    assert found["sample-w1"].find("failure") is None
    assert properties(found["sample-w1"])["predicted"] == "bad"
