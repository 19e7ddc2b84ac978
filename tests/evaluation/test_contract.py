"""``--promptfit-against REF`` judges by the whole contract of REF: its samples, labels, gates and reading."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from judged_projects import CANONICAL, PROMPT, Judged, broken, right, rows

if TYPE_CHECKING:
    from pathlib import Path

    from mood_project import Project


@pytest.fixture
def judged(project: Project) -> Judged:
    """A project whose prompt was committed to ``main`` with half of its samples right, in strict mode."""
    judged = Judged(project)
    (judged.path / "pytest.ini").write_text("[pytest]\n")
    judged.write_rows(rows())
    judged.write(cases="strict")
    judged.answer(half_right)
    assert project.run("--promptfit-update").ret == 0
    project.git("init", "--quiet", "--initial-branch=main")
    judged.commit("half right")
    project.git("checkout", "--quiet", "-b", "topic")
    return judged


def half_right(text: str) -> str:
    return broken(text, range(24))


def in_ci(monkeypatch: pytest.MonkeyPatch, judged: Judged, *arguments: object) -> Any:
    monkeypatch.setenv("CI", "1")
    return judged.judged(*arguments)


def contract(result: pytest.RunResult) -> str:
    (line,) = [line.strip() for line in result.outlines if line.strip().startswith("gate contract:")]
    return line


def looser(result: pytest.RunResult) -> list[str]:
    """Return what is listed under gate-contract."""
    return [line.removeprefix("    - ") for line in result.outlines if line.startswith("    - ")]


def prompt(judged: Judged, **texts: Any) -> None:
    judged.edit(prompt={**judged.config()["prompt"], **texts})


def test_a_tuned_prompt_with_words_and_examples_of_its_own_goes_through(
    judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tuning writes loosens nothing: other texts, few-shot examples, a reply prefix and a word for each label."""
    prompt(
        judged,
        system_prompt="Answer with one of {labels}.",
        bot_reply_prefix="Label: ",
        examples=[{"text": "a fine day", "label": "good"}],
        label_words={"good": "positive", "bad": "negative"},
    )
    judged.answer(lambda text: broken(text, range(6)))
    judged.project.run("--promptfit-update")
    judged.commit("tuned")
    result = in_ci(monkeypatch, judged)
    assert result.ret == 0
    assert contract(result) == "gate contract: passed: nothing that main holds it to is loosened"
    result.stdout.fnmatch_lines(["  gate regression: passed: better than main by 30.0 points *"])


