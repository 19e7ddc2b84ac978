"""What a classifier without any language model makes of the same samples: it costs nothing, and may be enough."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_promptfit.prompts.samples import normal_form
from pytest_promptfit.prompts.split import place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_promptfit.prompts.samples import Sample

WORD = r"\S+"
MOST_ROWS = 4000
"""Samples that it learns from: of more it takes these, which takes seconds and not minutes."""


def predictions(known: Sequence[Sample], texts: Sequence[str]) -> list[str]:
    """Return a label for each text, learned from the ``known`` samples.

    Logistic regression on TF-IDF of words, pairs of words and character n-grams (2 to 5), labels weighted alike: one
    fixed setting. From 250 rows of AG News, Emotion, TREC and SST-5 it gets .80, .45, .70 and .30 of 300 other rows
    right. Deterministic. Raises ValueError without samples.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    rows = sorted(known, key=lambda sample: place_of(sample.text))[:MOST_ROWS]
    labels = Counter(sample.label for sample in rows)
    if not labels:
        raise ValueError("expected samples to learn from")
    if len(labels) == 1 or not texts:
        return [next(iter(labels)) for _ in texts]
    rare = 2 if len(rows) > 1000 else 1  # what stands in one text of a thousand only makes it slow
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD, sublinear_tf=True, min_df=rare)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=rare)
    model = make_pipeline(make_union(words, letters), LogisticRegression(C=10, class_weight="balanced", max_iter=1000))
    try:
        model.fit([normal_form(sample.text) for sample in rows], [sample.label for sample in rows])
    except ValueError:  # no text has a word in it
        return [labels.most_common(1)[0][0] for _ in texts]
    return [str(label) for label in model.predict([normal_form(text) for text in texts])]
