"""What the columns of a data file mean: texts, labels, notes, ids, canonicals; and samples that stand twice."""

from __future__ import annotations

import json
import os
import unicodedata
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_promptfit.chat.request import ChatBuilder
from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.prompts.model import Prompt
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import SampleSet, normal_form, read_samples, text_id
from pytest_promptfit.text import nfc

if TYPE_CHECKING:
    from pathlib import Path

TWINS = ("text 269702", "text 625831")
"""Their SHA-256 begins alike: bf3bd2fff6."""

TWO = "text,label\nfine,good\nawful,bad\n"


def read(folder: Path, data: str = TWO, more: str = "", **source: str) -> SampleSet:
    folder.joinpath("d.csv").write_text(data, encoding="utf-8")
    path = folder / "p.yaml"
    path.write_text(
        f"model: openai/m\nprompt: {{}}\nsamples: {json.dumps({'file': 'd.csv', **source})}\n{more}", encoding="utf-8"
    )
    return read_samples(parse_prompt_file(path))


def mistake(folder: Path, data: str = TWO, more: str = "", **source: str) -> str:
    with pytest.raises(PromptFileError) as caught:
        read(folder, data, more, **source)
    return str(caught.value).replace(f"{folder}{os.sep}", "")


class TestColumns:
    def test_a_template_over_two_columns(self, tmp_path: Path) -> None:
        found = read(
            tmp_path,
            "question1,question 2,label\nHow?,{question1},1\nWhy?,,0\n",
            text='A: {question1}\nB: {question 2} {} { "q": {question1} }',
        )
        assert [sample.text for sample in found.samples] == [
            'A: How?\nB: {question1} {} { "q": How? }',
            'A: Why?\nB:  {} { "q": Why? }',
        ]

    def test_a_pair_of_empty_cells_is_no_text(self, tmp_path: Path) -> None:
        message = mistake(tmp_path, "q1,q2,label\na,b,1\n, ,0\n", text="A: {q1}\nB: {q2}")
        assert message == "d.csv:3: text: empty: expected the text to classify"

    def test_a_column_whose_name_has_braces_is_a_column(self, tmp_path: Path) -> None:
        assert read(tmp_path, "{text},label\na,x\n", text="{text}").samples[0].text == "a"

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ({"text": "txt"}, "samples.text: 'txt': no such column in d.csv; did you mean `text`?"),
            ({"text": "A: {text} {tekst}"}, "samples.text: 'tekst': no such column in d.csv; did you mean `text`?"),
            ({"text": ""}, "samples.text: '': no such column in d.csv; known: text, label"),
            ({"label": "lable"}, "samples.label: 'lable': no such column in d.csv; did you mean `label`?"),
            ({"note": "why"}, "samples.note: 'why': no such column in d.csv; known: text, label"),
            ({"id": "qid"}, "samples.id: 'qid': no such column in d.csv; known: text, label"),
            ({"canonical": "must"}, "samples.canonical: 'must': no such column in d.csv; known: text, label"),
        ],
    )
    def test_a_column_that_is_not_there(self, tmp_path: Path, source: dict[str, str], message: str) -> None:
        assert mistake(tmp_path, **source) == f"p.yaml:3: {message}"

    def test_many_columns_are_not_all_listed(self, tmp_path: Path) -> None:
        header = ",".join(f"c{number}" for number in range(200))
        message = mistake(tmp_path, f"{header}\n", text="zzz")
        assert message.endswith("known: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, …")

    def test_a_note_is_taken_from_its_column(self, tmp_path: Path) -> None:
        data = "text,label,note,why\na,x, n ,w\n"
        assert read(tmp_path, data).samples[0].note == "n"
        assert read(tmp_path, data, note="why").samples[0].note == "w"

    @pytest.mark.parametrize("written", ["1", "true", "TRUE", "Yes", "y", "x", " yes "])
    def test_a_canonical_of_the_data_file(self, tmp_path: Path, written: str) -> None:
        found = read(tmp_path, f"text,label,must\na,x,{written}\nb,x,\n", canonical="must")
        assert [sample.canonical for sample in found.samples] == [True, False]
        assert [sample.text for sample in found.labeled] == ["b"]

    @pytest.mark.parametrize("written", ["", "0", "false", "No", "n"])
    def test_no_canonical(self, tmp_path: Path, written: str) -> None:
        assert not read(tmp_path, f"text,label,canonical\na,x,{written}\n").samples[0].canonical

    def test_neither_yes_nor_no(self, tmp_path: Path) -> None:
        message = mistake(tmp_path, "text,label,canonical\na,x,yes\nb,x,perhaps\n")
        assert message == "d.csv:3: canonical: 'perhaps': expected yes or no"

    def test_names_with_line_breaks_break_no_line(self, tmp_path: Path) -> None:
        assert "\n" not in mistake(tmp_path, '"te\nxt",label\n', text="te\nxts")


