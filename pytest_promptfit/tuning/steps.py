"""Small changes of a prompt that no optimizer had to think of, and what no change of its texts may lose.

A sentence or an example less, a note more, a swap. How words are put into a text and taken out, so that white space
stays as a person would have it, and which words the reader of labels relies on, holds for patches, too.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_promptfit.prompts.labels import words_of
from pytest_promptfit.prompts.model import TEXT_FIELDS, NearestExamples
from pytest_promptfit.prompts.split import shuffled
from pytest_promptfit.text import short
from pytest_promptfit.tuning.candidates import Candidate, changed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from random import Random

    from pytest_promptfit.prompts.labels import Extract
    from pytest_promptfit.prompts.model import EditField, Example, Prompt, TextField


LONGEST_WORD: Final = 12
"""Characters that count as a word where nothing separates words."""

MAX_WORDS: Final = 60
"""Words of new text in one patch."""


def words_pattern(find: str) -> re.Pattern[str]:
    """Return what matches the words with any white space between them, and never a part of a longer word."""
    words = find.split()
    first, last = words[0][0], words[-1][-1]
    # Only where white space separates words: Chinese goes on without any.
    opening = r"(?<![A-Za-z0-9_])" if first.isascii() and first.isalnum() else ""
    closing = r"(?![A-Za-z0-9_])" if last.isascii() and last.isalnum() else ""
    return re.compile(opening + r"\s+".join(map(re.escape, words)) + closing)


def appended(text: str, words: str) -> str:
    """Return the text with words at its end, before the white space there."""
    body = text.rstrip()
    return inserted(body, words, text[len(body) :])


def inserted(left: str, text: str, right: str) -> str:
    """Return ``text`` between its neighbours: on a line of its own after a line of many, else after a space."""
    own_line = right.startswith("\n") or (not right and "\n" in left)
    text = text.rstrip() if text[:1].isspace() else text.strip()
    before = "" if not left or left[-1].isspace() or text[:1].isspace() else "\n" if own_line else " "
    after = "" if not right or right[0].isspace() or right[0] in ".,;:!?)" else " "
    return left + before + text + after + right


def closed(left: str, right: str) -> str:
    """Return what is left when the words in between are gone, with white space for one gap."""
    before, after = left[len(left.rstrip()) :], right[: len(right) - len(right.lstrip())]
    gap = max((before, after), key=lambda space: (space.count("\n"), len(space)))
    if not left.strip() or not right.strip():
        gap = after if left.strip() else before
    return left.rstrip() + gap + right.lstrip()


def kept_apart(field: TextField, before: str, after: str) -> str:
    """Return the text with a line break towards the sample where its last or first words are new."""
    if field == "user_prompt_prefix" and after and before[-1:] != after[-1] and not after[-1].isspace():
        return after + "\n"
    if field == "user_prompt_suffix" and after and before[:1] != after[0] and not after[0].isspace():
        return "\n" + after
    return after


def word_count(text: str) -> int:
    """Return how many words a text has, also where nothing separates them."""
    return max(len(text.split()), len(text) // LONGEST_WORD)


def cleaned(text: str) -> str:
    """Return the text without control characters and halves of surrogate pairs."""
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs"))


_TOKEN = re.compile(
    r"""\\(?P<escaped>[^\w\s]) | \\. | \(\?(?:P?<\w+>|<?[=!]|[^)<]*?[:)]) | \[\^?\]?(?:\\.|[^\]\\])*\]
    | \{\d*,?\d*\} | [.*+?()|^$] | (?P<plain>.)""",
    re.DOTALL | re.VERBOSE,
)

_OPENS = re.compile(r"\s*(<[^<>]*>|[^\w\s.,:;!?]+)")
_CLOSES = re.compile(r"(<[^<>]*>|[^\w\s.,:;!?]+)\s*\Z")
_BEFORE_THE_REST, _AFTER_THE_REST = "right before what follows", "right after the sample"
_EDGES: tuple[tuple[TextField, Callable[[str], re.Match[str] | None], str], ...] = (
    ("user_prompt_prefix", _CLOSES.search, _BEFORE_THE_REST),
    ("user_prompt_suffix", _OPENS.match, _AFTER_THE_REST),
    ("bot_reply_prefix", _CLOSES.search, _BEFORE_THE_REST),
)
"""Where marks delimit what is put in between: the sample's text, and the words the model continues with."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be done to a prompt: ``labels`` must still be read from its replies with ``extract``."""

    edit: Collection[str]
    """The fields that may change."""
    labels: Sequence[str]
    extract: Extract
    max_length: int
    """Characters that the texts may have together, if they have not more already; see ``text_length``."""
    decides: bool = False
    """Whether a decision model is asked, which is always given the labels, their notes and their order."""

    def lists_labels(self, prompt: Prompt) -> bool:
        """Tell whether the labels are sent as a list, with their notes."""
        return self.decides or prompt.lists_labels


