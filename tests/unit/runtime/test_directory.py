from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from services.runtime.directory import EXPIRE_S, Directory, Entry, Routes, Snapshot, answers, disconnected
from tests.unit.graph.worlds import compiled
from tests.waiting import until


class World:
    """Which addresses answer, and what time it is."""

    def __init__(self) -> None:
        self.now = 100.0
        self.alive = {"a:1", "b:1"}
        self.probed: list[str] = []
        self.answer = asyncio.Event()
        self.answer.set()
        self.directory = Directory(self.probe, lambda: self.now)

    async def probe(self, address: str) -> bool:
        self.probed.append(address)
        await self.answer.wait()
        return address in self.alive

    async def ids(self) -> list[str]:
        return sorted(entry.replica_id for entry in (await self.directory.snapshot()).entries)


A = Entry("a", "see", "a:1", versions=frozenset({"v"}))
B = Entry("b", "see", "b:1", versions=frozenset({"v"}))


@pytest.fixture
async def world() -> World:
    world = World()
    await world.directory.register(A)
    await world.directory.register(B)
    return world


async def test_lists_what_registers(world: World) -> None:
    snapshot = await world.directory.snapshot()
    assert snapshot.of("see") == [A, B]
    assert snapshot.of("think") == []


async def test_registering_again_changes_only_what_changed(world: World) -> None:
    before = await world.directory.snapshot()
    await world.directory.register(A)
    assert (await world.directory.snapshot()).generation == before.generation
    renewed = replace(A, versions=frozenset({"v", "w"}))
    await world.directory.register(renewed)
    after = await world.directory.snapshot()
    assert after.generation > before.generation
    assert after.of("see")[0] == renewed


async def test_deregistered_replicas_leave(world: World) -> None:
    await world.directory.deregister("a")
    await world.directory.deregister("a")
    assert await world.ids() == ["b"]
    assert await world.directory.heartbeat("a") is False
    assert await world.directory.heartbeat("b") is True


async def test_a_lost_replica_leaves_when_it_does_not_answer(world: World) -> None:
    assert await world.directory.report_lost("a:1") is True
    assert await world.ids() == ["a", "b"]
    world.alive.discard("a:1")
    assert await world.directory.report_lost("a:1") is False
    assert await world.ids() == ["b"]
    assert await world.directory.report_lost("nobody:1") is False


async def test_whoever_reports_while_a_probe_runs_gets_its_answer(world: World) -> None:
    world.alive.discard("a:1")
    world.answer.clear()
    reports = [asyncio.create_task(world.directory.report_lost("a:1")) for _ in range(3)]
    await until(lambda: bool(world.probed))
    reports[0].cancel()
    world.answer.set()
    assert await asyncio.gather(*reports[1:]) == [False, False]
    assert world.probed == ["a:1"]


async def test_a_port_in_use_again_belongs_to_the_new_replica(world: World) -> None:
    successor = Entry("c", "see", "a:1")
    await world.directory.register(successor)
    assert await world.ids() == ["b", "c"]
    assert await world.directory.heartbeat("a") is False


async def test_a_replica_that_renewed_during_a_probe_stays(world: World) -> None:
    world.alive.discard("a:1")
    world.answer.clear()
    report = asyncio.create_task(world.directory.report_lost("a:1"))
    await until(lambda: bool(world.probed))
    await world.directory.register(Entry("c", "see", "a:1"))
    world.answer.set()
    await report
    assert await world.ids() == ["b", "c"]


async def test_silent_replicas_are_checked_and_dropped(world: World) -> None:
    world.alive.discard("a:1")
    world.now += EXPIRE_S - 1
    await world.directory.heartbeat("b")
    await world.directory.sweep()
    assert world.probed == []
    world.now += 2
    await world.directory.sweep()
    assert world.probed == ["a:1"]
    assert await world.ids() == ["b"]


async def test_silent_replicas_that_answer_stay(world: World) -> None:
    world.now += EXPIRE_S + 1
    await world.directory.sweep()
    assert await world.ids() == ["a", "b"]
    await world.directory.sweep()
    assert sorted(world.probed) == ["a:1", "b:1"], "checked once, then left alone for a while"


