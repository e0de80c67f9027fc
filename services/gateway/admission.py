"""How many requests run at once, how many may wait, and who goes first."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator

from graph.errors import Exhausted

RETRY_AFTER_S = 1.0


class AdmissionGate:
    """Lets ``max_concurrent`` in, keeps ``queue_limit`` waiting by priority, refuses the rest at once.

    Args:
        max_concurrent: Most requests inside.
        queue_limit: Most requests that wait.
    """

    def __init__(self, max_concurrent: int, queue_limit: int) -> None:
        self.max_concurrent = max_concurrent
        self.queue_limit = queue_limit
        self.running = 0
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(not future.done() for _, _, future in self._queue)

    @contextlib.asynccontextmanager
    async def admit(self, priority: int = 0) -> AsyncIterator[None]:
        """Wait for a place, and give it back on the way out.

        Raises:
            Exhausted: Too many wait already.
        """
        await self._enter(priority)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, priority: int) -> None:
        if self.running < self.max_concurrent:
            self.running += 1
            return
        if self.waiting >= self.queue_limit:
            raise Exhausted(
                f"{self.running} requests run and {self.queue_limit} wait: the limit is reached", "", RETRY_AFTER_S
            )
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (-priority, next(self._order), future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                # The place was handed over in the same moment: hand it on.
                self._leave()
            else:
                self._queue = [entry for entry in self._queue if entry[2] is not future]
                heapq.heapify(self._queue)
            raise

    def _leave(self) -> None:
        while self._queue:
            _, _, future = heapq.heappop(self._queue)
            if not future.done():
                future.set_result(None)
                return
        self.running -= 1
