"""Sessions: which versions the turns of one conversation are pinned to. Bounded; the oldest is forgotten first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MAX_SESSIONS = 10_000
KEEP_S = 3600.0


@dataclass
class _Session:
    system: str
    versions: dict[str, str]
    seen_s: float


class Sessions:
    """Pins sessions to version sets.

    Args:
        clock: Monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[tuple[str, str], _Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def pin(
        self,
        owner: str,
        session_id: str,
        system: str,
        live: Mapping[str, str],
        resident: Callable[[Mapping[str, str]], bool],
    ) -> tuple[dict[str, str], bool]:
        """Return the versions a request runs, and whether its session had to change them.

        Args:
            owner: Whose session it is.
            session_id: "" for a request of its own.
            system: System.
            live: The set new requests get.
            resident: Whether a set is still served.
        """
        if not session_id:
            return dict(live), False
        now = self._clock()
        while self._sessions and next(iter(self._sessions.values())).seen_s < now - KEEP_S:
            self._sessions.popitem(last=False)
        key = (owner, session_id)
        session = self._sessions.get(key)
        repinned = False
        if session is None or session.system != system:
            session = _Session(system, dict(live), now)
        elif session.versions != dict(live) and not resident(session.versions):
            session, repinned = _Session(system, dict(live), now), True
        session.seen_s = now
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return dict(session.versions), repinned