async def test_components_started_by_hand_come_back(world: World) -> None:
    by_hand = Entry("c", "see", "c:1", static=True)
    world.alive.add("c:1")
    await world.directory.register(by_hand)
    world.alive.discard("c:1")
    await world.directory.sweep()
    assert await world.ids() == ["a", "b"]
    await world.directory.sweep()
    world.alive.add("c:1")
    await world.directory.sweep()
    assert await world.ids() == ["a", "b", "c"]


async def test_who_waits_hears_of_a_change_at_once(world: World) -> None:
    now = await world.directory.snapshot()
    waiting = asyncio.create_task(world.directory.wait(now.epoch, now.generation, 10.0))
    await asyncio.sleep(0)
    await world.directory.deregister("a")
    assert [entry.replica_id for entry in (await waiting).entries] == ["b"]


async def test_who_is_behind_need_not_wait(world: World) -> None:
    now = await world.directory.snapshot()
    assert await world.directory.wait(now.epoch, now.generation - 1, 10.0) == now
    assert await world.directory.wait("another epoch", now.generation, 10.0) == now


async def test_who_waits_for_nothing_gets_the_same_again(world: World) -> None:
    now = await world.directory.snapshot()
    assert await world.directory.wait(now.epoch, now.generation, 0.01) == now


async def test_a_restarted_directory_has_another_epoch(world: World) -> None:
    assert (await World().directory.snapshot()).epoch != (await world.directory.snapshot()).epoch


async def test_systems_are_published_as_a_whole(world: World) -> None:
    plan = compiled()
    await world.directory.publish_systems({"full": plan})
    first = await world.directory.snapshot()
    assert first.systems == {"full": plan}
    await world.directory.publish_systems({"full": plan})
    assert (await world.directory.snapshot()).generation == first.generation
    await world.directory.publish_systems({})
    assert (await world.directory.snapshot()).systems == {}


# ---- real connections ------------------------------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[tuple[grpc.aio.Server, str, health_aio.HealthServicer]]:
    health = health_aio.HealthServicer()
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    yield server, f"127.0.0.1:{port}", health
    await server.stop(0)


Served = tuple[grpc.aio.Server, str, health_aio.HealthServicer]


async def test_a_server_answers_while_it_serves(server: Served) -> None:
    running, address, health = server
    assert await answers(address)
    await health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert not await answers(address)
    await running.stop(0)
    assert not await answers(address)


async def test_a_broken_connection_is_noticed_without_traffic(server: Served) -> None:
    running, address, _ = server
    directory = Directory(watch=disconnected)
    await directory.register(Entry("a", "see", address))
    await asyncio.sleep(0.3)
    assert len((await directory.snapshot()).entries) == 1
    await running.stop(0)

    async def gone() -> bool:
        return not (await directory.snapshot()).entries

    took_s = await until(gone)
    print(f"figure: a closed connection left the directory after {took_s * 1000:.0f} ms")
    assert took_s < 5.0
    await until(lambda: not directory._watches)


async def test_deregistering_ends_the_watch(server: Served) -> None:
    _, address, _ = server
    directory = Directory(watch=disconnected)
    await directory.register(Entry("a", "see", address))
    await directory.deregister("a")
    await until(lambda: not directory._watches)


# ---- the callers' side -----------------------------------------------------------------------------------


async def test_routes_wake_whoever_waits() -> None:
    routes = Routes((A,))
    waiting = asyncio.create_task(routes.changed(10.0))
    await asyncio.sleep(0)
    routes.update(Snapshot(entries=(A, B)))
    assert await waiting is True
    assert await routes.changed(0.01) is False


async def test_routes_leave_out_what_was_lost() -> None:
    routes = Routes((A, B))
    await routes.report_lost("a:1")
    assert routes.snapshot.of("see") == [B]
    generation = routes.snapshot.generation
    await routes.report_lost("a:1")
    assert routes.snapshot.generation == generation
