"""The hooks that other plugins and ``conftest.py`` may implement. Specifications only: nothing heavy is imported.

An implementation that raises, or returns what nobody asked for, is told in one line that names its plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_promptfit.chat.reply import ChatReply
    from pytest_promptfit.evaluation.gates import Gate
    from pytest_promptfit.prompts.model import ModelSpec
    from pytest_promptfit.providers.own import Client


@pytest.hookspec(firstresult=True)
def pytest_promptfit_client(config: pytest.Config, model: ModelSpec, path: Path) -> Client | None:
    """Bring your own client, or your own model.

    Called when a model is about to be asked, for the optimizer's model too; a replayed run never calls it.
    It is called for each connection, at times from another thread: return a new client each time, which is
    closed when the questions are answered. What is recorded, and found again in a replay, is the request as
    the prompt file says it, whoever sent it.

    :param config: The pytest config object.
    :param model: The model that is asked: ``provider``, ``name``, ``base_url``, ``params``.
    :param path: The prompt file.
    :returns:
        One of these; ``None`` leaves the model to the next plugin, and to us in the end.

        * an ``httpx2.AsyncClient``: sends what our SDK asks, with its headers, auth, TLS and proxies. Retries
          and error messages stay ours;
        * an async client of the ``openai`` or ``anthropic`` SDK, such as ``AsyncAzureOpenAI``: asks with its
          own address, credentials and retry waits;
        * a function from the JSON body of a request (a ``dict``) to the words of the reply (a ``str``) or to
          the API's whole JSON (a ``dict``): it is the model. An ``async`` one is called many times at once, a
          plain one once at a time.
    :raises CallError:
        Out of such a function: there is no reply, and its text says why; ``fatal=True`` ends the run. Any
        other exception fails the case of its sample.

    .. code-block:: python

        def pytest_promptfit_client(model):
            if model.name == "mood-by-rule":
                return lambda body: "good" if "lovely" in body["messages"][-1]["content"] else "bad"
    """


@pytest.hookspec(firstresult=True)
def pytest_promptfit_extract(config: pytest.Config, reply: ChatReply, text: str, path: Path) -> str | None:
    """Read the label of a reply your way.

    Called for every reply that is judged, recorded or new.

    :param config: The pytest config object.
    :param reply: The reply: ``text``, ``thought`` (set aside), ``calls`` of tools, ``stop_reason``, token counts.
    :param text: The text of the sample that was classified.
    :param path: The prompt file.
    :returns:
        What the reply says: a label, its label word in any case, or words that the prompt file's ``extract``
        finds it in. Anything else, such as ``""``, counts as missing. ``None``: not mine, so the next plugin
        is asked, and the prompt file's own ``extract`` in the end.
    :raises Exception: Any exception fails the case of its sample.

    .. code-block:: python

        def pytest_promptfit_extract(reply):
            try:
                return json.loads(reply.text)["label"]
            except (ValueError, KeyError):
                return ""
    """


@pytest.hookspec()
def pytest_promptfit_gate(config: pytest.Config, path: Path) -> Gate | Sequence[Gate] | None:
    """Add gates to a prompt file: each becomes a case ``gate-<name>``, after the file's own gates.

    Called when the prompt file is collected. ``Gate.judge`` is called later, with the ``Evaluation`` and the
    ``Baseline`` (``None`` when there is none yet), and only where all labeled samples are selected and have a
    reply: otherwise the gate is skipped. It returns a ``GateResult``, whose ``passed`` is ``None`` where there
    is nothing to judge.

    :param config: The pytest config object.
    :param path: The prompt file.
    :returns: A gate, several of them, or ``None``. Their names have to be new.
    :raises Exception: Any exception is a collection error; one out of ``Gate.judge`` fails the gate.

    .. code-block:: python

        def pytest_promptfit_gate(path):
            return Gate("short", judge_length)

        def judge_length(evaluation, baseline):
            longest = max(len(outcome.reply.text) for outcome in evaluation.labeled)
            return GateResult("short", longest <= 200, f"longest reply {longest} characters, at most 200")
    """
