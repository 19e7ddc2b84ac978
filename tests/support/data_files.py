"""A data file as samples, or the line that a mistake in it is told in."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from pytest_promptfit.errors import PromptFileError
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import Sample, read_samples

if TYPE_CHECKING:
    from pathlib import Path


def read(folder: Path, name: str, data: str | bytes | None = None, **columns: str) -> tuple[Sample, ...]:
    if data is not None:
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    prompt = folder / "p.prompt.yaml"
    source = json.dumps({"file": name, **columns})
    prompt.write_text(f"model: openai/m\nprompt: {{}}\nsamples: {source}\n", encoding="utf-8")
    return read_samples(parse_prompt_file(prompt)).samples


def mistake(folder: Path, name: str, data: str | bytes | None = None, **columns: str) -> str:
    with pytest.raises(PromptFileError) as caught:
        read(folder, name, data, **columns)
    return str(caught.value).replace(f"{folder}{os.sep}", "")
