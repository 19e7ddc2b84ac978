"""How well a model knows what it knows, on labeled tasks: ``python -m tests.benchmarks.confidence``.

A task is three files as in ``table``. Temperature and weights are fitted on rows of dev (and train: no prompt is made
of them), every other figure is of test. All replies are recorded below the work folder as they arrive, so a run that
was killed goes on where it stopped, and a finished one replays for nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_promptfit.api import evaluate
from pytest_promptfit.chat.decision import decide
from pytest_promptfit.evaluation.confidence import (
    calibration_error,
    coverage_curve,
    coverage_interval,
    fitted_temperature,
    most_covered,
    reliability,
    sure_answers,
)
from pytest_promptfit.evaluation.metrics import Paired, two_sided_midp, wilson_interval
from pytest_promptfit.prompts.model import Decision
from pytest_promptfit.text import percent, points, probability
from pytest_promptfit.tuning.arena import changed
from pytest_promptfit.tuning.weights import weighing_of
from tests.benchmarks.table import START, Place, Settings, model_of, read_task, write_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.evaluation.confidence import Judged
    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.prompts.samples import Sample


@dataclass(frozen=True)
class Gain:
    """Weights against the label as it is read: right before and now of so many, and the two-sided mid-p."""

    total: int
    before: int
    now: int
    fixed: int
    broke: int
    gain_ci95: tuple[float, float]
    p_value: float


@dataclass(frozen=True)
class Figures:
    """What one task comes to; shares are from 0 to 1, ``told`` counts the test rows with probabilities."""

    task: str
    fitted_on: int
    test: int
    told: int
    right: int
    accuracy_ci95: tuple[float, float]
    temperature: float
    calibration_error: float
    calibration_error_scaled: float
    at_error: float
    coverage: float
    coverage_ci95: tuple[float, float]
    coverage_scaled: float
    error_at_threshold: float | None
    """Of test, where the threshold that held on the rows of the fit answers; ``None`` where none did."""
    coverage_at_threshold: float
    weights: dict[str, float]
    by_folds: Gain | None
    on_test: Gain | None


def judged(outcomes: Sequence[Outcome]) -> list[Judged]:
    """Return the answers whose probabilities are known."""
    return [(o.decided, o.sample.label) for o in outcomes if o.decided and o.sample.label in o.told]


def under(answers: Sequence[Judged], decision: Decision) -> list[Judged]:
    """Return what comes of the same replies by another decision."""
    return [(decide(decided.read, decided.told, decision), label) for decided, label in answers]


def gain(before: Sequence[Outcome], now: Sequence[Outcome]) -> Gain:
    """Return how outcomes of the same samples differ."""
    fixed, broke = changed(before, now)
    right = sum(outcome.correct for outcome in before)
    pair = Paired(right, tuple(fixed), tuple(broke), len(before))
    p_value = two_sided_midp(len(broke), len(fixed))
    return Gain(len(before), right, pair.now, len(fixed), len(broke), pair.interval, p_value)


def figures(place: Place, fit: Sequence[Outcome], test: Sequence[Outcome], at_error: float) -> Figures:
    """Return the figures of a task from the outcomes of both parts."""
    fitted, tested = judged(fit), judged(test)
    temperature = fitted_temperature([(decided.told, label) for decided, label in fitted], {}) if fitted else 1.0
    warm = Decision(temperature=temperature)
    plain, scaled = sure_answers(tested), sure_answers(under(tested, warm))
    best, best_scaled = (most_covered(coverage_curve(some, len(test)), at_error) for some in (plain, scaled))
    held = most_covered(coverage_curve(sure_answers(fitted), len(fit)), at_error)
    answered = [right for confidence, right in plain if held and confidence >= held.confidence]
    weighing = weighing_of(fit, place.task.labels, Decision())
    right = sum(outcome.correct for outcome in test)
    return Figures(
        place.task.name,
        len(fit),
        len(test),
        len(tested),
        right,
        wilson_interval(right, len(test)),
        temperature,
        calibration_error(reliability(plain)),
        calibration_error(reliability(scaled)),
        at_error,
        best.coverage if best else 0.0,
        coverage_interval(plain, len(test), at_error),
        best_scaled.coverage if best_scaled else 0.0,
        1 - sum(answered) / len(answered) if answered else None,
        len(answered) / len(test),
        dict(weighing.decision.weights) if weighing else {},
        gain(fit, [weighing.held_out(one) for one in fit]) if weighing else None,
        gain(test, [one.under(weighing.decision) for one in test]) if weighing else None,
    )


def lines(found: Figures) -> Iterator[str]:
    """Yield the figures of a task in words."""
    low, high = map(percent, found.accuracy_ci95)
    yield f"{found.task}: accuracy {percent(found.right / found.test)} ({found.right} of {found.test}, {low} to {high})"
    yield f"  {found.told} of {found.test} labels come with probabilities; fitted on {found.fitted_on} other rows"
    yield (
        f"  calibration error {percent(found.calibration_error)}, "
        f"{percent(found.calibration_error_scaled)} at temperature {found.temperature:.2f}"
    )
    low, high = map(percent, found.coverage_ci95)
    yield (
        f"  coverage at {percent(found.at_error)} error: {percent(found.coverage)} ({low} to {high}), "
        f"{percent(found.coverage_scaled)} at that temperature"
    )
    if found.error_at_threshold is not None:
        yield (
            f"  the threshold that holds this on the other rows answers {percent(found.coverage_at_threshold)}, "
            f"{percent(found.error_at_threshold)} of them wrong"
        )
    for name, one in (("by folds", found.by_folds), ("on test", found.on_test)):
        if one is not None:
            least, most = map(points, one.gain_ci95)
            yield (
                f"  weights {name}: {percent(one.before / one.total)} → {percent(one.now / one.total)} "
                f"({least} to {most} points), fixed {one.fixed}, broke {one.broke}, {probability(one.p_value)}"
            )


def measured(place: Place, *, fit_on: str, at_error: float, prefix: str) -> Figures:
    """Ask for what is not recorded of a task, and return its figures."""
    more: dict[str, Any] = {"probabilities": True, "prompt": {"system_prompt": START, "bot_reply_prefix": prefix}}
    path = write_prompt(place, START, **more)

    def outcomes(samples: Sequence[Sample]) -> tuple[Outcome, ...]:
        given = [(sample.text, sample.label) for sample in samples]
        cassettes = place.folder / "cassettes"
        found = evaluate(path, given, record="missing", cassettes=cassettes, concurrency=place.concurrency)
        if found.unanswered:
            raise RuntimeError(f"{path}: {len(found.unanswered)} rows have no reply: {found.unanswered[0].error}")
        return found.outcomes

    fit = outcomes(place.task.dev if fit_on == "dev" else place.task.known)
    return figures(place, fit, outcomes(place.task.test), at_error)


def main(arguments: Sequence[str]) -> None:
    """Print the figures of the tasks that the command line names."""
    chosen = _parsed(arguments)
    names = chosen.tasks or sorted(path.name.removesuffix(".test.csv") for path in chosen.data.glob("*.test.csv"))
    model = model_of(chosen.model, chosen.base_url)
    settings, report = Settings(model, model, test_rows=chosen.test_rows), []
    for name in names:
        task = read_task(chosen.data, name, chosen.test_rows)
        place = Place(
            task, f"confidence-{model['name'].replace('/', '-')}", 0, settings, chosen.work, chosen.concurrency
        )
        found = measured(place, fit_on=chosen.fit_on, at_error=chosen.at_error, prefix=chosen.reply_prefix)
        print(*lines(found), sep="\n", flush=True)
        report.append(asdict(found))
    path = chosen.json or chosen.work / "confidence.json"
    path.write_text(
        json.dumps({"version": 1, "model": chosen.model, "tasks": report}, indent=1) + "\n", encoding="utf-8"
    )


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where the tasks' files are")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="recordings, prompts and results")
    parser.add_argument("--model", required=True, help="such as openai/gpt-4.1-nano, or local/NAME")
    parser.add_argument("--base-url", metavar="URL", help="the model's server; default: the provider's own")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help="default: all in the folder")
    parser.add_argument("--fit-on", choices=["known", "dev"], default="known", help="train and dev (default), or dev")
    parser.add_argument("--at-error", type=float, default=0.05, help="share of wrong answers (default: 0.05)")
    parser.add_argument("--reply-prefix", default="", help="words put in the model's mouth, such as 'Label: '")
    parser.add_argument("--test-rows", type=int, default=300, help="the first rows of test (default: 300)")
    parser.add_argument("--concurrency", type=int, default=1, help="calls in flight at once (default: 1)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="the figures; default: confidence.json in --work")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
