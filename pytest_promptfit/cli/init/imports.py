"""Files of other tools as samples: promptfoo's configuration and tests, OpenAI's evals and fine-tuning data.

Read only: a file in, the prompt and the samples it holds out. What cannot be said here is an error that names it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.prompts.github import filled, names_in, parts_of, value_at
from pytest_promptfit.prompts.tables import Row, read_rows
from pytest_promptfit.prompts.yaml_source import YamlSource, read_text
from pytest_promptfit.text import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

Turn = tuple[str, str]
"""The role and the text of a message."""

PROGRAMS = (".py", ".js", ".cjs", ".mjs", ".ts", ".sh")
PROMPTFOO_PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "google": "gemini"}
_EXPECTED = re.compile(r"__expected\d*")
_ASSERTION = re.compile(r"([a-z]+(?:-[a-z]+)*)(?:\([\d.]+\))?:\s*(.*)", re.DOTALL)
_NO_COMPARISON = re.compile(
    r"i?contains|regex|javascript|fn|eval|python|ruby|similar|grade|factuality|classifier|webhook|rouge|bleu|latency"
    r"|levenshtein|cost|perplexity|moderation|guardrails|pi|[a-z]+(?:-[a-z]+)+"
)
"""What may stand before the colon of an assertion; other words with one before a colon are the answer's own."""


@dataclass(frozen=True)
class Imported:
    """What another tool's file holds: rows with the columns of our own, and the prompt where there is one."""

    kind: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    system_prompt: str = ""
    user_prompt_prefix: str = ""
    user_prompt_suffix: str = ""
    model: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def has_prompt(self) -> bool:
        """Whether it says what the model is told."""
        return bool(self.system_prompt or self.user_prompt_prefix or self.user_prompt_suffix)


def imported(path: Path) -> Imported | None:
    """Return what the file of another tool holds, or ``None`` for data of nobody's form; raise PromptfitError."""
    ending = path.suffix.lower()
    if ending in (".yaml", ".yml", ".json"):
        source = YamlSource.read(path)
        is_promptfoo = isinstance(source.value, dict) and "prompts" in source.value
        return _Promptfoo(source).imported() if is_promptfoo else None
    if ending not in (".csv", ".jsonl"):
        return None
    columns, rows = read_rows(path)
    if ending == ".csv":
        if not any(map(_EXPECTED.fullmatch, columns)):
            return None
        # promptfoo's tests without their prompt: the variables stay columns, what is expected is the label.
        kept = [column for column in columns if not column.startswith("__") and column != "label"]
        labels = [_label(_assertions_of(row.cells), row.cells) for row in rows]
        found = tuple(
            Row({**{column: row.cells[column] for column in kept}, "label": label}, row.line)
            for row, label in zip(rows, labels, strict=True)
            if label is not None
        )
        remarks = _left_out(path, len(rows), len(found))
        return Imported("promptfoo's tests", (*kept, "label"), found, remarks=remarks)
    is_eval = {"input", "ideal"} <= {*columns}
    return _conversations(path, rows, is_eval) if is_eval or "messages" in columns else None


def _conversations(path: Path, rows: Sequence[Row], is_eval: bool) -> Imported:
    """Return chats as samples: what the system says to all of them is the prompt, the user's turn the text.

    In OpenAI's evals ``input`` is a text or a chat, and ``ideal`` an answer or a list of those that do; in its
    fine-tuning data the label is the last turn of the chat, which is the model's.
    """
    found, first = [], ("", 0)
    for row in rows:
        if is_eval:
            ideal, chat = _json(row.cells["ideal"]), _json(row.cells["input"])
            answers = ideal if isinstance(ideal, list) else [row.cells["ideal"]]
            if len(answers) != 1:
                raise _error(path, row.line, f"ideal: {short(ideal)}: expected one answer, the label")
            turns = _turns(path, row.line, chat) if isinstance(chat, list) else [("user", row.cells["input"])]
            label = str(answers[0])
        else:
            *turns, (role, label) = _turns(path, row.line, _json(row.cells["messages"])) or [("", "")]
            if role != "assistant":
                raise _error(path, row.line, "messages: expected the label as the last message, of the assistant")
        system = "\n\n".join(text for role, text in turns if role in ("system", "developer"))
        asked = [text for role, text in turns if role == "user"]
        if len(asked) != 1 or any(role == "assistant" for role, _ in turns):
            raise _error(path, row.line, "a chat of several turns: expected one message of the user, and the label")
        first = first if first[1] else (system, row.line)
        if system != first[0]:
            raise _error(path, row.line, f"another system message than in line {first[1]}: expected one for all")
        found.append(Row({"text": asked[0], "label": label.strip()}, row.line))
    kind = "OpenAI evals" if is_eval else "OpenAI fine-tuning data"
    return Imported(kind, ("text", "label"), tuple(found), system_prompt=first[0])


