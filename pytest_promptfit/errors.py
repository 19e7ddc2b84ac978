"""What the user did, or met, that stops a run: every message is one line that says what, where and what to do.

No pytest here: the plugin turns these into usage errors, collection errors or failed cases.
"""

from __future__ import annotations


class PromptfitError(Exception):
    """A mistake the user can mend; its text is one line, ready to be shown without a traceback."""


class PromptFileError(PromptfitError):
    """A prompt file or its data file is wrong; the text starts with ``path:line:``."""


class CassetteError(PromptfitError):
    """A cassette cannot be read or written."""


class CallError(PromptfitError):
    """A call to the model failed after the SDK's retries.

    ``fatal`` says that no other call of this run can do better (refused key, unknown model, no server),
    so the run stops asking. ``passing`` says that the same call may do better later (rate limit, time-out);
    ``too_many`` that it was one of too many at once.
    """

    def __init__(self, message: str, *, fatal: bool = False, passing: bool = False, too_many: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal
        self.passing = passing or too_many
        self.too_many = too_many


class BudgetExceeded(PromptfitError):  # noqa: N818 - it is the name people look for
    """The next call could pass a limit of the run, so it is not made."""


class HookError(PromptfitError):
    """A function that a user or another plugin brought raised, or returned what nobody asked for."""
