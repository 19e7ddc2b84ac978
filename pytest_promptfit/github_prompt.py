"""GitHub's own ``.prompt.yml`` form, turned into the values of ours.

``messages`` with ``{{input}}`` become the four texts, ``modelParameters`` the parameters and
``testData`` the inline samples. Keys of ours (gates, labels, canonical …) may stand beside them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_promptfit.errors import PromptFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_promptfit.yaml_source import YamlSource

INPUT = re.compile(r"\{\{\s*input\s*\}\}")
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
GITHUB_MODELS_URL = "https://models.github.ai/inference"
_FOREIGN_KEYS = {"messages", "modelParameters", "testData", "evaluators", "responseFormat", "jsonSchema"}
_PLACES = {"prompt": "messages", "params": "modelParameters", "samples": "testData"}


def is_github_form(value: Mapping[str, Any]) -> bool:
    """Tell whether a prompt file is in GitHub's form."""
    return "messages" in value and "prompt" not in value


def convert(source: YamlSource) -> dict[str, Any]:
    """Return the values of our own form; raise PromptFileError for what has no meaning here."""
    value = source.value
    own = {key: item for key, item in value.items() if key not in _FOREIGN_KEYS}
    own["model"] = _model(value.get("model"))
    own["params"] = {**_params(source, value.get("modelParameters") or {}), **(own.get("params") or {})}
    own["prompt"] = _prompt(source, value["messages"])
    if value.get("testData"):
        own["samples"] = [_sample(source, row, index) for index, row in enumerate(value["testData"])]
    return own


def original_place(place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return where a value of our form stands in the file."""
    return (_PLACES.get(str(place[0]), place[0]), *place[1:]) if place else place


def _model(model: object) -> object:
    if not isinstance(model, str):
        return model
    maker, slash, _ = model.partition("/")
    if not slash:
        return f"openai/{model}"
    if maker == "openai":
        return model
    return {"provider": "openai", "name": model, "base_url": GITHUB_MODELS_URL, "api_key_env": "GITHUB_TOKEN"}


def _params(source: YamlSource, params: object) -> dict[str, Any]:
    if not isinstance(params, dict):
        raise _error(source, "modelParameters", "expected a mapping")
    return {re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", key): item for key, item in params.items()}


def _prompt(source: YamlSource, messages: object) -> dict[str, Any]:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _error(source, "messages", "expected a list of messages with role and content")
    texts = [(str(message.get("role")), str(message.get("content") or "").strip()) for message in messages]
    turns = [(index, role, text) for index, (role, text) in enumerate(texts) if role != "system"]
    asking = [turn for turn in turns if INPUT.search(turn[2])]
    if len(asking) != 1 or asking[0][1] != "user":
        raise _error(source, "messages", "expected {{input}} in exactly one user message")
    _refuse_other_placeholders(source, texts)
    index, _, text = asking[0]
    before, after = INPUT.split(text, maxsplit=1)
    return {
        "system_prompt": "\n\n".join(text for role, text in texts if role == "system"),
        "user_prompt_prefix": before,
        "user_prompt_suffix": after,
        "bot_reply_prefix": "".join(text for at, role, text in turns if at > index and role == "assistant"),
        "examples": _examples(source, [turn for turn in turns if turn[0] < index], before, after),
    }


def _refuse_other_placeholders(source: YamlSource, texts: list[tuple[str, str]]) -> None:
    for index, (_, text) in enumerate(texts):
        other = [name for name in PLACEHOLDER.findall(text) if name != "input"]
        if other:
            raise _error(source, "messages", f"{{{{{other[0]}}}}} has no value: only {{{{input}}}} is filled in", index)


def _examples(source: YamlSource, turns: list[tuple[int, str, str]], before: str, after: str) -> list[dict[str, Any]]:
    """Pair up the user and assistant messages before the last one: they are the few-shot turns."""
    if [role for _, role, _ in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise _error(source, "messages", "expected examples as pairs of a user and an assistant message")
    examples = []
    for (index, _, asked), (_, _, reply) in zip(turns[::2], turns[1::2], strict=True):
        if not (asked.startswith(before) and asked.endswith(after)):
            raise _error(source, "messages", "expected the example in the same words as the {{input}} message", index)
        text = asked.removeprefix(before).removesuffix(after)
        examples.append({"text": text, "label": reply, "reply": reply})
    return examples


def _sample(source: YamlSource, row: object, index: int) -> dict[str, Any]:
    if not isinstance(row, dict) or "input" not in row or "expected" not in row:
        raise _error(source, "testData", "expected `input` and `expected`", index)
    rest = {key: item for key, item in row.items() if key in ("note", "id", "canonical")}
    text = row["input"]
    return {"text": text if isinstance(text, str) else str(text), "label": row["expected"], **rest}


def _error(source: YamlSource, key: str, message: str, *place: int) -> PromptFileError:
    return PromptFileError(f"{source.path}:{source.line((key, *place))}: {key}: {message}")
