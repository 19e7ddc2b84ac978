"""Which labeled samples are most like a text, and which labels it may have: what a prompt chooses for each text.

Pure: the samples are read in ``prompts.pool``. scikit-learn is loaded by the first text, never by a prompt without.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from pytest_promptfit.chat.free_classifier import MOST_ROWS, FreeClassifier
from pytest_promptfit.prompts.samples import normal_form
from pytest_promptfit.prompts.split import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pytest_promptfit.prompts.pool import Pool
    from pytest_promptfit.prompts.samples import Sample

NGRAMS = (3, 5)
"""Characters; with logarithmic counts the best of five ranges from 1 to 5, as a vote of 8 neighbours on four tasks."""

NEAR_DUPLICATE = 0.75
"""Cosine from which a sample counts as the text itself, said a little differently, and is left out.

Measured on seven sets of texts, 4,880 rows: of their copies with one letter changed, a word dropped or added, another
end, or no punctuation, 95 to 100 % are at least so alike (at .80: 90 to 99 %); of the rows themselves 12, such as "What
is the speed of light ?" beside "How fast is the speed of light ?" (at .70: 18). What is so near tells the answer, and a
figure that rests on it would not count.
"""

DECIMALS = 6
"""Of a similarity: sums of floats differ in the last digits from one platform to the next."""


class ChoosesExamples(Protocol):
    """What finds the samples that a text is shown after, and the labels that it may have."""

    def of(self, text: str, count: int, labels: Collection[str] | None = None) -> Sequence[Sample]:
        """Return ``count`` samples of some labels, default all, the most similar one last.

        Fewer where there are not so many.
        """

    def likeliest(self, text: str, count: int) -> Sequence[str]:
        """Return ``count`` labels, the likeliest first; fewer where the samples have not so many."""


@dataclass(frozen=True)
class Neighbours:
    """The samples of a pool by how like a text they are: the cosine of their character n-gram TF-IDF.

    Equally similar ones come in the order of the pool. The text itself, in any spelling of white space, and its
    near-duplicates are left out, in production too: what is measured is what is sent.
    """

    pool: Pool

    def of(self, text: str, count: int, labels: Collection[str] | None = None) -> Sequence[Sample]:
        """Return the ``count`` samples of the pool that are most like a text, the most similar one last.

        With ``labels`` those of other labels are left out.
        """
        if not self.pool.rows:
            return ()
        likeness = self._likeness(normal_form(text))
        for label in self._by_label.keys() - set(labels or self._by_label):
            likeness[self._by_label[label]] = -1.0
        count = min(count, int((likeness >= 0).sum()))
        if not count:
            return ()
        ordered = likeness.copy()
        ordered.partition(len(ordered) - count)
        candidates = (likeness >= ordered[-count:].min()).nonzero()[0]
        order = (-likeness[candidates]).argsort(kind="stable")[:count]
        return [self.pool.rows[at] for at in candidates[order][::-1]]

    def likeliest(self, text: str, count: int) -> Sequence[str]:
        """Return the ``count`` labels that are likeliest by a classifier without a language model.

        It has learned from the samples that the text may be shown after, and no others.
        """
        if not self.pool.rows:
            return ()
        form = normal_form(text)
        likeness = self._likeness(form)
        places, classifier = self._classifier_for_dev if form in self.pool.dev else self._classifier
        return classifier.ranked(text, (likeness[places] < 0).nonzero()[0])[:count]

    def _likeness(self, form: str) -> Any:
        """Return how like a text each sample is, -1 for what it may not be shown after: an array."""
        likeness = self._index.likeness(form)
        likeness[self._places.get(form, [])] = 1.0
        likeness[likeness >= NEAR_DUPLICATE] = -1.0
        if form in self.pool.dev:
            likeness[self._dev] = -1.0
        return likeness

    @cached_property
    def _classifier(self) -> tuple[list[int], FreeClassifier]:
        return self._learned(range(len(self.pool.rows)))

    @cached_property
    def _classifier_for_dev(self) -> tuple[list[int], FreeClassifier]:
        dev = set(self._dev)
        return self._learned([at for at in range(len(self.pool.rows)) if at not in dev])

    def _learned(self, places: Sequence[int]) -> tuple[list[int], FreeClassifier]:
        """Return a classifier that knows the samples at some places of the pool, as far as it learns from so many."""
        # In an order that the file does not decide, so that its rows may move.
        known = sorted(places, key=lambda at: place_of(self.pool.rows[at].text))[:MOST_ROWS]
        return known, FreeClassifier.of([self.pool.rows[at] for at in known])

    @cached_property
    def _by_label(self) -> Mapping[str, list[int]]:
        places: dict[str, list[int]] = {}
        for at, sample in enumerate(self.pool.rows):
            places.setdefault(sample.label, []).append(at)
        return places

    @cached_property
    def _index(self) -> _Index:
        return _Index.of([normal_form(sample.text) for sample in self.pool.rows])

    @cached_property
    def _dev(self) -> list[int]:
        return [at for form in self.pool.dev for at in self._places.get(form, ())]

    @cached_property
    def _places(self) -> Mapping[str, list[int]]:
        places: dict[str, list[int]] = {}
        for at, sample in enumerate(self.pool.rows):
            places.setdefault(normal_form(sample.text), []).append(at)
        return places


@dataclass(frozen=True)
class _Index:
    """Texts as ``TfidfVectorizer`` weighs them, by n-gram: a text is compared with those alone that share one.

    That is ten times faster than the product of all rows; ``tests.benchmarks.nearest`` measures it.
    """

    grams_of: Callable[[str], list[str]]
    number_of: Mapping[str, int]
    weights: Sequence[float]
    """The inverse document frequency of each n-gram."""
    by_gram: Any
    """A sparse matrix, n-grams by texts, whose columns have length 1."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Index:
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=NGRAMS, sublinear_tf=True)
        by_text = vectorizer.fit_transform(texts)
        return cls(vectorizer.build_analyzer(), vectorizer.vocabulary_, vectorizer.idf_.tolist(), by_text.T.tocsr())

    def likeness(self, text: str) -> Any:
        """Return the cosine of a text and each text of the index, from 0 to 1, rounded: an array."""
        texts, known, squares = self.by_gram.shape[1], [], 0.0
        for gram, count in Counter(self.grams_of(text)).items():
            # What no row has is a part of the text all the same, else a row would be all of a text that contains it.
            at = self.number_of.get(gram)
            weight = (1 + math.log(count)) * (1 + math.log(1 + texts) if at is None else self.weights[at])
            squares += weight * weight
            if at is not None:
                known.append((at, weight))
        columns = sorted(known)
        length = math.sqrt(squares) or 1.0
        cells = [weight / length for _, weight in columns], [at for at, _ in columns], [0, len(columns)]
        row = type(self.by_gram)(cells, shape=(1, len(self.weights)))
        return (row @ self.by_gram).toarray().ravel().round(DECIMALS)
