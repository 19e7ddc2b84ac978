"""``pytest_promptfit_client``: somebody else's client or model, asked and recorded as ours are."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from hook_examples import EXAMPLE
from loopback_server import Answer, Seen, chat, error
from mood_project import MOODS

from pytest_promptfit import CallError, HookError, evaluate, load_prompt

if TYPE_CHECKING:
    from mood_project import Project

    from pytest_promptfit import ModelSpec


FUNCTION = """
    from pathlib import Path

    def pytest_promptfit_client(model):
        if model.name == "mood-by-rule":
            return classify

    def classify(body):
        with Path("asked.txt").open("a") as sink:
            sink.write(body["model"] + "\\n")
        text = body["messages"][-1]["content"]
        return "good" if "lovely" in text else "bad"
"""

GATEWAY = """
    import httpx2

    def pytest_promptfit_client(model):
        return httpx2.AsyncClient(headers={"x-gateway-token": "of-the-company"}, auth=sign)

    def sign(request):
        request.headers["authorization"] = f"Signed {request.method}"
        return request
"""

AZURE = """
    from openai import AsyncAzureOpenAI

    def pytest_promptfit_client(model):
        return AsyncAzureOpenAI(azure_endpoint="{url}", api_version="2026-01-01", api_key="an-azure-key")
"""

BROKEN = """
    def pytest_promptfit_client():
        raise RuntimeError("called")
