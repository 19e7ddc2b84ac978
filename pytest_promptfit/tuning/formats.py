"""Ways to ask for the label that need no optimizer: its tag, the label alone, a reason before it.

Pure: whether a format pays off is up to the race and the gate.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pytest_promptfit.prompts.labels import DEFAULT_EXTRACT, words_of
from pytest_promptfit.prompts.model import ASKING_FIELDS
from pytest_promptfit.tuning.candidates import LONGEST_EXAMPLE, Candidate, balanced, changed, fitting
from pytest_promptfit.tuning.steps import unnamed_labels, without_saying, word_count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from pytest_promptfit.evaluation.outcomes import Outcome
    from pytest_promptfit.prompts.model import Prompt
    from pytest_promptfit.tuning.steps import Rules


REPLY_PREFIX: Final = "Label: <label>"

ROOM_FOR_A_REASON: Final = 64
"""Tokens of a reply in which a sentence and a label fit."""

SIZES_WITH_REASONS: Final = (8, 4)

FEWEST_WORDS: Final = 5
"""Before the label, from which they are taken for a reason."""

_OPENING: Final = "<label>"


def format_variants(prompt: Prompt, labels: Sequence[str], *, edit: Collection[str]) -> Iterator[Candidate]:
    """Yield variants whose replies are easier to read: the labels asked for one by one, a reply prefix, both."""
    suffix = prompt.user_prompt_suffix.rstrip()
    asked = f"{suffix}\nAnswer with exactly one of {_tags(prompt, labels)}, and nothing else."
    if "bot_reply_prefix" in edit:
        yield Candidate(changed(prompt, bot_reply_prefix=REPLY_PREFIX), "begin the reply with the label's tag")
    if "user_prompt_suffix" in edit:
        yield Candidate(changed(prompt, user_prompt_suffix=asked), "ask for exactly one of the labels")
    if {"user_prompt_suffix", "bot_reply_prefix"} <= set(edit):
        both = changed(prompt, user_prompt_suffix=asked, bot_reply_prefix=REPLY_PREFIX)
        yield Candidate(both, "ask for exactly one of the labels, begin the reply with its tag")


def label_alone(prompt: Prompt, rules: Rules) -> Iterator[Candidate]:
    """Yield the prompt asking for the label without its tag, where such a reply is read.

    Examples on top of it answer with the label alone, too.
    """
    plain = _without_tag(prompt, rules)
    if plain is None:
        return
    named = "exactly one of these labels: {labels}" if unnamed_labels(plain, rules) else "the label alone"
    yield _asking(plain, f"Answer with {named}, and nothing else.", "ask for the label alone")


def reason_first(prompt: Prompt, rules: Rules, limit: int | None) -> Iterator[Candidate]:
    """Yield the prompt asking for a reason before the label's tag, where ``limit``, in tokens, leaves room for it.

    Not on top of examples, whose replies give no reason and would be copied.
    """
    has_room = limit is None or limit >= ROOM_FOR_A_REASON
    plain = _without_tag(prompt, rules) if has_room and not prompt.examples else None
    if plain is not None:
        request = f"Give one short reason first, and then the label as {_tags(prompt, rules.labels)}."
        yield _asking(plain, request, "ask for one short reason before the label")


def gives_reason(outcome: Outcome, words: Mapping[str, str]) -> bool:
    """Tell whether a right reply says why before it says the label."""
    if outcome.reply is None or not outcome.correct:
        return False
    before, label, _ = outcome.reply.text.rpartition(words[outcome.sample.label])
    return bool(label) and word_count(before) >= FEWEST_WORDS


def with_reasons(base: Candidate, known: Sequence[Outcome], labels: Sequence[str]) -> Iterator[Candidate]:
    """Yield a prompt that asks for a reason with examples whose replies led the model itself to the right label.

    ``known`` are its outcomes on train samples, in the order in which they are taken, the labels in turn.
    Source: Zelikman et al. (2022), STaR: Bootstrapping Reasoning With Reasoning.
    """
    words = words_of(labels, base.prompt.label_words)
    replies = {o.sample: o.reply.text.strip() for o in known if o.reply and gives_reason(o, words)}
    short = [sample for sample, reply in replies.items() if len(sample.text) + len(reply) <= LONGEST_EXAMPLE]
    for size in SIZES_WITH_REASONS if len(short) >= min(SIZES_WITH_REASONS) else ():
        chosen = fitting(balanced(short, labels, size), replies)
        summary = f"{base.summary}, {len(chosen)} examples with reasons".removeprefix(", ")
        yield replace(
            base,
            prompt=changed(base.prompt, examples=chosen),
            summary=summary,
            made_of=tuple(outcome.sample.id for outcome in known),
        )


def _without_tag(prompt: Prompt, rules: Rules) -> Prompt | None:
    """Return the prompt without the sentences that ask for the label's tag; ``None`` where they must stay."""
    if rules.extract != DEFAULT_EXTRACT or "user_prompt_suffix" not in rules.edit or prompt.bot_reply_prefix:
        return None
    texts: dict[str, object] = {
        field: without_saying(getattr(prompt, field), _OPENING) for field in ASKING_FIELDS if field in rules.edit
    }
    plain = changed(prompt, **texts)
    return None if any(_OPENING in getattr(plain, field) for field in ASKING_FIELDS) else plain


def _asking(prompt: Prompt, request: str, summary: str) -> Candidate:
    asking = f"{prompt.user_prompt_suffix.rstrip()}\n{request}"
    return Candidate(changed(prompt, user_prompt_suffix=asking), summary)


def _tags(prompt: Prompt, labels: Sequence[str]) -> str:
    """Return the labels in their tags, listed."""
    tags = [f"<label>{word}</label>" for word in words_of(labels, prompt.label_words).values()]
    return " or ".join(filter(None, (", ".join(tags[:-1]), tags[-1])))
