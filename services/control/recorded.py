"""Rollouts of the coordinator in the registry: they outlive it, and others may read them meanwhile."""

from __future__ import annotations

from collections.abc import Mapping

from graph.errors import NotFound
from services.artifacts import ArtifactStore
from services.control.known import register
from services.control.rollouts import FAILED, FLIPPING, KEPT, LIVE, LOADING, PENDING, Rollout, RolloutLog
from services.registry import Registry, records

PAGE = 100
_STATES: Mapping[str, str] = {
    records.PENDING: PENDING, records.LOADING: LOADING, records.VERIFYING: LOADING, records.CANARY: LOADING,
    records.FLIPPING: FLIPPING, records.LIVE: LIVE, records.FAILED: FAILED, records.ROLLED_BACK: FAILED,
}  # fmt: skip
"""What the coordinator calls the registry's states."""


class RegistryLog(RolloutLog):
    """Rollouts in a registry.

    Args:
        registry: Which.
        store: Where artifacts are: what a set names is registered before the set.
    """

    def __init__(self, registry: Registry, store: ArtifactStore) -> None:
        super().__init__()
        self._registry = registry
        self._store = store

    def all(self, system: str = "") -> list[Rollout]:
        """Return the last rollouts of a system, or of all systems that run, oldest first."""
        found: list[records.Rollout] = []
        for name in [system] if system else self._systems():
            page = self._registry.rollouts(name, PAGE)
            mine = list(page.items)
            while page.next_token and len(mine) < KEPT:
                page = self._registry.rollouts(name, PAGE, page.next_token)
                mine += page.items
            found += mine
        found.sort(key=lambda rollout: rollout.began_at)
        return [_rollout(rollout) for rollout in found[-KEPT:]]

    def get(self, rollout_id: str) -> Rollout | None:
        """Return one; None when it is not known."""
        try:
            return _rollout(self._registry.rollout(rollout_id))
        except NotFound:
            return None

    def by_key(self, key: str) -> Rollout | None:
        """Return the rollout that was asked for with a key."""
        return next((rollout for rollout in self.all() if key and rollout.key == key), None)

    def begin(self, system: str, before: Mapping[str, str], after: Mapping[str, str], key: str = "") -> Rollout:
        """Write a new one down, from the set that runs, whatever was known of it.

        Raises:
            FailedPrecondition: Another rollout is under way.
            NotFound: There is no such artifact.
            Unavailable: Store or registry cannot be reached.
        """
        register(self._registry, self._store, [*before.values(), *after.values()])
        live = self._registry.adopt(system, before)
        changes = {slot: after.get(slot, "") for slot in {*before, *after} if before.get(slot) != after.get(slot)}
        return _rollout(self._registry.begin_rollout(system, changes, live.generation, key=key))

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
        if state == FLIPPING:
            # Replicas verify what they load while they do.
            self._registry.advance(rollout.rollout_id, records.VERIFYING)
        return _rollout(self._registry.advance(rollout.rollout_id, state, reason, details))

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
        int(found.details.get("generation", 0)),
        _STATES[found.state],
        found.why,
        found.key,
        tuple(found.details.get("components", ())),
        found.began_at,
        found.updated_at if found.ended else 0.0,
    )
