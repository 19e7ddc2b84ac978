"""``promptfit show PROMPT``: exactly what is sent for a sample, its tokens, and the price of a full run.

Reads recordings, asks nothing.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.cassettes.where import Where
from pytest_promptfit.chat.request import messages_of, params_of
from pytest_promptfit.errors import CallError, PromptfitError
from pytest_promptfit.evaluation.forward import others_of
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.prompts.samples import read_samples
from pytest_promptfit.providers.usage import BYTES_PER_TOKEN, estimate
from pytest_promptfit.providers.wire import Wire, refuse_keys
from pytest_promptfit.text import nearest, percent, plain, relative_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_promptfit.chat.decision import Decided
    from pytest_promptfit.chat.reply import ChatReply
    from pytest_promptfit.prompts.samples import Sample, SampleSet


def show(
    prompt: str, sample: str | None = None, *, as_json: bool = False, cassettes: Path | None = None
) -> Iterator[str]:
    """Yield what is sent for a sample, line by line; raise PromptfitError when there is no such file or sample.

    ``prompt`` is a prompt file, or ``path::case`` as pytest writes it; ``sample`` an id or a case name.
    """
    path, _, case = prompt.partition("::")
    parsed = parse_prompt_file(Path(path))
    sample_set = read_samples(parsed)
    refuse_keys(parsed, sample_set.labels, sample_set.samples)
    chosen = _sample(sample_set, sample or case, path)
    wire = Wire.of(parsed, sample_set.labels)
    payload = wire.payload(chosen.text)
    if as_json:
        yield json.dumps(payload, indent=2)
        return
    folder, repeats = Where(cassettes).of(parsed.path, parsed.name), parsed.config.repeats
    seen = list(_recorded(wire, Cassette.load(folder, others_of(parsed, folder)), sample_set, repeats))
    own = next((entry for entry in seen if entry.sample == chosen), None)
    here = Path.cwd()
    place = f"{relative_to(os.path.normpath(chosen.path), here)}:{chosen.line}"
    yield f"{plain(relative_to(str(parsed.path), here))}::{plain(chosen.case_name)} ({plain(place)})"
    yield f"label {plain(chosen.label)}; {plain(str(wire.model))} at {plain(wire.provider.url)}"
    if wire.unsent:
        yield f"{plain(str(wire.model))} is a decision model: not sent to it: {', '.join(wire.unsent)}"
    if wire.asks_for_prefix:
        yield f"{plain(str(wire.model))} does not continue a reply prefix: the user turn asks for it instead"
    for head, lines in _turns(payload, own):
        yield ""
        yield head
        yield from (f"  {line}" for line in lines)
    yield ""
    yield from _figures(wire, payload, own, sample_set, seen, repeats)


@dataclass(frozen=True)
class _Recorded:
    """A recorded reply to a sample, with the body that was sent."""

    sample: Sample
    payload: dict[str, Any]
    reply: ChatReply
    decided: Decided


def _sample(sample_set: SampleSet, wanted: str, path: str) -> Sample:
    """Return the sample with this id or case name; the first one when none is named."""
    if not wanted:
        return sample_set.samples[0]
    # Reversed, so that of two samples with one name the first is found.
    names = {name: sample for sample in reversed(sample_set.samples) for name in (sample.id, sample.case_name)}
    if wanted in names:
        return names[wanted]
    hint = nearest(wanted, [sample.id for sample in sample_set.samples])
    raise PromptfitError(f"{path}: no sample {plain(wanted)}{hint}")


def _recorded(wire: Wire, cassette: Cassette, sample_set: SampleSet, repeats: int) -> Iterator[_Recorded]:
    for sample, asked in ((one, asked) for one in sample_set.samples for asked in wire.questions(one, repeats)):
        recorded = cassette.find(asked.key)
        if recorded is None:
            continue
        try:
            yield _Recorded(sample, asked.payload, *wire.read(recorded.body, sample.text))
        except CallError:  # a recording without a reply, which a run tells of
            continue


def _turns(payload: dict[str, Any], own: _Recorded | None) -> Iterator[tuple[str, list[str]]]:
    """Yield the messages, the parameters and the recorded reply: the line above each, and its text as lines."""
    messages = messages_of(payload)
    for at, (role, text) in enumerate(messages, 1):
        opens = role == "assistant" and at == len(messages)
        yield (
            f"[{plain(role)}]{' the reply goes on from here' if opens else ''}",
            plain(text, keep_lines=True).split("\n"),
        )
    if params := params_of(payload):
        yield f"[parameters] {plain(json.dumps(params, ensure_ascii=False))}", []
    if own is not None:
        yield f"[recorded reply] {_said_of(own.decided)}", plain(own.reply.shown, keep_lines=True).split("\n")


def _said_of(decided: Decided) -> str:
    """Return what is read from a reply, and how sure that is."""
    read = f"read as {plain(decided.best)}" if decided.best is not None else "read as no label"
    sure = f", {percent(decided.confidence)} sure" if decided.confidence is not None else ""
    return f"{read}{sure}{': held back' if decided.abstained else ''}"


def _figures(
    wire: Wire,
    payload: dict[str, Any],
    own: _Recorded | None,
    sample_set: SampleSet,
    seen: list[_Recorded],
    repeats: int,
) -> Iterator[str]:
    if own is not None and own.reply.input_tokens:
        counted = f"{own.reply.input_tokens} in, {own.reply.output_tokens} out"
        yield f"tokens:   {counted} (as the recorded reply counts them)"
    else:
        guess = estimate(wire.model, [payload])
        yield (
            f"tokens:   about {guess.input_tokens} in, {guess.output_tokens} out "
            f"(an estimate, {BYTES_PER_TOKEN} bytes a token: no reply to it is recorded)"
        )
    measured = [(entry.payload, entry.reply) for entry in seen]
    payloads = [wire.payload(sample.text) for sample in sample_set.samples]
    full = estimate(wire.model, payloads * repeats, measured)
    basis = f"from {full.measured_on:,} recorded replies" if full.measured_on else "an estimate"
    yield (
        f"full run: {full.calls:,} calls, about {full.input_tokens:,} tokens in, {full.output_tokens:,} out "
        f"({basis}): {full.price}; {len(seen):,} of them are recorded"
    )
