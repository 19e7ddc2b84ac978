"""Decision models: ``openai-decisions/…`` and ``systemone/…`` choose a label, and write nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
from command_line import promptfit
from decision_server import choice, deciding, refusal, system_one
from loopback_server import AT_ONCE, Answer, LoopbackServer, error, json_answer
from mood_project import MOODS, PROMPT
from provider_calls import provider, send
from pydantic import TypeAdapter

from pytest_promptfit import CallError, PromptfitError, evaluate, load_prompt
from pytest_promptfit.chat.request import ChatRequest, Turn
from pytest_promptfit.prompts.model import ModelSpec
from pytest_promptfit.providers.local import find_gguf, serve
from pytest_promptfit.providers.usage import cost_usd

if TYPE_CHECKING:
    from mood_project import Project

TICKET = ChatRequest(
    model="gpt-6-luna",
    system="Which team should handle this message?",
    turns=(Turn("user", "Help! My payouts have been failing for 3 days."),),
    choices={"billing": "Payments, invoicing, refunds", "technical": "Bugs, outages", "other": ""},
)
OPENAI_EXAMPLE = (
    '{"model":"gpt-6-luna","input":"Help! My payouts have been failing for 3 days.","questions":[{"type":"choice",'
    '"name":"label","instructions":"Which team should handle this message?","choices":[{"value":"billing",'
    '"description":"Payments, invoicing, refunds"},{"value":"technical","description":"Bugs, outages"},'
    '{"value":"other"}]}]}'
)
SYSTEM_ONE_EXAMPLE = (
    '{"state":"Help! My payouts have been failing for 3 days.","model":"gpt-6-luna","questions":{"label":{'
    '"type":"choice","instructions":"Which team should handle this message?","criteria":{'
    '"billing":"Payments, invoicing, refunds","other":null,"technical":"Bugs, outages"}}}}'
)
EITHER = pytest.mark.parametrize("api", ["openai-decisions", "systemone"])
NOTED = {**PROMPT, "label_notes": {"good": "someone is glad"}}


def write(project: Project, api: str, *arguments: Any, **fields: Any) -> Path:
    """Write a prompt whose model is a decision model, which answers by keyword."""
    project.model.server._answer = deciding()
    return project.write(
        *arguments, **{"model": {"provider": api, "name": "m", "base_url": project.model.url}, **fields}
    )


# The wire


@pytest.mark.parametrize(
    ("model", "base_url", "url"),
    [
        ("openai-decisions/m", None, "https://api.openai.com/v1/decisions"),
        ("openai-decisions/m", "https://eu.api.openai.com/v1", "https://eu.api.openai.com/v1/decisions"),
        ("systemone/m", None, "https://api.typesafe.ai/v1/systemone"),
        ("systemone/m", "http://localhost:8080", "http://localhost:8080/v1/systemone"),
        ("systemone/m", "http://localhost:8080/v1/", "http://localhost:8080/v1/systemone"),
        ("systemone/m", "https://openrouter.ai/api/v1?a=b", "https://openrouter.ai/api/v1/systemone?a=b"),
    ],
)
def test_recorded_url(model: str, base_url: str | None, url: str) -> None:
    assert provider(model, base_url=base_url).url == url


@pytest.mark.parametrize(
    ("api", "example"), [("openai-decisions", OPENAI_EXAMPLE), ("systemone", SYSTEM_ONE_EXAMPLE)], ids=["openai", "one"]
)
def test_the_bytes_of_a_request(api: str, example: str) -> None:
    with LoopbackServer(choice("billing", {})) as server:
        asked = provider(f"{api}/gpt-6-luna", base_url=server.url)
        send(asked, asked.payload(TICKET))
    assert server.seen[0].content.decode() == example


def test_a_request_is_type_safe_s_documented_example_but_for_the_name_of_its_question() -> None:
    example: dict[str, Any] = {
        "state": "Help! My payouts have been failing for 3 days.",
        "model": "jev-latest",
        "questions": {
            "department": {
                "type": "choice",
                "instructions": "Which team should handle this?",
                "criteria": {
                    "billing": "Payments, invoicing, refunds",
                    "technical": "Bugs, outages, integrations",
                    "sales": "Pricing, upgrades, new accounts",
                },
            }
        },
    }
    (question,) = example["questions"].values()
    asked = ChatRequest(
        example["model"], question["instructions"], (Turn("user", example["state"]),), choices=question["criteria"]
    )
    assert provider("systemone/jev-latest").payload(asked) == {**example, "questions": {"label": question}}


def test_a_request_is_what_the_sdk_s_own_call_sends() -> None:
    """Also held against the types of its parameters, with nothing in it that they do not know."""
    params = pytest.importorskip("openai.types.decision_create_params", reason="this SDK is older than the API")
    with LoopbackServer(choice("billing", {"billing": 1.0})) as server:
        asked = provider("openai-decisions/gpt-6-luna", base_url=server.url)
        payload = asked.payload(TICKET)
        send(asked, payload)
        client = openai.OpenAI(base_url=server.url, api_key="k", http_client=httpx2.Client(trust_env=False))
        decision = client.decisions.create(**payload)
    ours, theirs = server.seen
    assert (ours.method, ours.path, ours.body) == (theirs.method, theirs.path, theirs.body)
    assert ours.path == "/decisions"
    TypeAdapter(params.DecisionCreateParams).validate_python(payload, extra="forbid")
    assert decision.answers[0].choice == "billing"


@pytest.mark.parametrize("answer", [choice("billing", {"billing": 0.75, "technical": 0.25, "other": 0}), refusal()])
def test_a_reply_is_read_as_the_sdk_reads_it(answer: Answer) -> None:
    sdk = pytest.importorskip("openai.types.decision", reason="this SDK is older than the API")
    decision = sdk.Decision.model_validate_json(answer.body, strict=True)
    (theirs,) = decision.answers
    ours = provider("openai-decisions/m").reply(json.loads(answer.body), "")
    if theirs.type == "choice":
        assert ours.text == theirs.choice
        assert ours.probabilities == {told.value: told.probability for told in theirs.probabilities}
        assert ours.stop_reason == "stop"
    else:
        assert (ours.text, ours.stop_reason) == ("", "content_filter")
    assert (ours.input_tokens, ours.output_tokens) == (decision.usage.input_tokens, decision.usage.output_tokens)


def test_a_reply_of_system_one() -> None:
    reply = provider("systemone/m").reply(json.loads(system_one("b", {"a": 0.12, "b": 0.88}).body), "")
    assert (reply.text, reply.probabilities) == ("b", {"a": 0.12, "b": 0.88})
    assert (reply.input_tokens, reply.output_tokens) == (100, 12)


@pytest.mark.parametrize(
    ("api", "variable"), [("openai-decisions", "OPENAI_API_KEY"), ("systemone", "TYPESAFE_API_KEY")]
)
def test_the_key_goes_to_its_own_server_alone(api: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CallError, match=f"no API key: set {variable}"):
        provider(f"{api}/m").check()
    monkeypatch.setenv(variable, "sk-secret")
    provider(f"{api}/m").check()
    with LoopbackServer(choice("billing", {})) as server:
        for named in (None, variable):
            asked = provider(f"{api}/m", base_url=server.url, api_key_env=named)
            send(asked, asked.payload(TICKET))
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer no-key-needed", "Bearer sk-secret"]


def test_prices_are_those_of_decisions() -> None:
    """Input alone is paid for: 0.10 USD a million at OpenAI, 0.042 at TypeSafe, as both say."""
    assert cost_usd(ModelSpec.model_validate("openai-decisions/gpt-6-luna"), 100_000, 1000) == pytest.approx(0.01)
    assert cost_usd(ModelSpec.model_validate("systemone/jev-latest"), 100_000, 1000) == pytest.approx(0.0042)


# What is no answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (choice("good", {"good": 1.7}), "the reply cannot be right: the probability of 'good' is 1.7, expected 0 to 1"),
        (system_one("good", {"good": -0.2}), "the probability of 'good' is -0.2, expected 0 to 1"),
        (system_one("good", {"good": None}), "the probability of 'good' is None, expected 0 to 1"),
        (choice("good", {"good": True}), "the probability of 'good' is True, expected 0 to 1"),
        (Answer(200, b'{"answers": [{"choice": "a", "probabilities": {"a": NaN}}]}'), "probability of 'a' is nan"),
        (
            json_answer({"answers": [{"type": "predicate", "probability": 0.3}]}),
            "the reply holds no choice, but {'type",
        ),
        (json_answer({"answers": [{"type": "choice", "choice": True}]}), "the reply holds no choice, but {'type"),
        (json_answer({"answers": {}}), "the reply is not in the form this API has; is base_url right?"),
        (json_answer({"answers": "good"}), "the reply is not in the form this API has; is base_url right?"),
        (json_answer({"choices": [{"message": {"content": "good"}}]}), "is not in the form this API has"),
        (json_answer({"detail": {"error_type": "api_usage_error", "message": "Unknown model: nope"}}), "Unknown model"),
    ],
)
@EITHER
def test_what_is_no_answer_is_one_line(api: str, answer: Answer, said: str) -> None:
    with pytest.raises(CallError) as caught:
        provider(f"{api}/m").reply(json.loads(answer.body), "")
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{api}/m: the reply ")
    assert str(caught.value).isprintable()


def test_a_probability_may_be_rounded_beyond_its_end() -> None:
    reply = provider("systemone/m").reply(json.loads(system_one("a", {"a": 1.0000001, "b": -1e-8}).body), "")
    assert reply.probabilities == {"a": 1.0, "b": 0.0}


def test_a_server_that_cannot_decide_is_asked_once() -> None:
    no = error(501, "This model is not a decision model", "not_supported_error", **AT_ONCE)
    with LoopbackServer(no) as server:
        asked = provider("systemone/m", base_url=server.url)
        with pytest.raises(CallError) as caught:
            send(asked, asked.payload(TICKET), max_retries=3)
    assert str(caught.value) == (
        f"systemone/m: {server.url}/v1/systemone does not do this (501): This model is not a decision model; "
        "ask it for a model that can, or set base_url"
    )
    assert caught.value.fatal
    assert len(server.seen) == 1


def test_llama_cpp_s_own_server_says_that_a_chat_model_cannot_decide() -> None:
    """As far as a test can go: no package has the weights of a decision model."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    try:
        address = serve(find_gguf("smollm2-135m", Path()))
    except CallError as missing:
        pytest.skip(str(missing))
    asked = provider("systemone/smollm2-135m", base_url=address)
    with pytest.raises(CallError, match=r"/v1/systemone does not do this \(501\): This model is not a decision model;"):
        send(asked, asked.payload(TICKET), max_retries=2)


