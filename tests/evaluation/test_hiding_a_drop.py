"""Ways to hide that a third of the samples broke, each committed on a branch that is judged by ``main``."""

from __future__ import annotations

import json
import os
import re
import shutil
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import pytest
from judged_projects import BROKEN, CANONICAL, MODES, Judged, broken, copy_into, right, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mood_project import Project

WORSE = "*gate regression: FAILED: worse than main by 33.3 points*"
CONTRACT = "    - "
"""How what is looser is listed under gate-contract."""

LOST = [row for row in rows() if int(row["id"][1:]) in BROKEN]
KEPT = [row for row in rows() if row not in LOST]
FLIPPED = [{**row, "label": "bad" if row["label"] == "good" else "good"} for row in LOST]


def ini(judged: Judged, *lines: str) -> None:
    (judged.path / "pytest.ini").write_text("\n".join(["[pytest]", *lines, ""]))


def conftest(judged: Judged, *lines: str) -> None:
    (judged.path / "conftest.py").write_text("\n".join([*lines, ""]))


def move(judged: Judged, to: str, *, baseline: bool = True) -> None:
    """Move the prompt and its data, and put its recordings where they are found under its new name."""
    new = judged.path / to
    new.parent.mkdir(exist_ok=True, parents=True)
    judged.prompt.rename(new)
    old_baseline = judged.path / "prompts/mood.baseline.json"
    if baseline:
        old_baseline.rename(new.with_name(new.name.replace(".prompt.yaml", ".baseline.json")))
    else:
        old_baseline.unlink()
    if new.parent != judged.data.parent:
        judged.data.rename(new.with_name("mood.csv"))
    name = new.name.removesuffix(".prompt.yaml")
    if name != "mood":
        (judged.path / "cassettes/mood").rename(judged.path / "cassettes" / name)


def nothing(judged: Judged) -> None:
    """Only get worse."""


def accepted_by_force(judged: Judged) -> None:
    judged.accept()


def baseline_deleted(judged: Judged) -> None:
    judged.path.joinpath("prompts/mood.baseline.json").unlink()


def baseline_doctored(judged: Judged) -> None:
    path = judged.path / "prompts/mood.baseline.json"
    value = json.loads(path.read_text())
    for name, case in value["cases"].items():
        if name.startswith("sample-") and int(name[-3:]) in BROKEN:
            case |= {"outcome": "wrong", "predicted": "bad" if case["label"] == "good" else "good"}
    path.write_text(json.dumps(value))


def gate_switched_off(judged: Judged) -> None:
    judged.edit(gates={**judged.config().get("gates", {}), "regression": False})


def alpha_made_tiny(judged: Judged) -> None:
    judged.edit(gates={**judged.config().get("gates", {}), "regression": {"alpha": 1e-9}})


def floors_removed(judged: Judged) -> None:
    judged.edit(without="gates")


def floors_lowered(judged: Judged) -> None:
    judged.edit(gates={"accuracy": 0.1, "recall": {"good": 0.1}, "missing": 0.9, "regression": False})


def strict_made_gated(judged: Judged) -> None:
    judged.edit(cases="gated", gates={"regression": False})


def broken_relabeled(judged: Judged) -> None:
    judged.write_rows([*FLIPPED, *KEPT])


def broken_relabeled_and_accepted(judged: Judged) -> None:
    broken_relabeled(judged)
    judged.accept()


def broken_removed(judged: Judged) -> None:
    judged.write_rows(KEPT)


def broken_removed_with_their_replies(judged: Judged) -> None:
    judged.write_rows(KEPT)
    shutil.rmtree(judged.path / "cassettes")
    judged.answer(broken)


def broken_reworded_under_their_ids(judged: Judged) -> None:
    easy = [{**row, "text": f"an easy {row['text']}"} for row in LOST]
    judged.write_rows([*easy, *KEPT])
    judged.answer(lambda text: right(text) if "easy" in text else broken(text))


def broken_given_other_ids(judged: Judged) -> None:
    judged.write_rows([*({**row, "id": f"x{row['id']}"} for row in LOST), *KEPT])


def all_given_other_ids(judged: Judged) -> None:
    judged.write_rows([{**row, "id": f"x{row['id']}"} for row in rows()])


def id_column_dropped(judged: Judged) -> None:
    judged.edit(samples={"file": "mood.csv"})


