"""Under pytest-xdist: what must be refused, who runs which case, and what workers send when they end.

A worker on another machine (``--tx ssh=…``, ``--tx socket=…``) runs a copy of the project: its results are told by
this project's paths, and what it recorded is brought home.
"""

from __future__ import annotations

import platform
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import TypeAdapter

from pytest_promptfit.cassettes.cassette import Cassette, cassette_paths
from pytest_promptfit.evaluation.forward import IN_BATCHES
from pytest_promptfit.evaluation.verdicts import PromptResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_promptfit.cassettes.where import Where
    from pytest_promptfit.evaluation.outcomes import Evaluation

ONE_WORKER_A_FILE = ("loadgroup", "loadfile", "loadscope")
"""The ways of pytest-xdist to hand out cases that leave all cases of a prompt file on one worker."""


@dataclass(frozen=True)
class Parcel:
    """What a worker sends: the root of its project, its results, and ``{prompt file: {file: text}}`` of recordings.

    ``narrowed`` says what makes the run select less than the versions it is judged by; ``collected`` counts the
    prompt files that were found.
    """

    root: str = ""
    results: tuple[PromptResult, ...] = ()
    recordings: dict[str, dict[str, str]] = field(default_factory=dict)
    narrowed: tuple[str, ...] = ()
    collected: int = 0

    def dump(self) -> str:
        """Return the parcel as text."""
        return TypeAdapter(Parcel).dump_json(self).decode()

    @classmethod
    def load(cls, text: str) -> Parcel:
        """Read what ``dump`` wrote."""
        return TypeAdapter(Parcel).validate_json(text)

    def results_at(self, root: str) -> list[PromptResult]:
        """Return the results with the paths that they have in a project at ``root``."""
        if self.root == root:
            return list(self.results)
        moved = []
        for result in self.results:
            evaluation = result.evaluation
            outcomes = tuple(
                replace(one, sample=replace(one.sample, path=one.sample.path.replace(self.root, root)))
                for one in evaluation.outcomes
            )
            notes = tuple(note.replace(self.root, root) for note in evaluation.notes)
            path = evaluation.path.replace(self.root, root)
            moved.append(replace(result, evaluation=replace(evaluation, path=path, outcomes=outcomes, notes=notes)))
        return moved

    def recordings_at(self, root: str) -> dict[str, dict[str, str]]:
        """Return the recordings by the paths that the prompt files have in a project at ``root``."""
        return {path.replace(self.root, root): files for path, files in self.recordings.items()}


def place(root: Path) -> str:
    """Return what tells two copies of a project apart."""
    return f"{platform.node()}:{root}"


def recordings_of(results: Sequence[PromptResult], where: Where) -> dict[str, dict[str, str]]:
    """Return the cassette files of the prompts that were run, by the prompt files' paths."""
    found = {}
    for evaluation in (result.evaluation for result in results):
        folder = folder_of(evaluation, where)
        found[evaluation.path] = {path.name: path.read_bytes().decode() for path in cassette_paths(folder)}
    return found


def folder_of(evaluation: Evaluation, where: Where) -> Path:
    """Return the folder of the recordings that an evaluation rests on."""
    return where.of(Path(evaluation.path), evaluation.name, evaluation.other_model)


def bring_home(files: Mapping[str, str], folder: Path) -> None:
    """Put what was recorded on another machine into ``folder``, where it takes the place of what is older.

    Raises:
        CassetteError: the folder cannot be read or written.
    """
    from pytest_promptfit.cassettes.recorder import Recorder

    with tempfile.TemporaryDirectory() as name:
        for file, text in files.items():
            (Path(name) / file).write_bytes(text.encode())
        received = Cassette.load(Path(name))
    with Recorder.open(folder, replace=True) as recorder:
        for recorded in received:
            if recorder.cassette.find(recorded.key) != recorded:
                recorder.keep(recorded)


def is_distributed(config: pytest.Config) -> bool:
    """Tell whether pytest-xdist hands out the cases: to us as a worker, or by us to workers."""
    return is_worker(config) or getattr(config.option, "dist", "no") != "no"


def is_worker(config: pytest.Config) -> bool:
    """Tell whether this is a worker of pytest-xdist, which sets this on its config."""
    return hasattr(config, "workerinput")


def refuse_scattered_writing(config: pytest.Config) -> None:
    """Refuse to write under pytest-xdist when the cases of a prompt may land on several workers."""
    option = config.option
    if getattr(option, "dist", "no") == "no" or not getattr(option, "tx", None):
        return
    for name, given in (("--tune", option.promptfit_tune), ("--promptfit-canary", option.promptfit_canary)):
        if given:
            raise pytest.UsageError(f"{name} runs in one process: leave out pytest-xdist's -n")
    for name in ("budget", "max_calls"):
        if getattr(option, f"promptfit_{name}"):
            flag = name.replace("_", "-")
            raise pytest.UsageError(f"--promptfit-{flag} counts in one process: leave out pytest-xdist's -n")
    if option.promptfit_record in IN_BATCHES:
        raise pytest.UsageError(
            f"--promptfit-record={option.promptfit_record} runs in one process: leave out pytest-xdist's -n"
        )
    for name in ("record", "prune"):
        if getattr(option, f"promptfit_{name}") and option.dist not in ONE_WORKER_A_FILE:
            raise pytest.UsageError(
                f"--promptfit-{name} under pytest-xdist needs --dist loadgroup, so that a prompt stays on one worker"
            )
    if option.promptfit_prune and not all(tx.rpartition("*")[2].startswith("popen") for tx in option.tx):
        raise pytest.UsageError("--promptfit-prune deletes where it runs: run it here, without --tx ssh= or socket=")


def scheduler(config: pytest.Config, log: Any, is_prompt_file: Callable[[str], bool]) -> Any:
    """Return pytest-xdist's loadgroup scheduler with one group for each prompt file.

    The mark ``xdist_group`` would not do: pytest-xdist 3.8 writes it into a place that pytest 9.2 does not read.
    """
    from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]  # it has no types

    class PromptGroupScheduling(LoadGroupScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return path if is_prompt_file(path.rpartition("/")[2]) else str(super()._split_scope(nodeid))

    return PromptGroupScheduling(config, log)
