"""What a generator has for one reader: never waits for it, and never grows."""

from __future__ import annotations

import asyncio
from collections import deque

from graph.errors import AnyplexError
from graph.messages import RenderProgress, RenderStarted
from services.generators.encoding import Medium

RenderEvent = RenderStarted | RenderProgress | Medium
# Progress that waits for its reader; older ones make room. A reader that far behind learns nothing from them.
PROGRESS_AHEAD = 32


class Outbox:
    """Events of one job, from the engine to its reader.

    What must arrive (the start, the medium, an error) stays; of progress the oldest goes when too much waits.
    """

    def __init__(self) -> None:
        self._events: deque[RenderEvent | AnyplexError] = deque()
        self._reader: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: RenderEvent | AnyplexError) -> None:
        """Lay an event in."""
        if isinstance(event, RenderProgress):
            waiting = [other for other in self._events if isinstance(other, RenderProgress)]
            if len(waiting) >= PROGRESS_AHEAD:
                self._events.remove(waiting[0])
        self._events.append(event)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> RenderEvent:
        """Take the oldest event.

        Raises:
            AnyplexError: The job failed.
        """
        while not self._events:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        event = self._events.popleft()
        if isinstance(event, AnyplexError):
            raise event
        return event
