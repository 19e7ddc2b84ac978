"""Many questions to one model at once, within limits, in an event loop and thread of their own.

What is asked and how it is sent is the provider's; what becomes of the answers is the caller's.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from pytest_promptfit.cassettes.cassette import ASKED
from pytest_promptfit.errors import BudgetExceeded, CallError, PromptfitError
from pytest_promptfit.providers import unwrapped
from pytest_promptfit.providers.background import run_in_own_thread
from pytest_promptfit.providers.replies import NoReplyError, is_reply, reply_limit
from pytest_promptfit.providers.usage import TRIES, Limits, Tries, Usage, cost_usd, most_usd, reply_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_promptfit.cassettes.cassette import Asked
    from pytest_promptfit.cassettes.recorder import Recorder
    from pytest_promptfit.prompts.model import ModelSpec
    from pytest_promptfit.providers import Provider, Send, Wrap

    Answer = dict[str, Any] | CallError | BudgetExceeded
    """The reply's JSON, or why there is none."""

FIRST_RETRIES = 2
"""The first question goes alone and shows soon whether any can be answered."""

RETRIES = 6
"""A model that answers can be waited for: with the SDKs' waits about half a minute, or what it asks for."""

DEFAULT_MAX_OUTPUT = 4096
"""Tokens that a reply is assumed to take at most, where the parameters set no limit and none in USD has to hold."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of questions beside the replies that are recorded: why there is none, by key, and what was used."""

    errors: dict[str, PromptfitError]
    usage: Usage


def ask_and_record(
    questions: Sequence[Asked],
    provider: Provider,
    recorder: Recorder,
    *,
    concurrency: int = 16,
    limits: Limits | None = None,
    first_alone: bool = True,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    on_answer: Callable[[Asked, Answer], None] = lambda _asked, _answer: None,
    on_wait: Callable[[str], None] = lambda _message: None,
) -> Answered:
    """Ask all questions as ``ask`` does; each reply, if it is one, is in ``recorder`` when ``on_answer`` is told.

    ``progress`` is told how many of all are answered, before the first one too. Raises as ``ask`` does, and a fatal
    CallError before anything is sent where the model cannot be asked.
    """
    from pytest_promptfit.cassettes.transport import RecordingTransport

    provider.check()
    errors: dict[str, PromptfitError] = {}
    done = count(1)
    progress(0, len(questions))

    def note(index: int, answer: Answer) -> None:
        if isinstance(answer, PromptfitError):
            errors[questions[index].key] = answer
        on_answer(questions[index], answer)
        progress(next(done), len(questions))

    usage = ask(
        questions,
        provider,
        provider.spec,
        wrap=lambda inner: RecordingTransport(inner, recorder, keep=partial(is_reply, provider)),
        concurrency=concurrency,
        limits=limits,
        first_alone=first_alone,
        on_answer=note,
        on_wait=on_wait,
    )
    return Answered(errors, usage)


def ask(
    questions: Sequence[Asked],
    provider: Provider,
    spec: ModelSpec,
    *,
    wrap: Wrap = unwrapped,
    concurrency: int = 16,
    limits: Limits | None = None,
    first_alone: bool = True,
    on_answer: Callable[[int, Answer], None],
    on_wait: Callable[[str], None] = lambda _message: None,
) -> Usage:
    """Ask all questions, at most ``concurrency`` at a time and what the provider works on, and return what it took.

    The first one goes alone, unless the model is known to answer. An error that no other question can
    escape (refused key, no server) ends the run: the rest is answered with it. So does a limit, before it is passed:
    each try that may be paid for counts, one whose reply was cut off too.

    A question that the rate limit turns away, after all of the SDK's retries, is asked again as long as others
    are answered meanwhile, so it is lost only where nothing gets through any more.

    Args:
        questions: any number; only those in flight take memory beyond their own.
        provider: how they are sent.
        spec: the model, for its price.
        wrap: put around the transport that sends, to record what passes.
        concurrency: calls in flight at once.
        limits: shared with the other calls of this run; default: none.
        first_alone: whether to wait for the first answer before the others are asked.
        on_answer: called in the asking thread, once for every question, as ``(index, answer)`` when it is
            answered. What it raises ends the run, once what is in flight has arrived.
        on_wait: told, after Ctrl-C, what is still waited for.

    Raises:
        PromptfitError: a limit in USD is set, and the price of the model or the length of its replies has no bound.
        Exception: whatever ``on_answer`` or the transport of ``wrap`` raised.
        KeyboardInterrupt: once what was in flight has arrived, or at the second one is cancelled; answers that had
            arrived are with the caller.
    """
    limits = limits or Limits()
    if not questions:
        return Usage()
    price = cost_usd(spec, 1, 1)
    if limits.usd is not None:
        check_usd_can_be_limited(questions, spec, limits, price)
    asking = _Asking(questions, provider, spec, limits, on_answer, on_wait)
    asking.usage = Usage(usd=None if price is None else 0.0)
    at_once = max(1, min(concurrency, provider.at_once or concurrency))
    run_in_own_thread(asking.run(wrap, at_once, first_alone=first_alone), asking.interrupt)
    return asking.usage


