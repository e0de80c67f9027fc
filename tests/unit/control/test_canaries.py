"""Canaries in the simulated world: promoted or taken back, by a gate or by hand, and nobody's request is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from benchmarks._simulated import SYSTEM
from benchmarks._simulation import Outcome, VirtualLoop, World
from graph.errors import FailedPrecondition, NotFound
from services.control.gates import GateSpec
from services.control.rollouts import Rollout

Script = Callable[["Scripted"], Awaitable[None]]
GATE = GateSpec(min_requests=20, latency_ratio=100.0, error_increase=1.0, max_wait_s=300.0)


class Scripted(World):
    """A world in which nothing happens but what a test says."""

    def __init__(self, script: Script) -> None:
        super().__init__(1)
        self.loss = 0.0
        self._script = script

    async def _happen(self) -> None:
        self.current = self.control()
        self.spawn(self._tend())
        await self._script(self)

    async def offer(self, share: float, gate: GateSpec | None = None) -> Rollout:
        slot = sorted(self.plan.versions)[0]
        return await self.current.swap(SYSTEM, {slot: f"{slot}-2"}, canary=share, gate=gate)

    async def ended(self, within_s: float = 300.0) -> Rollout:
        async with asyncio.timeout(within_s):
            while not (rollout := self.log.all()[-1]).ended_s:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(1.0)
        return rollout

    async def live(self) -> dict[str, str]:
        return dict((await self.directory.snapshot()).systems[SYSTEM].versions)


def play(script: Script) -> None:
    async def world() -> Outcome:
        return await Scripted(script).run()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        outcome = runner.run(world())
    assert (outcome.mixed, outcome.lost, outcome.ended) == (0, 0, ""), outcome.why


def test_a_gate_that_is_content_promotes() -> None:
    async def script(world: Scripted) -> None:
        offered = await world.offer(0.5, GATE)
        assert offered.state == "canary"
        assert await world.live() == dict(offered.before)
        done = await world.ended()
        assert (done.state, await world.live()) == ("live", dict(done.after))
        assert "20" in done.reason or "errors" in done.reason

    play(script)


def test_without_a_gate_it_waits_for_somebody_to_promote_it() -> None:
    async def script(world: Scripted) -> None:
        offered = await world.offer(0.5)
        await asyncio.sleep(200.0)
        assert world.log.all()[-1].state == "canary"
        with pytest.raises(FailedPrecondition, match="under way"):
            await world.current.swap(SYSTEM, {slot: f"{slot}-3" for slot in world.plan.versions})
        await world.current.promote(offered.rollout_id)
        assert await world.live() == dict(offered.after)
        with pytest.raises(FailedPrecondition, match="it is live"):
            await world.current.promote(offered.rollout_id)
        with pytest.raises(NotFound):
            await world.current.promote("nothing")

    play(script)


def test_it_is_taken_back_by_hand() -> None:
    async def script(world: Scripted) -> None:
        offered = await world.offer(0.5)
        await asyncio.sleep(20.0)
        done = await world.current.roll_back(SYSTEM)
        assert (done.state, done.reason) == ("rolled_back", "rolled back by hand")
        assert await world.live() == dict(offered.before)
        new = {*offered.after.values()} - {*offered.before.values()}
        async with asyncio.timeout(120.0):
            # Where somebody waited for a turn, it leaves when things are tended the next time.
            while any(new & replica.held for replica in world.replicas.values()):  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(1.0)

    play(script)


def test_a_suite_that_is_not_content_takes_it_back() -> None:
    async def script(world: Scripted) -> None:
        world.suites["suite"] = {"row": 0.2}
        await world.offer(0.5, GATE.model_copy(update={"suite": "suite", "thresholds": {"row": 0.9}}))
        done = await world.ended()
        assert (done.state, done.scores) == ("rolled_back", {"row": 0.2})
        assert "row" in done.reason

    play(script)


def test_a_suite_that_cannot_be_asked_takes_it_back() -> None:
    async def script(world: Scripted) -> None:
        await world.offer(0.5, GATE.model_copy(update={"suite": "none", "thresholds": {"row": 0.9}}))
        done = await world.ended()
        assert (done.state, "no suite none" in done.reason) == ("rolled_back", True)

    play(script)


def test_what_nobody_asks_is_taken_back_in_the_end() -> None:
    async def script(world: Scripted) -> None:
        gate = GATE.model_copy(update={"min_requests": 10**6, "max_wait_s": 60.0})
        await world.offer(0.05, gate)
        done = await world.ended()
        assert (done.state, "not decided within 60 s" in done.reason) == ("rolled_back", True)

    play(script)


def test_another_control_service_goes_on_with_it() -> None:
    async def script(world: Scripted) -> None:
        await world.offer(0.5, GATE)
        world.current = world.control()
        await world.current.resume()
        assert world.log.all()[-1].state == "canary"
        assert (await world.ended()).state == "live"

    play(script)
