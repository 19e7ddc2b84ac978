"""The heavyweight model that proposes changes: messages to it, asking, and the JSON in its answers.

It is asked like any other, and recorded beside the task model's replies. Samples are data that strangers wrote: each
stands on one line as JSON, so that none can pose as an instruction.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from pytest_promptfit.cassettes.cassette import Asked
from pytest_promptfit.chat.reply import without_thought
from pytest_promptfit.chat.request import ChatRequest, Turn
from pytest_promptfit.errors import CallError, PromptfitError
from pytest_promptfit.providers.asking import ask_and_record
from pytest_promptfit.providers.own import OURS
from pytest_promptfit.providers.replies import is_reply, parsed_body
from pytest_promptfit.providers.usage import Usage, reply_usd
from pytest_promptfit.providers.wire import provider_of
from pytest_promptfit.tuning.meter import Rates, amounts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_promptfit.cassettes.cassette import Recorded
    from pytest_promptfit.cassettes.recorder import Recorder
    from pytest_promptfit.prompts.model import ModelSpec
    from pytest_promptfit.providers.asking import Answer
    from pytest_promptfit.providers.own import Custom
    from pytest_promptfit.tuning.meter import Meter


LOCAL_MAX_TOKENS = 600
"""A small local model may never come to an end of its own; a whole prompt of 200 words takes some 400 in JSON."""

LONGEST_MESSAGE: Final = 9000
"""Characters of a message: in English it fits with the answer into a context of 4,096 tokens."""

LONGEST_NOTE: Final = 200
"""Characters of a note, and of a text that is shown in short."""

MAX_FAILED: Final = 1000
"""Brackets of an answer that may open no JSON; so many are no answer, and each costs time."""

_UNSAFE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff`]|<(?=\\|)")


class Optimizer:
    """Asks the heavyweight model; a reply that cannot be had is an empty answer, told in ``problem``."""

    def __init__(
        self,
        spec: ModelSpec,
        params: Mapping[str, Any],
        folder: Path,
        recorder: Recorder,
        meter: Meter,
        *,
        on_call: Callable[[], None],
        on_wait: Callable[[str], None] = lambda _message: None,
        custom: Custom = OURS,
    ) -> None:
        self.problem = ""
        self.has_asked = False
        self._spec = spec
        self._provider = custom.provider(provider_of(spec, folder))
        self._params = {**spec.params, **params}
        if spec.provider == "local":
            self._params.setdefault("max_tokens", LOCAL_MAX_TOKENS)
            self._params.setdefault("temperature", 0)
        self._takes_schema = True
        self._rates = Rates(spec)
        self._recorder = recorder
        self._meter = meter
        self._on_call = on_call
        self._on_wait = on_wait

    def answer(self, system: str, user: str, *, schema: Mapping[str, Any] | None) -> str:
        """Return the model's answer; ``""`` when it failed.

        ``schema`` constrains it where the API can.
        Raises OutOfBudget before a limit is passed.
        """
        forms = [self._question(system, user, schema), self._question(system, user, None)]
        self._meter.check_optimizer(amounts_of([self._rates.foresee(forms[0].payload)]))
        self.problem = ""
        recorded = self._recorded(forms)
        was_recorded = recorded is not None
        if recorded is None:
            recorded = self._asked(forms if self._takes_schema else forms[1:])
        self._meter.optimizer += Usage(1)
        if recorded is None:
            return ""
        reply = self._provider.reply(parsed_body(recorded.body), "")
        seconds = recorded.seconds or 0.0
        self._rates.see(recorded.request_body, reply, seconds)
        usd = reply_usd(self._spec, reply)
        self._meter.optimizer += Usage(0, int(was_recorded), reply.input_tokens, reply.output_tokens, usd)
        self._meter.pay(0.0 if was_recorded else usd)
        self._meter.seconds += seconds
        return without_thought(reply, "").text

    def _question(self, system: str, user: str, schema: Mapping[str, Any] | None) -> Asked:
        params = dict(self._params)
        if schema is not None and self._spec.provider != "anthropic":
            form = {"name": "patches", "schema": schema}
            params["response_format"] = {"type": "json_schema", "json_schema": form}
        payload = self._provider.payload(ChatRequest(self._spec.name, system, (Turn("user", user),), "", params))
        return Asked.of(self._provider.url, payload, "optimizer")

    def _recorded(self, forms: Iterable[Asked]) -> Recorded | None:
        """Return the reply that is recorded to one of the forms of a question."""
        found = filter(None, (self._recorder.cassette.find(asked.key) for asked in forms))
        return next((recorded for recorded in found if is_reply(self._provider, recorded.body)), None)

    def _asked(self, forms: Sequence[Asked]) -> Recorded | None:
        """Ask; a server that refuses the form of the answer is asked for it in words alone."""
        refused = self._ask(forms[0])
        if refused and len(forms) > 1 and forms[1].key != forms[0].key:
            self.problem, self._takes_schema = "", False
            self._ask(forms[1])
        return self._recorded(forms)

    def _ask(self, question: Asked) -> bool:
        """Put a question, whose reply is then recorded; tell whether the API refused it as it is."""

        def on_answer(_: Asked, answer: Answer) -> None:
            if isinstance(answer, PromptfitError):
                self.problem = str(answer)
            if isinstance(answer, CallError) and answer.fatal:
                raise answer
            self.has_asked = True
            self._on_call()

        errors = ask_and_record(
            [question],
            self._provider,
            self._recorder,
            concurrency=1,
            first_alone=False,
            on_answer=on_answer,
            on_wait=self._on_wait,
        ).errors
        return any(isinstance(error, CallError) and not error.passing for error in errors.values())


def fitted(
    groups: Sequence[Sequence[str]],
    render: Callable[[list[list[str]]], str],
    *,
    length: int = LONGEST_MESSAGE,
    lines: int | None = None,
    spare_first: bool = False,
) -> str:
    """Return the text with at most so many characters, and lines in its groups; the longest group loses first.

    The first group may be spared as long as there is another.
    """
    kept = [list(group) for group in groups]
    most = sum(map(len, kept)) if lines is None else lines
    while any(kept) and (sum(map(len, kept)) > most or len(render(kept)) > length):
        spared = 1 if spare_first and any(kept[1:]) else 0
        max(kept[spared:], key=len).pop()
    return render(kept)


def joined(parts: Iterable[str]) -> str:
    """Return a message of those parts that are not empty."""
    return "\n\n".join(part for part in parts if part)


def sections(headings: Sequence[str], groups: Sequence[Sequence[str]]) -> list[str]:
    """Return each heading with its lines below it, but none without lines."""
    return ["\n".join([heading, *lines]) for heading, lines in zip(headings, groups, strict=True) if lines]


def cut(text: str, limit: int) -> str:
    """Return the beginning of a text, at most ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def cut_middle(text: str, limit: int) -> str:
    """Return the beginning and the end of a text, at most ``limit`` characters together."""
    half = (limit - 3) // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def one_line(value: object) -> str:
    """Return JSON on one line that no sample can end: nothing in it breaks a line, a code fence or a chat template."""
    dumped = json.dumps(value, ensure_ascii=False)
    return _UNSAFE.sub(lambda char: f"\\u{ord(char[0]):04x}", dumped)


def json_values(answer: str, wanted: Callable[[object], bool]) -> Iterator[Any]:
    """Yield the outermost JSON objects and lists of an answer that are wanted, whatever stands around them."""
    # Line breaks inside strings are what weak models write.
    decoder = json.JSONDecoder(strict=False)
    end = failed = 0
    for opening in re.finditer(r"[\[{]", answer):
        if opening.start() < end or failed > MAX_FAILED:
            continue
        try:
            value, after = decoder.raw_decode(answer, opening.start())
        except (ValueError, RecursionError):
            failed += 1
            continue
        if wanted(value):
            yield value
            end = after
