"""A seeded world of replicas, gateways and clients around the real directory, routes, pinning and coordinator.

Time is virtual. A seed decides how long every message takes, which are lost, who is killed or restarted and when, and
what is swapped; the same seed is the same schedule.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import selectors
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray.exceptions

from benchmarks._simulated import SYSTEM, Gateway, Replica, Simulated
from graph.compile import compile_system
from graph.errors import AnyplexError, FailedPrecondition, Unavailable
from graph.plan import ComponentPlan, SystemPlan
from graph.profile import Profile
from graph.spec import find_system
from graph.validate import load_system
from services.control.coordinator import Coordinator
from services.control.gates import GateSpec
from services.control.ports import Patience, Ports
from services.control.rollouts import LIVE, NOT_ENDED, RolloutLog
from services.gateway.pinning import Pinning
from services.runtime.component import Held
from services.runtime.directory import Directory
from services.runtime.live_sets import held_by

Result = TypeVar("Result")

CLIENTS = 4
FAULTS = ("kill replica", "scale up", "kill gateway", "kill control", "restart directory")
PATIENCE = Patience(load_s=40.0, launch_s=40.0, flip_s=8.0, drain_s=20.0, pause_s=0.2, losses=6)
QUIET_S = 90.0
GATE = GateSpec(min_requests=5, max_wait_s=30.0, error_increase=1.0, latency_ratio=100.0)
"""Canaries are promoted when both sets were asked, or rolled back after a while: either is an end."""

LONGEST_S = 5000.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to whatever happens next."""

    def __init__(self) -> None:
        self._now_s = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        """Return the virtual time."""
        return self._now_s

    def jump(self, by_s: float) -> None:
        """Let time pass."""
        self._now_s += by_s


class _Jump(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen again")
        self._loop.jump(max(0.0, timeout))
        return []


@dataclass
class Outcome:
    """What one schedule came to.

    Attributes:
        requests: Requests that were answered.
        mixed: Those that no single version set can have answered.
        lost: Those that failed although somebody could have answered them.
        flips: Generations that became live.
        ended: "" when the world came to rest in exactly one set; else what is wrong.
        faults: What was done to it.
    """

    requests: int = 0
    mixed: int = 0
    lost: int = 0
    flips: int = 0
    ended: str = ""
    faults: Counter[str] = field(default_factory=Counter)
    why: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.mixed or self.lost or self.ended)


