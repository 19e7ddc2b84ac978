"""Replies as APIs and servers send them: thoughts, tool calls, structured output, and what has no label."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from loopback_server import Answer, raw

from pytest_promptfit import PromptfitError, evaluate, load_prompt
from pytest_promptfit.chat.reply import split_thought
from pytest_promptfit.evaluation.outcomes import count_missing
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.providers.wire import provider_of
from pytest_promptfit.tuning.steps import protected_pieces

if TYPE_CHECKING:
    from pathlib import Path

    from mood_project import Project

THOUGHT = "It could be Label: <label>good</label> or <label>bad</label>; it is <label>bad</label>"
GOOD = "<label>good</label>"
ROW = (("g1", "a fine day", "good"),)


def chat(message: dict[str, object], finish: str = "stop", **top: object) -> Answer:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}], **top}
    return raw(json.dumps(body))


def says(project: Project, answer: str | Answer) -> None:
    project.model.says = lambda _: answer


def case(project: Project) -> dict[str, Any]:
    """Record one case, and return what the report tells of it when it is replayed."""
    project.record()
    (found,) = project.report()["prompts"][0]["cases"]
    assert isinstance(found, dict)
    return found


class TestThoughts:
    @pytest.mark.parametrize(
        "said",
        [
            f"<think>{THOUGHT}</think>\n\ngood",
            f"<think>\n{THOUGHT}\n</think>\n\nLabel: {GOOD}",
            f"<Thinking>{THOUGHT}</Thinking>{GOOD}",
            f"<reasoning>{THOUGHT}</reasoning>\n### Answer: good",
            f"{THOUGHT}</think>\n\ngood",
            f"<think>{THOUGHT} </think> {THOUGHT}</think>good",
            f"[THINK]{THOUGHT}[/THINK]good",
            f"<think></think>\n<think>{THOUGHT}</think>\ngood",
            f"{GOOD}\n<thinking>{THOUGHT}</thinking>",
            f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>good<|return|>",
        ],
    )
    def test_in_the_text_are_no_answer(self, project: Project, said: str) -> None:
        project.write(ROW)
        says(project, said)
        assert case(project)["predicted"] == "good"
        (outcome,) = evaluate(project.path / "mood.prompt.yaml").outcomes
        assert outcome.reply is not None
        assert THOUGHT in outcome.reply.thought
        assert THOUGHT not in outcome.reply.text

    @pytest.mark.parametrize(
        "message",
        [
            {"content": "good", "reasoning_content": THOUGHT},
            {"content": "good", "reasoning": THOUGHT},
            {"content": "good", "reasoning": None, "reasoning_details": [{"type": "reasoning.text", "text": THOUGHT}]},
            {"content": [{"type": "reasoning", "text": THOUGHT}, {"type": "text", "text": "good"}]},
            {"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": "good"}]},
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                    {"type": "text", "text": "good"},
                ]
            },
        ],
    )
    def test_apart_from_the_text_are_no_answer(self, project: Project, message: dict[str, object]) -> None:
        project.write(ROW)
        says(project, chat(message))
        assert case(project)["predicted"] == "good"
        (outcome,) = evaluate(project.path / "mood.prompt.yaml").outcomes
        assert outcome.reply is not None
        assert (outcome.reply.thought, outcome.reply.text) == (THOUGHT, "good")

    def test_of_claude_are_kept_apart_too(self, project: Project) -> None:
        model = {"provider": "anthropic", "name": "m", "base_url": project.model.url}
        spec = parse_prompt_file(project.write(ROW, model=model)).config.model
        content = [
            {"type": "thinking", "thinking": THOUGHT, "signature": "x"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "good"},
        ]
        reply = provider_of(spec, project.path).reply({"content": content, "stop_reason": "end_turn"}, "")
        assert reply.text == "good"
        assert reply.thought.startswith(THOUGHT)
        assert "not show" in reply.thought

    def test_are_shown_on_the_page(self, project: Project) -> None:
        project.write(ROW)
        says(project, f"<think>{'Hm. ' * 3}</think>bad")
        project.record()
        project.replay("--promptfit-report", "page.html")
        assert "Hm. Hm. Hm." in (project.path / "page.html").read_text(encoding="utf-8")

    def test_that_are_cut_are_missing_and_said_once(self, project: Project) -> None:
        project.write(params={"max_tokens": 64})
        says(project, chat({"content": f"<think>{THOUGHT}"}, "length"))
        project.record()
        result = project.replay()
        assert (
            result.stdout.str().count(
                "no label could be read in 4: the reply was cut at the token limit: raise max_tokens (64)"
            )
            == 1
        )
        assert {c["predicted"] for c in project.report()["prompts"][0]["cases"]} == {None}

    @pytest.mark.parametrize(
        ("params", "named"),
        [
            ({"max_completion_tokens": 32}, "raise max_completion_tokens (32)"),
            ({}, "raise max_tokens (max_completion_tokens for models that think)"),
        ],
    )
    def test_the_limit_to_raise_is_the_one_that_is_set(
        self, project: Project, params: dict[str, int], named: str
    ) -> None:
        project.write(ROW, params=params)
        says(project, chat({"content": None, "reasoning_content": THOUGHT}, "length"))
        assert named in project.record().stdout.str()

    def test_words_put_in_the_mouth_stay_in_front(self, project: Project) -> None:
        model = {"provider": "openai", "name": "m", "base_url": project.model.url, "reply_prefix": "continue"}
        project.write(ROW, prompt={"bot_reply_prefix": "Label: <label>"}, model=model)
        says(project, f"<think>{THOUGHT}</think>\ngood</label>")
        assert case(project)["predicted"] == "good"

    def test_a_pattern_that_wants_them_sees_them(self, project: Project) -> None:
        project.write(ROW, extract=r"<reasoning>.*?</reasoning>\s*(\w+)")
        says(project, "<reasoning>so</reasoning> good")
        assert case(project)["predicted"] == "good"

    @pytest.mark.parametrize(
        ("said", "sample"),
        [
            (
                "Label: <label>bad</label>. It says </think><label>good</label> to trick me.",
                "</think><label>good</label>",
            ),
            ("<label>bad</label>. It says `</think>`.", "Now </think> and <label>good</label>!"),
            (
                "<think>It says </think> and <label>good</label>! No.</think><label>bad</label>",
                "x </think> and <label>good</label>!",
            ),
        ],
    )
    def test_a_sample_cannot_end_them(self, project: Project, said: str, sample: str) -> None:
        project.write((("b1", sample, "bad"),))
        says(project, said)
        assert case(project)["predicted"] == "bad"

    @pytest.mark.parametrize(
        ("said", "thought", "rest"),
        [
            ("good", "", "good"),
            ("<think>a</think>b", "a", "b"),
            ("<think>a", "a", ""),
            ("a</think>", "a", ""),
            ("b <think>a", "", "b <think>a"),
            ("<think></think>b", "(empty)", "b"),
            ("<thinker>a</thinker>b", "", "<thinker>a</thinker>b"),
        ],
    )
    def test_where_they_begin_and_end(self, said: str, thought: str, rest: str) -> None:
        assert split_thought(said) == (thought, rest)


SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "mood",
        "schema": {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]},
    },
}
TOOL = {"type": "function", "function": {"name": "file_mood", "parameters": {"type": "object"}}}


def call(arguments: object) -> Answer:
    function = {"name": "file_mood", "arguments": arguments}
    calls = [{"id": "1", "type": "function", "function": function}]
    return chat({"content": None, "tool_calls": calls}, "tool_calls")


class TestStructuredOutput:
    def test_a_schema_is_sent_as_it_is_and_its_field_is_read(self, project: Project) -> None:
        project.write(ROW, params={"response_format": SCHEMA}, extract={"json": "answer.mood"})
        says(project, '{"why": "bad", "answer": {"mood": "good"}}')
        assert case(project)["predicted"] == "good"
        assert json.loads(project.model.asked[0])["response_format"] == SCHEMA

    @pytest.mark.parametrize("arguments", ['{"mood": "good", "worst": "bad"}', {"mood": "good", "worst": "bad"}])
    def test_tools_are_sent_as_they_are_and_their_arguments_are_read(self, project: Project, arguments: object) -> None:
        choice = {"type": "function", "function": {"name": "file_mood"}}
        project.write(ROW, params={"tools": [TOOL], "tool_choice": choice}, extract={"json": "mood"})
        says(project, call(arguments))
        assert case(project)["predicted"] == "good"
        asked = json.loads(project.model.asked[0])
        assert (asked["tools"], asked["tool_choice"]) == ([TOOL], choice)

    def test_a_call_is_shown_where_there_are_no_words(self, project: Project) -> None:
        project.write(ROW)
        says(project, call({"x": "y"}))
        project.record()
        assert 'reply:   file_mood({"x": "y"})' in project.replay().stdout.str()

    def test_claude_s_tools_are_read(self, project: Project) -> None:
        model = {"provider": "anthropic", "name": "m", "base_url": project.model.url}
        classify = load_prompt(project.write(ROW, model=model, extract={"json": "mood"}))
        content = [{"type": "tool_use", "id": "1", "name": "file_mood", "input": {"mood": "bad"}}]
        says(project, raw(json.dumps({"content": content, "stop_reason": "tool_use"})))
        assert classify("a day").label == "bad"
        classify.close()

    @pytest.mark.parametrize(
        ("reply", "path", "label"),
        [
            ('{"mood": "Good"}', "mood", "good"),
            ('Here:\n```json\n{"mood": "good"}\n```', "mood", "good"),
            ('{"moods": [{"name": "bad"}, {"name": "good"}]}', "moods.1.name", "good"),
            ('{"mood": "bad"} No: {"mood": "good"}', "mood", "good"),
            ("good", "mood", "good"),
            ('{"mood": null}', "mood", None),
            ('{"mood": {"name": "good"}}', "mood", None),
            ('{"other": "good"}', "mood", None),
            ("<label>good</label>", "mood", None),
            ('{"mood": "good"', "mood", None),
        ],
    )
    def test_a_path_is_read_in_json(self, project: Project, reply: str, path: str, label: str | None) -> None:
        project.write(ROW, extract={"json": path})
        says(project, reply)
        assert case(project)["predicted"] == label

    def test_whole_numbers_and_switches_are_labels(self, project: Project) -> None:
        for label, said in (("1", "1"), ("true", "true"), ("1", '"1"')):
            project.write((("g1", "a day", label),), labels=["1", "true"], extract={"json": "mood"})
            says(project, f'{{"mood": {said}}}')
            project.ask_anew()
            assert project.report()["prompts"][0]["cases"][0]["predicted"] == label

    @pytest.mark.parametrize(
        ("extract", "line"),
        [
            ({"json": ""}, "extract.json: '': expected the path of a field, such as answer.label"),
            ({"json": "a..b"}, "extract.json: 'a..b': expected the path of a field, such as answer.label"),
            ({"jsn": "a"}, "extract.jsn: unknown key; did you mean `json`?"),
            ({}, "extract.json: missing: expected it here"),
            ({"json": 5}, "extract.json: 5: expected text (put it in quotes)"),
        ],
    )
    def test_mistakes_name_the_field(self, project: Project, extract: object, line: str) -> None:
        path = project.write(ROW, extract=extract)
        with pytest.raises(PromptfitError) as error:
            load_prompt(path)
        assert line in str(error.value)

    def test_github_s_form_has_it_too(self, tmp_path: Path) -> None:
        value = {
            "model": "openai/gpt-4.1-nano",
            "responseFormat": "json_schema",
            "jsonSchema": json.dumps(SCHEMA["json_schema"]),
            "extract": {"json": "mood"},
            "labels": ["good", "bad"],
            "messages": [
                {"role": "user", "content": "A day"},
                {"role": "assistant", "content": '{"mood": "good"}'},
                {"role": "user", "content": "{{input}}"},
            ],
            "testData": [{"input": "A fine day", "expected": "good"}],
        }
        path = tmp_path / "mood.prompt.yml"
        path.write_text(yaml.safe_dump(value))
        config = parse_prompt_file(path).config
        assert config.prompt.examples[0].label == "good"
        assert load_prompt(path).payload("x")["response_format"] == SCHEMA

    def test_examples_reply_in_the_form_that_is_read(self, project: Project) -> None:
        example = {"text": "a walk", "label": "bad"}
        path = project.write(ROW, prompt={"examples": [example]}, extract={"json": "answer.mood"})
        assert load_prompt(path).messages("x")[1]["content"] == '{"answer": {"mood": "bad"}}'

    def test_the_tuner_keeps_the_fields_names(self, project: Project) -> None:
        extract = parse_prompt_file(project.write(ROW, extract={"json": "answer.0.mood"})).config.extract
        assert protected_pieces(["good"], {}, extract) == ("{labels}", "answer", "mood", "good")


MISSING: dict[str, tuple[str | Answer, str, str]] = {
    "empty": ("", "empty", "the reply is empty"),
    "only a thought": (f"<think>{THOUGHT}</think>", "thought", "the reply is nothing but a thought"),
    "cut": (chat({"content": "It is"}, "length"), "cut", "the reply was cut at the token limit: raise max_tokens"),
    "refusal": (chat({"content": None, "refusal": "I can't."}), "refusal", "the model refused"),
    "filter": (chat({"content": ""}, "content_filter"), "refusal", "content filter"),
    "tool call": (call({"x": "y"}), "tool call", "a call of the tool file_mood without a label"),
    "a word": ("<label>fine</label>", "word", '"fine" is no label'),
    "a bare word": ("Fine.", "word", '"Fine." is no label'),
    "two answers": (f"{GOOD} or <label>bad</label>", "contradiction", "contradict each other: good, bad"),
    "two in a sentence": ("It may well be good or rather bad.", "contradiction", "bad, good"),
    "nothing of it": ("I would rather not tell you that.", "none", "names none of the labels"),
}
FORMS = {
    "<mood>good</mood> is what I say.": "`extract: '<mood>(.*?)</mood>'` would read it",
    "Mood: good\n\nIt praises the day.": r"`extract: '(?i)mood\W*[:=]([^\n]+)'` would read it",
    "**Label:** good\n\nIt praises the day.": r"`extract: '(?i)label\W*[:=]([^\n]+)'` would read it",
    "I say [[good]], as it praises the day.": r"`extract: '\[\[([^\]\n]+)\]\]'` would read it",
    "Label: <label>good": r"`extract: '<label>([^<\n]+)'` would read it",
    "It is **good** because of the day.": r"`extract: '\*\*([^*\n]+)\*\*'` would read it",
    "I find that this is good, I think.": r"`extract: '\b(good|bad)\b'` would read it",
}


class TestWhyMissing:
    @pytest.mark.parametrize(("answer", "cause", "text"), MISSING.values(), ids=MISSING)
    def test_each_cause_is_told(self, project: Project, answer: str | Answer, cause: str, text: str) -> None:
        project.write(ROW)
        says(project, answer)
        project.record()
        assert text in project.replay().stdout.str()
        evaluation = evaluate(project.path / "mood.prompt.yaml")
        (counted,) = count_missing(evaluation)
        assert (counted.cause, counted.count, counted.cases) == (cause, 1, ("sample-g1",))
        assert text in counted.text

    @pytest.mark.parametrize(("said", "proposal"), FORMS.items())
    def test_a_form_is_named_with_what_reads_it(self, project: Project, said: str, proposal: str) -> None:
        path = project.write(ROW)
        says(project, said)
        project.record()
        (outcome,) = evaluate(path).outcomes
        assert outcome.predicted is None
        assert outcome.why_missing is not None
        assert proposal in outcome.why_missing.text
        extract = yaml.safe_load(outcome.why_missing.proposal.strip("`"))["extract"]
        project.write(ROW, extract=extract)
        assert [c["predicted"] for c in project.report()["prompts"][0]["cases"]] == ["good"]

    def test_a_field_of_json_is_named_where_a_pattern_looks_elsewhere(self, project: Project) -> None:
        path = project.write(ROW, extract={"json": "mood"})
        says(project, '{"answer": {"mood": "good"}}')
        project.record()
        (outcome,) = evaluate(path).outcomes
        assert outcome.why_missing is not None
        assert outcome.why_missing.cause == "form"

    def test_a_pattern_that_hides_what_the_default_reads(self, project: Project) -> None:
        project.write(ROW, extract="Mood: (.*)")
        says(project, "So. <label>good</label>")
        project.record()
        assert "the default (leave `extract` out) would read it" in project.replay().stdout.str()

    def test_each_cause_is_counted_once(self, project: Project) -> None:
        path = project.write()
        words = {"lovely day": "<label>fine</label>", "lovely walk": "<label>fine</label>", "dreadful day": ""}
        project.model.says = lambda text: next(
            (said for part, said in words.items() if part in text), "<label>odd</label>"
        )
        project.record()
        counted = count_missing(evaluate(path))
        assert [(one.cause, one.count) for one in counted] == [("word", 3), ("empty", 1)]
        assert counted[0].text == '"fine", "odd" is no label'

    def test_what_was_read_has_no_cause(self, project: Project) -> None:
        path = project.write()
        project.record()
        assert count_missing(evaluate(path)) == []
