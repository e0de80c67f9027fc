"""Swaps: load beside the old, check, flip, and drop the old when its last request has left. Any failure undoes it.

Knows neither gRPC nor Ray: what it asks of the world are the ports. One swap at a time, so history is a line.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from graph.errors import AnyplexError, Exhausted, FailedPrecondition, InvalidRequest, NotFound
from graph.plan import SystemPlan
from graph.replan import with_versions
from services.control import rollouts
from services.control.applying import Applying, fit
from services.control.gates import GateSpec, Verdict
from services.control.loading import answered, components_of
from services.control.ports import Patience, Ports, Tell
from services.control.rollouts import Rollout, RolloutLog
from services.control.transitions import say_nothing
from services.runtime.directory import Snapshot


class Coordinator(Applying):
    """Changes which versions are live.

    Args:
        ports: The world outside.
        log: Where rollouts are written down.
        patience: How long things may take.
    """

    def __init__(self, ports: Ports, log: RolloutLog, patience: Patience | None = None) -> None:
        super().__init__(ports, log, patience)
        self._shelf = ports.shelf
        self._turn = asyncio.Lock()
        self._known: Snapshot | None = None

    async def swap(
        self,
        system: str,
        changes: Mapping[str, str],
        key: str = "",
        tell: Tell = say_nothing,
        canary: float = 0.0,
        gate: GateSpec | None = None,
    ) -> Rollout:
        """Change slots of a system, all of them in one flip; returns when the old versions have left.

        With a share it returns as soon as that share of sessions gets the new set; the gate decides later on.

        Args:
            system: Which.
            changes: Slot to new version.
            key: Same key, same rollout.
            tell: Told what happens.
            canary: Share of sessions that get it first; 0 for all at once.
            gate: What decides about the canary's promotion; None for errors and latencies, which only roll it back.

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
            gate = gate or GateSpec(promotes=False)
            return await self._swap(system, changes, key, tell, canary, gate)

    async def roll_back(self, system: str, tell: Tell = say_nothing) -> Rollout:
        """Go back to the set before the last one; one flip while that is still loaded. A canary is taken back.

        Raises:
            FailedPrecondition: There was none before.
            AnyplexError: As for ``swap``.
        """
        async with self._in_turn():
            live = await self._live(system)
            if (canary := self.log.canary_of(system)) is not None:
                return await self._withdraw(canary, "rolled back by hand", tell)
            done = [rollout for rollout in self.log.all(system) if rollout.state == rollouts.LIVE]
            if not done:
                raise FailedPrecondition("nothing was swapped yet, so there is nothing to go back to", system)
            before = done[-1].before
            changes = {slot: version for slot, version in before.items() if live.versions.get(slot) != version}
            return await self._swap(system, changes, "", tell)

    async def promote(self, rollout_id: str, tell: Tell = say_nothing) -> Rollout:
        """Make a canary live, whatever its gate says.

        Raises:
            NotFound: There is no such rollout.
            FailedPrecondition: It is no canary.
            AnyplexError: As for ``swap``.
        """
        async with self._in_turn():
            rollout = self.log.get(rollout_id)
            if rollout is None:
                raise NotFound(f"no rollout {rollout_id[:64]!r}", "rollout_id")
            if rollout.state != rollouts.CANARY:
                raise FailedPrecondition(f"it is {rollout.state}, a canary expected", f"rollout {rollout_id}")
            return await self._promote(rollout, "promoted by hand", tell)

    async def apply(self, target: SystemPlan, tell: Tell = say_nothing) -> bool:
        """Bring a system to a plan: a new one starts beside those that run, one that runs flips to it.

        Returns:
            Whether anything had to change.

        Raises:
            FailedPrecondition: A rollout is under way, a component does not start or does not fit.
            AnyplexError: As for ``swap``; what ran before goes on running.
        """
        async with self._in_turn():
            self._check_ended(target.system)
            live = (await self._snapshot()).systems.get(target.system)
            if live is None:
                await self._add(target, tell)
                return True
            if replace(target, generation=live.generation) == live:
                return False
            await self._exchange(live, replace(target, generation=live.generation + 1), tell)
            return True

    async def delete(self, system: str, tell: Tell = say_nothing) -> None:
        """Take a system away; returns when its last request has left, and what only it needed is gone.

        Raises:
            NotFound: There is no such system.
            FailedPrecondition: It is the only one, or a rollout is under way.
        """
        async with self._in_turn():
            await self._live(system)
            self._check_ended(system)
            await self._remove(system, tell)

    def _check_ended(self, system: str) -> None:
        for rollout in self.log.all(system):
            if rollout.state in rollouts.NOT_ENDED:
                told = f"rollout {rollout.rollout_id} is under way: wait for it, or roll it back"
                raise FailedPrecondition(told, f"system {system}")

    async def resume(self) -> None:
        """End what an earlier control service left under way: what has flipped stays, everything else is undone."""
        async with self._in_turn():
            for rollout in [rollout for rollout in self.log.all() if rollout.state in rollouts.UNDER_WAY]:
                live = (await self._snapshot()).systems.get(rollout.system)
                if live is None:
                    # The directory has restarted: whoever knows what was live tells it first.
                    continue
                if rollout.state == rollouts.FLIPPING and live.versions == rollout.after:
                    await self._settle(rollout, live, say_nothing)
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

    async def _swap(
        self, system: str, changes: Mapping[str, str], key: str, tell: Tell, canary: float = 0.0,
        gate: GateSpec | None = None,
    ) -> Rollout:  # fmt: skip
        live = await self._live(system)
        changes = {slot: version for slot, version in changes.items() if live.versions.get(slot) != version}
        if not changes:
            raise InvalidRequest("these versions are live already", "slots")
        target = await self._target(live, changes)
        if (await self._snapshot()).leaving:
            # What an earlier control service was dropping may be wanted again.
            await self._retire()
        decides = gate.model_dump() if canary and gate is not None else None
        rollout = self.log.begin(system, live.versions, target.versions, key, canary, decides)
        components = tuple(dict.fromkeys((*components_of(live), *components_of(target))))
        rollout = self.log.advance(rollout, rollouts.LOADING, components=components)
        tell("loading", ", ".join(f"{slot} {version}" for slot, version in changes.items()))
        try:
            kept = (await self._snapshot()).kept.get(system, ())
            beside = (target, *(plan for plan in kept if plan.versions != target.versions))
            await answered(lambda: self._directory.keep(system, beside), self._patience)
            snapshot = await self._loader.load(target, live)
            tell("verifying", "every replica holds it; digests and probes are right")
            fit(target, snapshot)
            if canary:
                return await self._offer(rollout, target, beside[1:], tell)
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
                return replace(plan, generation=live.generation + 1, canary=None)
        for slot in changes:
            if slot not in live.slots():
                there = ", ".join(live.slots())
                raise InvalidRequest(f"no such slot; there are: {there}", f"slots[{slot[:100]!r}]")
        found = {slot: await self._shelf.describe(version) for slot, version in changes.items()}
        return with_versions(live, found)

    async def _look_after(self, rollout: Rollout) -> None:
        """Promote a canary or take it back, where that is decided."""
        kept = (await self._snapshot()).sets(rollout.system)
        if not kept:
            # The directory has restarted, and is told what was live first.
            return
        if not any(plan.canary and plan.versions == rollout.after for plan in kept):
            await self._withdraw(rollout, "its set was lost when the directory restarted", say_nothing)
            return
        decision = await self._canaries.decision(rollout)
        # As it is written down now, with its scores.
        rollout = self.log.get(rollout.rollout_id) or rollout
        if decision.verdict is Verdict.PROMOTE:
            await self._promote(rollout, decision.why, say_nothing)
        elif decision.verdict is Verdict.ROLL_BACK:
            await self._withdraw(rollout, decision.why, say_nothing)

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
            if snapshot.leaving or self._left_over:
                await self._retire()
            for rollout in [rollout for rollout in self.log.all() if rollout.state == rollouts.CANARY]:
                await self._look_after(rollout)
            for plan in snapshot.systems.values():
                await self._loader.heal(snapshot, plan)
