"""Why a request has no recorded reply: which part of it changed since the recording."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_promptfit.chat.request import ASKS_FOR_PREFIX, params_of, parts_of, question_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_promptfit.cassettes.cassette import Cassette, Recorded
    from pytest_promptfit.prompts.samples import Sample

_TEXT = "the text of this sample"
_LISTED = "system_prompt, or the labels that it lists for this sample,"
_MARK = "\ue000promptfit\ue000"
"""Stands for a sample's text where the prompt's own parts are taken from a body."""


@dataclass(frozen=True)
class _Parts:
    """What of a body a user can change; ``turn`` is the user turn that asks."""

    shared: dict[str, Any]
    turn: str


class Misses:
    """Explains the samples of one prompt that a cassette has no reply for; each recorded body is read once.

    ``payload_of`` makes the JSON body for a text, ``url`` is where it would be sent. ``pool`` is the name of the file
    that the examples of each text are drawn from; ``""`` where all texts have the same. With ``shortlist`` each text
    has a list of labels of its own.
    """

    def __init__(
        self,
        cassette: Cassette,
        url: str,
        payload_of: Callable[[str], Mapping[str, Any]],
        pool: str = "",
        *,
        shortlist: bool = False,
    ) -> None:
        self._cassette = cassette
        self._url = url
        self._payload_of = payload_of
        self._pool = pool
        self._shortlist = shortlist
        self._read: dict[str, _Parts] = {}

    def explain(self, sample: Sample, keys: Sequence[str] = ()) -> str:
        """Say in a line what changed since something was recorded for this sample, or that nothing was.

        ``keys`` are those of all answers to it.
        """
        lacking = sum(key not in self._cassette for key in keys)
        if lacking < len(keys):
            return f"not recorded: {lacking} of {len(keys)} answers (repeats)"
        if not len(self._cassette):
            return "not recorded: nothing of this prompt is recorded yet"
        before, after = self._around(sample.text)
        own = self._cassette.of_sample(sample.id) or self._of_turn.get(f"{before}{sample.text}{after}", [])
        if not own:
            changed = self._shared_changes(next(iter(self._cassette)), self._now.shared)
            changed = [part for part in changed if not (self._pool and part in (self._nearest, _LISTED))]
            also = f"; also changed: {', '.join(changed)}" if changed else ""
            return f"not recorded: this sample is new, was not asked yet, or its text was edited{also}"
        now = _parts(self._payload_of(sample.text)).shared if self._pool else self._now.shared
        all_changes = (
            [
                *self._shared_changes(entry, now),
                *_turn_changes(self._parts_of(entry).turn, sample.text, before, after),
            ]
            for entry in own
        )
        changed = min(all_changes, key=len)
        return f"not recorded: {', '.join(changed) or 'the form of the request'} changed"

    @cached_property
    def _now(self) -> _Parts:
        return _parts(self._payload_of(_MARK))

    def _around(self, text: str) -> tuple[str, str]:
        """Return what stands before and after a text in the user turn that asks about it."""
        turn, mark = (_parts(self._payload_of(text)).turn, text) if self._shortlist else (self._now.turn, _MARK)
        before, _, after = turn.partition(mark)
        return before, after

    @cached_property
    def _of_turn(self) -> dict[str, list[Recorded]]:
        """What was recorded, by the user turn that asked: a sample may have got another id."""
        found: dict[str, list[Recorded]] = {}
        for entry in self._cassette:
            found.setdefault(self._parts_of(entry).turn, []).append(entry)
        return found

    def _parts_of(self, entry: Recorded) -> _Parts:
        if entry.key not in self._read:
            try:
                body = json.loads(entry.request_body)
            except (ValueError, RecursionError):
                body = None
            self._read[entry.key] = _parts(body if isinstance(body, dict) else {})
        return self._read[entry.key]

    def _shared_changes(self, entry: Recorded, now: Mapping[str, Any]) -> list[str]:
        before = self._parts_of(entry).shared
        changed = [] if entry.url == self._url else [f"the endpoint (was {entry.url})"]
        for part in dict.fromkeys([*now, *before]):
            old, new = before.get(part), now.get(part)
            if _same(old, new):
                continue
            if part == "system_prompt" and self._shortlist:
                part = _LISTED
            if part == "examples" and self._pool and len(old or ()) == len(new or ()):
                part = self._nearest
            has_value = part == "model" or part.startswith("parameter ")
            changed.append(f"{part} ({_shown(old)} → {_shown(new)})" if has_value else part)
        return changed

    @property
    def _nearest(self) -> str:
        return f"the rows of {self._pool} that are nearest to it"


def _turn_changes(turn: str, text: str, before: str, after: str) -> list[str]:
    """Return what changed of a user turn that was recorded: now it is ``before``, the text, ``after``."""
    if turn == f"{before}{text}{after}":
        return []
    is_framed = bool(before and after) and turn.startswith(before) and turn.endswith(after)
    if is_framed or text not in turn:
        return [_TEXT]
    begins = turn.startswith(f"{before}{text}")
    rest = turn.removeprefix(f"{before}{text}") if begins else turn.rpartition(text)[2]
    (suffix, _, prefix), (suffix_now, _, prefix_now) = (tail.partition(ASKS_FOR_PREFIX) for tail in (rest, after))
    changed = [] if begins else ["user_prompt_prefix"]
    changed += [] if suffix == suffix_now else ["user_prompt_suffix"]
    return changed if prefix == prefix_now else [*changed, "bot_reply_prefix"]


def _same(old: object, new: object) -> bool:
    try:
        return old == new
    # Nested deeper than Python compares: it counts as changed.
    except RecursionError:
        return False


def _shown(value: object) -> str:
    try:
        return "none" if value is None else json.dumps(value, ensure_ascii=False)[:40]
    except RecursionError:
        return "…"


def ends_with_assistant(request_body: str) -> bool:
    """Tell whether words were put in the model's mouth by a turn of their own."""
    try:
        return bool(json.loads(request_body)["messages"][-1]["role"] == "assistant")
    except (IndexError, KeyError, RecursionError, TypeError, ValueError):
        return False


def _parts(payload: Mapping[str, Any]) -> _Parts:
    """Take a body of either protocol apart; what has another form than ours counts as not there."""
    if question := question_of(payload):
        choices = list(question.choices.items())
        shared = {"model": payload.get("model"), "system_prompt": question.instructions, "the choices": choices}
        return _Parts({**shared, **_params(payload)}, question.text)
    messages = [(message.get("role"), text_of(message.get("content"))) for message in parts_of(payload.get("messages"))]
    system = [text for role, text in messages if role == "system"] or [text_of(payload.get("system"))]
    turns = [turn for turn in messages if turn[0] != "system"]
    prefix = turns.pop()[1] if turns and turns[-1][0] == "assistant" else ""
    asked = turns.pop()[1] if turns else ""
    shared = {
        "model": payload.get("model"),
        "system_prompt": "\n".join(system),
        "examples": turns,
        "bot_reply_prefix": prefix,
        **_params(payload),
    }
    return _Parts(shared, asked)


def _params(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {f"parameter {key}": value for key, value in params_of(payload).items()}
