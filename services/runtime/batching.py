"""Admission and micro-batching: what waits is collected into one model step, run on a thread of its own."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from graph.errors import Internal
from services.runtime.component import Component, Load
from services.runtime.telemetry import Metrics

Item = TypeVar("Item")
Result = TypeVar("Result")


class Ticket:
    """The place of one request in a component's load: waiting, then running, then neither.

    Args:
        load: The load it counts in.
        metrics: Where its times are observed.
    """

    def __init__(self, load: Load, metrics: Metrics | None = None) -> None:
        self._load = load
        self._metrics = metrics
        self._arrived_s = time.monotonic()
        self._running = False
        self._gave = False

    def begin(self) -> None:
        """Count the request as running from now on; again is harmless."""
        if self._running:
            return
        self._running = True
        self._load.waiting -= 1
        self._load.running += 1
        if self._metrics is not None:
            self._metrics.queue_s.observe(time.monotonic() - self._arrived_s)

    def give(self) -> bool:
        """Observe that something of the result is there; return whether it is the first."""
        first, self._gave = not self._gave, True
        if first and self._metrics is not None:
            self._metrics.first_token_s.observe(time.monotonic() - self._arrived_s)
        return first

    def _finish(self) -> None:
        self._load.finished += 1
        if self._metrics is not None:
            self._metrics.latency_s.observe(time.monotonic() - self._arrived_s)

    def _leave(self) -> None:
        if self._running:
            self._load.running -= 1
        else:
            self._load.waiting -= 1


@contextmanager
def admitted(component: Component) -> Iterator[Ticket]:
    """Count a request from its admission to its end; one that was cancelled is neither finished nor failed.

    Raises:
        Exhausted: As many requests as allowed wait already.
    """
    component.admit()
    ticket = Ticket(component.load, component.metrics)
    try:
        yield ticket
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException:
        component.load.failed += 1
        raise
    else:
        ticket._finish()
    finally:
        ticket._leave()


@dataclass(eq=False)
class _Submission(Generic[Item, Result]):
    """Items of one request on their way through the batches."""

    ticket: Ticket
    done: asyncio.Future[None]
    results: dict[int, Result] = field(default_factory=dict)
    missing: int = 0


class Batcher(Generic[Item, Result]):
    """Collects items of concurrent requests and runs them together, at most ``max_batch`` at once.

    Whatever waits when the thread becomes free forms the next batch; nobody waits for a batch to fill up.

    Args:
        run: Blocking function over a batch; returns one result an item, in order. An exception in the place of a
            result fails that item's request alone; one that is raised fails the whole batch.
        max_batch: Most items in a batch.
        name: Name of the thread.
        set_up: Runs first on the thread.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result | BaseException]],
        max_batch: int,
        name: str = "batch",
        set_up: Callable[[], None] | None = None,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._queue: deque[tuple[_Submission[Item, Result], int, Item]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=set_up)
        self._pump: asyncio.Task[None] | None = None

    async def submit(self, ticket: Ticket, items: Sequence[Item]) -> list[Result]:
        """Run the items of one request; cancelling removes those that still wait.

        Raises:
            AnyplexError: What ``run`` gave for one of the items, or raised.
        """
        if not items:
            return []
        future = asyncio.get_running_loop().create_future()
        submission: _Submission[Item, Result] = _Submission(ticket, future, missing=len(items))
        self._queue.extend((submission, index, item) for index, item in enumerate(items))
        if self._pump is None or self._pump.done():
            # It outlives this request, so what it logs must not carry this request's id.
            self._pump = asyncio.create_task(self._work(), context=Context())
        try:
            await submission.done
        finally:
            if submission.missing:
                self._queue = deque(entry for entry in self._queue if entry[0] is not submission)
        ticket.give()
        return [submission.results[index] for index in range(len(items))]

    async def _work(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(self._max_batch, len(self._queue)))]
            for submission, _, _ in batch:
                submission.ticket.begin()
            step = asyncio.wrap_future(self._pool.submit(self._run, [item for _, _, item in batch]))
            await asyncio.wait([step])
            outcomes = _outcomes(step, len(batch))
            for (submission, index, _), outcome in zip(batch, outcomes, strict=True):
                _settle(submission, index, outcome)

    def close(self) -> None:
        """Stop the thread after its present batch."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _outcomes(step: asyncio.Future[Sequence[Result | BaseException]], count: int) -> Sequence[Result | BaseException]:
    error = step.exception()
    if error is not None:
        return [error] * count
    outcomes = step.result()
    if len(outcomes) != count:
        return [Internal(f"{len(outcomes)} results for {count} items")] * count
    return outcomes


def _settle(submission: _Submission[Item, Result], index: int, outcome: Result | BaseException) -> None:
    if submission.done.done():
        return
    if isinstance(outcome, BaseException):
        submission.done.set_exception(outcome)
        return
    submission.results[index] = outcome
    submission.missing -= 1
    if not submission.missing:
        submission.done.set_result(None)
