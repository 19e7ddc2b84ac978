"""The page for people (``--promptfit-report``): one HTML file that opens from disk and needs no network.

Values are made in ``prompts`` and ``tuning``, pictures in ``pictures``; how it looks is in the templates,
``page.css`` and ``page.js``. Here they become text, and the text a file.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pytest_promptfit.errors import PromptfitError
from pytest_promptfit.files import write_atomically
from pytest_promptfit.reports.page.pictures import accuracy_pictures
from pytest_promptfit.reports.page.prompts import block, prompt_view, worst_first
from pytest_promptfit.reports.page.sentences import cut, overall, percent, shortened, unpriced, visible
from pytest_promptfit.reports.page.tuning import Tuning, tuning_view

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_promptfit.evaluation.verdicts import PromptResult
    from pytest_promptfit.reports.change import Change
    from pytest_promptfit.reports.page.sentences import Price

FOLDER = Path(__file__).parent

# Our own style and script by their hashes, and nothing else; with trusted types no slip in page.js can make markup
# of a reply.
POLICY = (
    "default-src 'none'; style-src {style}; script-src {script}; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
)
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER),
    autoescape=True,
    # A name misspelt in a template must fail, not leave a hole in the page.
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {"visible": visible, "percent": percent, "shortened": shortened, "cut": cut}


def write(
    path: Path,
    results: Sequence[PromptResult],
    tuned: Sequence[Tuning],
    relative: Callable[[str], str],
    *,
    changes: Mapping[str, Change],
    price: Price,
) -> None:
    """Write the page whole or not at all; raise PromptfitError when it cannot be written.

    ``changes`` are those of the prompt files, by path; ``price`` says what a call costs.
    """
    write_page(path, page(results, tuned, relative, changes, price), "--promptfit-report")


def write_page(path: Path, text: str, option: str) -> None:
    """Write a page whole or not at all; raise PromptfitError, which names the ``option``, when it cannot be written."""
    try:
        write_atomically(path, text)
    except OSError as error:
        hint = "" if path.parent.is_dir() else f": create the folder {path.parent} first"
        raise PromptfitError(f"{option} {path}: cannot be written: {error.strerror or error}{hint}") from None


def page(
    results: Sequence[PromptResult],
    tuned: Sequence[Tuning] = (),
    relative: Callable[[str], str] = str,
    changes: Mapping[str, Change] = MappingProxyType({}),
    price: Price = unpriced,
) -> str:
    """Return the page; the same results give the same bytes."""
    renewed = {tuning.result.path for tuning in tuned if tuning.result.accepted}
    prompts = [
        prompt_view(
            result,
            number,
            relative,
            is_renewed=result.evaluation.path in renewed,
            changed=changes.get(result.evaluation.path),
            price=price,
        )
        for number, result in enumerate(results, 1)
    ]
    tunings = [tuning_view(tuning, number, results, relative) for number, tuning in enumerate(tuned, 1)]
    names = [view.name for view in prompts] or [tuning.path for tuning in tunings]
    return rendered(
        "page.html.jinja",
        title=names[0] if len(names) == 1 else f"{len(names)} prompts",
        prompts=prompts,
        overview=worst_first(prompts),
        minis=accuracy_pictures({view.number: view.standing for view in prompts if view.standing}),
        tunings=tunings,
        overall=overall([view.verdict for view in prompts], sum(view.fails for view in prompts)),
        cases=block((view.name, view.path, view.label_names, view.cases) for view in prompts),
    )


def rendered(template: str, **values: object) -> str:
    """Return a page made of one of the templates, in our style and under our policy."""
    style, script = _own("page.css"), _own("page.js")
    text = _ENVIRONMENT.get_template(template).render(
        version=version("pytest-promptfit"),
        policy=POLICY.format(style=_hash(style), script=_hash(script)),
        style=style,
        script=script,
        **values,
    )
    # Text is visible as it is; half a character in a tooltip or a name is no UTF-8.
    return text.encode("utf-8", "replace").decode()


def _own(name: str) -> Markup:
    """Return a file of this folder, which goes into the page as it is."""
    return Markup((FOLDER / name).read_text(encoding="utf-8"))  # noqa: S704 - written by us


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
