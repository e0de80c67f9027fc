"""The plain engine: continuous batching with nothing clever in it. The oracle of faster ones.

A joining job's prompt is read alone, its first token chosen, and its keys and values merged into the batch of its
version and adapter. Scheduling happens on the event loop, model steps and what else touches tensors on one thread;
they never overlap, so nothing needs a lock.

A job whose reader falls far behind leaves its batch, keys and values with it, so that others get its place; when the
reader has caught up, its prompt and what it answered so far are read again.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from graph.errors import AnyplexError, DeadlineExceeded, Internal
from graph.messages import DecodeEvent, DecodeFinished, DecodeStarted
from services.backbone.answer import Answer
from services.backbone.engine import Job
from services.runtime.pump import Pump

if TYPE_CHECKING:
    from services.backbone.batch import Batch, Prefilled

Result = TypeVar("Result")
BatchWork = Callable[["Batch", Sequence[float]], list[list[DecodeEvent]]]
# Each prefill delays the next token of everybody who decodes.
PREFILLS_PER_STEP = 4
# Events of one answer that wait for its reader before it is parked; those of the step under way come on top. Many, so
# that a prompt is read again at most once in half as many tokens.
EVENTS_AHEAD = 256


@dataclass(eq=False)
class _Running:
    """A job on its way through the engine.

    Attributes:
        events: What it gave, for its reader; an error is the last.
        gone: Its reader left.
        open: Answers that have not ended.
        unread: Answers that have not taken their prompt yet.
        queue_s: How long it waited.
        prompt: Its prompt, read, until the last answer has taken it.
        parked: Answers, begun or not, that wait until its reader has caught up.
    """

    job: Job
    arrived_s: float
    events: asyncio.Queue[DecodeEvent | AnyplexError] = field(default_factory=asyncio.Queue)
    gone: bool = False
    open: int = 0
    unread: int = 0
    queue_s: float = 0.0
    prompt: Prefilled | None = None
    parked: list[Answer | int] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.gone or time.monotonic() >= self.job.deadline_s

    @property
    def behind(self) -> bool:
        """Whether its reader is so far behind that its answers must not go on."""
        return self.events.qsize() > EVENTS_AHEAD * self.job.sampling.n

    @property
    def caught_up(self) -> bool:
        """Whether its parked answers may go on. Well below ``behind``, so that they come to something."""
        return self.events.qsize() <= EVENTS_AHEAD * self.job.sampling.n // 2


class PlainEngine:
    """Runs jobs by transformers' own forward passes.

    Args:
        max_batch: Most answers that decode at once, all versions and adapters together.
        set_up: Runs first on the engine's thread.
    """

    def __init__(self, max_batch: int, set_up: Callable[[], None] | None = None) -> None:
        self._max_batch = max_batch
        # An answer that waits is its number until it has begun.
        self._waiting: list[tuple[int, int, _Running, Answer | int]] = []
        self._order = itertools.count()
        self._jobs: set[_Running] = set()
        self._batches: dict[tuple[int, str], Batch] = {}
        self._owners: dict[Answer, _Running] = {}
        self._pump = Pump(self._work, "engine", set_up)

    def close(self) -> None:
        """End the thread after its present step."""
        self._pump.close()

    @property
    def decoding(self) -> int:
        """How many answers decode now."""
        return len(self._owners)

    async def between_steps(self, change: Callable[[], Result]) -> Result:
        """Run a function while no model step runs."""
        return await self._pump.submit(change)

    async def submit(self, job: Job) -> AsyncGenerator[DecodeEvent, None]:
        """Run a job."""
        n = job.sampling.n
        running = _Running(job, time.monotonic(), open=n, unread=n)
        self._jobs.add(running)
        self._let_wait(running, range(n))
        try:
            while running.open:
                event = await running.events.get()
                if isinstance(event, AnyplexError):
                    raise event
                if running.parked and running.caught_up:
                    parked, running.parked = running.parked, []
                    self._let_wait(running, parked)
                yield event
                running.open -= isinstance(event, DecodeFinished)
        finally:
            running.gone = True
            self._jobs.discard(running)

    def _let_wait(self, running: _Running, answers: Iterable[Answer | int]) -> None:
        for answer in answers:
            heapq.heappush(self._waiting, (-running.job.priority, next(self._order), running, answer))
        self._pump.wake()

    async def _work(self) -> None:
        try:
            while self._waiting or self._owners:
                await self._drop_those_over()
                for _ in range(PREFILLS_PER_STEP):
                    if not await self._let_one_join():
                        break
                for key in list(self._batches):
                    await self._step(key)
        except BaseException as crash:
            self._fail_everybody(crash)
            raise

    def _fail_everybody(self, crash: BaseException) -> None:
        """Let nobody wait for a pump that has ended; the next job begins with nothing left over."""
        self._waiting, self._owners, self._batches = [], {}, {}
        failure = Internal("the backbone's engine failed")
        failure.__cause__ = crash
        for running in self._jobs:
            self._fail(running, failure)

    async def _drop_those_over(self) -> None:
        for _, _, running, _ in self._waiting:
            self._check_deadline(running)
        kept = [entry for entry in self._waiting if not entry[2].over]
        if len(kept) < len(self._waiting):
            self._waiting = kept
            heapq.heapify(self._waiting)
        for answer, running in self._owners.items():
            self._check_deadline(running)
            answer.done = answer.done or running.over
        for key in list(self._batches):
            await self._sweep(key)

    def _check_deadline(self, running: _Running) -> None:
        if running.over and not running.gone:
            self._fail(running, DeadlineExceeded("the time of the request is over"))

    def _fail(self, running: _Running, error: AnyplexError) -> None:
        running.gone = True
        running.events.put_nowait(error)

    async def _sweep(self, key: tuple[int, str]) -> None:
        """Let the answers of a batch leave that are done, or whose readers are far behind."""
        batch = self._batches[key]
        wanted: list[bool] = []
        for answer in batch.answers:
            running = self._owners[answer]
            wanted.append(not answer.done and not running.behind)
            if not wanted[-1]:
                del self._owners[answer]
            if not wanted[-1] and not answer.done:
                running.parked.append(answer)
        if all(wanted):
            return
        outcome = await self._on_thread(lambda: batch.keep(wanted))
        if isinstance(outcome, AnyplexError):
            # What is left of the batch cannot be trusted. Those that are parked need nothing of it.
            for answer in [answer for answer in batch.answers if answer in self._owners]:
                self._fail(self._owners.pop(answer), outcome)
            batch.answers.clear()
        if not batch.answers:
            del self._batches[key]

    async def _let_one_join(self) -> bool:
        """Let the first of those that wait join; return whether another may follow."""
        from services.backbone.batch import Batch

        while self._waiting and (self._waiting[0][2].over or self._waiting[0][2].behind):
            _, _, running, place = heapq.heappop(self._waiting)
            self._check_deadline(running)
            running.parked.append(place)
        if not self._waiting or len(self._owners) >= self._max_batch:
            return False
        _, _, running, place = heapq.heappop(self._waiting)
        prompt = await self._prompt(running, place)
        if isinstance(prompt, AnyplexError):
            self._fail(running, prompt)
            return True
        job = running.job
        answer = place if isinstance(place, Answer) else Answer(job, place)
        is_new = answer is not place
        first = await self._on_thread(lambda: _first_step(answer, prompt, running.queue_s, is_new=is_new))
        self._deliver(running, answer, first)
        if answer.done:
            return True
        key = (id(job.backbone), job.adapter)
        batch = self._batches.get(key) or Batch(job.backbone, job.adapter)
        added = await self._on_thread(lambda: batch.add(answer, prompt))
        if isinstance(added, AnyplexError):
            self._fail(running, added)
            return True
        self._batches[key] = batch
        self._owners[answer] = running
        if answer.feed:
            await self._step(key, _feed_step)
        return True

    async def _prompt(self, running: _Running, place: Answer | int) -> Prefilled | AnyplexError:
        """Read what one answer goes on from; the answers of a job that begin share one reading."""
        from services.backbone.batch import prefill

        job = running.job
        if isinstance(place, Answer):
            so_far = replace(job, produced_ids=tuple(place.produced_ids))
            return await self._on_thread(lambda: prefill(so_far))
        if running.prompt is None:
            running.queue_s = time.monotonic() - running.arrived_s
            job.began()
            outcome = await self._on_thread(lambda: prefill(job))
            if isinstance(outcome, AnyplexError):
                return outcome
            running.prompt = outcome
            running.events.put_nowait(DecodeStarted(job.prompt_tokens, job.media_tokens))
        prompt = running.prompt
        running.unread -= 1
        if running.unread == 0:
            running.prompt = None
        return prompt

    async def _step(self, key: tuple[int, str], work: BatchWork | None = None) -> None:
        batch = self._batches[key]
        queue_s = [self._owners[answer].queue_s for answer in batch.answers]
        outcome = await self._on_thread(lambda: (work or _batch_step)(batch, queue_s))
        answers = list(batch.answers)
        if isinstance(outcome, AnyplexError):
            for answer in answers:
                answer.done = True
                self._fail(self._owners[answer], outcome)
        else:
            for answer, events in zip(answers, outcome, strict=True):
                self._deliver(self._owners[answer], answer, events)
        await self._sweep(key)

    def _deliver(self, running: _Running, answer: Answer, events: Sequence[DecodeEvent] | AnyplexError) -> None:
        error = events if isinstance(events, AnyplexError) else answer.error
        if error is not None:
            answer.done = True
            self._fail(running, error)
            return
        if not isinstance(events, AnyplexError):
            for event in events:
                running.events.put_nowait(event)

    async def _on_thread(self, work: Callable[[], Result]) -> Result | AnyplexError:
        """Run a piece of work on the engine's thread; what it raises comes back as our fault."""
        outcome = await self._pump.on_thread(work)
        if not isinstance(outcome, BaseException) or isinstance(outcome, AnyplexError):
            return outcome
        failure = Internal("the backbone's model step failed")
        failure.__cause__ = outcome
        return failure


