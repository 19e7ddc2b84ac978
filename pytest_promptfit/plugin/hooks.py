"""Other plugins' hooks, called: what they return is checked, and what goes wrong names plugin and hook.

The specifications are in ``hookspecs``. Below this, the harness knows of hooks only as functions (``custom``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from pytest_promptfit.errors import HookError, PromptfitError
from pytest_promptfit.evaluation.gates import Gate, GateResult
from pytest_promptfit.prompts.model import Gates
from pytest_promptfit.providers.own import Custom
from pytest_promptfit.text import described, one_line, plain, relative_to, shown

if TYPE_CHECKING:
    from pathlib import Path

    import pluggy

    from pytest_promptfit.chat.reply import ChatReply
    from pytest_promptfit.evaluation.baseline import Baseline
    from pytest_promptfit.evaluation.outcomes import Evaluation
    from pytest_promptfit.prompts.model import ModelSpec
    from pytest_promptfit.providers.own import Client

RAISED = (Exception, pytest.fail.Exception, pytest.skip.Exception)
"""What an implementation may end with; ``pytest.exit`` and Ctrl-C are not its mistakes."""

GATE_NAME = re.compile(r"[\w.-]+")
"""What a name may be, so that ``path::gate-<name>`` selects it."""


def custom_of(session: pytest.Session, path: Path) -> Custom:
    """Return what the plugins that are active at a prompt file bring for it; nothing is called yet."""
    config = session.config

    @cache
    def caller(what: str) -> pluggy.HookCaller:
        # Not before it is used: only when all is collected, pytest knows every conftest.py that is not this path's.
        found: pluggy.HookCaller = getattr(session.gethookproxy(path), f"pytest_promptfit_{what}")
        return found

    def client(model: ModelSpec) -> Client | None:
        made: Client | None = _called(caller("client"), config, model=model, path=path)
        return made

    def extract(reply: ChatReply, text: str) -> str | None:
        said: str | None = _called(caller("extract"), config, reply=reply, text=text, path=path)
        return said

    def blame(what: str, error: BaseException | None) -> str:
        return _blame(caller(what), config, _files_of(error))

    return Custom(client, extract, blame, brings_client=lambda: bool(caller("client").get_hookimpls()))


def gates_of(hook: pluggy.HookRelay, config: pytest.Config, path: Path) -> tuple[Gate, ...]:
    """Return the gates that other plugins add to a prompt file; raise HookError when one is no gate."""
    caller = hook.pytest_promptfit_gate
    found: list[Gate] = []
    for returned in _called(caller, config, path=path):
        for gate in returned if isinstance(returned, list | tuple) else [returned]:
            wrong = _what_is_wrong(gate, [gate.name for gate in found])
            if wrong:
                raise HookError(f"{_blame(caller, config, _begin_of(getattr(gate, 'judge', None)))}: {wrong}")
            found.append(replace(gate, judge=_Judge(gate, caller, config)))
    return tuple(found)


def _what_is_wrong(gate: object, taken: list[str]) -> str:
    if not isinstance(gate, Gate):
        return f"expected a Gate, several in a list, or None; found {shown(gate)}"
    name: object = gate.name
    judge: object = gate.judge
    if not (isinstance(name, str) and GATE_NAME.fullmatch(name)):
        return f"a gate's name: expected letters, digits, '-', '_' and '.'; found {shown(gate.name)}"
    if gate.name in (*Gates.model_fields, *taken):
        return f"gate {gate.name!r}: there is one of this name already: expected another name"
    return "" if callable(judge) else f"gate {name!r}: judge: expected a function; found {shown(judge)}"


@dataclass(frozen=True)
class _Judge:
    """Judges a gate as its plugin does; raises HookError, with the plugin's name, when that cannot."""

    gate: Gate
    caller: pluggy.HookCaller
    config: pytest.Config

    def __call__(self, evaluation: Evaluation, baseline: Baseline | None) -> GateResult:
        lines = _begin_of(self.gate.judge)
        try:
            result: object = self.gate.judge(evaluation, baseline)
            if isinstance(result, GateResult):
                # numpy's booleans, say, and line breaks do not get further.
                return GateResult(
                    self.gate.name,
                    None if result.passed is None else bool(result.passed),
                    plain(str(result.detail)),
                    tuple(map(str, result.samples)),
                    plain(str(result.warning)),
                )
            wrong = f"expected a GateResult; found {shown(result)}"
        except RAISED as error:
            lines |= _files_of(error)
            wrong = described(error)
        raise HookError(f"{_blame(self.caller, self.config, lines)}: {wrong}")


def _called(caller: pluggy.HookCaller, config: pytest.Config, **arguments: object) -> Any:
    try:
        return caller(config=config, **arguments)
    except PromptfitError:
        raise
    except RAISED as error:
        told = f"{_blame(caller, config, _files_of(error))}: {described(error)}"
        if "reply" in arguments:
            told += f", for the reply {one_line(getattr(arguments['reply'], 'text', ''), 60)!r}"
        raise HookError(told) from None


def _blame(caller: pluggy.HookCaller, config: pytest.Config, lines: dict[str, int]) -> str:
    """Return plugin and hook, and the line where there is one: ``conftest.py:7: pytest_promptfit_gate``.

    ``lines`` are the files that took part, each with the last line that did. Where none of them is an
    implementation's, all plugins that have one are named: which of them it was, pluggy does not say.
    """
    impls = caller.get_hookimpls()
    guilty = ((impl.plugin_name, lines[file]) for impl in impls for file in _begin_of(impl.function) if lines.get(file))
    folder = config.invocation_params.dir
    for name, line in guilty:
        return f"{relative_to(name, folder)}:{line}: {caller.name}"
    names = dict.fromkeys(relative_to(impl.plugin_name, folder) for impl in impls)
    return f"{' or '.join(names)}: {caller.name}"


def _files_of(error: BaseException | None) -> dict[str, int]:
    """Return the files an exception came through, each with the last line of it."""
    lines: dict[str, int] = {}
    step = error.__traceback__ if error else None
    while step is not None:
        lines[step.tb_frame.f_code.co_filename] = step.tb_lineno
        step = step.tb_next
    return lines


def _begin_of(function: object) -> dict[str, int]:
    """Return the file and the first line of a function; nothing where it is none that was written in Python."""
    code = getattr(function, "__code__", None)
    return {code.co_filename: code.co_firstlineno} if code else {}
