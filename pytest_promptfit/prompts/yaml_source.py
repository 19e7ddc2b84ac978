"""Reading YAML so that every mistake can be shown at its line.

Scalars follow YAML 1.2's core rules, because a label ``no`` is a word and not ``False``; a mapping that
says a key twice is an error; aliases cannot blow up. No knowledge of prompts here.
"""

from __future__ import annotations

import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import yaml

from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.text import git_mark, shown_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

MAX_NODES = 2_000_000
"""Values that the aliases of a file may add to it: above this it is a bomb and not a prompt."""

MAX_ALIASED = 10_000_000
"""Characters that the aliases of a file may add to it."""

MAX_DEPTH = 100
"""Levels of nesting a file may have, YAML or JSON: readers build them by recursion, and each gives up elsewhere."""

LONGEST_NUMBER = 101
"""Characters of a value tagged as a number: turning a longer one into text, or back, may take for ever."""

Reader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's safe loader, in C where there is one."""


class SafeLoader(Reader):  # type: ignore[valid-type, misc]  # the base is chosen at run time
    """The safe loader, for which a value that its tag contradicts is a YAML error."""


def _guarded(construct: Callable[[Any, Any], Any], kind: str) -> Callable[[Any, Any], Any]:
    def guarded(loader: Any, node: yaml.Node) -> Any:
        try:
            if len(node.value) <= LONGEST_NUMBER:
                return construct(loader, node)
        # PyYAML leaves it at what Python's own int, float and datetime raise.
        except (AttributeError, IndexError, KeyError, OverflowError, ValueError):
            pass
        raise yaml.constructor.ConstructorError(None, None, f"not a value of the type !!{kind}", node.start_mark)

    return guarded


for _kind in ("bool", "int", "float", "timestamp"):
    _tag = f"tag:yaml.org,2002:{_kind}"
    SafeLoader.add_constructor(_tag, _guarded(Reader.yaml_constructors[_tag], _kind))


class _Loader(SafeLoader):
    """The safe loader with YAML 1.2's scalars."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way


for _kind, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    # A hundred digits and more are no number anybody counts with: they stay text.
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,99})", "-+0123456789"),
    ("float", r"[-+]?(?=.{1,100}$)(?:0|[1-9][0-9]{0,99})(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?", "-+0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first))


class YamlSource:
    """A YAML document as plain values, with the line of each."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._indexed: dict[int, dict[str, tuple[int, yaml.Node]]] = {}
        try:
            if too_deep := line_too_deep(text):
                raise PromptFileError(f"{path}:{too_deep}: nested deeper than {MAX_DEPTH} levels")
            loader = _Loader(text)
            try:
                self._root: yaml.Node | None = loader.get_single_node()
                _check_tree(self._root, text, path)
                self.value: Any = None if self._root is None else loader.construct_document(self._root)
            finally:
                loader.dispose()
        except yaml.YAMLError as error:
            if isinstance(error, yaml.reader.ReaderError):  # its position counts bytes
                line = text.encode().count(b"\n", 0, error.position) + 1
                problem = f"{error.reason}: U+{error.character:04X}"
            else:
                mark = getattr(error, "problem_mark", None)
                line = mark.line + 1 if mark else 1
                problem = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise PromptFileError(f"{path}:{line}: not YAML: {problem}") from None
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
            if isinstance(node, yaml.MappingNode):
                if id(node) not in self._indexed:  # each of a hundred thousand mistakes is looked up
                    self._indexed[id(node)] = {
                        key.value: (key.start_mark.line + 1, value)
                        for key, value in node.value
                        if isinstance(key, yaml.ScalarNode)
                    }
                line, node = self._indexed[id(node)].get(str(step), (line, node))
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1
        return line

    def item_lines(self) -> list[int]:
        """Return the line of each item of a document that is a list."""
        return [item.start_mark.line + 1 for item in self._root.value] if self._root is not None else []


def read_text(path: Path) -> str:
    """Read UTF-8 text; raise PromptFileError for no regular file, another encoding, or what git left in its place."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device may never end
            raise PromptFileError(f"{path}:1: cannot be read: not a regular file")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raw = path.read_bytes()
        line = raw.count(b"\n", 0, error.start) + 1
        raise PromptFileError(
            f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8: save the file as UTF-8"
        ) from None
    except OSError as error:
        raise PromptFileError(f"{path}:1: cannot be read: {error.strerror or error}") from None
    if mark := git_mark(text):
        raise PromptFileError(f"{path}:{mark[0]}: {mark[1]}")
    return text


def line_too_deep(text: str) -> int:
    """Return the line where YAML nests deeper than ``MAX_DEPTH``, or 0.

    Raises:
        yaml.YAMLError: it is not YAML up to there.
    """
    try:
        return _line_too_deep(text, Reader)
    except yaml.YAMLError:
        # libyaml reads ahead and, from 0.2.6 on, meets a limit of its own before we have counted to ours.
        with suppress(yaml.YAMLError):
            if line := _line_too_deep(text, yaml.SafeLoader):
                return line
        raise


def _line_too_deep(text: str, reader: type[yaml.SafeLoader]) -> int:
    depth = 0
    for event in yaml.parse(text, Loader=reader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                return event.start_mark.line + 1 if event.start_mark else 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return 0


class AliasBombError(ValueError):
    """The aliases of a document make it far larger than its text is."""


def values_of(root: yaml.Node | None, text: str) -> Iterator[yaml.Node]:
    """Yield every value of the document as often as aliases name it; raise AliasBombError when that is too often.

    Without aliases no document has more values, or more characters in them, than its text has characters.
    """
    stack, left, letters = [root] if root else [], len(text) + MAX_NODES, len(text) + MAX_ALIASED
    while stack:
        node = stack.pop()
        left -= 1
        if isinstance(node, yaml.MappingNode):
            stack += [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            stack += node.value
        else:
            letters -= len(node.value)
        if left < 0 or letters < 0:
            what = f"{MAX_NODES:,} values" if left < 0 else f"{MAX_ALIASED:,} characters"
            raise AliasBombError(f"aliases make more than {what}: write them out")
        yield node


def _check_tree(root: yaml.Node | None, text: str, path: Path) -> None:
    """Refuse a bomb, and a mapping that says a key twice or has a key that is no word."""
    try:
        for node in values_of(root, text):
            lines: dict[str, int] = {}
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                line = key.start_mark.line + 1
                if not isinstance(key, yaml.ScalarNode):
                    raise PromptFileError(f"{path}:{line}: a key must be a word, not a list or mapping")
                if key.value in lines and key.value != "<<":
                    said = f"said twice, first in line {lines[key.value]}: keep one"
                    raise PromptFileError(f"{path}:{line}: {shown_key(key.value)}: {said}")
                lines[key.value] = line
    except AliasBombError as error:
        raise PromptFileError(f"{path}:1: {error}") from None