# The prompt file


@EITHER
def test_recorded_replayed_gated_and_shown_like_any_other(project: Project, api: str) -> None:
    write(project, api, prompt=NOTED, labels=["bad", "good"], gates={"accuracy": 1.0}, extract="<own>(.*?)</own>")
    assert project.record("--promptfit-update").ret == 0
    assert len(project.model.asked) == len(MOODS)
    (entry,) = project.report()["prompts"]
    assert (entry["labeled"]["correct"], entry["labeled"]["missing"]) == (4, 0)
    assert entry["usage"]["replayed"] == 4
    assert entry["usage"]["input_tokens"] == 400
    lines = promptfit("show", "mood.prompt.yaml", cwd=project.path).out.splitlines()
    assert lines[3:-3] == [
        "[instructions]",
        "  Is the mood good or bad?",
        "",
        "[choices]",
        "  - bad",
        "  - good: someone is glad",
        "",
        "[input]",
        "  <text>a lovely day</text>",
        "",
        "[recorded reply] read as good, 80.0 % sure",
        "  good",
    ]
    path = write(project, api, labels=["bad", "good"], prompt={**NOTED, "label_notes": {"good": "glad"}})
    project.replay("-k", "s1").stdout.fnmatch_lines(["*1 of 1 not recorded: the choices changed*"])
    assert promptfit("show", path, "--json", cwd=project.path).out.count("glad") == 1


