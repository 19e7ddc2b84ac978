"""The surgical rewrite of a prompt file: a new prompt or weights go in, everything else stays byte for byte.

What came out is read again before anybody may write it. How a value is cut out and written lives in ``yaml_edits``;
which prompt is better is not decided here.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import TypeAdapter, ValidationError

from pytest_promptfit.chat.request import ChatBuilder
from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.files import write_atomically
from pytest_promptfit.prompts import github as github_prompt
from pytest_promptfit.prompts.model import TEXT_FIELDS, Example, Label, NearestExamples, Prompt
from pytest_promptfit.prompts.read import parsed_prompt
from pytest_promptfit.prompts.yaml_source import YamlSource
from pytest_promptfit.tuning.yaml_edits import BREAK, Edit, Editor, Item, applied, is_flow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_promptfit.prompts.model import ModelSpec


_BOM = "\ufeff"

_LABEL: TypeAdapter[str] = TypeAdapter(Label)

_PARAMS, _GITHUB_PARAMS, _FORMAT = "params", "modelParameters", "responseFormat"


def file_text(path: Path) -> str:
    """Return a file's text as it is: byte order mark and line ends included."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise PromptfitError(f"{path}: not UTF-8 at byte {error.start}: save the file as UTF-8") from None
    except OSError as error:
        raise PromptfitError(f"{path}: cannot be read: {error.strerror or error}") from None


def rewritten(text: str, prompt: Prompt, *, path: Path) -> str:
    """Return the text of a prompt file with ``prompt`` in it.

    Only the values that differ are replaced. ``text`` is the file's as ``file_text`` returns it; ``path`` is
    for the messages alone: nothing is read or written. Raises PromptfitError, one line, where that cannot be
    done without touching something else, or where the file's form has no words for the new prompt.
    """
    mark, body = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
    source = YamlSource(path, body)
    old = _prompt_of(source)
    new, edits_of = (_with_replies(prompt), _github_edits) if _is_github(source) else (prompt, _own_edits)
    if old == new:
        return text
    problem = ""
    for reuse in (True, False):  # an example's own words may depend on where it stands; written anew it does not
        places = _places(old.fixed_examples if reuse else (), new.fixed_examples)
        attempt = applied(body, edits_of(Editor(path, body), source.value, old, new, places))
        problem = _problem(source, attempt, new)
        if not problem:
            return mark + attempt
    raise PromptfitError(f"{path}: left as it is: {problem}")


def switched(text: str, model: ModelSpec, params: Mapping[str, Any] | None, *, path: Path) -> str:
    """Return the text of a prompt file that asks another model, with ``params`` where they are not to stay.

    At the same provider the rest of its ``model`` holds, but for parameters of its own where there are ``params``.
    Else as ``rewritten``.
    """
    mark, body = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
    source = YamlSource(path, body)
    before, editor = parsed_prompt(source), Editor(path, body)
    file = source.value
    names = {_PARAMS: dict(params)} if params is not None else {}
    if params is not None and _is_github(source) and _PARAMS not in file:
        own = {name: value for name, value in params.items() if not (name == "response_format" and _FORMAT in file)}
        names = {_GITHUB_PARAMS: {_camel_case(name): value for name, value in own.items()}}
    said = file["model"]
    lost = {"params"} & said.keys() if isinstance(said, dict) and params is not None else set()
    stays = isinstance(said, dict) and said.get("provider") == model.provider
    new = {key: value for key, value in said.items() if key not in lost} | {"name": model.name} if stays else str(model)
    if is_flow(editor.root):
        edits = editor.flow(editor.root, file | {"model": new} | names)
    else:
        edits = _model_edits(editor, said, new, lost)
        for name, value in names.items():
            edits += _params_edits(editor, name, file.get(name), value)
    attempt = mark + applied(body, edits)
    after = parsed_prompt(YamlSource(path, attempt.removeprefix(_BOM))).config
    kept = before.config.model_copy(update={"model": after.model, "params": after.params})
    is_meant = str(after.model) == str(model) and (params is None or after.all_params == params)
    if after != kept or not is_meant:
        raise PromptfitError(f"{path}: left as it is: its form cannot hold another model alone: edit it by hand")
    return attempt


