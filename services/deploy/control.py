"""Where the control service of a cluster is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Control:
    """Where the control service listens, and which registry it writes to.

    Attributes:
        host: Address it listens on.
        port: Port; the same after a restart.
        registry_url: Database of the registry, where rollouts are written down.
    """

    host: str
    port: int
    registry_url: str
