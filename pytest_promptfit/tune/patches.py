"""What an optimizer may change in a prompt and what not: patches read from its answer, checked and applied.

Pure functions over values: who is asked for patches, and whether one pays off, is decided elsewhere.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args

from pytest_promptfit.chat import words_of
from pytest_promptfit.prompt_file import TEXT_FIELDS, Prompt, TextField
from pytest_promptfit.tune.candidates import shuffled
from pytest_promptfit.validation_lines import short

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from random import Random

Op = Literal["replace", "insert_after", "append", "delete"]
OPS: tuple[Op, ...] = get_args(Op)

MAX_PATCHES: Final = 4
MAX_WORDS: Final = 60
"""Words of new text in one patch."""

LONGEST_WORD: Final = 12
"""Characters that count as a word where nothing separates words."""

COPIED_WORDS: Final = 6
"""Words in a row shared with a training sample that make a text a copy of it."""

MAX_FAILED: Final = 1000
"""Brackets of an answer that may open no JSON; so many are no answer, and each costs time."""

LONGEST_REASON: Final = 300

PATCH_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "patches": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "enum": list(TEXT_FIELDS)},
                    "op": {"type": "string", "enum": list(OPS)},
                    "find": {"type": "string"},
                    "text": {"type": "string"},
                    "reason": {"type": "string"},
                    "targets": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["field", "op", "find", "text", "reason", "targets"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["patches"],
    "additionalProperties": False,
}
"""The JSON Schema of an answer, for APIs that can constrain it; no keyword that a strict mode refuses."""

_PLACEHOLDER = re.compile(r"<\w+( [\w ]+)>")
"""What the form of an answer has in place of words: ``<one new rule>``."""

_Known = TypeVar("_Known", bound=str)


class _RefusedError(Exception):
    """Why a patch cannot be used, in words for the optimizer."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One change of one text: ``find`` says where, ``targets`` are the ids of the samples it is for."""

    field: TextField
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


def read_patches(answer: str) -> tuple[list[Patch], list[str]]:
    """Return the patches in an optimizer's answer, and a line for whatever in it cannot be used.

    JSON is found in a code fence, between other words, as a bare list and as single patches; what cannot
    be read is told and never raised. Patches beyond ``MAX_PATCHES`` are dropped.
    """
    found = _patch_values(answer)
    if not found:
        return [], [_without_patches(answer)]
    patches: list[Patch] = []
    problems: list[str] = []
    for number, value in enumerate(found[:MAX_PATCHES], 1):
        try:
            patches.append(_patch_of(value))
        except _RefusedError as refusal:
            problems.append(f"patch {number}: {refusal}")
    if len(found) > MAX_PATCHES:
        problems.append(f"{len(found)} patches: only the first {MAX_PATCHES} were read")
    return patches, problems


def json_values(answer: str, wanted: Callable[[object], bool]) -> Iterator[Any]:
    """Yield the outermost JSON objects and lists of an answer that are wanted, whatever stands around them."""
    # Line breaks inside strings are what weak models write.
    decoder = json.JSONDecoder(strict=False)
    end = failed = 0
    for opening in re.finditer(r"[\[{]", answer):
        if opening.start() < end or failed > MAX_FAILED:
            continue
        try:
            value, after = decoder.raw_decode(answer, opening.start())
        except (ValueError, RecursionError):
            failed += 1
            continue
        if wanted(value):
            yield value
            end = after


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


def _without_patches(answer: str) -> str:
    if not answer.strip():
        return "the answer is empty"
    expected = '{"patches": [...]} with at least one patch'
    return f"no patch in the answer: expected the JSON object {expected}, found {short(answer.strip())}"


