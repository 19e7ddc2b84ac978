"""The baseline: what is paired with it, what it says of a change, and a file that cannot be understood."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from mood_project import MOODS
from summary_lines import gate

if TYPE_CHECKING:
    from mood_project import Project

WRONG = ("w1", "a dreadful bore, and I loved it", "good")


def test_outcomes_are_paired_over_shared_samples(project: Project) -> None:
    project.write((*MOODS, WRONG))
    project.record("--promptfit-update")
    project.write((WRONG, *MOODS[1:], ("n1", "a lovely new day", "good"), ("n2", "a lovely new walk", "bad")))
    project.record()
    result = project.replay()
    result.stdout.fnmatch_lines(["  since the baseline: 2 samples added, 1 removed or not run"])
    assert "on 4 shared samples" in gate(result, "regression")


def test_rows_may_move(project: Project) -> None:
    rows = [("text", "label"), *(row[1:3] for row in (*MOODS, WRONG))]
    path = project.write(samples={"file": "mood.csv"})
    data = path.with_name("mood.csv")
    data.write_text("\n".join(map(",".join, [rows[0], *(('"' + text + '"', label) for text, label in rows[1:])])))
    project.record("--promptfit-update")
    before = project.baseline()
    data.write_text("\n".join(map(",".join, [rows[0], *(('"' + t + '"', x) for t, x in reversed(rows[1:]))])))
    project.replay("--promptfit-update").stdout.fnmatch_lines(["mood.baseline.json: unchanged"])
    assert project.baseline() == before


def test_baseline_of_another_model_is_said(project: Project) -> None:
    project.write()
    project.record("--promptfit-update")
    project.write(model={"provider": "openai", "name": "other", "base_url": project.model.url})
    project.record().stdout.fnmatch_lines(["  the baseline is of another model: openai/m"])
    assert project.baseline()["model"] == "openai/m"


def test_samples_that_are_all_new_leave_nothing_to_compare(project: Project) -> None:
    project.write(MOODS[:2])
    project.record("--promptfit-update")
    project.write(MOODS[2:])
    result = project.record("-rs")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["SKIPPED*no labeled sample is in its baseline"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"version": 1,\n<<<<<<< HEAD\n"cases": {}\n=======\n"cases": 1\n>>>>>>> other\n}',
            ":2: an unresolved merge conflict: --promptfit-update writes it anew",
        ),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", ":1: a Git LFS pointer, not the file itself: "),
        ('{"version": 1,\n', ":2: not JSON: "),
        ('{"version": ' + "[" * 100_000, ":1: not a baseline: "),
        ('{"version": ' + "1" * 5000 + "}", ":1: not a baseline: "),
        ("[]", ":1: the file: "),
        (
            '{"version": 2, "prompt_hash": "", "model": "", "cases": {}}',
            ":1: version 2 was written by a newer pytest-promptfit: expected 1: upgrade it here",
        ),
        ('{"version": 0, "prompt_hash": "", "model": "", "cases": {}}', ":1: version: "),
        ('{"version": 1, "prompt_hash": "", "cases": {}}', ":1: model: field required"),
        (
            '{"version": 1, "prompt_hash": "", "model": "", "cases": {"sample-s1": {"outcome": "fine", "label": "a"}}}',
            ":1: cases.sample-s1.outcome: ",
        ),
        ('{"version": 1, "prompt_hash": "", "model": "", "cases": {}, "extra": 1}', ":1: extra: "),
        (b"\xff\xfe", ":1: cannot be read: "),
    ],
)
def test_baseline_that_cannot_be_understood_is_a_collection_error(
    project: Project, text: str | bytes, said: str
) -> None:
    path = project.write().with_name("mood.baseline.json")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = project.record()
    assert result.ret == 2
    assert project.model.asked == []
    (line,) = [line for line in result.outlines if line.startswith("mood.baseline.json")]
    assert line.startswith(f"mood.baseline.json{said}")
    assert "Traceback" not in result.stdout.str()


def test_relabeled_sample_is_judged_by_the_label_that_was_accepted(project: Project) -> None:
    project.write((*MOODS, WRONG))
    project.record("--promptfit-update")
    project.write((*MOODS, (*WRONG[:2], "bad")))
    result = project.replay()
    assert "unchanged from its baseline on 5" in gate(result, "regression")


def test_file_of_an_older_form_without_figures_still_counts(project: Project) -> None:
    path = project.write((*MOODS, WRONG)).with_name("mood.baseline.json")
    project.record("--promptfit-update")
    value = project.baseline()
    del value["metrics"]
    path.write_text(json.dumps(value))
    project.replay().assert_outcomes(passed=5, xfailed=1)
