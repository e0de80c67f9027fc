from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from anyplex.v1 import gateway_pb2
from graph.errors import AlreadyExists, Exhausted, Internal, Unavailable
from services.gateway import replay
from services.gateway.replay import Replays


class Run:
    """A run that yields numbered events, as told."""

    def __init__(self, count: int = 3, gate: asyncio.Event | None = None, error: BaseException | None = None) -> None:
        self.count, self.gate, self.error = count, gate, error
        self.begun = 0
        self.closed = asyncio.Event()
        self.text = "x"

    async def __call__(self) -> AsyncGenerator[gateway_pb2.Event, None]:
        self.begun += 1
        try:
            for number in range(self.count):
                yield gateway_pb2.Event(sequence=number, text=gateway_pb2.TextDelta(text=self.text))
            if self.gate is not None:
                await self.gate.wait()
            if self.error is not None:
                raise self.error
            yield gateway_pb2.Event(sequence=self.count, finished=gateway_pb2.Finished())
        finally:
            self.closed.set()


async def read(replays: Replays, run: Run, key: str = "k", owner: str = "me", digest: bytes = b"d") -> list[int]:
    return [event.sequence async for event in replays.events(owner, key, digest, run)]


async def test_a_second_request_with_the_key_gets_the_first_ones_events() -> None:
    replays, run = Replays(), Run()
    assert await read(replays, run) == await read(replays, run) == [0, 1, 2, 3]
    assert run.begun == 1


async def test_keys_belong_to_their_owner() -> None:
    replays, run = Replays(), Run()
    await read(replays, run, owner="me")
    await read(replays, run, owner="you")
    assert run.begun == 2


async def test_the_key_of_another_request_is_refused() -> None:
    replays, run = Replays(), Run()
    await read(replays, run)
    with pytest.raises(AlreadyExists) as refused:
        await read(replays, run, digest=b"other")
    assert refused.value.where == "request.idempotency_key"


async def test_joins_a_run_in_flight() -> None:
    gate = asyncio.Event()
    replays, run = Replays(), Run(gate=gate)
    first = asyncio.create_task(read(replays, run))
    second = asyncio.create_task(read(replays, run))
    for _ in range(5):
        await asyncio.sleep(0)
    gate.set()
    assert await first == await second == [0, 1, 2, 3]
    assert run.begun == 1


async def test_the_run_goes_on_while_anybody_reads_and_stops_with_the_last() -> None:
    replays, run = Replays(), Run(gate=asyncio.Event())
    readers = [asyncio.create_task(read(replays, run)) for _ in range(2)]
    for _ in range(5):
        await asyncio.sleep(0)
    readers[0].cancel()
    await asyncio.gather(readers[0], return_exceptions=True)
    assert not run.closed.is_set()
    readers[1].cancel()
    await asyncio.gather(readers[1], return_exceptions=True)
    await run.closed.wait()
    assert len(replays) == 0


async def test_a_key_whose_readers_left_can_be_used_again_at_once() -> None:
    replays, run = Replays(), Run(gate=asyncio.Event())
    reader = asyncio.create_task(read(replays, run))
    for _ in range(5):
        await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    again = Run()
    assert await read(replays, again, digest=b"other") == [0, 1, 2, 3]
    await run.closed.wait()
    assert await read(replays, again, digest=b"other") == [0, 1, 2, 3]
    assert again.begun == 1


async def test_a_run_that_failed_is_run_again() -> None:
    replays, run = Replays(), Run(error=Unavailable("gone"))
    for _ in range(2):
        with pytest.raises(Unavailable):
            await read(replays, run)
    assert run.begun == 2


async def test_an_answer_that_broke_off_never_passes_for_a_whole_one() -> None:
    replays, run = Replays(), Run(error=ZeroDivisionError())
    for _ in range(2):
        with pytest.raises(Internal):
            await read(replays, run)
    assert run.begun == 2


async def test_runs_are_forgotten_when_they_are_old_or_too_many() -> None:
    now = [0.0]
    replays, run = Replays(lambda: now[0]), Run()
    await read(replays, run)
    now[0] = replay.KEEP_S + 1
    await read(replays, run)
    assert run.begun == 2
    for number in range(replay.MAX_RUNS + 20):
        await read(replays, Run(), key=str(number))
    assert len(replays) <= replay.MAX_RUNS + 1


async def test_an_answer_too_large_to_keep_ends_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_RUN_BYTES", 100)
    replays, run = Replays(), Run()
    run.text = "x" * 200
    with pytest.raises(Exhausted, match="without the key"):
        await read(replays, run)
    assert len(replays) == 0


async def test_kept_answers_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_TOTAL_BYTES", 1_000)
    replays = Replays()
    for number in range(20):
        run = Run()
        run.text = "x" * 200
        await read(replays, run, key=f"key {number}")
    assert 0 < len(replays) <= 5
