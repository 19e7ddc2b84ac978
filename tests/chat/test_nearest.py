"""Which samples are most like a text: as scikit-learn's own cosine says, the same every time, never the text itself."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from pytest_promptfit.chat.nearest import Neighbours
from pytest_promptfit.prompts.pool import Pool
from pytest_promptfit.prompts.samples import Sample, normal_form

if TYPE_CHECKING:
    import random

WORDS = ("parcel", "refund", "late", "broken", "invoice", "card", "lost", "where", "is", "my", "the", "new")
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=7).map(" ".join)
pools = st.lists(texts, min_size=1, max_size=25, unique=True)


def neighbours(pool: list[str], dev: frozenset[str] = frozenset()) -> Neighbours:
    return Neighbours(Pool(tuple(Sample(str(at), text, "ab"[at % 2]) for at, text in enumerate(pool)), dev))


def cosines(text: str, pool: list[str]) -> dict[str, float]:
    """Return how like the text each row is, computed by scikit-learn alone."""
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    # A vocabulary that knows the text's n-grams too, with the frequencies that they have among the rows.
    grams = sorted(set(vectorizer.build_analyzer()(" ".join([text, *pool]))))
    wider = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, vocabulary=grams)
    rows = wider.fit_transform(pool)
    return dict(zip(pool, cosine_similarity(wider.transform([text]), rows).ravel(), strict=True))


@given(texts, pools, st.integers(1, 64))
def test_the_most_similar_rows_are_shown_most_similar_last(text: str, pool: list[str], count: int) -> None:
    shown = [sample.text for sample in neighbours(pool).of(text, count)]

    likeness = cosines(text, pool)
    allowed = [row for row in pool if likeness[row] < 0.75 - 1e-6]
    assert len(shown) >= min(count, len(allowed))
    assert all(likeness[row] < 0.75 + 1e-6 for row in shown)
    said = [likeness[row] for row in shown]
    assert all(before <= after + 2e-6 for before, after in pairwise(said))
    others = [likeness[row] for row in allowed if row not in shown]
    assert not others or not said or max(others) <= said[0] + 2e-6


@given(texts, pools, st.integers(1, 12), st.randoms(use_true_random=False))
def test_the_same_pool_gives_the_same_rows_whatever_was_asked_before(
    text: str, pool: list[str], count: int, draw: random.Random
) -> None:
    one, other = neighbours(pool), neighbours(pool)
    for _ in range(3):
        other.of(draw.choice(pool), draw.randint(1, 9))

    assert one.of(text, count) == other.of(text, count) == one.of(text, count)
    assert [s.text for s in one.of(text, count)] == [s.text for s in one.of(text, count + 1)][-count:]


@given(pools, st.data())
def test_no_row_is_shown_before_itself(pool: list[str], data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(pool))
    spaced = text.replace(" ", "  \n") + " "

    for asked in (text, spaced, text.upper()):
        assert text not in [sample.text for sample in neighbours(pool).of(asked, 64)]


def test_what_is_nearly_the_text_is_left_out_and_a_paraphrase_is_not() -> None:
    asked = "Where is the parcel that I ordered two weeks ago?"
    pool = [
        "Where is the parcel that I ordered two weeks ago",
        "where is the parcel that i orderd two weeks ago?",
        "Where is the parcel which was ordered by my wife?",
        "The invoice names the wrong company.",
    ]
    assert [sample.text for sample in neighbours(pool).of(asked, 4)] == [pool[3], pool[2]]


def test_accents_written_in_two_ways_are_one_text() -> None:
    pool = ["Le caf\u00e9 est froid", "Le pain est dur"]
    assert [sample.text for sample in neighbours(pool).of("Le cafe\u0301 est froid", 5)] == [pool[1]]


def test_equally_similar_rows_come_in_the_order_of_the_pool() -> None:
    pool = ["red boat", "red coat", "red goat", "red moat"]
    first = [sample.text for sample in neighbours(pool).of("red xxxx", 2)]
    assert first == ["red coat", "red boat"]
    assert [sample.text for sample in neighbours(pool[::-1]).of("red xxxx", 2)] == ["red goat", "red moat"]


def test_a_text_that_shares_nothing_still_gets_its_examples() -> None:
    assert [sample.text for sample in neighbours(["abc", "def"]).of("\u65e5\u672c\u8a9e", 8)] == ["def", "abc"]


def test_a_text_of_dev_meets_no_other_text_of_dev() -> None:
    pool = [f"where is parcel number {word}" for word in ("one", "two", "six", "ten")]
    dev = frozenset(map(normal_form, pool[:2]))
    shown = neighbours(pool, dev)
    assert {sample.text for sample in shown.of(pool[0], 8)} <= set(pool[2:])
    assert {sample.text for sample in shown.of("a parcel, where", 8)} == set(pool)


def test_an_empty_pool_has_no_rows() -> None:
    assert list(neighbours([]).of("a text", 8)) == []
