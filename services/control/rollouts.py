"""What is written down about swaps, so that a control service that starts again ends what was under way."""

from __future__ import annotations

import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from graph.errors import FailedPrecondition

KEPT = 200
"""Rollouts remembered; the oldest is forgotten first."""

PENDING, LOADING, FLIPPING = "pending", "loading", "flipping"
LIVE, FAILED = "live", "failed"
UNDER_WAY = (PENDING, LOADING, FLIPPING)


@dataclass(frozen=True)
class Rollout:
    """One change of a version set.

    Attributes:
        rollout_id: Its id.
        system: System.
        before: Set before: slot to version.
        after: Set after.
        generation: Number of the set, once it is live.
        state: "pending", "loading", "flipping", "live" or "failed".
        reason: Why it failed.
        key: Same key, same rollout; "" for none.
        components: Those that serve the sets before and after.
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
    begun_s: float = 0.0
    ended_s: float = 0.0


class RolloutLog:
    """Rollouts, oldest first; in a file if there is one.

    Args:
        path: Written to a temporary place, synced, renamed; None keeps them in memory alone.
        now: Seconds since 1970.

    Raises:
        FailedPrecondition: The file cannot be read.
    """

    def __init__(self, path: Path | None = None, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._rollouts: dict[str, Rollout] = {}
        if path is not None and path.exists():
            try:
                for item in json.loads(path.read_text())["rollouts"]:
                    rollout = Rollout(**{**item, "components": tuple(item["components"])})
                    self._rollouts[rollout.rollout_id] = rollout
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise FailedPrecondition(f"the list of rollouts cannot be read: {type(error).__name__}") from error

    def all(self, system: str = "") -> list[Rollout]:
        """Return the rollouts of a system, oldest first; of all systems without one."""
        return [rollout for rollout in self._rollouts.values() if system in ("", rollout.system)]

    def get(self, rollout_id: str) -> Rollout | None:
        """Return one; None when it is not known (any more)."""
        return self._rollouts.get(rollout_id)

    def by_key(self, key: str) -> Rollout | None:
        """Return the rollout that was asked for with a key."""
        return next((rollout for rollout in self._rollouts.values() if key and rollout.key == key), None)

    def begin(self, system: str, before: Mapping[str, str], after: Mapping[str, str], key: str = "") -> Rollout:
        """Write a new one down."""
        rollout = Rollout(
            uuid.uuid4().hex[:12], system, dict(before), dict(after), key=key, begun_s=self._now()
        )  # fmt: skip
        return self._put(rollout)

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
                ended_s=0.0 if state in UNDER_WAY else self._now(),
            )
        )

    def _put(self, rollout: Rollout) -> Rollout:
        self._rollouts[rollout.rollout_id] = rollout
        while len(self._rollouts) > KEPT:
            del self._rollouts[next(iter(self._rollouts))]
        if self._path is not None:
            self._write(self._path)
        return rollout

    def _write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, scratch = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as file:
            json.dump({"rollouts": [asdict(rollout) for rollout in self._rollouts.values()]}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
