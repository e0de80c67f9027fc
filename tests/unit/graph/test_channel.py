"""The channel is bounded, loses nothing, and can be closed while it is full."""

from __future__ import annotations

import asyncio

from graph.channel import Channel


async def drained(channel: Channel[int]) -> list[int]:
    found = []
    while (item := await channel.get()) is not None:
        found.append(item)
    return found


async def test_writers_wait_while_it_is_full() -> None:
    channel: Channel[int] = Channel(2)

    async def write() -> None:
        for item in range(1, 101):
            await channel.put(item)
            assert len(channel) <= 2
        channel.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        assert await drained(channel) == list(range(1, 101))


async def test_a_cancelled_writer_passes_its_turn_on() -> None:
    channel: Channel[int] = Channel(1)
    await channel.put(1)
    first, second = asyncio.create_task(channel.put(2)), asyncio.create_task(channel.put(3))
    await asyncio.sleep(0)
    assert await channel.get() == 1  # wakes the first writer …
    first.cancel()  # … which is cancelled before it runs
    await asyncio.wait({first, second})
    assert second.exception() is None
    channel.close()
    assert await drained(channel) == [3]


async def test_closing_wakes_the_reader_and_keeps_what_is_there() -> None:
    channel: Channel[int] = Channel(4)
    reader = asyncio.create_task(drained(channel))
    await asyncio.sleep(0)
    await channel.put(7)
    channel.close()
    assert await reader == [7]
