"""Small steps that no optimizer had to think of, and the sentences that they are made of."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mail_prompt import PROMPT, SYSTEM

from pytest_promptfit.prompts.labels import DEFAULT_EXTRACT
from pytest_promptfit.prompts.model import TEXT_FIELDS, Example, Prompt
from pytest_promptfit.tuning.steps import Rules, deterministic_steps, prune_steps, sentences

if TYPE_CHECKING:
    from pytest_promptfit.tuning.candidates import Candidate

RULES = Rules((*TEXT_FIELDS, "examples"), ("spam", "ham"), DEFAULT_EXTRACT, max_length=2000)


class TestSentences:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", []),
            (" \n ", []),
            ("One. Two! Three?", ["One.", "Two!", "Three?"]),
            ("Rules:\n- one\n\n- two\n", ["Rules:", "- one", "- two"]),
            ("Use it, e.g. here. 1. Now this.", ["Use it, e.g. here.", "1. Now this."]),
            ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
            ("3.5 of 4. Done.", ["3.5 of 4.", "Done."]),
            ("你好。再见。", ["你好。", "再见。"]),
        ],
    )
    def test_splits(self, text: str, expected: list[str]) -> None:
        assert sentences(text) == expected

    @given(st.text(alphabet='aB1.!? \n"。', max_size=40))
    def test_loses_no_word(self, text: str) -> None:
        assert "".join("".join(sentences(text)).split()) == "".join(text.split())


def steps_of(prompt: Prompt, notes: list[tuple[str, str]], seed: int = 0, **changes: Any) -> dict[str, Prompt]:
    rules = replace(RULES, **{"edit": ("system_prompt", "examples"), **changes})
    return by_summary(deterministic_steps(prompt, notes, random.Random(seed), rules))


def by_summary(steps: list[Candidate]) -> dict[str, Prompt]:
    return {step.summary: step.prompt for step in steps}


class TestDeterministicSteps:
    def test_drop_a_sentence_add_a_note_and_swap_examples(self) -> None:
        dropped, added, swapped = steps_of(PROMPT, [("spam", "Prizes  cost money.")]).items()

        assert re.fullmatch("system_prompt: without '.+'", dropped[0])
        assert len(sentences(dropped[1].system_prompt)) == 2
        assert added[0] == "system_prompt: add 'Note: Prizes cost money → spam.'"
        assert added[1].system_prompt == f"{SYSTEM} Note: Prizes cost money → spam."
        assert re.fullmatch(r"examples: swap \d and \d", swapped[0])
        assert swapped[1].examples != PROMPT.examples
        assert sorted(e.text for e in swapped[1].examples) == sorted(e.text for e in PROMPT.examples)

    def test_notes_speak_in_label_words(self) -> None:
        prompt = Prompt(system_prompt="Sort.", label_words={"0": "junk", "1": "good"})

        (step,) = steps_of(prompt, [("0", "It sells")], labels=("0", "1")).values()

        assert step.system_prompt == "Sort. Note: It sells → junk."

    def test_are_the_same_for_the_same_seed_and_vary_with_it(self) -> None:
        notes = [("spam", f"note {number}") for number in range(9)]

        assert steps_of(PROMPT, notes, 3) == steps_of(PROMPT, notes, 3)
        assert len({tuple(steps_of(PROMPT, notes, seed)) for seed in range(9)}) > 1

    @pytest.mark.parametrize(("edit", "kinds"), [("examples", ["examples"]), ("system_prompt", ["system_prompt"] * 2)])
    def test_stay_inside_what_may_be_edited(self, edit: str, kinds: list[str]) -> None:
        steps = steps_of(PROMPT, [("spam", "x")], edit=(edit, "user_prompt_suffix"))

        assert [summary.partition(":")[0] for summary in steps] == kinds

    def test_swap_no_examples_that_are_the_same(self) -> None:
        twice = Example(text="Win a car", label="spam")

        assert steps_of(Prompt(system_prompt="Sort.", examples=(twice, twice)), []) == {}

    @pytest.mark.parametrize("note", ["known", "word " * 70, "x" * 60, " "])
    def test_add_no_note_that_is_known_or_too_long(self, note: str) -> None:
        prompt = Prompt(system_prompt="Say {labels}; known.")

        assert steps_of(prompt, [("spam", note)], max_length=70) == {}


class TestPruneSteps:
    def test_drop_each_example_and_each_sentence_that_may_go(self) -> None:
        steps = by_summary(prune_steps(PROMPT, RULES))

        assert list(steps) == [
            "without example 1: 'Win a car'",
            "without example 2: 'See you at noon'",
            "without example 3: 'Cheap pills'",
            "system_prompt: without 'You sort mail.'",
            "system_prompt: without 'Spam wants your money.'",
            "system_prompt: without 'Ham is all else.'",
            "user_prompt_suffix: without 'Be brief.'",
        ]
        assert [example.text for example in steps["without example 2: 'See you at noon'"].examples] == [
            "Win a car",
            "Cheap pills",
        ]
        assert steps["user_prompt_suffix: without 'Be brief.'"].user_prompt_suffix == (
            "</mail>\nEnd with <label>spam</label> or <label>ham</label>."
        )

    def test_stay_inside_what_may_be_edited(self) -> None:
        steps = prune_steps(PROMPT, replace(RULES, edit=("user_prompt_suffix",)))

        assert [step.summary for step in steps] == ["user_prompt_suffix: without 'Be brief.'"]