class TestIds:
    @pytest.mark.parametrize(
        ("written", "cleaned"),
        [
            ("q1", "q1"),
            (" q1 ", "q1"),
            ("a[1]", "a(1)"),
            ("a::b:::c:d", "a:b:c:d"),
            ("a\tb\x1bc\u2028d\xa0e\x7f", "a_b_c_d_e_"),
            ("0042", "0042"),
            ("é/日本", "é/日本"),
        ],
    )
    def test_an_id_can_be_selected(self, tmp_path: Path, written: str, cleaned: str) -> None:
        assert read(tmp_path, f'text,label,qid\na,x,"{written}"\n', id="qid").samples[0].id == cleaned

    def test_an_empty_id(self, tmp_path: Path) -> None:
        message = mistake(tmp_path, "text,label,id\na,x,1\nb,x, \n", id="id")
        assert message == "d.csv:3: id: empty: expected an id for every sample, or no `id` at all"

    @pytest.mark.parametrize(("first", "second"), [("q", "q"), ("q", " q"), ("q[1]", "q(1)")])
    def test_a_duplicate_names_both_lines(self, tmp_path: Path, first: str, second: str) -> None:
        message = mistake(tmp_path, f'text,label,id\n"a\n",x,{first}\nb,x,{second}\n', id="id")
        cleaned = first.replace("[", "(").replace("]", ")")
        assert message == f"d.csv:4: id: {cleaned}: said twice, first at d.csv:2: expected unique ids"

    def test_an_inline_id_may_be_a_number(self, tmp_path: Path) -> None:
        found = read(tmp_path, more="canonical: [{text: c, label: good, id: 7}]\n")
        assert found.samples[0].case_name == "canonical-7"

    def test_default_ids_stay_when_rows_move_and_when_white_space_changes(self, tmp_path: Path) -> None:
        before = read(tmp_path, "text,label\nit is fine,good\ncafe\u0301,good\nawful,bad\n")
        after = read(tmp_path, 'text,label,note\nawful,bad,n\ncaf\xe9,good,\n"it  is\nfine ",good,\n')
        assert {sample.id for sample in after.samples} == {sample.id for sample in before.samples}
        assert {len(sample.id) for sample in before.samples} == {10}

    def test_texts_that_share_the_short_hash_get_the_long_one_and_keep_it(self, tmp_path: Path) -> None:
        texts = ["text 1", *TWINS, "text 2"]
        forwards = read(tmp_path, "text,label\n" + "".join(f"{text},x\n" for text in texts)).samples
        lengths = [10, 16, 16, 10]
        assert [sample.id for sample in forwards] == [
            sha256(text.encode()).hexdigest()[:length] for text, length in zip(texts, lengths, strict=True)
        ]
        backwards = read(tmp_path, "text,label\n" + "".join(f"{text},x\n" for text in reversed(texts))).samples
        assert [sample.id for sample in reversed(backwards)] == [sample.id for sample in forwards]

    def test_two_texts_with_one_short_hash_that_stand_twice_are_counted_once(self, tmp_path: Path) -> None:
        one, other = TWINS
        found = read(tmp_path, f"text,label\n{one},x\n{other},x\n{one},x\n")
        assert [sample.text for sample in found.samples] == [one, other]
        assert len(found.warnings) == 1


class TestStandingTwice:
    def test_the_same_text_and_label_are_counted_once_and_said(self, tmp_path: Path) -> None:
        found = read(tmp_path, 'text,label\na b,x\nc,y\n"a\nb",x\n')
        assert [(sample.text, sample.line) for sample in found.samples] == [("a b", 2), ("c", 3)]
        data = tmp_path / "d.csv"
        assert found.warnings == (f"{data}:4: the same sample as {data}:2: counted once",)

    def test_also_under_two_ids(self, tmp_path: Path) -> None:
        found = read(tmp_path, "id,text,label\n1,a,x\n2,a,x\n3,b,x\n", id="id")
        assert [sample.id for sample in found.samples] == ["1", "3"]
        assert found.warnings[0].endswith("d.csv:2: counted once")

    def test_a_canonical_may_be_a_labeled_sample_too(self, tmp_path: Path) -> None:
        found = read(tmp_path, more="canonical: [{text: fine, label: good}]\n")
        assert [sample.case_name.split("-")[0] for sample in found.samples] == ["canonical", "sample", "sample"]
        assert found.warnings == ()

    @pytest.mark.parametrize("source", [{}, {"id": "id"}])
    def test_two_labels_for_one_text_are_a_mistake_with_both_places(
        self, tmp_path: Path, source: dict[str, str]
    ) -> None:
        message = mistake(tmp_path, "id,text,label\n1,a,x\n2,b,y\n3,a ,y\n", **source)
        assert message == (
            "d.csv:4: label: 'y', but the same text has the label 'x' at d.csv:2: expected one label for 'a'"
        )

    def test_also_between_the_prompt_file_and_the_data_file(self, tmp_path: Path) -> None:
        message = mistake(tmp_path, more="canonical:\n- {text: fine, label: bad}\n")
        assert message == (
            "d.csv:2: label: 'good', but the same text has the label 'bad' at p.yaml:5: expected one label for 'fine'"
        )


