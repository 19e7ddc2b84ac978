"""Files and replies of strangers: whatever is in them, a run reads them or says in a line why it does not.

What goes on for ever or takes all memory has a process of its own here, which is given neither.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from data_files import mistake, read
from hypothesis import given
from hypothesis import strategies as st
from places import places, put
from prompt_files import HEAD, mistakes
from strange_input import REPLIES, SEED_FILES, TOKENS

from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.cassettes.misses import Misses
from pytest_promptfit.errors import CallError, PromptfitError
from pytest_promptfit.evaluation.outcomes import Outcome
from pytest_promptfit.prompts.model import PromptConfig
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import Sample, normal_form, read_samples
from pytest_promptfit.providers.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable


@st.composite
def mangled(draw: st.DrawFn, seed: bytes) -> bytes:
    """Return a file with some of its parts cut out, doubled or replaced by what breaks parsers."""
    data = seed
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        put = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=6), st.just(data[end : end + 40])))
        data = data[:start] + put + data[end:]
    return data


def one_line_each(error: PromptfitError, folder: Path) -> bool:
    """Tell whether every line of an error names the file it is about: no value has broken a line."""
    return all(line.startswith(str(folder)) for line in str(error).split("\n"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, to which a code that runs would write."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(folder: Path, read: Callable[[], object]) -> None:
    try:
        read()
    except PromptfitError as error:
        assert one_line_each(error, folder), str(error)  # noqa: PT017 - both outcomes are right
    assert not (folder / "pwned").exists()


class TestMangledFiles:
    @given(data=mangled(SEED_FILES["prompt"]))
    def test_prompt(self, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
        folder = tmp_path_factory.getbasetemp()
        path = folder / "p.prompt.yaml"
        path.write_bytes(data)
        check(folder, lambda: read_samples(parse_prompt_file(path)))

    @pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "json", "yaml"])
    @given(data=st.data())
    def test_data(self, tmp_path_factory: pytest.TempPathFactory, form: str, data: st.DataObject) -> None:
        folder = tmp_path_factory.getbasetemp()
        (folder / f"d.{form}").write_bytes(data.draw(mangled(SEED_FILES[form])))
        path = folder / "p.prompt.yaml"
        path.write_text(f"model: openai/m\nprompt: {{}}\nsamples: d.{form}\n")
        check(folder, lambda: read_samples(parse_prompt_file(path)))

    @pytest.mark.parametrize("form", ["cassette", "other cassette"])
    @given(data=st.data())
    def test_cassette(self, tmp_path_factory: pytest.TempPathFactory, form: str, data: st.DataObject) -> None:
        folder = tmp_path_factory.getbasetemp() / "strange"
        folder.mkdir(exist_ok=True)
        (folder / "r.yaml").write_bytes(data.draw(mangled(SEED_FILES[form])))

        def use() -> None:
            cassette = Cassette.load(folder)
            Misses(cassette, "http://x", lambda _: {"messages": []}).explain(Sample("s", "a", "x"))
            cassette.find("0")

        check(folder, use)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just(10**400) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


class TestReplies:
    """What an API answers is read, or is no reply and said so in a line."""

    def outcome(self, model: str, body: str) -> Outcome:
        config = PromptConfig.model_validate({"model": model, "prompt": {}, "labels": ["x", "y"]})
        sample = Sample("s", "a text", "x")
        try:
            reply, decided = Wire(config, config.labels, Path()).read(body, sample.text)
        except CallError as error:
            return Outcome(sample, error=str(error))
        return Outcome(sample, reply, decided.label)

    @pytest.mark.parametrize("model", list(REPLIES))
    @given(data=st.data())
    def test_any_value_at_any_place(self, model: str, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from([place for place in places(REPLIES[model]) if place[-1:] != ("type",)]))
        outcome = self.outcome(model, json.dumps(put(REPLIES[model], place, data.draw(JSON))))
        assert "\n" not in outcome.error
        assert outcome.predicted in (None, "x", "y")
        assert bool(outcome.error) == (outcome.reply is None)

    @pytest.mark.parametrize("model", list(REPLIES))
    @given(data=st.data())
    def test_any_text(self, model: str, data: st.DataObject) -> None:
        seed = json.dumps(REPLIES[model]).encode()
        body = data.draw(mangled(seed).filter(lambda body: b"1" * 4300 not in body)).decode(errors="replace")
        outcome = self.outcome(model, body)
        assert "\n" not in outcome.error
        assert bool(outcome.error) == (outcome.reply is None)

    def test_a_part_whose_type_is_a_list(self) -> None:
        body = put(REPLIES["anthropic/m"], ("content", 0, "type"), [])
        assert self.outcome("anthropic/m", json.dumps(body)).predicted is None

    def test_a_number_with_thousands_of_digits(self) -> None:
        assert self.outcome("openai/m", f'{{"choices": {"1" * 5000}}}').error.startswith("the API answered no JSON")


class TestYaml:
    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            ("!!int a", "int"),
            ("!!int ''", "int"),
            (f"!!int 0x{'f' * 5000}", "int"),
            (f"!!int 1:{'59:' * 100_000}1", "int"),
            (f"!!float 1:{'59:' * 20_000}1", "float"),
            ("!!float ''", "float"),
            ("!!bool a", "bool"),
            ("!!timestamp a", "timestamp"),
            ("!!timestamp 2024-13-99", "timestamp"),
        ],
    )
    def test_a_value_that_its_tag_contradicts(self, tmp_path: Path, value: str, kind: str) -> None:
        message = f"not YAML: not a value of the type !!{kind}"
        assert mistakes(tmp_path, f"{HEAD}description: {value}\n") == [f"p.yaml:6: {message}"]
        assert mistake(tmp_path, "d.yaml", f"\n- {{text: a, label: {value}}}\n") == f"d.yaml:2: {message}"

    def test_a_number_too_long_to_count_with_stays_text(self, tmp_path: Path) -> None:
        for number in ("1" * 100_000, "1." + "1" * 100_000, "1e" + "1" * 100_000):
            (sample,) = read(tmp_path, "d.yaml", f"- {{text: {number}, label: x}}\n")
            assert sample.text == number

    def test_keys_and_values_that_json_has_not(self, tmp_path: Path) -> None:
        data = "- {text: [!!timestamp 2020-01-01], label: {!!binary AA==: 1}}\n"
        (sample,) = read(tmp_path, "d.yaml", data)
        assert (sample.text, sample.label) == ('["2020-01-01"]', "{b'\\x00': 1}")

    def test_text_that_aliases_repeat_cannot_blow_up(self, tmp_path: Path) -> None:
        text = f"description: &a {'y' * 100_000}\n{HEAD}params: {{stop: [{'*a, ' * 200}]}}\n"
        assert mistakes(tmp_path, text) == ["p.yaml:1: aliases make more than 10,000,000 characters: write them out"]


class TestLongErrors:
    """A mistake is a line that can be read, however long the value is."""

    @pytest.mark.parametrize(
        "added",
        [
            f"labels: [{'ab' * 50_000}]",
            f"labels: [good, bad]\ncanonical: [{{text: a, label: {'g' * 100_000}}}]",
            f"gates: {{recall: {{? {'g' * 100_000} : 1}}}}",
            f"? {'k' * 100_000}\n: 1",
            f"params: {{? {'k' * 100_000} : 1, ? {'k' * 100_000} : 2}}",
            f"cases: {'loose ' * 50_000}",
            f"labels: [{', '.join(['x'] * 3)}, {'y' * 90_000}, {'y' * 90_000}]",
        ],
    )
    def test_a_long_value_is_cut(self, tmp_path: Path, added: str) -> None:
        (line,) = mistakes(tmp_path, f"{HEAD}{added}\n")
        assert len(line) < 1000

    def test_thousands_of_mistakes_are_counted(self, tmp_path: Path) -> None:
        lines = mistakes(tmp_path, "model: openai/m\nprompt: {}\nsamples:\n" + "- {text: a}\n" * 3000)
        assert len(lines) == 51
        assert lines[-1] == "p.yaml:54: and 2950 more mistakes"


class TestNotRegular:
    """A pipe or a device is refused at once: reading it might never end."""

    def test_prompt(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "p.prompt.yaml")
        with pytest.raises(PromptfitError, match=r"p\.prompt\.yaml:1: cannot be read: not a regular file$"):
            parse_prompt_file(tmp_path / "p.prompt.yaml")

    @pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
    def test_data(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "d.csv"
        make = {"pipe": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero"), "folder": path.mkdir}
        make[kind]()
        message = "p.prompt.yaml:3: samples.file: 'd.csv': not a regular file: expected one at d.csv"
        assert mistake(tmp_path, "d.csv") == message


@pytest.mark.parametrize(
    "text", ["a  b", " a\tb\n", "\u3000a\u00a0 b\x1c", "e\u0301", "", " ", "a b c", "\x85a\u2028\u2029b"]
)
def test_white_space_is_folded_as_words_are_split(text: str) -> None:
    assert normal_form(text) == " ".join(normal_form(text).split())
    assert normal_form(text).replace(" ", "") == "".join(normal_form(text).split())


LIMITED = """
import json, resource, sys
from pathlib import Path
from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples

