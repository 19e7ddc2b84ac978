"""Why a reply has no label: a small set of causes, each with what a person can do about it, and their counts.

Pure functions; ``label`` reads labels, and what is proposed here was tried with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_promptfit.chat import answers
from pytest_promptfit.errors import CallError
from pytest_promptfit.prompts.labels import DEFAULT_EXTRACT, JsonPath, fields, is_path, json_objects, json_value
from pytest_promptfit.text import cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.chat.label import LabelReader
    from pytest_promptfit.chat.reply import ChatReply, ToolCall
    from pytest_promptfit.prompts.labels import Extract

Cause = Literal[
    "empty", "thought", "cut", "refusal", "tool call", "word", "contradiction", "form", "none", "own extract"
]

_SAYS: dict[Cause, str] = {
    "empty": "the reply is empty",
    "thought": "the reply is nothing but a thought",
    "cut": "the reply was cut at the token limit: raise {0}",
    "refusal": "the model refused, or the provider's content filter withheld the reply",
    "tool call": "the reply is a call of the tool {0} without a label",
    "word": "{0} is no label",
    "contradiction": "the reply gives answers that contradict each other: {0}",
    "form": "`extract` does not know the form {0}",
    "none": "the reply names none of the labels",
    "own extract": "your own function `extract` finds no label in the reply",
}

_LONGEST_DETAIL, _SHORT_REPLY_WORDS, _MOST_WORDS = 60, 4, 12
_MOST_PROPOSALS = 20
_MOST_NAMED = 3
# Characters at either end of a reply in which a form is looked for: a pattern may take the square of them.
_LOOKED_AT = 4000


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a reply has no label; ``detail`` is the word, limit or form, ``proposal`` a line that would read it."""

    cause: Cause
    detail: str = ""
    proposal: str = ""

    @property
    def text(self) -> str:
        """The reason as a sentence's part, with what to do."""
        said = _SAYS[self.cause].format(self.detail)
        return f"{said}: {self.proposal} would read it" if self.proposal else said


def why_missing(reply: ChatReply, text: str, reader: LabelReader, *, prefix: str = "", limit: str = "") -> Missing:
    """Return why no label was read from a reply to the sample ``text``.

    ``prefix`` are words that were put in the model's mouth, ``limit`` names the parameter that limits a reply.
    """
    said = reply.text.removeprefix(prefix).strip()
    if reply.stop_reason == "content_filter":
        return Missing("refusal")
    if reply.stop_reason == "length":
        return Missing("cut", limit)
    if not said and not reply.calls:
        return Missing("thought" if reply.thought else "empty")
    try:
        reading = reader.reading(reply.text, text, reply.calls)
    except CallError:  # a pattern that takes too long was told of when the label was read
        return Missing("none")
    if reading.label is not None:
        return Missing("own extract")
    if reading.doubt == "word":
        return Missing("word", _quoted(reading.said))
    if reading.doubt == "contradiction":
        return Missing("contradiction", cut(reading.said, _LONGEST_DETAIL))
    return _unread(reply, text, reader, said)


def _unread(reply: ChatReply, text: str, reader: LabelReader, said: str) -> Missing:
    ends = reply.text
    if len(ends) > 2 * _LOOKED_AT:
        ends = f"{ends[:_LOOKED_AT]}\n{ends[-_LOOKED_AT:]}"
    for form, extract in list(_proposals(ends, reply.calls, reader))[:_MOST_PROPOSALS]:
        if reader.like(extract).read(ends, text, reply.calls) is not None:
            if extract == DEFAULT_EXTRACT:
                return Missing("form", form, "the default (leave `extract` out)")
            if isinstance(extract, JsonPath):
                return Missing("form", form, f"`extract: {{json: {extract.path}}}`")
            quoted = extract.replace("'", "''")
            return Missing("form", form, f"`extract: '{quoted}'`")
    if reply.calls:
        return Missing("tool call", cut(reply.calls[-1].name, _LONGEST_DETAIL))
    if len(said.split()) <= _SHORT_REPLY_WORDS:
        return Missing("word", _quoted(said))
    named = sorted(reader.mentioned(reply.text))
    return Missing("contradiction", ", ".join(named[:_MOST_NAMED])) if len(named) > 1 else Missing("none")


def _quoted(said: str) -> str:
    return f'"{cut(said, _LONGEST_DETAIL)}"'


_TAGS = re.compile(r"<([A-Za-z][\w-]{0,30})>[^<>]{1,200}</\1>")
_MARKED = (
    ("[[…]]", r"\[\[([^\]\n]+)\]\]"),
    ("<label>… without its end", r"<label>([^<\n]+)"),
    ("**…**", r"\*\*([^*\n]+)\*\*"),
    ("`…`", r"`([^`\n]+)`"),
)


def _proposals(said: str, calls: Sequence[ToolCall], reader: LabelReader) -> Iterator[tuple[str, Extract]]:
    """Yield forms that models answer in, with the ``extract`` that reads each; whether it does is not known yet."""
    if reader.extract != DEFAULT_EXTRACT:
        yield "of the reply", DEFAULT_EXTRACT
    values = [value for _, _, value in json_objects(said)] + [json_value(call.arguments) for call in calls]
    levels = (level for value in values for level in fields(value))
    paths = (path for level in levels for path, word in level if reader.label_of(word) is not None)
    for path in dict.fromkeys(paths):
        if path.isprintable() and is_path(path):
            yield f"{{{path}: …}}", JsonPath.model_validate({"json": path})
    for tag in dict.fromkeys(_TAGS.findall(said)):
        yield f"<{tag}>…</{tag}>", f"<{tag}>(.*?)</{tag}>"
    for answer in answers.answer_lines(said, lambda words: reader.label_of(words) is not None):
        if answer and (words := re.search(r"[^\W_][\w -]*(?=\W*$)", answer.lead)):
            lead = words[0].strip().casefold()
            yield f"{lead}: …", rf"(?i){lead}\W*[:=]([^\n]+)"
    yield from _MARKED
    if reader.extract == DEFAULT_EXTRACT and len(reader.words) <= _MOST_WORDS and len(reader.mentioned(said)) == 1:
        yield "of a sentence", rf"\b({'|'.join(map(re.escape, reader.words))})\b"
