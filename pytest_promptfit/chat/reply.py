"""What a model answered, whatever the API, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    ``thought`` is what the model thought aloud: for people, no label is read from it.
    """

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    stop_reason: StopReason = "stop"
    cached_tokens: int = 0
    thought: str = ""
    calls: tuple[ToolCall, ...] = ()
    written_tokens: int = 0

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
