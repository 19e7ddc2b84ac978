"""The committed example: real replies, replayed on a examples without any network."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import vcr
from examples import DRAFT, GOOD, TUNING, UPSET

from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples
from pytest_promptfit.providers.wire import Wire

if TYPE_CHECKING:
    from pathlib import Path


def replay(examples: Path, pytester: pytest.Pytester, *arguments: object) -> tuple[pytest.RunResult, dict[str, Any]]:
    """Run pytest on the examples, and return what it said and its JSON report."""
    result = pytester.runpytest_inprocess(
        "-p", "promptfit", "--promptfit-json=out.json", f"--rootdir={examples}", *arguments
    )
    return result, json.loads((pytester.path / "out.json").read_text())


def test_the_example_is_green(examples: Path, pytester: pytest.Pytester) -> None:
    result, report = replay(examples, pytester, "--promptfit", examples / "fixtures/quickstart")
    assert result.ret == pytest.ExitCode.OK
    assert [prompt["name"] for prompt in report["prompts"]] == ["ticket-router", "upset-customers"]
    for prompt in report["prompts"]:
        assert prompt["usage"]["replayed"] == prompt["usage"]["calls"] == len(prompt["cases"])
        assert (prompt["baseline"]["fixed"], prompt["baseline"]["broken"]) == (0, 0)
        assert prompt["baseline"]["accuracy"] == pytest.approx(prompt["metrics"]["accuracy"], abs=1e-6)
        assert prompt["canonical"]["correct"] == prompt["canonical"]["total"] > 0
        assert {"accuracy", "missing", "regression"} <= {gate["name"] for gate in prompt["gates"] if gate["passed"]}
    assert report["prompts"][0]["labeled"]["total"] == 164
    assert "obsolete" not in result.stdout.str()


def test_the_draft_in_the_place_of_the_good_prompt_is_red(examples: Path, pytester: pytest.Pytester) -> None:
    shutil.copy(examples / DRAFT, examples / "fixtures/quickstart")
    result, report = replay(examples, pytester, "--promptfit", examples / "fixtures/quickstart")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    router, upset = report["prompts"]
    assert router["usage"]["replayed"] == router["usage"]["calls"] == len(router["cases"])
    assert router["baseline"]["broken"] > 50 > router["baseline"]["fixed"]
    assert "regression" in {gate["name"] for gate in router["gates"] if not gate["passed"]}
    assert all(case["outcome"] != "failed" for case in upset["cases"])
    assert "another model" not in result.stdout.str()


def test_an_update_changes_nothing(examples: Path, pytester: pytest.Pytester) -> None:
    before = {path: path.read_bytes() for path in examples.rglob("*.json")}
    assert len(before) == 4
    pytester.runpytest_inprocess(
        "-p", "promptfit", "--promptfit", "--promptfit-update", f"--rootdir={examples}", examples
    )
    assert {path: path.read_bytes() for path in examples.rglob("*.json")} == before


@pytest.mark.parametrize(
    ("prompt", "sdk"),
    [
        (UPSET, "anthropic"),
        # Stock vcrpy compares each request with every recorded one.
        *(pytest.param(prompt, "openai", marks=pytest.mark.endurance) for prompt in (GOOD, DRAFT, TUNING)),
    ],
)
def test_stock_vcrpy_replays_the_real_recordings_through_the_sdk(examples: Path, prompt: str, sdk: str) -> None:
    path = examples / prompt
    parsed = parse_prompt_file(path)
    sample_set = read_samples(parsed)
    wire = Wire(parsed.config, sample_set.labels, examples)
    cassette = examples / "cassettes" / parsed.name / "replies.yaml"
    recorded = vcr.VCR(record_mode="none", match_on=["method", "uri", "body"])
    baseline = json.loads(path.with_name(path.name.replace(".prompt.yaml", ".baseline.json")).read_text())["cases"]
    with recorded.use_cassette(str(cassette)):
        for sample in sample_set.samples:
            body = _ask(sdk, wire, wire.payload(sample.text))
            predicted = wire.read(body, sample.text)[1].label
            assert predicted == baseline[sample.case_name]["predicted"], sample.case_name


def _ask(sdk: str, wire: Wire, payload: dict[str, object]) -> dict[str, object]:
    base = wire.provider.url
    if sdk == "openai":
        import openai

        client = openai.OpenAI(api_key="none", base_url=base.removesuffix("/chat/completions"), max_retries=0)
        return client.chat.completions.create(**payload).model_dump()  # type: ignore[call-overload, no-any-return]
    import anthropic

    claude = anthropic.Anthropic(api_key="none", base_url=base.removesuffix("/v1/messages"), max_retries=0)
    rest = {"temperature": payload.pop("temperature")}  # no argument of this SDK any more, still one of the API
    return claude.messages.create(**payload, extra_body=rest).model_dump()  # type: ignore[call-overload, no-any-return]


def test_the_recorded_tuning_run_replays_to_the_same_bytes(examples: Path, pytester: pytest.Pytester) -> None:
    prompt = examples / TUNING
    tried = examples / "cassettes/ticket-router-tuning/tune/tried.jsonl"
    before = tried.read_bytes()
    result, report = replay(examples, pytester, "--tune", prompt)
    assert tried.read_bytes() == before
    assert prompt.read_bytes() == prompt.with_name("ticket-router.tuned.yaml").read_bytes()
    (tuned,) = report["tune"]
    assert tuned["usage"]["replayed"] == tuned["usage"]["task_calls"] + tuned["usage"]["optimizer_calls"]
    assert tuned["holdout"] is not None
    (router,) = report["prompts"]
    assert router["usage"]["replayed"] == router["usage"]["calls"] == len(router["cases"])
    assert [case["id"] for case in router["cases"] if case["outcome"] == "failed" and case["kind"] == "labeled"] == []
    result.stdout.fnmatch_lines(["*holdout (*samples): *"])