def test_a_label_outside_labels_names_the_line_of_the_data(tmp_path: Path) -> None:
    message = mistake(tmp_path, 'text,label\n"a\nb",good\nc,god\n', "labels: [good, bad]\n")
    assert message == "d.csv:4: label: 'god' is not one of `labels`; did you mean `good`?"


def test_inline_samples_may_be_canonical(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "model: openai/m\nprompt: {}\n"
        "samples:\n- {text: a, label: x, canonical: yes, note: n, id: one}\n- {text: b, label: y}\n"
        "canonical:\n- {text: c, label: x, canonical: no}\n"
    )
    found = read_samples(parse_prompt_file(path))
    assert [(s.text, s.canonical, s.line) for s in found.samples] == [("c", True, 7), ("a", True, 4), ("b", False, 5)]
    assert (found.samples[1].id, found.samples[1].note) == ("one", "n")
    assert [sample.text for sample in found.labeled] == ["b"]


def test_only_canonicals_will_do(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("model: openai/m\nprompt: {}\ncanonical: [{text: c, label: x}]\n")
    found = read_samples(parse_prompt_file(path))
    assert (found.labels, found.labeled) == (("x",), ())


@given(st.text(), st.text(" \t\n\r\u3000", min_size=1))
def test_an_id_is_of_the_words_alone(text: str, space: str) -> None:
    assert text_id(normal_form(text)) == text_id(text) == text_id(f"{space}{text}{space}")


TEXTS = st.text(st.characters(exclude_categories=()))
"""Any text at all, halves of surrogate pairs too."""


@given(TEXTS, st.sampled_from(["", "{labels}", "<text>", "\x00"]))
def test_a_text_that_is_read_makes_a_request(tmp_path_factory: pytest.TempPathFactory, text: str, around: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    folder.joinpath("d.jsonl").write_text(json.dumps({"text": text, "label": "x"}))
    path = folder / "p.yaml"
    path.write_text("model: openai/m\nprompt: {}\nsamples: d.jsonl\n")
    if not text.strip() or any("\ud800" <= char <= "\udfff" for char in text):
        with pytest.raises(PromptFileError):
            read_samples(parse_prompt_file(path))
        return
    (sample,) = read_samples(parse_prompt_file(path)).samples
    prompt = Prompt(user_prompt_prefix=around, user_prompt_suffix="END")
    request = ChatBuilder(prompt, ["x"], model="m", params={}, continues=True).request(sample.text)
    said = request.turns[-1].text
    assert json.loads(json.dumps(said, ensure_ascii=False).encode()) == said
    assert said == f"{around.replace('{labels}', 'x')}{text}END"


class TestLabels:
    """Labels are compared as texts are: however Unicode spells them, and each of them one."""

    def test_two_spellings_are_one_label(self, tmp_path: Path) -> None:
        data = "text,label\na,caf\u00e9\nb,cafe\u0301\nc,tea\n"
        found = read(tmp_path, data, more="labels: [cafe\u0301, tea]\ngates: {recall: {cafe\u0301: 0.5}}\n")
        assert found.labels == ("caf\u00e9", "tea")
        assert [sample.label for sample in found.samples] == ["caf\u00e9", "caf\u00e9", "tea"]

    @pytest.mark.parametrize("label", ["nan", "a, b", "a/b"])
    def test_a_label_that_is_listed_is_meant(self, tmp_path: Path, label: str) -> None:
        data = f'text,label\none,"{label}"\ntwo,a\nthree,b\n'
        found = read(tmp_path, data, more=f'labels: [a, b, "{label}"]\n')
        assert found.samples[0].label == label

    def test_a_label_with_a_separator_is_one_where_its_parts_are_none(self, tmp_path: Path) -> None:
        found = read(tmp_path, 'text,label\none,n/a\ntwo,"billing, refund"\n')
        assert found.labels == ("billing, refund", "n/a")


def test_many_samples_that_stand_twice_are_said_in_one_line(tmp_path: Path) -> None:
    (line,) = read(tmp_path, "text,label\n" + "a,x\nb,y\n" * 5_000).warnings
    data = tmp_path / "d.csv"
    assert line == (
        f"{data}:4: the same sample as {data}:2: counted once; so are 9,997 more, in lines 5, 6, 7, 8, 9, …"
    )


def test_marks_without_end_take_time_in_proportion_to_them(tmp_path: Path) -> None:
    """Putting half a million of them in order one by one would take hours."""
    text = "a" + "\u0301\u0323" * 250_000
    assert text_id(text) == text_id("a" + "\u0323" * 250_000 + "\u0301" * 250_000)
    assert text_id("e\u0301\u0323" * 3) == text_id("\u1eb9\u0301" * 3)


@given(st.text(st.sampled_from("ae\u00e9\u1ec7\u0301\u0323\u0f73\u0f71\u0344\u1100\u1161\uac01"), max_size=200))
def test_the_normal_form_is_unicodes(text: str) -> None:
    assert nfc(text) == unicodedata.normalize("NFC", text)
