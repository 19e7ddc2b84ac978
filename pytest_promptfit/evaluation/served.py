"""Which model answered, as the replies say: an API may serve another one under the name that was asked for.

Values only; a name and a fingerprint are what the server says they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_promptfit.text import counted, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_promptfit.chat.reply import ChatReply

SHOWN_FINGERPRINTS = 3


@dataclass(frozen=True, slots=True)
class Served:
    """A model that answered, by the name that its replies have, and the fingerprints that they came with, sorted.

    One batch may have several fingerprints: OpenAI's differ from reply to reply. ``replies`` is 0 where it is not
    known.
    """

    model: str
    replies: int = 0
    fingerprints: tuple[str, ...] = ()


def served_by(replies: Iterable[ChatReply]) -> tuple[Served, ...]:
    """Return the models that answered, by name; none where no reply says which."""
    found: dict[str, list[str]] = {}
    for reply in replies:
        if reply.model:
            found.setdefault(reply.model, []).append(reply.fingerprint)
    return tuple(Served(name, len(marks), tuple(sorted({*marks} - {""}))) for name, marks in sorted(found.items()))


def together(*parts: Sequence[Served]) -> tuple[Served, ...]:
    """Return who answered in one part or another, without counts: parts may share samples."""
    marks: dict[str, set[str]] = {}
    for one in (one for part in parts for one in part):
        marks.setdefault(one.model, set()).update(one.fingerprints)
    return tuple(Served(name, 0, tuple(sorted(found))) for name, found in sorted(marks.items()))


def said_of_another(before: Sequence[Served], now: Sequence[Served], *, is_part: bool = False) -> str:
    """Return who answers now instead of whom, safe to show; ``""`` where it is the same, or one side is not known.

    It is another one by its name or, where names are the same, when none of its fingerprints is known from before.
    With ``is_part`` only some samples are looked at now, so that not all names need to occur.
    """
    if not before or not now:
        return ""
    names_before, names_now = {one.model for one in before}, {one.model for one in now}
    by_name = bool(names_now - names_before) or (not is_part and names_now != names_before)
    marks_before, marks_now = ({mark for one in some for mark in one.fingerprints} for some in (before, now))
    if not by_name and (not marks_before or not marks_now or marks_before & marks_now):
        return ""
    return f"answered by {_named(now, by_name=by_name)} instead of {_named(before, by_name=by_name)}"


def _named(served: Sequence[Served], *, by_name: bool) -> str:
    if not by_name:
        marks = [plain(mark) for one in served for mark in one.fingerprints]
        more = f" and {len(marks) - SHOWN_FINGERPRINTS} more" if len(marks) > SHOWN_FINGERPRINTS else ""
        return f"{_listed(served)} ({', '.join(marks[:SHOWN_FINGERPRINTS])}{more})"
    if len(served) == 1 or not all(one.replies for one in served):
        return _listed(served)
    return " and ".join(f"{plain(one.model)} ({counted(one.replies, 'reply', 'replies')})" for one in served)


def _listed(served: Sequence[Served]) -> str:
    return " and ".join(plain(one.model) for one in served)
