"""Answers of the two decision APIs, as their documentation has them, and a model behind both that tells moods apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopback_server import Answer, Seen, json_answer

if TYPE_CHECKING:
    from collections.abc import Callable

USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 100,
}


def choice(word: str, probabilities: dict[str, Any]) -> Answer:
    """OpenAI's answer to the one question."""
    told = [{"value": value, "probability": probability} for value, probability in probabilities.items()]
    answer = {"type": "choice", "name": "label", "choice": word, "confidence": 0.9, "probabilities": told}
    return json_answer({"model": "gpt-6-luna", "answers": [answer], "usage": USAGE})


def refusal() -> Answer:
    """OpenAI's answer to a question that the model declines."""
    return json_answer({"model": "gpt-6-luna", "answers": [{"type": "refusal", "name": "label"}], "usage": USAGE})


def system_one(word: str, probabilities: dict[str, Any]) -> Answer:
    """System One's answer to the one question."""
    answer = {"type": "choice", "choice": word, "confidence": 0.9, "probabilities": probabilities}
    usage = {"input_tokens": 100, "output_tokens": 12}
    return json_answer({"model": "jev-1.14.0", "answers": {"label": answer}, "usage": usage})


def text_of(body: dict[str, Any]) -> str:
    return str(body["state"] if "state" in body else body["input"])


def question_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return the question of either API."""
    question: dict[str, Any] = body["questions"]["label"] if "state" in body else body["questions"][0]
    return question


def by_keyword(body: dict[str, Any]) -> str:
    return "good" if "lovely" in text_of(body) else "bad"


def deciding(says: Callable[[dict[str, Any]], str] = by_keyword) -> Callable[[Seen], Answer]:
    """Return what answers as the API that was asked does; a model is 80 % sure of what it ``says``."""

    def answer(seen: Seen) -> Answer:
        word, form = says(seen.body), system_one if "state" in seen.body else choice
        return form(word, {word: 0.8, {"good": "bad", "bad": "good"}[word]: 0.2})

    return answer
