"""The results for machines: the documented JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.evaluation.metrics import wilson_interval
from pytest_promptfit.files import write_atomically
from pytest_promptfit.reports import canary
from pytest_promptfit.reports.verdict import verdict_on
from pytest_promptfit.tuning.result import TuneFailure, TuneResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_promptfit.evaluation.canary import Canary
    from pytest_promptfit.evaluation.confidence import Calibration
    from pytest_promptfit.evaluation.noise import Noise
    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.evaluation.verdicts import PromptResult
    from pytest_promptfit.tuning.result import Holdout, Step, TuneUsage

VERSION = 1

DIGITS = 6
"""Of a probability."""

TOKENS = ("input_tokens", "output_tokens")
USAGE_KEYS = ("calls", "replayed", *TOKENS, "usd")
CALL_KEYS = (*TOKENS, "usd", "seconds")
STAGE_KEYS = ("stage", "task_calls", "optimizer_calls", *TOKENS, "task_usd", "optimizer_usd")

Tuned = TuneResult | TuneFailure


def write(
    path: Path,
    results: Sequence[PromptResult],
    tuned: Sequence[Tuned],
    canaries: Sequence[Canary],
    relative: Callable[[str], str],
) -> None:
    """Write the JSON report whole or not at all; raise PromptfitError when it cannot be written."""
    try:
        write_atomically(
            path, json.dumps(report(results, tuned, relative, canaries), indent=1, ensure_ascii=False) + "\n"
        )
    except OSError as error:
        raise PromptfitError(f"--promptfit-json {path}: cannot be written: {error.strerror or error}") from None


def report(
    results: Sequence[PromptResult],
    tuned: Sequence[Tuned] = (),
    relative: Callable[[str], str] = str,
    canaries: Sequence[Canary] = (),
) -> dict[str, Any]:
    """Return the results as documented: counts, shares from 0 to 1, USD."""
    return {
        "version": VERSION,
        "prompts": [_prompt(result, relative) for result in results],
        "tune": [_tune(result, relative) for result in tuned],
        "canary": canary.as_json(canaries, relative),
    }


def _tune(result: Tuned, relative: Callable[[str], str]) -> dict[str, Any]:
    """Return a tuning run: one that an error ended has nothing but the first three keys.

    ``scores`` have the keys of ``Score``.
    """
    verdict = {"path": relative(result.path), "accepted": result.accepted, "reason": result.reason}
    if isinstance(result, TuneFailure):
        return verdict
    return {
        **verdict,
        "stop_reason": result.stop_reason,
        "holdout": result.holdout and _holdout(result.holdout),
        "fresh": result.fresh and _holdout(result.fresh),
        "p_value": result.p_value,
        "canonical": {
            "total": result.canonical_total,
            "before": result.canonical_before,
            "after": result.canonical_after,
        },
        "usage": _usage(result.usage),
        "cost": {
            "before": result.cost_before and _picked(result.cost_before, CALL_KEYS),
            "after": result.cost_after and _picked(result.cost_after, CALL_KEYS),
        },
        "free_classifier": result.free_classifier and _holdout(result.free_classifier),
        "advice": list(result.advice),
        "unproven": result.unproven and {**asdict(result.unproven), "diff": list(result.unproven.diff)},
        "steps": [_step(step) for step in result.steps],
        "scores": [asdict(score) for score in result.scores],
        "stages": [_picked(stage, STAGE_KEYS) for stage in result.stages],
        "diff": list(result.diff),
        "suspects": list(result.suspects),
    }


def _holdout(holdout: Holdout) -> dict[str, Any]:
    return {
        "n": holdout.n,
        "before": holdout.before / holdout.n if holdout.n else None,
        "after": holdout.after / holdout.n if holdout.n else None,
        "fixed": holdout.fixed,
        "broken": holdout.broken,
        "p_value": holdout.p_value,
        "gain_ci95": list(holdout.gain_ci95) if holdout.n else None,
    }


def _picked(value: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def _usage(usage: TuneUsage) -> dict[str, Any]:
    return {
        "task_calls": usage.task_calls,
        "optimizer_calls": usage.optimizer_calls,
        "replayed": usage.replayed,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "usd": usage.paid_usd,
        "task_usd": usage.task_usd,
        "optimizer_usd": usage.optimizer_usd,
    }


def _step(step: Step) -> dict[str, Any]:
    """Return a step; ``right`` are its right answers on the ``seen`` dev samples, ``calls`` the task calls so far."""
    return {
        "stage": step.stage,
        "summary": step.summary,
        "diff": step.diff,
        "fixed": len(step.fixed),
        "broken": len(step.broken),
        "p_value": step.p_value,
        "accepted": step.accepted,
        "verdict": step.verdict,
        "targets": list(step.targets),
        "calls": step.calls,
        "right": step.right,
        "seen": step.seen,
    }


def _sure(outcome: Outcome) -> dict[str, Any]:
    """Return how sure a label is, where that is known."""
    if outcome.decided is None:
        return {}
    probabilities = {label: round(p, DIGITS) for label, p in outcome.decided.probabilities.items()}
    return {"confidence": round(outcome.confidence or 0.0, DIGITS), "probabilities": probabilities}


def _confidence(calibration: Calibration) -> dict[str, Any]:
    return {
        "samples": calibration.samples,
        "calibration_error": calibration.error,
        "bins": [asdict(one) for one in calibration.bins],
        "temperature": calibration.scaling and asdict(calibration.scaling),
        "curve": [asdict(point) for point in calibration.told_curve],
    }


def _prompt(result: PromptResult, relative: Callable[[str], str]) -> dict[str, Any]:
    evaluation, verdict = result.evaluation, verdict_on(result)
    confusion = evaluation.confusion
    canonical, comparison = evaluation.canonical, result.comparison
    return {
        "name": evaluation.name,
        "path": relative(evaluation.path),
        "model": evaluation.model,
        "prompt_hash": evaluation.prompt_hash,
        "verdict": {"line": verdict.line, "direction": verdict.tone, "fails": verdict.fails},
        "served": [asdict(one) for one in evaluation.served],
        "repeats": evaluation.repeats,
        "noise": evaluation.noise and noise_as_json(evaluation.noise),
        "labeled": {
            "total": confusion.total,
            "correct": confusion.correct,
            "missing": confusion.missing,
            "unanswered": len(evaluation.unanswered),
            **({"abstained": confusion.abstained} if evaluation.decision.abstain_below else {}),
        },
        "canonical": {"total": len(canonical), "correct": sum(outcome.correct for outcome in canonical)},
        "metrics": {
            "accuracy": confusion.accuracy,
            "accuracy_ci95": list(wilson_interval(confusion.correct, confusion.total)) if confusion.total else None,
            "macro_f1": confusion.macro_f1,
            "labels": {
                label: {name: getattr(figures, name) for name in ("precision", "recall", "f1", "support")}
                for label, figures in confusion.by_label.items()
            },
            "confusion": confusion.table,
            "slices": {
                column: {
                    one.value: {
                        "total": one.total,
                        "correct": one.correct,
                        "accuracy": one.accuracy,
                        "accuracy_ci95": list(one.interval),
                    }
                    for one in slices
                }
                for column, slices in evaluation.by_slice.items()
            },
        },
        **({"confidence": _confidence(evaluation.calibration)} if evaluation.calibration else {}),
        "baseline": comparison
        and {
            "accuracy": comparison.accuracy,
            "fixed": len(comparison.fixed),
            "broken": len(comparison.broken),
            "p_value": comparison.p_value,
            "served": [asdict(one) for one in comparison.accepted.served] if comparison.accepted else [],
            "answered_by": comparison.answered_by,
        },
        "gates": [{"name": gate.name, "passed": gate.passed, "detail": gate.detail} for gate in result.gates],
        "usage": _picked(evaluation.usage, USAGE_KEYS),
        "cases": [
            {
                "id": outcome.sample.id,
                "kind": "canonical" if outcome.sample.canonical else "labeled",
                "label": outcome.sample.label,
                "predicted": outcome.predicted,
                "answers": list(outcome.answers),
                "correct": outcome.correct,
                "status": outcome.status,
                "outcome": result.verdicts[name],
                **_sure(outcome),
            }
            for name, outcome in evaluation.by_case.items()
        ],
    }


def noise_as_json(noise: Noise) -> dict[str, Any]:
    """Return the noise of a prompt and its model: counts, and shares from 0 to 1."""
    return {**asdict(noise), "share": noise.share, "share_ci95": list(noise.interval)}
