"""Where a prompt's recordings are: one rule for pytest, ``evaluate``, ``tune`` and ``promptfit show``.

It starts from the prompt file, never from the folder in which somebody happens to be.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from pytest_promptfit.errors import PromptfitError

SETTING = "promptfit_cassettes"
USUAL = "cassettes"

MODELS = "models"
"""The folder among a prompt's recordings for those of models that are not its own.

Apart, because the harness reports a recording that its own run never asks for as obsolete, and deletes it when it is
told to prune.
"""

INI_FILES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
"""Where pytest looks for its settings, in its order."""


@dataclass(frozen=True, slots=True)
class Where:
    """Tells where recordings are; both fields are what the user said, and win over the rule.

    ``folder`` holds the recordings of all prompts, ``setting`` stands for that of the ini file.
    """

    folder: Path | None = None
    setting: str | None = None

    def of(self, prompt: Path, name: str, other_model: str = "") -> Path:
        """Return the folder that holds the recordings of a prompt file, which may not be there yet.

        ``other_model`` is asked instead of the file's own, ``""`` where none is; it has a folder of its own in there.

        Raises:
            PromptfitError: an ini file on the way up cannot be read.
        """
        folder = self._of_prompt(prompt, name)
        return folder / MODELS / _folder_name(other_model) if other_model else folder

    def _of_prompt(self, prompt: Path, name: str) -> Path:
        """Return the folder of the recordings of a prompt file under its own model.

        The root is the nearest folder above the prompt file with pytest settings, else that of the repository, else
        the prompt file's own; in it, the folder that the setting names. Where there is nothing, and an earlier
        version has left recordings in the folder of another root on the way up, it is that one.
        """
        if self.folder is not None:
            return self.folder / name
        folders = []
        for folder in Path(os.path.abspath(prompt)).parents:  # noqa: PTH100 - `..` goes, links stay
            folders.append(folder)
            if (folder / ".git").exists():
                break
        usual_root = folders[-1] if (folders[-1] / ".git").exists() else folders[0]
        root = next((folder for folder in folders if _setting_in(folder) is not None), usual_root)
        if self.setting is not None:
            return root / self.setting / name
        usual = root / (_setting_in(root) or USUAL) / name
        if usual.is_dir():
            return usual
        # Earlier versions took what pytest calls its rootdir.
        others = (folder / USUAL / name for folder in folders)
        return next((other for other in others if other.is_dir()), usual)


def elsewhere(folder: Path, model: str, *, is_own: bool) -> Path:
    """Return where else replies of a model may be that are looked for in ``folder``.

    Who switches the model of a prompt file has the new one's replies among those of other models, and the old one's
    among the file's own.
    """
    return folder / MODELS / _folder_name(model) if is_own else folder.parent.parent


def setting_of(ini: Path) -> str | None:
    """Return what an ini file says of the folder of recordings, ``""`` when nothing; ``None`` when it is not pytest's.

    Raises:
        PromptfitError: it cannot be read, or says something else than a path.
    """
    # pytest's own reading, which it does not export: what each file's form means changes with its versions.
    from _pytest.config.exceptions import UsageError
    from _pytest.config.findpaths import load_config_dict_from_file
    from _pytest.outcomes import Failed

    try:
        settings = load_config_dict_from_file(ini)
    except (UsageError, Failed, OSError, UnicodeError) as error:
        raise PromptfitError(f"{ini}: cannot be read: {str(error).splitlines()[0]}") from None
    if settings is None:
        return None
    value = settings[SETTING].value if SETTING in settings else ""
    if not isinstance(value, str):
        raise PromptfitError(f"{ini}: {SETTING}: expected a folder's path, found {value!r}")
    return value


def _folder_name(model: str) -> str:
    """Return a folder's name for a model: as it is said, with a hash where that could be another model's too."""
    shown = re.sub(r"[^\w.-]", "-", model.replace("/", "-", 1), flags=re.ASCII)[:80].rstrip(".")
    is_plain = shown == model.replace("/", "-", 1).lower()  # where capitals count for nothing, two names would be one
    return shown if is_plain else f"{shown}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def _setting_in(folder: Path) -> str | None:
    """Return what the pytest settings in a folder say; ``None`` when there are none."""
    said = (setting_of(folder / name) for name in INI_FILES if (folder / name).is_file())
    return next((setting for setting in said if setting is not None), None)
