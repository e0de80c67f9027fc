"""The plain engine: continuous batching with nothing clever in it. The oracle of faster ones.

A joining job's prompt is read alone, its first token chosen, and its keys and values merged into the batch of its
version and adapter. Scheduling happens on the event loop, model steps on one thread; they never overlap, so
nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from graph.errors import AnyplexError, DeadlineExceeded, Internal
from graph.messages import DecodeEvent, DecodeFinished, DecodeStarted
from services.backbone.answer import Answer
from services.backbone.engine import Job

if TYPE_CHECKING:
    from services.backbone.batch import Batch, Prefilled

Result = TypeVar("Result")
# Each prefill delays the next token of everybody who decodes.
PREFILLS_PER_STEP = 4


@dataclass(eq=False)
class _Running:
    """A job on its way through the engine.

    Attributes:
        events: What it gave, for its reader; an error is the last.
        gone: Its reader left.
        open: Answers that have not ended.
    """

    job: Job
    arrived_s: float
    events: asyncio.Queue[DecodeEvent | AnyplexError] = field(default_factory=asyncio.Queue)
    gone: bool = False
    open: int = 0
    unread: int = 0
    queue_s: float = 0.0
    prompt: Prefilled | None = None

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.gone or time.monotonic() >= self.job.deadline_s


class PlainEngine:
    """Runs jobs by transformers' own forward passes.

    Args:
        max_batch: Most answers that decode at once, all versions and adapters together.
        set_up: Runs first on the engine's thread.
    """

    def __init__(self, max_batch: int, set_up: Callable[[], None] | None = None) -> None:
        self._max_batch = max_batch
        self._waiting: list[tuple[int, int, _Running, int]] = []
        self._order = itertools.count()
        self._batches: dict[tuple[int, str], Batch] = {}
        self._owners: dict[Answer, _Running] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="engine", initializer=set_up)
        self._pump: asyncio.Task[None] | None = None

    def close(self) -> None:
        """End the thread after its present step."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def decoding(self) -> int:
        """How many answers decode now."""
        return len(self._owners)

    async def between_steps(self, change: Callable[[], Result]) -> Result:
        """Run a function while no model step runs."""
        return await asyncio.wrap_future(self._pool.submit(change))

    async def submit(self, job: Job) -> AsyncGenerator[DecodeEvent, None]:
        """Run a job."""
        n = job.sampling.n
        running = _Running(job, time.monotonic(), open=n, unread=n)
        for choice in range(n):
            heapq.heappush(self._waiting, (-job.priority, next(self._order), running, choice))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._work())
        try:
            while running.open:
                event = await running.events.get()
                if isinstance(event, AnyplexError):
                    raise event
                yield event
                running.open -= isinstance(event, DecodeFinished)
        finally:
            running.gone = True

    async def _work(self) -> None:
        while self._waiting or self._owners:
            self._drop_those_over()
            for _ in range(PREFILLS_PER_STEP):
                if not await self._let_one_join():
                    break
            for key in list(self._batches):
                await self._step(key)

    def _drop_those_over(self) -> None:
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
            self._sweep(key)

    def _check_deadline(self, running: _Running) -> None:
        if running.over and not running.gone:
            self._fail(running, DeadlineExceeded("the time of the request is over"))

    def _fail(self, running: _Running, error: AnyplexError) -> None:
        running.gone = True
        running.events.put_nowait(error)

    def _sweep(self, key: tuple[int, str]) -> None:
        """Let the answers of a batch leave that are done."""
        batch = self._batches[key]
        for answer in batch.answers:
            if answer.done:
                del self._owners[answer]
        batch.keep([not answer.done for answer in batch.answers])
        if not batch.answers:
            del self._batches[key]

    async def _let_one_join(self) -> bool:
        """Let the first of those that wait join; return whether another may follow."""
        from services.backbone.batch import Batch, prefill

        while self._waiting and self._waiting[0][2].over:
            _, _, running, _ = heapq.heappop(self._waiting)
            self._check_deadline(running)
        if not self._waiting or len(self._owners) >= self._max_batch:
            return False
        _, _, running, choice = heapq.heappop(self._waiting)
        job = running.job
        if running.prompt is None:
            running.queue_s = time.monotonic() - running.arrived_s
            job.began()
            outcome = await self._on_thread(lambda: prefill(job))
            if isinstance(outcome, AnyplexError):
                self._fail(running, outcome)
                return True
            running.prompt = outcome
            running.events.put_nowait(DecodeStarted(job.prompt_tokens, job.media_tokens))
        prompt = running.prompt
        answer = Answer(job, choice)
        running.unread -= 1
        if running.unread == 0:
            running.prompt = None
        first = await self._on_thread(lambda: _first_step(answer, prompt, running.queue_s))
        self._deliver(running, answer, first)
        if not answer.done:
            key = (id(job.backbone), job.adapter)
            batch = self._batches.setdefault(key, Batch(job.backbone, job.adapter))
            self._owners[answer] = running
            await self._on_thread(lambda: batch.add(answer, prompt))
        return True

    async def _step(self, key: tuple[int, str]) -> None:
        batch = self._batches[key]
        queue_s = [self._owners[answer].queue_s for answer in batch.answers]
        outcome = await self._on_thread(lambda: _batch_step(batch, queue_s))
        answers = list(batch.answers)
        if isinstance(outcome, AnyplexError):
            for answer in answers:
                answer.done = True
                self._fail(self._owners[answer], outcome)
        else:
            for answer, events in zip(answers, outcome, strict=True):
                self._deliver(self._owners[answer], answer, events)
        self._sweep(key)

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
        future = asyncio.wrap_future(self._pool.submit(work))
        await asyncio.wait([future])
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, AnyplexError):
            return error
        failure = Internal("the backbone's model step failed")
        failure.__cause__ = error
        return failure


def _first_step(answer: Answer, prompt: Prefilled, queue_s: float) -> list[DecodeEvent]:
    return answer.step(prompt.logits, int(prompt.logits.argmax()), prompt.state, queue_s)


def _batch_step(batch: Batch, queue_s: Sequence[float]) -> list[list[DecodeEvent]]:
    logits_BV, likeliest_B, states = batch.step()
    return [
        answer.step(logits_V, likeliest, state_D, waited_s)
        for answer, logits_V, likeliest, state_D, waited_s in zip(
            batch.answers, logits_BV, likeliest_B.tolist(), states, queue_s, strict=True
        )
    ]
