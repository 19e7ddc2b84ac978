"""The committed example: real replies, replayed on a copy without any network."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
import vcr

from pytest_promptfit.prompt_file import parse_prompt_file
from pytest_promptfit.samples import read_samples
from pytest_promptfit.wire import Wire

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "fixtures" / "quickstart"


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example in a folder of its own, where nothing can connect."""
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    shutil.copytree(ROOT / "cassettes", tmp_path / "cassettes")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def refuse(*_: object) -> None:
        raise AssertionError("a replay must not connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_replays_to_its_baseline(copy: Path, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess(
        "-p", "promptfit", "--promptfit", "--promptfit-json=out.json", f"--rootdir={copy}", copy
    )
    router, upset = json.loads((pytester.path / "out.json").read_text())["prompts"]
    for prompt in (router, upset):
        assert prompt["usage"]["replayed"] == prompt["usage"]["calls"] == len(prompt["cases"])
        assert prompt["baseline"] == {
            "accuracy": pytest.approx(prompt["metrics"]["accuracy"], abs=1e-6),
            "fixed": 0,
            "broken": 0,
            "p_value": 0.5,
        }
        assert all(gate["passed"] for gate in prompt["gates"])
        failed = [case for case in prompt["cases"] if case["outcome"] == "failed"]
        assert all(case["kind"] == "canonical" for case in failed)
        assert len(failed) == prompt["canonical"]["total"] - prompt["canonical"]["correct"]
    assert router["labeled"]["total"] == 164
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_an_update_changes_nothing(copy: Path, pytester: pytest.Pytester) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*.json")}
    pytester.runpytest_inprocess("-p", "promptfit", "--promptfit", "--promptfit-update", f"--rootdir={copy}", copy)
    assert {path: path.read_bytes() for path in copy.rglob("*.json")} == before


@pytest.mark.parametrize(("name", "sdk"), [("ticket-router", "openai"), ("upset-customers", "anthropic")])
def test_stock_vcrpy_replays_the_real_recordings_through_the_sdk(copy: Path, name: str, sdk: str) -> None:
    parsed = parse_prompt_file(copy / f"{name}.prompt.yaml")
    sample_set = read_samples(parsed)
    wire = Wire(parsed.config, sample_set.labels, copy)
    cassette = copy / "cassettes" / name / "replies.yaml"
    recorded = vcr.VCR(record_mode="none", match_on=["method", "uri", "body"])
    baseline = json.loads((copy / f"{name}.baseline.json").read_text())["cases"]
    with recorded.use_cassette(str(cassette)):
        for sample in sample_set.samples:
            body = _ask(sdk, wire, wire.payload(sample.text))
            _, predicted = wire.read(body, sample.text)
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


def test_the_recorded_tuning_run_replays_to_the_same_bytes(copy: Path, pytester: pytest.Pytester) -> None:
    prompt = copy / "ticket-router.prompt.yaml"
    result = pytester.runpytest_inprocess(
        "-p", "promptfit", "--tune", "--promptfit-json=out.json", f"--rootdir={copy}", prompt
    )
    assert prompt.read_bytes() == (EXAMPLE / "ticket-router.tuned.yaml").read_bytes()
    report = json.loads((pytester.path / "out.json").read_text())
    (tuned,) = report["tune"]
    assert tuned["usage"]["replayed"] == tuned["usage"]["task_calls"] + tuned["usage"]["optimizer_calls"]
    assert tuned["holdout"] is not None
    (router,) = report["prompts"]
    assert router["usage"]["replayed"] == router["usage"]["calls"] == len(router["cases"])
    assert [case["id"] for case in router["cases"] if case["outcome"] == "failed" and case["kind"] == "labeled"] == []
    result.stdout.fnmatch_lines(["*holdout (*samples): *"])