def weighted(text: str, weights: Mapping[str, float], *, path: Path) -> str:
    """Return the text of a prompt file with other weights in its ``decision``, and nothing else changed.

    As ``rewritten``; raises PromptfitError, one line, where the file's form cannot hold them.
    """
    mark, body = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
    source = YamlSource(path, body)
    old = source.value.get("decision")
    wanted = {**(old or {}), "weights": dict(weights)}
    editor = Editor(path, body)
    if old is None and "decision" not in source.value:
        root = editor.root
        whole = {**source.value, "decision": wanted}
        edits = editor.flow(root, whole) if is_flow(root) else editor.put(root, {"decision": wanted})
    else:
        key, node = editor.entry("decision")
        editor.check_own(key, node)
        present = {field.value: (field, value) for field, value in node.value}
        if is_flow(node):
            edits = editor.flow(node, wanted) if node.value else editor.set(key, node, wanted)
        elif "weights" in present:
            edits = editor.set(*present["weights"], wanted["weights"])
        else:
            edits = editor.put(node, {"weights": wanted["weights"]})
    attempt = applied(body, edits)
    try:
        after = YamlSource(path, attempt).value
    except PromptfitError as error:
        raise PromptfitError(f"{path}: left as it is: with weights it could not be read: {error}") from None
    if after != {**source.value, "decision": wanted}:
        raise PromptfitError(f"{path}: left as it is: its form cannot hold decision.weights: write `decision: {{}}`")
    return mark + attempt


def write_rewritten(path: Path, expected_text: str, new_text: str) -> None:
    """Replace a file whose text is still ``expected_text``; a symbolic link stays, and its target is written.

    Raises PromptfitError, one line, when somebody edited the file meanwhile or it cannot be written.
    """
    if file_text(path) != expected_text:
        raise PromptfitError(f"{path}: changed since it was read, so it is left as it is: run again")
    try:
        write_atomically(path, new_text)
    except OSError as error:
        raise PromptfitError(f"{path}: cannot be written: {error.strerror or error}") from None


def diff_lines(old: str, new: str, path: str) -> list[str]:
    """Return the unified diff of two texts of a file, a line each."""
    before, after = (BREAK.sub("\n", text).removesuffix("\n").split("\n") if text else [] for text in (old, new))
    return list(difflib.unified_diff(before, after, f"a/{path}", f"b/{path}", lineterm=""))


def _is_github(source: YamlSource) -> bool:
    return isinstance(source.value, dict) and github_prompt.is_github_form(source.value)


def _prompt_of(source: YamlSource) -> Prompt:
    value = github_prompt.convert(source) if _is_github(source) else source.value
    if not isinstance(value, dict) or "prompt" not in value:
        raise PromptfitError(f"{source.path}:1: expected a mapping with `prompt`")
    try:
        return Prompt.model_validate(value["prompt"])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("prompt", *first["loc"])))
        raise PromptfitError(f"{source.path}:{source.line(('prompt',))}: {place}: {first['msg']}") from None


def _problem(source: YamlSource, attempt: str, wanted: Prompt) -> str:
    """Return what a reader of the new text would find wrong; nothing when all is as it should be."""
    try:
        after = YamlSource(source.path, attempt)
        found = _prompt_of(after)
    except PromptfitError as error:
        return f"with the new prompt it could not be read: {str(error).splitlines()[0]}"
    differing = [field for field in Prompt.model_fields if getattr(found, field) != getattr(wanted, field)]
    if differing:
        return f"its form cannot hold the new value of {', '.join(differing)}"
    own = "messages" if _is_github(source) else "prompt"
    is_same = source.value | {own: None} == after.value | {own: None}
    return "" if is_same else "other values depend on the prompt's: write them out first"