def another_data_file(judged: Judged) -> None:
    judged.write_rows(KEPT, "small.csv")
    judged.edit(samples={"file": "small.csv", "id": "id"})


def data_written_inline(judged: Judged) -> None:
    judged.edit(samples=KEPT[:30])


def data_file_made_a_link(judged: Judged) -> None:
    judged.write_rows(KEPT, "small.csv")
    judged.data.unlink()
    judged.data.symlink_to("small.csv")


def text_made_a_template(judged: Judged) -> None:
    judged.edit(samples={"file": "mood.csv", "id": "id", "text": "{label} {text}"})
    judged.answer(right)


def broken_replaced_by_easy_ones(judged: Judged) -> None:
    easy = [{"id": f"e{n}", "text": f"easy day {n}", "label": "bad" if n % 2 else "good"} for n in range(100, 120)]
    judged.write_rows([*easy, *KEPT])
    judged.answer(broken)


def diluted_by_easy_ones(judged: Judged) -> None:
    easy = [{"id": f"e{n}", "text": f"easy day {n}", "label": "bad" if n % 2 else "good"} for n in range(100, 700)]
    judged.write_rows([*rows(), *easy])
    judged.answer(broken)


def labels_merged(judged: Judged) -> None:
    judged.edit(labels=["good"], gates={"regression": False})
    judged.edit(canonical=[CANONICAL])
    judged.write_rows([{**row, "label": "good"} for row in rows()])


def canonical_removed(judged: Judged) -> None:
    judged.edit(without="canonical")


def canonical_reworded(judged: Judged) -> None:
    judged.edit(canonical=[{**CANONICAL, "text": "a lovely morning number 902"}])
    judged.answer(broken)


def canonical_relabeled(judged: Judged) -> None:
    judged.edit(canonical=[{**CANONICAL, "label": "bad"}])


def canonical_made_ordinary(judged: Judged) -> None:
    judged.edit(without="canonical")
    judged.write_rows([*rows(), CANONICAL])


def another_extract(judged: Judged) -> None:
    judged.edit(extract="<label>(?:good|bad)</label>|(good)")


def words_swapped(judged: Judged) -> None:
    words = {"good": "bad", "bad": "good"}
    judged.edit(prompt={**judged.config()["prompt"], "label_words": words})
    judged.answer(broken)


def renamed(judged: Judged) -> None:
    move(judged, "prompts/feeling.prompt.yaml")


def renamed_without_its_baseline(judged: Judged) -> None:
    move(judged, "prompts/feeling.prompt.yaml", baseline=False)


def moved_to_another_folder(judged: Judged) -> None:
    move(judged, "elsewhere/deep/mood.prompt.yaml", baseline=False)


def given_another_name(judged: Judged) -> None:
    (judged.path / "cassettes/mood").rename(judged.path / "cassettes/other")
    judged.edit(name="other")


def renamed_and_rewritten(judged: Judged) -> None:
    text = judged.prompt.read_text()
    judged.prompt.unlink()
    judged.path.joinpath("prompts/mood.baseline.json").unlink()
    judged.prompt = judged.path / "prompts/feeling.prompt.yaml"
    judged.prompt.write_text(f"{'# another file' * 400}\n{text}")
    judged.answer(broken)


def deleted(judged: Judged) -> None:
    judged.prompt.unlink()
    other = judged.path / "prompts/other.prompt.yaml"
    judged.prompt = other
    judged.write(samples=rows([200]), canonical=[], description="Another prompt for another task. " * 40)
    judged.answer(right)


def made_a_link_to_another_prompt(judged: Judged) -> None:
    deleted(judged)
    (judged.path / "prompts/mood.prompt.yaml").symlink_to("other.prompt.yaml")
    judged.prompt.rename(judged.path / "prompts/other.yaml")
    (judged.path / "prompts/mood.prompt.yaml").unlink()
    (judged.path / "prompts/mood.prompt.yaml").symlink_to("other.yaml")
    judged.prompt = judged.path / "prompts/mood.prompt.yaml"
    judged.answer(right)


def folder_made_a_link(judged: Judged) -> None:
    judged.write_rows(KEPT)
    (judged.path / "prompts").rename(judged.path / ".texts")
    (judged.path / "prompts").symlink_to(".texts")


