"""What a model answered, whatever the API, as values: its words, the thought beside them, and how likely a label was.

Pure functions. Thoughts that an API sends apart are read in ``providers``.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal

from pytest_promptfit.chat.answers import Source, folded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

StopReason = Literal["stop", "length", "content_filter", "other"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model called instead of, or besides, saying something; ``arguments`` is JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back: the text (starting with the reply prefix), token counts and why the model stopped.

    ``cached_tokens`` are those of the ``input_tokens`` that the provider read from its prompt cache, and
    ``written_tokens`` those that it put there.
    ``thought`` is what the model thought aloud: for people, no label is read from it. ``model`` is the one that
    answered, as the API names it, and ``fingerprint`` what the API tells its setup apart by; empty where it says none.
    ``probabilities`` are those of the label words that a decision model chose from.
    """

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    stop_reason: StopReason = "stop"
    cached_tokens: int = 0
    thought: str = ""
    calls: tuple[ToolCall, ...] = ()
    written_tokens: int = 0
    model: str = ""
    fingerprint: str = ""
    probabilities: dict[str, float] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The reply as people read it: its words, and the tools that it calls."""
        return "\n".join([*filter(None, [self.text]), *(f"{call.name}({call.arguments})" for call in self.calls)])


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """One token of a reply and what the model could have said in its place, with natural log-probabilities."""

    text: str
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()


_THOUGHT_TAG = re.compile(r"<(/?)(?:think|thinking|reasoning)\s*>|\[(/?)THINK\]", re.IGNORECASE)
# Where the answer begins in a reply whose server left the channels of the model's own form in the text.
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final\s*(?:<\|[^|<>]*\|>[^<]*)?<\|message\|>")

_MOST_THOUGHT_TAGS = 1000


def may_hold_thought(text: str) -> bool:
    """Tell fast whether a text may hold a tag of a thought."""
    small = text.casefold()
    return "think" in small or "reasoning" in small or "<|channel|>" in small


def has_thought_tag(text: str) -> bool:
    """Tell whether a text, such as a pattern, speaks of the tags that thoughts stand in."""
    return _THOUGHT_TAG.search(text) is not None


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
    spans = _spans(said, text) if _THOUGHT_TAG.search(said) else []
    if not spans:
        return "", said
    thoughts = [_THOUGHT_TAG.sub("", said[start:end]).strip() for start, end in spans]
    # Tags with nothing between them are a thought too: with no word for it they would stay in the reply.
    return "\n\n".join(filter(None, thoughts)) or "(empty)", _outside(said, spans).lstrip()


def _spans(said: str, text: str) -> list[tuple[int, int]]:
    """Return where thoughts begin and end, in order; a tag that is quoted from the sample delimits nothing."""
    source = Source(text) if may_hold_thought(folded(text)) else None
    opened: int | None = None
    found: list[tuple[int, int]] = []
    for tag in islice(_THOUGHT_TAG.finditer(said), _MOST_THOUGHT_TAGS):
        if source is not None and source.quotes(said, tag.start(), tag.end()):
            continue
        if not (tag[1] or tag[2]):
            opened = tag.start() if opened is None else opened
        elif opened is not None:
            found.append((opened, tag.end()))
            opened = None
        else:  # never opened: all before it is thought
            found = [(0, tag.end())]
    if opened is not None and not _outside(said[:opened], found).strip():
        found.append((opened, len(said)))
    return found


def _outside(said: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return what stands in none of the spans."""
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    return "".join(said[left:right] for left, right in zip([0, *ends], [*starts, len(said)], strict=True))


