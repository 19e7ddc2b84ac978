"""How a command asks a model: where that is wanted, within limits, and telling a person how far it is."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.evaluation.forward import Asking, is_ci
from pytest_promptfit.providers.usage import Limits
from pytest_promptfit.text import plain

if TYPE_CHECKING:
    from pathlib import Path


def read_asking(
    *,
    record: bool,
    allow_ci: bool,
    budget: float | None = None,
    max_calls: int | None = None,
    concurrency: int | None = None,
) -> Asking | None:
    """Return how a model is asked, by the options of a command; ``None`` without ``--record``.

    Raises PromptfitError for limits of a recording that nobody asked for, and for one that a CI system starts unasked.
    """
    for name, value in (("--budget", budget), ("--max-calls", max_calls), ("--concurrency", concurrency)):
        if value is not None and not record:
            raise PromptfitError(f"{name} needs --record")
    if not record:
        return None
    if is_ci() and not allow_ci:
        raise PromptfitError("--record is refused while CI is set: add --allow-ci if that is meant")
    limits = Limits(max_calls, budget, calls_option="--max-calls", usd_option="--budget")
    return Asking(limits, concurrency=concurrency or Asking.concurrency, progress=_show_progress, on_wait=say)


def record_command(*words: str, cassettes: Path | None) -> str:
    """Return the ``promptfit`` command that asks for what is missing, as it is typed."""
    where = ["--cassettes", str(cassettes)] if cassettes is not None else []
    return plain(shlex.join(["promptfit", *words, *where, "--record"]))


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\rasking {done:,}/{total:,}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def say(message: str) -> None:
    """Tell a person something beside what the command prints."""
    print(plain(message), file=sys.stderr)