def _turns(path: Path, line: int, messages: object) -> list[Turn]:
    turns = []
    for message in messages if isinstance(messages, list) else [messages]:
        text = message.get("content") if isinstance(message, dict) else None
        if not isinstance(message, dict) or not isinstance(text, str):
            raise _error(path, line, f"{short(message)}: expected a message with role and content")
        turns.append((str(message.get("role")).lower(), text))
    return turns


def _left_out(path: Path, all_of: int, kept: int) -> tuple[str, ...]:
    if not kept:
        raise PromptfitError(f"{path}: no test compares with `equals`: expected that, because it says the label")
    fewer = f"{all_of - kept} of {all_of} tests compare otherwise than with `equals`, and are left out"
    return (fewer,) if kept < all_of else ()


def _assertions_of(cells: Mapping[str, Any]) -> list[Any]:
    return [value for name, value in cells.items() if _EXPECTED.fullmatch(str(name)) and str(value).strip()]


def _label(assertions: Iterable[Any], variables: Mapping[str, Any]) -> str | None:
    """Return what the reply must equal, where an assertion says that."""
    for assertion in assertions:
        if isinstance(assertion, dict):
            kind, value = assertion.get("type"), assertion.get("value")
        else:
            # In a table's cell: without a kind before a colon the reply must equal it.
            text = str(assertion).strip()
            parts = _ASSERTION.fullmatch(text)
            if parts and (parts[1] == "equals" or _NO_COMPARISON.fullmatch(parts[1])):
                kind, value = parts[1], parts[2]
            else:
                kind, value = "other" if text in ("is-json", "contains-json", "is-refusal") else "equals", text
        if kind == "equals" and not isinstance(value, dict | list | None):
            # YAML reads a bare true, and the model is to answer with that word.
            said = str(value).lower() if isinstance(value, bool) else str(value)
            return filled(said, lambda name: str(value_at(variables, name))).strip()
    return None


