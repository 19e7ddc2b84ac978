"""What changes in a YAML text when a value does: the edits for it, whatever stands around it left alone.

PyYAML's marks say where a value stands, and ruamel.yaml writes the new one. No knowledge of prompts here.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import (
    DoubleQuotedScalarString,
    FoldedScalarString,
    LiteralScalarString,
    SingleQuotedScalarString,
)

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.yaml_source import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


Value = str | float | list[Any] | dict[str, Any]

Edit = tuple[int, int, str]
"""What stands from one place of the text to another gives way to this."""

BREAK = re.compile(r"\r\n|\r|\n")
_COLON = re.compile(r"\s*:")
_BLOCK_HEADER = re.compile(r"(?:[!&]\S*\s+)*[|>]([-+0-9]*)")
_UNPRINTABLE = re.compile("[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""What no reader takes as it is, or takes for a line break; a tab too, because nobody sees it."""

_PLAIN = re.compile(r"""[^\s\-?:,\[\]{}#&*!|>'"%@`.=~](?:[^:#]|:(?=\S)|(?<=\S)#)*""")
_FLOW_MARKS = re.compile(r"[,\[\]{}:?#]")
_SHORT_LIST = 80
"""Characters of the words in a list that is written on one line."""

_NO_TEXT = re.compile(r"(?:y|n|yes|no|on|off|true|false|null|<<)|[-+]?[0-9][-+.:_0-9a-fox tz]*", re.IGNORECASE)
"""Plain words that some reader, of YAML 1.1 or 1.2, takes for something other than text."""


def applied(text: str, edits: Iterable[Edit], start: int = 0, end: int | None = None) -> str:
    """Return the text, or the part from ``start`` to ``end``, with the edits made."""
    parts, at = [], start
    for first, last, new in sorted(edits, key=lambda edit: edit[0]):
        parts += [text[at:first], new]
        at = max(at, last)
    return "".join((*parts, text[at:end]))


# What is written.


def _scalar(value: str, old: str = "", *, in_flow: bool = False, chomps: Iterable[str] = ("-", "")) -> Any:
    """Return a text in the form to write it in: the ``old`` style if that can hold it, else the mildest."""
    body = value.removesuffix("\n")
    is_lined = "\n" in body
    if not in_flow and (is_lined or old in ("|", ">") or (body != value and old != '"')):
        fits = body.strip("\n") == body != "" and not re.search(r" (?:\n|\Z)", value) and not _UNPRINTABLE.search(value)
        if fits and ("-" if body == value else "") in chomps:
            return FoldedScalarString(value) if old == ">" and not is_lined else LiteralScalarString(value)
    if old == '"' or "\n" in value or _UNPRINTABLE.search(value):
        return DoubleQuotedScalarString(value)
    is_plain = value == value.strip() and _PLAIN.fullmatch(value) and not _NO_TEXT.fullmatch(value)
    if old != "'" and is_plain and not (in_flow and _FLOW_MARKS.search(value)):
        return value
    is_single = old == "'" or '"' in value or "\\" in value
    return SingleQuotedScalarString(value) if is_single else DoubleQuotedScalarString(value)


def _styled(value: Any, *, in_flow: bool = False, chomps: Iterable[str] = ("-", "")) -> Any:
    """Return a new value in the form to write it in; an empty one, or a short list of words, stands in brackets."""
    if isinstance(value, str):
        return _scalar(value, in_flow=in_flow, chomps=chomps)
    if isinstance(value, int | float) or value is None:
        return value
    if isinstance(value, dict):
        styled: Any = CommentedMap()
        for key, item in value.items():
            name = _scalar(key, in_flow=in_flow, chomps=()) if isinstance(key, str) else key
            styled[name] = _styled(item, in_flow=in_flow, chomps=chomps)
    else:
        in_flow = in_flow or (all(isinstance(item, str) for item in value) and sum(map(len, value)) <= _SHORT_LIST)
        styled = CommentedSeq(_styled(item, in_flow=in_flow, chomps=chomps) for item in value)
    if in_flow or not value:
        styled.fa.set_flow_style()
    return styled


