"""How many replicas a component gets: from what its replicas report, never from requests at the edge."""

from __future__ import annotations

import math
from typing import Any

from services.runtime.component import Load

IN_USE = 0.01
SPARE = 0.7


def ongoing_of(context: Any) -> float:  # noqa: ANN401 - Ray's context is not typed
    """Return the requests that wait or run in all replicas of a component."""
    reported = (context.aggregated_metrics or {}).get("ongoing", {})
    return float(sum(reported.values()))


class LoadReport:
    """What a replica says about its load, one report after the other."""

    def __init__(self) -> None:
        self._ended = 0

    def ongoing(self, load: Load) -> float:
        """Return the requests that wait or run; a trace of one where some came and went since the last report."""
        ended, before = load.finished + load.failed, self._ended
        self._ended = ended
        # A fast component is idle whenever it is looked at. That it is in use must keep it awake.
        return max(float(load.waiting + load.running), IN_USE if ended != before else 0.0)


class OngoingPolicy:
    """Scales so that each replica has about ``target_ongoing`` requests.

    Serve keeps the delays: a change is made only once it has been wanted for ``upscale_delay_s`` or
    ``downscale_delay_s``. A component that sleeps is woken by a call queued at a Serve handle.

    Args:
        target_ongoing: Requests (waiting and running) one replica should have.
    """

    def __init__(self, target_ongoing: float = 2.0) -> None:
        self.target_ongoing = target_ongoing

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401
        """Return the number of replicas wanted, and the policy's state."""
        ongoing, current = ongoing_of(context), context.target_num_replicas
        wanted = math.ceil(ongoing / self.target_ongoing)
        if wanted < current:
            # Fewer only where they would have room to spare: load that hovers about the target must not flap.
            wanted = min(current, math.ceil(ongoing / (self.target_ongoing * SPARE)))
        queued_at_handles = context.total_num_requests
        if queued_at_handles > 0:
            wanted = max(wanted, 1)
        low, high = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return max(low, min(high, wanted)), {}
