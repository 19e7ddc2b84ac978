"""The forward pass: many samples at once → an Evaluation, from recorded replies or by asking.

Without ``Asking`` nothing here can reach the network, and no SDK is imported.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pytest_promptfit.cassettes.batches import UnderWay
from pytest_promptfit.cassettes.cassette import Cassette
from pytest_promptfit.cassettes.misses import Misses, ends_with_assistant
from pytest_promptfit.cassettes.where import elsewhere
from pytest_promptfit.chat.reply import ToolCall
from pytest_promptfit.errors import HookError, PromptfitError
from pytest_promptfit.evaluation.outcomes import RECORD_OPTION, Evaluation, Outcome, Unrecorded, majority
from pytest_promptfit.evaluation.served import served_by
from pytest_promptfit.prompts.model import Decision
from pytest_promptfit.providers import where_a_key_goes
from pytest_promptfit.providers.own import OURS
from pytest_promptfit.providers.replies import NoReplyError, is_reply
from pytest_promptfit.providers.usage import Usage
from pytest_promptfit.providers.wire import Wire
from pytest_promptfit.text import counted, scrubber

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_promptfit.cassettes.cassette import Asked
    from pytest_promptfit.cassettes.recorder import Recorder
    from pytest_promptfit.prompts.read import ParsedPrompt
    from pytest_promptfit.prompts.samples import Sample, SampleSet
    from pytest_promptfit.providers import Provider
    from pytest_promptfit.providers.asking import Answered
    from pytest_promptfit.providers.own import Custom
    from pytest_promptfit.providers.usage import Limits

RecordMode = Literal["missing", "all", "batch", "batch-cancel"]

IN_BATCHES = ("batch", "batch-cancel")
"""The ways in which nothing is asked by itself."""

RECORD_IN_BATCHES = f"{RECORD_OPTION}=batch"
WAITING = "in a batch that is under way: --promptfit-record=batch collects it"
NOT_ASKED = "not recorded, and --promptfit-record=batch-cancel asks for nothing"


@dataclass(frozen=True)
class Asking:
    """How the model may be asked: what for, how many at once, within which limits, and who is told."""

    limits: Limits
    mode: RecordMode = "missing"
    concurrency: int = 16
    progress: Callable[[int, int], None] = lambda _done, _total: None
    """Told how many of all replies have arrived, before the first one too."""
    on_wait: Callable[[str], None] = lambda _message: None

    @property
    def in_batches(self) -> bool:
        """Whether nothing is asked by itself."""
        return self.mode in IN_BATCHES

    def ask(
        self, questions: Sequence[Asked], provider: Provider, recorder: Recorder, *, first_alone: bool = True
    ) -> Answered:
        """Ask in this way; see ``ask_and_record``."""
        from pytest_promptfit.providers.asking import ask_and_record

        return ask_and_record(
            questions,
            provider,
            recorder,
            concurrency=self.concurrency,
            limits=self.limits,
            first_alone=first_alone,
            progress=self.progress,
            on_wait=self.on_wait,
        )


def is_ci() -> bool:
    """Tell whether a CI system runs this: there nothing is asked or written that nobody has allowed."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


@dataclass
class _Replies:
    """What was gathered: the bodies and errors by key, what was asked in this run, and what it cost."""

    cassette: Cassette
    keys: dict[str, tuple[str, ...]]
    """The keys of what each sample asks, one for each answer, by its case."""
    errors: dict[str, str] = field(default_factory=dict)
    no_reply: dict[str, str] = field(default_factory=dict)
    """Why what is recorded is no reply, by key: it counts as not recorded."""
    asked: set[str] = field(default_factory=set)
    waiting: dict[str, str] = field(default_factory=dict)
    """Why there may still come a reply, by key."""
    notes: list[str] = field(default_factory=list)
    usd: float | None = 0.0


