"""GitHub's own ``.prompt.yml`` form, read as it is."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from prompt_files import DOCUMENTED, FEW_SHOT

from pytest_promptfit import load_prompt
from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.prompts.read import ParsedPrompt, parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples

if TYPE_CHECKING:
    from pathlib import Path

    from mood_project import Project


def parse(folder: Path, text: str) -> ParsedPrompt:
    path = folder / "mood.prompt.yml"
    path.write_text(text, encoding="utf-8")
    return parse_prompt_file(path)


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(PromptFileError) as caught:
        read_samples(parse(folder, text))
    return str(caught.value).replace(f"{folder}{os.sep}", "").split("\n")


class TestReading:
    def test_the_documented_form(self, tmp_path: Path) -> None:
        parsed = parse(tmp_path, DOCUMENTED)
        found = read_samples(parsed)
        assert parsed.name == "Text-Mood classifier"
        assert parsed.config.params == {"temperature": 0.5, "max_tokens": 50, "top_p": 0.9}
        assert [(sample.text[:13], sample.label, sample.line) for sample in found.samples] == [
            ("The quick bro", "positive", 18),
            ("No dog reacte", "negative", 22),
        ]
        assert found.labels == ("negative", "positive")

    def test_what_is_sent_is_what_github_sends(self, tmp_path: Path) -> None:
        classify = load_prompt(parse(tmp_path, DOCUMENTED).path)
        assert classify.payload("Hi {{input}}") == {
            "model": "gpt-4o-mini",
            "messages": [
                {"role": "system", "content": "You are a text classifier. Reply with positive or negative."},
                {"role": "user", "content": "Classify the given text:\n<text>\nHi {{input}}\n</text>\n"},
            ],
            "temperature": 0.5,
            "max_tokens": 50,
            "top_p": 0.9,
        }

    @pytest.mark.parametrize(
        ("written", "provider", "name", "base_url"),
        [
            ("gpt-4o-mini", "openai", "gpt-4o-mini", None),
            ("openai/gpt-4o", "openai", "gpt-4o", None),
            ("anthropic/claude-haiku-4-5", "anthropic", "claude-haiku-4-5", None),
            ("local/smollm2-135m", "local", "smollm2-135m", None),
            ("meta/llama-3", "openai", "meta/llama-3", "https://models.github.ai/inference"),
            ("{provider: gemini, name: m}", "gemini", "m", None),
        ],
    )
    def test_models(self, tmp_path: Path, written: str, provider: str, name: str, base_url: str | None) -> None:
        model = parse(tmp_path, DOCUMENTED.replace("openai/gpt-4o-mini", written)).config.model
        assert (model.provider, model.name, model.base_url) == (provider, name, base_url)
        assert (model.api_key_env == "GITHUB_TOKEN") is bool(base_url)

    @pytest.mark.parametrize(
        ("reply", "more"),
        [
            ("good", ""),
            ("So. <label>bad</label> no, <label>good</label>", ""),
            ("Mood: good", "extract: 'Mood: (.*)'"),
        ],
    )
    def test_messages_before_the_text_are_examples(self, tmp_path: Path, reply: str, more: str) -> None:
        parsed = parse(tmp_path, f"{FEW_SHOT.replace('REPLY', reply)}{more}\n")
        read_samples(parsed)
        prompt = parsed.config.prompt
        (example,) = parse(
            tmp_path, FEW_SHOT.replace('film"', 'film!"').replace("REPLY", "good")
        ).config.prompt.examples
        assert (example.text, example.label) == ("a good film", "good")
        assert (prompt.system_prompt, prompt.bot_reply_prefix) == ("One.\n\nTwo.", "Mood:")
        assert (prompt.user_prompt_prefix, prompt.user_prompt_suffix) == ("Text: ", "!")

    def test_keys_of_ours_stand_beside_them(self, tmp_path: Path) -> None:
        text = DOCUMENTED.replace("    expected: positive", "    expected: positive\n    id: fox\n    note: quick")
        more = "canonical: [{text: Bad., label: negative}]\ngates: {accuracy: 0.5}\nparams: {temperature: 0}\n"
        parsed = parse(tmp_path, text + more)
        samples = read_samples(parsed).samples
        assert [sample.case_name for sample in samples][1] == "sample-fox"
        assert (samples[0].canonical, samples[1].note) == (True, "quick")
        assert parsed.config.gates.accuracy == 0.5
        assert parsed.config.params["temperature"] == 0
        assert parsed.line("gates", "accuracy") == 33

    def test_samples_may_be_in_a_file_instead(self, tmp_path: Path) -> None:
        (tmp_path / "d.csv").write_text("text,label\na,x\n")
        text = DOCUMENTED[: DOCUMENTED.index("testData")]
        assert read_samples(parse(tmp_path, f"{text}samples: d.csv\n")).labels == ("x",)

    @pytest.mark.parametrize(
        ("more", "sent"),
        [
            ("responseFormat: text", None),
            ("responseFormat: json_object", {"type": "json_object"}),
            (
                'responseFormat: json_schema\njsonSchema: \'{"name": "n", "schema": {"type": "object"}}\'',
                {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
            ),
            (
                "responseFormat: json_schema\njsonSchema: {type: object}",
                {"type": "json_schema", "json_schema": {"name": "reply", "schema": {"type": "object"}}},
            ),
        ],
    )
    def test_the_format_of_the_reply_is_asked_for(self, tmp_path: Path, more: str, sent: Any) -> None:
        assert parse(tmp_path, f"{DOCUMENTED}{more}\n").config.params.get("response_format") == sent

    def test_it_runs(self, project: Project) -> None:
        model = json.dumps({"provider": "openai", "name": "m", "base_url": project.model.url})
        text = DOCUMENTED.replace("openai/gpt-4o-mini", model)
        project.path.joinpath("mood.prompt.yml").write_text(text)
        project.model.says = lambda asked: "Negative." if "No dog" in asked else "positive"
        project.record().assert_outcomes(passed=2, skipped=1)
        project.replay().assert_outcomes(passed=2, skipped=1)
        assert (project.path / "cassettes" / "Text-Mood classifier").is_dir()


# What people keep in such files, each in a shape that was met: two variables, and a persona that all rows share.
TWO_VARIABLES = """\
name: Ticket queue
model: gpt-4o-mini
version: 1.2.0
tags: [support]
messages:
  - role: system
    content: You are {{persona}}. Say which queue a ticket belongs to.
  - role: user
    content: |
      Product: {{product}}
      Ticket: {{ ticket }}
      Queue?