def problem_with(before: Prompt, after: Prompt, kept: Collection[str], max_length: int) -> str | None:
    """Return why one prompt may not take the place of another, or ``None`` where it may."""
    if after == before:
        return "it changes nothing"
    if blanked := [name for name in TEXT_FIELDS if getattr(before, name).strip() and not getattr(after, name).strip()]:
        return f"it leaves {blanked[0]} empty"
    if (lost := _lost(after, kept)) is not None:
        return f"it drops {lost!r}, which must stay"
    length = text_length(after)
    if length > max(max_length, text_length(before)):
        return f"the prompt would have {length} characters: at most {max_length}"
    return _edge_gone(before, after)


def why_it_stays(
    before: Prompt, after: Prompt, labels: Sequence[str], extract: Extract, *, decides: bool = False
) -> str | None:
    """Return why a prompt cannot do without what ``after`` lacks, or ``None`` where it can.

    That is what a label is read by, the only words that name a label, and the marks that set a sample apart. A text
    may be left empty: whether it is of any use is worth asking. A model that ``decides`` wants an instruction, and
    nothing else.
    """
    if decides:
        return None if after.system_prompt.strip() else "a decision model wants an instruction"
    rules = Rules(TEXT_FIELDS, labels, extract, max_length=0)
    read_by = _present(literal_parts(extract) if isinstance(extract, str) else extract.names, before)
    if (lost := _lost(after, read_by)) is not None:
        return f"nothing else asks for {lost!r}, which the label is read by"
    named = unnamed_labels(before, rules)
    unnamed = next((word for word in unnamed_labels(after, rules) if word not in named), None)
    return _edge_gone(before, after) if unnamed is None else f"nothing else names {unnamed!r}"


def _lost(after: Prompt, kept: Collection[str]) -> str | None:
    present = _present(kept, after)
    return next((piece for piece in kept if piece not in present), None)


def _edge_gone(before: Prompt, after: Prompt) -> str | None:
    for field, mark_of, where in _EDGES:
        mark, left = mark_of(getattr(before, field)), mark_of(getattr(after, field))
        if mark and (left is None or left[1] != mark[1]):
            return f"{mark[1]!r} must stay {where}"
    return None


def kept_pieces(prompt: Prompt, rules: Rules) -> tuple[str, ...]:
    """Return what the reader of labels relies on, as far as the prompt has it: nothing where the model decides."""
    if rules.decides:
        return ()
    return _present(protected_pieces(rules.labels, prompt.label_words, rules.extract), prompt)


def unnamed_labels(prompt: Prompt, rules: Rules) -> list[str]:
    """Return the label words that no text says, in any case; none where ``{labels}`` stands for them all."""
    texts = [text.casefold() for text in _texts(prompt)]
    words = words_of(rules.labels, prompt.label_words).values()
    if any("{labels}" in text for text in texts):
        return []
    return [word for word in words if not any(words_pattern(word.casefold()).search(text) for text in texts)]


