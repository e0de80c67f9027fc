"""How many replicas a component gets: from what its replicas report, never from requests at the edge."""

from __future__ import annotations

import math
from typing import Any


def ongoing_of(context: Any) -> float:  # noqa: ANN401 - Ray's context is not typed
    """Return the requests that wait or run in all replicas of a component."""
    reported = (context.aggregated_metrics or {}).get("ongoing", {})
    return float(sum(reported.values()))


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
        wanted = math.ceil(ongoing_of(context) / self.target_ongoing)
        queued_at_handles = context.total_num_requests
        if queued_at_handles > 0:
            wanted = max(wanted, 1)
        low, high = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return max(low, min(high, wanted)), {}