def _yaml(step: int = 2, dash: int | None = None) -> YAML:
    """Return a reader and writer of YAML; ``dash`` is the room of a list's dash, ``None`` for an indented list."""
    wide = YAML()
    wide.preserve_quotes, wide.width, wide.allow_unicode = True, sys.maxsize, True
    wide.indent(mapping=step, sequence=dash or step + 2, offset=0 if dash else step)
    wide.representer.ignore_aliases = lambda _value: True  # a value that stands twice is written twice
    return wide


def _lines(value: Any, column: int, step: int, dash: int | None = None) -> list[str]:
    """Write a value as lines indented to ``column``."""
    written = StringIO()
    _yaml(step, dash).dump(value, written)
    return [" " * column + line if line else "" for line in written.getvalue().removesuffix("\n").split("\n")]


# Where it is written.


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a changed list: a new one, or the one ``at`` a place of the old list.

    ``content`` is what the old one says from now on under that key, where it says something else.
    """

    value: dict[str, Any]
    at: int | None = None
    content: str | None = None


class Editor:
    """The text of a YAML file and its tree; what changes a value returns the edits for it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        root = yaml.compose(text, Loader=Reader)
        assert isinstance(root, yaml.MappingNode)
        self.root = root
        nested = (value for _, value in self.root.value if _is_block(value, yaml.MappingNode))
        self.step = next((self.column(node) - self.column(self.root) for node in nested), 2)

    def column(self, node: yaml.Node) -> int:
        """Return where a key, the keys of a block mapping, or the dashes of a list stand."""
        start = _start(node.value[0][0] if _is_block(node, yaml.MappingNode) else node)
        before = self.text[self.before_line(start) : start].lstrip("\r\n")
        return len(re.sub(r"\?\s+\Z", "", before))

    def has(self, name: str) -> bool:
        """Tell whether there is a top-level key of this name."""
        return any(key.value == name for key, _ in self.root.value)

    def entry(self, name: str, kind: type[yaml.Node] = yaml.CollectionNode) -> tuple[yaml.Node, yaml.Node]:
        """Return a top-level key and its value, which must stand there and not be a mere alias."""
        for key, value in self.root.value:
            if key.value == name and _start(value) >= _end(key) and isinstance(value, kind):
                return key, value
        raise PromptfitError(f"{self.path}: {name}: stands elsewhere, behind an alias: write it out first")

    def check_own(self, key: yaml.Node, value: yaml.Node) -> None:
        """Refuse a value that is tied to other places."""
        line, end = key.start_mark.line + 1, self.end(key, value)
        tokens = [token for token in yaml.scan(self.text, Loader=Reader) if _end(key) <= token.start_mark.index < end]
        if any(isinstance(token, yaml.AnchorToken | yaml.AliasToken) for token in tokens):
            raise PromptfitError(f"{self.path}:{line}: {key.value}: has an anchor or alias in it: write it out first")

    def end(self, key: yaml.Node, value: yaml.Node) -> int:
        """Return where the text of a key and its value ends."""
        return self.line_end(_end(key)) if _start(value) < _start(key) else self.value_end(value)

    def value_end(self, node: yaml.Node) -> int:
        """Return where a value's text ends, without the comments and the lost blank lines below it."""
        if _is_block(node, yaml.MappingNode):
            return self.end(*node.value[-1])
        if _is_block(node, yaml.SequenceNode):
            return self.value_end(node.value[-1])
        header = self.header(node)
        if header is None:
            return _end(node)
        first = self.line_end(header.end())
        body = self.text[first : _end(node)]
        lost = r"(?:\r\n|\r|\n)" if "+" in header[1] else rf"(?:(?:\r\n|\r|\n) {{0,{_indent_of(body)}}})+"
        return first + len(re.sub(rf"{lost}\Z", "", body))

    def header(self, node: yaml.Node) -> re.Match[str] | None:
        """Return what a block scalar starts with; nothing for any other value."""
        return _BLOCK_HEADER.match(self.text, _start(node)) if _style(node) in ("|", ">") else None

    def line_end(self, at: int) -> int:
        """Return where the line of ``at`` ends, before its line break."""
        found = BREAK.search(self.text, at)
        return found.start() if found else len(self.text)

    def before_line(self, at: int) -> int:
        """Return where the line break before the line of ``at`` starts."""
        start = max(self.text.rfind("\n", 0, at), self.text.rfind("\r", 0, at))
        return start - 1 if self.text[start - 1 : start + 1] == "\r\n" else max(start, 0)

    def joined(self, lines: Iterable[str], at: int) -> str:
        """Return the lines, each after a line break like the one that ends the line of ``at``."""
        found = BREAK.search(self.text, at) or BREAK.search(self.text)
        return "".join((found[0] if found else "\n") + line for line in lines)

    def chomps(self, column: int, end: int) -> tuple[str, ...]:
        """Return which of ``|-`` and ``|`` may end at ``end``; neither may where it would swallow a comment."""
        if re.match(rf"\s*[\r\n] {{{column + 1},}}#", self.text[end:]):
            return ()
        return ("-", "") if self.text[end:] else ("-",)

    def set(self, key: yaml.Node, old: yaml.Node, value: Value) -> list[Edit]:
        """Put another value in the place of a key's, and leave the comments beside it where they are."""
        end, column = self.value_end(old), self.column(key)
        header = self.header(old)
        indent = self.step
        if header:  # a text that begins with spaces of its own says how far it is indented
            said = re.search("[1-9]", header[1])
            indent = int(said[0]) if said else _indent_of(self.text[self.line_end(_start(old)) : _end(old)]) - column
        chomps = self.chomps(column, self.line_end(end))
        styled = _scalar(value, _style(old), chomps=chomps) if isinstance(value, str) else _styled(value, chomps=chomps)
        first, *lines = _lines({"k": styled}, column, indent)
        head, start, head_end = first[column + 2 :].strip(), _start(old), header.end() if header else end
        colon = _COLON.match(self.text, _end(key))
        after_colon = colon.end() if colon else start
        gap = self.text[after_colon:start]
        if _is_block(old):
            start = head_end = after_colon
            head = f" {head}" if head else ""
        elif not head:
            start = after_colon + len(gap.rstrip())
        elif lines and not header and gap.isspace() and BREAK.search(gap):
            start, head = after_colon, f" {head}"
        body = self.line_end(head_end)
        return [(start, head_end, head), (body, max(body, self.line_end(end)), self.joined(lines, start))]

    def put(self, node: yaml.Node, values: dict[str, Any], gone: Iterable[str] = ()) -> list[Edit]:
        """Take keys out of a block mapping, at least one of which stays, and add others at its end."""
        lost, column = set(gone), self.column(node)
        edits = []
        for key, value in node.value:
            if key.value in lost:  # with the comments below that are indented as a part of it
                end = self.line_end(self.end(key, value))
                comments = re.compile(rf"(?:[\r\n]+ {{{column + 1},}}#[^\r\n]*)+").match(self.text, end)
                edits.append((self.before_line(_start(key)), comments.end() if comments else end, ""))
        if values:
            last = [pair for pair in node.value if pair[0].value not in lost][-1]
            at = self.line_end(self.end(*last))
            if at == len(self.text) and self.needs_the_end(last[1]):
                at = self.before_line(_start(last[0]))
            lines = _lines(_styled(values, chomps=self.chomps(column, at)), column, self.step)
            edits.append((at, at, self.joined(lines, _start(last[0]))))
        return edits

    def below(self, key: yaml.Node, value: yaml.Node, name: str, new: dict[str, Any]) -> list[Edit]:
        """Add a mapping, in braces on one line, below a top-level key and its value."""
        at = self.line_end(self.end(key, value))
        lines = _lines(CommentedMap({name: _styled(new, in_flow=True)}), self.column(self.root), self.step)
        return [(at, at, self.joined(lines, _start(key)))]

    def needs_the_end(self, node: yaml.Node) -> bool:
        """Tell whether what stands last in a value is a block without a last line break: it would gain one."""
        while _is_block(node):
            node = node.value[-1][1] if isinstance(node, yaml.MappingNode) else node.value[-1]
        header = self.header(node)
        return header is not None and "-" not in header[1]

    def flow(self, node: yaml.Node, value: Any) -> list[Edit]:
        """Write what stands in braces or brackets anew; in a file that is JSON, on as many lines as it had."""
        start, end = _start(node), _end(node)
        own = self.text[start:end]
        if _style(self.root.value[0][0]) == '"' and self.root.flow_style:
            margin = " " * _indent_of(self.text[self.before_line(start) : start])
            text = json.dumps(value, ensure_ascii=False, indent=self.step if BREAK.search(own) else None)
            first, *rest = _UNPRINTABLE.sub(lambda char: f"\\u{ord(char[0]):04x}", text).split("\n")
            return [(start, end, first + self.joined((margin + each for each in rest), start))]
        line = node.start_mark.line + 1
        try:
            read = _yaml().load(BREAK.sub("\n", own))
        except YAMLError as error:
            what = str(getattr(error, "problem", error)).splitlines()[0]
            raise PromptfitError(f"{self.path}:{line}: cannot be written anew: {what}: use a line for each") from None
        if "".join(_lines(read, 0, 2)).count("#") < own.count("#"):  # ruamel.yaml loses them here
            raise PromptfitError(f"{self.path}:{line}: has a comment inside braces or brackets: move it out first")
        return [(start, end, "\n".join(_lines(_merged(read, value), 0, 2)))]

    def relist(self, node: yaml.Node, items: Sequence[Item]) -> list[Edit]:
        """Change a list: items are taken out, moved and added, and those that stay keep their own words."""
        if is_flow(node):
            return self.flow(node, [item.value for item in items])
        changes = [self.in_item(node.value[item.at], item.content) if item.at is not None else [] for item in items]
        if [item.at for item in items] == list(range(len(node.value))):
            return [edit for edits in changes for edit in edits]
        ends = [self.line_end(self.value_end(child)) for child in node.value]
        starts = [self.before_line(_start(node)), *ends[:-1]]
        chomps, first = self.chomps(self.column(node), ends[-1]), node.value[0].start_mark
        dash = first.column - self.column(node) if first.line == node.start_mark.line else 2
        texts = []
        for item, edits in zip(items, changes, strict=True):
            if item.at is not None:
                texts.append(applied(self.text, edits, starts[item.at], ends[item.at]))
            else:
                lines = _lines([_styled(item.value, chomps=chomps)], self.column(node), self.step, dash)
                texts.append(self.joined(lines, _start(node)))
        return [(starts[0], ends[-1], "".join(texts))]

    def in_item(self, node: yaml.Node, content: str | None) -> list[Edit]:
        """Put other content into a message."""
        if content is None:
            return []
        key, old = next(pair for pair in node.value if pair[0].value == "content")
        if is_flow(node):
            return [(_start(old), _end(old), _lines([_scalar(content, _style(old), in_flow=True)], 0, 2, 2)[0][2:])]
        return self.set(key, old, content)


