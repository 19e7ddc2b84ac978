"""The labels of a prompt, and the words that the model says for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MISSING: Final = "(missing)"
"""The name in a confusion table for "no label could be read", so no label may be called that."""


def words_of(labels: Sequence[str], label_words: Mapping[str, str]) -> dict[str, str]:
    """Return ``{label: the word the model says for it}``, in the order of ``labels``."""
    return {label: label_words.get(label, label) for label in labels}
