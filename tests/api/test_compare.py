"""``Evaluation.compare`` and ``to_frame``: two prompts or two models side by side, for scripts and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scipy.stats import binom
from sklearn.metrics import accuracy_score, classification_report

from pytest_promptfit import PromptfitError, evaluate

if TYPE_CHECKING:
    from mood_project import Project

GOOD = [(f"g{n}", f"a lovely day {n}", "good") for n in range(12)]
BAD = [(f"b{n}", f"a dreadful day {n}", "bad") for n in range(8)]


def test_what_changes_from_one_model_to_another(project: Project) -> None:
    path = project.write((*GOOD, *BAD, ("x", "a dreadful joke, and we laughed", "good")))
    before = evaluate(path, record="missing")
    project.model.says = lambda text: "Label: <label>good</label>" if "dreadful" not in text else "mumble"
    now = evaluate(path, model="openai/other", record="missing")
    assert (before.model, before.instead_of) == ("openai/m", "")
    assert (now.model, now.instead_of) == ("openai/other", "openai/m")
    found = before.compare(now)
    assert (found.before, found.now, found.shared, found.unpaired) == (20, 12, 21, (0, 0))
    assert found.broken == tuple(f"sample-b{n}" for n in range(8))
    assert found.fixed == ()
    assert found.change == pytest.approx(-8 / 21)
    # Mid-p: P(X > 8) + P(X = 8) / 2 where each of 8 changed pairs goes either way, and twice that for both sides.
    one_sided = binom.sf(8, 8, 0.5) + binom.pmf(8, 8, 0.5) / 2
    assert found.p_two_sided == pytest.approx(2 * one_sided)
    back = now.compare(before)
    assert (back.fixed, back.p_two_sided) == (found.broken, found.p_two_sided)
    assert before.compare(before).p_two_sided == 1.0


def test_another_models_replies_are_apart_and_the_harness_leaves_them_alone(project: Project) -> None:
    path = project.write(GOOD[:3])
    evaluate(path, record="missing")
    evaluate(path, model="openai/other", record="missing")
    evaluate(path, model="openai/Other", record="missing")
    folders = sorted(folder.name for folder in (project.path / "cassettes/mood/models").iterdir())
    assert len(folders) == 2
    assert "openai-other" in folders
    result = project.replay("--promptfit-prune")
    assert "obsolete" not in result.stdout.str()
    assert evaluate(path, model="openai/other").usage.replayed == 3


def test_samples_are_paired_by_text_and_label(project: Project) -> None:
    first = project.write((*GOOD[:3], ("l", "a lovely bore", "bad")))
    other = project.write(
        (("o1", "a  lovely day 0", "good"), ("o2", "a lovely day 9", "good"), ("l", "a lovely bore", "good")),
        at="other.prompt.yaml",
    )
    found = evaluate(first, record="missing").compare(evaluate(other, record="missing"))
    assert (found.shared, found.unpaired) == (1, (3, 2))


def test_cost_and_seconds_are_those_of_a_call(project: Project) -> None:
    path = project.write(GOOD[:2], model="openai/gpt-4.1-nano")
    answers = {"gpt-4.1-nano": 100, "gpt-4.1": 300}

    def client(spec: object) -> object:
        def asked(body: dict) -> dict:
            usage = {"prompt_tokens": answers[body["model"]], "completion_tokens": 10}
            message = {"role": "assistant", "content": "<label>good</label>"}
            return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}

        return asked

    before = evaluate(path, record="missing", client=client)
    now = evaluate(path, model="openai/gpt-4.1", record="missing", client=client)
    usd_before, usd_now = before.compare(now).usd
    # $0.10 and $0.40, then $2 and $8 a million tokens in and out.
    assert usd_before == pytest.approx((100 * 0.10 + 10 * 0.40) / 1e6)
    assert usd_now == pytest.approx((300 * 2 + 10 * 8) / 1e6)
    assert all(seconds is not None for seconds in before.compare(now).seconds)


@pytest.mark.parametrize("name", ["gpt-4", "opnai/gpt-4", "openai/"])
def test_what_is_no_model_is_told_in_one_line(project: Project, name: str) -> None:
    with pytest.raises(
        PromptfitError,
        match=r"expected PROVIDER/NAME, .* openai, anthropic, gemini, local, openai-decisions, systemone$",
    ):
        evaluate(project.write(), model=name)


def test_a_frame_holds_all_and_suits_scikit_learn(project: Project) -> None:
    path = project.write(canonical=[{"text": "a lovely dog", "label": "good"}])
    data = project.path / "mood.csv"
    data.write_text(
        "id,text,label,language,model\ns1,a lovely day,good,en,T\ns2,mumble,good,de,T\ns3,dreadful,bad,de,X\n"
    )
    evaluation = evaluate(path, record="missing")
    frame = evaluation.to_frame()
    assert list(frame.columns) == [
        "text", "label", "predicted", "kind", "status", "reply", "input_tokens", "output_tokens", "seconds", "usd",
        "model", "note", "error", "language", "data_model",
    ]  # fmt: skip
    labeled = frame[frame.kind == "labeled"]
    assert list(labeled.predicted) == ["good", "(missing)", "bad"]
    assert list(labeled.language) == ["en", "de", "de"]
    assert list(labeled.data_model) == ["T", "T", "X"]
    assert set(frame.model) == {"openai/m"}
    assert list(frame.input_tokens) == [100] * 4
    report = classification_report(labeled.label, labeled.predicted, output_dict=True, zero_division=0)
    assert report["good"]["recall"] == 0.5
    assert accuracy_score(labeled.label, labeled.predicted) == evaluation.accuracy == pytest.approx(2 / 3)


def test_a_frame_of_what_has_no_reply(project: Project) -> None:
    frame = evaluate(project.write()).to_frame()
    assert set(frame.predicted) == {"(missing)"}
    assert set(frame.status) == {"no reply"}
    assert frame.usd.isna().all()