def _patch_of(value: object) -> Patch:
    if not isinstance(value, dict):
        raise _RefusedError(f"expected an object, found {_shown(value)}")
    field, op = _one_of(value, "field", TEXT_FIELDS), _one_of(value, "op", OPS)
    find = "" if op == "append" else _text(value, "find")
    text = "" if op == "delete" else _text(value, "text")
    if _word_count(text) > MAX_WORDS:
        raise _RefusedError(f"`text` has {_word_count(text)} words: at most {MAX_WORDS}")
    return Patch(field, op, find, text, _reason(value.get("reason")), _ids(value.get("targets")))


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
    if _cleaned(text) != text:
        raise _RefusedError(f"`{key}` has characters that no prompt can hold")
    return text


def _shown(value: object) -> str:
    # What is nested too deep for repr() has no short form anyway.
    return short(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def _word_count(text: str) -> int:
    return max(len(text.split()), len(text) // LONGEST_WORD)


def _reason(said: object) -> str:
    return " ".join(_cleaned(said).split())[:LONGEST_REASON] if isinstance(said, str) else ""


def _ids(said: object) -> tuple[str, ...]:
    items = said if isinstance(said, list) else [said]
    return tuple(dict.fromkeys(_cleaned(str(item)) for item in items if isinstance(item, str | int) and item != ""))


def _cleaned(text: str) -> str:
    """Return the text without control characters and halves of surrogate pairs."""
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs"))


def apply_patches(
    prompt: Prompt,
    patches: Sequence[Patch],
    *,
    edit: Collection[str],
    labels: Sequence[str],
    extract: str,
    train_texts: Iterable[str],
    max_length: int,
) -> Applied:
    """Return the prompt with the patches that may be applied, in their order; a refused one stops no other.

    ``edit`` are the fields that may change, ``train_texts`` the samples that no patch may copy from,
    ``max_length`` the characters that the four texts may have together. No text is ever blanked, and
    what is needed to read ``labels`` with ``extract`` stays: see ``protected_pieces``.
    """
    guard = _Guard(edit, _kept(prompt, labels, extract), _runs_of_all(train_texts), max_length)
    now, applied, problems = prompt, [], []
    for patch in patches:
        try:
            now = _patched(now, patch, guard)
        except _RefusedError as refusal:
            problems.append(f"{patch.summary}: {refusal}")
        else:
            applied.append(patch)
    if applied and now == prompt:
        return Applied(prompt, (), (*problems, "the patches together leave the prompt as it was"))
    return Applied(now, tuple(applied), tuple(problems))


def protected_pieces(labels: Sequence[str], label_words: Mapping[str, str], extract: str) -> tuple[str, ...]:
    """Return what the reader of labels relies on: label words, the literal parts of ``extract``, ``{labels}``."""
    words = words_of(labels, label_words).values()
    return tuple(dict.fromkeys(("{labels}", *literal_parts(extract), *words)))


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
    """Return the characters of the four texts together."""
    return sum(len(text) for text in _texts(prompt))


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
class _Guard:
    edit: Collection[str]
    kept: Collection[str]
    copied: frozenset[str]
    max_length: int


def _patched(prompt: Prompt, patch: Patch, guard: _Guard) -> Prompt:
    may = [field for field in TEXT_FIELDS if field in guard.edit]
    if patch.field not in may:
        raise _RefusedError(f"this field may not be changed, only {', '.join(may) or 'none'}")
    before: str = getattr(prompt, patch.field)
    after = _kept_apart(patch.field, before, _edited(before, patch))
    copied = (_runs(after) - _runs(before)) & guard.copied
    if copied:
        raise _RefusedError(f"copied from a sample: {short(min(copied))}")
    changed = prompt.model_copy(update={patch.field: after})
    problem = _problem(prompt, changed, guard.kept, guard.max_length)
    if problem:
        raise _RefusedError(problem)
    return changed


def _problem(before: Prompt, after: Prompt, kept: Iterable[str], max_length: int | None = None) -> str | None:
    """Return why one prompt may not take the place of another, or ``None`` where it may."""
    if after == before:
        return "it changes nothing"
    if blanked := [name for name in TEXT_FIELDS if getattr(before, name).strip() and not getattr(after, name).strip()]:
        return f"it leaves {blanked[0]} empty"
    present = _present(kept, after)
    if lost := [piece for piece in kept if piece not in present]:
        return f"it drops {lost[0]!r}, which must stay"
    length = text_length(after)
    if max_length is not None and length > max(max_length, text_length(before)):
        return f"the prompt would have {length} characters: at most {max_length}"
    return _lost_edge(before, after)


def _lost_edge(before: Prompt, after: Prompt) -> str | None:
    for field, mark_of, where in _EDGES:
        mark, left = mark_of(getattr(before, field)), mark_of(getattr(after, field))
        if mark and (left is None or left[1] != mark[1]):
            return f"{mark[1]!r} must stay {where}"
    return None


def _texts(prompt: Prompt) -> tuple[str, ...]:
    return tuple(getattr(prompt, field) for field in TEXT_FIELDS)


def _kept(prompt: Prompt, labels: Sequence[str], extract: str) -> tuple[str, ...]:
    return _present(protected_pieces(labels, prompt.label_words, extract), prompt)


def _present(pieces: Iterable[str], prompt: Prompt) -> tuple[str, ...]:
    texts = _texts(prompt)
    return tuple(piece for piece in pieces if piece.strip() and any(_pattern(piece).search(text) for text in texts))


def _pattern(find: str) -> re.Pattern[str]:
    """Return what matches the words with any white space between them, and never a part of a longer word."""
    words = find.split()
    first, last = words[0][0], words[-1][-1]
    # Only where white space separates words: Chinese goes on without any.
    opening = r"(?<![A-Za-z0-9_])" if first.isascii() and first.isalnum() else ""
    closing = r"(?![A-Za-z0-9_])" if last.isascii() and last.isalnum() else ""
    return re.compile(opening + r"\s+".join(map(re.escape, words)) + closing)


def _edited(text: str, patch: Patch) -> str:
    if patch.op == "append":
        body = text.rstrip()
        return _inserted(body, patch.text, text[len(body) :])
    start, end = _only_match(text, patch.find)
    if patch.op == "delete":
        return _closed(text[:start], text[end:])
    if patch.op == "replace":
        return text[:start] + patch.text.strip() + text[end:]
    return _inserted(text[:end], patch.text, text[end:])


def _only_match(text: str, find: str) -> tuple[int, int]:
    matches = list(_pattern(find).finditer(text)) if find.strip() else []
    if len(matches) != 1:
        raise _RefusedError(f"`find` matches {len(matches)} times: it must match exactly once")
    return matches[0].span()


def _inserted(left: str, text: str, right: str) -> str:
    """Return ``text`` between its neighbours: on a line of its own after a line of many, else after a space."""
    own_line = right.startswith("\n") or (not right and "\n" in left)
    text = text.rstrip() if text[:1].isspace() else text.strip()
    before = "" if not left or left[-1].isspace() or text[:1].isspace() else "\n" if own_line else " "
    after = "" if not right or right[0].isspace() or right[0] in ".,;:!?)" else " "
    return left + before + text + after + right


def _closed(left: str, right: str) -> str:
    """Return what is left when the words in between are gone, with white space for one gap."""
    before, after = left[len(left.rstrip()) :], right[: len(right) - len(right.lstrip())]
    gap = max((before, after), key=lambda space: (space.count("\n"), len(space)))
    if not left.strip() or not right.strip():
        gap = after if left.strip() else before
    return left.rstrip() + gap + right.lstrip()


def _kept_apart(field: TextField, before: str, after: str) -> str:
    """Return the text with a line break towards the sample where its last or first words are new."""
    if field == "user_prompt_prefix" and after and before[-1:] != after[-1] and not after[-1].isspace():
        return after + "\n"
    if field == "user_prompt_suffix" and after and before[:1] != after[0] and not after[0].isspace():
        return "\n" + after
    return after


def _runs(text: str) -> set[str]:
    """Return all runs of ``COPIED_WORDS`` words, without case and punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = re.findall(r"\w+", re.sub("['’]", "", folded))  # noqa: RUF001
    return {" ".join(words[at : at + COPIED_WORDS]) for at in range(len(words) - COPIED_WORDS + 1)}


def _runs_of_all(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(run for text in texts for run in _runs(text))


Step = tuple[str, Prompt]
"""What was done, on one line, and the prompt after it."""

_BREAK = re.compile(r"""\s*\n\s*|(?:(?<=[.!?])|(?<=[.!?]["'”)\]]))[^\S\n]+(?=[^\sa-z])|(?<=[。！？])(?=\S)""")  # noqa: RUF001


def sentences(text: str) -> list[str]:
    """Return the sentences of a text in their order; a line break ends one, too."""
    return [text[start:end] for start, end in _sentence_spans(text)]


def deterministic_steps(
    prompt: Prompt,
    notes: Sequence[tuple[str, str]],
    rng: Random,
    *,
    edit: Collection[str],
    labels: Sequence[str],
    extract: str,
    max_length: int,
) -> list[Step]:
    """Return up to three small changes that no optimizer had to think of, drawn by ``rng``.

    A sentence of the system prompt goes, a rule made of one of the ``notes``, (label, note), is added to it,
    or two examples change places. The last four arguments are those of ``apply_patches``.
    """
    kept = _kept(prompt, labels, extract)
    kinds = (_sentence_steps(prompt, "system_prompt"), _note_steps(prompt, notes), _swap_steps(prompt, rng))
    allowed = (
        _allowed(prompt, steps, kept, max_length)
        for field, steps in zip(("system_prompt", "system_prompt", "examples"), kinds, strict=True)
        if field in edit
    )
    return [shuffled(steps, rng)[0] for steps in allowed if steps]


def prune_steps(prompt: Prompt, *, edit: Collection[str], labels: Sequence[str], extract: str) -> list[Step]:
    """Return the prompt without each of its examples, and without each sentence that may go.

    The arguments are those of ``apply_patches``.
    """
    steps = list(_example_steps(prompt)) if "examples" in edit else []
    for field in TEXT_FIELDS:
        if field in edit:
            steps += _sentence_steps(prompt, field)
    return _allowed(prompt, steps, _kept(prompt, labels, extract))


def _allowed(prompt: Prompt, steps: Iterable[Step], kept: Collection[str], max_length: int | None = None) -> list[Step]:
    return [step for step in steps if _problem(prompt, step[1], kept, max_length) is None]


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


def _sentence_steps(prompt: Prompt, field: TextField) -> Iterator[Step]:
    text: str = getattr(prompt, field)
    for start, end in _sentence_spans(text):
        shorter = _kept_apart(field, text, _closed(text[:start], text[end:]))
        yield f"{field}: without {short(text[start:end])}", prompt.model_copy(update={field: shorter})


def _example_steps(prompt: Prompt) -> Iterator[Step]:
    for at, example in enumerate(prompt.examples):
        fewer = prompt.examples[:at] + prompt.examples[at + 1 :]
        yield f"without example {at + 1}: {short(example.text)}", prompt.model_copy(update={"examples": fewer})


def _note_steps(prompt: Prompt, notes: Iterable[tuple[str, str]]) -> Iterator[Step]:
    for label, note in notes:
        folded = " ".join(_cleaned(note).split()).rstrip(".")
        if folded and folded not in prompt.system_prompt and _word_count(folded) <= MAX_WORDS:
            rule = f"Note: {folded} → {prompt.label_words.get(label, label)}."
            text = _edited(prompt.system_prompt, Patch("system_prompt", "append", text=rule))
            yield f"system_prompt: add {short(rule)}", prompt.model_copy(update={"system_prompt": text})


def _swap_steps(prompt: Prompt, rng: Random) -> Iterator[Step]:
    if len(prompt.examples) > 1:
        first, second = sorted(shuffled(range(len(prompt.examples)), rng)[:2])
        swapped = list(prompt.examples)
        swapped[first], swapped[second] = swapped[second], swapped[first]
        yield f"examples: swap {first + 1} and {second + 1}", prompt.model_copy(update={"examples": tuple(swapped)})