def test_an_edit_that_fixes_four_and_breaks_two_goes_through_once_it_is_accepted(
    judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 % to 63 %."""
    prompt(judged, system_prompt="Mood?")
    judged.answer(lambda text: broken(text, [*range(4, 24), 40, 41]))
    assert in_ci(monkeypatch, judged).ret == 1
    monkeypatch.delenv("CI")
    judged.project.run("--promptfit-update")
    judged.commit("a bit better")
    result = in_ci(monkeypatch, judged)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["  gate regression: passed: better than main by 3.3 points *, fixed 4, broke 2 of 60, *"]
    )


def test_tightening_and_new_prompts_are_no_loosening(judged: Judged) -> None:
    judged.edit(gates={"accuracy": 0.5, "regression": {"alpha": 0.1}}, canonical=[CANONICAL, new := rows([700])[0]])
    judged.write_rows([*rows(), *rows([500, 501])])
    judged.prompt.with_name("new.prompt.yaml").write_text(judged.prompt.read_text().replace("a lovely", "a new"))
    judged.answer(half_right)
    judged.answer(right, prompt=judged.prompt.with_name("new.prompt.yaml"))
    assert new["label"] == "good"
    result = judged.judged()
    assert result.ret == 0
    assert contract(result).startswith("gate contract: passed")


@pytest.mark.parametrize("way", ["removed", "relabeled", "gates"])
def test_a_person_lets_it_through_and_what_both_have_is_judged(judged: Judged, way: str) -> None:
    if way == "removed":
        judged.write_rows(rows(range(10, 60)))
    elif way == "relabeled":
        judged.write_rows([{**row, "label": "good"} if row["id"] == "n001" else row for row in rows()])
    else:
        judged.edit(gates={"regression": {"alpha": 0.01}})
    judged.commit("looser")
    assert judged.judged().ret == 1
    result = judged.judged("--promptfit-accept-contract", "-rx")
    assert result.ret == 0
    assert contract(result) == "gate contract: passed: looser than main (accepted by --promptfit-accept-contract):"
    assert looser(result) == [
        {
            "removed": f"10 labeled samples removed: {', '.join(f'n{n:03}' for n in range(10))} (at main)",
            "relabeled": "labeled sample relabeled: n001 (bad → good) (at main)",
            "gates": "gate regression: 0.05 → 0.01 (at main)",
        }[way]
    ]
    result.stdout.fnmatch_lines([f"XFAIL {PROMPT}::gate-contract - looser than main: *"])


def test_what_both_have_still_must_not_get_worse(judged: Judged) -> None:
    judged.write_rows(rows(range(10, 60)))
    judged.answer(lambda text: broken(text, range(45)))
    judged.commit("fewer and worse")
    result = judged.judged("--promptfit-accept-contract")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["  gate regression: FAILED: worse than main by 42.0 points *broke 21 of 50*"])


def test_acceptance_needs_a_version(judged: Judged) -> None:
    for arguments in (("--promptfit", "--promptfit-accept-contract"), ("--promptfit-accept-contract",)):
        result = judged.project.pytest(*arguments)
        assert result.ret == 4
        result.stderr.fnmatch_lines(["ERROR: --promptfit-accept-contract needs --promptfit*"])


def test_a_renamed_prompt_is_compared_with_what_it_was(judged: Judged) -> None:
    judged.project.git("mv", PROMPT, "prompts/feeling.prompt.yaml")
    judged.project.git("mv", "prompts/mood.baseline.json", "prompts/feeling.baseline.json")
    judged.project.git("mv", "cassettes/mood", "cassettes/feeling")
    result = judged.judged()
    assert result.ret == 0
    assert contract(result).endswith(f"is loosened; compared with main:{PROMPT}")
    result.stdout.fnmatch_lines(["  gate regression: passed: unchanged from main on 60 shared samples*"])


def test_removed_samples_are_judged_as_long_as_their_replies_are_recorded(judged: Judged) -> None:
    judged.answer(lambda text: broken(text, range(50)))
    judged.write_rows(rows(range(50, 60)))
    result = judged.judged()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["  gate regression: FAILED: worse than main by 43.3 points *broke 26 of 60*"])


def test_a_part_of_the_samples_does_not_pass_for_the_whole(judged: Judged) -> None:
    result = judged.judged(f"{PROMPT}::sample-n030", f"{PROMPT}::gate-contract")
    assert result.ret == 1
    assert contract(result) == "gate contract: FAILED: 60 samples are not selected: run the whole file"
    result.stdout.fnmatch_lines(["mood: 1 of 60 samples selected: 1 right*. Fails: gate contract."])
    result = judged.judged(f"{PROMPT}::gate-contract")
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"{PROMPT}: gate contract: 61 samples are not selected: run the whole file"])
    result = judged.judged(f"{PROMPT}::sample-n030")
    assert result.ret == 0
    assert contract(result) == "gate contract: not judged: 60 samples are not selected: run the whole file"
    result.stdout.fnmatch_lines(["mood: 1 of 60 samples selected: 1 right*. Passes."])


@pytest.mark.parametrize("way", ["removed", "dropped", "doctored"])
def test_a_baseline_that_would_excuse_the_next_change_is_listed(judged: Judged, way: str) -> None:
    path = judged.path / "prompts/mood.baseline.json"
    value = json.loads(path.read_text())
    if way == "removed":
        path.unlink()
    elif way == "dropped":
        del value["cases"]["sample-n040"]
        path.write_text(json.dumps(value))
    else:
        value["cases"]["sample-n040"] |= {"outcome": "wrong", "predicted": "bad"}
        path.write_text(json.dumps(value))
    result = judged.judged()
    assert result.ret == 1
    said = {
        "removed": "baseline removed (at main)",
        "dropped": "sample dropped from the baseline: sample-n040 (at main)",
        "doctored": "sample right and kept as a miss in the baseline (--promptfit-update renews it): sample-n040 "
        "(at main)",
    }[way]
    assert contract(result).startswith("gate contract: FAILED: looser than main (")
    assert looser(result) == [said]
    result.stdout.fnmatch_lines(["mood: * Fails: gate contract (1 looser)*."])


def test_of_a_further_version_only_that_is_listed_which_the_first_has_not_looser_already(judged: Judged) -> None:
    judged.project.git("tag", "release")
    judged.write_rows(rows(range(5, 60)))
    judged.commit("five removed, as a person accepted")
    judged.project.git("branch", "--force", "main")
    result = judged.judged("--promptfit-against", "release")
    assert result.ret == 0
    assert contract(result) == "gate contract: passed: nothing that main and release hold it to is loosened"
    judged.write_rows(rows(range(6, 60)))
    result = judged.judged("--promptfit-against", "release")
    assert contract(result).startswith("gate contract: FAILED: looser than main and release (")
    assert looser(result) == ["labeled sample removed: n005 (at main)"]


def test_settings_and_hooks_that_reach_no_case_may_change(judged: Judged) -> None:
    (judged.path / "pytest.ini").write_text("[pytest]\naddopts = -v --tb=short -ra\nmarkers = slow\n")
    (judged.path / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef thing(): return 1\n\ndef pytest_report_header(): return 'hello'\n"
    )
    assert judged.judged().ret == 0


def test_a_helper_of_a_hook_counts_as_the_hook(judged: Judged) -> None:
    text = "def pytest_collection_modifyitems(items):\n    helper(items)\n\ndef helper(items):\n    {}\n"
    (judged.path / "conftest.py").write_text(text.format("pass"))
    judged.commit("a hook")
    judged.project.git("branch", "--force", "main")
    assert judged.judged().ret == 0
    (judged.path / "conftest.py").write_text(text.format("items.clear()"))
    result = judged.judged()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: conftest.py: pytest_collection_modifyitems changed, *(at main): *"])


def test_a_narrower_selection_that_a_person_accepts_is_said(judged: Judged) -> None:
    (judged.path / "pytest.ini").write_text("[pytest]\naddopts = --ignore=elsewhere\n")
    result = judged.judged("--promptfit-accept-contract")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["pytest.ini: addopts: --ignore=elsewhere added (at main): accepted by *"])


def test_under_xdist_the_same_is_said(judged: Judged) -> None:
    judged.write_rows(rows(range(10, 60)))
    (judged.path / "pytest.ini").write_text("[pytest]\naddopts = --ignore=elsewhere\n")
    result = judged.judged("-p", "xdist", "-n2", "--dist=loadgroup")
    assert result.ret == 1
    assert contract(result).startswith("gate contract: FAILED: looser than main (")
    assert [line.partition(":")[0] for line in looser(result)] == ["10 labeled samples removed"]
    assert result.stdout.str().count("error: pytest.ini: addopts: --ignore=elsewhere added (at main)") == 1


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "yaml"])
def test_data_of_any_format_is_read_from_git(judged: Judged, kind: str) -> None:
    import pandas as pd

    frame = pd.DataFrame(rows())
    path = judged.data.with_suffix(f".{kind}")
    write = {
        "parquet": lambda: frame.to_parquet(path),
        "jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        "yaml": lambda: path.write_text("".join(f"- {row}\n" for row in rows())),
    }
    write[kind]()
    judged.edit(samples={"file": path.name, "id": "id"})
    judged.commit(kind)
    judged.project.git("branch", "--force", "main")
    assert judged.judged().ret == 0
    judged.edit(samples={"file": "mood.csv", "id": "id"})
    judged.write_rows(rows(range(30)))
    path.unlink()
    result = judged.judged()
    assert contract(result).startswith("gate contract: FAILED: looser than main (")
    assert [line.partition(",")[0] for line in looser(result)] == ["30 labeled samples removed: n030"]


def test_data_out_of_git_is_read_where_it_is(judged: Judged) -> None:
    (judged.path / ".gitignore").write_text("mood.csv\n")
    judged.project.git("rm", "--quiet", "--cached", "prompts/mood.csv")
    judged.commit("data is elsewhere")
    judged.project.git("branch", "--force", "main")
    assert judged.judged().ret == 0


def test_data_in_git_lfs_is_read_from_what_was_fetched(judged: Judged) -> None:
    import hashlib

    content = judged.data.read_bytes()
    oid = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
    judged.data.write_text(pointer)
    judged.commit("as Git LFS commits it")
    judged.project.git("branch", "--force", "main")
    judged.data.write_bytes(content)
    result = judged.judged()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["main:prompts/mood.csv: kept in Git LFS and not fetched: *"])
    stored = judged.path / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid
    stored.parent.mkdir(parents=True)
    stored.write_bytes(content)
    assert judged.judged().ret == 0


def test_a_prompt_that_is_broken_there_is_an_error_that_a_person_passes_over(judged: Judged) -> None:
    whole = judged.prompt.read_text()
    judged.prompt.write_text(whole.replace("labels:", "lables:"))
    judged.commit("broken")
    judged.project.git("branch", "--force", "main")
    judged.prompt.write_text(whole)
    result = judged.judged()
    assert result.ret == 2
    result.stdout.fnmatch_lines([f"main:{PROMPT}:*: lables: unknown key*(--promptfit-accept-contract does without *"])
    assert judged.judged("--promptfit-accept-contract").ret == 0


def test_a_shallow_clone_says_what_to_fetch(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    judged.commit("more")
    clone = judged.path / "clone"
    subprocess.run(
        ["git", "clone", "--quiet", "--depth=1", "--branch=topic", f"file://{judged.path}", str(clone)], check=True
    )
    monkeypatch.chdir(clone)
    result = judged.project.run("--promptfit-against", "main", "--rootdir", clone)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --promptfit-against main: *a shallow clone needs `git fetch origin main`)"])


@pytest.mark.parametrize("missing", ["prompts/mood.prompt.yaml", "prompts/mood.csv", "prompts/mood.baseline.json", ""])
def test_an_object_that_git_has_not_is_an_error_and_no_missing_baseline(judged: Judged, missing: str) -> None:
    """As in a partial clone whose server cannot be reached, or a damaged one."""
    judged.commit("more")
    judged.prompt.write_text(judged.prompt.read_text() + "\n")
    name = f"main:{missing}" if missing else "main^{tree}"
    oid = subprocess.run(
        ["git", "rev-parse", name], cwd=judged.path, check=True, capture_output=True, text=True
    ).stdout.strip()
    (judged.path / ".git/objects" / oid[:2] / oid[2:]).unlink()
    result = judged.judged()
    assert result.ret in (2, 4)
    said = [line for line in result.outlines + result.errlines if "`git fetch`" in line]
    assert said
    assert all(line.startswith((f"main:{missing}: git cannot", "ERROR: --promptfit-against: git ")) for line in said)


def test_a_corrupt_object_is_an_error(judged: Judged) -> None:
    judged.commit("more")
    oid = subprocess.run(
        ["git", "rev-parse", "main:prompts/mood.csv"], cwd=judged.path, check=True, capture_output=True, text=True
    ).stdout.strip()
    path = judged.path / ".git/objects" / oid[:2] / oid[2:]
    path.chmod(0o600)
    path.write_bytes(b"damaged")
    result = judged.judged()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["main:prompts/mood.csv: git cannot read it (*): *"])


def git_calls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a git before the real one that writes down each call, and return where."""
    calls, script = folder / "calls", folder / "bin/git"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\nexec "{shutil.which("git")}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    return calls


@pytest.mark.skipif(sys.platform == "win32", reason="no shell")
def test_many_prompts_take_few_git_processes(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 40
    judged = Judged(project)
    judged.write_rows(rows(range(4)), "mood.csv")
    for number in range(count):
        judged.prompt = project.path / f"prompts/p{number:03}.prompt.yaml"
        judged.write(canonical=[])
        judged.answer(right)
    assert project.run("--promptfit-update", "-q").ret == 0
    project.git("init", "--quiet", "--initial-branch=main")
    judged.commit("all")
    project.git("tag", "release")
    started = git_calls(tmp_path, monkeypatch)
    report = project.path / "report.json"
    result = judged.judged("--promptfit-against", "release", "-q", "--promptfit-json", report)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"{count} of {count} prompts pass ({count} unchanged)."])
    gates = [gate for told in json.loads(report.read_text())["prompts"] for gate in told["gates"]]
    said = "nothing that main and release hold it to is loosened"
    assert gates.count({"name": "contract", "passed": True, "detail": said}) == count
    assert 0 < len(started.read_text().splitlines()) <= 2 + 3 * 2