def forward(
    parsed: ParsedPrompt,
    sample_set: SampleSet,
    samples: Sequence[Sample],
    cassettes: Path,
    *,
    asking: Asking | None = None,
    prune: bool = False,
    custom: Custom = OURS,
    beside: Path | None = None,
) -> Evaluation:
    """Run the prompt over ``samples`` (all or a selection of the set's) and return their outcomes in order.

    ``cassettes`` is the folder of this prompt's recordings; ``prune`` deletes those that a full run with
    a reply to every sample never asked for; ``custom`` is the user's own client and way to read labels; what
    lies ``beside`` is not asked for again, by default the replies of a model that was switched.
    Raises PromptfitError where nothing can be replayed or asked at all; what goes wrong with one sample is
    told in its outcome.
    """
    wire, beside = Wire.of(parsed, sample_set.labels, custom=custom), beside or others_of(parsed, cassettes)
    repeats = parsed.config.repeats
    if asking:
        replies = _ask(wire, samples, cassettes, beside, asking, repeats)
    else:
        replies = _replay(wire, samples, cassettes, beside, repeats)
    answered = _answered(wire, replies, samples)
    answers = [answer for one in answered for answer in one]
    outcomes = tuple(map(majority, answered))
    is_full = len(samples) == len(sample_set.samples)
    obsolete = replies.cassette.obsolete() if is_full else 0
    notes = [*_notes(wire, sample_set, replies), *_untold(parsed, wire, outcomes)]
    is_sent = any(answer.waits or (answer.reply is not None and not answer.replayed) for answer in answers)
    if asking and is_sent:
        notes += where_a_key_goes(wire.model)
    if prune and not is_full:
        notes.append(f"not pruned: only {len(samples)} of {len(sample_set.samples)} samples are selected")
    elif prune and obsolete:
        notes.append(_prune(cassettes, replies.cassette, outcomes, asking.on_wait if asking else None))
        obsolete = 0
    return Evaluation(
        name=parsed.name,
        path=str(parsed.path),
        model=str(wire.model),
        prompt_hash=parsed.config.prompt.content_hash,
        labels=sample_set.labels,
        outcomes=outcomes,
        usage=_usage(answers, replies.usd),
        obsolete=obsolete,
        notes=tuple(notes),
        unrecorded=None if asking else _unrecorded(wire, replies, samples),
        record_option=RECORD_IN_BATCHES if (asking and asking.in_batches) or replies.waiting else RECORD_OPTION,
        base_url=wire.model.base_url,
        instead_of=parsed.instead_of,
        slices=parsed.config.sliced_by,
        served=served_by(answer.reply for answer in answers if answer.reply is not None),
        repeats=repeats,
        decision=parsed.config.decision or Decision(),
    )


def replayed(
    parsed: ParsedPrompt,
    labels: Sequence[str],
    samples: Sequence[Sample],
    cassettes: Path,
    *,
    custom: Custom = OURS,
    beside: Path | None = None,
) -> tuple[Outcome, ...]:
    """Return the outcomes of those of ``samples`` to which all replies are recorded, there or ``beside``.

    Nothing is asked.
    """
    wire = Wire.of(parsed, labels, custom=custom)
    if not samples:
        return ()
    replies = _replay(wire, samples, cassettes, beside or others_of(parsed, cassettes), parsed.config.repeats)
    recorded = [s for s in samples if all(key in replies.cassette for key in replies.keys[s.case_name])]
    return tuple(map(majority, _answered(wire, replies, recorded)))


def others_of(parsed: ParsedPrompt, cassettes: Path) -> Path:
    """Return where else replies may be that are looked for in ``cassettes``: the model may have been switched since."""
    return elsewhere(cassettes, str(parsed.config.model), is_own=not parsed.other_model)


def _replay(wire: Wire, samples: Sequence[Sample], cassettes: Path, beside: Path, repeats: int) -> _Replies:
    keys = {sample.case_name: tuple(one.key for one in wire.questions(sample, repeats)) for sample in samples}
    replies = _Replies(Cassette.load(cassettes, beside), keys)
    if under_way := UnderWay.read(cassettes).batches:
        requests = counted(sum(batch.requests for batch in under_way), "request")
        replies.notes.append(f"{requests} in batches under way: pytest --promptfit {RECORD_IN_BATCHES} collects them")
    return replies