@EITHER
def test_how_sure_it_is_comes_unasked(project: Project, api: str) -> None:
    path = write(project, api, decision={"abstain_below": 0.85}, prompt={**PROMPT, "label_words": {"good": "glad"}})
    forms = {"openai-decisions": choice, "systemone": system_one}
    answers = {"lovely": {"glad": 0.9, "bad": 0.1}, "dull": {"glad": 0.38, "bad": 0.4}, "odd": {}}

    def answer(seen: Any) -> Answer:
        told = next(told for word, told in answers.items() if word in json.dumps(seen.body))
        return forms[api](max(told, key=lambda word: told[word], default="bad"), told)

    project.model.server._answer = answer
    with load_prompt(path) as classify:
        sure, unsure, untold = classify.batch(["lovely", "dull", "odd"])
    assert (sure.label, sure.probabilities) == ("good", pytest.approx({"good": 0.9, "bad": 0.1}))
    assert sure.confidence == pytest.approx(0.9)
    assert (unsure.label, unsure.abstained) == (None, True)
    assert unsure.probabilities == pytest.approx({"good": 0.38 / 0.78, "bad": 0.4 / 0.78})
    assert (untold.label, untold.probabilities) == ("bad", {})
    assert [set(seen.body) & {"logprobs", "top_logprobs"} for seen in project.model.server.seen] == [set()] * 3