def missing_pieces(prompt: Prompt, rules: Rules, kept: Collection[str]) -> list[str]:
    """Return what a whole new prompt lacks for its labels to be read: a label, or what ``kept`` has of ``extract``.

    Fields of JSON must be said in any case; any other reader takes a label alone, too, so a tag need not be new. To a
    decision model nothing needs to be said.
    """
    if rules.decides:
        return []
    asked: Sequence[str]
    if isinstance(rules.extract, str):
        asked = [piece for piece in literal_parts(rules.extract) if piece in kept]
    else:
        asked = rules.extract.names
    present = _present(asked, prompt)
    return [*(piece for piece in asked if piece.strip() and piece not in present), *unnamed_labels(prompt, rules)]


def protected_pieces(labels: Sequence[str], label_words: Mapping[str, str], extract: Extract) -> tuple[str, ...]:
    """Return what the reader of labels relies on: label words, ``{labels}`` and what ``extract`` looks for.

    Of a pattern that is its literal parts, of a path the names of the fields.
    """
    words = words_of(labels, label_words).values()
    parts = literal_parts(extract) if isinstance(extract, str) else extract.names
    return tuple(dict.fromkeys(("{labels}", *parts, *words)))


def literal_parts(pattern: str) -> list[str]:
    """Return the runs of plain characters in a regular expression: ``<label>`` and ``</label>``."""
    parts, run = [], ""
    for token in _TOKEN.finditer(pattern):
        plain = token["plain"] or token["escaped"]
        run += plain or ""
        if not plain:
            # What may be absent is no part of the literal text.
            kept = run[:-1] if token[0] in ("?", "*") or token[0].startswith("{") else run
            parts.append(kept.strip())
            run = ""
    return [part for part in (*parts, run.strip()) if len(part) > 1]


def text_length(prompt: Prompt) -> int:
    """Return the characters of the four texts and the label notes together."""
    return sum(map(len, (*_texts(prompt), *prompt.label_notes.values())))


def label_named(prompt: Prompt, said: str, rules: Rules) -> str | None:
    """Return the label that somebody names, in any case, by its word or by itself; ``None`` for no label."""
    words = words_of(rules.labels, prompt.label_words).items()
    names = {label.casefold(): label for label in rules.labels} | {word.casefold(): label for label, word in words}
    return names.get(said.strip().casefold())


def with_note(prompt: Prompt, label: str, note: str) -> Prompt:
    """Return the prompt with another note on a label; without one where the note is empty."""
    notes = {**prompt.label_notes, label: note}
    return changed(prompt, label_notes={label: note for label, note in notes.items() if note})


def sent_length(prompt: Prompt, usual: int) -> int:
    """Return the characters sent besides a text: its texts and examples, one chosen for each text ``usual`` long."""
    chosen = prompt.examples.nearest if isinstance(prompt.examples, NearestExamples) else 0
    return text_length(prompt) + sum(len(example.text) for example in prompt.fixed_examples) + chosen * usual


def _texts(prompt: Prompt) -> tuple[str, ...]:
    return tuple(getattr(prompt, field) for field in TEXT_FIELDS)


def _present(pieces: Iterable[str], prompt: Prompt) -> tuple[str, ...]:
    texts = _texts(prompt)
    return tuple(
        piece for piece in pieces if piece.strip() and any(words_pattern(piece).search(text) for text in texts)
    )


_BREAK = re.compile(r"""\s*\n\s*|(?:(?<=[.!?])|(?<=[.!?]["'”)\]]))[^\S\n]+(?=[^\sa-z])|(?<=[。！？])(?=\S)""")  # noqa: RUF001


def sentences(text: str) -> list[str]:
    """Return the sentences of a text in their order; a line break ends one, too."""
    return [text[start:end] for start, end in _sentence_spans(text)]


