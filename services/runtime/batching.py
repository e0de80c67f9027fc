"""Admission and micro-batching: what waits is collected into one model step, run on a thread of its own."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from graph.errors import Internal
from services.runtime.component import Component, Load
from services.runtime.pump import Pump
from services.runtime.resident import finite
from services.runtime.telemetry import Metrics

if TYPE_CHECKING:
    import torch

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
        self._pump = Pump(self._work, name, set_up)

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
        self._pump.wake()
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
            items = [item for _, _, item in batch]
            outcomes = await self._pump.on_thread(partial(self._run, items))
            for (submission, index, _), outcome in zip(batch, _each(outcomes, len(batch)), strict=True):
                _settle(submission, index, outcome)

    def close(self) -> None:
        """Stop the thread after its present batch."""
        self._pump.close()


def _each(outcomes: Sequence[Result | BaseException] | BaseException, count: int) -> Sequence[Result | BaseException]:
    if isinstance(outcomes, BaseException):
        return [outcomes] * count
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


def run_groups(
    items: Sequence[Item],
    alike: Callable[[Item], Hashable],
    outputs: Callable[[Sequence[Item]], torch.Tensor],
    failure: str,
) -> list[torch.Tensor | BaseException]:
    """Run the items of a batch, those that are alike together; one whose output is not finite fails alone.

    Args:
        items: The batch.
        alike: What must be equal in items that go through a model together: padding would change what they give.
        outputs: Runs such items; one row an item.
        failure: What is said of NaN or Inf.
    """
    import torch

    groups: dict[Hashable, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(alike(item), []).append(index)
    results: dict[int, torch.Tensor | BaseException] = {}
    for indices in groups.values():
        with torch.inference_mode():
            rows = outputs([items[index] for index in indices]).cpu()
        for index, row in zip(indices, rows, strict=True):
            results[index] = row if finite(row) else Internal(failure)
    return [results[index] for index in range(len(items))]
