"""GitHub's own ``.prompt.yml`` form, turned into the values of ours.

``messages`` with ``{{input}}`` become the four texts, ``modelParameters`` the parameters and
``testData`` the inline samples. Keys of ours (gates, labels, canonical …) may stand beside them.
``evaluators`` are passed over: here the label decides.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import regex

from pytest_promptfit.chat import DEFAULT_EXTRACT, answer_of, compiled, matches_of
from pytest_promptfit.errors import CallError, PromptFileError
from pytest_promptfit.model_spec import PROVIDER_NAMES
from pytest_promptfit.validation_lines import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_promptfit.yaml_source import YamlSource

INPUT = re.compile(r"\{\{\s*input\s*\}\}")
PLACEHOLDER = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")
GITHUB_MODELS_URL = "https://models.github.ai/inference"
FOREIGN_KEYS = ("messages", "modelParameters", "testData", "evaluators", "responseFormat", "jsonSchema")
_PLACES = {"prompt": "messages", "params": "modelParameters", "samples": "testData"}
_FIELDS = {"text": "input", "label": "expected"}
_ROLES = ("system", "user", "assistant")
_FORMATS = ("text", "json_object", "json_schema")


def is_github_form(value: Mapping[str, Any]) -> bool:
    """Tell whether a prompt file is in GitHub's form."""
    return "messages" in value and "prompt" not in value


def convert(source: YamlSource) -> dict[str, Any]:
    """Return the values of our own form; raise PromptFileError for what has no meaning here."""
    value = source.value
    own = {key: item for key, item in value.items() if key not in FOREIGN_KEYS}
    if isinstance(own.get("name"), str):
        own["name"] = re.sub(r"[/\\\x00-\x1f]+", "-", own["name"]).rstrip(". ")[:80]
    if "model" in own:
        own["model"] = _model(own["model"])
    given = own.get("params") or {}
    own["params"] = {**_params(source), **given} if isinstance(given, dict) else given
    own["prompt"] = _prompt(source, value["messages"], own.get("extract"))
    if value.get("testData"):
        if "samples" in own:
            raise _error(source, "samples", "expected either `testData` or `samples`")
        own["samples"] = _samples(source, value["testData"])
    return own


def original_place(place: tuple[str | int, ...], keys: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Return where a value of our form stands in the file whose top-level ``keys`` are given."""
    if not place or place[0] in keys:
        return place
    first, *rest = place
    if first == "prompt":  # a text of ours may come from several messages
        return ("messages",)
    if first == "samples":
        rest = [_FIELDS.get(str(step), step) for step in rest]
    return (_PLACES.get(str(first), first), *rest)


def json_schema(own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of GitHub's form; ``own`` are the schemas of our keys, by name."""
    message = {
        "type": "object",
        "properties": {"role": {"enum": list(_ROLES)}, "content": {"type": "string"}},
        "required": ["role", "content"],
    }
    properties = {
        **{name: schema for name, schema in own.items() if name != "prompt"},
        "name": {"type": "string", "minLength": 1},
        "model": {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/ModelSpec"}]},
        "messages": {"type": "array", "items": message, "minItems": 1},
        "modelParameters": {"type": "object"},
        "testData": {"type": "array", "items": {"type": "object", "required": ["input", "expected"]}},
        "evaluators": {"type": "array", "description": "Passed over: the label decides."},
        "responseFormat": {"enum": list(_FORMATS)},
        "jsonSchema": {"type": ["string", "object"]},
    }
    return {
        "type": "object",
        "description": "A prompt file in the form of GitHub Models.",
        "properties": properties,
        "required": ["model", "messages"],
        "additionalProperties": False,
    }


def _model(model: object) -> object:
    if not isinstance(model, str):
        return model
    maker, slash, _ = model.partition("/")
    if not slash:
        return f"openai/{model}"
    if maker in PROVIDER_NAMES:
        return model
    return {"provider": "openai", "name": model, "base_url": GITHUB_MODELS_URL, "api_key_env": "GITHUB_TOKEN"}


def _params(source: YamlSource) -> dict[str, Any]:
    params = source.value.get("modelParameters") or {}
    if not isinstance(params, dict):
        raise _error(source, "modelParameters", "expected a mapping")
    named = {_snake_case(str(key)): item for key, item in params.items()}
    return {**named, **_response_format(source)}


def _snake_case(name: str) -> str:
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", name)


def _response_format(source: YamlSource) -> dict[str, Any]:
    """Return ``responseFormat`` and ``jsonSchema`` as the parameter that GitHub makes of them."""
    kind = source.value.get("responseFormat", "text")
    if kind not in _FORMATS:
        raise _error(source, "responseFormat", f"expected {', '.join(_FORMATS)}")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"response_format": {"type": kind}}
    schema = source.value.get("jsonSchema")
    try:
        schema = json.loads(schema) if isinstance(schema, str) else schema
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict):
        raise _error(source, "jsonSchema", "expected a JSON Schema, because responseFormat is json_schema")
    named = schema if "schema" in schema else {"name": "reply", "schema": schema}
    return {"response_format": {"type": kind, "json_schema": named}}


