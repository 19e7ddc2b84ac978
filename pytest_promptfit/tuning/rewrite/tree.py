"""Where the values of a YAML text stand: a tree with the place of each, comments left out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from pytest_promptfit.prompts.yaml_source import Reader
from pytest_promptfit.tuning.rewrite.lines import indent_of, line_end

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK_HEADER = re.compile(r"(?:[!&]\S*\s+)*[|>]([-+0-9]*)")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where its own text starts and ends; the children of a mapping are keys and values in turn."""

    event: Any
    start: int
    end: int
    children: tuple[Node, ...] = ()

    @property
    def is_flow(self) -> bool:
        """Whether it is a mapping or list in braces or brackets."""
        return bool(getattr(self.event, "flow_style", False))

    @property
    def is_block_collection(self) -> bool:
        """Whether it is a mapping or list that indentation holds together."""
        return bool(self.children) and not self.is_flow

    @property
    def is_block_mapping(self) -> bool:
        """Whether it is a mapping that indentation holds together."""
        return self.is_block_collection and isinstance(self.event, yaml.MappingStartEvent)

    @property
    def is_block_scalar(self) -> bool:
        """Whether it is a text after ``|`` or ``>``."""
        return self.style in ("|", ">")

    @property
    def is_json(self) -> bool:
        """Whether it is a mapping whose keys are in double quotes."""
        return self.is_flow and bool(self.children) and self.children[0].style == '"'

    @property
    def style(self) -> str:
        """The scalar's quotes, or ``|`` or ``>``; empty when it has none."""
        return getattr(self.event, "style", None) or ""

    @property
    def column(self) -> int:
        """Where the keys of a mapping, or the dashes of a list, stand."""
        mark = self.children[0].event.start_mark if self.is_block_mapping else self.event.start_mark
        return int(mark.column)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The keys of a mapping, each with its value."""
        return tuple(Entry(*pair) for pair in zip(self.children[::2], self.children[1::2], strict=True))

    @property
    def is_shared(self) -> bool:
        """Whether an anchor or an alias in it ties it to other places."""
        return self.event.anchor is not None or any(child.is_shared for child in self.children)

    @property
    def last_scalar(self) -> Node:
        """What stands last in it."""
        return self.children[-1].last_scalar if self.children else self


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a mapping and its value."""

    key: Node
    value: Node

    @property
    def name(self) -> str:
        """The key's text; empty when the key is an alias."""
        return str(getattr(self.key.event, "value", ""))

    @property
    def line(self) -> int:
        """The key's line, from 1."""
        return int(self.key.event.start_mark.line) + 1


def compose(text: str) -> Node:
    """Return the tree of a YAML document that is not empty."""
    parsed: Iterable[Any] = yaml.parse(text, Loader=Reader)
    events = (event for event in parsed if isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent))
    return _node(text, next(events), events)


def _node(text: str, event: Any, events: Iterator[Any]) -> Node:
    start, end = event.start_mark.index, event.end_mark.index
    if isinstance(event, yaml.ScalarEvent):
        return Node(event, start, _block_scalar_end(text, start, end) if event.style in ("|", ">") else end)
    if not isinstance(event, yaml.CollectionStartEvent):
        return Node(event, start, end)
    children: list[Node] = []
    inner = next(events)
    while type(inner) not in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
        children.append(_node(text, inner, events))
        inner = next(events)
    return Node(event, start, inner.end_mark.index if event.flow_style else children[-1].end, tuple(children))


def _block_scalar_end(text: str, start: int, end: int) -> int:
    """Return the end of the scalar's last line, without the blank lines that its value does not keep."""
    header = BLOCK_HEADER.match(text, start)
    if header is None:
        return end
    first = line_end(text, header.end())
    body = text[first:end]
    lost = r"(?:\r\n|\r|\n)" if "+" in header[1] else rf"(?:(?:\r\n|\r|\n) {{0,{indent_of(body)}}})+"
    return first + len(re.sub(rf"{lost}\Z", "", body))
