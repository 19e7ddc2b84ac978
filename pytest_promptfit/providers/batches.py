"""Recording in batches: collect what has come, submit what is missing, and leave; the next run does the same.

What is under way is noted before and after it is submitted, so a run that is killed at any moment submits nothing
twice. Each reply is recorded as one that was asked for alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_promptfit.errors import BudgetExceeded, CallError, PromptfitError
from pytest_promptfit.providers.asking import check_usd_can_be_limited, most_it_can_cost
from pytest_promptfit.providers.background import run_in_own_thread
from pytest_promptfit.providers.http import unsendable
from pytest_promptfit.providers.replies import NoReplyError, is_reply, parsed_body
from pytest_promptfit.providers.usage import Usage, cost_usd, estimate, reply_usd
from pytest_promptfit.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_promptfit.cassettes.batches import Batch, UnderWay
    from pytest_promptfit.cassettes.cassette import Asked
    from pytest_promptfit.cassettes.recorder import Recorder
    from pytest_promptfit.providers import Answer, BatchApi, Progress, Provider
    from pytest_promptfit.providers.usage import Limits

AGAIN = "run the same command later to collect"


@dataclass
class InBatches:
    """What came of a run: by key what was collected, what is waited for, and why there is no reply.

    ``notes`` say it in words, ``usage`` is what the collected replies took.
    """

    collected: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    errors: dict[str, PromptfitError] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)


def record_in_batches(
    questions: Sequence[Asked],
    provider: Provider,
    recorder: Recorder,
    under_way: UnderWay,
    limits: Limits,
    *,
    submits: bool = True,
) -> InBatches:
    """Collect the replies of batches that ended, then submit those of ``questions`` that are not under way.

    What failed in a batch is told, and submitted by the next run. Nothing is waited for. A reply is recorded when it
    was asked for, whoever asks now.

    Args:
        questions: what is not recorded.
        provider: whose batch API it is.
        recorder: where replies are kept.
        under_way: the notes of the same folder.
        limits: a request counts with the most that it can cost at half price: what is submitted cannot be stopped.
        submits: where not, what is under way is cancelled instead.

    Raises:
        PromptfitError: the provider has no batch API, or a limit in USD cannot hold; nothing was submitted.
        CassetteError: a reply or a note cannot be written; what is noted as under way is collected again.
    """
    if not (questions or under_way.batches):
        return InBatches()
    if submits and limits.usd is not None:
        check_usd_can_be_limited(questions, provider.spec, limits, cost_usd(provider.spec, 1, 1))
    run = _Run(questions, provider, recorder, under_way, limits, submits=submits)
    run_in_own_thread(run.main(), run.interrupt)
    return run.found


class _Run:
    """One run over the batches of a prompt; lives in an event loop of its own."""

    def __init__(
        self,
        questions: Sequence[Asked],
        provider: Provider,
        recorder: Recorder,
        under_way: UnderWay,
        limits: Limits,
        *,
        submits: bool,
    ) -> None:
        self.found = InBatches(usage=Usage(usd=None if cost_usd(provider.spec, 1, 1) is None else 0.0))
        self._questions = questions
        self._provider = provider
        self._recorder = recorder
        self._under_way = under_way
        self._limits = limits
        self._submits = submits
        self._is_ending = False
        self._seen: list[Progress] = []
        """How far each batch is that was submitted before."""

    async def main(self) -> None:
        """Collect, then submit."""
        async with self._provider.connect_batches() as api:
            for batch in self._under_way.batches:
                await self._settle(batch, api)
            self._tell_progress()
            if self._submits and not self._is_ending:
                await self._submit(api)

    def interrupt(self) -> None:
        """Submit no further batch; what is on its way comes to its end, or nobody would know what became of it."""
        self._is_ending = True

    async def _settle(self, batch: Batch, api: BatchApi) -> None:
        """Look at a batch, and collect what it holds once it has ended; an error is that of all it asks."""
        asked = self._under_way.asked(batch)
        try:
            if not batch.id:
                found = await api.find(batch, {one.id for one in self._under_way.batches})
                if not found:
                    about = f"{_requests(batch.requests)} were about to be submitted when a run was broken off"
                    self._note(f"{about}: the API has no batch of them")
                    self._under_way.end(batch)
                    return
                self._note(f"batch {found} is taken for the one that was being submitted when a run was broken off")
                batch = self._under_way.name(batch, found)
            progress = await api.look(batch.id)
            if progress is None:
                self._give_up(batch, asked)
                return
            await self._collect(batch, asked, progress, api)
        except CallError as error:
            self._fail(asked, error)

    def _fail(self, asked: dict[str, Asked], error: CallError) -> None:
        """Take note of why a whole batch has no replies; where nobody asks for them now, say it."""
        self.found.errors.update(dict.fromkeys(asked, error))
        if not any(question.key in asked for question in self._questions):
            self._note(str(error))

    def _give_up(self, batch: Batch, asked: dict[str, Asked]) -> None:
        """Forget a batch that the API does not know, where that is wanted: what it asked may be paid for."""
        if not self._submits:
            self._under_way.end(batch)
            self._note(f"batch {batch.id} is given up: the API does not know it")
            return
        why = "it was deleted, or made at another API or with the key of another account"
        end = "--promptfit-record=batch-cancel gives it up"
        self._fail(asked, CallError(f"{self._provider.spec}: the API does not know batch {batch.id}: {why}; {end}"))

    async def _collect(self, batch: Batch, asked: dict[str, Asked], progress: Progress, api: BatchApi) -> None:
        if progress.refusal:
            self._fail(asked, CallError(f"{self._provider.spec}: the batch was refused: {progress.refusal}"))
            self._under_way.end(batch)
            return
        self._seen.append(progress)
        if not progress.is_ended:
            self.found.waiting.update(asked)
            if not (self._submits or progress.is_ending):
                await api.cancel(batch.id)
                self._note(f"batch {batch.id} is cancelled: the same command later collects what it has answered")
            return
        left = dict(asked)
        async for question, answer in api.results(progress, asked):
            left.pop(question.key, None)
            self._keep(question, answer)
        self.found.errors.update(dict.fromkeys(left, api.left_over(progress.ended_by)))
        # What is forgotten could not be collected again.
        self._recorder.sync()
        self._under_way.end(batch)

    def _keep(self, question: Asked, answer: Answer) -> None:
        try:
            if isinstance(answer, CallError):
                raise answer
            reply = self._provider.reply(parsed_body(answer), "")
        except CallError as error:
            self.found.errors[question.key] = error
            return
        recorded = self._recorder.cassette.find(question.key)
        if recorded is not None and is_reply(self._provider, recorded.body):
            return  # a run was killed while it collected
        self._recorder.keep(question.answered(answer), replace=True)
        self.found.collected.add(question.key)
        usd = reply_usd(self._provider.spec, reply, in_batch=True)
        self.found.usage += Usage(1, 0, reply.input_tokens, reply.output_tokens, usd)

    def _tell_progress(self) -> None:
        strange = len(self.found.collected - {question.key for question in self._questions})
        if strange:
            self._note(
                f"{strange:,} of the replies are to texts that have changed, or are not selected; they are recorded too"
            )
        if any(not one.is_ended for one in self._seen):
            ended, done = sum(one.is_ended for one in self._seen), sum(one.done for one in self._seen)
            self._note(
                f"{ended} of {counted(len(self._seen), 'batch', 'batches')} done, {done:,} of "
                f"{_requests(sum(one.total for one in self._seen))}: {AGAIN} the rest"
            )

    async def _submit(self, api: BatchApi) -> None:
        known = self.found.collected | self.found.waiting | self.found.errors.keys()
        wanted = [one for one in self._questions if one.key not in known]
        submitted: list[Asked] = []
        batches = 0
        why: CallError | None = None
        for part in _parts(self._affordable(self._sendable(wanted)), api):
            why = CallError("interrupted") if self._is_ending else await self._submit_one(part, api)
            if why is not None:
                break
            batches += 1
            submitted += part
        if submitted:
            price = estimate(self._provider.spec, [one.payload for one in submitted], in_batch=True).price
            made = f"{_requests(len(submitted))} in {counted(batches, 'batch', 'batches')}"
            self._note(f"submitted {made}, {price}: {AGAIN} the replies")
        left = {one.key for one in wanted} - self.found.waiting - self.found.errors.keys()
        self.found.errors.update({key: CallError(f"not submitted: {why}") for key in left})

    async def _submit_one(self, part: list[Asked], api: BatchApi) -> CallError | None:
        """Submit one batch, and return why the next one must not follow."""
        batch = self._under_way.begin(part)
        try:
            self._under_way.name(batch, await api.submit(part, batch.mark))
        except CallError as error:
            is_unsure = isinstance(error, NoReplyError) or (error.passing and not error.too_many)
            if is_unsure:
                why = "whether the API has the batch is not known, and the same command finds out"
                error = CallError(f"{error}; {why}", fatal=error.fatal)
            else:
                self._under_way.end(batch)
            self.found.errors.update({one.key: error for one in part})
            return error
        self.found.waiting.update(one.key for one in part)
        return None

    def _sendable(self, questions: Sequence[Asked]) -> Iterator[Asked]:
        for question in questions:
            try:
                question.body.encode()
            except UnicodeEncodeError:
                self.found.errors[question.key] = unsendable(self._provider.spec)
            else:
                yield question

    def _affordable(self, questions: Iterator[Asked]) -> Iterator[Asked]:
        """Yield what stays within the limits, whatever it comes to."""
        for question in questions:
            limits = self._limits
            most = 0.0 if limits.usd is None else most_it_can_cost(self._provider.spec, question, in_batch=True)
            if limits.fit(most):
                limits.reserve(most)
                limits.settle(most, most, calls=1)
                yield question
            else:
                option = limits.calls_option if limits.is_out_of_calls else limits.usd_option
                self.found.errors[question.key] = BudgetExceeded(
                    f"not submitted: {option} could be passed, where each request counts with the most it can cost: "
                    "raise it, or run the same command again once the others are collected"
                )

    def _note(self, text: str) -> None:
        self.found.notes.append(text)


def _requests(count: int) -> str:
    return counted(count, "request")


def _parts(questions: Iterator[Asked], api: BatchApi) -> Iterator[list[Asked]]:
    """Yield questions in as few batches as the API's limits allow."""
    part: list[Asked] = []
    size = 0
    for question in questions:
        weight = len(json.dumps(api.line(question), ensure_ascii=False).encode()) + 1
        if part and (len(part) == api.most_requests or size + weight > api.most_bytes):
            yield part
            part, size = [], 0
        part.append(question)
        size += weight
    if part:
        yield part