testData:
  - {product: phone, ticket: It does not ring., persona: a clerk, EXPECTED}
  - {product: tablet, ticket: Where is my money?, persona: a clerk, EXPECTED}
evaluators:
  - name: exact
    EVALUATOR
"""


def two_variables(expected: str, evaluator: str = "uses: github/similarity") -> str:
    text = TWO_VARIABLES.replace("EVALUATOR", evaluator)
    return text.replace("EXPECTED", f"{expected}: repair", 1).replace("EXPECTED", f"{expected}: billing", 1)


class TestShapesThatPeopleUse:
    @pytest.mark.parametrize(
        ("expected", "evaluator"),
        [
            *((name, "uses: github/similarity") for name in ("expected", "label", "expectedOutput", "expected_label")),
            ("queue", 'string: {equals: "{{queue}}"}'),
            ("queue", "string: {equals: '{{ queue }}'}"),
        ],
    )
    def test_variables_by_any_name(self, tmp_path: Path, expected: str, evaluator: str) -> None:
        parsed = parse(tmp_path, two_variables(expected, evaluator))
        assert [(sample.text, sample.label) for sample in read_samples(parsed).samples] == [
            ("phone\nTicket: It does not ring.", "repair"),
            ("tablet\nTicket: Where is my money?", "billing"),
        ]
        sent = load_prompt(parsed.path).payload("phone\nTicket: It does not ring.")
        assert sent["messages"] == [
            {"role": "system", "content": "You are a clerk. Say which queue a ticket belongs to."},
            {"role": "user", "content": "Product: phone\nTicket: It does not ring.\nQueue?\n"},
        ]

    @pytest.mark.parametrize("group", ["inputs", "input", "vars"])
    def test_variables_in_a_group_of_their_own(self, tmp_path: Path, group: str) -> None:
        data = f"testData: [{{{group}: {{text: 'No dog reacted.'}}, expected: negative}}]\n"
        text = f"{DOCUMENTED[: DOCUMENTED.index('testData')]}{data}".replace("{{input}}", "{{text}}")
        (sample,) = read_samples(parse(tmp_path, text)).samples
        assert (sample.text, sample.label, sample.line) == ("No dog reacted.", "negative", 17)

    def test_a_name_that_leads_into_a_mapping(self, tmp_path: Path) -> None:
        data = "testData: [{ticket: {subject: Late, body: Very}, expected: negative}]\n"
        text = f"{DOCUMENTED[: DOCUMENTED.index('testData')]}{data}"
        (sample,) = read_samples(
            parse(tmp_path, text.replace("{{input}}", "{{ticket.subject}}: {{ticket.body}}"))
        ).samples
        assert sample.text == "Late: Very"

    def test_a_label_that_only_the_evaluator_says(self, tmp_path: Path) -> None:
        text = DOCUMENTED.replace("    expected: positive\n", "").replace("    expected: negative\n", "")
        found = read_samples(parse(tmp_path, text.replace("'{{expected}}'", "positive")))
        assert [sample.label for sample in found.samples] == ["positive", "positive"]

    @pytest.mark.parametrize("key", ["required: true", "variables: [{name: input, required: true}]", "author: me"])
    def test_keys_of_other_tools_are_passed_over(self, tmp_path: Path, key: str) -> None:
        assert len(read_samples(parse(tmp_path, f"{DOCUMENTED}{key}\n")).samples) == 2

    @pytest.mark.parametrize(
        "data",
        ["", "testData:\n  - {name: Ann, age: 30}\n  - {name: Bo, age: 25}\n", "testData: []\n"],
        ids=["none", "nothing expected", "empty"],
    )
    def test_a_file_that_expects_nothing_is_skipped_beside_others(self, project: Project, data: str) -> None:
        project.write()
        head = "model: openai/gpt-4o\nmessages:\n  - {role: user, content: 'Tell of {{name}}, who is {{age}}.'}\n"
        project.path.joinpath("tell.prompt.yml").write_text(f"{head}{data}")
        result = project.record()
        assert result.ret == 0
        result.stdout.fnmatch_lines(["tell.prompt.yml:*: samples: none: expected *: skipped"])

    def test_a_persona_that_nothing_fills_in_is_skipped_too(self, project: Project) -> None:
        project.write()
        system, user = "{role: system, content: 'You are {{who}}.'}", "{role: user, content: '{{input}}'}"
        text = f"model: gpt-4o\nmessages:\n  - {system}\n  - {user}\n"
        project.path.joinpath("chat.prompt.yml").write_text(text)
        result = project.record()
        assert result.ret == 0
        result.stdout.fnmatch_lines(["chat.prompt.yml:3: messages: {{who}} has no value: *: skipped"])


class TestMistakes:
    @pytest.mark.parametrize(
        ("written", "instead", "line"),
        [
            ("{{input}}", "text", "8: messages: expected the text as a variable such as {{input}} in the last user *"),
            ("You are a", "You are {{input}}, a", "9: messages: {{input}} says another thing in each row: expected *"),
            ("You are a", "You are {{role-name}}, a", "9: messages: {{role-name}} has no value: `testData` has none"),
            ("{{input}}", "{{input}} {{more}}", "18: testData: expected `input`, `more` and `expected`"),
            ("role: system", "role: developer", "9: messages: 'developer': expected the role system, user, assistant"),
            ("  - role: system\n    content:", "  - content:", "9: messages: None: expected the role *"),
            ("content: You", "contents: You", "9: messages: expected `content` as text"),
            (
                "testData:",
                "  - {role: user, content: Now}\ntestData:",
                "11: messages: {{input}} says another thing in *",
            ),
            (
                "  - role: user",
                "  - {role: assistant, content: a}\n  - role: user",
                "8: messages: expected examples as pairs of a user and an assistant message",
            ),
            (
                "  - role: user",
                "  - {role: user, content: a}\n  - {role: assistant, content: a}\n  - role: user",
                "11: messages: expected the example in the same words as the last user message",
            ),
            ("model: openai/gpt-4o-mini\n", "", "1: model: missing: expected it here"),
            ("temperature: 0.5", "temperature: 1e999", "4: modelParameters: {*}: expected values that JSON can carry"),
            ("evaluators:", "evaluator:", "24: evaluator: unknown key; did you mean `evaluators`?"),
            ("    expected: negative\n", "", "22: testData: expected `input` and `expected`"),
            ("expected: negative", "expected: 1.0", "23: testData.1.expected: 1.0: expected a label: put it in quotes"),
            ("input: No dog reacted.", "input:", "22: testData.1.input: None: expected text (put it in quotes)"),
            ("input: No dog reacted.", "input: ' '", "22: text: empty: expected the text to classify"),
            ("evaluators:", "labels: [positive]\nevaluators:", "22: label: 'negative' is not one of `labels`; *"),
            ("evaluators:", "samples: d.csv\nevaluators:", "24: samples: expected either `testData` or `samples`"),
            ("evaluators:", "params: [a]\nevaluators:", "24: params: ['a']: expected a mapping"),
            ("evaluators:", "gates: {recall: {no: 1}}\nevaluators:", "24: gates.recall.no: 'no' is not one of *"),
            ("evaluators:", "responseFormat: json\nevaluators:", "24: responseFormat: expected text, json_object, *"),
            (
                "evaluators:",
                "responseFormat: json_schema\njsonSchema: '{'\nevaluators:",
                "25: jsonSchema: expected a JSON Schema, because responseFormat is json_schema",
            ),
        ],
    )
    def test_are_shown_at_their_line(self, tmp_path: Path, written: str, instead: str, line: str) -> None:
        assert DOCUMENTED.count(written) >= 1
        (found,) = mistakes(tmp_path, DOCUMENTED.replace(written, instead, 1))
        pytest.LineMatcher([found]).fnmatch_lines([f"mood.prompt.yml:{line}".replace("[", "[[]")])

    @pytest.mark.parametrize("messages", ["", "hi", "[hi]", "{role: user}"])
    def test_messages_that_are_no_list(self, tmp_path: Path, messages: str) -> None:
        assert mistakes(tmp_path, f"model: m\nmessages: {messages}\n") == [
            "mood.prompt.yml:2: messages: expected a list of messages with role and content"
        ]

    @pytest.mark.parametrize("data", ["3", "{input: a, expected: b}", "a"])
    def test_data_that_is_no_list(self, tmp_path: Path, data: str) -> None:
        text = f"{DOCUMENTED[: DOCUMENTED.index('testData')]}testData: {data}\n"
        assert mistakes(tmp_path, text) == ["mood.prompt.yml:17: testData: expected a list of `input` and `expected`"]

    def test_parameters_that_are_no_mapping(self, tmp_path: Path) -> None:
        text = "model: m\nmodelParameters: [a]\nmessages: [{role: user, content: '{{input}}'}]\n"
        assert mistakes(tmp_path, text) == ["mood.prompt.yml:2: modelParameters: expected a mapping"]

    def test_an_example_without_a_label(self, tmp_path: Path) -> None:
        text = FEW_SHOT.replace("REPLY", "It is fine")
        (line,) = mistakes(tmp_path, text)
        assert line.startswith("mood.prompt.yml:2: prompt.examples.0.label: 'It is fine' is not one of the labels")

    def test_no_data(self, tmp_path: Path) -> None:
        (line,) = mistakes(tmp_path, DOCUMENTED[: DOCUMENTED.index("testData")])
        assert "samples: none: expected" in line