class World:
    """One schedule.

    Args:
        seed: Decides everything.
        coordinator: Makes coordinators; one with a planted bug finds out whether the world would notice.
        pinning: Makes the pinning of a gateway; the same.
    """

    def __init__(
        self,
        seed: int,
        coordinator: Callable[..., Coordinator] = Coordinator,
        pinning: Callable[..., Pinning] = Pinning,
    ) -> None:
        self.rng = random.Random(seed)
        self.outcome = Outcome()
        self.loss = self.rng.choice((0.0, 0.0, 0.02, 0.1))
        self.slow = self.rng.choice((0.01, 0.05, 0.3))
        self.quiet = False
        self.spec = load_system(find_system(SYSTEM))
        self.plan = self._plan(1)
        self.sets = [dict(self.plan.versions)]
        self.broken: set[str] = set()
        self.architectures: dict[str, str] = {}
        self.replicas: dict[str, Replica] = {}
        self.started = 0
        self.directory = self._new_directory()
        self._make_coordinator, self._make_pinning = coordinator, pinning
        self.log = RolloutLog(lambda: asyncio.get_running_loop().time())
        self.gateways: list[Gateway] = []
        self.suites: dict[str, dict[str, float]] = {}
        self.plans: dict[str, ComponentPlan] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- the world -------------------------------------------------------------------------------------------

    def _plan(self, number: int) -> SystemPlan:
        versions = {slot: f"{slot}-{number}" for slot in self.spec.slots()}
        architectures = {slot: f"architecture of {slot}" for slot in versions}
        return compile_system(self.spec, Profile("simulated"), versions, architectures)

    def _new_directory(self) -> Directory:
        async def answers(address: str) -> bool:
            await self.delay()
            return any(replica.entry.address == address for replica in self.replicas.values())

        return Directory(answers, lambda: asyncio.get_running_loop().time())

    def spawn(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """Let something go on by itself until the end of the world."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def delay(self) -> None:
        """Take as long as a message takes."""
        await asyncio.sleep(self.rng.expovariate(1 / self.slow))

    async def carry(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Carry a call there and its answer back; either may be lost.

        Raises:
            Unavailable: One was lost.
        """
        await self.delay()
        if not self.quiet and self.rng.random() < self.loss:
            raise Unavailable("the call was lost")
        result = await call()
        await self.delay()
        if not self.quiet and self.rng.random() < self.loss:
            raise Unavailable("the answer was lost")
        return result

    async def tell_directory(self, method: str, *arguments: object) -> Any:  # noqa: ANN401 - any method
        """Call the directory there is then, as an actor handle does."""
        try:
            return await self.carry(lambda: getattr(self.directory, method)(*arguments))
        except Unavailable as error:
            raise ray.exceptions.RayActorError from error

    async def start_replica(self, component: str, held: tuple[Held, ...]) -> None:
        """Start a replica."""
        self.started += 1
        replica = Replica(self, f"r{self.started}", component)
        await replica.start(held)

    # ---- ports of the coordinator ----------------------------------------------------------------------------

    def control(self) -> Coordinator:
        """Return a control service that has just started."""
        world = Simulated(self)
        return self._make_coordinator(Ports(world, world, world, world, world), self.log, PATIENCE)

    # ---- what happens ----------------------------------------------------------------------------------------

    async def run(self) -> Outcome:
        """Let everything happen, then wait until it has come to rest, and look at it."""
        for node in self.plan.nodes:
            for _ in range(2):
                if len([r for r in self.replicas.values() if r.component == node.component]) < 2:
                    await self.start_replica(node.component, held_by(node.component, [self.plan]))
        await self.directory.publish_systems({SYSTEM: self.plan})
        self.spawn(self._sweep())
        for _ in range(2):
            await self.start_gateway()
        clients = [self.spawn(self._client(number)) for number in range(CLIENTS)]
        await self._happen()
        self.quiet = True
        await asyncio.sleep(3.0)
        for client in clients:
            client.cancel()
        await self._rest()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return self.outcome

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self.directory.sweep()

    async def start_gateway(self) -> None:
        """Start a gateway."""
        gateway = Gateway(self, self._make_pinning)
        await gateway.start()
        self.gateways.append(gateway)

    async def _happen(self) -> None:
        self.current = control = self.control()
        tending = self.spawn(self._tend())
        changing = self.spawn(self._swap(control))
        for _ in range(self.rng.randrange(1, 5)):
            await asyncio.sleep(self.rng.uniform(0.0, 8 * self.slow + 1.0))
            fault = self.rng.choice(FAULTS)
            self.outcome.faults[fault] += 1
            if fault == "kill control":
                changing.cancel()
                await asyncio.gather(changing, return_exceptions=True)
                tending.cancel()
                self.current = control = self.control()
                tending = self.spawn(self._tend())
                changing = self.spawn(self._restarted(control))
            elif fault == "kill gateway":
                self.gateways.pop(self.rng.randrange(len(self.gateways))).kill()
                await self.start_gateway()
            elif fault == "restart directory":
                self.directory = self._new_directory()
            else:
                victim = self.rng.choice(sorted(self.replicas)) if self.replicas else ""
                if victim:
                    component = self.replicas[victim].component
                    if fault == "kill replica":
                        self.replicas[victim].kill()
                    self.spawn(self.start_replica(component, held_by(component, [self.plan])))
            if self.rng.random() < 0.4 and changing.done():
                changing = self.spawn(self._swap(control))
        await asyncio.gather(changing, return_exceptions=True)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(2.0)
            with contextlib.suppress(AnyplexError):
                await self.current.tend()

    async def _restarted(self, control: Coordinator) -> None:
        with contextlib.suppress(AnyplexError):
            await control.resume()
        if self.rng.random() < 0.5:
            await self._swap(control)

    async def _swap(self, control: Coordinator) -> None:
        number = len(self.sets) + 1
        live = next(iter((await self.directory.snapshot()).systems.values()), self.plan)
        slots = self.rng.sample(sorted(live.versions), self.rng.randrange(1, len(live.versions) + 1))
        changes = {slot: f"{slot}-{number}" for slot in slots}
        if self.rng.random() < 0.2:
            self.broken.add(changes[slots[0]])
        if self.rng.random() < 0.2:
            self.architectures[changes[slots[0]]] = f"architecture {number}"
        self.sets.append({**live.versions, **changes})
        try:
            if self.rng.random() < 0.25 and self.log.all():
                await control.roll_back(SYSTEM)
            elif self.rng.random() < 0.3:
                await control.swap(SYSTEM, changes, canary=self.rng.choice((0.05, 0.5, 1.0)), gate=GATE)
            else:
                await control.swap(SYSTEM, changes)
        except AnyplexError:
            return

    async def _client(self, number: int) -> None:
        turn = 0
        while True:
            turn += 1
            gateway = self.rng.choice(self.gateways)
            session = f"{number}-{turn // 4}" if number % 2 else ""
            try:
                answered = await gateway.answer(session)
            except AnyplexError as error:
                if not gateway.dead:
                    self.outcome.lost += 1
                    self.outcome.why.append(str(error))
                continue
            if not gateway.dead:
                self.outcome.requests += 1
                self.outcome.mixed += answered not in self._known_sets()
            await asyncio.sleep(self.rng.uniform(0.0, 0.3))

    def _known_sets(self) -> list[dict[str, str]]:
        written = [dict(side) for rollout in self.log.all() for side in (rollout.before, rollout.after)]
        return [self.sets[0], *written]

    async def _rest(self) -> None:
        """Wait until everybody is of one mind, and say who is not."""
        give_up_s = asyncio.get_running_loop().time() + QUIET_S
        while (wrong := await self._wrong()) and asyncio.get_running_loop().time() < give_up_s:  # noqa: ASYNC110
            await asyncio.sleep(1.0)
        self.outcome.ended = wrong
        self.outcome.flips = sum(rollout.state == LIVE for rollout in self.log.all())

    async def _wrong(self) -> str:
        snapshot = await self.directory.snapshot()
        live = snapshot.systems.get(SYSTEM)
        if live is None:
            return "the directory knows no live set"
        if dict(live.versions) not in self._known_sets():
            return f"a set is live that nobody asked for: {dict(live.versions)}"
        if any(rollout.state in NOT_ENDED for rollout in self.log.all()):
            return "a rollout never ended"
        if any(gateway.routes.snapshot.systems.get(SYSTEM) != live for gateway in self.gateways):
            return "a gateway has another set"
        for node in live.nodes:
            entries = snapshot.of(node.component)
            ref = node.version(live.versions)
            if not entries or any(not {ref.version, ref.adapter} - {""} <= entry.versions for entry in entries):
                return f"replicas of {node.name} do not hold the live set"
        return ""


async def _run(seed: int, planted: dict[str, Any]) -> Outcome:
    async with asyncio.timeout(LONGEST_S):
        return await World(seed, **planted).run()


def run(seed: int, **planted: Any) -> Outcome:  # noqa: ANN401 - as of World
    """Run one schedule.

    Raises:
        FailedPrecondition: It did not end.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        try:
            return runner.run(_run(seed, planted))
        except TimeoutError as error:
            raise FailedPrecondition(f"schedule {seed} never ended") from error
