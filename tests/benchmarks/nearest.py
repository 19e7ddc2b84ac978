"""What it takes to find the nearest examples of a text: ``python -m tests.benchmarks.nearest``.

Made-up texts of 4 to 24 words, as rare as those of real ones. The peer, in the same run, is scikit-learn's own way: the
text is vectorized, its cosine with all rows computed, and the best eight are sorted out. Milliseconds are those of CPU,
which hold when other processes want the machine too.
"""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from pytest_promptfit.chat.nearest import NGRAMS, Neighbours
from pytest_promptfit.prompts.pool import Pool
from pytest_promptfit.prompts.samples import Sample
from tests.benchmarks.measuring import Table, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.benchmarks.measuring import Size

ROWS: dict[Size, tuple[int, ...]] = {"tiny": (200,), "usual": (1000, 10_000), "full": (1000, 10_000, 50_000)}
TEXTS = 200
EXAMPLES = 8
WORDS = 20_000


def texts(count: int, draw: random.Random) -> list[str]:
    """Return texts of made-up words, a few of which are in every other text, as Zipf's law has it."""
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(WORDS)]
    weights = [1 / (rank + 3) for rank in range(WORDS)]
    return [" ".join(draw.choices(words, weights, k=draw.randint(4, 24))) for _ in range(count)]


def milliseconds(find: Callable[[str], object], asked: Sequence[str]) -> float:
    """Return the median CPU time of one text."""
    taken = []
    for text in asked:
        started = time.process_time()
        find(text)
        taken.append((time.process_time() - started) * 1000)
    return statistics.median(taken)


def row_of(count: int) -> dict[str, object]:
    """Measure a pool of so many rows."""
    made = texts(count + TEXTS, random.Random(0))
    pool, asked = made[:count], made[count:]
    neighbours = Neighbours(Pool(tuple(Sample(str(at), text, "a") for at, text in enumerate(pool))))
    started = time.process_time()
    neighbours.of(asked[0], EXAMPLES)
    built = time.process_time() - started
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=NGRAMS, sublinear_tf=True)
    rows = vectorizer.fit_transform(pool)

    def brute_force(text: str) -> object:
        likeness = cosine_similarity(vectorizer.transform([text]), rows).ravel()
        return np.argsort(-likeness, kind="stable")[:EXAMPLES]

    ours = milliseconds(lambda text: neighbours.of(text, EXAMPLES), asked)
    theirs = milliseconds(brute_force, asked)
    return {
        "rows": count,
        "index, s": round(built, 2),
        "ours, ms a text": round(ours, 3),
        "scikit-learn, ms a text": round(theirs, 3),
        "times faster": round(theirs / ours, 1),
    }


def tables(_folder: Path, size: Size) -> Iterator[Table]:
    """Yield one table: a row for each size of the pool."""
    yield Table(f"the {EXAMPLES} nearest rows of {TEXTS} texts", [row_of(count) for count in ROWS[size]])


if __name__ == "__main__":
    main("nearest", tables, __doc__)
