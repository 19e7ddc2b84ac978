"""Our own form of a prompt file: which values of ``prompt`` give way to which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from pytest_promptfit.prompts.model import TEXT_FIELDS, Example, Label, Prompt
from pytest_promptfit.tuning.rewrite.edits import Editor, ListItem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_promptfit.tuning.rewrite.layout import Value
    from pytest_promptfit.tuning.rewrite.lines import Edit
    from pytest_promptfit.tuning.rewrite.tree import Entry, Node

_LABEL: TypeAdapter[str] = TypeAdapter(Label)


def own_edits(editor: Editor, old: Prompt, new: Prompt) -> list[Edit]:
    """Return the edits that turn the old prompt into the new one."""
    entry, values = editor.entry("prompt"), _values(new)
    present = {field.name: field for field in entry.value.entries}
    changed = [name for name in values if getattr(old, name) != getattr(new, name)]
    touched = [present[name] for name in changed if name in present]
    for field in touched:
        editor.check_own(field)
    # What a merge brings in cannot be taken out, and a flow mapping says that there is nothing.
    can_go = not entry.value.is_flow and "<<" not in present
    gone = {field.name for field in touched if can_go and field.name not in TEXT_FIELDS and not values[field.name]}
    if not present.keys() - gone:
        return editor.set(editor.root, entry, {name: value for name, value in values.items() if value})
    edits: list[Edit] = []
    for field in touched:
        if field.name not in gone:
            edits += _field_edits(editor, entry.value, field, old, new)
    return [*edits, *editor.put(entry.value, {name: values[name] for name in changed if name not in present}, gone)]


def _values(prompt: Prompt) -> dict[str, Value]:
    return {
        **{field: getattr(prompt, field) for field in TEXT_FIELDS},
        "examples": [_example_value(example) for example in prompt.examples],
        "label_words": prompt.label_words,
    }


def _example_value(example: Example) -> dict[str, str]:
    return example.model_dump(exclude_none=True)


def _field_edits(editor: Editor, mapping: Node, entry: Entry, old: Prompt, new: Prompt) -> list[Edit]:
    if entry.name == "examples" and old.examples and new.examples:
        places = editor.places(old.examples, new.examples)
        items = [ListItem(_example_value(item), at) for item, at in zip(new.examples, places, strict=True)]
        return editor.relist(mapping, entry, items)
    if entry.name == "label_words":
        return _word_edits(editor, mapping, entry, old.label_words, new.label_words)
    return editor.set(mapping, entry, _values(new)[entry.name])


def _word_edits(
    editor: Editor, mapping: Node, entry: Entry, old: Mapping[str, str], words: Mapping[str, str]
) -> list[Edit]:
    keys = [_LABEL.validate_python(key) for key in editor.value["prompt"]["label_words"]]
    entries = entry.value.entries
    kept = set(keys) & set(words)
    if len(keys) != len(entries) or not kept:
        return editor.set(mapping, entry, words)
    edits: list[Edit] = []
    for label, word in zip(keys, entries, strict=True):
        if label in kept and words[label] != old[label]:
            edits += editor.set(entry.value, word, words[label])
    gone = [word.name for label, word in zip(keys, entries, strict=True) if label not in kept]
    return [*edits, *editor.put(entry.value, {label: words[label] for label in words if label not in kept}, gone)]
