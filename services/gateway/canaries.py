"""What a gateway has seen of canaries: how requests of either set ended, and how long they took."""

from __future__ import annotations

from graph.errors import (
    Cancelled,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unimplemented,
)
from services.gateway.pinning import Pin
from services.runtime.directory import Routes
from services.runtime.tally import Compared

NOT_OURS = (InvalidRequest, NotFound, PermissionDenied, Unauthenticated, Unimplemented)
"""Whatever set runs, it would have ended so: the caller's error."""


class CanaryCounts:
    """Counts for every canary there is; those that are over are forgotten.

    Args:
        routes: Which canaries there are.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._compared: dict[str, Compared] = {}

    def note(self, pin: Pin, took_s: float, error: BaseException | None) -> None:
        """Count a request that has ended; not where its caller took it back."""
        taken_back = isinstance(error, Cancelled) or (error is not None and not isinstance(error, Exception))
        if not pin.rollout or taken_back or isinstance(error, NOT_OURS):
            return
        both = self._compared.setdefault(pin.rollout, Compared())
        (both.canary if pin.is_canary else both.live).note(took_s, failed=error is not None)

    def compared(self) -> dict[str, Compared]:
        """Return what was seen of the canaries there are now, by rollout."""
        snapshot = self._routes.snapshot
        plans = [plan for system in snapshot.systems for plan in snapshot.sets(system)]
        there = {plan.canary.rollout for plan in plans if plan.canary is not None}
        self._compared = {rollout: both for rollout, both in self._compared.items() if rollout in there}
        return dict(self._compared)
