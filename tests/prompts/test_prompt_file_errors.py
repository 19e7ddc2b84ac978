"""Every mistake in a prompt file is one line: file, line, field, value, and what was expected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from places import places, put
from prompt_files import ADDED, DOCUMENTED, FEW_SHOT, HEAD, NESTED_ALIASES, NESTED_MERGES, WHOLE, mistakes

from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples

if TYPE_CHECKING:
    from mood_project import Project

BARE = "model: openai/m\nprompt: {}\n"


@pytest.mark.parametrize("mistake", list(ADDED))
def test_a_mistake_is_one_line_that_says_where_and_what(tmp_path: Path, mistake: str) -> None:
    added, message = ADDED[mistake]
    (line,) = mistakes(tmp_path, f"{HEAD}{added}\n")
    pytest.LineMatcher([line]).fnmatch_lines([f"p.yaml:6: {message}".replace("[", "[[]")])


def test_a_label_outside_labels_is_shown_where_the_sample_stands(tmp_path: Path) -> None:
    lines = mistakes(tmp_path, f"{HEAD}labels: [good, evil]\n")
    assert lines == ["p.yaml:5: label: 'bad' is not one of `labels`; known: good, evil"]


@pytest.mark.parametrize(
    "added",
    [
        'gates: {recall: {"a\\nb": 1}}',
        'labels: ["a\\nb", "a\\nb"]',
        'labels: ["goo\\nd"]',
        '"a\\nb": 1\n"a\\nb": 1',
        'tune: {"a\\nb": 1}',
        'canonical: [{text: a, label: "x\\ny"}]\nlabels: [good, bad]',
        'params: {at: !!timestamp 2020-01-01, "a\\nb": "c\\nd"}',
        'extract: "a\\nb"',
    ],
)
def test_a_line_break_in_a_value_breaks_no_line(tmp_path: Path, added: str) -> None:
    assert len(mistakes(tmp_path, f"{HEAD}{added}\n")) == 1


def test_broken_yaml_is_shown_where_it_breaks(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, f"{HEAD}tune:\n\titerations: 1\n")
    assert line.startswith("p.yaml:7: not YAML: ")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("text", "prompt: 'text': expected a mapping"),
        ("", "prompt: None: expected a mapping"),
        ("{system: s}", "prompt.system: unknown key; did you mean `system_prompt`?"),
        ("{system_prompt: [a]}", "prompt.system_prompt: ['a']: expected text (put it in quotes)"),
        (
            "{label_words: {good: aye, bad: aye}}",
            "prompt.label_words: 'aye' is the word of 'bad' and of 'good': expected different words",
        ),
        (
            "{label_words: {good: bad}}",
            "prompt.label_words: 'bad' is the word of 'bad' and of 'good': expected different words",
        ),
        ("{label_words: {good: ' '}}", "prompt.label_words.good: ' ': expected some text"),
        ("{label_words: {good: 1}}", "prompt.label_words.good: 1: expected text (put it in quotes)"),
        (
            "{label_words: {god: aye}}",
            "prompt.label_words.god: 'god' is not one of the labels; did you mean `good`?",
        ),
        ("{label_notes: {good: ' '}}", "prompt.label_notes.good: ' ': expected some text"),
        ("{label_notes: {good: 1}}", "prompt.label_notes.good: 1: expected text (put it in quotes)"),
        ("{label_notes: [good]}", "prompt.label_notes: ['good']: expected a mapping"),
        (
            "{system_prompt: '{labels}', label_notes: {god: fine weather}}",
            "prompt.label_notes.god: 'god' is not one of the labels; did you mean `good`?",
        ),
        (
            "{system_prompt: Classify., bot_reply_prefix: '{labels}', label_notes: {good: fine weather}}",
            "prompt.label_notes: no text says {labels}, where they are listed: put it into system_prompt",
        ),
        (
            "{system_prompt: '{labels}', label_order: [god]}",
            "prompt.label_order.0: 'god' is not one of the labels; did you mean `good`?",
        ),
        (
            "{system_prompt: '{labels}', label_order: [bad, bad]}",
            "prompt.label_order: ['bad', 'bad']: expected each label once: bad",
        ),
        ("{label_order: bad}", "prompt.label_order: 'bad': expected a list"),
        (
            "{label_order: [bad]}",
            "prompt.label_order: no text says {labels}, where they are listed: put it into system_prompt",
        ),
        ("{examples: [{text: '', label: good}]}", "prompt.examples.0.text: '': expected some text"),
        (
            "{examples: [{text: a, label: god}]}",
            "prompt.examples.0.label: 'god' is not one of the labels; did you mean `good`?",
        ),
        ("{examples: [{text: a}]}", "prompt.examples.0.label: missing: expected it here"),
    ],
)
def test_mistakes_in_the_prompt(tmp_path: Path, prompt: str, message: str) -> None:
    assert mistakes(tmp_path, HEAD.replace("{system_prompt: Classify.}", prompt)) == [f"p.yaml:2: {message}"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("gpt", "model: 'gpt': expected provider/model, such as openai/gpt-6-luna, or a mapping"),
        ("", "model: None: expected provider/model, such as openai/gpt-6-luna, or a mapping"),
        ("[openai/m]", "model: ['openai/m']: expected provider/model, such as openai/gpt-6-luna, or a mapping"),
        (
            "opnai/m",
            "model.provider: 'opnai': expected 'openai', 'anthropic', 'gemini', 'local', "
            "'openai-decisions' or 'systemone'",
        ),
        ("openai/", "model.name: '': expected some text"),
        ("{provider: openai}", "model.name: missing: expected it here"),
        ("{provider: openai, name: m, baseurl: x}", "model.baseurl: unknown key; did you mean `base_url`?"),
        ("{provider: openai, name: m, timeout: 0}", "model.timeout: 0: expected more than 0.0"),
    ],
)
def test_mistakes_in_the_model(tmp_path: Path, model: str, message: str) -> None:
    assert mistakes(tmp_path, HEAD.replace("openai/m", model)) == [f"p.yaml:1: {message}"]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ("nope.csv", "samples.file: 'nope.csv': no such file: expected it at nope.csv"),
        ("../", "samples.file: '../': not a regular file: expected one at *"),
        ("~nobody-here/a.csv", "samples.file: '~nobody-here/a.csv': no such file: *"),
        ("a" * 3000, "samples.file: 'aa*: no such file: *"),
        ('"a\\0.csv"', r"samples.file: 'a\x00.csv': no such file: *"),
        ("3", "samples: 3: expected a path, a list of samples, or a mapping with `file`"),
        ("{text: a}", "samples: {'text': 'a'}: expected a path, a list of samples, or a mapping with `file`"),
        ("{file: a.csv, inline: []}", "samples: {*}: expected a path, a list of samples, or a mapping with `file`"),
        ("{file: a.csv, tekst: a}", "samples.tekst: unknown key; did you mean `text`?"),
        ("[]", "samples: none: expected `samples` or `canonical` with at least one sample"),
        ("", "samples: none: expected `samples` or `canonical` with at least one sample"),
        ("[a]", "samples.0: 'a': expected a mapping"),
        ("[{text: a}]", "samples.0.label: missing: expected it here"),
        ("[{label: a}]", "samples.0.text: missing: expected it here"),
        ("[{text: 3, label: a}]", "samples.0.text: 3: expected text (put it in quotes)"),
        ("[{text: ' ', label: a}]", "text: empty: expected the text to classify"),
        ("[{text: a, label: ' '}]", "samples.0.label: ' ': expected some text"),
        ("[{text: a, label: 1.0}]", "samples.0.label: 1.0: expected a label: put it in quotes"),
        ("[{text: a, label: b, id: ' '}]", "id: empty: expected an id for every sample, or no `id` at all"),
    ],
)
def test_mistakes_in_where_the_samples_are(tmp_path: Path, samples: str, message: str) -> None:
    (line,) = mistakes(tmp_path, f"{BARE}samples: {samples}\n")
    pytest.LineMatcher([line]).fnmatch_lines([f"p.yaml:3: {message}".replace("[", "[[]")])


def test_no_samples_at_all(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, BARE)
    assert line == "p.yaml:1: samples: none: expected `samples` or `canonical` with at least one sample"


def test_a_duplicate_id_names_both_lines(tmp_path: Path) -> None:
    lines = mistakes(tmp_path, f"{BARE}samples:\n- {{text: a, label: x, id: q}}\n\n- {{text: b, label: x, id: q}}\n")
    assert lines == ["p.yaml:6: id: q: said twice, first at p.yaml:4: expected unique ids"]


def test_one_text_with_two_labels_names_both_lines(tmp_path: Path) -> None:
    lines = mistakes(tmp_path, f"{BARE}samples:\n- {{text: a  b, label: x}}\n- {{text: a b, label: y}}\n")
    assert lines == [
        "p.yaml:5: label: 'y', but the same text has the label 'x' at p.yaml:4: expected one label for 'a b'"
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"caf\xe9: 1\n", "p.yaml:1: byte 0xe9 is not UTF-8: save the file as UTF-8"),
        (HEAD.encode() + b"description: caf\xe9\n", "p.yaml:6: byte 0xe9 is not UTF-8: save the file as UTF-8"),
        (HEAD.encode("utf-16"), "p.yaml:1: byte 0xff is not UTF-8: save the file as UTF-8"),
    ],
)
def test_a_bad_encoding(tmp_path: Path, text: bytes, line: str) -> None:
    assert mistakes(tmp_path, text) == [line]


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "nothing"), ("# a comment\n", "nothing"), ("- a\n", "a list"), ("hi\n", "a str"), ("3\n", "a int")],
)
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str, found: str) -> None:
    assert mistakes(tmp_path, text) == [f"p.yaml:1: expected a mapping with `model` and `prompt`, found {found}"]


def test_every_mistake_is_said_in_the_order_of_the_file(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "modl: openai/m\ncases: loose\ngates: {accuracy: 2, missing: -1}\nprompt: {}\n") == [
        "p.yaml:1: model: missing: expected it here",
        "p.yaml:1: modl: unknown key; did you mean `model`?",
        "p.yaml:2: cases: 'loose': expected 'strict' or 'gated'",
        "p.yaml:3: gates.accuracy: 2: expected at most 1.0",
        "p.yaml:3: gates.missing: -1: expected at least 0.0",
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"a: &a [x, x, x, x, x, x, x, x, x]\n{NESTED_ALIASES}",
        f"a: &a {{k: x}}\n{NESTED_MERGES}",
        "a: &a [*a]\n",
        "a: &a\n  <<: *a\n  b: 1\n",
    ],
    ids=["aliases", "merges", "itself", "merges itself"],
)
def test_aliases_cannot_blow_up(tmp_path: Path, text: str) -> None:
    assert mistakes(tmp_path, text) == ["p.yaml:1: aliases make more than 2,000,000 values: write them out"]


DEEP = {
    "open": ("model: " + "[" * 100_000, 1),
    "closed": ("model: " + "[" * 5_000 + "]" * 5_000, 1),
    "just": ("model: " + "[" * 100 + "]" * 100, 1),
    "blocks": ("\n".join(" " * level + "a:" for level in range(1_000)), 101),
    "sequences": ("params:\n" + "- " * 5_000 + "a", 2),
    "mappings": ("a: 1\nb: " + "{a: " * 5_000 + "1" + "}" * 5_000, 2),
    "json": ('{"model":\n' + '{"a": ' * 5_000 + "1" + "}" * 5_001, 2),
}


@pytest.mark.parametrize(("text", "line"), DEEP.values(), ids=DEEP)
def test_deep_nesting_is_refused(tmp_path: Path, text: str, line: int) -> None:
    assert mistakes(tmp_path, text) == [f"p.yaml:{line}: nested deeper than 100 levels"]


def test_deep_nesting_is_refused_alike_without_libyaml(tmp_path: Path) -> None:
    for name, (text, _) in DEEP.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        (tmp_path / name).mkdir()
        (tmp_path / name / "replies.yaml").write_text(text, encoding="utf-8")
    program = f"""
