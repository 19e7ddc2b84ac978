"""The surgical rewrite of a prompt file: a new prompt goes in, everything else stays byte for byte.

The YAML's own marks say where each value stands; the new value is spliced in there, and what came out is
read again before anybody may write it. Which prompt is better is not decided here.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.files import write_atomically
from pytest_promptfit.prompts import github as github_prompt
from pytest_promptfit.prompts.model import Prompt
from pytest_promptfit.prompts.yaml_source import YamlSource
from pytest_promptfit.tuning.rewrite.edits import Editor
from pytest_promptfit.tuning.rewrite.github_form import github_edits, with_replies
from pytest_promptfit.tuning.rewrite.lines import BREAK, applied
from pytest_promptfit.tuning.rewrite.own_form import own_edits

if TYPE_CHECKING:
    from pathlib import Path

_BOM = "\ufeff"


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
    new, edits_of = (with_replies(prompt), github_edits) if _is_github(source) else (prompt, own_edits)
    if old == new:
        return text
    problem = ""
    for reuse in (True, False):  # an example's own words may depend on where it stands; written anew it does not
        attempt = applied(body, edits_of(Editor(source, body, reuse=reuse), old, new))
        problem = _problem(source, attempt, new)
        if not problem:
            return mark + attempt
    raise PromptfitError(f"{path}: left as it is: {problem}")


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
    names = (f"a/{path}", f"b/{path}")
    return list(difflib.unified_diff(_lines(old), _lines(new), *names, lineterm=""))


def _lines(text: str) -> list[str]:
    lines = BREAK.split(text)
    return lines if lines[-1] else lines[:-1]


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
    return "" if _others(source) == _others(after) else "other values depend on the prompt's: write them out first"


def _others(source: YamlSource) -> dict[str, Any]:
    own = "messages" if _is_github(source) else "prompt"
    return {key: value for key, value in source.value.items() if key != own}