def _places(old: Sequence[Example], new: Sequence[Example]) -> list[int | None]:
    """Return for each new example the place of an equal old one, each of which serves once."""
    free: dict[Example, list[int]] = {}
    for at, example in enumerate(old):
        free.setdefault(example, []).append(at)
    return [free[example].pop(0) if free.get(example) else None for example in new]


# Our own form.


def _own_edits(
    editor: Editor, file: dict[str, Any], old: Prompt, new: Prompt, places: Sequence[int | None]
) -> list[Edit]:
    """Return the edits that turn the old prompt into the new one."""
    key, node = editor.entry("prompt")
    said = file["prompt"]
    values: dict[str, Any] = {
        **{field: getattr(new, field) for field in TEXT_FIELDS},
        "examples": _examples_value(new),
        "label_order": list(new.label_order),
        **{name: _by_own_labels(getattr(new, name), said.get(name)) for name in ("label_words", "label_notes")},
    }
    changed = [name for name in values if getattr(old, name) != getattr(new, name)]
    present = {field.value: (field, value) for field, value in node.value}
    touched = [present[name] for name in changed if name in present]
    for pair in touched:
        editor.check_own(*pair)
    if is_flow(node) and node.value:
        return editor.flow(node, said | {name: values[name] for name in changed})
    # What a merge brings in cannot be taken out.
    can_go = "<<" not in present
    gone = {
        field.value for field, _ in touched if can_go and field.value not in TEXT_FIELDS and not values[field.value]
    }
    if not present.keys() - gone:
        return editor.set(key, node, {name: value for name, value in values.items() if value})
    edits: list[Edit] = []
    for field, value in touched:
        if field.value in gone:
            continue
        if field.value == "examples" and old.fixed_examples and new.fixed_examples:
            edits += editor.relist(value, list(map(Item, values["examples"], places)))
        elif isinstance(said[field.value], dict) and isinstance(values[field.value], dict):
            edits += _entry_edits(editor, field, value, said[field.value], values[field.value])
        else:
            edits += editor.set(field, value, values[field.value])
    return edits + editor.put(node, {name: values[name] for name in changed if name not in present}, gone)


def _by_own_labels(new: dict[str, str], old: dict[Any, str] | None) -> dict[Any, str]:
    """Return what is said of labels, by them as the file writes them: ``0`` is the label ``"0"``."""
    written = {_LABEL.validate_python(label): label for label in old or ()}
    return {written.get(label, label): word for label, word in new.items()}


def _examples_value(prompt: Prompt) -> list[dict[str, Any]] | dict[str, Any]:
    """Return the examples as the file says them: a list, or what is nearest to a text."""
    if isinstance(prompt.examples, NearestExamples):
        return prompt.examples.model_dump(by_alias=True, exclude_none=True)
    return [example.model_dump(exclude_none=True) for example in prompt.examples]


def _entry_edits(
    editor: Editor, key: yaml.Node, node: yaml.Node, old: dict[Any, Any], new: dict[Any, Any]
) -> list[Edit]:
    """Return the edits that turn one mapping into another: label words, or what examples are nearest."""
    if is_flow(node) and node.value:
        return editor.flow(node, new)
    if not new.keys() & old.keys() or len(old) != len(node.value):
        return editor.set(key, node, new)
    pairs = list(zip(old, node.value, strict=True))
    edits: list[Edit] = []
    for label, (field, word) in pairs:
        if new.get(label, old[label]) != old[label]:
            edits += editor.set(field, word, new[label])
    added = {label: word for label, word in new.items() if label not in old}
    return edits + editor.put(node, added, {field.value for label, (field, _) in pairs if label not in new})


# The model.


def _model_edits(editor: Editor, old: object, new: str | dict[str, Any], lost: set[str]) -> list[Edit]:
    """Return the edits that name another model."""
    key, node = editor.entry("model", yaml.Node)
    editor.check_own(key, node)
    if isinstance(new, str) or not isinstance(old, dict):
        return editor.set(key, node, new)
    if is_flow(node):
        return editor.flow(node, new)
    name, value = next(pair for pair in node.value if pair[0].value == "name")
    return [*editor.set(name, value, new["name"]), *editor.put(node, {}, lost)]


