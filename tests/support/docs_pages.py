"""The README and the docs, and the blocks of code in them."""

from __future__ import annotations

import re

from repository import ROOT

PAGES = {
    path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
"""The README and the pages that it leads to, by file name."""


def blocks(language: str, *pages: str) -> list[str]:
    """Return the code blocks of a language on some pages, or on all."""
    texts = [PAGES[page] for page in pages or PAGES]
    return [
        block for text in texts for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]