def _merged(old: Any, new: Any) -> Any:
    """Return a new value for braces or brackets, in the words of ruamel.yaml's ``old`` where it says the same."""
    if isinstance(old, CommentedMap) and isinstance(new, dict):
        for key in [key for key in old if key not in new]:
            del old[key]
        for key, value in new.items():
            name = key if key in old or not isinstance(key, str) else _scalar(key, in_flow=True)
            old[name] = _merged(old.get(key), value)
        return old
    if isinstance(old, CommentedSeq) and isinstance(new, list):
        merged = CommentedSeq(
            next((item for item in old if item == value), None) or _merged(None, value) for value in new
        )
        merged.fa.set_flow_style()
        return merged
    if old == new:
        return old
    style = {SingleQuotedScalarString: "'", DoubleQuotedScalarString: '"'}.get(type(old), "")
    return _scalar(new, style, in_flow=True) if isinstance(new, str) else _styled(new, in_flow=True)


def _start(node: yaml.Node) -> int:
    return int(node.start_mark.index)


def _end(node: yaml.Node) -> int:
    return int(node.end_mark.index)


def _style(node: yaml.Node) -> str:
    return (isinstance(node, yaml.ScalarNode) and node.style) or ""


def is_flow(node: yaml.Node) -> bool:
    """Tell whether a value is a list or mapping in braces or brackets."""
    return bool(getattr(node, "flow_style", False))


def _is_block(node: yaml.Node, kind: type[yaml.Node] = yaml.CollectionNode) -> bool:
    """Tell whether a value is a list or mapping that indentation holds together."""
    return isinstance(node, kind) and not is_flow(node)


def _indent_of(body: str) -> int:
    """Return how far the first line that is not blank is indented."""
    found = re.search(r"^( *)[^ \r\n]", body, re.MULTILINE)
    return len(found[1]) if found else 0