def test_labels_words_and_their_order_are_what_is_chosen_from(project: Project) -> None:
    path = write(
        project,
        "openai-decisions",
        (("1", "a lovely day", "1"), ("0", "a dull day", "0")),
        labels=["0", "1"],
        prompt={
            "system_prompt": "Is it one of {labels}?",
            "label_words": {"0": "bad", "1": "good"},
            "label_notes": {"1": "glad"},
            "label_order": ["1"],
        },
    )
    payload = load_prompt(path).payload("a day")
    assert payload["questions"][0]["instructions"] == "Is it one of good, bad?"
    assert payload["questions"][0]["choices"] == [{"value": "good", "description": "glad"}, {"value": "bad"}]
    assert evaluate(path, record="missing", cassettes=project.path / "c").accuracy == 1.0


def test_refusals_and_choices_that_are_none_are_missing_labels(project: Project) -> None:
    write(project, "openai-decisions", cases="gated", gates={"missing": 0.1})
    answers = {"s1": refusal(), "s2": choice("glad", {"glad": 1.0}), "s3": choice("bad", {}), "s4": choice("bad", {})}
    ids = {f"<text>{text}</text>": name for name, text, _ in MOODS}
    project.model.server._answer = lambda seen: answers[ids[seen.body["input"]]]
    result = project.record()
    result.stdout.fnmatch_lines(["*the model refused*", '*"glad" is no label*'], consecutive=False)
    assert result.ret == 1
    assert project.report()["prompts"][0]["labeled"]["missing"] == 2


def test_what_a_decision_model_is_not_given_is_said_once(project: Project) -> None:
    examples = [{"text": "so nice", "label": "good"}]
    write(
        project,
        "systemone",
        prompt={**PROMPT, "examples": examples, "bot_reply_prefix": "Label: ", "label_order": ["bad"]},
    )
    result = project.record()
    said = "systemone/m is a decision model: not sent to it: examples, bot_reply_prefix, label_order"
    assert [line.strip() for line in result.outlines if said in line] == [f"note: {said}"]
    assert said in promptfit("show", "mood.prompt.yaml", cwd=project.path).out
    assert "so nice" not in project.model.asked[0]


