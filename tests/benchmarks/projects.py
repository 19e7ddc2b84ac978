"""What the benchmarks run on: a prompt file with N samples, and as many YAML items that do nothing."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FLOOR_CONFTEST = """
import pytest, yaml

def pytest_collect_file(parent, file_path):
    if file_path.suffix == ".yaml":
        return DoNothingFile.from_parent(parent, path=file_path)

class DoNothingFile(pytest.File):
    def collect(self):
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        for name in yaml.load(self.path.read_text(), Loader=loader)["items"]:
            yield DoNothing.from_parent(self, name=name)

class DoNothing(pytest.Item):
    def runtest(self):
        pass

    def reportinfo(self):
        return self.path, None, self.name
"""

PROMPT = """
name: {name}
model: {{provider: openai, name: bench-model, base_url: "{url}"}}
params: {{temperature: 0, max_tokens: 20}}
prompt:
  system_prompt: {system_prompt}
  user_prompt_prefix: "<text>"
  user_prompt_suffix: "</text> End with Label: <label>even</label> or <label>odd</label>."
labels: [even, odd]
samples: {{file: {name}.csv, id: id}}
cases: gated
"""
SYSTEM_PROMPT = "Classify the text as even or odd."


def write_project(
    folder: Path, cases: int, url: str, *, name: str = "bench", system_prompt: str = SYSTEM_PROMPT, more: str = ""
) -> Path:
    """Write a prompt file with ``cases`` samples, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    path = folder / f"{name}.prompt.yaml"
    path.write_text(PROMPT.format(name=name, url=url, system_prompt=system_prompt) + more)
    write_samples(path, [text_of(number) for number in range(cases)])
    return path


def text_of(number: int) -> str:
    """Return the text of a sample: the number in it is even or odd as the sample's own is."""
    return f"Ticket {number}: is the number {number * 7919 % 100003 * 2 + number % 2} in this text even or odd?"


def write_samples(path: Path, texts: list[str]) -> None:
    """Write the samples of a prompt file."""
    rows = [f"{n:06d},{text},{'odd' if n % 2 else 'even'}" for n, text in enumerate(texts)]
    data = path.with_name(f"{path.name.removesuffix('.prompt.yaml')}.csv")
    data.write_text("\n".join(["id,text,label", *rows]) + "\n")


def write_floor(folder: Path, cases: int) -> None:
    """Write as many YAML items that do nothing."""
    folder.mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(textwrap.dedent(FLOOR_CONFTEST))
    (folder / "items.yaml").write_text("items:\n" + "".join(f"- sample-{n:06d}\n" for n in range(cases)))