import pathlib, sys
sys.modules["yaml._yaml"] = None
from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.yaml_source import Reader, YamlSource
print(Reader.__name__)
for name in {list(DEEP)!r}:
    path = pathlib.Path(f"{{name}}.yaml")
    for read in lambda: YamlSource.read(path), lambda: Cassette.load(pathlib.Path(name)):
        try:
            read()
        except PromptfitError as error:
            print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = ["SafeLoader"]
    for name, (_, line) in DEEP.items():
        expected.append(f"{name}.yaml:{line}: nested deeper than 100 levels")
        where = Path(name, "replies.yaml")
        expected.append(f"{where}:{line}: nested too deep for a cassette; restore it from version control")
    assert done.stdout.splitlines() == expected


def test_nesting_within_reason_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"{HEAD}params: {{schema: {'[' * 90}{']' * 90}}}\n")
    assert len(str(parse_prompt_file(path).config.params["schema"])) == 180


FORMS = [yaml.safe_load(text) for text in (WHOLE, DOCUMENTED, FEW_SHOT)]
ODD_SCALARS = [None, True, -1, 1.5, 1e400, "", " ", "a\nb", "\0", "x" * 5000, "0", "..", "~x", "{{input}}", b"a", 2**70]
ODD_SHAPES = [[], [None], [[]], [{"a": 1}], [{"text": "a", "label": "0"}], {}, {"a": None}, {1: 2}, {"file": "a"}]
ODD = st.sampled_from([*ODD_SCALARS, *ODD_SHAPES])