def _first_step(answer: Answer, prompt: Prefilled, queue_s: float, *, is_new: bool) -> list[DecodeEvent]:
    states_TD = prompt.states
    if is_new:
        answer.remember(states_TD)
    last_D = None if states_TD is None else states_TD[-1]
    return answer.step(prompt.logits, int(prompt.logits.argmax()), last_D, queue_s)


def _batch_step(batch: Batch, queue_s: Sequence[float]) -> list[list[DecodeEvent]]:
    """One token for every answer; then the signal blocks that began with it, where they are fed at once."""
    logits_BV, likeliest_B, states = batch.step()
    events = [
        answer.step(logits_V, likeliest, state_D, waited_s)
        for answer, logits_V, likeliest, state_D, waited_s in zip(
            batch.answers, logits_BV, likeliest_B.tolist(), states, queue_s, strict=True
        )
    ]
    return [begun + fed for begun, fed in zip(events, _feed_step(batch, queue_s), strict=True)]


def _feed_step(batch: Batch, queue_s: Sequence[float]) -> list[list[DecodeEvent]]:
    """Feed the signal blocks that wait for it, one after the other; one may be followed by the next."""
    events: list[list[DecodeEvent]] = [[] for _ in batch.answers]
    for answer, mine, waited_s in zip(batch.answers, events, queue_s, strict=True):
        while answer.feed:
            logits_V, states_TD = batch.feed(answer)
            mine += answer.take_block(states_TD, waited_s)
            if not answer.done:
                mine += answer.step(logits_V, int(logits_V.argmax()), states_TD[-1], waited_s)
    return events
