"""Which column of a data file is the text, the label, the id, the note: guessed from names and values, with reasons.

Pure: columns and rows in, a guess out. What cannot be told apart is an error that names the candidates.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.samples import columns_in
from pytest_promptfit.text import cut, nearest, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_promptfit.prompts.tables import Row

Rank: TypeAlias = tuple[int, int]
"""How well a name fits, smaller is better: how telling the word is, and whether it is the whole name."""

LABEL_WORDS = (
    "label labels target gold class expected",
    "category sentiment intent topic emotion polarity stance tag output toxic spam v1 y",
    "type kind rating stars score status priority answer verdict decision is",
)
TEXT_WORDS = (
    "text texts",
    "sentence question review content body message tweet utterance query document comment post input prompt email "
    "sms passage statement article transcript request complaint feedback premise hypothesis claim v2",
    "title subject headline description summary abstract snippet name",
)
ID_WORDS = {"id", "ids", "uid", "uuid", "guid", "qid", "key", "hash", "sha"}
INDEX_NAMES = {"", "index", "idx", "row", "line", "no", "nr", "number", "unnamed", "unnamed_0", "level_0"}
PADDING = {"name", "text", "value", "str", "column"}
"""Words behind a label's own word that add nothing: ``label_text``, ``category_name``."""
NOTE_NAMES = ("note", "notes", "reason", "rationale", "explanation", "remark", "justification")
CANONICAL_NAMES = ("canonical", "must_pass", "mustpass", "critical")
YES_NO = {"", "0", "1", "true", "false", "yes", "no", "y", "n", "x"}
MOST_LABELS, MOST_NUMBERS = 50, 12
"""Different values that a column may have and still be taken for labels, when its name does not say so."""
FEW_ROWS = 20
LONGEST_LABEL, MOST_WORDS = 80, 6
WORDS_OF_A_TEXT = 3
MUCH_LONGER = 3


@dataclass(frozen=True)
class Found:
    """A column that was found for a role, and why."""

    column: str
    why: str


