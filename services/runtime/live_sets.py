"""What the directory knows of version sets: which is live, which stay beside it, and what gateways make of them.

Pure bookkeeping; ``services.runtime.directory`` wakes whoever waits for a change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from graph.plan import Place, SystemPlan
from services.runtime.component import Held
from services.runtime.tally import Compared

SILENT_S = 4.0
"""A gateway that was not heard of for so long is gone: it asks every second."""

Stamp = tuple[str, int]
"""Epoch and generation of a snapshot."""


@dataclass(frozen=True)
class Attendance:
    """What a gateway says of itself whenever it asks for news.

    Attributes:
        gateway: Its id, unique for the life of its process.
        in_use: Where which versions are needed by requests it has accepted and not answered.
        compared: What it has seen of canaries, by rollout.
    """

    gateway: str
    in_use: frozenset[Place] = frozenset()
    compared: Mapping[str, Compared] = field(default_factory=dict)


class LiveSets:
    """The version sets of all systems.

    Attributes:
        systems: Live plan by system.
        kept: Plans by system whose versions stay loaded beside the live ones: what comes next, what was before.
        leaving: Places that no request may be pinned to any more.
    """

    def __init__(self) -> None:
        self.systems: dict[str, SystemPlan] = {}
        self.kept: dict[str, tuple[SystemPlan, ...]] = {}
        self.leaving: frozenset[Place] = frozenset()

    def publish(self, systems: Mapping[str, SystemPlan]) -> bool:
        """Take these systems over, others leave; of two generations of one the newer stays. Says if that changed it."""
        newest = {name: self._newer(name, plan) for name, plan in systems.items()}
        changed = newest != self.systems
        self.systems = newest
        self.kept = {name: plans for name, plans in self.kept.items() if name in newest}
        return changed

    def restore(
        self, systems: Mapping[str, SystemPlan], kept: Mapping[str, tuple[SystemPlan, ...]], leaving: frozenset[Place]
    ) -> bool:
        """Take over what a gateway remembers and is newer; returns whether that changes anything."""
        newer = {name for name, plan in systems.items() if self._newer(name, plan) is plan}
        newer -= {name for name in newer if self.systems.get(name) == systems[name]}
        for name in newer:
            self.systems[name] = systems[name]
            self.kept[name] = tuple(kept.get(name, ()))
        if newer:
            self.leaving |= leaving
        return bool(newer)

    @property
    def canaries(self) -> frozenset[str]:
        """Rollouts whose set a share of sessions gets."""
        return frozenset(plan.canary.rollout for plans in self.kept.values() for plan in plans if plan.canary)

    def flip(self, plan: SystemPlan, expected: int, kept: Iterable[SystemPlan]) -> bool:
        """Make a plan live if the generation expected still is; returns whether it was."""
        live = self.systems.get(plan.system)
        if live is None or live.generation != expected:
            return False
        self.systems[plan.system] = plan
        self.kept[plan.system] = tuple(kept)
        return True

    def _newer(self, name: str, plan: SystemPlan) -> SystemPlan:
        known = self.systems.get(name)
        return known if known is not None and known.generation > plan.generation else plan


def places_of(plans: Iterable[SystemPlan]) -> frozenset[Place]:
    """Return every place that some plan needs."""
    return frozenset(place for plan in plans for place in plan.places())


def held_by(component: str, plans: Iterable[SystemPlan]) -> tuple[Held, ...]:
    """Return what a component has to hold for some plans, weights before what adapts them."""
    found: dict[Held, None] = {}
    for plan in plans:
        for node in plan.nodes:
            if node.component == component:
                ref = node.version(plan.versions)
                found |= {Held(ref.version): None} if ref.version else {}
                found |= {Held(ref.adapter, adapter=True): None} if ref.adapter else {}
    return tuple(sorted(found, key=lambda held: held.adapter))


def wanted_of(
    component: str, systems: Mapping[str, SystemPlan], kept: Mapping[str, tuple[SystemPlan, ...]]
) -> tuple[tuple[Held, ...], tuple[Held, ...]]:
    """Return what a component must hold for the live sets, and what it should for those kept beside them."""
    return held_by(component, systems.values()), held_by(component, [plan for plans in kept.values() for plan in plans])


@dataclass
class _Seen:
    generation: int
    heard_s: float
    in_use: frozenset[Place]


class Gateways:
    """Which gateways there are, how far each has followed, and what its requests need.

    Args:
        clock: Monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since_s = clock()
        self._seen: dict[str, _Seen] = {}
        self._compared: dict[str, Mapping[str, Compared]] = {}

    def attend(self, attendance: Attendance, generation: int) -> None:
        """Note that a gateway has taken a snapshot over."""
        self._seen[attendance.gateway] = _Seen(generation, self._clock(), attendance.in_use)
        if attendance.compared:
            self._compared[attendance.gateway] = attendance.compared

    def behind(self, generation: int) -> list[str]:
        """Return the gateways that have not taken a generation over yet.

        A directory that has just started does not know them yet, and says so.
        """
        now = self._clock()
        self._seen = {name: seen for name, seen in self._seen.items() if now - seen.heard_s <= SILENT_S}
        unknown = ["those not heard of yet"] if now - self._since_s < SILENT_S and not self._seen else []
        return unknown + [name for name, seen in self._seen.items() if seen.generation < generation]

    def needs(self, places: frozenset[Place]) -> bool:
        """Return whether a request somewhere still needs one of these."""
        return any(seen.in_use & places for seen in self._seen.values())

    def compared(self, rollout: str) -> Compared:
        """Return what all gateways have seen of a canary, those that are gone by now among them."""
        return sum((seen[rollout] for seen in self._compared.values() if rollout in seen), Compared())

    def forget(self, rollouts: Collection[str]) -> None:
        """Forget what was seen of all canaries but these."""
        left = {name: {r: c for r, c in seen.items() if r in rollouts} for name, seen in self._compared.items()}
        self._compared = {name: seen for name, seen in left.items() if seen}
