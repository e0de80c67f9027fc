"""Systems as a whole: added beside those that run, exchanged for another plan in one flip, taken away."""

from __future__ import annotations

from dataclasses import replace

from anyplex.v1 import component_pb2
from graph.cards import check_cards
from graph.errors import AnyplexError, FailedPrecondition
from graph.plan import SystemPlan
from services.control.loading import answered, components_of
from services.control.ports import Tell
from services.control.transitions import Transitions
from services.runtime.convert import card_from_proto
from services.runtime.directory import Snapshot


class Applying(Transitions):
    """Takes systems from plan to plan; ``Coordinator`` sees to it that nothing else is under way."""

    async def _add(self, target: SystemPlan, tell: Tell) -> None:
        """Start what a new system needs, and publish it when everything is ready."""
        system = target.system
        tell("loading", f"{len(components_of(target))} components")
        try:
            await answered(lambda: self._directory.keep(system, (target,)), self._patience)
            fit(target, await self._loader.load(target, None))
            systems = {**(await self._snapshot()).systems, system: target}
            await answered(lambda: self._directory.publish_systems(systems), self._patience)
            await answered(lambda: self._directory.keep(system, ()), self._patience)
            await self._followed(self._patience.flip_s)
        except AnyplexError:
            await self._publish_without(system)
            await self._let_go([target])
            raise
        tell("done", f"system {system} is live")

    async def _exchange(self, live: SystemPlan, target: SystemPlan, tell: Tell) -> None:
        """Load another plan of a system beside the live one, flip, and let the old one go."""
        system = live.system
        kept = (await self._snapshot()).kept.get(system, ())
        tell("loading", ", ".join(sorted(set(components_of(target)) - set(components_of(live)))) or "in place")
        try:
            await answered(lambda: self._directory.keep(system, (target, *kept)), self._patience)
            fit(target, await self._loader.load(target, live))
            tell("flipping", f"generation {target.generation}")
            await self._flip(live, target, kept)
        except AnyplexError:
            await self._flip_back(replace(live, generation=target.generation + 1))
            await answered(lambda: self._directory.keep(system, kept), self._patience)
            await self._let_go([target])
            raise
        tell("draining", "live; what nobody needs leaves with its last request")
        # Sets of the graph that was there before do not fit the one that is there now.
        await answered(lambda: self._directory.keep(system, ()), self._patience)
        await self._let_go([live, *kept])
        tell("done", f"generation {target.generation} is live")

    async def _remove(self, system: str, tell: Tell) -> None:
        """Take a system out of the gateways' choice, and what only it needs from the machines.

        Raises:
            FailedPrecondition: It is the only one.
        """
        snapshot = await self._snapshot()
        if len(snapshot.systems) == 1:
            raise FailedPrecondition("it is the only one; `anyplex down` stops the cluster", f"system {system}")
        await self._publish_without(system)
        await self._followed(self._patience.flip_s)
        tell("draining", "its last requests end")
        await self._let_go(list(snapshot.sets(system)))
        tell("done", f"system {system} is gone")

    async def _publish_without(self, system: str) -> None:
        systems = {name: plan for name, plan in (await self._snapshot()).systems.items() if name != system}
        await answered(lambda: self._directory.publish_systems(systems), self._patience)
        await answered(lambda: self._directory.keep(system, ()), self._patience)

    async def _let_go(self, plans: list[SystemPlan]) -> None:
        """Drop what these plans needed and no other does."""
        self._replaced |= {place for plan in plans for place in plan.places()}
        await self._retire()


def fit(target: SystemPlan, snapshot: Snapshot) -> None:
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
