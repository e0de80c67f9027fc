"""Which replica serves which versions, and where: versioned snapshots that callers long-poll.

``Directory`` is plain asyncio and is tested as such; ``services.runtime.cluster`` makes a named Ray actor of it. It
is soft state: callers keep their last snapshot when it is gone, and replicas fill a new one by their heartbeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from graph.plan import Place, SystemPlan
from services.runtime.live_sets import Attendance, Gateways, LiveSets, Stamp
from services.runtime.tally import Compared

HEARTBEAT_S = 1.0
EXPIRE_S = 5.0
# A process that is gone refuses at once; one that only is busy gets this long.
PROBE_S = 2.0
WATCH_PAUSE_S = 0.5
ATTENDANCE_S = 0.25


@dataclass(frozen=True)
class Entry:
    """One replica.

    Attributes:
        replica_id: Unique for the life of the replica.
        component: Component it belongs to.
        address: host:port of its gRPC server.
        metrics_address: host:port of its metrics; "" for none.
        versions: Artifact versions it holds, adapters included.
        card: Serialized ``ContractCard``.
        static: Started by hand: stays listed by configuration, and comes back when it answers again.
    """

    replica_id: str
    component: str
    address: str
    metrics_address: str = ""
    versions: frozenset[str] = frozenset()
    card: bytes = b""
    static: bool = False


@dataclass(frozen=True)
class Snapshot:
    """What the directory knew at one moment.

    Attributes:
        epoch: Changes when the directory restarts.
        generation: Grows with every change.
        entries: Every replica that is alive.
        systems: Live plans by system name.
        kept: Plans by system name whose versions stay loaded beside the live ones.
        leaving: Versions that are about to be dropped: no request may be pinned to them.
    """

    epoch: str = ""
    generation: int = 0
    entries: tuple[Entry, ...] = ()
    systems: dict[str, SystemPlan] = field(default_factory=dict)
    kept: dict[str, tuple[SystemPlan, ...]] = field(default_factory=dict)
    leaving: frozenset[Place] = frozenset()

    @property
    def stamp(self) -> Stamp:
        """Which snapshot this is."""
        return self.epoch, self.generation

    def sets(self, system: str) -> tuple[SystemPlan, ...]:
        """Return the plans of a system that requests may be pinned to, the live one first."""
        live = self.systems.get(system)
        return () if live is None else (live, *self.kept.get(system, ()))

    def of(self, component: str) -> list[Entry]:
        """Return the replicas of a component."""
        return [entry for entry in self.entries if entry.component == component]


async def answers(address: str, timeout_s: float = PROBE_S) -> bool:
    """Return whether a gRPC server at an address says that it serves."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)  # type: ignore[attr-defined]
        except grpc.aio.AioRpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


async def disconnected(address: str) -> None:
    """Hold a connection to an address; return when it breaks, or cannot be made."""
    async with grpc.aio.insecure_channel(address) as channel:
        state = channel.get_state(try_to_connect=True)
        connected = False
        while True:
            await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.READY:
                connected = True
            elif connected or state is not grpc.ChannelConnectivity.CONNECTING:
                return


