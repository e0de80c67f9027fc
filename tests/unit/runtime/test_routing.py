from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace

import pytest

from graph.caller import Call
from graph.errors import FailedPrecondition, Unavailable
from graph.messages import VersionRef
from services.runtime.directory import Entry, Routes, Snapshot
from services.runtime.routing import AFFINITY_SLACK, Router


def entry(name: str, *versions: str, component: str = "see") -> Entry:
    return Entry(name, component, f"{name}:1", versions=frozenset(versions))


def call(version: str = "", adapter: str = "", session_id: str = "", left_s: float = 10.0) -> Call:
    return Call("r", "see", "see", VersionRef(version, adapter), time.monotonic() + left_s, session_id)


def router(*entries: Entry, wait_s: float = 0.05) -> Router:
    return Router(Routes(entries), wait_s)


class Sleeping(Routes):
    """A component that sleeps until it is woken."""

    def __init__(self) -> None:
        super().__init__()
        self.woken: list[str] = []

    async def wake(self, component: str) -> None:
        self.woken.append(component)
        self.update(Snapshot(entries=(entry("a", component=component),)))


async def test_the_one_with_the_fewest_calls_in_flight() -> None:
    chosen = router(entry("a"), entry("b"), entry("c"))
    chosen.in_flight.update(a=3, b=1, c=2)
    assert (await chosen.pick(call())).replica_id == "b"


async def test_calls_spread() -> None:
    chosen = router(*(entry(name) for name in "abcd"))
    for _ in range(40):
        chosen.in_flight[(await chosen.pick(call())).replica_id] += 1
    assert set(chosen.in_flight.values()) == {10}


async def test_only_replicas_of_the_component_that_hold_the_versions() -> None:
    chosen = router(entry("a", "v1"), entry("b", "v2", "l2"), entry("c", "v2", component="think"))
    assert (await chosen.pick(call("v1"))).replica_id == "a"
    assert (await chosen.pick(call("v2", "l2"))).replica_id == "b"
    with pytest.raises(FailedPrecondition, match="v1, l2"):
        await chosen.pick(call("v1", "l2"))


async def test_sessions_stay_with_their_replica() -> None:
    chosen = router(*(entry(name) for name in "abcde"))
    homes = {f"s{n}": (await chosen.pick(call(session_id=f"s{n}"))).replica_id for n in range(200)}
    spread = Counter(homes.values())
    assert len(spread) == 5
    assert max(spread.values()) < 80
    # One leaves: only its own sessions move.
    chosen.routes.update(Snapshot(entries=tuple(entry(name) for name in "abcd")))
    for session, home in homes.items():
        now = (await chosen.pick(call(session_id=session))).replica_id
        assert now == home or home == "e"


async def test_affinity_gives_way_to_load() -> None:
    chosen = router(entry("a"), entry("b"))
    home = (await chosen.pick(call(session_id="s"))).replica_id
    chosen.in_flight[home] = AFFINITY_SLACK
    assert (await chosen.pick(call(session_id="s"))).replica_id == home
    chosen.in_flight[home] = AFFINITY_SLACK + 1
    assert (await chosen.pick(call(session_id="s"))).replica_id != home


async def test_those_tried_already_are_left_out() -> None:
    chosen = router(entry("a"), entry("b"))
    assert (await chosen.pick(call(), ["a"])).replica_id == "b"
    assert (await chosen.pick(call(), ["b"])).replica_id == "a"


async def test_a_sleeping_component_is_woken_once() -> None:
    routes = Sleeping()
    picked = await Router(routes, 5.0).pick(call())
    assert picked.replica_id == "a"
    assert routes.woken == ["see"]


async def test_waits_for_a_replica_to_come() -> None:
    routes = Routes()
    picking = asyncio.create_task(Router(routes, 5.0).pick(call("v")))
    await asyncio.sleep(0)
    assert not picking.done()
    routes.update(Snapshot(entries=(entry("b", "v"),), generation=2))
    assert (await picking).replica_id == "b"


async def test_does_not_wait_where_replicas_are_and_none_holds_the_version() -> None:
    begun_s = time.monotonic()
    with pytest.raises(FailedPrecondition):
        await Router(Routes((entry("a", "w"),)), 30.0).pick(call("v"))
    assert time.monotonic() - begun_s < 3.0


async def test_nobody_comes() -> None:
    with pytest.raises(Unavailable) as refused:
        await router().pick(call())
    assert refused.value.where == "node see"
    assert refused.value.retry_after_s > 0


async def test_when_all_were_tried_the_replica_is_lost_and_not_the_version() -> None:
    with pytest.raises(Unavailable):
        await router(entry("a", "v")).pick(call("v"), ["a"])


async def test_the_deadline_ends_the_wait() -> None:
    begun_s = time.monotonic()
    with pytest.raises(Unavailable):
        await router(wait_s=60.0).pick(replace(call(), deadline_s=time.monotonic() + 0.05))
    assert time.monotonic() - begun_s < 5.0
