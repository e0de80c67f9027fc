"""What is written down about swaps, so that a control service that starts again ends what was under way."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from graph.errors import FailedPrecondition

KEPT = 200
"""Rollouts remembered; the oldest is forgotten first."""

PENDING, LOADING, FLIPPING = "pending", "loading", "flipping"
CANARY = "canary"
LIVE, FAILED, ROLLED_BACK = "live", "failed", "rolled_back"
UNDER_WAY = (PENDING, LOADING, FLIPPING)
"""Somebody is at it. Where nobody is any more, it is undone."""

NOT_ENDED = (*UNDER_WAY, CANARY)


@dataclass(frozen=True)
class Rollout:
    """One change of a version set.

    Attributes:
        rollout_id: Its id.
        system: System.
        before: Set before: slot to version.
        after: Set after.
        generation: Number of the set, once it is live.
        state: "pending", "loading", "canary", "flipping", "live", "failed" or "rolled_back".
        reason: Why it is in that state; "" where nothing has to be said.
        key: Same key, same rollout; "" for none.
        components: Those that serve the sets before and after.
        canary: Share of sessions that get it before it is live; 0 for none.
        gate: What decides about its promotion, as ``GateSpec`` reads it.
        scores: What was measured of it, by name.
        offered_s: When sessions began to get it, seconds since 1970; 0 before.
        begun_s: Seconds since 1970.
        ended_s: The same; 0 while it is under way.
    """

    rollout_id: str
    system: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    generation: int = 0
    state: str = PENDING
    reason: str = ""
    key: str = ""
    components: tuple[str, ...] = ()
    canary: float = 0.0
    gate: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    offered_s: float = 0.0
    begun_s: float = 0.0
    ended_s: float = 0.0


class RolloutLog:
    """Rollouts, oldest first, in memory. ``services.control.recorded`` keeps them in the registry.

    Args:
        now: Seconds since 1970.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self._rollouts: dict[str, Rollout] = {}

    def all(self, system: str = "") -> list[Rollout]:
        """Return the rollouts of a system, oldest first; of all systems without one."""
        return [rollout for rollout in self._rollouts.values() if system in ("", rollout.system)]

    def get(self, rollout_id: str) -> Rollout | None:
        """Return one; None when it is not known (any more)."""
        return self._rollouts.get(rollout_id)

    def by_key(self, key: str) -> Rollout | None:
        """Return the rollout that was asked for with a key."""
        return next((rollout for rollout in self._rollouts.values() if key and rollout.key == key), None)

    def canary_of(self, system: str) -> Rollout | None:
        """Return the rollout that a share of a system's sessions gets."""
        return next((rollout for rollout in self.all(system) if rollout.state == CANARY), None)

    def begin(
        self,
        system: str,
        before: Mapping[str, str],
        after: Mapping[str, str],
        key: str = "",
        canary: float = 0.0,
        gate: Mapping[str, Any] | None = None,
    ) -> Rollout:
        """Write a new one down.

        Raises:
            FailedPrecondition: Another rollout of the system is under way.
        """
        for rollout in self.all(system):
            if rollout.state in NOT_ENDED:
                told = f"rollout {rollout.rollout_id} is under way: wait for it, or roll it back"
                raise FailedPrecondition(told, f"system {system}")
        return self._put(
            Rollout(
                uuid.uuid4().hex[:12], system, dict(before), dict(after), key=key, canary=canary,
                gate=dict(gate or {}), begun_s=self.now(),
            )
        )  # fmt: skip

    def advance(
        self, rollout: Rollout, state: str, reason: str = "", generation: int = 0, components: tuple[str, ...] = ()
    ) -> Rollout:
        """Write down that it has come further."""
        return self._put(
            replace(
                rollout,
                state=state,
                reason=reason,
                generation=generation or rollout.generation,
                components=components or rollout.components,
                offered_s=self.now() if state == CANARY else rollout.offered_s,
                ended_s=0.0 if state in NOT_ENDED else self.now(),
            )
        )

    def score(self, rollout: Rollout, scores: Mapping[str, float]) -> Rollout:
        """Write down what was measured of it; scores of the same name are replaced."""
        return self._put(replace(rollout, scores={**rollout.scores, **scores}))

    def _put(self, rollout: Rollout) -> Rollout:
        self._rollouts[rollout.rollout_id] = rollout
        while len(self._rollouts) > KEPT:
            del self._rollouts[next(iter(self._rollouts))]
        return rollout
