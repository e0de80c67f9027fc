"""Replicas, gateways and ports of the simulated world: the real bookkeeping, over its messages."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import ray.exceptions

from graph.caller import Call
from graph.errors import AnyplexError, FailedPrecondition, NotFound, Unavailable
from graph.messages import VersionRef
from graph.plan import ComponentPlan
from graph.replan import VersionInfo
from services.gateway.canaries import CanaryCounts
from services.gateway.pinning import Pinning
from services.runtime.cluster import ClusterRoutes, Registration
from services.runtime.component import Held
from services.runtime.directory import Entry
from services.runtime.live_sets import wanted_of
from services.runtime.routing import Router

SYSTEM = "llava-1.5"

if TYPE_CHECKING:
    from benchmarks._simulation import World


class Actor:
    """What looks like a handle of the directory's actor."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401 - any method
        """Return something to call ``remote`` on."""
        return _Method(self._world, method)


class _Method:
    def __init__(self, world: World, name: str) -> None:
        self._world, self._name = world, name

    def remote(self, *arguments: object) -> Any:  # noqa: ANN401 - whatever the method returns
        return self._world.tell_directory(self._name, *arguments)


class SimulatedRoutes(ClusterRoutes):
    """The routes of a gateway, whose directory is in the world."""

    def __init__(self, actor: Actor) -> None:
        super().__init__(keep_systems=True)
        self._simulated = actor

    async def _connect(self) -> Any:  # noqa: ANN401 - as of the actor
        return self._simulated

    async def wake(self, component: str) -> None:
        """Nothing sleeps here."""

    def kill(self) -> None:
        """Follow no more, without a word."""
        if self._task is not None:
            self._task.cancel()


