"""A bounded queue with one reader, that can be closed while it is full."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """Passes items from several writers to one reader; writers wait while ``capacity`` items lie in it."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._writers: deque[asyncio.Future[None]] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> None:
        """Lay an item in, once there is room."""
        while len(self._items) >= self._capacity:
            turn = asyncio.get_running_loop().create_future()
            self._writers.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                # Woken and cancelled at once: the room goes to the next one.
                if turn.done() and not turn.cancelled():
                    self._wake_writer()
                raise
        self._items.append(item)
        self._wake_reader()

    async def get(self) -> T | None:
        """Take the oldest item; None once the channel is closed and empty."""
        while not self._items:
            if self._closed:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        item = self._items.popleft()
        self._wake_writer()
        return item

    def close(self) -> None:
        """Tell the reader that nothing more will come."""
        self._closed = True
        self._wake_reader()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_writer(self) -> None:
        while self._writers:
            turn = self._writers.popleft()
            if not turn.done():
                turn.set_result(None)
                return