@given(st.sampled_from([(form, place) for form in FORMS for place in places(form)]), ODD)
def test_no_value_at_any_place_is_more_than_a_line(
    tmp_path_factory: pytest.TempPathFactory, at: tuple[Any, tuple[str | int, ...]], value: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "p.yaml"
    path.write_text(yaml.safe_dump(put(*at, value)), encoding="utf-8")
    lines = []
    try:
        read_samples(parse_prompt_file(path))
    except PromptFileError as error:
        lines = str(error).split("\n")
    assert all(line.startswith(f"{path}:") for line in lines)


class TestInPytest:
    """The same, as a run of pytest shows it: an error of the file, without a traceback, and no case runs."""

    def run(self, project: Project, text: str, *arguments: str) -> pytest.RunResult:
        project.path.joinpath("mood.prompt.yaml").write_text(text, encoding="utf-8")
        return project.run(*arguments)

    @pytest.mark.parametrize("arguments", [(), ("--collect-only",), ("mood.prompt.yaml",)])
    def test_the_line_is_shown_without_a_traceback(self, project: Project, arguments: tuple[str, ...]) -> None:
        result = self.run(project, f"{HEAD}gates: {{acuracy: 0.8}}\n", *arguments)
        assert result.ret == pytest.ExitCode.INTERRUPTED
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(
            [
                "*ERROR collecting mood.prompt.yaml*",
                "*mood.prompt.yaml:6: gates.acuracy: unknown key; did you mean `acc*",
            ]
        )
        result.stdout.no_fnmatch_line("*Traceback*")
        result.stdout.no_fnmatch_line("*INTERNALERROR*")

    def test_a_mistake_in_the_data_file_names_the_data_file(self, project: Project) -> None:
        project.path.joinpath("d.csv").write_text("text,label\na,good\n,bad\n")
        result = self.run(project, f"{BARE}samples: d.csv\n")
        assert result.ret == pytest.ExitCode.INTERRUPTED
        result.stdout.fnmatch_lines(["*d.csv:3: text: empty: expected the text to classify"])

    def test_a_broken_file_does_not_hide_the_others(self, project: Project) -> None:
        project.path.joinpath("other.prompt.yaml").write_text(HEAD)
        result = self.run(project, "model: [\n", "--collect-only")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*SampleCase sample-*", "*mood.prompt.yaml:2: not YAML: *"])

    def test_a_plain_run_opens_no_prompt_file(self, project: Project) -> None:
        project.path.joinpath("mood.prompt.yaml").write_text("model: [\n")
        assert project.pytest().ret == pytest.ExitCode.NO_TESTS_COLLECTED
