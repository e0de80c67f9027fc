"""Swaps: load beside the old, check, flip, and drop the old when its last request has left. Any failure undoes it.

Knows neither gRPC nor Ray: what it asks of the world are the ports. One swap at a time, so history is a line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from anyplex.v1 import component_pb2
from graph.cards import check_cards
from graph.errors import (
    AnyplexError,
    DeadlineExceeded,
    Exhausted,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from graph.plan import SystemPlan
from graph.replan import with_versions
from services.control import rollouts
from services.control.loading import Loader, answered, components_of
from services.control.ports import ComponentsPort, DirectoryPort, Patience, ReplicasPort, ShelfPort, Tell
from services.control.rollouts import Rollout, RolloutLog
from services.runtime.convert import card_from_proto
from services.runtime.directory import Snapshot

logger = logging.getLogger("anyplex.control")


def _say_nothing(phase: str, line: str) -> None:
    """Nobody wants to know."""


class Coordinator:
    """Changes which versions are live.

    Args:
        directory: Where sets are live.
        replicas: Where versions are loaded.
        components: Where components are started.
        shelf: What artifacts are.
        log: Where rollouts are written down.
        patience: How long things may take.
    """

    def __init__(
        self,
        directory: DirectoryPort,
        replicas: ReplicasPort,
        components: ComponentsPort,
        shelf: ShelfPort,
        log: RolloutLog,
        patience: Patience | None = None,
    ) -> None:
        self._directory = directory
        self._shelf = shelf
        self._patience = patience or Patience()
        self._loader = Loader(directory, replicas, components, self._patience)
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._known: Snapshot | None = None
        self.log = log

    async def swap(
        self, system: str, changes: Mapping[str, str], key: str = "", tell: Tell = _say_nothing
    ) -> Rollout:  # fmt: skip
        """Change slots of a system, all of them in one flip; returns when the old versions have left.

        Raises:
            InvalidRequest: Nothing is to change, or the system has no such slot.
            NotFound: There is no such system, or no such artifact.
            FailedPrecondition: A version cannot be read, is damaged, does not fit or does not compute what it should.
            Exhausted: There is no memory for it, or too many swaps wait.
            DeadlineExceeded: Something took too long.
            Unavailable: Replicas or the directory were lost.
        """
        async with self._in_turn():
            known = self.log.by_key(key)
            if known is not None:
                return known
            return await self._swap(system, changes, key, tell)

    async def roll_back(self, system: str, tell: Tell = _say_nothing) -> Rollout:
        """Go back to the set before the last one; one flip while that is still loaded.

        Raises:
            FailedPrecondition: There was none before.
            AnyplexError: As for ``swap``.
        """
        async with self._in_turn():
            live = await self._live(system)
            done = [rollout for rollout in self.log.all(system) if rollout.state == rollouts.LIVE]
            if not done:
                raise FailedPrecondition("nothing was swapped yet, so there is nothing to go back to", system)
            before = done[-1].before
            changes = {slot: version for slot, version in before.items() if live.versions.get(slot) != version}
            return await self._swap(system, changes, "", tell)

    async def resume(self) -> None:
        """End what an earlier control service left under way: what has flipped stays, everything else is undone."""
        async with self._in_turn():
            for rollout in [rollout for rollout in self.log.all() if rollout.state in rollouts.UNDER_WAY]:
                live = (await self._snapshot()).systems.get(rollout.system)
                if live is None:
                    # The directory has restarted: whoever knows what was live tells it first.
                    continue
                if rollout.state == rollouts.FLIPPING and live.versions == rollout.after:
                    await self._settle(rollout, live, _say_nothing)
                    continue
                await self._undo(rollout, live, "the control service was restarted")

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        if self._waiting >= self._patience.waiting:
            raise Exhausted(f"{self._waiting} swaps wait, the limit is reached", "", 1.0)
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1

    async def _snapshot(self) -> Snapshot:
        return await answered(self._directory.snapshot, self._patience)

    async def _live(self, system: str) -> SystemPlan:
        systems = (await self._snapshot()).systems
        if system not in systems:
            known = ", ".join(sorted(systems)) or "none yet"
            raise NotFound(f"no system {system[:100]!r} runs here; there are: {known}", "system")
        return systems[system]

    async def _swap(self, system: str, changes: Mapping[str, str], key: str, tell: Tell) -> Rollout:
        live = await self._live(system)
        changes = {slot: version for slot, version in changes.items() if live.versions.get(slot) != version}
        if not changes:
            raise InvalidRequest("these versions are live already", "slots")
        target = await self._target(live, changes)
        if (await self._snapshot()).leaving:
            # What an earlier control service was dropping may be wanted again.
            await self._retire()
        rollout = self.log.begin(system, live.versions, target.versions, key)
        components = tuple(dict.fromkeys((*components_of(live), *components_of(target))))
        rollout = self.log.advance(rollout, rollouts.LOADING, components=components)
        tell("loading", ", ".join(f"{slot} {version}" for slot, version in changes.items()))
        try:
            kept = (await self._snapshot()).kept.get(system, ())
            beside = (target, *(plan for plan in kept if plan.versions != target.versions))
            await answered(lambda: self._directory.keep(system, beside), self._patience)
            snapshot = await self._loader.load(target, live)
            tell("verifying", "every replica holds it; digests and probes are right")
            _check_cards(target, snapshot)
            tell("flipping", f"generation {target.generation}")
            rollout = self.log.advance(rollout, rollouts.FLIPPING, generation=target.generation)
            await self._flip(live, target, beside[1:])
        except AnyplexError as error:
            await self._undo(rollout, live, str(error))
            raise
        return await self._settle(rollout, target, tell)

    async def _target(self, live: SystemPlan, changes: Mapping[str, str]) -> SystemPlan:
        """Return the plan to go to: one that is loaded still if there is one of these versions."""
        wanted = {**live.versions, **changes}
        snapshot = await self._snapshot()
        for plan in snapshot.kept.get(live.system, ()):
            if plan.versions == wanted:
                return replace(plan, generation=live.generation + 1)
        for slot in changes:
            if slot not in live.slots():
                there = ", ".join(live.slots())
                raise InvalidRequest(f"no such slot; there are: {there}", f"slots[{slot[:100]!r}]")
        found = {slot: await self._shelf.describe(version) for slot, version in changes.items()}
        return with_versions(live, found)

    async def _flip(self, live: SystemPlan, target: SystemPlan, kept: tuple[SystemPlan, ...]) -> None:
        """Make a plan live everywhere.

        Raises:
            FailedPrecondition: Another set became live in the meantime.
            DeadlineExceeded: A gateway does not follow.
        """
        kept = (live, *(plan for plan in kept if plan.versions != live.versions))

        async def flipped() -> SystemPlan:
            stamp = await self._directory.flip(target, live.generation, kept)
            if stamp is None:
                # Perhaps our own flip, whose answer was lost.
                return _live_of(await self._directory.snapshot(), live.system)
            return target

        if (now := await answered(flipped, self._patience)) != target:
            raise FailedPrecondition(f"generation {now.generation} became live in the meantime", live.system)
        await self._followed(self._patience.flip_s)

    async def _followed(self, timeout_s: float) -> None:
        """Wait until every gateway has followed, also where the directory restarts meanwhile.

        Raises:
            DeadlineExceeded: One does not.
        """
        behind: list[str] = []
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    stamp = (await self._snapshot()).stamp
                    behind = await answered(lambda s=stamp: self._directory.behind(s, timeout_s), self._patience)  # type: ignore[misc]
                    if not behind:
                        return
                    await asyncio.sleep(self._patience.pause_s)
        except TimeoutError as error:
            told = f"after {timeout_s:.0f} s {len(behind)} gateways have not followed"
            raise DeadlineExceeded(told) from error

    async def _settle(self, rollout: Rollout, target: SystemPlan, tell: Tell) -> Rollout:
        """Let the old set stay beside the new one, ready to go back to; let go of what was before it."""
        rollout = self.log.advance(rollout, rollouts.LIVE, generation=target.generation)
        tell("draining", "live; versions that nobody needs leave with their last request")
        kept = (await self._snapshot()).kept.get(rollout.system, ())
        same = set(components_of(target))
        # What needs a component of its own is not kept: it would cost a process as long as nobody goes back.
        before = tuple(p for p in kept if p.versions == rollout.before and set(components_of(p)) <= same)
        await answered(lambda: self._directory.keep(rollout.system, before), self._patience)
        await self._retire()
        tell("done", f"generation {target.generation} is live")
        return rollout

    async def _undo(self, rollout: Rollout, live: SystemPlan, reason: str) -> None:
        """Leave the set serving that was live before, and say why."""
        logger.warning("rollout %s of %s failed: %s", rollout.rollout_id, rollout.system, reason)
        snapshot = await self._snapshot()
        now = _live_of(snapshot, rollout.system)
        kept = tuple(plan for plan in snapshot.sets(rollout.system) if plan.versions != rollout.after)
        old = next((plan for plan in kept if plan.versions == rollout.before), live)
        back = now
        if rollout.state == rollouts.FLIPPING:
            # Also where the new set has not become live: a flip that is still on its way must come too late.
            back = replace(old, generation=rollout.generation + 1)
            await self._flip_back(back)
        self.log.advance(rollout, rollouts.FAILED, reason)
        try:
            await self._followed(self._patience.flip_s)
        except DeadlineExceeded:
            # Somebody may serve the new set still: nothing is dropped.
            return
        beside = tuple(plan for plan in kept if plan.versions != back.versions)
        await answered(lambda: self._directory.keep(rollout.system, beside), self._patience)
        await self._retire()

    async def _flip_back(self, back: SystemPlan) -> None:
        """Make a plan live whatever is live now, unless that is newer."""
        while True:
            snapshot = await self._snapshot()
            now = _live_of(snapshot, back.system)
            if now.generation >= back.generation:
                return
            kept = (now, *snapshot.kept.get(back.system, ()))
            await answered(lambda n=now, k=kept: self._directory.flip(back, n.generation, k), self._patience)  # type: ignore[misc]

    async def tend(self) -> None:
        """End what is under way of itself, and load what a replica lacks that started when nobody could tell it."""
        async with self._in_turn():
            snapshot, known = await self._snapshot(), self._known
            if snapshot.systems:
                self._known = snapshot
            elif known is not None:
                # It has restarted, and no gateway that knew the sets is left.
                await answered(
                    lambda: self._directory.restore(known.systems, known.kept, known.leaving), self._patience
                )
        await self.resume()
        async with self._in_turn():
            snapshot = await self._snapshot()
            if snapshot.leaving:
                await self._retire()
            for plan in snapshot.systems.values():
                await self._loader.heal(snapshot, plan)

    async def _retire(self) -> None:
        """Drop what swaps have brought or replaced, and no set needs any more."""
        seen = self.log.all()
        known = frozenset(v for rollout in seen for v in (*rollout.before.values(), *rollout.after.values()))
        spare = frozenset(component for rollout in seen for component in rollout.components)
        try:
            # Whoever waits for a turn goes first: what has not left by then leaves after the next swap.
            waiting = await self._loader.retire(known, spare, lambda: self._waiting > 1)
        except AnyplexError as error:
            waiting = [str(error)]
        if waiting:
            logger.warning("old versions stay loaded for now: %s", ", ".join(waiting))


def _live_of(snapshot: Snapshot, system: str) -> SystemPlan:
    """Return the live plan of a system that was there a moment ago.

    Raises:
        Unavailable: The directory has restarted, and nobody has told it yet.
    """
    if system not in snapshot.systems:
        raise Unavailable(f"the directory has restarted and does not know {system} yet")
    return snapshot.systems[system]


def _check_cards(target: SystemPlan, snapshot: Snapshot) -> None:
    """Hold the cards of neighbors against each other.

    Raises:
        FailedPrecondition: They do not fit; names the fields of both sides.
    """
    cards = {
        entry.component: card_from_proto(component_pb2.ContractCard.FromString(entry.card))
        for entry in snapshot.entries
        if entry.card
    }
    if all(component in cards for component in components_of(target)):
        problems = check_cards(target, cards)
        if problems:
            raise FailedPrecondition("; ".join(problem.message for problem in problems), f"system {target.system}")
