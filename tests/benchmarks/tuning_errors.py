"""How often a whole tuning run is wrong, and how often right: ``python -m tests.benchmarks.tuning_errors``.

The real pipeline, in this process: search, races, patches, pruning and the final decision, with recordings and
files. Only the models are made up, as the user's own functions. Every prompt but the one in the file has the same
true accuracy, ``gain`` above the file's: with a gain of 0 every rewrite is an error, with 0.1 every file that is left
alone is a chance missed.

A sample is as hard for one prompt as for another, but for the share ``noise`` of samples that a prompt decides anew:
at .2 two equally good prompts differ on a sixth of the samples, at 1 on nearly half.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from pytest_promptfit.evaluation.metrics import wilson_interval
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples
from pytest_promptfit.providers.own import Custom
from pytest_promptfit.tuning.run import TuneOptions, tune_prompt
from tests.benchmarks.measuring import Table, main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_promptfit.tuning.result import TuneResult
    from pytest_promptfit.tuning.search import Engine
    from tests.benchmarks.measuring import Row, Size

RUNS: dict[Size, int] = {"tiny": 2, "usual": 80, "full": 400}
ACCURACY = 0.6
SAMPLES, CALLS = 160, 3000
LABELS = ("good", "bad", "dull", "odd", "loud", "calm")
REASON = "one short reason first"

PROMPT = """\
name: noisy
model: {{provider: openai, name: task, base_url: "http://127.0.0.1:9/v1"}}
prompt:
  system_prompt: "What is the mood: {{labels}}?"
  user_prompt_suffix: "Answer with Label: <label>good</label>, or another label."
labels: [{labels}]
samples: {{file: rows.csv}}
tune:
  model: {{provider: openai, name: optimizer, base_url: "http://127.0.0.1:9/v1"}}
  iterations: 5
  budget: {{task_calls: {calls}, optimizer_calls: 20}}
"""


@dataclass(frozen=True)
class Setting:
    """One kind of run: true gain of every other prompt, how much two prompts differ, samples, task calls, engine."""

    gain: float = 0.0
    noise: float = 0.2
    samples: int = SAMPLES
    calls: int = CALLS
    engine: Engine = "promptfit"


class NoisyModels:
    """A task model whose prompts are all equally good but for the first one, and an optimizer with nothing to say."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self._setting, self._seed = setting, seed
        self._first = ""
        self._advice = 0

    def __call__(self, body: dict[str, Any]) -> str:
        """Return the reply to a request."""
        return self._advised(json.dumps(body["messages"])) if body["model"] == "optimizer" else self._label(body)

    def _label(self, body: dict[str, Any]) -> str:
        said = json.dumps(body["messages"])
        text = re.findall(rf"case (\d+) is ({'|'.join(LABELS)})", said)[-1]
        prompt = said.replace(f"case {text[0]} is {text[1]}", "")
        self._first = self._first or prompt
        accuracy = ACCURACY + (self._setting.gain if prompt != self._first else 0.0)
        decides_anew = self._draw("anew", text[0], prompt) < self._setting.noise
        place = self._draw("own", text[0], prompt) if decides_anew else self._draw("shared", text[0])
        other = LABELS[LABELS.index(text[1]) - 1]
        reason = "One can see it by the words of this case. " if REASON in said else ""
        return f"{reason}Label: <label>{text[1] if place < accuracy else other}</label>"

    def _advised(self, asked: str) -> str:
        self._advice += 1
        if "new instructions within ```" in asked:  # by GEPA
            is_form = "`user_prompt_suffix`" in asked
            kept = "Answer Label: <label>good</label>, or another label." if is_form else "What is the mood: {labels}?"
            return f"```\n{kept} Remember piece of advice number {self._advice}.\n```"
        if "whole prompt" in asked:  # a draft or a rewrite
            notes = dict.fromkeys(LABELS, f"as told by piece of advice number {self._advice}")
            text = f"Remember piece of advice number {self._advice}. What is the mood: {{labels}}?"
            return json.dumps({"system_prompt": text, "label_notes": notes})
        patch = {"field": "system_prompt", "op": "append", "find": "", "targets": [], "reason": "sounds wise"}
        return json.dumps({"patches": [{**patch, "text": f"Remember piece of advice number {self._advice}."}]})

    def _draw(self, *about: str) -> float:
        digest = hashlib.blake2b("\n".join((str(self._seed), *about)).encode(), digest_size=7).digest()
        return int.from_bytes(digest) / (1 << 56)


def tuned(folder: Path, setting: Setting, seed: int) -> TuneResult:
    """Return what one run in an empty folder comes to."""
    labels = [LABELS[at % len(LABELS)] for at in range(setting.samples)]
    rows = [f"case {seed * 10_000 + at} is {label},{label}\n" for at, label in enumerate(labels)]
    folder.joinpath("rows.csv").write_text("".join(["text,label\n", *rows]), encoding="utf-8")
    path = folder / "noisy.prompt.yaml"
    path.write_text(PROMPT.format(calls=setting.calls, labels=", ".join(LABELS)), encoding="utf-8")
    parsed = parse_prompt_file(path)
    models = NoisyModels(setting, seed)
    options = TuneOptions(seed=seed, engine=setting.engine, custom=Custom(client=lambda _: models))
    return tune_prompt(parsed, read_samples(parsed), folder / "cassettes", options)


def results(setting: Setting, runs: int) -> Iterator[TuneResult]:
    """Yield the results of so many runs, each with other samples and other replies."""
    for seed in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            yield tuned(Path(folder), setting, seed)


def tables(_: Path, size: Size) -> Iterator[Table]:
    """Measure how often files are rewritten, by the true gain."""
    settings = [Setting(gain, noise) for noise in (0.2, 1.0) for gain in (0.0, 0.05, 0.1, 0.15)]
    settings += [Setting(gain, calls=600) for gain in (0.0, 0.1)]
    settings += [Setting(gain, engine="gepa") for gain in (0.0, 0.1)]
    yield Table("Whole runs", [_row(setting, RUNS[size]) for setting in settings])


def _row(setting: Setting, runs: int) -> Row:
    found = list(results(setting, runs))
    rewritten = [result for result in found if result.accepted]
    low, high = wilson_interval(len(rewritten), runs)
    on_holdout = [result.holdout.gain for result in rewritten if result.holdout]
    on_fresh = [result.fresh.gain for result in rewritten if result.fresh]
    return {
        "engine": setting.engine,
        "true gain": setting.gain,
        "noise": setting.noise,
        "calls": setting.calls,
        "runs": runs,
        "rewritten": len(rewritten) / runs,
        "from": low,
        "to": high,
        "holdout's gain less true": mean(on_holdout) - setting.gain if on_holdout else None,
        "fresh samples'": mean(on_fresh) - setting.gain if on_fresh else None,
        "task calls": mean(result.usage.task_calls for result in found),
        "optimizer calls": mean(result.usage.optimizer_calls for result in found),
    }


if __name__ == "__main__":
    main("tuning_errors", tables, __doc__)