def _ask(
    wire: Wire, samples: Sequence[Sample], cassettes: Path, beside: Path, asking: Asking, repeats: int
) -> _Replies:
    """Ask for what is missing (or all), every reply being on disk as soon as it has arrived.

    What lies ``beside`` is taken over: nobody pays twice.
    """
    from pytest_promptfit.cassettes.recorder import Recorder

    replacing = asking.mode == "all"
    with Recorder.open(
        cassettes, wire.provider.secrets(), replace=replacing, on_wait=asking.on_wait, elsewhere=beside
    ) as recorder:
        replies = _Replies(recorder.cassette, {})
        wanted: dict[str, Asked] = {}
        for sample in samples:
            questions = wire.questions(sample, repeats)
            replies.keys[sample.case_name] = tuple(asked.key for asked in questions)
            for asked in questions:
                recorded = recorder.cassette.find(asked.key)
                # What no reply can be read from is asked again.
                if replacing or recorded is None or not is_reply(wire.provider, recorded.body):
                    wanted[asked.key] = asked
                elif not recorder.cassette.holds(asked.key):
                    recorder.keep(recorded)
        under_way = UnderWay.read(cassettes)
        if asking.in_batches:
            _ask_in_batches(wire, wanted, recorder, under_way, asking, replies)
            return replies
        if not replacing:
            # It is paid for, and would be paid for twice.
            replies.waiting = dict.fromkeys(under_way.keys & wanted.keys(), WAITING)
        left = [asked for key, asked in wanted.items() if key not in replies.waiting]
        if left:
            answered = asking.ask(left, wire.provider, recorder)
            replies.asked = {asked.key for asked in left}
            replies.errors = _told(wire, answered.errors)
            replies.usd = answered.usage.usd
    return replies


def _ask_in_batches(
    wire: Wire, wanted: Mapping[str, Asked], recorder: Recorder, under_way: UnderWay, asking: Asking, replies: _Replies
) -> None:
    """Collect what has come and submit what is missing, or cancel what is under way."""
    from pytest_promptfit.providers.batches import record_in_batches

    submits = asking.mode == "batch"
    found = record_in_batches(list(wanted.values()), wire.provider, recorder, under_way, asking.limits, submits=submits)
    replies.asked = found.collected
    replies.errors = _told(wire, {key: error for key, error in found.errors.items() if key in wanted})
    replies.usd = found.usage.usd
    scrub = scrubber(wire.provider.secrets())
    replies.notes += map(scrub, found.notes)
    open_keys = wanted.keys() - found.collected - found.errors.keys()
    replies.waiting = {key: WAITING if key in found.waiting else NOT_ASKED for key in open_keys}


def _told(wire: Wire, errors: Mapping[str, PromptfitError]) -> dict[str, str]:
    scrub = scrubber(wire.provider.secrets())  # a server may echo the key, in whatever form
    return {key: scrub(str(error)) for key, error in errors.items()}


def _answered(wire: Wire, replies: _Replies, samples: Sequence[Sample]) -> list[list[Outcome]]:
    """Return for each sample what each of its answers comes to."""
    misses = Misses(replies.cassette, wire.provider.url, wire.payload, wire.pool_file, shortlist=wire.lists_few)
    return [
        [_outcome(wire, replies, misses, sample, key) for key in replies.keys[sample.case_name]] for sample in samples
    ]


def _outcome(wire: Wire, replies: _Replies, misses: Misses, sample: Sample, key: str) -> Outcome:
    if key in replies.errors:
        return Outcome(sample, error=replies.errors[key])
    if key in replies.waiting:
        return Outcome(sample, error=replies.waiting[key], waits=True)
    recorded = replies.cassette.find(key)
    if recorded is None:
        return Outcome(sample, error=misses.explain(sample, replies.keys[sample.case_name]))
    try:
        reply, decided = wire.read(recorded.body, sample.text)
    except NoReplyError as error:
        replies.no_reply[key] = str(error)
        return Outcome(sample, error="no reply is recorded for this sample: what stands in its place is none")
    except PromptfitError as error:
        return Outcome(sample, error=str(error), asking_helps=not isinstance(error, HookError))
    why = wire.why_missing(reply, sample.text) if decided.best is None else None
    reply = replace(
        reply,
        text=_whole_characters(reply.text),
        thought=_whole_characters(reply.thought),
        calls=tuple(ToolCall(_whole_characters(call.name), _whole_characters(call.arguments)) for call in reply.calls),
    )
    asked = key in replies.asked
    return Outcome(
        sample,
        reply,
        decided.label,
        replayed=not asked,
        seconds=recorded.seconds,
        why_missing=why,
        decided=decided if decided.told else None,
    )


