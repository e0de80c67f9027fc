"""Rollouts of the coordinator in the registry: they outlive it, and others may read them meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.artifacts import ArtifactStore
from services.control.known import register
from services.control.rollouts import (
    CANARY,
    FAILED,
    FLIPPING,
    KEPT,
    LIVE,
    LOADING,
    PENDING,
    ROLLED_BACK,
    Rollout,
    RolloutLog,
)
from services.registry import Registry, records

PAGE = 100
_STATES: Mapping[str, str] = {
    records.PENDING: PENDING, records.LOADING: LOADING, records.VERIFYING: LOADING, records.CANARY: CANARY,
    records.FLIPPING: FLIPPING, records.LIVE: LIVE, records.FAILED: FAILED, records.ROLLED_BACK: ROLLED_BACK,
}  # fmt: skip
"""What the coordinator calls the registry's states."""


class RegistryLog(RolloutLog):
    """Rollouts in a registry; what was written there is read once, since nobody else writes rollouts of this cluster.

    Args:
        registry: Which.
        store: Where artifacts are: what a set names is registered before the set.

    Raises:
        Unavailable: The registry cannot be reached.
    """

    def __init__(self, registry: Registry, store: ArtifactStore) -> None:
        super().__init__()
        self._registry = registry
        self._store = store
        self._registered: set[str] = set()
        found = [rollout for name in self._systems() for rollout in self._written(name)]
        for rollout in sorted(found, key=lambda rollout: rollout.begun_s):
            self._put(rollout)

    def _written(self, system: str) -> list[Rollout]:
        page = self._registry.rollouts(system, PAGE)
        found = list(page.items)
        while page.next_token and len(found) < KEPT:
            page = self._registry.rollouts(system, PAGE, page.next_token)
            found += page.items
        return [_rollout(rollout) for rollout in found]

    def begin(
        self,
        system: str,
        before: Mapping[str, str],
        after: Mapping[str, str],
        key: str = "",
        canary: float = 0.0,
        gate: Mapping[str, Any] | None = None,
    ) -> Rollout:
        """Write a new one down, from the set that runs, whatever was known of it.

        Raises:
            FailedPrecondition: Another rollout is under way.
            NotFound: There is no such artifact.
            Unavailable: Store or registry cannot be reached.
        """
        # Once each: artifacts never change, and a rollback must not wait for what is known.
        new = {*before.values(), *after.values()} - self._registered
        register(self._registry, self._store, new)
        self._registered |= new
        live = self._registry.adopt(system, before)
        changes = {slot: after.get(slot, "") for slot in {*before, *after} if before.get(slot) != after.get(slot)}
        found = self._registry.begin_rollout(system, changes, live.generation, canary or None, gate, key)
        return self._put(_rollout(found))

    def advance(
        self, rollout: Rollout, state: str, reason: str = "", generation: int = 0, components: tuple[str, ...] = ()
    ) -> Rollout:
        """Write down that it has come further.

        Raises:
            FailedPrecondition: It cannot come there from where it is.
            Unavailable: The registry cannot be reached.
        """
        details: dict[str, object] = {"generation": generation or rollout.generation}
        details |= {"components": list(components or rollout.components)}
        details |= {"offered_s": self.now() if state == CANARY else rollout.offered_s}
        if state in (CANARY, FLIPPING) and rollout.state == LOADING:
            # Replicas verify what they load while they do.
            self._registry.advance(rollout.rollout_id, records.VERIFYING)
        return self._put(_rollout(self._registry.advance(rollout.rollout_id, state, reason, details)))

    def score(self, rollout: Rollout, scores: Mapping[str, float]) -> Rollout:
        """Write down what was measured of it.

        Raises:
            Unavailable: The registry cannot be reached.
        """
        self._registry.score(rollout.rollout_id, scores)
        return super().score(rollout, scores)

    def _systems(self) -> list[str]:
        page = self._registry.systems(limit=PAGE)
        names = [system.name for system in page.items]
        while page.next_token:
            page = self._registry.systems(limit=PAGE, page_token=page.next_token)
            names += [system.name for system in page.items]
        return names


def _rollout(found: records.Rollout) -> Rollout:
    return Rollout(
        found.id,
        found.system,
        found.before.slots,
        found.after.slots,
        generation=int(found.details.get("generation", 0)),
        state=_STATES[found.state],
        reason=found.why,
        key=found.key,
        components=tuple(found.details.get("components", ())),
        canary=found.canary or 0.0,
        gate=found.gate or {},
        scores=found.scores,
        offered_s=float(found.details.get("offered_s", 0.0)),
        begun_s=found.began_at,
        ended_s=found.updated_at if found.ended else 0.0,
    )
