"""Fuzzing what strangers may hand us: prompt files, data files, cassettes and model replies.

No test of the suite: it needs atheris (``pip install atheris``, Linux or macOS) and as long as it is given:

    python tests/fuzz/fuzz_inputs.py prompt -max_total_time=75
    python tests/fuzz/fuzz_inputs.py data -max_total_time=75
    python tests/fuzz/fuzz_inputs.py cassette -max_total_time=75
    python tests/fuzz/fuzz_inputs.py reply -max_total_time=75

It ends with how many inputs were tried. It stops at the first one that raises anything but a
PromptfitError, says more than its lines, takes ten seconds or two gigabytes, and writes that input to a file
``crash-…``; the same command with that file's name runs it alone. Each finding becomes a test in
``test_strange_input.py``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    from collections.abc import Callable

with atheris.instrument_imports(include=["pytest_promptfit", "yaml"]):
    from pytest_promptfit.cassettes.cassette import Cassette
    from pytest_promptfit.cassettes.misses import Misses
    from pytest_promptfit.errors import PromptfitError
    from pytest_promptfit.prompts.model import PromptConfig
    from pytest_promptfit.prompts.read import parse_prompt_file
    from pytest_promptfit.prompts.samples import Sample, read_samples
    from pytest_promptfit.providers.wire import Wire

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from strange_input import REPLIES, SEED_FILES, TOKENS

FOLDER = Path(tempfile.mkdtemp(prefix="promptfit-fuzz-"))
FORMATS = ("csv", "tsv", "jsonl", "json", "yaml")
LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-max_len=4096", "-print_final_stats=1", "-verbosity=0")
WIRES = [
    Wire(config, config.labels, FOLDER)
    for config in (
        PromptConfig.model_validate({"model": model, "prompt": {}, "labels": ["x", "y"]}) for model in REPLIES
    )
]


def fuzz_prompt(data: bytes) -> None:
    """Read a prompt file and its samples."""
    path = FOLDER / "p.prompt.yaml"
    path.write_bytes(data)
    _check(lambda: read_samples(parse_prompt_file(path)))


def fuzz_data(data: bytes) -> None:
    """Read a data file; the first byte says of which format."""
    name = f"d.{FORMATS[data[0] % len(FORMATS)] if data else 'csv'}"
    (FOLDER / name).write_bytes(data[1:])
    path = FOLDER / "p.prompt.yaml"
    path.write_text(f"model: openai/m\nprompt: {{}}\nsamples: {name}\n")
    _check(lambda: read_samples(parse_prompt_file(path)))


def fuzz_cassette(data: bytes) -> None:
    """Load a cassette and look something up in it."""
    folder = FOLDER / "cassette"
    folder.mkdir(exist_ok=True)
    (folder / "replies.yaml").write_bytes(data)

    def use() -> None:
        cassette = Cassette.load(folder)
        cassette.find("0")
        Misses(cassette, "http://x", lambda _: {"messages": []}).explain(Sample("s", "a", "x"))

    _check(use)


def fuzz_reply(data: bytes) -> None:
    """Read the body of a response as either protocol; and as what a model said about a sample that holds it."""
    text = data.decode(errors="replace")
    for wire in WIRES:
        _check(lambda wire=wire: wire.read(text, text), lines=1)
    said = {"choices": [{"message": {"content": text}}]}
    _check(lambda: WIRES[0].read(json.dumps(said), text[1:]), lines=1)


def _check(use: Callable[[], object], lines: int = 100) -> None:
    try:
        use()
    except PromptfitError as error:
        said = str(error).split("\n")
        if len(said) > lines or (lines > 1 and not all(line.startswith(str(FOLDER)) for line in said)):
            raise AssertionError(f"no line of its own: {said}") from error


def _seeds(kind: str) -> Path:
    """Write what the fuzzer starts from, and the words it may put in, and return the folder."""
    folder = FOLDER / "seeds"
    folder.mkdir()
    files = {
        "prompt": [SEED_FILES["prompt"]],
        "data": [bytes([at]) + SEED_FILES[form] for at, form in enumerate(FORMATS)],
        "cassette": [SEED_FILES["cassette"], SEED_FILES["other cassette"]],
        "reply": [json.dumps(reply).encode() for reply in REPLIES.values()],
    }
    for number, seed in enumerate(files[kind]):
        (folder / str(number)).write_bytes(seed)
    words = ["".join(f"\\x{byte:02x}" for byte in token) for token in TOKENS if len(token) <= 60]
    (FOLDER / "words").write_text("".join(f'"{word}"\n' for word in words))
    return folder


def main() -> None:
    """Fuzz the input that the first argument names; the rest are libFuzzer's."""
    targets = {"prompt": fuzz_prompt, "data": fuzz_data, "cassette": fuzz_cassette, "reply": fuzz_reply}
    if sys.argv[1:2] == [] or sys.argv[1] not in targets:
        sys.exit(__doc__)
    kind, *options = sys.argv[1:]
    seeds = (
        [] if any(Path(option).is_file() for option in options) else [str(_seeds(kind)), f"-dict={FOLDER / 'words'}"]
    )
    atheris.Setup([sys.argv[0], *LIMITS, *options, *seeds], targets[kind])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