def without_saying(text: str, words: str) -> str:
    """Return the text without the sentences that have some words in them."""
    for start, end in reversed(_sentence_spans(text)):
        if words in text[start:end]:
            text = closed(text[:start], text[end:])
    return text


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
        ("system_prompt", map(_without_sentence, _sentences_of(prompt, "system_prompt"))),
        ("system_prompt", _note_steps(prompt, notes)),
        ("examples", _swap_steps(prompt, rng)),
    )
    found = (allowed(prompt, steps, rules) for field, steps in kinds if field in rules.edit)
    return [shuffled(steps, rng)[0] for steps in found if steps]


@dataclass(frozen=True, slots=True)
class Piece:
    """A sentence, an example or a label's note of a prompt, and the prompt without it."""

    field: EditField
    text: str
    """The sentence; of an example its text, of a note its label, too."""
    without: Prompt
    example: Example | None = None

    def is_same(self, other: Piece) -> bool:
        """Tell whether this is the same piece, of another prompt."""
        return (self.field, self.text, self.example) == (other.field, other.text, other.example)

    @property
    def said(self) -> str:
        """All words that it has."""
        return self.text if self.example is None else f"{self.text}{self.example.reply or self.example.label}"


def pieces_of(prompt: Prompt) -> Iterator[Piece]:
    """Yield the examples of a prompt, as far as they stand in it, its label notes, and the sentences of its texts."""
    examples = prompt.fixed_examples
    for at, example in enumerate(examples):
        fewer = examples[:at] + examples[at + 1 :]
        yield Piece("examples", example.text, changed(prompt, examples=fewer), example)
    for label, note in prompt.label_notes.items():
        yield Piece("label_notes", f"{label}: {note}", with_note(prompt, label, ""))
    for field in TEXT_FIELDS:
        yield from _sentences_of(prompt, field)


def prune_steps(prompt: Prompt, rules: Rules) -> list[Candidate]:
    """Return the prompt without each of its examples and notes, and without each sentence that may go."""
    pieces = [piece for piece in pieces_of(prompt) if piece.field in rules.edit]
    steps = [
        Candidate(piece.without, f"without example {at + 1}: {short(piece.text)}")
        if piece.example
        else _without_sentence(piece)
        for at, piece in enumerate(pieces)  # examples come first
    ]
    return allowed(prompt, steps, rules)


def without_same(incumbent: Prompt, best: Prompt, pruned: Prompt) -> Prompt | None:
    """Take the piece that ``pruned`` leaves out of ``best`` out of the incumbent too; ``None`` when it is gone already.

    Other pieces may be gone by then, of the same text too, so it is found by its words.
    """
    gone = next(piece for piece in pieces_of(best) if piece.without == pruned)
    same = (piece.without for piece in pieces_of(incumbent) if piece.is_same(gone))
    return next(same, None)


def allowed(prompt: Prompt, steps: Iterable[Candidate], rules: Rules) -> list[Candidate]:
    """Return the steps from a prompt after which labels are still read, and all else stays that must."""
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


def _sentences_of(prompt: Prompt, field: TextField) -> Iterator[Piece]:
    text: str = getattr(prompt, field)
    for start, end in _sentence_spans(text):
        shorter = kept_apart(field, text, closed(text[:start], text[end:]))
        yield Piece(field, text[start:end], changed(prompt, **{field: shorter}))


def _without_sentence(piece: Piece) -> Candidate:
    return Candidate(piece.without, f"{piece.field}: without {short(piece.text)}")


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
    if len(prompt.fixed_examples) > 1:
        first, second = sorted(shuffled(range(len(prompt.fixed_examples)), rng)[:2])
        swapped = list(prompt.fixed_examples)
        swapped[first], swapped[second] = swapped[second], swapped[first]
        yield Candidate(changed(prompt, examples=tuple(swapped)), f"examples: swap {first + 1} and {second + 1}")
