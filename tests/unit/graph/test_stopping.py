"""Cancelling, deadlines, slow readers: everything stops, nothing leaks, memory stays bounded."""

from __future__ import annotations

import asyncio
import time

import pytest

from graph.errors import DeadlineExceeded
from graph.executor import EVENT_BUFFER, Executor
from graph.messages import DecodedText, DecodeFinished, DecodeStarted, Event, Request, TextDelta
from tests.fakes.caller import HANG, FakeCaller, Step, rendered, signal
from tests.unit.graph.worlds import asking, compiled, said, shown, turn

FOREVER = float("inf")
KINDS_HANGING = ["see", "see_in", "think", "draw_out", "draw"]


def hanging(node: str) -> FakeCaller:
    """Make a caller in which one node never ends; whatever the kind."""
    answer: list[Step] = [DecodeStarted(1, 0), DecodedText("a"), signal("image"), DecodeFinished("stop", 1)]
    streams = {"think": answer, "draw": rendered(b"png")}
    if node in streams:
        return FakeCaller(streams={**streams, node: [HANG]})
    return FakeCaller(before={node: [HANG]}, streams=streams)


def asked() -> Request:
    return asking(turn(shown("a"), said("?")))


async def collect(caller: FakeCaller, deadline_s: float = FOREVER) -> list[Event]:
    return [event async for event in Executor(caller).run(compiled(), asked(), deadline_s)]


def assert_nothing_left(caller: FakeCaller, node: str) -> None:
    assert caller.running == []
    assert ("cancelled", node) in caller.log
    assert caller.released == ["r1"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("node", KINDS_HANGING)
async def test_cancelling_the_reader_stops_every_node(node: str) -> None:
    caller = hanging(node)
    reader = asyncio.create_task(collect(caller))
    await caller.until("start", node)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert_nothing_left(caller, node)


@pytest.mark.parametrize("node", ["draw_out", "draw"])
async def test_closing_the_stream_stops_every_node(node: str) -> None:
    caller = hanging(node)
    stream = Executor(caller).run(compiled(), asked(), FOREVER)
    assert isinstance((await anext(stream)).body, TextDelta)
    await caller.until("start", node)
    await stream.aclose()
    assert_nothing_left(caller, node)


@pytest.mark.parametrize("node", KINDS_HANGING)
async def test_the_deadline_stops_every_node(node: str) -> None:
    caller = hanging(node)
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=f"node {node}: the deadline passed after 0\\.[23]"):
        await collect(caller, start + 0.3)
    assert time.monotonic() - start < 5
    assert_nothing_left(caller, node)


async def test_a_deadline_that_has_passed_calls_nobody() -> None:
    caller = FakeCaller()
    with pytest.raises(DeadlineExceeded, match="before the request started"):
        await collect(caller, time.monotonic() - 1)
    assert caller.asked == []


async def test_a_stream_that_is_never_read_calls_nobody() -> None:
    caller = FakeCaller()
    stream = Executor(caller).run(compiled(), asked(), FOREVER)
    await stream.aclose()
    assert caller.asked == []


async def test_a_second_cancel_does_not_leave_nodes_behind() -> None:
    caller = hanging("draw")
    let_go = asyncio.Event()
    release = caller.release

    async def slow_release(request_id: str) -> None:
        await let_go.wait()
        await release(request_id)

    caller.release = slow_release  # type: ignore[method-assign]
    reader = asyncio.create_task(collect(caller))
    await caller.until("start", "draw")
    reader.cancel()
    await caller.until("cancelled", "draw")
    reader.cancel()
    await asyncio.sleep(0)
    let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert_nothing_left(caller, "draw")


async def test_a_release_that_hangs_holds_nobody_for_long() -> None:
    caller = FakeCaller()

    async def never(request_id: str) -> None:
        await asyncio.Event().wait()

    caller.release = never  # type: ignore[method-assign]
    start = time.monotonic()
    await collect(caller)
    assert time.monotonic() - start < 5


async def test_a_slow_reader_stops_the_producers() -> None:
    words = 5000
    produced: list[int] = []

    class Counting(FakeCaller):
        async def decode(self, call, request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            yield DecodeStarted(1, 0)
            for word in range(words):
                produced.append(word)
                yield DecodedText(str(word))
            yield DecodeFinished("stop", words)

    read = 0
    async for _ in Executor(Counting()).run(compiled(), asked(), FOREVER):
        read += 1
        await asyncio.sleep(0)
        assert len(produced) <= read + EVENT_BUFFER + 1
    assert read == words + 1


async def test_many_cancelled_requests_leave_nothing() -> None:
    callers = [hanging(KINDS_HANGING[index % 5]) for index in range(200)]
    readers = [asyncio.create_task(collect(caller)) for caller in callers]
    for index, (caller, reader) in enumerate(zip(callers, readers, strict=True)):
        if index % 3:  # some are cancelled before they have begun
            await caller.until("start", KINDS_HANGING[index % 5])
        reader.cancel()
    await asyncio.wait(readers)
    assert all(caller.running == [] for caller in callers)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_that_is_nobodys_comes_out_as_it_is() -> None:
    caller = FakeCaller(before={"see": [ZeroDivisionError("bug")]})
    with pytest.raises(ZeroDivisionError):
        await collect(caller)
    assert caller.released == ["r1"]
