"""Data files of every format, as samples with the line they start in; mistakes name the file and the line."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from data_files import mistake, read

if TYPE_CHECKING:
    from pathlib import Path

Read = tuple[str, str, int]
"""Text, label and line of a sample."""


def rows(folder: Path, name: str, data: str | bytes | None = None, **columns: str) -> list[Read]:
    return [(sample.text, sample.label, sample.line) for sample in read(folder, name, data, **columns)]


class TestCsv:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            ("text,label\na,x\nb,y\n", [("a", "x", 2), ("b", "y", 3)]),
            ("text,label\na,x", [("a", "x", 2)]),
            ('text,label\n"a\nb\n\nc",x\nd,y\n', [("a\nb\n\nc", "x", 2), ("d", "y", 6)]),
            ('text,label\n\n\n"a ""b"" c; d, e",x\n', [('a "b" c; d, e', "x", 4)]),
            ('text,label\nsay "hi" now,x\n', [('say "hi" now', "x", 2)]),
            (b'\xef\xbb\xbftext,label\r\n"a\r\nb",x\r\nc,y\r\n', [("a\nb", "x", 2), ("c", "y", 4)]),
            ("text,label\ra,x\rb,y\r", [("a", "x", 2), ("b", "y", 3)]),
            ("text,label\na\u2028b\u0085c\x0bd,x\ne,y\n", [("a\u2028b\u0085c\x0bd", "x", 2), ("e", "y", 3)]),
            ("label,text\n x , a\n", [(" a", "x", 2)]),
            ("text,label\n答え,はい\n", [("答え", "はい", 2)]),
            ("\n\ntext,label\na,x\n", [("a", "x", 4)]),
            ("text,label\nno,yes\n1,0\n01,1.0\n", [("no", "yes", 2), ("1", "0", 3), ("01", "1.0", 4)]),
        ],
        ids=[
            "plain",
            "no line end",
            "cells of several lines",
            "quotes and separators",
            "a quote inside",
            "BOM and CRLF",
            "CR",
            "Unicode line breaks",
            "columns in any order",
            "any script",
            "blank lines before",
            "no guessing of types",
        ],
    )
    def test_is_read(self, tmp_path: Path, data: str | bytes, expected: list[Read]) -> None:
        assert rows(tmp_path, "d.csv", data) == expected

    def test_a_huge_cell_is_read_and_the_limit_of_others_is_kept(self, tmp_path: Path) -> None:
        usual = csv.field_size_limit()
        (sample,) = read(tmp_path, "d.csv", f'text,label\n"{"long " * 400_000}",x\n')
        assert len(sample.text) == 2_000_000
        assert csv.field_size_limit() == usual

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ("", "d.csv:1: empty: expected a first line with the names of the columns"),
            ("\n\n", "d.csv:1: empty: expected a first line with the names of the columns"),
            ('text,label\n"a\nb",x\n\nc,y,z\n', "d.csv:5: 3 cells: expected 2 (*"),
            ("text,label\na,x\nb\n", "d.csv:3: 1 cells: expected 2 (*"),
            ("text,label,text\na,x,b\n", "d.csv:1: 'text': two columns have this name: *"),
            ("sep=;\ntext;label\na;x\nb\n", "d.csv:4: 1 cells: expected 2 (*"),
            ('text,label\n"say \\"a\\"",x\n"b\n', "d.csv:3: not csv: unexpected end of data: check the quotes"),
            ("a lovely day,good\na dull day,good\n", "d.csv:1: looks like a sample, not like names of columns: *"),
            ("text,label\na,x\nb,NaN\n", "d.csv:3: label: 'NaN' stands for a missing value: *"),
            ("text,label\na,nan\n", "d.csv:2: label: 'nan' stands for a missing value: *"),
            ("text,label\na,x\nb,y\nc,y; x\n", "d.csv:4: label: 'y; x' holds several labels: expected one, *"),
            ("text|label\na|x\nb|x,y\nc|y\n", "d.csv:3: label: 'x,y' holds several labels: expected one, *"),
            ("text,label\n<<<<<<< HEAD\na,x\n=======\na,y\n>>>>>>> b\n", "d.csv:2: an unresolved merge conflict: *"),
            ('text,label\na,x\n"b\n\n,y\nc,x\n', "d.csv:3: not csv: unexpected end of data: check the quotes"),
            ('text,label\n"a\nb" c,x\n', "d.csv:2: not csv: ',' expected after '\"': check the quotes"),
            (b"text,label\na,x\ncaf\xe9,y\n", "d.csv:3: byte 0xe9 is not UTF-8: save the file as UTF-8"),
            ("text,label\na,x\n\n ,y\n", "d.csv:4: text: empty: expected the text to classify"),
            ("text,label\na, \n", "d.csv:2: label: empty: expected the label of 'a'"),
            ("text,label\na,(missing)\n", "d.csv:2: label: '(missing)': expected another label: *"),
            ("text;label\na;x\nb\n", "d.csv:3: 1 cells: expected 2 (*"),
        ],
    )
    def test_a_mistake_names_the_line(self, tmp_path: Path, data: str | bytes, message: str) -> None:
        pytest.LineMatcher([mistake(tmp_path, "d.csv", data)]).fnmatch_lines([message])

    @pytest.mark.parametrize("mark", [";", "|", "\t"])
    def test_a_first_line_without_a_comma_tells_the_separator(self, tmp_path: Path, mark: str) -> None:
        (sample,) = read(tmp_path, "d.csv", f'text{mark}label\n"a, b{mark}c"{mark}x\n')
        assert (sample.text, sample.label) == (f"a, b{mark}c", "x")

    @pytest.mark.parametrize(
        "data",
        [
            "label,text,,,\nx,a,,,\n",
            "sep=;\nlabel;text\nx;a\n",
            '"sep=;"\r\nlabel;text\r\nx;a\r\n',
            'text,label\n"a",x\n',
            "label\ttext\tlang, region\nx\ta\ten, GB\n",
            "label;text;lang, region\nx;a;en\n",
        ],
        ids=["columns without names", "Excel", "Excel, quoted", "quotes", "tabs", "semicolons"],
    )
    def test_is_read_as_it_was_found(self, tmp_path: Path, data: str) -> None:
        (sample,) = read(tmp_path, "d.csv", data)
        assert (sample.text, sample.label, sample.line) == ("a", "x", 3 if "sep=" in data else 2)

    def test_texts_that_separate_as_evenly_as_the_columns(self, tmp_path: Path) -> None:
        data = "text, raw\tlabel\tlang\nyes, no\tx\ten\n"
        (sample,) = read(tmp_path, "d.csv", data, text="text, raw")
        assert (sample.text, sample.label) == ("yes, no", "x")

    def test_quotes_that_a_backslash_marks(self, tmp_path: Path) -> None:
        written = 'text,label\n"say \\"a, b\\" in C:\\\\dir\\new",x\n"c",y\n'
        assert rows(tmp_path, "d.csv", written) == [('say "a, b" in C:\\dir\\new', "x", 2), ("c", "y", 3)]
        plain = 'text,label\n"in C:\\dir\\",x\n'
        assert rows(tmp_path, "d.csv", plain) == [("in C:\\dir\\", "x", 2)]

    def test_what_stands_in_columns_without_names_is_not_lost(self, tmp_path: Path) -> None:
        data = "label,text,,\nx,a,more,\n"
        (sample,) = read(tmp_path, "d.csv", data, text="{text} {Unnamed: 2}")
        assert sample.text == "a more"

    def test_a_file_without_rows_has_no_samples(self, tmp_path: Path) -> None:
        assert mistake(tmp_path, "d.csv", "text,label\n").startswith("p.prompt.yaml:3: samples: none: ")

    def test_the_ending_may_be_in_capitals(self, tmp_path: Path) -> None:
        assert rows(tmp_path, "D.CSV", "text,label\na,x\n") == [("a", "x", 2)]


def test_tsv(tmp_path: Path) -> None:
    data = 'text\tlabel\na, "b"\tx\n"c\td\ne"\ty\nf\tx\n'
    assert rows(tmp_path, "d.tsv", data) == [('a, "b"', "x", 2), ("c\td\ne", "y", 3), ("f", "x", 5)]
    assert mistake(tmp_path, "d.tsv", "text\tlabel\na,x\n").startswith("d.tsv:2: 1 cells: expected 2")


class TestJson:
    def test_lines_of_json(self, tmp_path: Path) -> None:
        data = (
            '{"text": "a\\nb", "label": 1}\r\n\n   \n'
            '{"text": "c\u2028d\u0085e", "label": true, "more": [1]}\n{"label": "x", "text": "f"}'
        )
        assert rows(tmp_path, "d.jsonl", data) == [
            ("a\nb", "1", 1),
            ("c\u2028d\u0085e", "true", 4),
            ("f", "x", 5),
        ]

    def test_a_list(self, tmp_path: Path) -> None:
        data = '[{"text": "a [b] {c}", "label": 1},\n\n {"text":\n "b",\n "label": 1.5}, {"text": "c", "label": "x"}\n]'
        assert rows(tmp_path, "d.json", data) == [("a [b] {c}", "1", 1), ("b", "1.5", 3), ("c", "x", 5)]

    def test_a_value_that_is_no_text_is_written_as_json(self, tmp_path: Path) -> None:
        (sample,) = read(tmp_path, "d.jsonl", '{"text": ["é", null], "label": 12345678901234567890}')
        assert (sample.text, sample.label) == ('["é", null]', "12345678901234567890")

    def test_a_list_of_one_label_is_that_label(self, tmp_path: Path) -> None:
        assert rows(tmp_path, "d.jsonl", '{"text": "a", "label": ["x"]}') == [("a", "x", 1)]

    @pytest.mark.parametrize(
        ("name", "data", "message"),
        [
            ("d.jsonl", "", "d.jsonl:1: empty: expected at least one sample"),
            ("d.jsonl", '{"text": "a", "label": 1}\n\n{"text"}\n', "d.jsonl:3: not JSON: *"),
            ("d.jsonl", '{"text": "a", "label": 1}\n["a"]', "d.jsonl:2: expected an object with *, found list"),
            ("d.jsonl", '{"text": "a", "label": null}', "d.jsonl:1: label: empty: expected the label of 'a'"),
            ("d.jsonl", '\n{"text": "\\ud800", "label": 1}', "d.jsonl:2: text: half a surrogate pair: *"),
            ("d.jsonl", '\n{"text": "a", "label": "\\udfff"}', "d.jsonl:2: label: half a surrogate pair: *"),
            ("d.jsonl", '{"text": "a", "label": 1, "note": "\\ud800"}', "d.jsonl:1: note: half a surrogate pair: *"),
            ("d.jsonl", "[" * 100_000, "d.jsonl:1: nested deeper than 100 levels"),
            ("d.jsonl", f'\n{{"text": {"[" * 100}{"]" * 100}}}', "d.jsonl:2: nested deeper than 100 levels"),
            ("d.json", f'[{{"text": {"[" * 900}{"]" * 900}}}]', "d.json:1: nested deeper than 100 levels"),
            ("d.jsonl", f'\n{{"text": {"1" * 5000}}}', "d.jsonl:2: not JSON that can be read: *"),
            ("d.jsonl", '{"text": "a", "label": NaN}', "d.jsonl:1: label: empty: expected the label of 'a'"),
            ("d.jsonl", '{"text": "a", "label": ["x", "y"]}', "d.jsonl:1: label: *x*y* holds several labels: *"),
            ("d.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "d.jsonl:1: a Git LFS pointer*"),
            ("d.json", "[\n<<<<<<< HEAD\n1\n=======\n2\n>>>>>>> b\n]", "d.json:2: an unresolved merge conflict: *"),
            ("d.json", "", "d.json:1: not JSON: *"),
            ("d.json", "[]", "d.json:1: empty: expected at least one sample"),
            ("d.json", '{"text": "a"}', "d.json:1: expected a list of objects, one a sample"),
            ("d.json", '[{"text": "a", "label": 1},\n\n"b"]', "d.json:3: expected an object *, found str"),
            ("d.json", '[{"text": "a",\n"label": 1},\n{"text" "b"}]', "d.json:3: not JSON: *"),
            ("d.json", '[{"text": "a", "label": 1},\n{"text": "", "label": 1}]', "d.json:2: text: empty: *"),
            ("d.json", b'["\xff"]', "d.json:1: byte 0xff is not UTF-8: save the file as UTF-8"),
        ],
    )
    def test_a_mistake_names_the_line(self, tmp_path: Path, name: str, data: str | bytes, message: str) -> None:
        pytest.LineMatcher([mistake(tmp_path, name, data)]).fnmatch_lines([message])


class TestYaml:
    def test_is_read(self, tmp_path: Path) -> None:
        data = (
            "# samples\n- text: a\n  label: yes\n- text: |-\n    b\n    c\n  label: 01\n- {text: d, label: no, 1: x}\n"
        )
        expected = [("a", "yes", 2), ("b\nc", "01", 4), ("d", "no", 8)]
        assert rows(tmp_path, "d.yaml", data) == rows(tmp_path, "d.yml", data) == expected

    def test_a_key_that_is_a_number_names_a_column(self, tmp_path: Path) -> None:
        (sample,) = read(tmp_path, "d.yaml", "- {1: a, label: x}\n", text="1")
        assert sample.text == "a"

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ("", "d.yaml:1: expected a list of mappings, one a sample"),
            ("[]", "d.yaml:1: empty: expected at least one sample"),
            ("a: 1", "d.yaml:1: expected a list of mappings, one a sample"),
            ("- {text: a, label: x}\n- b\n", "d.yaml:2: expected an object with named fields, found str"),
            ("- text: a\n  label: x\n  text: b\n", "d.yaml:3: text: said twice, first in line 1: keep one"),
            ("- {text: a\n- b\n", "d.yaml:*: not YAML: *"),
            ("[" * 100_000, "d.yaml:1: nested deeper than 100 levels"),
        ],
    )
    def test_a_mistake_names_the_line(self, tmp_path: Path, data: str, message: str) -> None:
        pytest.LineMatcher([mistake(tmp_path, "d.yaml", data)]).fnmatch_lines([message])


class TestParquet:
    def write(self, folder: Path, **columns: Any) -> pd.DataFrame:
        frame = pd.DataFrame(columns)
        frame.to_parquet(folder / "d.parquet")
        return frame

    def test_whole_numbers_stay_whole_where_others_are_missing(self, tmp_path: Path) -> None:
        self.write(tmp_path, text=["a", "b", "c"], label=[1, 0, 1], note=pd.array([7, None, 8], dtype="Int64"))
        samples = read(tmp_path, "d.parquet")
        assert [(sample.text, sample.label, sample.note, sample.line) for sample in samples] == [
            ("a", "1", "7", 1),
            ("b", "0", "", 2),
            ("c", "1", "8", 3),
        ]

    def test_numbers_that_a_gap_made_floats_are_whole_again(self, tmp_path: Path) -> None:
        self.write(tmp_path, text=["a", "b"], label=[1.0, 0.0], note=[3.0, None])
        assert [(sample.label, sample.note) for sample in read(tmp_path, "d.parquet")] == [("1", "3"), ("0", "")]

    def test_other_numbers_stay_as_they_are(self, tmp_path: Path) -> None:
        self.write(tmp_path, text=["a", "b"], label=[1.0, 0.5], note=["1.0", "01"])
        assert [(sample.label, sample.note) for sample in read(tmp_path, "d.parquet")] == [
            ("1.0", "1.0"),
            ("0.5", "01"),
        ]

    def test_types_of_columns(self, tmp_path: Path) -> None:
        self.write(
            tmp_path,
            text=[b"caf\xc3\xa9", b"b"],
            label=[True, False],
            canonical=[False, True],
            note=pd.Categorical(["n", "m"]),
        )
        assert [(s.text, s.label, s.canonical, s.note) for s in read(tmp_path, "d.parquet")] == [
            ("café", "true", False, "n"),
            ("b", "false", True, "m"),
        ]

    def test_an_index_with_a_name_is_a_column(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}, index=pd.Index(["q1", "q2"], name="qid"))
        frame.to_parquet(tmp_path / "d.parquet")
        assert [sample.id for sample in read(tmp_path, "d.parquet", id="qid")] == ["q1", "q2"]

    def test_a_mistake_names_the_row(self, tmp_path: Path) -> None:
        self.write(tmp_path, text=["a", None], label=["x", "y"])
        assert mistake(tmp_path, "d.parquet") == "d.parquet:2: text: empty: expected the text to classify"

    @pytest.mark.parametrize(("data", "message"), [(b"", "not parquet: *"), (b"PAR1 nonsense PAR1", "not parquet: *")])
    def test_a_file_that_is_none(self, tmp_path: Path, data: bytes, message: str) -> None:
        pytest.LineMatcher([mistake(tmp_path, "d.parquet", data)]).fnmatch_lines([f"d.parquet:1: {message}"])

    def test_a_file_without_rows(self, tmp_path: Path) -> None:
        self.write(tmp_path, text=[], label=[])
        assert mistake(tmp_path, "d.parquet") == "d.parquet:1: empty: expected at least one sample"


@pytest.mark.parametrize(("name", "shown"), [("d.txt", ".txt"), ("d.xlsx", ".xlsx"), ("data", "no ending")])
def test_another_ending(tmp_path: Path, name: str, shown: str) -> None:
    message = mistake(tmp_path, name, "text,label\na,x\n")
    assert message == f"{name}:1: {shown}: not a data file: expected csv, tsv, jsonl, json, yaml, yml, parquet"


def test_the_same_samples_in_every_format(tmp_path: Path) -> None:
    values = [{"text": "a, b", "label": "x"}, {"text": "c\nd", "label": "y"}]
    frame = pd.DataFrame(values)
    frame.to_csv(tmp_path / "d.csv", index=False)
    frame.to_csv(tmp_path / "d.tsv", index=False, sep="\t")
    frame.to_json(tmp_path / "d.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "d.parquet")
    (tmp_path / "d.json").write_text(json.dumps(values, indent=1))
    (tmp_path / "d.yaml").write_text(json.dumps(values))
    found = {
        tuple((sample.id, sample.text, sample.label) for sample in read(tmp_path, f"d.{ending}"))
        for ending in ("csv", "tsv", "jsonl", "json", "yaml", "parquet")
    }
    assert len(found) == 1


def test_a_file_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data" / "d.csv"
    data.parent.mkdir()
    data.write_text("text,label\na,x\n")
    (tmp_path / "prompts").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for name in ("../data/d.csv", str(data), "~/data/d.csv"):
        assert rows(tmp_path / "prompts", name) == [("a", "x", 2)]