"""

BY_RULE = {"provider": "openai", "name": "mood-by-rule", "base_url": "http://localhost/mood-by-rule"}


def conftest(project: Project, text: str, at: str = "conftest.py", **values: str) -> None:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    path = project.path / at
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))


def calls(project: Project) -> int:
    path = project.path / "asked.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


def case_failure(result: pytest.RunResult) -> str:
    """Return the first line of the first failed case."""
    lines = result.outlines
    return lines[next(at for at, line in enumerate(lines) if line.startswith("___")) + 1]


def test_a_function_is_the_model_and_a_replay_needs_none_of_it(project: Project) -> None:
    project.write(model=BY_RULE)
    conftest(project, FUNCTION)
    project.record().assert_outcomes(passed=4, skipped=1)
    assert calls(project) == 4
    conftest(project, BROKEN)
    project.replay().assert_outcomes(passed=4, skipped=1)
    assert project.record().ret == 0  # nothing is missing, so nobody is asked
    assert (calls(project), project.model.asked) == (4, [])


def test_the_readme_s_example(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("GATEWAY", project.model.url), ("GATEWAY_TOKEN", "of-the-company")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AZURE_ENDPOINT", project.model.server.url)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "an-azure-key")
    project.write(at="rule.prompt.yaml", model=BY_RULE)
    project.write(at="deployment.prompt.yaml", model="openai/our-deployment")
    project.write(at="gateway.prompt.yaml")
    conftest(project, EXAMPLE)
    project.record().assert_outcomes(passed=12, skipped=3)
    asked = {(seen.body["model"], seen.headers.get("x-gateway-token")) for seen in project.model.server.seen}
    assert asked == {("our-deployment", None), ("m", "of-the-company")}
    for name in ("GATEWAY", "GATEWAY_TOKEN", "AZURE_ENDPOINT", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name)
    project.replay().assert_outcomes(passed=12, skipped=3)


def test_without_the_hook_nobody_answers_for_the_function(project: Project) -> None:
    project.write(model={**BY_RULE, "base_url": f"{project.model.url}/nowhere"})
    project.model.says = lambda _text: error(404, "no such model")
    conftest(project, FUNCTION.replace("mood-by-rule", "another"))
    result = project.record()
    result.assert_outcomes(failed=4, skipped=1)
    assert "no such model" in result.stdout.str()


@pytest.mark.parametrize(
    "base_url", ["http://[bad/v1", "http://host:port/v1", "http://host:99999/v1", "nothing", "http://h\0"]
)
def test_a_url_that_is_none_is_one_line(project: Project, base_url: str) -> None:
    """The replies would be recorded under it."""
    project.write(model={**BY_RULE, "base_url": base_url})
    conftest(project, FUNCTION)
    result = project.record()
    assert result.ret in (1, 4)
    assert "model.base_url" in result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    assert calls(project) == 0


def test_a_replay_makes_no_client_even_where_replies_are_missing(project: Project) -> None:
    project.write(MOODS[:2])
    project.record()
    project.write()
    conftest(project, BROKEN)
    result = project.replay()
    assert result.ret == 1
    result.stdout.no_fnmatch_line("*RuntimeError*")
    result.stdout.fnmatch_lines(["  2 of 4 not recorded: *", "           2 calls, *"])


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_words_become_a_reply_of_the_api(project: Project, provider: str, kind: str) -> None:
    project.write(model={**BY_RULE, "provider": provider})
    conftest(project, FUNCTION.replace("def classify", f"{kind} classify"))
    assert project.record().ret == 0
    (recorded,) = (project.path / "cassettes/mood").glob("*.yaml")
    assert "http://localhost/mood-by-rule/" in recorded.read_text()
    cases = project.report()["prompts"][0]["cases"]
    assert [case["predicted"] for case in cases] == ["good", "good", "bad", "bad"]


def test_a_function_may_return_the_whole_json(project: Project) -> None:
    whole = '{"choices": [{"message": {"content": said}}], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}'
    project.write(model=BY_RULE)
    text = FUNCTION.replace('return "good" if "lovely" in text else "bad"', f'said = "good"\n        return {whole}')
    conftest(project, text)
    project.record()
    assert project.report()["prompts"][0]["usage"]["input_tokens"] == 28


def test_a_gateway_has_its_own_headers_and_auth(project: Project) -> None:
    def answer(seen: Seen) -> Answer:
        known = seen.headers.get("x-gateway-token") == "of-the-company"
        signed = seen.headers.get("authorization") == "Signed POST"
        return chat("good") if known and signed else error(401, "who are you?")

    project.model.server._answer = answer
    project.write(MOODS[:2])
    assert "who are you?" in project.record().stdout.str()
    conftest(project, GATEWAY)
    project.record().assert_outcomes(passed=2, skipped=1)
    (recorded,) = (project.path / "cassettes/mood").glob("*.yaml")
    assert "of-the-company" not in recorded.read_text()
    conftest(project, BROKEN)
    project.replay().assert_outcomes(passed=2, skipped=1)


def test_a_gateway_is_retried_and_told_as_ours_is(project: Project) -> None:
    failures = [error(500, "oops", **{"retry-after-ms": "1"})]
    project.model.says = lambda _text: failures.pop() if failures else "good"
    project.write(MOODS[:1])
    conftest(project, GATEWAY)
    project.record().assert_outcomes(passed=1, skipped=1)
    assert len(project.model.asked) == 2
    project.model.says = lambda _text: error(404, "no such model")
    project.write(MOODS[1:2])
    assert case_failure(project.record("-v")).startswith("openai/m: not found at http://127.0.0.1:")


def test_an_sdk_s_client_asks_with_its_own_address_and_key(project: Project) -> None:
    project.write(model="openai/m")
    conftest(project, AZURE, url=project.model.server.url)
    project.record().assert_outcomes(passed=4, skipped=1)
    seen = project.model.server.seen[0]
    assert seen.path == "/openai/deployments/m/chat/completions?api-version=2026-01-01"
    assert seen.headers["api-key"] == "an-azure-key"
    (recorded,) = (project.path / "cassettes/mood").glob("*.yaml")
    text = recorded.read_text()
    assert "https://api.openai.com/v1/chat/completions" in text  # as the prompt file says it
    assert "127.0.0.1" not in text
    assert "an-azure-key" not in text
    conftest(project, BROKEN)
    project.replay().assert_outcomes(passed=4, skipped=1)


def test_an_sdk_s_refusal_ends_the_run(project: Project) -> None:
    project.model.says = lambda _text: error(401, "Access denied")
    project.write(model="openai/m")
    conftest(project, AZURE, url=project.model.server.url)
    result = project.record("-v")
    result.assert_outcomes(failed=4, skipped=1)
    assert len(project.model.asked) == 1
    line = case_failure(result)
    assert line.startswith("openai/m: conftest.py: pytest_promptfit_client: AuthenticationError: ")
    assert "Access denied" in line


def test_an_sdk_s_server_that_is_down_ends_the_run(project: Project) -> None:
    project.write(model="openai/m")
    conftest(project, AZURE, url=project.model.server.url)
    project.model.server.__exit__()
    result = project.record("-v")
    result.assert_outcomes(failed=4, skipped=1)
    assert (
        case_failure(result) == "openai/m: conftest.py: pytest_promptfit_client: APIConnectionError: Connection error."
    )
    assert sum(line.startswith("not asked: openai/m: conftest.py: ") for line in result.outlines) == 3


def test_none_leaves_the_model_to_the_next_plugin_and_to_us(project: Project) -> None:
    project.write()
    conftest(project, "def pytest_promptfit_client(): return None")
    project.record().assert_outcomes(passed=4, skipped=1)
    assert len(project.model.asked) == 4
    conftest(project, FUNCTION.replace("mood-by-rule", "m"))
    project.ask_anew().assert_outcomes(passed=4, skipped=1)
    assert (calls(project), len(project.model.asked)) == (4, 4)


def test_a_conftest_counts_for_the_prompts_below_it(project: Project) -> None:
    project.write(at="by_rule/mood.prompt.yaml")
    project.write(at="asked/other.prompt.yaml")
    conftest(project, FUNCTION.replace("mood-by-rule", "m"), at="by_rule/conftest.py")
    assert project.record().ret == 0
    assert (calls(project), len(project.model.asked)) == (4, 4)


HOOK = "conftest.py: pytest_promptfit_client"
DEFINE = "def pytest_promptfit_client(model):"
WRONG = (
    (f"{DEFINE} return 3", f"{HOOK}: expected an httpx2.AsyncClient, *; found 3 (int)"),
    (f"{DEFINE}\n  return model.nme", "conftest.py:2: pytest_promptfit_client: AttributeError: *nme*"),
    (f"import httpx2\n{DEFINE} return httpx2.Client()", f"{HOOK}: expected *; found <httpx2.*(httpx2.Client)"),
    (f"import pytest\n{DEFINE}\n  pytest.skip('no')", "conftest.py:3: pytest_promptfit_client: Skipped: no"),
    (f"class Own:\n  pass\n{DEFINE} return Own", f"{HOOK}: expected *; found <class *Own'> (type)"),
)


def test_a_key_that_a_hook_s_error_quotes_is_not_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", "a-planted-team-key")
    project.write(model={"provider": "openai", "name": "m", "base_url": project.model.url, "api_key_env": "TEAM_KEY"})
    conftest(project, f"import os\n{DEFINE}\n  raise RuntimeError('no ' + os.environ['TEAM_KEY'])")
    result = project.record()
    result.stderr.fnmatch_lines(["ERROR: conftest.py:3: *RuntimeError: no [[]REDACTED[]]"])
    assert "planted" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(("text", "line"), WRONG)
def test_a_hook_gone_wrong_is_one_line(project: Project, text: str, line: str) -> None:
    project.write()
    conftest(project, text)
    result = project.record()
    assert result.ret == 4
    assert [shown for shown in result.errlines if shown] == [result.errlines[0]]
    result.stderr.fnmatch_lines([f"ERROR: {line}".replace("[", "[[]")])
    assert "INTERNALERROR" not in result.stdout.str()


ANSWERS = (
    ("body['labels']", "openai/m: conftest.py:2: pytest_promptfit_client: KeyError: 'labels'"),
    ("3", f"openai/m: {HOOK}: TypeError: expected the reply's words (str) or *, found 3 (int)"),
    ("{'x': object()}", f"openai/m: {HOOK}: TypeError: Object of type object is not JSON *"),
    ("{'x': 1}", "openai/m: the reply is not in the form this API has; is base_url right?"),
)


@pytest.mark.parametrize(("answer", "line"), ANSWERS)
def test_a_function_gone_wrong_fails_its_case(project: Project, answer: str, line: str) -> None:
    project.write()
    rule = f"    return {answer} if 'dreadful walk' in body['messages'][-1]['content'] else ask(body)"
    conftest(
        project,
        f"def classify(body):\n{rule}\n\n"
        + dedent(FUNCTION.replace("mood-by-rule", "m").replace("def classify", "def ask")),
    )
    result = project.record()
    result.assert_outcomes(passed=3, failed=1, skipped=1)
    result.stdout.fnmatch_lines([line])
    assert project.model.asked == []


def test_a_call_error_of_a_function_says_it_in_its_own_words(project: Project) -> None:
    project.write()
    conftest(
        project,
        """
        from pytest_promptfit import CallError

        def pytest_promptfit_client():
            def refuse(body):
                raise CallError("the weights are not here: run `make weights`", fatal=True)
            return refuse
        """,
    )
    result = project.record("-v")
    result.assert_outcomes(failed=4, skipped=1)
    assert case_failure(result) == "the weights are not here: run `make weights`"


@pytest.mark.endurance
def test_under_xdist(project: Project) -> None:
    for name in ("mood", "other"):
        project.write(at=f"{name}.prompt.yaml", model=BY_RULE)
    conftest(project, FUNCTION)
    two = ("-p", "xdist", "-n2", "--dist=loadgroup")
    project.record(*two).assert_outcomes(passed=8, skipped=2)
    assert calls(project) == 8
    conftest(project, BROKEN)
    project.replay(*two).assert_outcomes(passed=8, skipped=2)
    result = project.ask_anew(*two)
    assert result.ret == 1
    assert "conftest.py:3: pytest_promptfit_client: RuntimeError: called" in result.outlines
    assert "INTERNALERROR" not in result.stdout.str()


def test_under_xdist_what_ends_a_recording_is_met_once(project: Project) -> None:
    project.write()
    conftest(
        project,
        """
        from pathlib import Path

        def pytest_promptfit_client():
            with Path("asked.txt").open("a") as sink:
                sink.write("m\\n")
            raise RuntimeError("no such gateway")
        """,
    )
    result = project.record("-p", "xdist", "-n1", "--dist=loadgroup")
    result.assert_outcomes(failed=5)
    result.stdout.fnmatch_lines(["*RuntimeError: no such gateway"])
    assert calls(project) == 1


def test_production_code_brings_the_same_function(project: Project) -> None:
    def classify(body: dict[str, object]) -> str:
        return "good" if "lovely" in json.dumps(body) else "bad"

    path = project.write()
    classifier = load_prompt(path, client=lambda model: classify)
    assert [p.label for p in classifier.batch(["a lovely day", "a dreadful day"])] == ["good", "bad"]
    classifier.close()
    assert classifier("a lovely walk").label == "good"
    evaluation = evaluate(classifier, record="missing")
    assert evaluation.accuracy == 1
    assert project.model.asked == []
    assert evaluate(path).accuracy == 1


def test_production_code_brings_a_client(project: Project) -> None:
    import httpx2

    made: list[str] = []

    def client(model: ModelSpec) -> httpx2.AsyncClient:
        made.append(model.name)
        return httpx2.AsyncClient(headers={"x-gateway-token": "of-the-company"})

    path = project.write()
    classifier = load_prompt(path, client=client)
    assert classifier("a lovely day").label == "good"
    assert project.model.server.seen[-1].headers["x-gateway-token"] == "of-the-company"
    assert classifier("a dreadful day").label == "bad"
    assert made == ["m"]
    classifier.close()
    assert evaluate(path, client=client, record="missing").accuracy == 1
    assert project.model.server.seen[-1].headers["x-gateway-token"] == "of-the-company"


def test_production_code_is_told_what_went_wrong(project: Project) -> None:
    path = project.write()
    with pytest.raises(HookError, match=r"^client: expected an httpx2\.AsyncClient, .*; found 3 \(int\)$"):
        load_prompt(path, client=lambda _model: 3)("a lovely day")  # type: ignore[arg-type,return-value]
    with pytest.raises(CallError, match=r"^openai/m: client: KeyError: 'label'$"):
        load_prompt(path, client=lambda _model: lambda body: body["label"])("a lovely day")