class _Listing(Registration):
    def __init__(self, entry: Entry, actor: Actor) -> None:
        super().__init__(entry)
        self._simulated = actor

    async def _connect(self) -> Any:  # noqa: ANN401 - as of the actor
        return self._simulated

    def kill(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Replica:
    """A replica: holds versions, serves them, may be killed at any moment.

    Args:
        world: Where it lives.
        name: Its id.
        component: Its component.
    """

    def __init__(self, world: World, name: str, component: str) -> None:
        self.world = world
        self.component = component
        self.held: set[str] = set()
        self.in_use: Counter[str] = Counter()
        self.dead = asyncio.Event()
        self.entry = Entry(name, component, f"{name}:1")
        self.listing: _Listing | None = None

    async def start(self, deployed: tuple[Held, ...]) -> None:
        """Load what is wanted, as a host does, and be listed."""
        live, kept = await self._wanted()
        self.held = {held.version for held in live or deployed}
        await self._load_all(kept)
        self.world.replicas[self.entry.replica_id] = self
        self.listing = _Listing(self._entry(), Actor(self.world))
        while True:
            try:
                await self.listing.start()
            except ray.exceptions.RayError:
                continue
            break
        await self._load_all(sum(await self._wanted(), ()))

    async def _wanted(self) -> tuple[tuple[Held, ...], tuple[Held, ...]]:
        try:
            snapshot = await self.world.tell_directory("snapshot")
        except ray.exceptions.RayError:
            return (), ()
        return wanted_of(self.component, snapshot.systems, snapshot.kept)

    async def _load_all(self, wanted: tuple[Held, ...]) -> None:
        for held in wanted:
            with contextlib.suppress(AnyplexError):
                await self.load(held)

    def _entry(self) -> Entry:
        return Entry(self.entry.replica_id, self.component, self.entry.address, versions=frozenset(self.held))

    async def load(self, held: Held) -> None:
        """Load a version, and say so; goes on when whoever asked is gone."""
        await asyncio.shield(self.world.spawn(self._load(held)))

    async def _load(self, held: Held) -> None:
        await self.world.delay()
        self._alive()
        if held.version in self.world.broken:
            raise FailedPrecondition(f"artifact {held.version} is damaged")
        self.held.add(held.version)
        await self._renew()

    async def unload(self, version: str) -> None:
        """Say that a version leaves, and drop it when its last request has; goes on when whoever asked is gone."""
        await asyncio.shield(self.world.spawn(self._unload(version)))

    async def _unload(self, version: str) -> None:
        self._alive()
        self.held.discard(version)
        await self._renew()
        while self.in_use[version]:  # noqa: ASYNC110 - time is virtual, nobody waits
            await asyncio.sleep(0.05)

    async def _renew(self) -> None:
        if self.listing is None:
            return
        try:
            await self.listing.renew(self._entry())
        except ray.exceptions.RayError as error:
            raise Unavailable("the directory does not answer") from error

    async def serve(self, ref: VersionRef) -> None:
        """Answer one call."""
        self._alive()
        wanted = {ref.version, ref.adapter} - {""}
        if not wanted <= self.held:
            raise FailedPrecondition(f"{self.component} {self.entry.replica_id} does not hold {sorted(wanted)}")
        self.in_use.update(wanted)
        try:
            await self.world.delay()
            self._alive()
        finally:
            self.in_use.subtract(wanted)

    def _alive(self) -> None:
        if self.dead.is_set():
            raise Unavailable("the replica was killed")

    def kill(self) -> None:
        """Be gone at once; the directory hears of it from whoever loses it."""
        self.dead.set()
        self.world.replicas.pop(self.entry.replica_id, None)
        if self.listing is not None:
            self.listing.kill()


class Gateway:
    """A gateway: real routes, pinning and router; its calls go through the world."""

    def __init__(self, world: World, pinning: Callable[..., Pinning]) -> None:
        self.world = world
        self.routes = SimulatedRoutes(Actor(world))
        self.pinning = pinning(self.routes)
        self.routes.in_use = self.pinning.in_use
        self.canaries = CanaryCounts(self.routes)
        self.routes.compared = self.canaries.compared
        self.number, self.asked = len(world.gateways) + world.rng.randrange(10**9), 0
        self.router = Router(self.routes, 1e9)
        self.dead = False

    async def start(self) -> None:
        """Follow the directory."""
        while True:
            try:
                await self.routes.start()
            except ray.exceptions.RayError:
                continue
            return

    def kill(self) -> None:
        """Be gone at once."""
        self.dead = True
        self.routes.kill()

    async def answer(self, session: str) -> dict[str, str]:
        """Answer a request; returns which version answered in each slot.

        Raises:
            AnyplexError: It was lost.
        """
        while SYSTEM not in self.routes.snapshot.systems:
            await self.routes.changed(1.0)
        self.asked += 1
        live = self.routes.snapshot.systems[SYSTEM]
        pin = self.pinning.pin(live, "somebody", session, {}, f"{self.number} {self.asked}")
        begun_s = asyncio.get_running_loop().time()
        found: dict[str, str] = {}
        try:
            for node in pin.plan.nodes:
                ref = node.version(pin.versions)
                call = Call("r", node.name, node.component, ref, session_id=session)
                await self._served(call)
                if self.world.rng.random() < 0.05:
                    # A long answer: swaps begin and end while it is given.
                    await asyncio.sleep(self.world.rng.uniform(0.0, 10.0))
                found[node.slot] = ref.version
                if node.adapter_slot:
                    found[node.adapter_slot] = ref.adapter
            self.canaries.note(pin, asyncio.get_running_loop().time() - begun_s, None)
        finally:
            self.pinning.release(pin)
        return found

    async def _served(self, call: Call) -> None:
        tried: list[str] = []
        while True:
            entry = await self.router.pick(call, tried)
            replica = self.world.replicas.get(entry.replica_id)
            try:
                await self.world.delay()
                if replica is None:
                    raise Unavailable("the replica is gone")
                await replica.serve(call.version)
            except Unavailable:
                tried.append(entry.replica_id)
                await self.routes.report_lost(entry.address)
                if self.router.choose(call, tried) is None:
                    await asyncio.sleep(0.2)
                    tried.clear()
                continue
            return


class Simulated:
    """What the coordinator asks of the world, which may lose it."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __getattr__(self, method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return a method of the directory."""

        async def call(*arguments: object) -> Any:  # noqa: ANN401 - any method
            return await self.world.carry(lambda: getattr(self.world.directory, method)(*arguments))

        return call

    async def wake(self, component: str) -> None:
        """Nothing sleeps here."""

    def _replica(self, entry: Entry) -> Replica:
        replica = self.world.replicas.get(entry.replica_id)
        if replica is None:
            raise Unavailable("the replica is gone")
        return replica

    async def load(self, entry: Entry, held: Held) -> None:
        """Load a version."""
        await self.world.carry(lambda: self._replica(entry).load(held))

    async def unload(self, entry: Entry, version: str) -> None:
        """Drop a version."""
        await self.world.carry(lambda: self._replica(entry).unload(version))

    async def describe(self, version: str) -> VersionInfo:
        """Say what an artifact is: its slot stands in its name."""
        slot = version.rpartition("-")[0]
        node = next(n for n in self.world.plan.nodes if slot in (n.slot, n.adapter_slot))
        if slot == node.adapter_slot:
            return VersionInfo(version, "adapter", "lora", "")
        architecture = self.world.architectures.get(version, node.architecture)
        return VersionInfo(version, node.kind, node.type, architecture)

    async def ask(self, suite: str, system: str, versions: Mapping[str, str], cases: int) -> Mapping[str, float]:
        """Return what the world says of a suite."""
        if suite not in self.world.suites:
            raise NotFound(f"no suite {suite}")
        return self.world.suites[suite]

    async def launch(self, plan: ComponentPlan) -> None:
        """Start a component with one replica."""
        if plan.id not in self.world.plans:
            self.world.plans[plan.id] = plan
            self.world.spawn(self.world.start_replica(plan.id, ()))

    async def problem(self, component: str) -> str:
        """Every component starts."""
        return ""

    async def running(self) -> frozenset[str]:
        """Return the components that were started by a swap."""
        return frozenset(self.world.plans)

    async def remove(self, component: str) -> None:
        """Take a component away."""
        self.world.plans.pop(component, None)
        for replica in [r for r in self.world.replicas.values() if r.component == component]:
            replica.kill()
