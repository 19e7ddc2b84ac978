"""Why a request has no recorded reply: which part of it changed since the recording."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_promptfit.chat import ASKS_FOR_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_promptfit.cassette import Cassette, Recorded
    from pytest_promptfit.samples import Sample


def explain_miss(cassette: Cassette, url: str, payload: Mapping[str, Any], sample: Sample) -> str:
    """Say in a line what changed since something was recorded for this sample, or that nothing was."""
    if not len(cassette):
        return "no reply is recorded for this prompt yet"
    recorded = _nearest(cassette, url, payload, sample)
    if recorded is None:
        other = next(iter(cassette))
        changed = [part for part in _changes(other, url, payload, sample) if part != _OTHER_TEXT]
        sample_is_new = "this sample is new, or its text was edited"
        return f"no recorded reply: {sample_is_new}{'; also changed: ' if changed else ''}{', '.join(changed)}"
    changed = _changes(recorded, url, payload, sample)
    return f"no recorded reply: changed since it was recorded: {', '.join(changed) or 'the form of the request'}"


_OTHER_TEXT = "this sample's text"


def _nearest(cassette: Cassette, url: str, payload: Mapping[str, Any], sample: Sample) -> Recorded | None:
    """Return what was recorded for the sample with the fewest changes, else for the same user turn."""
    own = cassette.of_sample(sample.id)
    if own:
        return min(own, key=lambda entry: len(_changes(entry, url, payload, sample)))
    turn = _parts(payload)["user turn"]
    return next((entry for entry in cassette if sample.text in entry.request_body and _turn(entry) == turn), None)


def _turn(entry: Recorded) -> object:
    return _parts(_body(entry))["user turn"]


def _body(entry: Recorded) -> dict[str, Any]:
    try:
        value = json.loads(entry.request_body)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _changes(recorded: Recorded, url: str, payload: Mapping[str, Any], sample: Sample) -> list[str]:
    before, now = _parts(_body(recorded)), _parts(payload)
    changed = [] if recorded.url == url else [f"the endpoint (was {recorded.url})"]
    for part in dict.fromkeys([*now, *before]):
        old, new = before.get(part), now.get(part)
        if old == new:
            continue
        if part == "user turn":
            changed += _turn_changes(str(old), str(new), sample.text)
        elif part == "model" or part.startswith("parameter "):
            changed.append(f"{part} ({_shown(old)} → {_shown(new)})")
        else:
            changed.append(part)
    return changed


def _turn_changes(old: str, new: str, text: str) -> list[str]:
    if text not in old:
        return [_OTHER_TEXT]
    (old_before, _, old_after), (new_before, _, new_after) = old.partition(text), new.partition(text)
    old_suffix, _, old_prefix = old_after.partition(ASKS_FOR_PREFIX)
    new_suffix, _, new_prefix = new_after.partition(ASKS_FOR_PREFIX)
    parts = {
        "user_prompt_prefix": (old_before, new_before),
        "user_prompt_suffix": (old_suffix, new_suffix),
        "bot_reply_prefix": (old_prefix, new_prefix),
    }
    return [name for name, (before, now) in parts.items() if before != now]


def _shown(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)[:40]


def ends_with_assistant(request_body: str) -> bool:
    """Tell whether words were put in the model's mouth by a turn of their own."""
    try:
        return bool(json.loads(request_body)["messages"][-1]["role"] == "assistant")
    except (IndexError, KeyError, TypeError, ValueError):
        return False


def _parts(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Take a body of either protocol apart into what a user can change."""
    messages = [(m.get("role"), _text(m.get("content"))) for m in payload.get("messages", ()) if isinstance(m, dict)]
    system = [text for role, text in messages if role == "system"] or [_text(payload.get("system"))]
    turns = [turn for turn in messages if turn[0] != "system"]
    prefix = turns.pop()[1] if turns and turns[-1][0] == "assistant" else ""
    asked = turns.pop()[1] if turns else ""
    params = {f"parameter {key}": value for key, value in payload.items() if key not in ("messages", "system", "model")}
    return {
        "model": payload.get("model"),
        "system_prompt": "\n".join(system),
        "examples": turns,
        "bot_reply_prefix": prefix,
        "user turn": asked,
        **params,
    }


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
