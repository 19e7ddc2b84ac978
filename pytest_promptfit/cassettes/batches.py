"""What is under way in batches: which they are and what each one asks, noted beside the recordings.

The notes stay until the replies are collected. Git ignores their folder, by what lies in it: a batch is known to one
account alone. Nothing is sent here.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Self

from pytest_promptfit.cassettes.cassette import Asked
from pytest_promptfit.errors import CassetteError
from pytest_promptfit.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FOLDER = "batch"
"""The folder of the notes, among a prompt's recordings."""

INDEX = "batches.json"


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that are answered together, some time.

    ``mark`` is our own name for it, known before it is submitted; ``id`` is the API's, and empty as long as nobody
    knows whether the API has it. ``submitted`` is in seconds since 1970.
    """

    mark: str
    requests: int
    submitted: int
    id: str = ""


class UnderWay:
    """The batches of one folder of recordings whose replies are not collected; ``read`` opens them.

    Raises CassetteError where a note cannot be read or written.
    """

    def __init__(self, folder: Path, batches: Sequence[Batch] = ()) -> None:
        self.batches = tuple(batches)
        self._folder = folder

    @classmethod
    def read(cls, recordings: Path) -> Self:
        """Return what is under way for a folder of recordings: nothing where no notes are."""
        folder = recordings / FOLDER
        try:
            text = (folder / INDEX).read_text(encoding="utf-8")
            return cls(folder, [Batch(**noted) for noted in json.loads(text)["batches"]])
        except (FileNotFoundError, NotADirectoryError):
            return cls(folder)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise cls(folder)._unreadable(error) from None

    def begin(self, asked: Sequence[Asked]) -> Batch:
        """Note what is about to be submitted, so that whatever happens then is known."""
        batch = Batch(os.urandom(16).hex(), len(asked), int(time.time()))
        noted = ({"url": one.url, "sample": one.sample, "body": one.payload, "repeat": one.repeat} for one in asked)
        lines = "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in noted)
        with self._writing():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / ".gitignore", "*\n")
            write_atomically(self._requests(batch), lines)
        self._write((*self.batches, batch))
        return batch

    def name(self, batch: Batch, id: str) -> Batch:  # noqa: A002
        """Note which batch of the API it is."""
        named = replace(batch, id=id)
        self._write(tuple(named if one.mark == batch.mark else one for one in self.batches))
        return named

    def end(self, batch: Batch) -> None:
        """Forget a batch; with the last one the folder goes."""
        self._write(tuple(one for one in self.batches if one.mark != batch.mark))
        with self._writing():
            self._requests(batch).unlink(missing_ok=True)
            if not self.batches:
                shutil.rmtree(self._folder)

    def asked(self, batch: Batch) -> dict[str, Asked]:
        """Return what a batch asks, by key."""
        try:
            lines = self._requests(batch).read_text(encoding="utf-8").split("\n")
            noted = (json.loads(line) for line in lines if line)
            asked = [Asked.of(one["url"], one["body"], one["sample"], repeat=one.get("repeat", 0)) for one in noted]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise self._unreadable(error) from None
        return {one.key: one for one in asked}

    @property
    def keys(self) -> set[str]:
        """The keys of all that is asked."""
        return {key for batch in self.batches for key in self.asked(batch)}

    def _requests(self, batch: Batch) -> Path:
        return self._folder / f"{batch.mark}.jsonl"

    def _write(self, batches: tuple[Batch, ...]) -> None:
        text = json.dumps({"version": 1, "batches": [asdict(batch) for batch in batches]}, indent=1)
        with self._writing():
            write_atomically(self._folder / INDEX, f"{text}\n")
        self.batches = batches

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            from pytest_promptfit.cassettes.recorder import cannot_write

            raise cannot_write(self._folder, error) from None

    def _unreadable(self, error: Exception) -> CassetteError:
        what = getattr(error, "strerror", None) or "not as it was written"
        return CassetteError(
            f"{self._folder}: the notes of batches under way cannot be read ({what}); delete this folder: "
            "what is under way is then asked, and paid, again"
        )
