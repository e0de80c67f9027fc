"""Idempotency keys: a second request with the same key reads the first one's events instead of being run again."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable

from anyplex.v1 import gateway_pb2
from graph.errors import AlreadyExists, AnyplexError, Exhausted, Internal

KEEP_S = 600.0
MAX_RUNS = 256
MAX_RUN_BYTES = 16 * 2**20
MAX_TOTAL_BYTES = 128 * 2**20

Events = AsyncGenerator[gateway_pb2.Event, None]


class _Run:
    """Events of one request, kept for those who come later."""

    def __init__(self, digest: bytes, begun_s: float) -> None:
        self.digest = digest
        self.begun_s = begun_s
        self.events: list[gateway_pb2.Event] = []
        self.size_bytes = 0
        self.done = False
        self.complete = False
        self.error: AnyplexError | None = None
        self.readers = 0
        self.task: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class Replays:
    """Runs requests that carry a key, once each.

    A run goes on while anybody reads it; when the last reader leaves before its end, it is stopped and forgotten. One
    that failed is forgotten too, so that a retry runs again.

    Args:
        clock: Monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: OrderedDict[tuple[str, str], _Run] = OrderedDict()

    def __len__(self) -> int:
        return len(self._runs)

    async def events(self, owner: str, key: str, digest: bytes, begin: Callable[[], Events]) -> Events:
        """Yield the events of the run with this key, which ``begin`` starts if there is none.

        Raises:
            AlreadyExists: The key belongs to another request.
            Exhausted: The answer is too large to keep for a second reader.
        """
        name = (owner, key)
        self._forget_old()
        run = self._runs.get(name)
        if run is not None and run.digest != digest:
            raise AlreadyExists("this key belongs to a different request", "request.idempotency_key")
        if run is None:
            events = begin()
            run = self._runs[name] = _Run(digest, self._clock())
            run.task = asyncio.create_task(self._drive(name, run, events))
        run.readers += 1
        try:
            position = 0
            while True:
                while position < len(run.events):
                    yield run.events[position]
                    position += 1
                if run.error is not None:
                    raise run.error
                if run.done:
                    return
                await run.changed.wait()
        finally:
            run.readers -= 1
            if run.readers == 0 and not run.done and run.task is not None:
                if self._runs.get(name) is run:
                    del self._runs[name]
                run.task.cancel()

    async def _drive(self, name: tuple[str, str], run: _Run, events: Events) -> None:
        try:
            async for event in events:
                run.events.append(event)
                run.size_bytes += event.ByteSize()
                if run.size_bytes > MAX_RUN_BYTES:
                    raise Exhausted(
                        f"an answer of more than {MAX_RUN_BYTES} bytes cannot be kept: ask without the key",
                        "request.idempotency_key",
                    )
                run.wake()
            run.complete = True
        except AnyplexError as error:
            run.error = error
        finally:
            if not run.complete:
                # Also what nobody foresaw: an answer that broke off must never pass for a whole one.
                run.error = run.error or Internal("internal error; the server's log has the request id")
                if self._runs.get(name) is run:
                    del self._runs[name]
            run.done = True
            run.wake()
            await events.aclose()

    def _forget_old(self) -> None:
        now = self._clock()
        for name in [name for name, run in self._runs.items() if run.done and run.begun_s < now - KEEP_S]:
            del self._runs[name]
        finished = [name for name, run in self._runs.items() if run.done]
        size_bytes = sum(run.size_bytes for run in self._runs.values())
        for name in finished:
            if len(self._runs) <= MAX_RUNS and size_bytes <= MAX_TOTAL_BYTES:
                break
            size_bytes -= self._runs.pop(name).size_bytes
