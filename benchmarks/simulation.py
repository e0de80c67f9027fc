"""Swaps in a simulated world: messages late and lost, replicas, gateways, control and directory killed, by seed.

The directory, the routes, the pinning and the coordinator are the real ones. A schedule is fine when no request saw
two version sets, none was lost, and everybody ends in exactly one set. Planted bugs show that the world would notice.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from typing import Any

from benchmarks._results import Bar, draw, judge, write
from benchmarks._simulation import Outcome, run
from graph.plan import Place, SystemPlan
from services.control.coordinator import Coordinator
from services.gateway.pinning import Pin, Pinning

SCHEDULES = 10_000
PLANTED_SCHEDULES = 200


class HastyCoordinator(Coordinator):
    """A planted bug: does not wait for the gateways."""

    async def _followed(self, timeout_s: float) -> None:
        """Wait for nobody."""


class LoosePinning(Pinning):
    """A planted bug: what is in use is told to nobody."""

    def in_use(self) -> frozenset[Place]:
        """Return nothing."""
        return frozenset()


class MixingPinning(Pinning):
    """A planted bug: one slot of the live set, the others of the set before it."""

    def pin(
        self, live: SystemPlan, owner: str, session_id: str, stated: Mapping[str, str], request_id: str = ""
    ) -> Pin:
        """Pin a request to two sets at once."""
        pin = super().pin(live, owner, session_id, stated)
        kept = self.routes.snapshot.kept.get(live.system, ())
        slot = live.backbone.slot
        if kept and kept[0].backbone.component == live.backbone.component:
            mixed = {**pin.versions, slot: kept[0].versions[slot]}
            return Pin(pin.plan, mixed, pin.repinned)
        return pin


PLANTED: dict[str, dict[str, Any]] = {
    "nobody waits for requests": {"pinning": LoosePinning},
    "a request of two sets": {"pinning": MixingPinning},
    "a flip that waits for no gateway, and requests that are not waited for": {
        "coordinator": HastyCoordinator, "pinning": LoosePinning,
    },
}  # fmt: skip


def outcome_of(seed: int, bug: str) -> Outcome:
    """Run one schedule, with a planted bug if one is named."""
    return run(seed, **PLANTED.get(bug, {}))


def summed(outcomes: list[Outcome]) -> Counter[str]:
    """Add up what came of many schedules."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total.update(
            schedules=1, requests=outcome.requests, mixed=outcome.mixed, lost=outcome.lost, swaps=outcome.flips,
            ended_otherwise=bool(outcome.ended), **{f"fault: {name}": n for name, n in outcome.faults.items()},
        )  # fmt: skip
    return total


def main(arguments: list[str]) -> int:
    """Run the schedules, and those with planted bugs."""
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=SCHEDULES)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(arguments)
    seeds = range(given.first, given.first + given.schedules)
    begun_s = time.monotonic()
    # What goes wrong on purpose is no news: the processes of the pool say nothing of it.
    with ProcessPoolExecutor(given.processes, initializer=logging.disable, initargs=(logging.CRITICAL,)) as pool:
        outcomes = list(pool.map(outcome_of, seeds, repeat(""), chunksize=50))
        found = {
            bug: sum(not o.fine for o in pool.map(outcome_of, range(PLANTED_SCHEDULES), repeat(bug), chunksize=10))
            for bug in PLANTED
        }
    total = summed(outcomes)
    for seed, outcome in zip(seeds, outcomes, strict=True):
        if not outcome.fine:
            print(f"schedule {seed}: {outcome.mixed} mixed, {outcome.lost} lost, {outcome.ended} {outcome.why[:1]}")
    for name, number in sorted(total.items()):
        print(f"{name:28} {number}")
    for bug, number in found.items():
        print(f"planted: {bug}: found by {number} of {PLANTED_SCHEDULES} schedules")
    write("simulation", {"totals": total, "planted": found, "seconds": round(time.monotonic() - begun_s, 1)})
    names = [name for name in total if name.startswith("fault")]

    def paint(axes: Any) -> None:  # noqa: ANN401 - matplotlib's axes
        axes[0].barh([name.partition(": ")[2] for name in names], [total[name] for name in names])
        axes[0].set_title(f"{total['schedules']} schedules, {total['swaps']} swaps")

    draw("simulation", 1, paint)
    return judge(
        [
            Bar("schedules", total["schedules"], least=SCHEDULES),
            Bar("requests that mix sets", total["mixed"], most=0),
            Bar("requests lost", total["lost"], most=0),
            Bar("schedules that end otherwise", total["ended_otherwise"], most=0),
            Bar("planted bugs found", sum(number > 0 for number in found.values()), least=len(PLANTED)),
        ]
    )
