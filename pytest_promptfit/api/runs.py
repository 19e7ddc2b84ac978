"""``evaluate`` and ``tune``: the plugin's forward pass and its tuning run for scripts and notebooks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_promptfit.cassettes.where import Where
from pytest_promptfit.evaluation.forward import Asking, RecordMode, forward
from pytest_promptfit.prompts.model import parse_prompt_file
from pytest_promptfit.prompts.samples import Sample, given_samples, read_samples
from pytest_promptfit.providers.own import OURS, Custom
from pytest_promptfit.providers.wire import refuse_keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_promptfit.api.classifier import Classifier
    from pytest_promptfit.evaluation.outcomes import Evaluation
    from pytest_promptfit.providers.own import Extract, MakeClient
    from pytest_promptfit.tuning.result import TuneResult


def evaluate(
    prompt: str | Path | Classifier,
    samples: Iterable[Sample | tuple[str, str]] | None = None,
    *,
    record: RecordMode | None = None,
    cassettes: str | Path | None = None,
    concurrency: int = 16,
    max_calls: int | None = None,
    max_usd: float | None = None,
    client: MakeClient | None = None,
    extract: Extract | None = None,
) -> Evaluation:
    """Run a prompt file over samples and return the same Evaluation as the plugin's.

    Args:
        prompt: a prompt file's path, or the classifier that ``load_prompt`` made of it.
        samples: ``Sample`` or ``(text, label)``; default: those of the prompt file.
        record: ``"missing"`` or ``"all"`` to ask the model; default: replay only, without network.
        cassettes: the folder of all recordings; default: where pytest has them (``where``).
        concurrency: calls in flight at once while recording.
        max_calls: stop asking after so many calls.
        max_usd: stop asking before so much is spent.
        client: returns a new client or model for a ``ModelSpec``, as in ``load_prompt``; default: the
            classifier's, else ours.
        extract: reads the label of ``(reply, text)``, as in ``load_prompt``; default: the same.

    Raises:
        PromptfitError: the prompt file or a sample is wrong, or the model cannot be asked.
    """
    path = Path(prompt) if isinstance(prompt, str | Path) else prompt.path
    parsed = parse_prompt_file(path)
    sample_set = read_samples(parsed) if samples is None else given_samples(parsed, samples)
    refuse_keys(parsed, sample_set.samples)
    folder = _where(cassettes).of(path, parsed.name)
    theirs = OURS if isinstance(prompt, str | Path) else prompt.custom
    custom = replace(theirs, client=client or theirs.client, extract=extract or theirs.extract)
    asking = None
    if record is not None:
        from pytest_promptfit.providers.usage import Limits

        limits = Limits(max_calls, max_usd, calls_option="max_calls", usd_option="max_usd")
        asking = Asking(limits, mode=record, concurrency=concurrency)
    return forward(parsed, sample_set, sample_set.samples, folder, asking=asking, custom=custom)


def tune(
    prompt_path: str | Path,
    *,
    seed: int = 0,
    iterations: int | None = None,
    cassettes: str | Path | None = None,
    concurrency: int = 16,
    client: MakeClient | None = None,
    extract: Extract | None = None,
) -> TuneResult:
    """Improve a prompt file as ``pytest --tune`` does: the YAML is rewritten where that is earned.

    Args:
        prompt_path: the prompt file.
        seed: where all random choices start from.
        iterations: rounds of reflection; default: the file's ``tune.iterations``.
        cassettes: the folder of all recordings; default: where pytest has them (``where``).
        concurrency: calls in flight at once.
        client: returns a new client or model for a ``ModelSpec``, the optimizer's too, as in ``load_prompt``.
        extract: reads the label of ``(reply, text)``, as in ``load_prompt``.

    Raises:
        PromptfitError: the prompt file is wrong, or a model cannot be asked; the file is then as it was.
    """
    from pytest_promptfit.tuning.run import TuneOptions, tune_prompt

    path = Path(prompt_path)
    parsed = parse_prompt_file(path)
    folder = _where(cassettes).of(path, parsed.name)
    custom = Custom(client, extract)
    options = TuneOptions(seed=seed, iterations=iterations, concurrency=concurrency, custom=custom)
    sample_set = read_samples(parsed)
    refuse_keys(parsed, sample_set.samples)
    return tune_prompt(parsed, sample_set, folder, options)


def _where(cassettes: str | Path | None) -> Where:
    return Where(Path(cassettes) if cassettes is not None else None)