def prompt_files_narrowed(judged: Judged) -> None:
    ini(judged, "addopts = -q", "promptfit_files = other.prompt.yaml")
    deleted_but_kept(judged)


def deleted_but_kept(judged: Judged) -> None:
    """Add another prompt, so that something is collected."""
    kept, judged.prompt = judged.prompt, judged.path / "prompts/other.prompt.yaml"
    judged.write(samples=rows([200]), canonical=[])
    judged.answer(right)
    judged.prompt = kept


def gates_deselected_by_expression(judged: Judged) -> None:
    ini(judged, "addopts = -q -k 'not gate'")


def gates_deselected_by_marker(judged: Judged) -> None:
    ini(judged, "addopts = -q -m 'not gate'")


def gates_deselected_by_name(judged: Judged) -> None:
    gates = ("regression", "contract", "accuracy", "recall")
    names = (f"--deselect prompts/mood.prompt.yaml::gate-{gate}" for gate in gates)
    ini(judged, f"addopts = -q {' '.join(names)}")


def file_ignored_by_option(judged: Judged) -> None:
    deleted_but_kept(judged)
    ini(judged, "addopts = -q --ignore=prompts/mood.prompt.yaml")


def folder_left_out_of_testpaths(judged: Judged) -> None:
    (judged.path / "others").mkdir()
    ini(judged, "addopts = -q", "testpaths = others")
    deleted_but_kept(judged)
    shutil.move(judged.path / "prompts/other.prompt.yaml", judged.path / "others")


def folder_not_entered(judged: Judged) -> None:
    folder_left_out_of_testpaths(judged)
    ini(judged, "addopts = -q", "norecursedirs = prompts")


def settings_in_a_file_that_comes_first(judged: Judged) -> None:
    (judged.path / "pytest.toml").write_text('[pytest]\naddopts = ["-q", "-k", "not gate"]\n')


def file_ignored_by_conftest(judged: Judged) -> None:
    deleted_but_kept(judged)
    conftest(judged, 'collect_ignore = ["prompts/mood.prompt.yaml"]')


def cases_deselected_by_conftest(judged: Judged) -> None:
    conftest(
        judged,
        "def pytest_collection_modifyitems(items):",
        "    items[:] = [item for item in items if not item.name.startswith(('gate', 'sample-n00', 'sample-n01'))]",
    )


def cases_expected_to_fail_by_conftest(judged: Judged) -> None:
    conftest(
        judged,
        "import pytest",
        "def pytest_collection_modifyitems(items):",
        "    for item in items:",
        "        item.add_marker(pytest.mark.xfail)",
    )


def labels_read_by_conftest(judged: Judged) -> None:
    conftest(
        judged,
        "def pytest_promptfit_extract(reply, text):",
        "    return 'bad' if int(text.rpartition(' ')[2]) % 2 else 'good'",
    )


def acceptance_in_the_ini_file(judged: Judged) -> None:
    judged.write_rows(KEPT)
    ini(judged, "addopts = -q --promptfit-accept-contract")


def acceptance_in_conftest(judged: Judged) -> None:
    judged.write_rows(KEPT)
    conftest(
        judged,
        "import pytest",
        "@pytest.hookimpl(tryfirst=True)",
        "def pytest_configure(config):",
        "    config.option.promptfit_accept_contract = True",
    )


def version_taken_back_in_conftest(judged: Judged) -> None:
    conftest(
        judged,
        "import pytest",
        "@pytest.hookimpl(tryfirst=True)",
        "def pytest_configure(config):",
        "    config.option.promptfit_against = None",
    )


def replies_edited_by_hand(judged: Judged) -> None:
    edited(judged, lambda text: re.sub(r"<label>bad</label>", "<label>good</label>", text))


def replies_edited_without_checksum(judged: Judged) -> None:
    edited(judged, lambda text: re.sub(r'"checksum": "\w+"(, )?', "", text.replace("<label>bad", "<label>good")))


def edited(judged: Judged, change: Callable[[str], str]) -> None:
    path = judged.path / "cassettes/mood/replies.yaml"
    path.write_text(change(path.read_text()))


