"""Where each labeled sample goes, train, dev or holdout, and where every random choice is drawn from.

Pure functions of texts and seeds: what is done with the parts lives where prompts are tuned.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import TYPE_CHECKING, Final, TypeVar

from pytest_promptfit.prompts.samples import normal_form

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    from pytest_promptfit.prompts.samples import Sample


TRAIN_END: Final = 0.4
"""Train is 40 %: the mistakes shown to the optimizer, and the pool of examples."""

DEV_END: Final = 0.8
"""Dev is the next 40 %: what candidates are compared on. The rest is the holdout, looked at once."""

ENOUGH_FOR_A_CLAIM: Final = 60
"""With fewer labeled samples, dev and holdout are too small to tell a usual gain from chance."""

NAMED: Final = 5
"""So many labels are named in a warning; the others are counted."""

T = TypeVar("T")


def shuffled(items: Sequence[T], rng: random.Random) -> list[T]:
    """Return the items in random order; ``Random.shuffle`` may differ from one Python to the next, this does not."""
    return [item for _, _, item in sorted((rng.random(), at, item) for at, item in enumerate(items))]


def stratified_order(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Return the samples in a random order in which every prefix has the labels in their shares of the whole.

    The n samples of a label are spread evenly: the i-th of them, from 0, goes to (i + 1/2) / n. With two or
    three labels a prefix is off by less than one sample in each. The order depends on the seed and the
    texts, not on the order given, and adding samples leaves the old ones of a label in their order.
    """
    drawn = sorted(
        samples, key=lambda sample: (rng(seed, 0, f"order of {normal_form(sample.text)}").random(), sample.id)
    )
    of_label = Counter(sample.label for sample in samples)
    before: Counter[str] = Counter()
    places: list[Fraction] = []
    for sample in drawn:
        places.append(Fraction(2 * before[sample.label] + 1, 2 * of_label[sample.label]))
        before[sample.label] += 1
    return [drawn[at] for at in sorted(range(len(drawn)), key=lambda at: (places[at], at))]


@dataclass(frozen=True, slots=True)
class Split:
    """The labeled samples in three parts, each in an order that rows do not decide, and what is to be said."""

    train: tuple[Sample, ...]
    dev: tuple[Sample, ...]
    holdout: tuple[Sample, ...]
    warnings: tuple[str, ...] = ()


def split(samples: Iterable[Sample]) -> Split:
    """Return the labeled samples split 40 : 40 : 20 by the hash of their text, whatever their order.

    Samples of one text (``normal_form``) stay together. Canonical samples are in no part, nor is a labeled
    one with the text of a canonical one: the optimizer sees canonicals. A text has one label, as
    ``read_samples`` sees to.

    A text's place is a number in [0, 1) made of the text alone, so the sizes and the labels' shares are as
    wanted on average, and not exactly: exact ones would move old samples whenever rows are added. Only a
    label that would lack train or dev has its borders moved, as little as needed: a label gets one text in
    train, from two texts on one in dev, and gives up holdout texts only if fewer than two lie outside it.
    So, for each label:

    - once it has texts of its own in train and in dev, adding rows moves none of its old ones; it lacks one
      of them by chance with probability .16 at 5 texts, .012 at 10, .00007 at 20;
    - nothing from train or dev gets into the holdout later, but for what a label with fewer than two texts
      outside had to borrow from it: .007 at 5 texts, .000004 at 10.
    """
    given = list(samples)
    canonical = {normal_form(sample.text) for sample in given if sample.canonical}
    labeled = [sample for sample in given if not sample.canonical]
    groups: dict[str, list[Sample]] = {}
    for sample in sorted(labeled, key=lambda sample: (sample.id, sample.text)):
        if (text := normal_form(sample.text)) not in canonical:
            groups.setdefault(text, []).append(sample)
    texts_of: dict[str, list[str]] = {}
    for text in sorted(groups, key=place_of):
        texts_of.setdefault(groups[text][0].label, []).append(text)
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    for texts in texts_of.values():
        places = [place_of(text) for text in texts]
        # The borders are moved where train or dev would lack the label.
        dev_end = max(bisect_left(places, DEV_END), min(2, len(texts)))
        train_end = max(1, min(bisect_left(places, TRAIN_END), dev_end - 1))
        for part, some in zip(parts, (texts[:train_end], texts[train_end:dev_end], texts[dev_end:]), strict=True):
            part.extend(some)
    train, dev, holdout = (
        tuple(sample for text in sorted(part, key=place_of) for sample in groups[text]) for part in parts
    )
    twins = len(labeled) - len(train) - len(dev) - len(holdout)
    return Split(train, dev, holdout, tuple(_warnings(train, dev, holdout, twins)))


def place_of(text: str) -> float:
    """Return the place of a text in [0, 1), evenly spread: a hash of its normal form."""
    # Salted, since the hash of the bare text is the default id, and files may be sorted or cut by id.
    digest = hashlib.sha256(f"split:{normal_form(text)}".encode()).digest()
    return int.from_bytes(digest[:6]) / (1 << 48)


def rng(seed: int, step: int, purpose: str) -> Random:
    """Return the source of one random choice: the same for the same seed, step and purpose, whatever ran before.

    Only ``random()`` draws alike in every Python version; a choice that a recording depends on should be
    made of it, for example by sorting on it.
    """
    return Random(f"{seed}:{step}:{purpose}")  # noqa: S311 - repeatable on purpose


def _warnings(train: Sequence[Sample], dev: Sequence[Sample], holdout: Sequence[Sample], twins: int) -> Iterable[str]:
    if twins:
        yield f"labeled samples with the text of a canonical one: {twins}: they are not tuned on"
    total = len(train) + len(dev) + len(holdout)
    if total < ENOUGH_FOR_A_CLAIM:
        yield (
            f"{total} labeled samples (train {len(train)}, dev {len(dev)}, holdout {len(holdout)}): with fewer "
            f"than {ENOUGH_FOR_A_CLAIM} no claim can be made that a prompt got better"
        )
    labels = sorted({sample.label for sample in (*train, *dev, *holdout)})
    for name, part in (("dev", dev), ("holdout", holdout)):
        lacking = [label for label in labels if label not in {sample.label for sample in part}]
        if lacking:
            more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
            yield f"{name}: no sample with the label {', '.join(map(repr, lacking[:NAMED]))}{more}"