def label_probabilities(
    tokens: Sequence[TokenLogprobs], reply: str, start: int, words: Mapping[str, str]
) -> dict[str, float]:
    """Return ``{label: probability}``, summing up to 1, at the place where the label was read from a reply.

    ``tokens`` are those the model wrote, ``reply`` is its whole text with the reply prefix, ``start`` where in
    it the label's word begins, ``words`` ``{label: word}``. A token counts for the label whose word it spells whole,
    else for those whose words begin with it. Of several, the tokens that the model wrote after it decide; what it
    could have said in its place is parted equally, as nobody knows how that goes on. A label that no token
    tells of is taken to be as likely as the least likely one that is; where only one is told, such labels share what
    is left. Empty when the tokens are not those of the reply.
    """
    at, skipped = _token_at(tokens, reply, start)
    if at is None:
        return {}
    rest = {label: word.casefold() for label, word in words.items()}
    found = dict.fromkeys(words, 0.0)
    so_far = 1.0
    for token in tokens[at:]:
        said, told = _continuation(token.text, skipped), _told(token, skipped)
        through = [label for label, word in rest.items() if _may_go_on(said, word)]
        # What the model wrote is told apart by what it wrote after it.
        through = through if len(through) > 1 and said else []
        for label, mass in _parted(told, rest, through, said).items():
            found[label] += so_far * mass
        so_far *= told[said]
        rest = {label: rest[label][len(said) :].lstrip() for label in through}
        skipped = 0
        if not rest:
            break
    ended = [label for label in rest if not rest[label]] or list(rest)
    for label in ended:
        found[label] += so_far / len(ended)
    total = math.fsum(found.values())
    return {label: mass / total for label, mass in found.items()} if total > 0 else {}


def by_label(told: Mapping[str, float], words: Mapping[str, str]) -> dict[str, float]:
    """Return ``{label: probability}``, summing up to 1, where a model told ``{word: probability}``; ``{}`` of nothing.

    ``words`` are ``{label: word}``; a word that is not told of has no chance.
    """
    total = math.fsum(told.get(word, 0.0) for word in words.values())
    return {label: told.get(word, 0.0) / total for label, word in words.items()} if total > 0 else {}


def without_logprobs(body: str) -> str:
    """Return an OpenAI reply's body as it comes when no log-probabilities were asked for."""
    reply = json.loads(body)
    for choice in reply["choices"]:
        choice.pop("logprobs", None)
    return json.dumps(reply, ensure_ascii=False)


def _token_at(tokens: Sequence[TokenLogprobs], reply: str, start: int) -> tuple[int | None, int]:
    """Return which token holds the character ``start`` of the reply, and how many characters of it come before.

    The reply begins before the words that the model wrote where it has a prefix, and after a thought where it had one.
    """
    written = "".join(token.text for token in tokens)
    said, shown = written.strip(), reply.strip()
    if start < 0 or not said:
        return None, 0
    if said in reply:
        left = start + len(written) - len(written.lstrip()) - reply.rindex(said)
    elif shown and shown in written:
        left = start + written.rindex(shown) - (len(reply) - len(reply.lstrip()))
    else:
        return None, 0
    for index, token in enumerate(tokens):
        if 0 <= left < len(token.text):
            return index, left
        left -= len(token.text)
    return None, 0


def _continuation(token: str, skipped: int) -> str:
    """Return the part of a token that says the label, without the white space that may stand before it."""
    return token[skipped:].casefold().lstrip()


def _may_go_on(said: str, rest: str) -> bool:
    """Tell whether a token may be how the rest of a word goes on; a whole word must end there."""
    if not rest:
        return not said[:1].isalnum()
    return bool(said) and (rest.startswith(said) or (said.startswith(rest) and not said[len(rest) :][:1].isalnum()))


def _parted(told: Mapping[str, float], rest: Mapping[str, str], through: Sequence[str], said: str) -> dict[str, float]:
    """Return what the tokens at one place give each label, by what is left of its word.

    ``said`` is left to the tokens after it where labels go ``through`` it.
    """
    found = dict.fromkeys(rest, 0.0)
    unseen = set(rest).difference(through)
    for text, p in told.items():
        begun = [label for label, word in rest.items() if _may_go_on(text, word)]
        begun = [label for label in begun if text.startswith(rest[label])] or begun  # the one that it spells whole
        if through and text == said:
            continue
        unseen.difference_update(begun)
        for label in begun:
            found[label] += p / len(begun)
    # One token alone bounds nothing.
    least = min(told.values()) if len(told) > 1 else max(0.0, 1 - min(told.values())) / max(1, len(unseen))
    return found | dict.fromkeys(unseen, least)


def _told(token: TokenLogprobs, skipped: int) -> dict[str, float]:
    """Return how likely each way to say the label was at a token, those that differ in case or white space together."""
    start, found = token.text[:skipped], dict[str, float]()
    for text, logprob in {token.text: token.logprob, **dict(token.alternatives)}.items():
        if text.startswith(start):
            said = _continuation(text, skipped)
            found[said] = found.get(said, 0.0) + math.exp(logprob)
    return found