def right_replies_put_above(judged: Judged) -> None:
    """Two replies to each request: the older, right one in a file that is read first."""
    old = judged.path / "cassettes/mood/replies.yaml"
    old.rename(judged.path / "kept.yaml")
    judged.answer(right)
    old.rename(judged.path / "cassettes/mood/a-first.yaml")
    (judged.path / "kept.yaml").rename(old)


def broken_left_unrecorded(judged: Judged) -> None:
    path = judged.path / "cassettes/mood/replies.yaml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not re.search(r'"sample": "n0[01]', line)))


def recordings_of_another_folder(judged: Judged) -> None:
    ini(judged, "addopts = -q", "promptfit_cassettes = recorded")
    (judged.path / "cassettes").rename(judged.path / "recorded")


CASES: tuple[tuple[Callable[[Judged], None], str], ...] = (
    (nothing, WORSE),
    (accepted_by_force, WORSE),
    (baseline_deleted, WORSE),
    (baseline_doctored, WORSE),
    (gate_switched_off, f"{CONTRACT}gate regression: removed (was 0.05) (at main)*"),
    (alpha_made_tiny, f"{CONTRACT}gate regression: 0.05 → 1e-09 (at main)*"),
    (floors_removed, WORSE),
    (floors_lowered, WORSE),
    (strict_made_gated, WORSE),
    (broken_relabeled, f"{CONTRACT}20 labeled samples relabeled: n000 (good → bad), *"),
    (broken_relabeled_and_accepted, f"{CONTRACT}20 labeled samples relabeled: n000 (good → bad), *"),
    (broken_removed, f"{CONTRACT}20 labeled samples removed: n000, n001, *and 10 more (at main)*"),
    (broken_removed_with_their_replies, f"{CONTRACT}20 labeled samples removed: n000, n001, *and 10 more (at main)*"),
    (broken_reworded_under_their_ids, f"{CONTRACT}20 labeled samples given another text: n000, *"),
    (broken_given_other_ids, WORSE),
    (all_given_other_ids, WORSE),
    (id_column_dropped, WORSE),
    (another_data_file, f"{CONTRACT}20 labeled samples removed: n000, *"),
    (data_written_inline, f"{CONTRACT}30 labeled samples removed: n000, *"),
    (data_file_made_a_link, f"{CONTRACT}20 labeled samples removed: n000, *"),
    (text_made_a_template, f"{CONTRACT}60 labeled samples given another text: n000, *"),
    (broken_replaced_by_easy_ones, f"{CONTRACT}20 labeled samples removed: n000, *"),
    (diluted_by_easy_ones, WORSE),
    (labels_merged, f"{CONTRACT}label removed: bad (at main)*"),
    (canonical_removed, f"{CONTRACT}canonical sample removed: c1 (at main)*"),
    (canonical_reworded, f"{CONTRACT}canonical sample reworded: c1 (at main)*"),
    (canonical_relabeled, f"{CONTRACT}canonical sample relabeled: c1 (good → bad) (at main)*"),
    (canonical_made_ordinary, f"{CONTRACT}canonical sample made an ordinary one: c1 (at main)*"),
    (another_extract, f"{CONTRACT}extract: <label>(.*[?])</label> → *"),
    (words_swapped, f"{CONTRACT}2 label_words read as another label: good (good → bad), bad (bad → good) (at main)*"),
    (renamed, WORSE),
    (renamed_without_its_baseline, WORSE),
    (moved_to_another_folder, WORSE),
    (given_another_name, WORSE),
    (renamed_and_rewritten, "error: prompts/mood.prompt.yaml: gone, and no prompt file succeeds it *"),
    (deleted, "error: prompts/mood.prompt.yaml: gone, and no prompt file succeeds it *"),
    (made_a_link_to_another_prompt, f"{CONTRACT}60 labeled samples removed: n000, *"),
    (folder_made_a_link, f"{CONTRACT}20 labeled samples removed: n000, *"),
    (
        prompt_files_narrowed,
        "error: prompts/mood.prompt.yaml: promptfit_files in pytest.ini does not match it any more*",
    ),
    (gates_deselected_by_expression, "error: pytest.ini: addopts: -k not gate added (at main): *"),
    (gates_deselected_by_marker, "error: pytest.ini: addopts: -m not gate added (at main): *"),
    (
        gates_deselected_by_name,
        "error: pytest.ini: addopts: --deselect prompts/mood*::gate-contract added *",
    ),
    (file_ignored_by_option, "error: pytest.ini: addopts: --ignore=prompts/mood.prompt.yaml added (at main): *"),
    (folder_left_out_of_testpaths, "error: prompts/mood.prompt.yaml: not collected any more (at main): *"),
    (folder_not_entered, "error: prompts/mood.prompt.yaml: not collected any more (at main): *"),
    (settings_in_a_file_that_comes_first, "error: pytest.toml: addopts: -k not gate added (at main): *"),
    (file_ignored_by_conftest, "error: conftest.py: collect_ignore changed, which may decide what is run *"),
    (cases_deselected_by_conftest, "error: conftest.py: pytest_collection_modifyitems changed, *"),
    (cases_expected_to_fail_by_conftest, "error: conftest.py: pytest_collection_modifyitems changed, *"),
    (labels_read_by_conftest, "error: conftest.py: pytest_promptfit_extract changed, *"),
    (acceptance_in_the_ini_file, "ERROR: --promptfit-accept-contract in addopts or conftest.py: *"),
    (acceptance_in_conftest, "ERROR: --promptfit-accept-contract in addopts or conftest.py: *"),
    (version_taken_back_in_conftest, "ERROR: --promptfit-against: taken back by a conftest.py or plugin: *"),
    (replies_edited_by_hand, "ERROR: *replies.yaml:*: its checksum does not fit: *"),
    (replies_edited_without_checksum, "ERROR: *replies.yaml:3: *: it has no checksum: *"),
    (right_replies_put_above, "ERROR: *replies.yaml:*: another reply to the request that is answered at *"),
    (
        broken_left_unrecorded,
        "mood: 20 of 61 not recorded: this sample is new, was not asked yet, or its text was edited. Fails.",
    ),
    (recordings_of_another_folder, WORSE),
)