@pytest.mark.parametrize(
    ("fields", "line", "said"),
    [
        ({"labels": ["good"]}, 9, "labels: 1 label: expected 2 to 255, which openai-decisions/m can choose from"),
        (
            {"labels": [f"l{n}" for n in range(254)] + ["good", "bad"]},
            9,
            "labels: 256 labels: expected 2 to 255, which",
        ),
        (
            {"prompt": {"user_prompt_prefix": "Good or bad? "}},
            5,
            "prompt.system_prompt: expected the instruction, which openai-decisions/m is asked with",
        ),
        ({"params": {"input": "x"}}, None, "params: {'input': 'x'}: expected no `input`: it is made from the prompt"),
        (
            {"tune": {"model": "systemone/jev-latest"}},
            None,
            "tune.model: 'systemone/jev-latest': expected a model that writes texts: a decision model only chooses",
        ),
    ],
)
def test_what_it_cannot_be_asked_is_one_line(
    project: Project, fields: dict[str, Any], line: int | None, said: str
) -> None:
    path = write(project, "openai-decisions", MOODS[:2], **fields)
    with pytest.raises(PromptfitError) as caught:
        evaluate(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert line is None or str(caught.value).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize("count", [2, 255])
def test_as_many_labels_as_the_apis_take(project: Project, count: int) -> None:
    labels = ["good", "bad", *(f"l{n}" for n in range(count - 2))]
    path = write(project, "openai-decisions", MOODS[:1], labels=labels)
    payload = load_prompt(path).payload("x")
    assert [one["value"] for one in payload["questions"][0]["choices"]] == labels
    assert evaluate(path, record="missing", cassettes=project.path / "c").accuracy == 1.0


def test_one_file_under_a_chat_model_and_a_decision_model(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters of the one are not sent to the other, which would refuse them."""
    monkeypatch.setenv("TYPESAFE_API_KEY", "sk-1")
    path = project.write(params={"temperature": 0})
    ran = promptfit("compare", path, "--model", "systemone/jev-latest", cwd=project.path)
    assert "systemone/jev-latest" in ran.out + ran.err
    assert evaluate(path, model="systemone/jev-latest").usage.calls == 0
    project.record("--promptfit-update")
    ran = promptfit("migrate", path, "--to", "systemone/jev-latest", "--dry-run", cwd=project.path)
    assert "parameters: {} (a decision model takes hardly any)" in ran.out
    short = project.write(MOODS, at="short.prompt.yaml", prompt={"user_prompt_prefix": "Good or bad? "})
    ran = promptfit("compare", short, "--model", "systemone/jev-latest", cwd=project.path)
    assert ran.mistake.endswith("expected the instruction, which systemone/jev-latest is asked with")


def test_in_production_a_decision_model_takes_no_messages(project: Project) -> None:
    with load_prompt(write(project, "systemone")) as classify:
        prediction = classify("a lovely day")
        assert (prediction.label, prediction.model) == ("good", "jev-1.14.0")
        with pytest.raises(PromptfitError, match="a decision model takes no messages: use payload"):
            classify.messages("a lovely day")


@EITHER
def test_a_client_of_one_s_own(project: Project, api: str) -> None:
    """A function that says a word, and an SDK client that posts to the API's path."""
    path = write(project, api)
    with load_prompt(path, client=lambda _: lambda body: "good" if "lovely" in str(body) else "bad") as classify:
        assert classify("a lovely day").label == "good"
    client = openai.AsyncOpenAI(base_url=project.model.url, api_key="k")
    try:
        with load_prompt(path, client=lambda _: client) as classify:
            assert classify("a dreadful day").label == "bad"
    finally:
        asyncio.run(client.close())
    expected = {"openai-decisions": "/v1/decisions", "systemone": "/v1/systemone"}
    assert [seen.path for seen in project.model.server.seen] == [expected[api]]


def test_batches_are_not_offered(project: Project) -> None:
    write(project, "openai-decisions")
    result = project.run("--promptfit-record=batch")
    result.stderr.fnmatch_lines(["*openai-decisions/m: no batch API is known here:*"])
    assert project.model.asked == []


def test_init_writes_a_file_that_runs(project: Project) -> None:
    project.write()
    (project.path / "mood.prompt.yaml").unlink()
    ran = promptfit(
        "init", "mood.csv", "--model", "openai-decisions/gpt-6-luna", cwd=project.path, OPENAI_API_KEY="sk-1"
    )
    assert ran.code == 0, ran.err
    text = (project.path / "prompts/mood.prompt.yaml").read_text(encoding="utf-8")
    assert "model: openai-decisions/gpt-6-luna\n" in text
    assert '# label_notes: {bad: "…", good: "…"}' in text
    assert "user_prompt" not in text
    assert "\n  model: openai/gpt-6.1-terra" in text
    payload = load_prompt(project.path / "prompts/mood.prompt.yaml").payload("a day")
    assert payload == {
        "model": "gpt-6-luna",
        "input": "a day",
        "questions": [
            {
                "type": "choice",
                "name": "label",
                "instructions": "Which label fits the text?",
                "choices": [{"value": "bad"}, {"value": "good"}],
            }
        ],
    }