def _whole_characters(text: str) -> str:
    """Return text that can be written: JSON may spell half a surrogate pair, which no file and no worker takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unrecorded(wire: Wire, replies: _Replies, samples: Sequence[Sample]) -> Unrecorded | None:
    cassette, keyed = replies.cassette, ((one, key) for one in samples for key in replies.keys[one.case_name])
    payloads = [wire.payload(sample.text) for sample, key in keyed if key not in cassette or key in replies.no_reply]
    if not payloads:
        return None
    from pytest_promptfit.providers.usage import estimate

    obstacle = wire.provider.obstacle()
    is_everything = not (len(cassette) or cassette.asked_keys())
    return Unrecorded(estimate(wire.model, payloads), is_everything=is_everything, obstacle=obstacle)


def _prune(folder: Path, cassette: Cassette, outcomes: Sequence[Outcome], on_wait: Callable[[str], None] | None) -> str:
    """Delete the obsolete entries, unless a sample has no reply: a slip in the prompt makes all of them obsolete."""
    from pytest_promptfit.cassettes.recorder import prune

    unanswered = sum(outcome.reply is None for outcome in outcomes)
    if unanswered:
        return (
            f"{cassette.obsolete()} obsolete replies not pruned: {unanswered} samples have no reply, record them first"
        )
    return f"{prune(folder, cassette.asked_keys(), cassette, on_wait)} obsolete replies pruned"


def _usage(answers: Sequence[Outcome], usd: float | None) -> Usage:
    replies = [answer.reply for answer in answers if answer.reply is not None]
    return Usage(
        calls=len(replies),
        replayed=sum(answer.replayed for answer in answers),
        input_tokens=sum(reply.input_tokens for reply in replies),
        output_tokens=sum(reply.output_tokens for reply in replies),
        usd=usd,
    )


def _notes(wire: Wire, sample_set: SampleSet, replies: _Replies) -> Iterator[str]:
    yield from replies.notes
    yield from sample_set.warnings
    yield from replies.cassette.warnings
    if replies.no_reply:
        first = next(iter(replies.no_reply.values()))
        yield f"{len(replies.no_reply)} recordings hold no reply and count as not recorded; the first: {first}"
    if wire.unsent:
        yield f"{wire.model} is a decision model: not sent to it: {', '.join(wire.unsent)}"
    if wire.asks_for_prefix:
        yield from _prefix_notes(wire, replies)


def _untold(parsed: ParsedPrompt, wire: Wire, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the line that says where probabilities were asked for and not told."""
    read = [outcome for outcome in outcomes if outcome.best is not None]
    untold = sum(not outcome.told for outcome in read)
    if not (parsed.config.asks_for_probabilities and untold):
        return
    what = "probabilities" if wire.model.decides else "log-probabilities"
    who = f"{wire.model} {'was asked for' if wire.asks_for_logprobs else 'has no'} {what}"
    follows = ", which `decision` leaves as they are read" if parsed.config.decision else ""
    yield f"{who}: {untold} of {len(read)} labels come without a probability{follows}"


def _prefix_notes(wire: Wire, replies: _Replies) -> Iterator[str]:
    model = wire.model
    if model.reply_prefix is not None or model.base_url is None:
        yield f"{model} does not continue a reply prefix: the user turn asks for it instead"
        return
    recorded = next(iter(replies.cassette), None)
    if recorded is not None and ends_with_assistant(recorded.request_body):
        yield "the recordings were made with the reply prefix as a turn of its own: write reply_prefix: continue"
        return
    if len(replies.cassette) and not replies.asked:  # a replay of what was asked so cannot change it
        return
    yield (
        f"whether {urlsplit(model.base_url).netloc} continues a reply prefix is not known, so the user turn asks for "
        "it; where it does, write reply_prefix: continue under model (continue_final_message for vLLM and SGLang, "
        "prefix for Mistral and DeepSeek)"
    )
