"""What changes in the text when a value does: the edits for it, whatever stands around it left alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.tuning.rewrite.layout import Layout, Value, Written, flow, inline
from pytest_promptfit.tuning.rewrite.lines import BREAK, Edit, applied, before_line, indent_of, line_end
from pytest_promptfit.tuning.rewrite.tree import BLOCK_HEADER, Entry, Node, compose

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_promptfit.prompts.model import Example
    from pytest_promptfit.prompts.yaml_source import YamlSource

_COLON = re.compile(r"\s*:")


@dataclass(frozen=True, slots=True)
class ListItem:
    """An item of a changed list: a new value, or the one at ``index`` of the old list with the edits in it."""

    value: Mapping[str, Value]
    index: int | None = None
    edits: tuple[Edit, ...] = ()


class Editor:
    """The text of a prompt file and its tree; what changes a value returns the edits for it.

    With ``reuse``, a list's items that stay keep their own words; without, they are written anew.
    """

    def __init__(self, source: YamlSource, text: str, *, reuse: bool) -> None:
        self.path = source.path
        self.value = source.value
        self._reuse = reuse
        self.root = compose(text)
        self._text = text
        nested = (entry.value for entry in self.root.entries if entry.value.is_block_mapping)
        self._step = next((node.column - self.root.column for node in nested), 2)

    def entry(self, name: str) -> Entry:
        """Return a top-level entry, whose value must stand there and not be a mere alias."""
        entry = next((entry for entry in self.root.entries if entry.name == name), None)
        if entry is None or not isinstance(entry.value.event, yaml.CollectionStartEvent):
            raise PromptfitError(f"{self.path}: {name}: stands elsewhere, behind an alias: write it out first")
        return entry

    def check_own(self, entry: Entry) -> None:
        """Refuse a value that is tied to other places."""
        if entry.value.is_shared:
            raise PromptfitError(
                f"{self.path}:{entry.line}: {entry.name}: has an anchor or alias in it: write it out first"
            )

    def set(self, parent: Node, entry: Entry, value: Value) -> list[Edit]:
        """Put another value in the place of an entry's."""
        return self._replaced(entry, self._written(parent, entry.value, value))

    def put(self, mapping: Node, values: Mapping[str, Value], gone: Iterable[str] = ()) -> list[Edit]:
        """Take keys out of a mapping, at least one of which stays, and add others at its end."""
        lost = set(gone)
        last = [entry for entry in mapping.entries if entry.name not in lost][-1]
        if mapping.is_flow:
            return [*_taken_from_flow(mapping.entries, lost), *_added_to_flow(last, values)]
        taken = [self._taken_out(mapping, entry) for entry in mapping.entries if entry.name in lost]
        return [*taken, *self._added(mapping, last, values)]

    def places(self, old: Sequence[Example], new: Sequence[Example]) -> list[int | None]:
        """Return for each new example the place of an equal old one, each of which serves once."""
        free: dict[Example, list[int]] = {}
        for at, example in enumerate(old if self._reuse else ()):
            free.setdefault(example, []).append(at)
        return [free[example].pop(0) if free.get(example) else None for example in new]

    def relist(self, parent: Node, entry: Entry, items: Sequence[ListItem]) -> list[Edit]:
        """Change a list: items are taken out, moved and added, and those that stay keep their own words."""
        old = entry.value
        if [item.index for item in items] == list(range(len(old.children))):
            return [edit for item in items for edit in item.edits]
        if not old.is_flow:
            return [self._block_list(old, items)]
        texts = [self._own_text(old, item) for item in items]
        if parent.is_flow or all(texts) or any(BREAK.search(text) for text in texts):
            return [self._flow_list(parent, old, items)]
        return self._replaced(entry, self._unfolded(parent, old, items))

    def _replaced(self, entry: Entry, written: Written) -> list[Edit]:
        """Put what is written in the place of a value, and leave the comments beside it where they are."""
        old, text = entry.value, self._text
        colon = _COLON.match(text, entry.key.end)
        start, after_colon = old.start, colon.end() if colon else old.start
        header = self._header(old)
        head_end, head = header.end() if header else old.end, written.head
        gap = text[after_colon:start]
        if old.is_block_collection:
            start = head_end = after_colon
            head = f" {head}" if head else ""
        elif not head:
            start = after_colon + len(gap.rstrip())
        elif written.lines and not old.is_block_scalar and gap.isspace() and BREAK.search(gap):
            start, head = after_colon, f" {head}"
        body = line_end(text, head_end)
        lines = self._joined(written.lines, old.start)
        return [(start, head_end, head), (body, max(body, line_end(text, old.end)), lines)]

    def _written(self, parent: Node, old: Node, value: Value) -> Written:
        if parent.is_flow and isinstance(value, str) and not parent.is_json:
            return Written(inline(value, old.style, is_flow=True))
        if parent.is_flow:
            return Written(flow(value, quoted=parent.is_json))
        layout = self._layout(parent.column, line_end(self._text, old.end))
        if not isinstance(value, str):
            return layout.block(value, parent.column)
        return layout.scalar(value, parent.column, old.style, self._body_indent(old))

    def _header(self, node: Node) -> re.Match[str] | None:
        """Return what a block scalar starts with; nothing for any other value."""
        return BLOCK_HEADER.match(self._text, node.start) if node.is_block_scalar else None

    def _body_indent(self, old: Node) -> int:
        return indent_of(self._text[line_end(self._text, old.start) : old.end]) if old.is_block_scalar else 0

    def _layout(self, column: int, end: int) -> Layout:
        """Return how to write what ends at ``end`` and belongs to keys in ``column``."""
        rest = self._text[end:]
        if re.match(rf"\s*[\r\n] {{{column + 1},}}#", rest):  # a block would swallow that comment
            return Layout(self._step, ())
        if not rest:
            return Layout(self._step, ("-",))
        keeps_more = re.match(r"(?:\r\n|\r|\n)(?: *[\r\n]| +\Z)", rest)
        return Layout(self._step, ("-", "") if keeps_more else ("-", "", "+"))

    def _joined(self, lines: Iterable[str], at: int) -> str:
        """Return the lines, each after a line break like the one that ends the line of ``at``."""
        found = BREAK.search(self._text, at) or BREAK.search(self._text)
        newline = found[0] if found else "\n"
        return "".join(newline + line for line in lines)

    def _taken_out(self, mapping: Node, entry: Entry) -> Edit:
        """Take out an entry's lines, and the comments below that are indented as a part of it."""
        end = line_end(self._text, entry.value.end)
        comments = re.compile(rf"(?:[\r\n]+ {{{mapping.column + 1},}}#[^\r\n]*)+").match(self._text, end)
        return (before_line(self._text, entry.key.start), comments.end() if comments else end, "")

    def _added(self, mapping: Node, last: Entry, values: Mapping[str, Value]) -> list[Edit]:
        at = line_end(self._text, last.value.end)
        if at == len(self._text) and self._needs_the_end(last.value.last_scalar):
            at = before_line(self._text, last.key.start)
        lines = self._layout(mapping.column, at).entries(values, mapping.column)
        return [(at, at, self._joined(lines, last.key.start))]

    def _needs_the_end(self, scalar: Node) -> bool:
        """Tell whether a block scalar without a last line break would gain one when lines follow."""
        header = self._header(scalar)
        return header is not None and "-" not in header[1]

    def _block_list(self, old: Node, items: Iterable[ListItem]) -> Edit:
        ends = [line_end(self._text, child.end) for child in old.children]
        starts = [before_line(self._text, old.start), *ends[:-1]]
        layout, dash, column = self._layout(old.column, ends[-1]), old.column, _item_column(old)
        texts = (
            applied(self._text, item.edits, starts[item.index], ends[item.index])
            if item.index is not None
            else self._joined(layout.item(item.value, dash, column), old.start)
            for item in items
        )
        return (starts[0], ends[-1], "".join(texts))

    def _flow_list(self, parent: Node, old: Node, items: Iterable[ListItem]) -> Edit:
        first, last = old.children[0], old.children[-1]
        gap = self._text[old.start + 1 : first.start]
        separator = f",{gap}" if gap.isspace() and BREAK.search(gap) else ", "
        quoted = parent.is_json or first.is_json
        texts = (self._own_text(old, item) or flow(item.value, quoted=quoted) for item in items)
        return (first.start, last.end, separator.join(texts))

    def _unfolded(self, parent: Node, old: Node, items: Iterable[ListItem]) -> Written:
        """Write a one-line list as a block, a line or more for each item."""
        layout = self._layout(parent.column, line_end(self._text, old.end))
        dash = parent.column + layout.step
        lines: list[str] = []
        for item in items:
            own = self._own_text(old, item)
            lines += [f"{' ' * dash}- {own}"] if own else layout.item(item.value, dash, dash + 2)
        return Written("", tuple(lines))

    def _own_text(self, old: Node, item: ListItem) -> str:
        """Return a kept item in its own words; nothing for a new one."""
        if item.index is None:
            return ""
        node = old.children[item.index]
        return applied(self._text, item.edits, node.start, node.end)


def _item_column(old: Node) -> int:
    """Return where the first item of a block list starts: the new ones start there too."""
    mark = old.children[0].event.start_mark
    return int(mark.column) if mark.line == old.event.start_mark.line else old.column + 2


def _taken_from_flow(entries: Sequence[Entry], lost: set[str]) -> Iterator[Edit]:
    last = max(at for at, entry in enumerate(entries) if entry.name not in lost)
    for at, entry in enumerate(entries):
        if entry.name in lost and at < last:
            yield (entry.key.start, entries[at + 1].key.start, "")
        elif entry.name in lost:
            yield (entries[at - 1].value.end, entry.value.end, "")


def _added_to_flow(last: Entry, values: Mapping[str, Value]) -> Iterator[Edit]:
    quoted = last.key.style == '"'
    for key, value in values.items():
        yield (last.value.end, last.value.end, f", {flow(key, quoted=quoted)}: {flow(value, quoted=quoted)}")
