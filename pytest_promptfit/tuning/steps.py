"""Small changes of a prompt that no optimizer had to think of: a sentence or an example less, a note more, a swap."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_promptfit.prompts.mistakes import short
from pytest_promptfit.prompts.model import TEXT_FIELDS
from pytest_promptfit.tuning.candidates import Candidate, changed, shuffled
from pytest_promptfit.tuning.guard import kept_pieces, problem_with
from pytest_promptfit.tuning.patches import MAX_WORDS
from pytest_promptfit.tuning.texts import appended, cleaned, closed, kept_apart, word_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from random import Random

    from pytest_promptfit.prompts.model import Prompt, TextField
    from pytest_promptfit.tuning.guard import Rules

_BREAK = re.compile(r"""\s*\n\s*|(?:(?<=[.!?])|(?<=[.!?]["'”)\]]))[^\S\n]+(?=[^\sa-z])|(?<=[。！？])(?=\S)""")  # noqa: RUF001


def sentences(text: str) -> list[str]:
    """Return the sentences of a text in their order; a line break ends one, too."""
    return [text[start:end] for start, end in _sentence_spans(text)]


def deterministic_steps(
    prompt: Prompt,
    notes: Sequence[tuple[str, str]],
    rng: Random,
    rules: Rules,
) -> list[Candidate]:
    """Return up to three small changes that no optimizer had to think of, drawn by ``rng``.

    A sentence of the system prompt goes, a rule made of one of the ``notes``, (label, note), is added to it,
    or two examples change places.
    """
    kinds = (
        ("system_prompt", _sentence_steps(prompt, "system_prompt")),
        ("system_prompt", _note_steps(prompt, notes)),
        ("examples", _swap_steps(prompt, rng)),
    )
    allowed = (_allowed(prompt, steps, rules) for field, steps in kinds if field in rules.edit)
    return [shuffled(steps, rng)[0] for steps in allowed if steps]


def prune_steps(prompt: Prompt, rules: Rules) -> list[Candidate]:
    """Return the prompt without each of its examples, and without each sentence that may go."""
    steps = list(_example_steps(prompt)) if "examples" in rules.edit else []
    for field in TEXT_FIELDS:
        if field in rules.edit:
            steps += _sentence_steps(prompt, field)
    return _allowed(prompt, steps, rules)


def without_same(incumbent: Prompt, best: Prompt, pruned: Prompt) -> Prompt | None:
    """Take what ``pruned`` leaves out of ``best`` out of the incumbent too; ``None`` when it is gone already."""
    if pruned.examples != best.examples:
        gone = [example for example in best.examples if example not in pruned.examples]
        left = tuple(example for example in incumbent.examples if example not in gone)
        return None if left == incumbent.examples else changed(incumbent, examples=left)
    for name in TEXT_FIELDS:
        old, new = getattr(best, name), getattr(pruned, name)
        if old != new:
            return changed(incumbent, **{name: new}) if getattr(incumbent, name) == old else None
    return None


def _allowed(prompt: Prompt, steps: Iterable[Candidate], rules: Rules) -> list[Candidate]:
    kept = kept_pieces(prompt, rules)
    return [step for step in steps if problem_with(prompt, step.prompt, kept, rules.max_length) is None]


def _sentence_spans(text: str) -> list[tuple[int, int]]:
    spans, start = [], len(text) - len(text.lstrip())
    for gap in _BREAK.finditer(text):
        # The number of a list's item is no sentence of its own.
        is_number = "\n" not in gap[0] and not any(map(str.isalpha, text[start : gap.start()]))
        if gap.start() > start and not is_number:
            spans.append((start, gap.start()))
            start = gap.end()
    end = len(text.rstrip())
    return [*spans, (start, end)] if end > start else spans


def _sentence_steps(prompt: Prompt, field: TextField) -> Iterator[Candidate]:
    text: str = getattr(prompt, field)
    for start, end in _sentence_spans(text):
        shorter = kept_apart(field, text, closed(text[:start], text[end:]))
        yield Candidate(changed(prompt, **{field: shorter}), f"{field}: without {short(text[start:end])}")


def _example_steps(prompt: Prompt) -> Iterator[Candidate]:
    for at, example in enumerate(prompt.examples):
        fewer = prompt.examples[:at] + prompt.examples[at + 1 :]
        yield Candidate(changed(prompt, examples=fewer), f"without example {at + 1}: {short(example.text)}")


def is_noted(prompt: Prompt, note: str) -> bool:
    """Tell whether a prompt says what a note does, as a step would have added it."""
    folded = _folded(note)
    return bool(folded) and folded in prompt.system_prompt


def _folded(note: str) -> str:
    return " ".join(cleaned(note).split()).rstrip(".")


def _note_steps(prompt: Prompt, notes: Iterable[tuple[str, str]]) -> Iterator[Candidate]:
    for label, note in notes:
        folded = _folded(note)
        if folded and folded not in prompt.system_prompt and word_count(folded) <= MAX_WORDS:
            rule = f"Note: {folded} → {prompt.label_words.get(label, label)}."
            added = changed(prompt, system_prompt=appended(prompt.system_prompt, rule))
            yield Candidate(added, f"system_prompt: add {short(rule)}")


def _swap_steps(prompt: Prompt, rng: Random) -> Iterator[Candidate]:
    if len(prompt.examples) > 1:
        first, second = sorted(shuffled(range(len(prompt.examples)), rng)[:2])
        swapped = list(prompt.examples)
        swapped[first], swapped[second] = swapped[second], swapped[first]
        yield Candidate(changed(prompt, examples=tuple(swapped)), f"examples: swap {first + 1} and {second + 1}")