def _prompt(source: YamlSource, messages: object, extract: object) -> dict[str, Any]:
    texts = _texts(source, messages)
    _check_placeholders(source, texts)
    turns = [(index, role, text) for index, (role, text) in enumerate(texts) if role != "system"]
    asking = [turn for turn in turns if turn[1] == "user"][-1:]
    found = [index for index, (_, text) in enumerate(texts) for _ in INPUT.findall(text)]
    if not asking or found != [asking[0][0]]:
        raise _error(source, "messages", "expected {{input}} once, in the last user message")
    index, _, text = asking[0]
    before, after = INPUT.split(text, maxsplit=1)
    return {
        "system_prompt": "\n\n".join(text for role, text in texts if role == "system"),
        "user_prompt_prefix": before,
        "user_prompt_suffix": after,
        "bot_reply_prefix": "".join(text.strip() for at, _, text in turns if at > index),
        "examples": _examples(source, [turn for turn in turns if turn[0] < index], (before, after), extract),
    }


def _texts(source: YamlSource, messages: object) -> list[tuple[str, str]]:
    """Return the role and the text of each message."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _error(source, "messages", "expected a list of messages with role and content")
    texts = []
    for index, message in enumerate(messages):
        role, text = str(message.get("role")).lower(), message.get("content")
        if role not in _ROLES:
            raise _error(
                source, "messages", f"{short(message.get('role'))}: expected the role {', '.join(_ROLES)}", index
            )
        if not isinstance(text, str):
            raise _error(source, "messages", "expected `content` as text", index)
        texts.append((role, text))
    return texts


def _check_placeholders(source: YamlSource, texts: Sequence[tuple[str, str]]) -> None:
    for index, (_, text) in enumerate(texts):
        other = [name for name in PLACEHOLDER.findall(text) if name != "input"]
        if other:
            raise _error(source, "messages", f"{{{{{other[0]}}}}} has no value: only {{{{input}}}} is filled in", index)


def _examples(
    source: YamlSource, turns: Sequence[tuple[int, str, str]], around: tuple[str, str], extract: object
) -> list[dict[str, Any]]:
    """Pair up the user and assistant messages before the last one: they are the few-shot turns."""
    if [role for _, role, _ in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise _error(source, "messages", "expected examples as pairs of a user and an assistant message")
    before, after = around
    examples = []
    for (index, _, asked), (_, _, reply) in zip(turns[::2], turns[1::2], strict=True):
        text = asked.removeprefix(before).removesuffix(after)
        if len(text) + len(before) + len(after) != len(asked):
            raise _error(source, "messages", "expected the example in the same words as the {{input}} message", index)
        examples.append({"text": text, "label": _label_said(reply, extract), "reply": reply.strip()})
    return examples


def _label_said(reply: str, extract: object) -> str:
    try:
        found = matches_of(compiled(extract if isinstance(extract, str) else DEFAULT_EXTRACT), reply)
    except (regex.error, RecursionError, CallError):  # said where `extract` is read
        found = []
    return answer_of(found[-1])[1].strip() if found else reply.strip()


def _samples(source: YamlSource, rows: object) -> list[dict[str, Any]]:
    if not isinstance(rows, list):
        raise _error(source, "testData", "expected a list of `input` and `expected`")
    return [_sample(source, row, index) for index, row in enumerate(rows)]


def _sample(source: YamlSource, row: object, index: int) -> dict[str, Any]:
    if not isinstance(row, dict) or "input" not in row or "expected" not in row:
        raise _error(source, "testData", "expected `input` and `expected`", index)
    rest = {key: item for key, item in row.items() if key in ("note", "id", "canonical")}
    text = row["input"]
    return {"text": str(text) if isinstance(text, int | float) else text, "label": row["expected"], **rest}


def _error(source: YamlSource, key: str, message: str, *place: int) -> PromptFileError:
    return PromptFileError(f"{source.path}:{source.line((key, *place))}: {key}: {message}")
