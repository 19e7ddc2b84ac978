"""What a user brings of their own to one prompt: a client or model to ask, and a way to read labels.

Known neither to pytest nor to any HTTP client: a plugin's hooks and the arguments of ``load_prompt`` come down
to the same two functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_promptfit.errors import HookError, PromptfitError
from pytest_promptfit.providers.shared import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import httpx2
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

    from pytest_promptfit.chat import ChatReply
    from pytest_promptfit.label_reader import LabelReader
    from pytest_promptfit.model_spec import ModelSpec
    from pytest_promptfit.providers import Provider

    Said: TypeAlias = str | dict[str, Any]
    """A reply: its words, or the API's whole JSON."""

    ModelFunction: TypeAlias = Callable[[dict[str, Any]], Said | Awaitable[Said]]
    """A model: the JSON body of a request → the reply."""

    Client: TypeAlias = httpx2.AsyncClient | AsyncOpenAI | AsyncAnthropic | ModelFunction
    """Who asks the model, or is it."""

    MakeClient: TypeAlias = Callable[[ModelSpec], Client | None]
    """Returns a new client for a model; ``None`` for one that is asked as ever."""

    Extract: TypeAlias = Callable[[ChatReply, str], str | None]
    """Returns what a reply to a text says; ``None`` for one that is read as ever."""

    Blame: TypeAlias = Callable[[str, BaseException | None], str]
    """Returns how a message about ``client`` or ``extract`` starts: whose it is, and where it failed."""


def by_parameter(what: str, _error: BaseException | None) -> str:
    """Name a function by the parameter that it was given for."""
    return what


@dataclass(frozen=True)
class Custom:
    """A user's own client and way to read labels; what is ``None`` is ours."""

    client: MakeClient | None = None
    extract: Extract | None = None
    blame: Blame = by_parameter
    brings_client: Callable[[], bool] = lambda: True
    """Tells, once all is collected, whether anybody stands behind ``client``."""

    def provider(self, provider: Provider) -> Provider:
        """Return a provider that asks through the user's client."""
        if self.client is None or not self.brings_client():
            return provider
        from pytest_promptfit.own_client import OwnClientProvider

        return OwnClientProvider(provider, self.client, self.blame)

    def label(self, reply: ChatReply, text: str, reader: LabelReader, labels: Sequence[str]) -> str | None:
        """Return the label of the reply to ``text``; raise HookError when the user's function cannot tell."""
        said = self._said(reply, text)
        if said is None:
            return reader.read(reply.text, text, reply.calls)
        return said if said in labels else reader.read(said, "")

    def _said(self, reply: ChatReply, text: str) -> str | None:
        if self.extract is None:
            return None
        try:
            said: object = self.extract(reply, text)
        except PromptfitError:
            raise
        except Exception as error:
            raise HookError(f"{self.blame('extract', error)}: {described(error)}") from None
        if said is None or isinstance(said, str):
            return said
        wanted = "expected a str, or None to leave it to others"
        raise HookError(f"{self.blame('extract', None)}: {wanted}; found {shown(said)}")


OURS = Custom()
"""Nothing of the user's own."""


def described(error: BaseException) -> str:
    """Return an exception on one line."""
    text = one_line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shown(value: object) -> str:
    """Return a value that nobody asked for, with its type, on one line."""
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{one_line(repr(value), 80)} ({name})"
