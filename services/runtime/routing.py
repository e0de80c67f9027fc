"""Choosing a replica: the one that holds the pinned versions and has the fewest calls of ours in flight."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Collection
from typing import NoReturn

from graph.caller import Call
from graph.errors import FailedPrecondition, Unavailable
from services.runtime.directory import Entry, Routes
from services.runtime.live_sets import places_of

AFFINITY_SLACK = 4
"""A session's own replica is preferred until it is this many calls busier than the idlest."""
WAIT_STEP_S = 1.0


def holds(entry: Entry, call: Call) -> bool:
    """Return whether a replica holds the versions a call is pinned to."""
    wanted = {call.version.version, call.version.adapter} - {""}
    return wanted <= entry.versions


class Router:
    """Picks replicas and waits for them.

    Args:
        routes: Where replicas are listed.
        wait_s: Longest wait for a replica where there is none (a cold start, a restart).
    """

    def __init__(self, routes: Routes, wait_s: float = 60.0) -> None:
        self.routes = routes
        self.wait_s = wait_s
        self.in_flight: Counter[str] = Counter()

    async def pick(self, call: Call, excluded: Collection[str] = ()) -> Entry:
        """Return a replica for a call, waiting for one if need be.

        Raises:
            FailedPrecondition: There are replicas, and none holds the pinned versions.
            Unavailable: No replica came in time.
        """
        give_up_s = min(call.deadline_s, time.monotonic() + self.wait_s)
        asked = False
        while True:
            entry = self.choose(call, excluded)
            if entry is not None:
                return entry
            if self._is_nowhere(call):
                self._refuse(call, excluded)
            if not asked:
                await self.routes.wake(call.component)
                asked = True
            left_s = give_up_s - time.monotonic()
            if left_s <= 0:
                self._refuse(call, excluded)
            await self.routes.changed(min(left_s, WAIT_STEP_S))

    def enter(self, entry: Entry) -> None:
        """Count a call to a replica that begins."""
        self.in_flight[entry.replica_id] += 1

    def leave(self, entry: Entry) -> None:
        """Count a call to a replica that ended; replicas come and go, so none is kept at zero."""
        self.in_flight[entry.replica_id] -= 1
        if self.in_flight[entry.replica_id] <= 0:
            del self.in_flight[entry.replica_id]

    def choose(self, call: Call, excluded: Collection[str] = ()) -> Entry | None:
        """Return the best replica there is now, or None."""
        entries = [
            entry
            for entry in self.routes.snapshot.of(call.component)
            if holds(entry, call) and entry.replica_id not in excluded
        ]
        if not entries:
            return None
        idlest = min(entries, key=lambda entry: self.in_flight[entry.replica_id])
        if not call.session_id or len(entries) == 1:
            return idlest
        home = max(entries, key=lambda entry: _affinity(call.session_id, entry.replica_id))
        if self.in_flight[home.replica_id] - self.in_flight[idlest.replica_id] > AFFINITY_SLACK:
            return idlest
        return home

    def _is_nowhere(self, call: Call) -> bool:
        """Return whether there are replicas, none of them holds the versions, and none will: waiting would not help."""
        snapshot = self.routes.snapshot
        entries = snapshot.of(call.component)
        if not entries or any(holds(entry, call) for entry in entries):
            return False
        wanted = {(call.component, version) for version in (call.version.version, call.version.adapter) if version}
        # Those of a set that is listed: a replica that has just started is about to load them.
        return not wanted <= places_of(plan for system in snapshot.systems for plan in snapshot.sets(system))

    def _refuse(self, call: Call, excluded: Collection[str]) -> NoReturn:
        where = f"node {call.node}"
        others = [entry for entry in self.routes.snapshot.of(call.component) if entry.replica_id not in excluded]
        if others:
            versions = ", ".join(filter(None, (call.version.version, call.version.adapter)))
            raise FailedPrecondition(f"no replica of {call.component} holds {versions}", where)
        raise Unavailable(f"no replica of {call.component} is running", where, 2.0)


def _affinity(session_id: str, replica_id: str) -> bytes:
    """Rendezvous hashing: a session keeps its replica when others come and go."""
    return hashlib.blake2b(f"{session_id}\0{replica_id}".encode(), digest_size=8).digest()
