"""Keys that must never be written or shown, cut out of texts. Nothing else knows how a key may be spelled."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REDACTED = "[REDACTED]"
SHORTEST_SECRET = 8
"""Characters; anything shorter is no key, and would be found in ordinary text."""


def scrubber(secrets: Sequence[str]) -> Callable[[str], str]:
    """Return what replaces every secret in a text, also as JSON and URLs spell it."""
    long = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
    spelled = {form for secret in long for form in (secret, json.dumps(secret)[1:-1], quote(secret, safe=""))}
    if not spelled:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, sorted(spelled, key=len, reverse=True))))
    return lambda text: pattern.sub(REDACTED, text)
