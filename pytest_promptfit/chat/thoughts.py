"""A thought is not the answer: what a model thought aloud is parted from what it says.

Pure functions over the text of a reply; thoughts that an API sends apart are read in ``providers``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_promptfit.chat.quoting import Source, folded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.chat.reply import ChatReply

_TAG = re.compile(r"<(/?)(?:think|thinking|reasoning)\s*>|\[(/?)THINK\]", re.IGNORECASE)
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final\s*(?:<\|[^|<>]*\|>[^<]*)?<\|message\|>")
"""Where the answer begins in a reply whose server left the channels of the model's own form in the text."""

_MOST_TAGS = 1000


def may_hold_thought(text: str) -> bool:
    """Tell fast whether a text may hold a tag of a thought."""
    small = text.casefold()
    return "think" in small or "reasoning" in small or "<|channel|>" in small


def has_thought_tag(text: str) -> bool:
    """Tell whether a text, such as a pattern, speaks of the tags that thoughts stand in."""
    return _TAG.search(text) is not None


def without_thought(reply: ChatReply, text: str, *, prefix: str = "") -> ChatReply:
    """Return the reply with the thoughts in its text set aside; ``text`` is the sample, which may hold such tags.

    ``prefix`` are words that were put in the model's mouth: they stay where they are.
    """
    if not may_hold_thought(reply.text):
        return reply
    start = prefix if reply.text.startswith(prefix) else ""
    thought, said = split_thought(reply.text[len(start) :], text)
    if not thought:
        return reply
    kept = "\n\n".join(filter(None, (reply.thought, thought)))
    return replace(reply, text=f"{start}{said.removeprefix(start)}", thought=kept)


def split_thought(said: str, text: str = "") -> tuple[str, str]:
    """Return the thought in the words of a model and the rest of them; ``("", said)`` where there is none.

    A thought stands between tags, before a closing tag that was never opened (many templates put the opening
    one into the prompt), or after an opening one at the beginning that is never closed: cut, or never ended.
    """
    final = list(_FINAL_CHANNEL.finditer(said))[-1:]
    if final:
        thought = re.sub(r"<\|[^|<>]*\|>", " ", said[: final[0].start()]).strip()
        return thought, re.sub(r"<\|[^|<>]*\|>\s*$", "", said[final[0].end() :])
    spans = list(_spans(said, text)) if _TAG.search(said) else []
    if not spans:
        return "", said
    thoughts = [_TAG.sub("", said[start:end]).strip() for start, end in spans]
    return "\n\n".join(filter(None, thoughts)) or "(empty)", _outside(said, spans).lstrip()


def _spans(said: str, text: str) -> Iterator[tuple[int, int]]:
    """Yield where thoughts begin and end, in order; a tag that is quoted from the sample delimits nothing."""
    opened: int | None = None
    found: list[tuple[int, int]] = []
    for start, end, closes in _tags(said, text):
        if not closes:
            opened = start if opened is None else opened
        elif opened is not None:
            found.append((opened, end))
            opened = None
        else:  # never opened: all before it is thought
            found = [(0, end)]
    if opened is not None and not _outside(said[:opened], found).strip():
        found.append((opened, len(said)))
    yield from found


def _outside(said: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return what stands in none of the spans."""
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    return "".join(said[left:right] for left, right in zip([0, *ends], [*starts, len(said)], strict=True))


def _tags(said: str, text: str) -> Iterator[tuple[int, int, bool]]:
    source = Source(text) if may_hold_thought(folded(text)) else None
    for count, tag in enumerate(_TAG.finditer(said)):
        if count == _MOST_TAGS:
            return
        if source is None or not source.quotes(said, tag.start(), tag.end()):
            yield tag.start(), tag.end(), bool(tag[1] or tag[2])
