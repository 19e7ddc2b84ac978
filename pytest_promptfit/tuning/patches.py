"""What an optimizer may change in a prompt and what not: patches read from its answer, checked and applied.

Pure functions over values: who is asked for patches, and whether one pays off, is decided elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args

from pytest_promptfit.prompts.labels import words_of
from pytest_promptfit.prompts.model import TEXT_FIELDS, Prompt, TextField
from pytest_promptfit.text import listed, short
from pytest_promptfit.tuning.optimizer import json_values
from pytest_promptfit.tuning.steps import (
    MAX_WORDS,
    appended,
    cleaned,
    closed,
    inserted,
    kept_apart,
    kept_pieces,
    label_named,
    problem_with,
    with_note,
    word_count,
    words_pattern,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pytest_promptfit.tuning.steps import Rules


Op = Literal["replace", "insert_after", "append", "delete"]
OPS: tuple[Op, ...] = get_args(Op)

MAX_PATCHES: Final = 4

COPIED_WORDS: Final = 6
"""Words in a row shared with a training sample that make a text a copy of it."""

LONGEST_REASON: Final = 300

PatchedField = Literal[TextField, "label_notes"]

NOTE_OPS: Final[tuple[Op, ...]] = ("replace", "delete")
NOTE_PATCHES: Final = (
    "label_notes: find is a label word and text its whole new note, which says what texts have that label and no "
    f"other; op {' or '.join(NOTE_OPS)}"
)
"""How a patch says another note, in words for the optimizer."""


def patch_schema(fields: Sequence[PatchedField] = TEXT_FIELDS) -> dict[str, Any]:
    """Return the JSON Schema of an answer, for APIs that can constrain it; no keyword that a strict mode refuses."""
    text = {"type": "string"}
    properties = {
        "field": {"type": "string", "enum": list(fields)},
        "op": {"type": "string", "enum": list(OPS)},
        "find": text,
        "text": text,
        "reason": text,
        "targets": {"type": "array", "items": text},
    }
    patch = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return {
        "type": "object",
        "properties": {"patches": {"type": "array", "items": patch}},
        "required": ["patches"],
        "additionalProperties": False,
    }


def known_fields(prompt: Prompt, rules: Rules) -> tuple[PatchedField, ...]:
    """Return the fields that a patch may name; label notes only where they may change, and are sent."""
    return (*TEXT_FIELDS, "label_notes") if "label_notes" in rules.edit and rules.lists_labels(prompt) else TEXT_FIELDS


def patched_fields(prompt: Prompt, rules: Rules) -> list[PatchedField]:
    """Return the fields that a patch may change."""
    return [field for field in known_fields(prompt, rules) if field in rules.edit]


_PLACEHOLDER = re.compile(r"<\w+( [\w ]+)>")
"""What the form of an answer has in place of words: ``<one new rule>``."""

_Known = TypeVar("_Known", bound=str)


class _RefusedError(Exception):
    """Why a patch cannot be used, in words for the optimizer."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One change of one text: ``find`` says where, ``targets`` are the ids of the samples it is for.

    Of label notes ``find`` is the label's word, and ``text`` all that is to be said of it.
    """

    field: PatchedField
    op: Op
    find: str = ""
    text: str = ""
    reason: str = ""
    targets: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The change on one line."""
        parts = (short(part) for part in (self.find, self.text) if part)
        return f"{self.field}: {self.op.replace('_', ' ')} {' → '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Applied:
    """A prompt after its patches: those that were applied, and a line for each that was refused."""

    prompt: Prompt
    applied: tuple[Patch, ...]
    problems: tuple[str, ...]


def read_patches(answer: str, fields: Sequence[PatchedField] = TEXT_FIELDS) -> tuple[list[Patch], list[str]]:
    """Return the patches of some fields in an optimizer's answer, and a line for whatever in it cannot be used.

    JSON is found in a code fence, between other words, as a bare list and as single patches; what cannot
    be read is told and never raised. Patches beyond ``MAX_PATCHES`` are dropped.
    """
    found = _patch_values(answer)
    if not found:
        if not answer.strip():
            return [], ["the answer is empty"]
        expected = '{"patches": [...]} with at least one patch'
        return [], [f"no patch in the answer: expected the JSON object {expected}, found {short(answer.strip())}"]
    patches: list[Patch] = []
    problems: list[str] = []
    for number, value in enumerate(found[:MAX_PATCHES], 1):
        try:
            patches.append(_patch_of(value, fields))
        except _RefusedError as refusal:
            problems.append(f"patch {number}: {refusal}")
    if len(found) > MAX_PATCHES:
        problems.append(f"{len(found)} patches: only the first {MAX_PATCHES} were read")
    return patches, problems


def _patch_values(answer: str) -> list[object]:
    """Return what stands in the place of patches: of several whole answers the last, else all single patches."""
    values = list(json_values(answer, _may_hold_patches))
    whole = [value for value in values if isinstance(value, list) or "patches" in value]
    if not whole:
        return values
    inner = whole[-1] if isinstance(whole[-1], list) else whole[-1]["patches"]
    return inner if isinstance(inner, list) else [inner]


def _may_hold_patches(value: object) -> bool:
    if isinstance(value, list):
        return any(_may_be_patch(item) for item in value)
    return _may_be_patch(value) or (isinstance(value, dict) and "patches" in value)


def _may_be_patch(value: object) -> bool:
    return isinstance(value, dict) and ("field" in value or "op" in value)


