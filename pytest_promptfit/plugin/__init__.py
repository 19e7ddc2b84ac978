"""pytest's hooks and options, nothing else: what a plain ``pytest`` imports, so only pytest itself."""

from __future__ import annotations

import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKERS = (
    "promptfit: a case or gate of a prompt file.",
    "canonical: a sample that must never be got wrong.",
    "labeled: a labeled sample.",
    "gate: a figure over all labeled samples of a prompt file.",
    "canary: recorded samples of a prompt file asked again (--promptfit-canary).",
    "tune: the tuning run of a prompt file (--tune).",
)

WRITING = ("--promptfit-record", "--promptfit-update", "--promptfit-prune")
"""Options with which a run asks a model or writes what is committed."""

TUNING = ("--tune-dry-run", "--tune-seed", "--tune-engine", "--tune-iterations", "--tune-take")
"""Options of a tuning run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and ini settings."""
    group = parser.getgroup("promptfit", "classification prompts as test cases (pytest-promptfit)")
    group.addoption(
        "--promptfit",
        action="store_true",
        help="Collect prompt files and replay the recorded replies: offline, no key, no cost. "
        "Every other --promptfit-… option needs this one or --tune.",
    )
    _add_choice(
        group,
        "--promptfit-record",
        dest="promptfit_record",
        default="missing",
        help="Ask the model for the replies that are not recorded.",
        others={
            "all": "Ask the model for all replies, the recorded ones too.",
            "batch": "Collect what has come of the batches of earlier runs, submit what is not recorded to the batch "
            "API of OpenAI or Anthropic, at half the price, and leave.",
            "batch-cancel": "Cancel the batches that are under way, and collect what has come; submit nothing.",
        },
    )
    _add_choice(
        group,
        "--promptfit-update",
        dest="promptfit_update",
        default="yes",
        help="Accept today's outcomes as the baseline; refused when the regression gate fails.",
        others={"force": "Accept them although the regression gate fails."},
    )
    group.addoption(
        "--promptfit-model",
        metavar="PROVIDER/NAME",
        help="Ask this model instead of the files' own, and compare it with their baselines, which stay as they are. "
        "Its replies are kept apart.",
    )
    group.addoption(
        "--promptfit-canary",
        type=partial(_positive, "--promptfit-canary"),
        metavar="N",
        help="Ask N recorded samples of each prompt again, drawn at random, write nothing, and fail where the model "
        "answers otherwise beyond chance.",
    )
    group.addoption(
        "--promptfit-against",
        action="append",
        metavar="REF",
        help="Judge by a git ref too, such as origin/main: its baseline, samples and gates, so that a change cannot "
        "loosen its own gate. May be given several times.",
    )
    group.addoption(
        "--promptfit-accept-contract",
        action="store_true",
        help="With --promptfit-against: accept what the change takes from the samples, gates and reading of that "
        "version; judged is what both have.",
    )
    group.addoption(
        "--promptfit-prune",
        action="store_true",
        help="Delete recorded replies that this run, if it is a full one, never asked for.",
    )
    group.addoption(
        "--promptfit-concurrency",
        type=partial(_positive, "--promptfit-concurrency"),
        metavar="N",
        help="With --promptfit-record, --promptfit-canary or --tune: calls in flight at once (default: 16).",
    )
    group.addoption(
        "--promptfit-budget",
        type=_usd,
        metavar="USD",
        help="With --promptfit-record or --promptfit-canary: stop before this much is spent in the run; what was paid "
        "for is kept. "
        "(A tuning run is limited by tune.budget in the prompt file.)",
    )
    group.addoption(
        "--promptfit-max-calls",
        type=partial(_positive, "--promptfit-max-calls"),
        metavar="N",
        help="With --promptfit-record or --promptfit-canary: stop after N calls; what was paid for is kept.",
    )
    group.addoption(
        "--promptfit-allow-ci",
        action="store_true",
        help="Allow recording, updating, pruning, canaries and tuning although CI is set.",
    )
    group.addoption(
        "--promptfit-json",
        type=Path,
        metavar="PATH",
        help="Write the results as JSON, for machines.",
    )
    group.addoption(
        "--promptfit-report",
        type=Path,
        metavar="PATH",
        help="Write the results as one HTML page, for people: verdict, figures, every case, a tuning run's history.",
    )
    group.addoption(
        "--tune",
        "--promptfit-tune",
        action="store_true",
        dest="promptfit_tune",
        help="Improve every selected prompt and rewrite its YAML where that is earned, then run its cases. "
        "Asks the models for what is not recorded.",
    )
    group.addoption(
        "--tune-dry-run",
        action="store_true",
        help="With --tune: say what would be done and what it could cost; ask nothing, write nothing.",
    )
    group.addoption(
        "--tune-seed",
        type=partial(_whole, "--tune-seed"),
        metavar="N",
        help="With --tune: where all random choices start from (default: 0).",
    )
    group.addoption(
        "--tune-engine",
        choices=("promptfit", "gepa"),
        help="With --tune: who says what is tried: our own stages (default), or GEPA, on the same samples, budget and "
        "gate: pip install 'pytest-promptfit[gepa]'.",
    )
    group.addoption(
        "--tune-iterations",
        type=partial(_whole, "--tune-iterations"),
        metavar="N",
        help="With --tune: rounds of reflection, instead of the file's tune.iterations.",
    )
    group.addoption(
        "--tune-take",
        type=partial(_positive, "--tune-take"),
        metavar="N",
        help="With --tune: write candidate N of the table of steps, although it is not proven to be better.",
    )
    parser.addini(
        "promptfit_files",
        type="args",
        default=["*.prompt.yaml", "*.prompt.yml"],
        help="Names of prompt files (glob patterns).",
    )
    parser.addini("promptfit_cassettes", type="string", default="cassettes", help="Folder of the recorded replies.")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Announce the hooks that other plugins may implement."""
    from pytest_promptfit.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and, when it is asked for, the session that runs prompt files."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if not config.option.promptfit_tune:
        for name in _given(config, *TUNING):
            raise pytest.UsageError(f"{name} needs --tune: pytest --tune {name} …")
    if not (config.option.promptfit or config.option.promptfit_tune):
        _refuse_without_the_flag(config)
        return
    _refuse_writing(config)
    from pytest_promptfit.plugin.session import PromptfitSession

    config.pluginmanager.register(PromptfitSession(config), "promptfit-session")


def _add_choice(
    group: pytest.OptionGroup,
    name: str,
    *,
    dest: str,
    default: str,
    help: str,  # noqa: A002
    others: dict[str, str],
) -> None:
    """Add an option that may be given bare or as ``name=choice``, but never swallows the path behind it.

    An optional argument (``nargs="?"``) would take ``prompts/`` in ``--promptfit-record prompts/``.
    """
    group.addoption(name, f"{name}={default}", action="store_const", const=default, dest=dest, help=help)
    for other, said in others.items():
        group.addoption(f"{name}={other}", action="store_const", const=other, dest=dest, help=said)


def _given(config: pytest.Config, *names: str) -> Iterator[str]:
    """Yield the options that are given, a number of 0 among them."""
    values = ((name, config.getoption(name)) for name in names)
    return (name for name, value in values if value is not False and value not in (None, ""))


def _refuse_without_the_flag(config: pytest.Config) -> None:
    """Refuse our other options, and a prompt file among the paths: without the flag pytest would pass over them."""
    for name in _given(
        config,
        "--promptfit-record",
        "--promptfit-update",
        "--promptfit-model",
        "--promptfit-canary",
        "--promptfit-against",
        "--promptfit-accept-contract",
        "--promptfit-prune",
        "--promptfit-budget",
        "--promptfit-max-calls",
        "--promptfit-json",
        "--promptfit-report",
        "--promptfit-concurrency",
        "--promptfit-allow-ci",
    ):
        raise pytest.UsageError(f"{name} needs --promptfit: pytest --promptfit {name} …")
    for argument in config.args:
        path = argument.partition("::")[0]
        if path.endswith((".yaml", ".yml")) and Path(config.invocation_params.dir, path).is_file():
            name = Path(path).name
            if any(fnmatch.fnmatch(name, pattern) for pattern in config.getini("promptfit_files")):
                raise pytest.UsageError(f"{path!r} is a prompt file: pytest --promptfit {argument!r}")


def _refuse_writing(config: pytest.Config) -> None:
    """Refuse what costs money or rewrites files where it contradicts itself, or a CI system runs us unasked."""
    from pytest_promptfit.evaluation.forward import IN_BATCHES, is_ci

    option = config.option
    asks = option.promptfit_record or option.promptfit_canary
    for name in _given(config, *(() if asks else ("--promptfit-budget", "--promptfit-max-calls"))):
        instead = "; a tuning run is limited by tune.budget in the prompt file" if option.promptfit_tune else ""
        raise pytest.UsageError(f"{name} needs --promptfit-record or --promptfit-canary{instead}")
    if option.promptfit_record in IN_BATCHES and option.promptfit_tune:
        name = f"--promptfit-record={option.promptfit_record}"
        raise pytest.UsageError(f"{name} and --tune: a tuning run asks one thing after another: leave out one")
    for name in _given(config, *((*WRITING, "--tune") if option.promptfit_canary else ())):
        raise pytest.UsageError(f"{name} and --promptfit-canary: a canary writes nothing: leave out one")
    _refuse_with_another_model(config)
    for name in _given(config, *(WRITING if option.tune_dry_run else ())):
        raise pytest.UsageError(f"{name} and --tune-dry-run: a dry run asks and writes nothing: leave out one")
    if option.promptfit_allow_ci or not is_ci():
        return
    for name in _given(config, *WRITING, "--promptfit-canary", *(() if option.tune_dry_run else ("--tune",))):
        raise pytest.UsageError(f"{name} is refused while CI is set: add --promptfit-allow-ci if that is meant")


def _refuse_with_another_model(config: pytest.Config) -> None:
    """Refuse what would write, or judge by, the files' own model while another one is asked."""
    if config.option.promptfit_model is None:
        return
    why = {
        "--promptfit-update": "the baseline is that of the file's own model",
        "--promptfit-against": "a version is compared under its own model",
        "--tune": "tuning is for the file's own model",
    }
    for name in _given(config, *why):
        raise pytest.UsageError(f"{name} and --promptfit-model: {why[name]}, and stays as it is: leave out one")


def _positive(name: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise pytest.UsageError(f"{name} {text!r}: expected a whole number from 1")
    return number


def _whole(name: str, text: str) -> int:
    if not text.isdecimal():
        raise pytest.UsageError(f"{name} {text!r}: expected a whole number from 0")
    return int(text)


def _usd(text: str) -> float:
    from pytest_promptfit.providers.usage import read_usd

    amount = read_usd(text)
    if amount is None:
        raise pytest.UsageError(f"--promptfit-budget {text!r}: expected an amount in USD, such as 0.50")
    return amount
