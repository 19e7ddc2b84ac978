"""How likely each label was: the log-probabilities of a reply's tokens, where the reply says the label.

Pure functions. An API that tells no log-probabilities gives nothing here.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_promptfit.chat.reply import TokenLogprobs


def label_probabilities(
    tokens: Sequence[TokenLogprobs], reply: str, start: int, words: Mapping[str, str]
) -> dict[str, float]:
    """Return ``{label: probability}``, summing up to 1, at the place where the label was read from a reply.

    ``tokens`` are those the model wrote, ``reply`` is its whole text with the reply prefix, ``start`` where in
    it the label's word begins, ``words`` ``{label: word}``. A label counts the tokens that its word may go on
    with; where several words begin alike, those after them decide. A token that is not told of is taken to be
    as likely as the least likely one that is. Empty when the tokens are not those of the reply.
    """
    at, skipped = _token_at(tokens, reply, start)
    if at is None:
        return {}
    rest = {label: word.casefold() for label, word in words.items()}
    found: dict[str, float] = {}
    so_far = 1.0
    for token in tokens[at:]:
        said = _continuation(token.text, skipped)
        through = [label for label in rest if _may_go_on(said, rest[label])]
        decided = len(through) < 2 or not said
        for label in list(rest):
            if decided or label not in through:
                found[label] = so_far * _mass(token, rest.pop(label), skipped)
        if decided:
            break
        so_far *= math.exp(token.logprob)
        rest = {label: rest[label][len(said) :] for label in through}
        skipped = 0
    found.update(dict.fromkeys(rest, so_far))
    total = math.fsum(found.values())
    return {label: mass / total for label, mass in found.items()} if total > 0 else {}


def without_logprobs(body: str) -> str:
    """Return an OpenAI reply's body as it comes when no log-probabilities were asked for."""
    reply = json.loads(body)
    for choice in reply["choices"]:
        choice.pop("logprobs", None)
    return json.dumps(reply, ensure_ascii=False)


def _token_at(tokens: Sequence[TokenLogprobs], reply: str, start: int) -> tuple[int | None, int]:
    """Return which token holds the character ``start`` of the reply, and how many characters of it come before."""
    written = "".join(token.text for token in tokens)
    begins = _begins(written, reply)
    if begins is None or start < 0:
        return None, 0
    left = start + begins
    for index, token in enumerate(tokens):
        if 0 <= left < len(token.text):
            return index, left
        left -= len(token.text)
    return None, 0


def _begins(written: str, reply: str) -> int | None:
    """Return where in the words that the model wrote the reply begins: before them where it has a prefix, after
    a thought where it had one.
    """
    said = written.strip()
    at = reply.rfind(said) if said else -1
    if at >= 0:
        return len(written) - len(written.lstrip()) - at
    after_thought = written.rfind(reply.strip()) if said and reply.strip() else -1
    return after_thought - (len(reply) - len(reply.lstrip())) if after_thought >= 0 else None


def _continuation(token: str, skipped: int) -> str:
    """Return the part of a token that says the label, without the white space that may stand before it."""
    return token[skipped:].casefold().lstrip()


def _may_go_on(said: str, rest: str) -> bool:
    """Tell whether a token may be how the rest of a word goes on; a whole word must end there."""
    if not rest:
        return not said[:1].isalnum()
    return bool(said) and (rest.startswith(said) or (said.startswith(rest) and not said[len(rest) :][:1].isalnum()))


def _mass(token: TokenLogprobs, rest: str, skipped: int) -> float:
    start = token.text[:skipped]
    told = {token.text: token.logprob, **dict(token.alternatives)}
    fitting = [
        p for text, p in told.items() if text.startswith(start) and _may_go_on(_continuation(text, skipped), rest)
    ]
    return math.fsum(map(math.exp, fitting)) if fitting else math.exp(min(told.values()))
