"""GitHub's own ``.prompt.yml`` form, turned into the values of ours.

``messages`` become the four texts, ``modelParameters`` the parameters and ``testData`` the inline samples: what the
variables of the last user message span is the text to classify. Keys of ours (gates, labels, canonical …) may stand
beside them. Of the ``evaluators`` an exact comparison says where the label stands; the others are passed over.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

import regex

from pytest_promptfit.errors import CallError, NoSamplesError, PromptFileError
from pytest_promptfit.prompts.labels import (
    DEFAULT_EXTRACT,
    JsonPath,
    answer_of,
    compiled,
    json_objects,
    matches_of,
    scalar,
)
from pytest_promptfit.prompts.model import PROVIDER_NAMES
from pytest_promptfit.text import short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_promptfit.prompts.yaml_source import YamlSource

PLACEHOLDER = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")


def names_in(text: str) -> list[str]:
    """Return the variables of a text, each once, in their order."""
    return list(dict.fromkeys(PLACEHOLDER.findall(text)))


def filled(text: str, value_of: Callable[[str], str]) -> str:
    """Return a text with its variables filled in."""
    return PLACEHOLDER.sub(lambda found: value_of(found[1]), text)


def parts_of(text: str) -> tuple[str, str, str]:
    """Return what stands before a text's variables, what they span, and what stands after them."""
    found = list(PLACEHOLDER.finditer(text))
    if not found:
        return text, "", ""
    start, end = found[0].start(), found[-1].end()
    return text[:start], text[start:end], text[end:]


def value_at(values: object, name: str) -> object:
    """Return the value of a variable, whose name may lead into mappings (``a.b``); ``None`` where there is none."""
    if isinstance(values, dict) and name in values:
        return values[name]
    first, dot, rest = name.partition(".")
    return value_at(values.get(first), rest) if dot and isinstance(values, dict) else None


GITHUB_MODELS_URL = "https://models.github.ai/inference"
FOREIGN_KEYS = ("messages", "modelParameters", "testData", "evaluators", "responseFormat", "jsonSchema")
_PLACES = {"prompt": "messages", "params": "modelParameters", "samples": "testData"}
_OWN_FIELDS = ("note", "id", "canonical")
# Where a row of test data may keep its variables, besides at its top.
_GROUPS = ("inputs", "input", "variables", "vars")

# How people name what the reply should be, however they spell it.
_LABELS = ("expected", "label", "expected_output", "expected_label", "output", "answer", "ideal", "target", "reference")

_ROLES = ("system", "user", "assistant")
_FORMATS = ("text", "json_object", "json_schema")


def is_github_form(value: Mapping[str, Any]) -> bool:
    """Tell whether a prompt file is in GitHub's form."""
    return "messages" in value and "prompt" not in value


def convert(source: YamlSource, ours: Sequence[str] = ()) -> dict[str, Any]:
    """Return the values of our own form, which has the keys ``ours``; raise PromptFileError for a mistake."""
    value, known = source.value, [*ours, *FOREIGN_KEYS]
    # A slip in a key of ours is a mistake; what is like none are keys that other tools put into these files.
    own = {
        key: item
        for key, item in value.items()
        if key not in FOREIGN_KEYS
        and (key in ours or difflib.get_close_matches(str(key)[:100], known, n=1, cutoff=0.75))
    }
    if isinstance(own.get("name"), str):  # there it may be anything, here recordings get a folder of that name
        own["name"] = re.sub(r"[/\\\x00-\x1f]+", "-", own["name"]).rstrip(". ")[:80]
    model = own.get("model")
    if isinstance(model, str):
        maker, slash, _ = model.partition("/")
        if not slash:
            own["model"] = f"openai/{model}"
        elif maker not in PROVIDER_NAMES:  # GitHub's own: it serves all makers in OpenAI's protocol
            own["model"] = {
                "provider": "openai",
                "name": model,
                "base_url": GITHUB_MODELS_URL,
                "api_key_env": "GITHUB_TOKEN",
            }
    given = own.get("params") or {}
    own["params"] = {**_params(source), **given} if isinstance(given, dict) else given
    rows = value.get("testData") or []
    if not isinstance(rows, list):
        raise _error(source, "testData", "expected a list of `input` and `expected`")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise _error(source, "testData", "expected `input` and `expected`", index)
    own["prompt"] = _prompt(source, _texts(source, rows), own.get("extract"))
    if rows and "samples" in own:
        raise _error(source, "samples", "expected either `testData` or `samples`")
    samples = _samples(source, rows)
    return {**own, "samples": samples} if samples else own


