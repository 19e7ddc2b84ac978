"""Reading a prompt file that is right: what its values become, its defaults, and YAML's scalars."""

from __future__ import annotations

from pathlib import Path

import pytest
from prompt_files import SHORTEST, WHOLE

from pytest_promptfit.prompts.read import ParsedPrompt, parse_prompt_file, stem_of
from pytest_promptfit.prompts.samples import read_samples


def parse(folder: Path, text: str, name: str = "mood.prompt.yaml") -> ParsedPrompt:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return parse_prompt_file(path)


def test_the_whole_file_is_read(tmp_path: Path) -> None:
    tmp_path.joinpath("insincere.csv").write_text(
        'qid,question_text,target,why,must_pass\nq1,How?,0,,\nq2,"Why are they\nso?",1,loaded,yes\n'
    )
    parsed = parse(tmp_path, WHOLE)
    samples = read_samples(parsed)
    config = parsed.config
    assert (parsed.name, str(config.model)) == ("insincere-questions", "openai/gpt-4.1-nano")
    assert config.all_params == {"temperature": 0, "max_tokens": 200}
    assert config.prompt.user_prompt_suffix.startswith("</text>\nEnd with")
    assert config.prompt.label_words == {"0": "sincere", "1": "insincere"}
    assert config.gates.recall == {"1": 0.8}
    assert config.tune.budget.usd == 1.0
    assert config.tune.edit == ("system_prompt", "label_words")
    assert [(s.case_name, s.text, s.label, s.note, s.line) for s in samples.samples[1:]] == [
        ("sample-q1", "How?", "0", "", 2),
        ("canonical-q2", "Why are they\nso?", "1", "loaded", 3),
    ]
    assert samples.samples[0].place == f"{parsed.path}:21"
    assert [sample.id for sample in samples.labeled] == ["q1"]


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    config = parse(tmp_path, SHORTEST).config
    assert config.extract == "<label>(.*?)</label>"
    assert config.cases == "gated"
    assert config.gates.regression is not None
    assert config.gates.regression.alpha == 0.05
    assert (config.gates.accuracy, config.gates.missing, config.gates.recall) == (None, None, {})
    assert config.tune.model is None
    assert "bot_reply_prefix" in config.tune.edit


def test_labels_are_those_of_the_samples_sorted(tmp_path: Path) -> None:
    assert read_samples(parse(tmp_path, SHORTEST)).labels == ("bad", "good")


def test_the_order_of_labels_is_kept_when_it_is_said(tmp_path: Path) -> None:
    parsed = parse(tmp_path, f"{SHORTEST}labels: [good, unheard of, bad]\n")
    assert read_samples(parsed).labels == ("good", "unheard of", "bad")


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("0", "0"),
        ("01", "01"),
        ("'1.0'", "1.0"),
        ("true", "true"),
        ("False", "false"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("0x1F", "0x1F"),
        ("' spaced '", "spaced"),
        ("日本語", "日本語"),
        ("9" * 200, "9" * 200),
    ],
)
def test_a_label_is_the_word_that_is_written(tmp_path: Path, written: str, label: str) -> None:
    parsed = parse(
        tmp_path,
        f"model: openai/m\nprompt: {{label_words: {{{written}: aye}}}}\nlabels: [{written}, other]\n"
        f"gates: {{recall: {{{written}: 0.5}}}}\nsamples: [{{text: a, label: {written}}}]\n",
    )
    assert read_samples(parsed).labels == (label, "other")
    assert (list(parsed.config.prompt.label_words), list(parsed.config.gates.recall)) == ([label], [label])


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("mood.prompt.yaml", "mood"),
        ("mood.prompt.yml", "mood"),
        ("v1.2.prompt.yaml", "v1.2"),
        ("mood.yaml", "mood"),
        (".prompt.yaml", ".prompt.yaml"),
        ("...prompt.yaml", "...prompt.yaml"),
    ],
)
def test_the_name_is_the_stem_and_never_a_folder_above(tmp_path: Path, file: str, name: str) -> None:
    assert parse(tmp_path, SHORTEST, file).name == name
    assert stem_of(Path(file)) == name


def test_a_name_may_have_spaces_dots_and_any_script(tmp_path: Path) -> None:
    assert parse(tmp_path, f"{SHORTEST}name: 質問 v1.2 (draft)\n").name == "質問 v1.2 (draft)"


def test_a_model_may_be_a_mapping(tmp_path: Path) -> None:
    text = SHORTEST.replace(
        "openai/gpt-4.1-nano",
        "{provider: openai, name: a/b, base_url: 'http://localhost:1/v1', api_key_env: K, params: {seed: 1, top_p: 1}}",
    )
    config = parse(tmp_path, f"{text}params: {{seed: 2}}\n").config
    assert (config.model.name, config.model.base_url) == ("a/b", "http://localhost:1/v1")
    assert config.all_params == {"seed": 2, "top_p": 1}


def test_parameters_are_as_json_carries_them(tmp_path: Path) -> None:
    config = parse(tmp_path, f"{SHORTEST}params: {{logit_bias: {{50256: -100, a: [1.5, null, true]}}}}\n").config
    assert config.params == {"logit_bias": {"50256": -100, "a": [1.5, None, True]}}


@pytest.mark.parametrize(("written", "alpha"), [("true", 0.05), ("false", None), ("", None), ("{alpha: 0.1}", 0.1)])
def test_the_regression_gate_can_be_switched(tmp_path: Path, written: str, alpha: float | None) -> None:
    gate = parse(tmp_path, f"{SHORTEST}gates: {{regression: {written}}}\n").config.gates.regression
    assert (gate.alpha if gate else None) == alpha


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    parsed = parse(
        tmp_path,
        "model: openai/m\nprompt: {}\nsamples:\n  - &first {text: a, label: x, note: n}\n  - {<<: *first, text: b}\n",
    )
    assert [(s.text, s.label, s.note) for s in read_samples(parsed).samples] == [("a", "x", "n"), ("b", "x", "n")]


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mood.prompt.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SHORTEST.replace("\n", "\r\n").encode())
    samples = read_samples(parse_prompt_file(path)).samples
    assert [(sample.text, sample.line) for sample in samples] == [("fine", 4), ("awful", 5)]


def test_the_hash_is_of_the_prompt_alone(tmp_path: Path) -> None:
    first = parse(tmp_path, SHORTEST).config.prompt.content_hash
    assert parse(tmp_path, f"# why\n{SHORTEST}name: other\n").config.prompt.content_hash == first
    assert parse(tmp_path, SHORTEST.replace("Classify.", "Sort.")).config.prompt.content_hash != first


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    parsed = parse(tmp_path, WHOLE)
    assert parsed.line("prompt", "label_words", "1") == 10
    assert parsed.line("canonical", 0, "note") == 21
    assert parsed.line("gates", "recall") == 22
    assert parsed.line("tune", "budget", "usd") == 25
    assert parsed.line("description") == 1


@pytest.mark.parametrize("extract", ["(?i)answer: (.+)", "(?P<label>x)", r"A: (\w+)|B: (\w+)", r"\[\[(.*?)\]\]"])
def test_any_pattern_with_a_group_will_do(tmp_path: Path, extract: str) -> None:
    assert parse(tmp_path, f"{SHORTEST}extract: '{extract}'\n").config.extract == extract