def check_usd_can_be_limited(questions: Sequence[Asked], spec: ModelSpec, limits: Limits, price: float | None) -> None:
    """Raise PromptfitError where nobody can tell, before it is made, what a call may cost at most."""
    if price is None:
        raise PromptfitError(f"{spec}: its price is not known: limit the calls, with {limits.calls_option}, not USD")
    if price and any(reply_limit(question.payload) is None for question in questions):
        raise PromptfitError(
            f"{spec}: {limits.usd_option} cannot hold while a reply may be of any length: set max_tokens, "
            f"or max_completion_tokens, in params, or limit the calls, with {limits.calls_option}"
        )


def most_it_can_cost(spec: ModelSpec, question: Asked, *, in_batch: bool = False) -> float:
    """Return the most that a question can cost in USD; 0 where nobody knows."""
    payload = question.payload
    # No token is shorter than a byte, and JSON outweighs the template that the server puts around the messages.
    given = len(json.dumps(payload, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"))
    limit, choices = reply_limit(payload), payload.get("n")
    written = DEFAULT_MAX_OUTPUT if limit is None else limit
    written = written * choices if isinstance(choices, int) and choices > 0 else written
    return most_usd(spec, given, written, in_batch=in_batch)


class _Call(Tries):
    """One question on its way: each of its tries has a place within the limits before it is sent."""

    def __init__(self, asking: _Asking, most: float) -> None:
        self.most = most
        self.is_reserved = self.is_sent = False
        self._asking = asking

    async def begin(self) -> None:
        """Wait for a place within the limits; raise what stops the run where there is none."""
        if not self.is_reserved:
            await self._asking.reserve(self.most)
            self.is_reserved = True
        self.is_sent = True

    def end(self) -> None:
        """Take note that nothing is waited for but the next try."""
        self.is_sent = False

    def lose(self) -> None:
        """Count the try as one that was paid for."""
        self.settle(self.most, calls=1)

    def settle(self, usd: float, *, calls: int) -> None:
        """Put what the last try did cost in its place."""
        if self.is_reserved:
            self._asking.settle(self.most, usd, calls)
        self.is_reserved = False


class _Asking:
    """One run over the questions; lives in the asking thread's event loop."""

    def __init__(
        self,
        questions: Sequence[Asked],
        provider: Provider,
        spec: ModelSpec,
        limits: Limits,
        on_answer: Callable[[int, Answer], None],
        on_wait: Callable[[str], None],
    ) -> None:
        self.usage = Usage()
        self._questions = questions
        self._provider = provider
        self._spec = spec
        self._limits = limits
        self._on_answer = on_answer
        self._on_wait = on_wait
        self._in_flight = 0
        self._settled = asyncio.Event()
        self._stopped: CallError | BudgetExceeded | None = None
        self._is_ending = False
        self._raised: Exception | None = None
        self._refused: set[int] = set()
        self._calls: dict[asyncio.Task[Any] | None, _Call] = {}

    async def run(self, wrap: Wrap, concurrency: int, *, first_alone: bool) -> None:
        """Ask the first question alone, if wanted, and then all others."""
        answered = first_alone and await self._is_first_answered(wrap)
        # Not answered is 0: then the first question is asked again with the others.
        left = iter(range(answered, len(self._questions)))
        if self._is_ending:
            return
        if self._stopped is not None:
            self._give_up(left)
            return
        workers = min(concurrency, len(self._questions) - answered)
        if not workers:
            return
        async with self._provider.connect(wrap=wrap, max_retries=RETRIES) as send, asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work(left, send))
        if self._raised is not None:
            raise self._raised

    async def _is_first_answered(self, wrap: Wrap) -> bool:
        """Ask the first question; an error that the others may not meet is not yet its answer."""
        first: Answer
        try:
            async with self._provider.connect(wrap=wrap, max_retries=FIRST_RETRIES) as send:
                first = await self._answer(self._questions[0], send)
        except CallError as error:  # there is nothing to connect with: no key, no file, no package
            self._stop_for(error)
            first = error
        if isinstance(first, CallError) and self._stopped is None:
            return False
        self._on_answer(0, first)
        return True

    async def _work(self, left: Iterator[int], send: Send) -> None:
        """Ask one question after the other; an error ends the run for all, but only once what was sent has arrived."""
        try:
            for index in left:
                if self._is_ending:
                    return
                if self._stopped is not None:
                    self._give_up(chain([index], left))
                    return
                self._on_answer(index, await self._patient_answer(self._questions[index], send))
        except Exception as error:
            # Not raised here: the group would cancel the others, whose replies are paid for.
            self._raised = self._raised or error
            self._end()

    def interrupt(self) -> None:
        """Send nothing more, and say what is waited for: it is paid for."""
        self._end()
        waited_for = len(self._calls)
        if waited_for:
            self._on_wait(
                f"Ctrl-C: waiting for {waited_for} replies that are on their way, they are paid for; "
                "Ctrl-C again stops at once"
            )

    def _end(self) -> None:
        """Let the calls that were sent come to their end, and no other begin."""
        self._is_ending = True
        for task, call in list(self._calls.items()):
            if task is not None and not call.is_sent and task is not asyncio.current_task():
                del self._calls[task]
                task.cancel()

    async def _patient_answer(self, question: Asked, send: Send) -> Answer:
        """Ask again what the rate limit turned away in spite of the retries, as long as others get through."""
        while True:
            answered = self.usage.calls
            answer = await self._answer(question, send)
            turned_away = isinstance(answer, CallError) and answer.too_many
            if not turned_away or self.usage.calls == answered or self._stopped is not None:
                return answer

    def _give_up(self, left: Iterator[int]) -> None:
        for index in left:
            assert self._stopped is not None
            self._on_answer(index, self._stopped)

    async def _answer(self, question: Asked, send: Send) -> Answer:
        most = 0.0 if self._limits.usd is None else most_it_can_cost(self._spec, question)
        call = _Call(self, most)
        task = asyncio.current_task()
        self._calls[task] = call
        TRIES.set(call)
        calls, usd = 0, 0.0
        try:
            await call.begin()
            ASKED.set(question)  # seen by the transport that records
            body = await send(question.payload)
            calls, usd = 1, call.most
            reply = self._provider.reply(body, "")
            usd = reply_usd(self._spec, reply) or 0.0
            self.usage += Usage(1, 0, reply.input_tokens, reply.output_tokens, usd)
            return body
        except BudgetExceeded as error:
            self._stopped = error
            return error
        except NoReplyError as error:
            calls, usd = 1, call.most  # nobody can tell whether it was paid for
            return error
        except CallError as error:
            self._note(question, error)
            return error
        finally:
            self._calls.pop(task, None)
            call.settle(usd, calls=calls)

    def _note(self, question: Asked, error: CallError) -> None:
        """Stop the run for an error that every other question would meet."""
        if error.fatal:
            self._stop_for(error)
        elif error.hopeless_after and not self.usage.calls:
            # By its id: a question that is asked again counts once.
            self._refused.add(id(question))
            if len(self._refused) >= error.hopeless_after:
                many = len(self._refused) > 1
                self._stop_for(error, f"the first {len(self._refused)} questions were all refused: " if many else "")

    async def reserve(self, most: float) -> None:
        """Wait until a try fits into the limits; raise what stops the run when it never will."""
        if self._is_ending:
            raise CallError(f"{self._spec}: not asked again: the run has ended")
        while not self._limits.fit(most):
            # What is on its way may cost less than it could, and make room.
            if not self._in_flight:
                raise self._limits.exceeded()
            await self._settled.wait()
            if self._stopped is not None:
                raise self._stopped
        self._limits.reserve(most)
        self._in_flight += 1

    def settle(self, most: float, usd: float, calls: int) -> None:
        """Put what a try did cost in the place of the most that it could, and let the next one begin."""
        self._limits.settle(most, usd, calls=calls)
        self._in_flight -= 1
        self._settled.set()
        # A new one for those who wait from now on: the old one stays set.
        self._settled = asyncio.Event()

    def _stop_for(self, error: CallError, why: str = "") -> None:
        self._stopped = self._stopped or CallError(f"not asked: {why}{error}", fatal=True)
