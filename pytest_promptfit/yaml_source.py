"""Reading YAML so that every mistake can be shown at its line.

Scalars follow YAML 1.2's core rules, because a label ``no`` is a word and not ``False``; a mapping that
says a key twice is an error; aliases cannot blow up. No knowledge of prompts here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from pytest_promptfit.errors import PromptFileError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_NODES = 2_000_000
"""Values a file may hold once its aliases are followed: above this it is a bomb and not a prompt."""

MAX_DEPTH = 100
"""Levels of nesting a file may have: libyaml builds them by recursion, and would take the process down."""

_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[valid-type, misc]  # the base is chosen at run time
    """The safe loader with YAML 1.2's scalars."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    # A hundred digits and more are no number anybody counts with: they stay text.
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,99})", "-+0123456789"),
    ("float", r"[-+]?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?", "-+0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


class YamlSource:
    """A YAML document as plain values, with the line of each."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        try:
            _check_depth(text, path)
            self._root, self.value = _load(text, path)
        except yaml.YAMLError as error:
            raise _yaml_error(path, text, error) from None
        except (RecursionError, ValueError) as error:
            raise PromptFileError(f"{path}:1: cannot be read as YAML: {str(error).splitlines()[0]}") from None

    @classmethod
    def read(cls, path: Path) -> YamlSource:
        """Read a file; raise PromptFileError with the line of what is wrong."""
        return cls(path, read_text(path))

    def line(self, place: Sequence[str | int]) -> int:
        """Return the line (from 1) of the value at ``place``, or of the nearest value around it."""
        node, line = self._root, 1
        for step in place:
            found = _child(node, step)
            if found is not None:
                line, node = found
        return line

    def item_lines(self) -> list[int]:
        """Return the line of each item of a document that is a list."""
        return [item.start_mark.line + 1 for item in self._root.value] if self._root is not None else []


def read_text(path: Path) -> str:
    """Read UTF-8 text; raise PromptFileError when the file is missing or of another encoding."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raw = path.read_bytes()
        line = raw.count(b"\n", 0, error.start) + 1
        raise PromptFileError(
            f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8: save the file as UTF-8"
        ) from None
    except OSError as error:
        raise PromptFileError(f"{path}:1: cannot be read: {error.strerror or error}") from None


def _load(text: str, path: Path) -> tuple[yaml.Node | None, Any]:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        _check_tree(root, path)
        return root, None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


def _check_depth(text: str, path: Path) -> None:
    line = line_too_deep(text)
    if line:
        raise PromptFileError(f"{path}:{line}: nested deeper than {MAX_DEPTH} levels")


def line_too_deep(text: str) -> int:
    """Return the line where YAML nests deeper than libyaml's composer survives, or 0."""
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                return event.start_mark.line + 1 if event.start_mark else 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return 0


def shown_key(key: object) -> str:
    """Return a key as errors show it: as it is, or quoted when it would break the line."""
    return str(key) if str(key).isprintable() else repr(key)


def _child(node: yaml.Node | None, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        value = node.value[step]
        return value.start_mark.line + 1, value
    return None


def _check_tree(root: yaml.Node | None, path: Path) -> None:
    stack, seen = [root], 0
    while stack:
        node = stack.pop()
        seen += 1
        if seen > MAX_NODES:
            raise PromptFileError(f"{path}:1: aliases make more than {MAX_NODES:,} values: write them out")
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, path)
            stack += [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            stack += node.value


def _check_keys(node: yaml.MappingNode, path: Path) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise PromptFileError(f"{path}:{key.start_mark.line + 1}: a key must be a word, not a list or mapping")
        line = key.start_mark.line + 1
        if key.value in lines and key.value != "<<":
            raise PromptFileError(
                f"{path}:{line}: {shown_key(key.value)}: said twice, first in line {lines[key.value]}: keep one"
            )
        lines[key.value] = line


def _yaml_error(path: Path, text: str, error: yaml.YAMLError) -> PromptFileError:
    if isinstance(error, yaml.reader.ReaderError):  # its position counts bytes
        line, problem = text.encode().count(b"\n", 0, error.position) + 1, f"{error.reason}: U+{error.character:04X}"
    else:
        mark = getattr(error, "problem_mark", None)
        line, problem = mark.line + 1 if mark else 1, getattr(error, "problem", None) or str(error).splitlines()[0]
    return PromptFileError(f"{path}:{line}: not YAML: {problem}")
