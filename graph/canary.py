"""Who gets a canary: a share of sessions by their hash, so that every gateway answers alike and remembers nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from graph.errors import InvalidRequest

BUCKETS = 2**64


@dataclass(frozen=True)
class Canary:
    """The share of a rollout.

    Attributes:
        rollout: Its id: who is among the first differs from rollout to rollout.
        share: Of sessions, 0 to 1. Raised while it is under way, it takes sessions along and gives none back.

    Raises:
        InvalidRequest: The share is none.
    """

    rollout: str
    share: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise InvalidRequest(f"{self.share:g}, 0 to 1 expected", "canary_share")

    def takes(self, owner: str, session_id: str, request_id: str) -> bool:
        """Whether a request gets the canary's versions.

        Args:
            owner: Whose session it is: two callers may use the same id.
            session_id: All of its turns are answered alike; "" for a request of its own.
            request_id: What a request without a session is chosen by.
        """
        kind, name = ("session", session_id) if session_id else ("request", request_id)
        # Lengths keep ("a", "bc") and ("ab", "c") apart.
        words = [self.rollout, kind, owner, name]
        content = "".join(f"{len(word)}:{word}" for word in words).encode("utf-8", "surrogatepass")
        place = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
        return place < self.share * BUCKETS


def parse_share(text: str) -> float:
    """Read a share as people write it: ``5%``, ``0.05``.

    Raises:
        InvalidRequest: It is none.
    """
    number, percent = (text[:-1], 100.0) if text.endswith("%") else (text, 1.0)
    try:
        share = float(number) / percent
    except ValueError:
        share = -1.0
    if not 0.0 < share <= 1.0:
        raise InvalidRequest(f"{text[:40]!r}, a share such as 5% or 0.05 expected", "--canary")
    return share
