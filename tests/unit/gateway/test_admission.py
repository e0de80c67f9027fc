from __future__ import annotations

import asyncio
import contextlib

import pytest

from graph.errors import Exhausted
from services.gateway.admission import AdmissionGate


class Visitor:
    """Someone who wants in; stays until told to leave."""

    def __init__(self, gate: AdmissionGate, priority: int = 0) -> None:
        self.inside = asyncio.Event()
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._visit(gate, priority))

    async def _visit(self, gate: AdmissionGate, priority: int) -> None:
        async with gate.admit(priority):
            self.inside.set()
            await self.leave.wait()

    async def go(self) -> None:
        self.leave.set()
        await self.task


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_lets_in_up_to_the_limit_and_keeps_the_rest_waiting() -> None:
    gate = AdmissionGate(2, 5)
    visitors = [Visitor(gate) for _ in range(3)]
    await settled()
    assert [visitor.inside.is_set() for visitor in visitors] == [True, True, False]
    assert (gate.running, gate.waiting) == (2, 1)
    await visitors[0].go()
    await visitors[2].inside.wait()
    assert (gate.running, gate.waiting) == (2, 0)
    for visitor in visitors[1:]:
        await visitor.go()
    assert (gate.running, gate.waiting) == (0, 0)


async def test_refuses_at_once_when_the_queue_is_full_and_says_when_to_come_back() -> None:
    gate = AdmissionGate(1, 1)
    visitors = [Visitor(gate), Visitor(gate)]
    await settled()
    with pytest.raises(Exhausted) as refused:
        async with gate.admit():
            pass
    assert refused.value.retry_after_s > 0
    for visitor in visitors:
        await visitor.go()
    assert gate.running == 0


async def test_no_queue_at_all_is_allowed() -> None:
    gate = AdmissionGate(1, 0)
    async with gate.admit():
        with pytest.raises(Exhausted):
            async with gate.admit():
                pass
    async with gate.admit():
        assert gate.running == 1


async def test_the_urgent_go_first_and_equals_in_their_order() -> None:
    gate = AdmissionGate(1, 10)
    holder = Visitor(gate)
    await settled()
    order: list[str] = []

    async def visit(name: str, priority: int) -> None:
        async with gate.admit(priority):
            order.append(name)

    tasks = []
    for name, priority in (("a", 0), ("background", -10), ("b", 0), ("urgent", 10)):
        tasks.append(asyncio.create_task(visit(name, priority)))
        await settled()
    await holder.go()
    await asyncio.gather(*tasks)
    assert order == ["urgent", "a", "b", "background"]


async def test_who_gives_up_waiting_frees_the_place_in_the_queue() -> None:
    gate = AdmissionGate(1, 1)
    holder, waiting = Visitor(gate), Visitor(gate)
    await settled()
    waiting.task.cancel()
    await settled()
    assert gate.waiting == 0
    successor = Visitor(gate)
    await settled()
    await holder.go()
    await successor.inside.wait()
    await successor.go()
    assert gate.running == 0


async def test_a_place_handed_over_in_the_moment_of_giving_up_is_handed_on() -> None:
    gate = AdmissionGate(1, 5)
    holder, first, second = Visitor(gate), Visitor(gate), Visitor(gate)
    await settled()
    holder.leave.set()
    # The holder hands its place to the first in its next step; cancelled before it runs, it must not keep it.
    await asyncio.sleep(0)
    first.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first.task
    await second.inside.wait()
    await second.go()
    assert (gate.running, gate.waiting) == (0, 0)


async def test_an_error_inside_gives_the_place_back() -> None:
    gate = AdmissionGate(1, 0)
    with pytest.raises(ValueError, match="inside"):
        async with gate.admit():
            raise ValueError("inside")
    assert gate.running == 0


async def test_those_who_gave_up_do_not_pile_up() -> None:
    gate = AdmissionGate(1, 4)
    holder = Visitor(gate)
    await settled()
    for _ in range(1000):
        visitor = Visitor(gate)
        await settled()
        visitor.task.cancel()
        await settled()
    assert len(gate._queue) <= 8
    await holder.go()
    assert gate.running == 0