def _params_edits(editor: Editor, name: str, old: object, new: dict[str, Any]) -> list[Edit]:
    """Return the edits that put other parameters in the place of what a file has, or has not."""
    if not editor.has(name):
        return editor.below(*editor.entry("model", yaml.Node), name, new) if new else []
    key, node = editor.entry(name, yaml.Node)
    editor.check_own(key, node)
    return _entry_edits(editor, key, node, old, new) if isinstance(old, dict) and old else editor.set(key, node, new)


def _camel_case(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


# GitHub's form.

_OWN_FIELDS = ("label_words", "label_notes", "label_order")


def _with_replies(prompt: Prompt) -> Prompt:
    """Return the prompt with its examples' replies said, because GitHub's form has no labels, only replies."""
    if isinstance(prompt.examples, NearestExamples):
        raise PromptfitError("examples: GitHub's form has no place for those nearest to a text: use `prompt`")
    turns = ChatBuilder(prompt, (), model="", params={}, continues=True).request("").turns[1::2]
    pairs = zip(prompt.fixed_examples, turns, strict=True)
    examples = tuple(example.model_copy(update={"reply": turn.text}) for example, turn in pairs)
    return prompt.model_copy(update={"examples": examples})


def _github_edits(
    editor: Editor, file: dict[str, Any], old: Prompt, new: Prompt, places: Sequence[int | None]
) -> list[Edit]:
    """Return the edits that turn the old prompt into the new one; new examples stand before the message that asks."""
    key, node = editor.entry("messages")
    homeless = next((name for name in _OWN_FIELDS if getattr(new, name)), None)
    if homeless:
        raise PromptfitError(
            f"{editor.path}:{key.start_mark.line + 1}: {homeless}: GitHub's form has no place for them: use `prompt`"
        )
    editor.check_own(key, node)
    messages: list[dict[str, Any]] = file["messages"]
    roles = [str(message["role"]).lower() for message in messages]
    asking = max(at for at, role in enumerate(roles) if role == "user")
    system = [at for at, role in enumerate(roles) if role == "system"]
    turns = [at for at, role in enumerate(roles) if role != "system"]
    shown, reply = [at for at in turns if at < asking], [at for at in turns if at > asking]

    def item(at: int, content: str | None = None) -> Item:
        if content is None or content == messages[at]["content"]:
            return Item(messages[at], at)
        return Item({**messages[at], "content": content}, at, content)

    def around(text: str) -> str:
        return f"{new.user_prompt_prefix}{text}{new.user_prompt_suffix}"

    def texts(role: str, places: Sequence[int], at: int, was: str, text: str) -> dict[int, Item]:
        """Return the messages that say a text together: the first says all of it once it has changed."""
        if was == text:
            return {place: item(place) for place in places}
        first = {place: item(place, text) for place in places[:1]} or {at: Item({"role": role, "content": text})}
        return first if text else {}

    pairs: list[Item] = []
    for example, place in zip(new.fixed_examples, places, strict=True):
        asked, said = around(example.text), example.reply or ""
        if place is None:
            pairs += [Item({"role": "user", "content": asked}), Item({"role": "assistant", "content": said})]
        else:
            pairs += [item(shown[2 * place], asked), item(shown[2 * place + 1])]
    placed = {
        **texts("system", system, -1, old.system_prompt, new.system_prompt),
        **texts("assistant", reply, len(messages), old.bot_reply_prefix, new.bot_reply_prefix),
        asking: item(asking, around(github_prompt.asked_parts(messages)[1])),
    }
    if [pair.at for pair in pairs] == shown:  # a system message between them stays between them
        placed |= zip(shown, pairs, strict=True)
        pairs = []
    items = [placed[at] for at in sorted(placed)]
    first = items.index(placed[asking])
    return editor.relist(node, [*items[:first], *pairs, *items[first:]])