class _Promptfoo:
    """A ``promptfooconfig.yaml``: its first prompt, filled in with the variables of its tests."""

    def __init__(self, source: YamlSource) -> None:
        self._source, self._path = source, source.path
        self._value: dict[str, Any] = source.value

    def imported(self) -> Imported:
        prompts = self._value["prompts"] if isinstance(self._value["prompts"], list) else [self._value["prompts"]]
        if not prompts:
            raise self._error("prompts", "none: expected one")
        turns = self._prompt(prompts[0])
        tests = self._tests()
        used = [(variables, label, line) for variables, label, line in tests if label]
        remarks = _left_out(self._path, len(tests), len(used))
        if len(prompts) > 1:
            remarks = (*remarks, f"the first of {len(prompts)} prompts is imported")
        before, asked, after = parts_of(next((text for role, text in reversed(turns) if role == "user"), ""))
        if not asked:
            raise self._error("prompts", "expected the text as a variable such as {{text}} in what the user says")
        rows = tuple(
            Row({"text": filled(asked, partial(self._said, variables, line)), "label": label}, line)
            for variables, label, line in used
        )
        system = self._system(turns, [variables for variables, *_ in used])
        providers = self._value.get("providers") or self._value.get("targets") or []
        first = providers[0] if isinstance(providers, list) and providers else providers
        name = first.get("id") if isinstance(first, dict) else first
        kind, *model = name.split(":") if isinstance(name, str) else [""]
        # Only a model that we ask too is taken over.
        ours = f"{PROMPTFOO_PROVIDERS[kind]}/{model[-1]}" if model and kind in PROMPTFOO_PROVIDERS else None
        return Imported("promptfoo's configuration", ("text", "label"), rows, system, before, after, ours, remarks)

    def _system(self, turns: Sequence[Turn], rows: Sequence[Mapping[str, Any]]) -> str:
        """Return what the system says, with what all tests say alike."""
        if [role for role, _ in turns if role != "system"] != ["user"]:
            raise self._error("prompts", "a chat of several turns: expected one message of the user")
        text = "\n\n".join(text for role, text in turns if role == "system")
        for name in names_in(text):
            if len({str(value_at(values, name)) for values in rows}) > 1:
                raise self._error(
                    "prompts", f"{{{{{name}}}}} differs from test to test: expected it in the user's turn"
                )
        return filled(text, partial(self._said, rows[0], 1))

    def _said(self, variables: Mapping[str, Any], line: int, name: str) -> str:
        value = value_at(variables, name)
        if not isinstance(value, str | int | float):
            raise _error(self._path, line, f"vars: {name}: {short(value)}: expected text")
        return str(value)

    def _prompt(self, prompt: object) -> list[Turn]:
        if isinstance(prompt, dict):
            prompt = prompt.get("raw") or prompt.get("id") or prompt.get("file")
        if not isinstance(prompt, str):
            raise self._error("prompts", f"{short(prompt)}: expected text, or a file of text")
        text = prompt
        if prompt.startswith("file://") or re.fullmatch(r"[\w./-]+\.(txt|md|j2|json|ya?ml)", prompt):
            file = self._file(prompt)
            text = read_text(file)
            # A text file of promptfoo's holds several prompts, parted by ---: the first one counts.
            text = re.split(r"^---\s*$", text, maxsplit=1, flags=re.MULTILINE)[0] if file.suffix == ".txt" else text
            chat = YamlSource(file, text).value if file.suffix in (".yaml", ".yml") else _json(text)
        else:
            chat = _json(text)
        turns = _turns(self._path, 1, chat) if isinstance(chat, list) else [("user", text.strip("\n"))]
        for _, said in turns:
            other = re.search(r"\{%.*|\{\{.*", filled(said, lambda _: ""))
            if other:
                raise self._error("prompts", f"{short(other[0])}: expected variables alone, such as {{{{text}}}}")
        return turns

    def _tests(self) -> list[tuple[dict[str, Any], str | None, int]]:
        """Return the variables of each test, what its reply must equal where it says that, and its line."""
        listed = list(self._listed(self._value.get("tests") or []))
        default = self._value.get("defaultTest") or {}
        if isinstance(default, str):
            default = YamlSource.read(self._file(default)).value
        default = default if isinstance(default, dict) else {}
        found = []
        for test, line in listed:
            variables = {**_mapping(default, "vars"), **_mapping(test, "vars")}
            assertions = [*_list(test, "assert"), *_assertions_of(test), *_list(default, "assert")]
            found.append((variables, _label(assertions, variables), line))
        return found

    def _listed(self, tests: object) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield the tests, those of files too, each with its line."""
        for index, test in enumerate(tests if isinstance(tests, list) else [tests]):
            if isinstance(test, dict):
                yield test, self._source.line(("tests", index))
                continue
            if not isinstance(test, str):
                raise self._error("tests", f"{short(test)}: expected tests, or a file of them")
            file = self._file(test)
            if file.suffix.lower() in (".yaml", ".yml", ".json"):
                source = YamlSource.read(file)
                for each, line in zip(source.value or [], source.item_lines(), strict=True):
                    yield (each if isinstance(each, dict) else {}), line
                continue
            for row in read_rows(file)[1]:
                own = {name: cell for name, cell in row.cells.items() if name.startswith("__")}
                yield {"vars": {name: cell for name, cell in row.cells.items() if name not in own}, **own}, row.line

    def _file(self, said: str) -> Path:
        name = said.removeprefix("file://")
        if name.endswith(PROGRAMS) or "://" in name or "*" in name:
            raise self._error("prompts", f"{short(said)}: expected a file of text: no program is run")
        return self._path.parent / name

    def _error(self, key: str, message: str) -> PromptfitError:
        return _error(self._path, self._source.line((key,)), f"{key}: {message}")


def _mapping(test: Mapping[str, Any], key: str) -> dict[str, Any]:
    return found if isinstance(found := test.get(key), dict) else {}


def _list(test: Mapping[str, Any], key: str) -> list[Any]:
    return found if isinstance(found := test.get(key), list) else []


def _json(text: str) -> Any:
    """Return a list or a mapping that a text is in JSON; else ``None``."""
    try:
        return json.loads(text) if text.lstrip()[:1] in ("[", "{") else None
    except (ValueError, RecursionError):
        return None


def _error(path: Path, line: int, message: str) -> PromptfitError:
    return PromptfitError(f"{path}:{line}: {message}")
