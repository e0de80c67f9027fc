"""Where the control service of a cluster is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Control:
    """Where the control service listens, and where it writes rollouts down.

    Attributes:
        host: Address it listens on.
        port: Port; the same after a restart.
        log_path: File of the rollouts.
    """

    host: str
    port: int
    log_path: str
