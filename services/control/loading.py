"""Loading what a plan needs on every replica there is, and dropping what no plan needs any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from graph.compile import merge_components
from graph.errors import AnyplexError, DeadlineExceeded, FailedPrecondition, Unavailable
from graph.plan import Place, SystemPlan
from services.control.ports import ComponentsPort, DirectoryPort, Patience, ReplicasPort
from services.runtime.live_sets import held_by, places_of

if TYPE_CHECKING:
    from services.runtime.component import Held
    from services.runtime.directory import Entry, Snapshot

Result = TypeVar("Result")
SLICE_S = 0.1


async def answered(call: Callable[[], Awaitable[Result]], patience: Patience) -> Result:
    """Ask the directory, which may be restarting; once more for each loss that is allowed.

    Raises:
        Unavailable: It does not answer.
    """
    for left in reversed(range(patience.losses + 1)):
        try:
            return await call()
        except Unavailable:
            if not left:
                raise
            await asyncio.sleep(patience.pause_s)
    raise Unavailable("the directory does not answer")


def components_of(plan: SystemPlan) -> tuple[str, ...]:
    """Return the components that serve a plan."""
    return tuple(dict.fromkeys(node.component for node in plan.nodes))


def every_plan(snapshot: Snapshot) -> list[SystemPlan]:
    """Return the plans of all systems that requests may be pinned to."""
    return [plan for system in snapshot.systems for plan in snapshot.sets(system)]


class Loader:
    """Loads and drops versions.

    Args:
        directory: Which replicas there are.
        replicas: How they are told.
        components: How components are started and removed.
        patience: How long it may take.
    """

    def __init__(
        self, directory: DirectoryPort, replicas: ReplicasPort, components: ComponentsPort, patience: Patience
    ) -> None:
        self._directory = directory
        self._replicas = replicas
        self._components = components
        self._patience = patience

    async def load(self, target: SystemPlan, live: SystemPlan | None) -> Snapshot:
        """Load every version of a plan on every replica, starting components that are missing; returns what is then.

        Raises:
            FailedPrecondition: A version is damaged or does not compute what it should, a component does not start.
            Exhausted: There is no memory for it.
            Unavailable: Replicas are lost again and again while they load.
            DeadlineExceeded: It takes too long.
        """
        there = await self._components.running() if live is None else frozenset(components_of(live))
        new = set(components_of(target)) - there
        for plan in merge_components([target]):
            if plan.id in new:
                await self._components.launch(plan)
        timeout_s = self._patience.launch_s if new else self._patience.load_s
        missing = ["everything"]
        try:
            async with asyncio.timeout(timeout_s):
                return await self._load_everywhere(target, new, missing)
        except TimeoutError as error:
            told = f"not loaded after {timeout_s:.0f} s: {', '.join(missing)}"
            raise DeadlineExceeded(told) from error

    async def _load_everywhere(self, target: SystemPlan, new: set[str], missing: list[str]) -> Snapshot:
        losses = 0
        while True:
            snapshot = await answered(self._directory.snapshot, self._patience)
            lacking = _lacking(snapshot, target)
            absent = _absent(snapshot, target, new)
            missing[:] = [*absent, *(entry.component for entry, _ in lacking)]
            if not missing:
                return snapshot
            for component in absent:
                if problem := await self._components.problem(component):
                    raise FailedPrecondition(problem, f"component {component}")
                if component not in new:
                    await self._directory.wake(component)
            results = await asyncio.gather(*(self._load_one(*one) for one in lacking), return_exceptions=True)
            for result in results:
                if isinstance(result, Unavailable):
                    losses += 1
                    if losses > self._patience.losses:
                        raise Unavailable(f"{losses} replicas were lost while they loaded") from result
                elif isinstance(result, BaseException):
                    raise result
            await asyncio.sleep(self._patience.pause_s)

    async def _load_one(self, entry: Entry, lacking: list[Held]) -> None:
        for held in lacking:
            await self._replicas.load(entry, held)

    async def heal(self, snapshot: Snapshot, plan: SystemPlan) -> None:
        """Load what replicas lack of a plan that is live already; what cannot be loaded now is tried the next time."""
        lacking = _lacking(snapshot, plan)
        for result in await asyncio.gather(*(self._load_one(*one) for one in lacking), return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, AnyplexError):
                raise result

    async def retire(
        self, known: frozenset[str], spare: frozenset[str], impatient: Callable[[], bool]
    ) -> list[str]:  # fmt: skip
        """Drop what no plan needs: first from the gateways' choice, then, when no request needs it, from memory.

        Args:
            known: Versions that swaps have brought or replaced; others are left alone.
            spare: Components that swaps have brought or replaced.
            impatient: Whether somebody waits for this to end.

        Returns:
            What stays for now because something is in the way.
        """
        snapshot = await answered(self._directory.snapshot, self._patience)
        plans = every_plan(snapshot)
        used = {component for plan in plans for component in components_of(plan)}
        unused = (await self._components.running() & spare) - used
        held: set[Place] = {(entry.component, version) for entry in snapshot.entries for version in entry.versions}
        leaving = frozenset(place for place in held - places_of(plans) if place[1] in known)
        waiting: list[str] = []
        if leaving or unused:
            waiting = await self._idle(leaving, impatient)
            if not waiting:
                for component in sorted(unused):
                    await self._components.remove(component)
                await self._unload(leaving, unused)
        if leaving or snapshot.leaving:
            # Not where this is cut off: replicas may be dropping them then, and nobody must be pinned to them.
            await answered(lambda: self._directory.leave(frozenset()), self._patience)
        return waiting

    async def _idle(self, leaving: frozenset[Place], impatient: Callable[[], bool]) -> list[str]:
        """Wait until no request needs these places, and none can be pinned to them; returns what is in the way."""
        clock = asyncio.get_running_loop().time
        give_up_s = clock() + self._patience.drain_s
        while True:
            # Said again each time: a directory that has restarted does not know it any more.
            stamp = await answered(lambda: self._directory.leave(leaving), self._patience)
            waiting = await answered(lambda s=stamp: self._directory.busy(s, leaving, SLICE_S), self._patience)  # type: ignore[misc]
            if not waiting or impatient() or clock() > give_up_s:
                return waiting

    async def _unload(self, leaving: frozenset[Place], unused: frozenset[str]) -> None:
        snapshot = await answered(self._directory.snapshot, self._patience)
        # Asked again: what has become wanted in the meantime stays.
        wanted = places_of(every_plan(snapshot))

        async def one(entry: Entry) -> None:
            for version in sorted(entry.versions):
                place = (entry.component, version)
                if place in leaving - wanted and entry.component not in unused:
                    # One that is gone has dropped it with everything else; one that refuses keeps it for the next time.
                    with contextlib.suppress(AnyplexError):
                        await self._replicas.unload(entry, version)

        await asyncio.gather(*map(one, snapshot.entries))


def _lacking(snapshot: Snapshot, target: SystemPlan) -> list[tuple[Entry, list[Held]]]:
    """Return the replicas that do not hold all of a plan, and what they lack."""
    found = []
    for component in components_of(target):
        wanted = held_by(component, [target])
        for entry in snapshot.of(component):
            lacking = [held for held in wanted if held.version not in entry.versions]
            if lacking:
                found.append((entry, lacking))
    return found


def _absent(snapshot: Snapshot, target: SystemPlan, new: set[str]) -> list[str]:
    """Return the components that have fewer replicas than it takes to check what they load, or to serve it."""
    least = {
        node.component: max(1, node.settings.replicas.min) if node.component in new else 1 for node in target.nodes
    }
    return [component for component, number in least.items() if len(snapshot.of(component)) < number]