def asked_parts(messages: Sequence[Mapping[str, Any]]) -> tuple[str, str, str]:
    """Return what the last user message says before its variables, what they span, and what it says after them."""
    return parts_of(next(message["content"] for message in reversed(messages) if _role(message) == "user"))


def _role(message: Mapping[str, Any]) -> str:
    return str(message.get("role")).lower()


def original_place(place: tuple[str | int, ...], keys: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Return where a value of our form stands in the file, of either form, whose top-level ``keys`` are given."""
    if not place or place[0] in keys or not is_github_form(keys):
        return place
    first, *rest = place
    if first == "prompt":  # a text of ours may come from several messages
        return ("messages",)
    if first == "samples":
        fields = {"text": next(iter(names_in(asked_parts(keys["messages"])[1])), "input"), "label": _label_field(keys)}
        rest = [fields.get(str(step), step) for step in rest]
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
        "testData": {"type": "array", "items": {"type": "object"}},
        "evaluators": {"type": "array", "description": "An exact comparison says where the label stands."},
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


def _params(source: YamlSource) -> dict[str, Any]:
    """Return ``modelParameters``, and ``responseFormat`` with ``jsonSchema`` as the parameter GitHub makes of them."""
    params = source.value.get("modelParameters") or {}
    if not isinstance(params, dict):
        raise _error(source, "modelParameters", "expected a mapping")
    named = {_snake_case(str(key)): item for key, item in params.items()}
    kind = source.value.get("responseFormat", "text")
    if kind not in _FORMATS:
        raise _error(source, "responseFormat", f"expected {', '.join(_FORMATS)}")
    if kind == "text":
        return named
    if kind == "json_object":
        return {**named, "response_format": {"type": kind}}
    schema = source.value.get("jsonSchema")
    try:
        schema = json.loads(schema) if isinstance(schema, str) else schema
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict):
        raise _error(source, "jsonSchema", "expected a JSON Schema, because responseFormat is json_schema")
    schema = schema if "schema" in schema else {"name": "reply", "schema": schema}
    return {**named, "response_format": {"type": kind, "json_schema": schema}}


def _snake_case(name: str) -> str:
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", name)


def _prompt(source: YamlSource, texts: Sequence[tuple[str, str]], extract: object) -> dict[str, Any]:
    turns = [(index, role, text) for index, (role, text) in enumerate(texts) if role != "system"]
    asking = [turn for turn in turns if turn[1] == "user"][-1:]
    if not asking or not names_in(asking[0][2]):
        raise _error(source, "messages", "expected the text as a variable such as {{input}} in the last user message")
    last, _, text = asking[0]
    before, _, after = parts_of(text)
    # The user and assistant messages before the last one are the few-shot turns.
    shots = [turn for turn in turns if turn[0] < last]
    if [role for _, role, _ in shots] != ["user", "assistant"] * (len(shots) // 2):
        raise _error(source, "messages", "expected examples as pairs of a user and an assistant message")
    examples = []
    for (index, _, asked), (_, _, reply) in zip(shots[::2], shots[1::2], strict=True):
        text = asked.removeprefix(before).removesuffix(after)
        if len(text) + len(before) + len(after) != len(asked):
            raise _error(source, "messages", "expected the example in the same words as the last user message", index)
        examples.append({"text": text, "label": _label_said(reply, extract), "reply": reply.strip()})
    return {
        "system_prompt": "\n\n".join(text for role, text in texts if role == "system"),
        "user_prompt_prefix": before,
        "user_prompt_suffix": after,
        "bot_reply_prefix": "".join(text.strip() for at, _, text in turns if at > last),
        "examples": examples,
    }


def _texts(source: YamlSource, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the role and the text of each message, with what every row says alike filled in.

    In the last user message alone a variable may say another thing each time.
    """
    messages = source.value["messages"]
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _error(source, "messages", "expected a list of messages with role and content")
    for index, message in enumerate(messages):
        if _role(message) not in _ROLES:
            expected = f"{short(message.get('role'))}: expected the role {', '.join(_ROLES)}"
            raise _error(source, "messages", expected, index)
        if not isinstance(message.get("content"), str):
            raise _error(source, "messages", "expected `content` as text", index)
    texts = [(_role(message), message["content"]) for message in messages]
    asking = max((at for at, (role, _) in enumerate(texts) if role == "user"), default=len(texts))
    for index, (role, text) in enumerate(texts):
        if index == asking:
            continue
        constants = {}
        for name in names_in(text):
            values = {str(value) for row in rows if (value := value_at(_values(row), name)) is not None}
            if not values:
                said = f"{{{{{name}}}}} has no value: `testData` has none"
                raise NoSamplesError(str(_error(source, "messages", said, index)))
            if len(values) > 1:
                said = f"{{{{{name}}}}} says another thing in each row: expected it in the last user message"
                raise _error(source, "messages", said, index)
            constants[name] = values.pop()
        texts[index] = (role, filled(text, constants.__getitem__))
    return texts


def _label_said(reply: str, extract: object) -> str:
    if isinstance(extract, dict):
        values = [value for _, _, value in json_objects(reply)]
        said = [scalar(JsonPath.model_construct(path=str(extract.get("json"))).find(value)) for value in values]
        return next((one for one in reversed(said) if one), reply.strip())
    try:
        found = matches_of(compiled(extract if isinstance(extract, str) else DEFAULT_EXTRACT), reply)
    except (regex.error, RecursionError, CallError):  # said where `extract` is read
        found = []
    return answer_of(found[-1])[1].strip() if found else reply.strip()


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a row."""
    groups = [row[name] for name in _GROUPS if isinstance(row.get(name), dict)]
    return {**row, **{name: value for group in groups for name, value in group.items()}}


def _label_field(keys: Mapping[str, Any]) -> str:
    """Return which field of the test data is the label: what an exact evaluator compares with, else by its name."""
    compared = [name for text in _compared(keys) for name in PLACEHOLDER.findall(text)]
    if compared:
        return str(compared[0])
    asked = set(names_in(asked_parts(keys["messages"])[1]))
    names = {
        _snake_case(str(name)).strip("_"): str(name)
        for row in keys.get("testData") or ()
        if isinstance(row, dict)
        for name in row
        if str(name) not in asked
    }
    return next((names[label] for label in _LABELS if label in names), _LABELS[0])


def _compared(keys: Mapping[str, Any]) -> list[str]:
    """Return the texts with which exact evaluators compare the reply."""
    evaluators = keys.get("evaluators")
    exact = (
        (item.get("string") for item in evaluators if isinstance(item, dict)) if isinstance(evaluators, list) else ()
    )
    return [str(one["equals"]) for one in exact if isinstance(one, dict) and "equals" in one]


def _samples(source: YamlSource, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows as samples; none where no row says what is expected."""
    field, constants = _label_field(source.value), [text for text in _compared(source.value) if not names_in(text)]
    default = constants[0] if len(constants) == 1 else None
    labels = [default if found is None else found for found in (value_at(row, field) for row in rows)]
    if all(label is None for label in labels):
        return []
    asked = asked_parts(source.value["messages"])[1]
    names, samples = names_in(asked), []
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        values = _values(row)
        found = {name: value_at(values, name) for name in names}
        if label is None or any(name not in values and found[name] is None for name in names):
            named = ", ".join(f"`{name}`" for name in names)
            raise _error(source, "testData", f"expected {named} and `{field}`", index)
        text: object = found[names[0]]
        # A number is text too; what else is none is told at its own line.
        if names != [asked.strip("{} ")] or isinstance(text, int | float):
            text = filled(asked, {name: str(value) for name, value in found.items()}.__getitem__)
        samples.append({"text": text, "label": label, **{key: row[key] for key in row if key in _OWN_FIELDS}})
    return samples


def _error(source: YamlSource, key: str, message: str, *place: int) -> PromptFileError:
    return PromptFileError(f"{source.path}:{source.line((key, *place))}: {key}: {message}")
