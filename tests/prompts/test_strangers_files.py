"""Files that nobody checked: each is told in one line that names it, and the other prompts keep their results."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_promptfit.cassettes.cassette import Cassette, checksum, request_key
from pytest_promptfit.errors import CassetteError
from pytest_promptfit.providers.local import find_gguf

if TYPE_CHECKING:
    from mood_project import Project

DEEP = "[" * 100_000
DIGITS = "1" * 5_000


@pytest.fixture
def two(project: Project) -> Project:
    """A good prompt with its recordings and its baseline, and a second one just like it."""
    project.write()
    project.write(at="other.prompt.yaml")
    project.record("--promptfit-update", "-q")
    return project


def rewrite_body(project: Project, body: str) -> None:
    """Put another body into the second prompt's recorded requests, as a client of one's own might have sent it."""
    path = project.path / "cassettes/other/replies.yaml"
    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    for repeat, interaction in enumerate(value["interactions"]):
        request, reply = interaction["request"], interaction["response"]["body"]["string"]
        request["body"] = body
        key = request_key(request["method"], request["uri"], body, repeat)
        interaction["promptfit"] |= {"repeat": repeat, "checksum": checksum(key, reply)}
    path.write_text(yaml.safe_dump(value), encoding="utf-8")


def break_files(project: Project, how: str) -> None:
    prompt = project.path / "other.prompt.yaml"
    baseline = project.path / "other.baseline.json"
    value: dict[str, Any] = yaml.safe_load(prompt.read_text(encoding="utf-8"))
    if how == "a name no file can have":
        prompt.write_text(yaml.safe_dump({**value, "model": f"local/{'m' * 300}.gguf"}))
    elif how == "a parameter in the prompt's place":
        prompt.write_text(yaml.safe_dump({**value, "params": {"messages": 5}}))
    elif how == "a nested body":
        rewrite_body(project, json.dumps({"messages": []})[:-1] + f', "a": {DEEP}')
    elif how == "a body of digits":
        rewrite_body(project, f'{{"messages": {DIGITS}}}')
    elif how == "a body without messages":
        rewrite_body(project, '{"model": "m", "messages": null}')
    elif how == "a nested baseline":
        baseline.write_text(DEEP)
    elif how == "a baseline of digits":
        baseline.write_text(f'{{"version": {DIGITS}}}')
    else:
        raise ValueError(how)


@pytest.mark.parametrize(
    "how",
    [
        "a name no file can have",
        "a parameter in the prompt's place",
        "a nested body",
        "a body of digits",
        "a body without messages",
        "a nested baseline",
        "a baseline of digits",
    ],
)
@pytest.mark.parametrize("way", ["replayed", "recorded"])
def test_one_prompts_files_leave_the_others_their_results(two: Project, how: str, way: str) -> None:
    break_files(two, how)
    result = two.replay() if way == "replayed" else two.record()
    said = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in said
    assert "Traceback" not in said
    if way == "replayed":
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        assert result.parseoutcomes()["passed"] >= 5  # the good prompt's four samples and its gate
        assert "other" in said
    else:  # a body is asked anew; what is wrong with a prompt is mended before anything is paid for
        expected = pytest.ExitCode.OK if "body" in how else pytest.ExitCode.INTERRUPTED
        assert result.ret == (pytest.ExitCode.TESTS_FAILED if "name" in how else expected)


def test_an_error_that_nobody_foresaw_is_one_line_with_its_trace_on_demand(
    two: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.read_bytes

    def too_large(path: Path) -> bytes:
        if path.parent.name == "other":
            raise OverflowError("too large\nfor words")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", too_large)
    result = two.replay()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == {"passed": 5, "stopped": 5}
    line = "error: other.prompt.yaml: cannot be used: OverflowError: too large for words: check its files; *"
    result.stdout.fnmatch_lines([line])
    assert result.stdout.str().count("OverflowError") == 1
    traced = two.replay("--full-trace")
    traced.stdout.fnmatch_lines(["*in too_large*", "*OverflowError: too large*"])


def test_an_error_in_reading_that_nobody_foresaw(two: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.read_text

    def read_text(path: Path, *arguments: Any, **more: Any) -> str:
        if path.name == "other.csv":
            raise MemoryError
        return real(path, *arguments, **more)

    monkeypatch.setattr(Path, "read_text", read_text)
    result = two.replay()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*other.prompt.yaml: cannot be used: MemoryError: check its files; *"])
    result.assert_outcomes(passed=5, errors=1)


def test_a_damaged_cassette_is_told_once_beside_good_ones(two: Project) -> None:
    (two.path / "cassettes/other/replies.yaml").write_text("<<<<<<< HEAD\n=======\n>>>>>>> topic\n")
    result = two.replay()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == {"passed": 5, "stopped": 5}
    assert result.stdout.str().count("an unresolved merge conflict") == 1


class TestNoSamples:
    """A prompt file that is not for us is passed over; one that had samples is not."""

    @pytest.mark.parametrize("fields", [{}, {"canonical": []}])
    def test_is_skipped_with_a_note(self, two: Project, fields: dict[str, Any]) -> None:
        two.write((), at="chat.prompt.yaml", **fields)
        result = two.replay()
        assert result.ret == 0
        result.assert_outcomes(passed=10, skipped=1)
        result.stdout.fnmatch_lines(["chat.prompt.yaml:*: samples: none: expected *: skipped"])

    def test_one_alone_is_no_failure(self, project: Project) -> None:
        project.write(())
        assert project.replay().ret == pytest.ExitCode.NO_TESTS_COLLECTED

    def test_taking_them_away_fails(self, two: Project) -> None:
        two.write((), at="other.prompt.yaml")
        result = two.replay()
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.assert_outcomes(passed=5, errors=1)

    def test_an_empty_data_file_fails(self, two: Project) -> None:
        (two.path / "other.csv").write_text("id,text,label,note\n")
        (two.path / "other.baseline.json").unlink()
        assert two.replay().ret == pytest.ExitCode.TESTS_FAILED


class TestRecordingsElsewhere:
    """A folder of recordings that leads out of the project is said, and what is not ours stays."""

    @pytest.fixture
    def elsewhere(self, project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
        (project.path / "pytest.ini").write_text("[pytest]\n")
        folder = tmp_path_factory.mktemp("elsewhere")
        (project.path / "cassettes").mkdir()
        return folder

    @pytest.mark.parametrize("link", ["cassettes/mood", "cassettes"])
    def test_is_said(self, project: Project, elsewhere: Path, link: str) -> None:
        (project.path / "cassettes").rmdir()
        if "/" in link:
            (project.path / "cassettes").mkdir()
        (project.path / link).symlink_to(elsewhere)
        project.write()
        target = elsewhere if "/" in link else elsewhere / "mood"
        said = f"*cassettes/mood is read and written outside {project.path}: {target}"
        project.record().stdout.fnmatch_lines([said])
        project.replay().stdout.fnmatch_lines([said])
        refused = project.replay("-W", "error::pytest.PytestWarning")
        assert refused.ret == pytest.ExitCode.INTERRUPTED

    def test_an_empty_file_stays(self, project: Project, elsewhere: Path) -> None:
        (elsewhere / "settings.yaml").touch()
        (project.path / "cassettes/mood").symlink_to(elsewhere)
        project.write()
        assert project.record().ret == 0
        assert project.replay().ret == 0
        assert {path.name for path in elsewhere.iterdir()} == {"settings.yaml", "replies.yaml"}


def test_a_packed_body_that_unfolds_without_end_is_not_unfolded(tmp_path: Path) -> None:
    entry = {
        "request": {"method": "POST", "uri": "http://a/b", "body": "{}", "headers": {}},
        "response": {
            "status": {"code": 200, "message": "OK"},
            "headers": {"content-encoding": ["gzip"]},
            "body": {"string": gzip.compress(b"0" * (20 * 2**20))},
        },
    }
    (tmp_path / "replies.yaml").write_text(yaml.safe_dump({"version": 1, "interactions": [entry]}))
    with pytest.raises(CassetteError, match="its body is longer than 16 MB when it is unpacked"):
        Cassette.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "model: openai/m\nprompt:\n  system_prompt: |\n    <<<<<<< HEAD\n    a\n    =======\n    b\n    >>>>>>> c\n",
        'model: openai/m\nprompt:\n  system_prompt: "Say\n<<<<<<< HEAD\n    a\n=======\n    b\n>>>>>>> c"\n',
        "model: openai/m\nprompt: {}\n\n<<<<<<< HEAD\na: 1\n||||||| old\n=======\nb: 1\n>>>>>>> c\n",
    ],
    ids=["block scalar", "quoted", "keys"],
)
def test_a_conflict_never_becomes_prompt_text(project: Project, text: str) -> None:
    (project.path / "p.prompt.yaml").write_text(text)
    result = project.replay()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    line = next(at for at, line in enumerate(text.split("\n"), 1) if "<<<<<<<" in line)
    result.stdout.fnmatch_lines([f"*p.prompt.yaml:{line}: an unresolved merge conflict: keep one side, *"])


def test_a_prompt_that_git_lfs_holds_back(project: Project) -> None:
    (project.path / "p.prompt.yaml").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    project.replay().stdout.fnmatch_lines(["*p.prompt.yaml:1: a Git LFS pointer*`git lfs pull`"])


def test_seven_equals_signs_alone_are_no_conflict(project: Project) -> None:
    project.write((("1", "A lovely heading\n=======\nand <<<<<<< text", "good"),))
    assert project.record().ret == 0


def test_a_model_file_whose_name_no_system_takes(tmp_path: Path) -> None:
    from pytest_promptfit.errors import CallError

    with pytest.raises(CallError, match="no GGUF file at"):
        find_gguf(f"{'m' * 300}.gguf", tmp_path)


def test_thousands_of_mistakes_are_not_each_looked_for(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import difflib

    compared: list[str] = []
    real = difflib.get_close_matches
    monkeypatch.setattr(
        difflib, "get_close_matches", lambda word, *rest, **more: compared.append(word) or real(word, *rest, **more)
    )
    text = "model: openai/m\nprompt: {}\n" + "".join(f"key{at}: 1\n" for at in range(10_000))
    (project.path / "p.prompt.yaml").write_text(text)
    project.replay().stdout.fnmatch_lines(["*p.prompt.yaml:53: and 9950 more mistakes"])
    assert len(compared) <= 51
