"""The split into train, dev and holdout: what stays where, and what is said about it."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_promptfit.prompts.samples import Sample
from pytest_promptfit.prompts.split import DEV_END, TRAIN_END, Split, place_of, rng, split

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random


def tickets(count: int, label: str, first: int = 0) -> list[Sample]:
    return [Sample(f"{label}-{n}", f"ticket {n} about {label}", label) for n in range(first, first + count)]


def parts_of(split_up: Split) -> dict[str, str]:
    parts = {"train": split_up.train, "dev": split_up.dev, "holdout": split_up.holdout}
    return {sample.id: name for name, samples in parts.items() for sample in samples}


labels_of_texts = st.dictionaries(st.integers(0, 10**6), st.sampled_from("abc"), max_size=60)
"""Up to 60 different texts, each with a label."""


def samples_of(labels: dict[int, str]) -> list[Sample]:
    return [Sample(f"s{n}", f"text {n}", label) for n, label in labels.items()]


class TestShares:
    def test_are_40_40_20_in_total_and_for_each_label(self) -> None:
        common, rare = tickets(2000, "common"), tickets(500, "rare")

        found = split(common + rare)

        for label, total in (("common", 2000), ("rare", 500)):
            shares = [
                Counter(sample.label for sample in part)[label] / total
                for part in (found.train, found.dev, found.holdout)
            ]
            assert shares == pytest.approx([0.4, 0.4, 0.2], abs=0.05)

    @given(labels_of_texts)
    def test_every_labeled_sample_is_in_one_part(self, labels: dict[int, str]) -> None:
        samples = samples_of(labels)

        found = split(samples)

        everywhere = [*found.train, *found.dev, *found.holdout]
        assert sorted(sample.id for sample in everywhere) == sorted(sample.id for sample in samples)

    @given(labels_of_texts)
    def test_a_label_has_one_text_in_train_and_from_two_on_one_in_dev(self, labels: dict[int, str]) -> None:
        found = split(samples_of(labels))

        totals = Counter(labels.values())
        assert {sample.label for sample in found.train} == set(totals)
        assert {sample.label for sample in found.dev} == {label for label, texts in totals.items() if texts > 1}

    @given(labels_of_texts)
    def test_the_holdout_gains_no_text_and_gives_at_most_two_of_a_label(self, labels: dict[int, str]) -> None:
        found = split(samples_of(labels))

        by_place = {f"s{n}" for n in labels if place_of(f"text {n}") >= DEV_END}
        in_holdout = {sample.id for sample in found.holdout}
        assert in_holdout <= by_place
        assert len(by_place) - len(in_holdout) <= 2 * len(set(labels.values()))


class TestStability:
    @given(labels_of_texts, st.randoms(use_true_random=False))
    def test_the_order_of_the_rows_decides_nothing(self, labels: dict[int, str], random: Random) -> None:
        samples = samples_of(labels)
        shuffled = random.sample(samples, len(samples))

        assert split(shuffled) == split(samples)

    def test_new_rows_move_no_old_one(self) -> None:
        old = tickets(40, "billing") + tickets(20, "outage")
        new = tickets(300, "billing", first=1000) + tickets(100, "outage", first=1000) + tickets(30, "other")

        before, after = parts_of(split(old)), parts_of(split(new + old))

        assert {sample: after[sample] for sample in before} == before

    @given(labels_of_texts, labels_of_texts)
    def test_new_rows_move_nothing_of_a_label_that_has_its_own_train_and_dev(
        self, old: dict[int, str], new: dict[int, str]
    ) -> None:
        before, after = parts_of(split(samples_of(old))), parts_of(split(samples_of(new | old)))

        for label in set(old.values()):
            places = [place_of(f"text {n}") for n, own in old.items() if own == label]
            has_train = any(place < TRAIN_END for place in places)
            if has_train and any(TRAIN_END <= place < DEV_END for place in places):
                ids = [f"s{n}" for n, own in old.items() if own == label]
                assert [after[sample] for sample in ids] == [before[sample] for sample in ids]

    def test_another_label_moves_no_sample(self) -> None:
        samples = tickets(100, "billing") + tickets(100, "outage")
        relabeled = [replace(sample, label="outage") if sample.id == "billing-7" else sample for sample in samples]

        assert parts_of(split(relabeled)) == parts_of(split(samples))

    def test_duplicates_of_a_text_stay_together(self) -> None:
        once = tickets(100, "billing")
        again = [replace(sample, id=f"{sample.id}-again", text=f"  {sample.text}\n") for sample in once]

        parts = parts_of(split(once + again))

        assert len(set(parts.values())) == 3
        assert all(parts[sample.id] == parts[f"{sample.id}-again"] for sample in once)

    @given(st.text(st.characters(codec="ascii")))
    def test_a_place_is_made_of_the_text_alone(self, text: str) -> None:
        normal = " ".join(text.split())
        digits = hashlib.sha256(f"split:{normal}".encode()).hexdigest()[:12]

        assert place_of(text) == int(digits, 16) / 16**12


class TestCanonicals:
    def test_are_in_no_part(self) -> None:
        canonical = [replace(sample, canonical=True) for sample in tickets(10, "billing")]

        found = split(canonical + tickets(70, "outage"))

        assert {sample.label for sample in (*found.train, *found.dev, *found.holdout)} == {"outage"}

    def test_keep_their_labeled_twins_out(self) -> None:
        samples = tickets(100, "billing")
        canonical = replace(samples[3], id="must", text=f"{samples[3].text} ", canonical=True)

        found = split([*samples, canonical])

        assert parts_of(split(samples)).keys() - parts_of(found).keys() == {samples[3].id}
        assert found.warnings == ("labeled samples with the text of a canonical one: 1: they are not tuned on",)


class TestWarnings:
    def test_none_when_there_is_enough_of_every_label(self) -> None:
        assert split(tickets(100, "billing") + tickets(100, "outage")).warnings == ()

    @pytest.mark.parametrize(("count", "said"), [(59, True), (60, False)])
    def test_too_few_for_a_claim(self, count: int, said: bool) -> None:
        found = split(tickets(count, "billing"))

        sizes = f"train {len(found.train)}, dev {len(found.dev)}, holdout {len(found.holdout)}"
        line = f"{count} labeled samples ({sizes}): with fewer than 60 no claim can be made that a prompt got better"
        assert found.warnings == ((line,) if said else ())

    def test_labels_that_dev_or_the_holdout_lack(self) -> None:
        rare = [sample for n in range(7) for sample in tickets(1, f"rare{n}")]

        found = split(tickets(100, "billing") + rare)

        named = "'rare0', 'rare1', 'rare2', 'rare3', 'rare4' and 2 more"
        assert [f"{part}: no sample with the label {named}" for part in ("dev", "holdout")] == list(found.warnings)

    def test_nothing_to_split(self) -> None:
        assert split([]) == Split((), (), (), split([]).warnings)
        assert "0 labeled samples" in split([]).warnings[0]


class TestRng:
    def test_repeats(self) -> None:
        assert rng(1, 2, "examples").random() == rng(1, 2, "examples").random()

    def test_differs_by_seed_step_and_purpose(self) -> None:
        draws = _first_draws([(1, 2, "examples"), (2, 2, "examples"), (1, 3, "examples"), (1, 2, "order")])

        assert len(draws) == 4


def _first_draws(sources: Sequence[tuple[int, int, str]]) -> set[float]:
    return {rng(*source).random() for source in sources}