def _patch_of(value: object, fields: Sequence[PatchedField]) -> Patch:
    if not isinstance(value, dict):
        raise _RefusedError(f"expected an object, found {_shown(value)}")
    field = _one_of(value, "field", fields)
    op = _one_of(value, "op", NOTE_OPS if field == "label_notes" else OPS)
    find = "" if op == "append" else _text(value, "find")
    text = "" if op == "delete" else _text(value, "text")
    if word_count(text) > MAX_WORDS:
        raise _RefusedError(f"`text` has {word_count(text)} words: at most {MAX_WORDS}")
    said, aimed = value.get("reason"), value.get("targets")
    reason = " ".join(cleaned(said).split())[:LONGEST_REASON] if isinstance(said, str) else ""
    ids = aimed if isinstance(aimed, list) else [aimed]
    targets = (cleaned(str(one)) for one in ids if isinstance(one, str | int) and one != "")
    return Patch(field, op, find, text, reason, tuple(dict.fromkeys(targets)))


def _one_of(value: Mapping[str, object], key: str, known: Sequence[_Known]) -> _Known:
    expected = ", ".join(known)
    if key not in value:
        raise _RefusedError(f"`{key}` is missing: expected one of {expected}")
    said = value[key]
    folded = re.sub(r"[\s-]+", "_", said.strip().lower()) if isinstance(said, str) else None
    for word in known:
        if folded == word:
            return word
    raise _RefusedError(f"unknown {key} {_shown(said)}: expected one of {expected}")


def _text(value: Mapping[str, object], key: str) -> str:
    said = value.get(key)
    if said is None:
        raise _RefusedError(f"`{key}` is missing")
    if not isinstance(said, str):
        raise _RefusedError(f"`{key}` must be text, found {_shown(said)}")
    text = said.replace("\r\n", "\n")
    if not text.strip():
        raise _RefusedError(f"`{key}` is empty")
    if _PLACEHOLDER.fullmatch(text.strip()):
        raise _RefusedError(f"`{key}` is the placeholder {short(said)}, not the text itself")
    if cleaned(text) != text:
        raise _RefusedError(f"`{key}` has characters that no prompt can hold")
    return text


def _shown(value: object) -> str:
    # What is nested too deep for repr() has no short form anyway.
    return short(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def apply_patches(prompt: Prompt, patches: Sequence[Patch], rules: Rules, *, train_texts: Iterable[str]) -> Applied:
    """Return the prompt with the patches that may be applied, in their order; a refused one stops no other.

    ``train_texts`` are the samples that no patch may copy from. No text is ever blanked, and what is needed
    to read labels stays: see ``steps``.
    """
    kept = kept_pieces(prompt, rules)
    samples = frozenset(run for text in train_texts for run in _runs(text))
    now, applied, problems = prompt, [], []
    for patch in patches:
        try:
            now = _patched(now, patch, rules, kept, samples)
        except _RefusedError as refusal:
            problems.append(f"{patch.summary}: {refusal}")
        else:
            applied.append(patch)
    if applied and now == prompt:
        return Applied(prompt, (), (*problems, "the patches together leave the prompt as it was"))
    return Applied(now, tuple(applied), tuple(problems))


def _patched(prompt: Prompt, patch: Patch, rules: Rules, kept: Collection[str], samples: frozenset[str]) -> Prompt:
    may = patched_fields(prompt, rules)
    if patch.field not in may:
        raise _RefusedError(f"this field may not be changed, only {', '.join(may) or 'none'}")
    if patch.field == "label_notes":
        label = _label_found(prompt, patch.find, rules)
        before, after = prompt.label_notes.get(label, ""), " ".join(patch.text.split())
        changed = with_note(prompt, label, after)
    else:
        before = getattr(prompt, patch.field)
        after = kept_apart(patch.field, before, _edited(before, patch))
        changed = prompt.model_copy(update={patch.field: after})
    copied = (_runs(after) - _runs(before)) & samples
    if copied:
        raise _RefusedError(f"copied from a sample: {short(min(copied))}")
    problem = problem_with(prompt, changed, kept, rules.max_length)
    if problem:
        raise _RefusedError(problem)
    return changed


def _label_found(prompt: Prompt, find: str, rules: Rules) -> str:
    label = label_named(prompt, find, rules)
    if label is None:
        words = listed([*words_of(rules.labels, prompt.label_words).values()])
        raise _RefusedError(f"`find` is no label word: expected one of {words}")
    return label


def _edited(text: str, patch: Patch) -> str:
    if patch.op == "append":
        return appended(text, patch.text)
    matches = list(words_pattern(patch.find).finditer(text)) if patch.find.strip() else []
    if len(matches) != 1:
        raise _RefusedError(f"`find` matches {len(matches)} times: it must match exactly once")
    start, end = matches[0].span()
    if patch.op == "delete":
        return closed(text[:start], text[end:])
    if patch.op == "replace":
        return text[:start] + patch.text.strip() + text[end:]
    return inserted(text[:end], patch.text, text[end:])


def copied_from(texts: Iterable[str], before: str, after: str) -> str | None:
    """Return words that are new in a text and copied from one of some others: ``COPIED_WORDS`` in a row."""
    new = _runs(after) - _runs(before)
    return min((words for text in texts for words in new & _runs(text)), default=None) if new else None


def _runs(text: str) -> set[str]:
    """Return all runs of ``COPIED_WORDS`` words, without case and punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = re.findall(r"\w+", re.sub("['’]", "", folded))  # noqa: RUF001
    return {" ".join(words[at : at + COPIED_WORDS]) for at in range(len(words) - COPIED_WORDS + 1)}