class Directory:
    """Keeps the entries, drops those that stopped answering, wakes whoever waits for a change.

    Args:
        probe: Returns whether a server at an address still answers.
        clock: Monotonic clock.
        watch: Returns when the connection to an address breaks; without one, callers and silence tell.
    """

    def __init__(
        self,
        probe: Callable[[str], Awaitable[bool]] = answers,
        clock: Callable[[], float] = time.monotonic,
        watch: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._probe = probe
        self._clock = clock
        self._watch = watch
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._entries: dict[str, Entry] = {}
        self._seen_s: dict[str, float] = {}
        self._lost_static: dict[str, Entry] = {}
        self._sets = LiveSets()
        self._gateways = Gateways(clock)
        self._probing: dict[str, asyncio.Task[bool]] = {}
        self._epoch = uuid.uuid4().hex
        self._generation = 0
        self._changed = asyncio.Event()
        self._attended = asyncio.Event()

    async def register(self, entry: Entry) -> str:
        """List a replica, or renew what is known about it; returns the epoch."""
        self._seen_s[entry.replica_id] = self._clock()
        if self._entries.get(entry.replica_id) != entry:
            # A port that is in use again belongs to whoever registered last: its earlier owner is gone.
            for other in [e for e in self._entries.values() if e.address == entry.address]:
                if other.replica_id != entry.replica_id:
                    self._drop(other.replica_id)
            self._entries[entry.replica_id] = entry
            self._bump()
            self._follow(entry)
        return self._epoch

    def _follow(self, entry: Entry) -> None:
        if self._watch is not None and entry.replica_id not in self._watches:
            self._watches[entry.replica_id] = asyncio.create_task(self._keep_watch(entry, self._watch))

    async def _keep_watch(self, entry: Entry, watch: Callable[[str], Awaitable[None]]) -> None:
        try:
            while entry.replica_id in self._entries:
                await watch(entry.address)
                if entry.replica_id in self._entries and await self.report_lost(entry.address):
                    await asyncio.sleep(WATCH_PAUSE_S)
        finally:
            self._watches.pop(entry.replica_id, None)

    async def deregister(self, replica_id: str) -> None:
        """Take a replica out of the routing; its calls in flight go on."""
        self._drop(replica_id)

    async def heartbeat(self, replica_id: str) -> bool:
        """Note that a replica lives; False asks it to register again."""
        if replica_id not in self._entries:
            return False
        self._seen_s[replica_id] = self._clock()
        return True

    async def report_lost(self, address: str) -> bool:
        """Check a replica that somebody lost the connection to, and drop it if it does not answer.

        Returns whether it still answers.
        """
        entry = next((entry for entry in self._entries.values() if entry.address == address), None)
        if entry is None:
            return False
        probing = self._probing.get(address)
        if probing is None:
            probing = self._probing[address] = asyncio.create_task(self._probe_of(address))
            probing.add_done_callback(lambda _: self._forget_probe(address))
        # Shielded: several may wait for one probe, and one that gives up must not end it for the others.
        alive = await asyncio.shield(probing)
        if not alive and self._entries.get(entry.replica_id) == entry:
            self._lose(entry)
        return alive

    async def _probe_of(self, address: str) -> bool:
        return await self._probe(address)

    def _forget_probe(self, address: str) -> None:
        self._probing.pop(address, None)

    async def publish_systems(self, systems: dict[str, SystemPlan]) -> None:
        """Set the plans that gateways run (the whole set); a newer generation that is live stays."""
        if self._sets.publish(systems):
            self._bump()

    async def restore(
        self, systems: dict[str, SystemPlan], kept: dict[str, tuple[SystemPlan, ...]], leaving: frozenset[Place]
    ) -> None:
        """Hear from a gateway what was known before this directory started."""
        if self._sets.restore(systems, kept, leaving):
            self._bump()

    async def keep(self, system: str, plans: tuple[SystemPlan, ...]) -> Stamp:
        """Set the plans whose versions replicas load beside the live ones, from their start on."""
        if self._sets.kept.get(system, ()) != plans:
            self._sets.kept[system] = plans
            self._gateways.forget(self._sets.canaries)
            self._bump()
        return self._epoch, self._generation

    async def flip(self, plan: SystemPlan, expected: int, kept: tuple[SystemPlan, ...]) -> Stamp | None:
        """Make a plan live where the generation expected is; None where another one is."""
        if not self._sets.flip(plan, expected, kept):
            return None
        self._bump()
        return self._epoch, self._generation

    async def leave(self, places: frozenset[Place]) -> Stamp:
        """Set the versions that no request may be pinned to any more (all of them)."""
        if self._sets.leaving != places:
            self._sets.leaving = places
            self._bump()
        return self._epoch, self._generation

    async def compared(self, rollout: str) -> Compared:
        """Return what gateways have seen of a canary, and of the live set meanwhile."""
        return self._gateways.compared(rollout)

    async def behind(self, stamp: Stamp, timeout_s: float) -> list[str]:
        """Wait until every gateway has taken a snapshot over; returns those that have not."""
        return await self._attendance(lambda: self._behind(stamp), timeout_s)

    async def busy(self, stamp: Stamp, places: frozenset[Place], timeout_s: float) -> list[str]:
        """Wait until no gateway has a request that needs one of these places; returns what is in the way."""

        def busy() -> list[str]:
            return self._behind(stamp) or (["requests"] if self._gateways.needs(places) else [])

        return await self._attendance(busy, timeout_s)

    def _behind(self, stamp: Stamp) -> list[str]:
        epoch, generation = stamp
        return self._gateways.behind(generation) if epoch == self._epoch else ["the directory, which restarted"]

    async def _attendance(self, waiting_for: Callable[[], list[str]], timeout_s: float) -> list[str]:
        give_up_s = self._clock() + timeout_s
        while (found := waiting_for()) and (left_s := give_up_s - self._clock()) > 0:
            # Looked at again even when nobody comes: a gateway that is gone says nothing.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, ATTENDANCE_S)):
                    await self._attended.wait()
        return found

    async def snapshot(self) -> Snapshot:
        """Return what is known now."""
        sets = self._sets
        entries = tuple(self._entries.values())
        return Snapshot(self._epoch, self._generation, entries, dict(sets.systems), dict(sets.kept), sets.leaving)

    async def wait(
        self, epoch: str, generation: int, timeout_s: float = 30.0, attendance: Attendance | None = None
    ) -> Snapshot:
        """Return a snapshot newer than the one named, or the same one after ``timeout_s``.

        Gateways say who they are: whoever asks for what is newer than a snapshot has taken that one over.
        """
        if attendance is not None:
            self._gateways.attend(attendance, generation if epoch == self._epoch else -1)
            self._attended.set()
            self._attended = asyncio.Event()
        if epoch == self._epoch and generation == self._generation:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return await self.snapshot()

    async def sweep(self) -> None:
        """Check replicas that have been silent for long, and those started by hand that were lost."""
        now = self._clock()
        silent = [e for e in self._entries.values() if not e.static and now - self._seen_s[e.replica_id] > EXPIRE_S]
        for entry in silent:
            if await self.report_lost(entry.address) and entry.replica_id in self._entries:
                self._seen_s[entry.replica_id] = now
        for entry in [e for e in self._entries.values() if e.static]:
            await self.report_lost(entry.address)
        for entry in list(self._lost_static.values()):
            if await self._probe(entry.address):
                del self._lost_static[entry.replica_id]
                await self.register(entry)

    def _lose(self, entry: Entry) -> None:
        if entry.static:
            self._lost_static[entry.replica_id] = entry
        self._drop(entry.replica_id)

    def _drop(self, replica_id: str) -> None:
        self._seen_s.pop(replica_id, None)
        watching = self._watches.pop(replica_id, None)
        if watching is not None and watching is not asyncio.current_task():
            watching.cancel()
        if self._entries.pop(replica_id, None) is not None:
            self._bump()

    def _bump(self) -> None:
        self._generation += 1
        self._changed.set()
        self._changed = asyncio.Event()


class Routes:
    """The callers' side: the last snapshot, and a way to wait for the next.

    Subclasses know how to reach a directory. This one has none: its entries are given, and lost ones stay out.
    """

    def __init__(self, entries: tuple[Entry, ...] = ()) -> None:
        self.snapshot = Snapshot(entries=entries)
        self._changed = asyncio.Event()

    def update(self, snapshot: Snapshot) -> None:
        """Take over a snapshot and wake whoever waits."""
        self.snapshot = snapshot
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, timeout_s: float) -> bool:
        """Wait until the snapshot changes; returns False when it did not within ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def report_lost(self, address: str) -> None:
        """Take a replica out after its connection was lost."""
        entries = tuple(entry for entry in self.snapshot.entries if entry.address != address)
        if entries != self.snapshot.entries:
            self.update(replace(self.snapshot, entries=entries, generation=self.snapshot.generation + 1))

    async def wake(self, component: str) -> None:
        """Ask for a replica of a component that has none."""