def test_no_git_is_run_without_the_option(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(judged.path / ".git")
    monkeypatch.setenv("PATH", "")
    assert judged.project.run().ret == 0
    result = judged.judged()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --promptfit-against needs git, and no git was found"])


def test_settings_of_a_file_that_is_named_count(judged: Judged) -> None:
    named = judged.path / "ci/pytest.ini"
    named.parent.mkdir()
    named.write_text("[pytest]\naddopts = -v\n")
    judged.commit("a file of its own")
    judged.project.git("branch", "--force", "main")
    arguments = ("-c", named, "--rootdir", judged.path)
    assert judged.judged(*arguments).ret == 0
    named.write_text("[pytest]\naddopts = -v -m labeled\n")
    result = judged.judged(*arguments)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: ci/pytest.ini: addopts: -m labeled added (at main): *"])


def test_reports_tell_of_samples_that_have_other_ids(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(judged.path / "summary.md"))
    judged.write_rows([{**row, "id": f"x{row['id']}"} for row in rows()])
    judged.answer(lambda text: broken(text, range(50)))
    result = judged.judged("--promptfit-report", judged.path / "page.html", "--promptfit-json", judged.path / "r.json")
    assert result.ret == 1
    (told,) = json.loads((judged.path / "r.json").read_text())["prompts"]
    assert {gate["name"]: gate["passed"] for gate in told["gates"]} == {"regression": False, "contract": True}
    assert told["baseline"]["broken"] == 26
    assert "26" in (judged.path / "page.html").read_text()
    assert "mood" in (judged.path / "summary.md").read_text()


def test_the_page_lists_all_that_is_looser_as_the_terminal_does(judged: Judged) -> None:
    first, second, *others = rows()
    judged.edit(without="canonical", cases="gated")
    judged.write_rows([{**second, "label": "bad" if second["label"] == "good" else "good"}, *others])
    judged.answer(half_right)
    page = judged.path / "page.html"
    result = judged.judged("--promptfit-report", page)
    assert result.ret == 1
    (sentence,) = re.findall(r"looser than main \(.*\):", contract(result))
    assert len(looser(result)) == 4
    assert any(first["id"] in line for line in looser(result))
    shown = [
        html.unescape(text)
        for text in re.findall(r"<small>(?:- )?<bdi dir=\"auto\">(.*?)</bdi></small>", page.read_text())
    ]
    assert [text for text in shown if text == sentence or "(at main)" in text] == [sentence, *looser(result)]
