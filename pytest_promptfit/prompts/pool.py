"""The pool of a prompt's nearest examples: which labeled rows may be shown before which text.

What a prompt is judged by is not in it: no canonical sample, and nothing of the holdout. Which of its rows are like a
text is told in ``chat.nearest``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING

from pytest_promptfit.prompts.model import NearestExamples
from pytest_promptfit.prompts.samples import data_path, normal_form, path_beside, read_samples, rows_of
from pytest_promptfit.prompts.split import split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pytest_promptfit.prompts.model import InlineSample
    from pytest_promptfit.prompts.read import ParsedPrompt
    from pytest_promptfit.prompts.samples import Sample

PLACE = ("prompt", "examples", "from")


@dataclass(frozen=True)
class Pool:
    """Rows that may be shown before a text, in the order of their file.

    A text that is one of ``dev`` meets none of those: candidates are compared on dev, and so a prompt that won asks
    afterwards what it asked while it was tuned. All other texts meet all rows. Forms are those of ``normal_form``.
    """

    rows: tuple[Sample, ...] = ()
    dev: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The name of the file that the rows are from; ``""`` where there are none."""
        return PurePath(self.rows[0].path).name if self.rows else ""


@lru_cache(maxsize=8)
def pool_of(parsed: ParsedPrompt, labels: tuple[str, ...]) -> Pool:
    """Return the pool of a prompt's nearest examples, read once; an empty one where it has no such examples.

    From the samples' own file it has what a tuning run calls train and dev. Another file gives all its rows but
    the canonical ones: a sample that stands there too is never shown to itself. Raises PromptFileError for the first
    mistake.
    """
    config = parsed.config
    examples = config.prompt.examples
    if not isinstance(examples, NearestExamples):
        return Pool()
    if examples.file is not None and pool_path(parsed) != data_path(parsed):
        rows = rows_of(parsed, examples.file, labels, PLACE).samples
        return _without_canonical(rows, [*config.canonical, *(row for row in rows if row.canonical)])
    if config.samples is None:
        raise parsed.error("prompt.examples.from: missing: expected a file, as there are no samples", *PLACE[:2])
    pool = own_pool(read_samples(parsed).samples)
    if not pool.rows:
        raise parsed.error("prompt.examples: the samples have no row for it but canonical ones", *PLACE[:2])
    return pool


def own_pool(samples: Sequence[Sample]) -> Pool:
    """Return the pool that a prompt's own samples make: those neither canonical nor, by the split's hash, holdout."""
    parts = split(samples)
    known = {sample.id for sample in (*parts.train, *parts.dev)}
    rows = tuple(sample for sample in samples if not sample.canonical and sample.id in known)
    return Pool(rows, frozenset(normal_form(sample.text) for sample in parts.dev))


def pool_path(parsed: ParsedPrompt) -> Path | None:
    """Return where the pool's file should be; ``None`` where the prompt names none."""
    examples = parsed.config.prompt.examples
    file = examples.file if isinstance(examples, NearestExamples) else None
    return None if file is None else path_beside(parsed, file)


def _without_canonical(rows: Sequence[Sample], canonical: Iterable[Sample | InlineSample]) -> Pool:
    left_out = {normal_form(sample.text) for sample in canonical}
    return Pool(tuple(row for row in rows if normal_form(row.text) not in left_out))