WAYS = {way.__name__: (way, said) for way, said in CASES}


@pytest.fixture(
    scope="module",
    params=[pytest.param(mode, marks=[] if mode == "default" else pytest.mark.endurance) for mode in MODES],
)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(mode: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the repository of a mode is kept once it is made."""
    return tmp_path_factory.mktemp(mode) / "repository"


@pytest.fixture
def judged(project: Project, mode: str, made: Path) -> Judged:
    """The repository, on the branch that broke a third of the samples, nothing of it committed yet."""
    judged = Judged(project)
    if not made.exists():
        judged.begin(mode)
        shutil.copytree(project.path, made)
    else:
        copy_into(made, project.path)
    return judged


@pytest.mark.parametrize("way", list(WAYS))
def test_no_way_to_hide_a_drop_goes_through(
    judged: Judged, mode: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide, said = WAYS[way]
    hide(judged)
    judged.commit()
    monkeypatch.setenv("CI", "1")
    result = judged.judged()
    assert result.ret == (4 if said.startswith("ERROR: ") else 1), result.stdout.str()
    printed = result.errlines if said.startswith("ERROR: ") else result.outlines
    assert _said(printed, said), "\n".join(printed)
    if said.startswith(CONTRACT):
        told = [line for line in result.outlines if line.startswith(("  gate contract: ", CONTRACT))]
        moved = "; compared with main:prompts/mood.prompt.yaml" if way == "folder_made_a_link" else ""
        how = "(--promptfit-accept-contract lets it through)"
        assert told[0] == f"  gate contract: FAILED: looser than main{moved} {how}:"
        assert len(told) == len(set(told))
        assert " Fails: " in _verdict(result.outlines)
        assert f"gate contract ({len(told) - 1} looser)" in _verdict(result.outlines)
    if "  gate regression: FAILED: worse than main by " in result.stdout.str():
        result.stdout.fnmatch_lines(["*: worse than main: 100.0 % → *"])  # the verdict is of the same comparison
    if os.environ.get("PROMPTFIT_TEST_TABLE"):
        print(f"| {way} | {mode} | {_said(printed, said)} |")


def _verdict(lines: list[str]) -> str:
    (line,) = [line for line in lines[lines.index(f"{' verdict ':=^80}") :] if line.startswith("mood: ")]
    return line


def _said(lines: list[str], pattern: str) -> str:
    literal = pattern.replace("[", "[[]").replace("[[]?]", "[?]")
    return next((line.strip() for line in lines if fnmatchcase(line, literal)), "")
