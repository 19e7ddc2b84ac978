"""``load_prompt`` and ``evaluate``: the prompt file in production and in scripts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from loopback_server import error

from pytest_promptfit import CallError, PromptFileError, PromptfitError, Sample, evaluate, load_prompt

if TYPE_CHECKING:
    from mood_project import Project


def test_a_call_returns_label_and_reply(project: Project) -> None:
    classify = load_prompt(project.write())
    prediction = classify("a lovely day")
    assert prediction.label == "good"
    assert prediction.reply.text == "Label: <label>good</label>"
    assert prediction.reply.input_tokens == 100
    assert classify("mumble").label is None


def test_it_works_from_async_code_and_from_threads(project: Project) -> None:
    classify = load_prompt(project.write())

    async def several() -> list[str | None]:
        predictions = await asyncio.gather(*(classify.acall(f"a lovely day {n}") for n in range(5)))
        return [prediction.label for prediction in predictions]

    assert asyncio.run(several()) == ["good"] * 5
    assert asyncio.run(several()) == ["good"] * 5  # another loop, the same classifier
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(classify("dreadful").label)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["bad"] * 5


def test_batch_keeps_the_order_and_the_limit(project: Project) -> None:
    classify = load_prompt(project.write())
    texts = [f"a {'lovely' if n % 3 else 'dreadful'} day {n}" for n in range(30)]
    labels = [prediction.label for prediction in classify.batch(texts, concurrency=3)]
    assert labels == ["good" if n % 3 else "bad" for n in range(30)]
    assert project.model.server.peak <= 3
    assert classify.batch([]) == []


def test_messages_are_what_is_sent(project: Project) -> None:
    classify = load_prompt(project.write())
    classify("a lovely day")
    sent = json.loads(project.model.asked[-1])
    assert classify.messages("a lovely day") == sent["messages"]
    assert classify.payload("a lovely day") == sent


def test_close_and_call_again(project: Project) -> None:
    classify = load_prompt(project.write())
    assert classify("a lovely day").label == "good"
    classify.close()
    classify.close()
    assert classify("a dreadful day").label == "bad"


def test_failures_are_call_errors_and_do_not_stick(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    classify = load_prompt(project.write())
    project.model.says = lambda _: error(401, "no")
    with pytest.raises(CallError, match="refused"):
        classify("a lovely day")
    project.model.says = lambda _: "<label>good</label>"
    assert classify("a lovely day").label == "good"
    keyless = load_prompt(project.write(model="openai/gpt-4.1-nano"))
    with pytest.raises(CallError, match="set OPENAI_API_KEY"):
        keyless("a lovely day")


def test_a_wrong_file_says_where(project: Project) -> None:
    path = project.write(casess="strict")
    with pytest.raises(PromptFileError, match=rf"{path.name}:\d+: casess: unknown key; did you mean `cases`\?"):
        load_prompt(path)


def test_the_samples_are_not_needed_in_production(project: Project) -> None:
    path = project.write()
    (project.path / "mood.csv").unlink()
    assert load_prompt(path)("a lovely day").label == "good"


def test_evaluate_is_the_plugins_forward_pass(project: Project) -> None:
    path = project.write((("s1", "a lovely day", "good"), ("s2", "mumble", "good"), ("s3", "a dreadful day", "good")))
    project.record()
    evaluation = evaluate(path, cassettes=project.path / "cassettes")
    (plugin,) = project.report()["prompts"]
    assert [(o.sample.id, o.predicted, o.correct) for o in evaluation.outcomes] == [
        (case["id"], case["predicted"], case["correct"]) for case in plugin["cases"]
    ]
    assert evaluation.accuracy == plugin["metrics"]["accuracy"] == pytest.approx(1 / 3)
    assert evaluation.prompt_hash == plugin["prompt_hash"]
    assert evaluation.usage.replayed == 3
    frame = evaluation.to_frame()
    assert list(frame["status"]) == ["right", "missing", "wrong"]
    assert frame.loc["sample-s3", "predicted"] == "bad"


def test_evaluate_finds_the_projects_own_cassettes(project: Project) -> None:
    path = project.write(at="prompts/mood.prompt.yaml")
    (project.path / "pytest.ini").write_text("[pytest]\n")
    project.record()
    assert evaluate(path).accuracy == 1.0


def test_evaluate_other_samples(project: Project) -> None:
    classify = load_prompt(project.write())
    samples = [("a lovely evening", "good"), Sample(id="own", text="a dreadful evening", label="bad")]
    assert evaluate(classify, samples, cassettes=project.path / "c").accuracy is None
    assert evaluate(classify, samples, record="missing", cassettes=project.path / "c").accuracy == 1.0
    assert evaluate(classify, samples, cassettes=project.path / "c").usage.replayed == 2
    with pytest.raises(PromptfitError, match="samples: none"):
        evaluate(classify, [])


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ("good", "samples: 'good': expected pairs"),
        (5, "samples: 5: expected pairs"),
        (["a lovely day"], r"samples\[0\]: 'a lovely day': expected pairs"),
        ([("a", "good"), ("b",)], r"samples\[1\]: \('b',\): expected pairs"),
        ([("a", "good", "c")], r"samples\[0\]: .*: expected pairs"),
        ([{"text": "a", "label": "good"}], r"samples\[0\]: .*: expected pairs"),
        ([("a", None)], r"samples\[0\]: label: None: expected text"),
        ([("a", float("nan"))], r"samples\[0\]: label: nan: expected text"),
        ([(None, "good")], r"samples\[0\]: text: None: expected text"),
        ([("  ", "good")], r"samples\[0\]: text: empty"),
        ([("a", " ")], r"samples\[0\]: label: empty"),
        ([("a", "god")], r"samples\[0\]: label: 'god' is not one of `labels`; did you mean `good`\?"),
        ([("a", "good"), (" a ", "bad")], r"samples\[1\]: label: 'bad', but the same text has the label 'good' at sa"),
        ([Sample(id="x", text="a", label="good"), Sample(id="x", text="b", label="bad")], r"samples\[1\]: id: x: said"),
        ([Sample(id="x", text="a", label="good", note=None)], r"samples\[0\]: note: None: expected text"),  # type: ignore[arg-type]
        ([("a", "\ud800")], r"samples\[0\]: label: half a surrogate pair"),
    ],
)
def test_evaluate_checks_samples_as_a_file_s_are_checked(project: Project, samples: Any, said: str) -> None:
    with pytest.raises(PromptfitError, match=f"^{said}"):
        evaluate(project.write(), samples, record="missing", cassettes=project.path / "c")
    assert project.model.asked == []


def test_evaluate_takes_a_table_s_rows_and_counts_twins_once(project: Project) -> None:
    import pandas as pd

    table = pd.DataFrame({"text": ["a lovely day", "a lovely  day", "mumble"], "label": ["good", "good", "bad"]})
    path = project.write()
    with pytest.raises(PromptfitError, match=r"^samples\[0\]: 'text': expected pairs"):
        evaluate(path, table, cassettes=project.path / "c")
    rows = table.itertuples(index=False)
    evaluation = evaluate(path, rows, record="missing", cassettes=project.path / "c")
    assert [outcome.sample.label for outcome in evaluation.outcomes] == ["good", "bad"]
    assert evaluation.notes == ("samples[1]: the same sample as samples[0]: counted once",)


def test_evaluate_asks_with_the_labels_of_the_file(project: Project) -> None:
    """However few of them the samples have: it is the prompt that production sends."""
    prompt = {"system_prompt": "One of {labels}.", "user_prompt_prefix": "<text>", "user_prompt_suffix": "</text>"}
    path = project.write(labels=[], prompt=prompt)
    evaluate(path, [("a lovely day", "good")], record="missing", cassettes=project.path / "c")
    assert json.loads(project.model.asked[-1]) == load_prompt(path).payload("a lovely day")


def test_evaluate_stops_at_its_budget(project: Project) -> None:
    evaluation = evaluate(project.write(), record="missing", cassettes=project.path / "c", max_calls=2)
    assert evaluation.usage.calls == 2
    assert [o.status for o in evaluation.outcomes].count("no reply") == 2


def test_the_package_is_light_and_complete() -> None:
    heavy = {"pytest", "_pytest", "pandas", "sklearn", "vcr", "openai", "anthropic", "httpx2", "pydantic"}
    program = (
        "import sys, pytest_promptfit as p; bare = set(sys.modules); p.load_prompt; loaded = set(sys.modules);"
        "print(sorted(bare & {heavy}), sorted(loaded & {heavy}), all(hasattr(p, n) for n in p.__all__))"
    ).replace("{heavy}", repr(heavy))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "['pydantic']", "True"]
