"""A task that works as long as there is work, and the one thread on which it does what takes long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any, TypeVar

Result = TypeVar("Result")


class Pump:
    """Runs ``work`` whenever it is woken and does not run yet.

    Args:
        work: Returns when there is nothing left to do.
        name: Name of the thread.
        set_up: Runs first on the thread.

    Attributes:
        task: The present run of ``work``, or the last one.
    """

    def __init__(
        self, work: Callable[[], Coroutine[Any, Any, None]], name: str, set_up: Callable[[], None] | None = None
    ) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=set_up)
        self.task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """See to it that ``work`` runs."""
        if self.task is None or self.task.done():
            # It outlives the request that wakes it, so what it logs must not carry that request's id.
            self.task = asyncio.create_task(self._work(), context=Context())

    def submit(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        """Let the thread run a piece of work as soon as it is free."""
        return asyncio.wrap_future(self._pool.submit(work))

    async def on_thread(self, work: Callable[[], Result]) -> Result | BaseException:
        """Run a piece of work on the thread; what it raises is returned."""
        future = self.submit(work)
        # Not awaited itself: who is cancelled while it runs must not cancel it.
        await asyncio.wait([future])
        error = future.exception()
        return future.result() if error is None else error

    def close(self) -> None:
        """End the thread after its present piece of work."""
        self._pool.shutdown(wait=False, cancel_futures=True)
