"""The steps of rollouts: offer a set to a share of sessions, flip to it, let the old one go, undo what failed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from graph.canary import Canary
from graph.errors import AnyplexError, DeadlineExceeded, FailedPrecondition, NotFound, Unavailable
from graph.plan import Place, SystemPlan
from services.control import rollouts
from services.control.canaries import Canaries
from services.control.loading import Loader, answered, components_of
from services.control.ports import Patience, Ports, Tell
from services.control.rollouts import Rollout, RolloutLog
from services.runtime.directory import Snapshot

logger = logging.getLogger("anyplex.control")


def say_nothing(phase: str, line: str) -> None:
    """Nobody wants to know."""


class Transitions:
    """Takes rollouts from state to state. ``Coordinator`` decides which, one at a time.

    Args:
        ports: The world outside.
        log: Where rollouts are written down.
        patience: How long things may take.
    """

    def __init__(self, ports: Ports, log: RolloutLog, patience: Patience | None = None) -> None:
        self._directory = ports.directory
        self._patience = patience or Patience()
        self._loader = Loader(ports.directory, ports.replicas, ports.components, self._patience)
        self._canaries = Canaries(ports.directory, ports.suites, log)
        self._waiting = 0
        self._replaced: set[Place] = set()
        self._left_over = False
        self.log = log

    async def _snapshot(self) -> Snapshot:
        return await answered(self._directory.snapshot, self._patience)

    async def _live(self, system: str) -> SystemPlan:
        systems = (await self._snapshot()).systems
        if system not in systems:
            known = ", ".join(sorted(systems)) or "none yet"
            raise NotFound(f"no system {system[:100]!r} runs here; there are: {known}", "system")
        return systems[system]

    async def _offer(
        self, rollout: Rollout, target: SystemPlan, others: tuple[SystemPlan, ...], tell: Tell
    ) -> Rollout:  # fmt: skip
        """Let a share of sessions have a set that is loaded beside the live one."""
        rollout = self.log.advance(rollout, rollouts.CANARY, generation=target.generation)
        offered = replace(target, canary=Canary(rollout.rollout_id, rollout.canary))
        await answered(lambda: self._directory.keep(rollout.system, (offered, *others)), self._patience)
        await self._followed(self._patience.flip_s)
        tell("canary", f"{rollout.canary:.3g} of sessions get it: rollout {rollout.rollout_id}")
        return rollout

    async def _promote(self, rollout: Rollout, why: str, tell: Tell) -> Rollout:
        """Make a canary's set live.

        Raises:
            FailedPrecondition: It is not loaded any more.
        """
        live = await self._live(rollout.system)
        kept = (await self._snapshot()).kept.get(rollout.system, ())
        others = tuple(plan for plan in kept if plan.versions != rollout.after)
        try:
            offered = next((plan for plan in kept if plan.versions == rollout.after), None)
            if offered is None:
                raise FailedPrecondition("its set is not loaded any more")
            target = replace(offered, generation=live.generation + 1, canary=None)
            # Again: replicas may have come since.
            await self._loader.load(target, live)
            tell("flipping", f"generation {target.generation}: {why}")
            rollout = self.log.advance(rollout, rollouts.FLIPPING, why, target.generation)
            await self._flip(live, target, others)
        except AnyplexError as error:
            await self._undo(rollout, live, str(error))
            raise
        finally:
            self._canaries.forget(rollout)
        return await self._settle(rollout, target, tell)

    async def _withdraw(self, rollout: Rollout, why: str, tell: Tell) -> Rollout:
        """Take a canary back; its sessions go on with the live set."""
        self._canaries.forget(rollout)
        kept = (await self._snapshot()).kept.get(rollout.system, ())
        others = tuple(plan for plan in kept if plan.versions != rollout.after)
        await answered(lambda: self._directory.keep(rollout.system, others), self._patience)
        await self._followed(self._patience.flip_s)
        rollout = self.log.advance(rollout, rollouts.ROLLED_BACK, why)
        tell("draining", f"rolled back: {why}")
        logger.warning("rollout %s of %s: rolled back: %s", rollout.rollout_id, rollout.system, why)
        await self._retire()
        tell("done", "every session gets the live set")
        return rollout

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
        rollout = self.log.advance(rollout, rollouts.LIVE, rollout.reason, target.generation)
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

    async def _retire(self) -> None:
        """Drop what swaps have brought or replaced, and no set needs any more."""
        seen = self.log.all()
        known = frozenset(v for rollout in seen for v in (*rollout.before.values(), *rollout.after.values()))
        known |= {version for _, version in self._replaced}
        spare = frozenset(component for rollout in seen for component in rollout.components)
        spare |= {component for component, _ in self._replaced}
        try:
            # Whoever waits for a turn goes first: what has not left by then leaves after the next swap.
            waiting = await self._loader.retire(known, spare, lambda: self._waiting > 1)
        except AnyplexError as error:
            waiting = [str(error)]
        self._left_over = bool(waiting)
        if not waiting:
            self._replaced.clear()
        else:
            logger.warning("old versions stay loaded for now: %s", ", ".join(waiting))


def _live_of(snapshot: Snapshot, system: str) -> SystemPlan:
    """Return the live plan of a system that was there a moment ago.

    Raises:
        Unavailable: The directory has restarted, and nobody has told it yet.
    """
    if system not in snapshot.systems:
        raise Unavailable(f"the directory has restarted and does not know {system} yet")
    return snapshot.systems[system]
