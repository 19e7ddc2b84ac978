"""What the user did, or met, that stops a run: every message is one line that says what, where and what to do.

No pytest here: the plugin turns these into usage errors, collection errors or failed cases.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONGEST_SAID = 200
"""Characters of an unexpected error's own words that its line shows."""


class PromptfitError(Exception):
    """A mistake the user can mend; its text is one line, ready to be shown without a traceback."""


class PromptFileError(PromptfitError):
    """A prompt file or its data file is wrong; the text starts with ``path:line:``."""


class NoSamplesError(PromptFileError):
    """A prompt file names no samples: there is nothing to test, and nothing wrong with it."""


class CassetteError(PromptfitError):
    """A cassette cannot be read or written."""


class CallError(PromptfitError):
    """A call to the model failed after the SDK's retries.

    ``fatal`` says that no other call of this run can do better (refused key, unknown model, no server),
    so the run stops asking. ``passing`` says that the same call may do better later (rate limit, time-out);
    ``too_many`` that it was one of too many at once. ``hopeless_after`` counts the questions that have to meet
    such an error, before any reply, for it to be nothing of theirs; 0 where it is always the question's own.
    """

    def __init__(
        self,
        message: str,
        *,
        fatal: bool = False,
        passing: bool = False,
        too_many: bool = False,
        hopeless_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.hopeless_after = hopeless_after
        self.fatal = fatal
        self.passing = passing or too_many
        self.too_many = too_many


class BudgetExceeded(PromptfitError):  # noqa: N818 - it is the name people look for
    """The next call could pass a limit of the run, so it is not made."""


class HookError(PromptfitError):
    """A function that a user or another plugin brought raised, or returned what nobody asked for."""


class UnexpectedError(PromptfitError):
    """What nobody foresaw, most likely in a stranger's file; its ``__cause__`` tells where it was raised."""


@contextmanager
def told_in_one_line(path: Path) -> Iterator[None]:
    """Turn whatever is raised while a prompt is worked on into one line that names its file.

    The files of one prompt must not end the run of all others: not by a number of 5,000 digits, nor by nesting,
    a name or a type that no code thought of. Our own faults are told this way too: ``--full-trace`` shows them.
    """
    try:
        yield
    except PromptfitError:
        raise
    except Exception as error:
        said = " ".join(str(error)[: 2 * LONGEST_SAID].split())[:LONGEST_SAID]
        raise UnexpectedError(
            f"{path}: cannot be used: {type(error).__name__}{': ' if said else ''}{said}: check its files; "
            "--full-trace shows where this was raised"
        ) from error