@dataclass(frozen=True)
class Guess:
    """The columns of a data file by their role; ``text`` may be a template over columns."""

    text: Found
    label: Found
    id: Found | None
    note: Found | None
    canonical: Found | None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """A column and its values."""

    name: str
    cells: tuple[str, ...]

    @cached_property
    def values(self) -> Counter[str]:
        """How often each value occurs; empty cells do not count."""
        return Counter(cell for cell in self.cells if cell)

    @cached_property
    def are_numbers(self) -> bool:
        """Whether every value is a number."""
        return all(map(is_number, self.values))

    @cached_property
    def words(self) -> float:
        """Words in a value, on average."""

        def count(value: str) -> int:
            wide = sum(char >= "\u2e80" for char in value)  # scripts without spaces: two characters for a word
            return len(value.split()) if " " in value else max(1, wide // 2)

        return self._mean(count)

    @cached_property
    def length(self) -> float:
        """Characters in a value, on average."""
        return self._mean(len)

    @cached_property
    def is_unique(self) -> bool:
        """Whether every cell is filled, each with another value."""
        return len(self.values) == len(self.cells)

    @property
    def is_index(self) -> bool:
        """Whether it counts the rows."""
        # Two rows prove no count: 0 and 1 may as well be labels.
        first = self.cells[0] if self.cells else ""
        if first not in ("0", "1"):
            return False
        return self.cells == tuple(map(str, range(int(first), int(first) + len(self.cells)))) and len(self.cells) > 2

    def says_the_same_as(self, other: Profile) -> bool:
        """Tell whether the values of both stand for each other, one to one, and come more than once."""
        pairs = set(zip(self.cells, other.cells, strict=True))
        mine, theirs = {mine for mine, _ in pairs}, {theirs for _, theirs in pairs}
        return len(pairs) == len(mine) == len(theirs) < len(self.cells)

    def _mean(self, measure: Callable[[str], int]) -> float:
        return sum(map(measure, self.values)) / max(1, len(self.values))


def guess_columns(
    columns: Sequence[str], rows: Sequence[Row], *, text: str | None = None, label: str | None = None
) -> Guess:
    """Return the columns by role; ``text`` and ``label`` are those that the user named.

    Raises:
        PromptfitError: a named column is not there, or a role cannot be told; the line names the candidates.
    """
    profiles = {column: Profile(column, tuple(row.cells[column].strip() for row in rows)) for column in columns}
    own = [] if not text else [text] if text in columns else columns_in(text) or [text]
    for option, name in (*(("--text", name) for name in own), ("--label", label)):
        if name and name not in columns:
            raise PromptfitError(f"{option} {plain(name)}: no such column{nearest(name, columns)}")
    if len(columns) < 2:
        raise PromptfitError(f"one column only, {_shown(columns[0])}: expected one of texts and one of labels")
    # Where the first line is a sample, a column's name is one of its own values.
    samples = (p.name for p in profiles.values() if p.name in p.values and len(p.values) < len(p.cells))
    if not (text and label) and (sample := next(samples, None)):
        raise PromptfitError(
            f"line 1 looks like a sample, not like names of columns ({_shown(sample)} is a value of its own column): "
            "put a line with names before it, such as text,label"
        )
    free = [profile for profile in profiles.values() if profile.name not in (*own, label)]
    yes_no = [profile for profile in free if {value.casefold() for value in profile.values} <= YES_NO]
    canonical = _named(yes_no, CANONICAL_NAMES)
    note = _named(free, NOTE_NAMES)
    side = [found.column for found in (canonical, note) if found]
    free = [profile for profile in free if profile.name not in side]
    labels = Found(label, "as you say") if label else _label(free)
    free = [p for p in free if p.name != labels.column and not p.says_the_same_as(profiles[labels.column])]
    texts = Found(text, "as you say") if text else _text(free) or note
    if texts is None:
        others = ", ".join(f"{_shown(p.name)}{_such_as(p)}" for p in profiles.values() if p.name != labels.column)
        raise PromptfitError(
            f"no column looks like texts beside the labels in {_shown(labels.column)}: {others}: "
            "say which with --text COLUMN, and --label COLUMN where the labels were guessed wrong"
        )
    identity, remarks = _id([profile for profile in free if profile.name != texts.column])
    return Guess(texts, labels, identity, note if note != texts else None, canonical, tuple(remarks))


def is_number(value: str) -> bool:
    """Tell whether a value is a number as data files write them."""
    return re.fullmatch(r"[-+]?\d+([.,]\d+)*([eE][-+]?\d+)?", value) is not None


def _named(profiles: Iterable[Profile], names: Sequence[str]) -> Found | None:
    known = [profile.name for profile in profiles if "_".join(words_in(profile.name)) in names]
    return Found(known[0], "by its name") if len(known) == 1 else None


def _label(profiles: Sequence[Profile]) -> Found:
    """Return the column of the labels: by its name, else the only one with few different values."""
    open_to = [p for p in profiles if p.values and not is_id(p.name) and not is_index(p.name) and not p.is_index]
    named = [(rank, profile) for profile in open_to if (rank := rank_of_label(profile.name)) is not None]
    fitting = [(rank, profile) for rank, profile in named if _could_be_label(profile)]
    if named and not fitting:
        profile = min(named, key=lambda pair: pair[0])[1]
        raise PromptfitError(
            f"{_shown(profile.name)} has {len(profile.values)} different values in {len(profile.cells)} rows"
            f"{_such_as(profile)}: are these labels? Say --label {_shown(profile.name)}, or name another column"
        )
    if fitting:
        return _one_label(_best(fitting), open_to, "by its name")
    candidates = []
    for profile in open_to:
        most = min(MOST_NUMBERS if profile.are_numbers else MOST_LABELS, max(2, len(profile.cells) // 3))
        if 2 <= len(profile.values) <= most and _is_short(profile):
            candidates.append(profile)
    if candidates:
        return _one_label(candidates, open_to, "the only column with few different values")
    counts = ", ".join(f"{_shown(p.name)} ({len(p.values)} different values)" for p in profiles) or "none is left"
    raise PromptfitError(f"no column looks like labels: {counts}: say which with --label COLUMN")


def _one_label(candidates: Sequence[Profile], all_columns: Sequence[Profile], why: str) -> Found:
    """Return the candidate, or of several that say the same the one that says it in words."""
    first = candidates[0]
    if all(other.says_the_same_as(first) for other in candidates[1:]):
        same = [p for p in all_columns if p.says_the_same_as(first) and _could_be_label(p)]
        in_words = [profile for profile in same if not profile.are_numbers]
        if in_words and first.are_numbers:
            others = ", ".join(_shown(p.name) for p in same if p is not in_words[0])
            return Found(in_words[0].name, f"says in words what {others} says in numbers")
        return Found(first.name, why)
    raise _ambiguous("labels", "--label", candidates)


def _could_be_label(profile: Profile) -> bool:
    most = max(FEW_ROWS, len(profile.cells) // 2)
    return len(profile.values) <= most and _is_short(profile)


def _is_short(profile: Profile) -> bool:
    return profile.words <= MOST_WORDS and all(len(value) <= LONGEST_LABEL for value in profile.values)


def _text(profiles: Sequence[Profile]) -> Found | None:
    """Return the column of the texts: by its name, else the only one, or by far the longest, with words."""
    open_to = [p for p in profiles if p.values and not (p.are_numbers or is_id(p.name) or is_index(p.name))]
    texts = [p for p in open_to if p.words >= WORDS_OF_A_TEXT]
    texts = texts or [p for p in open_to if rank_of_text(p.name) is not None or 2 * len(p.values) > len(p.cells)]
    named = [(rank, profile) for profile in texts if (rank := rank_of_text(profile.name)) is not None]
    best = _best(named) if named else list(texts)
    if len(best) == 1:
        return Found(best[0].name, "by its name" if named else f"the only column of texts{_such_as(best[0])}")
    best.sort(key=lambda profile: -profile.length)
    if not best or (not named and best[0].length >= MUCH_LONGER * best[1].length):
        return Found(best[0].name, f"by far the longest texts{_such_as(best[0])}") if best else None
    raise _ambiguous("texts", "--text", best)


def _best(ranked: Sequence[tuple[Rank, Profile]]) -> list[Profile]:
    top = min(rank for rank, _ in ranked)
    return [profile for rank, profile in ranked if rank == top]


def _id(profiles: Sequence[Profile]) -> tuple[Found | None, list[str]]:
    """Return the column of ids, and remarks on those that are none."""
    remarks = []
    for profile in sorted(profiles, key=lambda profile: words_in(profile.name) != ["id"]):
        if is_index(profile.name) or (profile.is_index and not is_id(profile.name)):
            remarks.append(f"{_shown(profile.name)} numbers the rows, which may move: not used as id")
        elif is_id(profile.name) and profile.is_unique:
            return Found(profile.name, "by its name, and no value comes twice"), remarks
        elif is_id(profile.name):
            remarks.append(f"{_shown(profile.name)} is not used as id: some values are empty or come twice")
    return None, remarks


def _ambiguous(what: str, option: str, candidates: Sequence[Profile]) -> PromptfitError:
    names = ", ".join(_shown(profile.name) for profile in candidates)
    both = ""
    if option == "--text":
        template = plain(" ".join(f"{{{profile.name}}}" for profile in candidates)).replace("'", "'\\''")
        both = f", or more than one as a template: --text '{template}'"
    return PromptfitError(f"several columns could be the {what}: {names}: say which with {option} COLUMN{both}")


def _such_as(profile: Profile) -> str:
    value = next(iter(profile.values), "")
    return f" (such as {cut(value, 40)!r})" if value else " (empty)"


def _shown(name: str) -> str:
    return plain(name) if name.strip() and name.isprintable() else repr(name)


def words_in(name: str) -> list[str]:
    """Return the words of a name: ``questionText`` and ``question_text`` are ``question``, ``text``."""
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [part.casefold() for part in re.findall(r"[^\W_]+", parts)]


def is_id(name: str) -> bool:
    """Tell whether a name is that of ids."""
    return bool(words := words_in(name)) and words[-1] in ID_WORDS


def is_index(name: str) -> bool:
    """Tell whether a name is that of row numbers."""
    return "_".join(words_in(name)) in INDEX_NAMES


def rank_of_label(name: str) -> Rank | None:
    """Return how well a name fits labels."""
    words = words_in(name)
    while len(words) > 1 and words[-1] in PADDING:
        words.pop()
    if words and words[0] in ("is", "has") and len(words) > 1:
        words = ["is"]
    return _rank(words, LABEL_WORDS)


def rank_of_text(name: str) -> Rank | None:
    """Return how well a name fits texts."""
    return _rank(words_in(name), TEXT_WORDS)


def _rank(words: list[str], tiers: tuple[str, ...]) -> Rank | None:
    # The last word says what a column is: text_length is a length.
    last = words[-1] if words else ""
    # question1 and question2 are both questions; v1 and v2 are names of their own.
    forms = {last, last.rstrip("0123456789")}
    for tier, known in enumerate(tiers):
        if forms & set(known.split()):
            return tier, int(len(words) > 1)
    return None