resource.setrlimit(resource.RLIMIT_AS, (700_000_000, 700_000_000))
folder = Path(sys.argv[1])

def say(name, content):
    (folder / name).write_text(content)
    prompt = folder / "p.prompt.yaml"
    prompt.write_text(f"model: openai/m\\nprompt: {{}}\\nsamples: {name}\\n")
    try:
        print(name, len(read_samples(parse_prompt_file(prompt)).samples))
    except PromptfitError as error:
        print(str(error).replace(f"{folder}/", "")[:70])

say("long.csv", "text,label\\n" + "word " * 1_000_000 + ",x\\n")
say("wide.csv", "," * 1_000_000 + "\\n")
say("names.csv", ",".join(f"c{n}" for n in range(100_000)) + "\\n")
say("ragged.jsonl", "\\n".join(json.dumps({"text": f"a{n}", "label": "x", f"k{n}": 1}) for n in range(10_000)))
say("labels.jsonl", "\\n".join(json.dumps({"text": f"a{n}", "label": f"x{n}"}) for n in range(20_000)))
"""


def test_large_files_are_read_in_time_and_memory_that_grow_with_them(tmp_path: Path) -> None:
    """Each of these once took the product of two of its sizes: minutes, or gigabytes."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "long.csv 1",
        "p.prompt.yaml:3: samples.text: 'text': no such column in wide.csv; known: Unnamed: 0,"[:70],
        "p.prompt.yaml:3: samples.text: 'text': no such column in names.csv; known: c0,"[:70],
        "ragged.jsonl 10000",
        "labels.jsonl 20000",
    ]
