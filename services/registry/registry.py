"""The registry: everything that is known of versions, in one database; several processes may share it.

The history of a system is linear. One rollout of it is under way at a time, it names the generation that it starts
from, and it begins only if that one is live; both are compared and set within one transaction that holds the system's
row. Whatever is written about a system passes by that row.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from graph.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound
from services.registry.artifacts import check_limit
from services.registry.database import Database
from services.registry.records import CANARY, ENDED, LIVE, PENDING, PREVIOUS, TRANSITIONS, Page, Rollout, VersionSet
from services.registry.systems import (
    MAX_WHY_CHARACTERS,
    SystemBook,
    add_set,
    find_alias,
    find_set,
    lock_system,
    note,
    number_of,
    point,
)
from services.registry.tables import KEY_LENGTH, RolloutRow, SystemRow

MAX_SCORES = 1000
MAX_DETAIL_CHARACTERS = 64 * 2**10


class Registry(SystemBook):
    """What is known of versions. Safe from several threads; every method is one short transaction.

    Args:
        url: Database, as SQLAlchemy has them; migrated when it is opened.

    Raises:
        InvalidRequest: The URL makes no sense, or its driver is not installed.
        Unavailable: The database cannot be reached.
        FailedPrecondition: Newer code has migrated it.
    """

    def __init__(self, url: str) -> None:
        super().__init__(Database(url))

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def begin_rollout(
        self,
        system: str,
        changes: Mapping[str, str],
        base_generation: int | None = None,
        canary: float | None = None,
        gate: Mapping[str, Any] | None = None,
        key: str = "",
    ) -> Rollout:
        """Begin to change slots of a system.

        Args:
            system: Which.
            changes: Slot to new version; "" empties a slot.
            base_generation: Set that has to be live; None for whichever is.
            canary: Share of sessions that get it first; None for all at once.
            gate: What decides about promotion, as JSON.
            key: Same key, same rollout: what a caller that got no answer asks again with.

        Raises:
            InvalidRequest: Nothing to change, a share that is none, a key too long.
            NotFound: No such system, or a version was never registered.
            AlreadyExists: The key was used for another rollout.
            FailedPrecondition: Another set is live than the base, another rollout is under way, or all is so already.
            Unavailable: The database cannot be reached.
        """
        if not changes:
            raise InvalidRequest("at least one slot expected", "slots")
        if canary is not None and not 0.0 < canary <= 1.0:
            raise InvalidRequest(f"{canary:g}, more than 0 and at most 1 expected", "canary")
        return self._begin(system, changes, base_generation, canary, gate, key, undoes=False)

    def begin_rollback(self, system: str, key: str = "") -> Rollout:
        """Begin to go back to the previous set; it gets a generation of its own, so that history stays linear.

        Raises:
            InvalidRequest: The key is too long.
            NotFound: No such system.
            AlreadyExists: The key was used for another rollout.
            FailedPrecondition: There is no previous set, or a rollout is under way.
            Unavailable: The database cannot be reached.
        """
        return self._begin(system, {}, None, None, None, key, undoes=True)

    def advance(self, rollout_id: str, state: str, why: str = "", details: Mapping[str, Any] | None = None) -> Rollout:
        """Take a rollout to its next state; the one it is in already is harmless.

        "canary" and "live" let the aliases stand for its set; at the end the next rollout may begin.

        Args:
            rollout_id: Which.
            state: Where to.
            why: Why; kept in the history.
            details: Kept with it; those of the same name are replaced.

        Raises:
            InvalidRequest: No such state, or details that are too many.
            NotFound: No such rollout.
            FailedPrecondition: That state does not follow the one it is in.
            Unavailable: The database cannot be reached.
        """
        if state not in TRANSITIONS:
            raise InvalidRequest(f"{state[:40]!r}, one of {', '.join(TRANSITIONS)} expected", "state")
        with self._database.write() as session:
            row, system = _lock_rollout(session, rollout_id)
            if details:
                row.details = _checked({**row.details, **details})
            if row.state == state:
                return _rollout_of(session, row)
            if state not in TRANSITIONS[row.state]:
                raise FailedPrecondition(f"{state} does not follow {row.state}", f"rollout {rollout_id}")
            row.state, row.why, row.updated_at = state, why[:MAX_WHY_CHARACTERS], time.time()
            if state == CANARY:
                point(session, row.system, CANARY, row.generation)
            if state == LIVE:
                point(session, row.system, PREVIOUS, row.base_generation)
                point(session, row.system, LIVE, row.generation)
            if state in ENDED:
                point(session, row.system, CANARY, None)
                system.rollout = ""
            note(session, system, state, row.id, why)
            return _rollout_of(session, row)

    def score(self, rollout_id: str, scores: Mapping[str, float]) -> None:
        """Write down what was measured of a rollout; scores of the same name are replaced.

        Raises:
            InvalidRequest: Too many.
            NotFound: No such rollout.
            Unavailable: The database cannot be reached.
        """
        with self._database.write() as session:
            row, _ = _lock_rollout(session, rollout_id)
            row.scores = {**row.scores, **scores}
            if len(row.scores) > MAX_SCORES:
                raise InvalidRequest(f"{len(row.scores)}, at most {MAX_SCORES} expected", "scores")

    def rollout(self, rollout_id: str) -> Rollout:
        """Return one rollout.

        Raises:
            NotFound: No such rollout.
            Unavailable: The database cannot be reached.
        """
        with self._database.read() as session:
            row = session.get(RolloutRow, rollout_id)
            if row is None:
                raise NotFound(f"no rollout {rollout_id[:64]!r}")
            return _rollout_of(session, row)

    def active(self, system: str) -> Rollout | None:
        """Return the rollout under way: what a control service that starts again goes on with."""
        with self._database.read() as session:
            row = session.get(SystemRow, system)
            return (
                None
                if row is None or not row.rollout
                else _rollout_of(session, session.get_one(RolloutRow, row.rollout))
            )

    def rollouts(self, system: str, limit: int = 100, page_token: str = "") -> Page[Rollout]:
        """List the rollouts of a system, the last first.

        Raises:
            InvalidRequest: The limit is not from 1 to 100, or the token is none.
            Unavailable: The database cannot be reached.
        """
        check_limit(limit, 100)
        wanted = select(RolloutRow).where(RolloutRow.system == system).order_by(RolloutRow.generation.desc())
        if page_token:
            wanted = wanted.where(RolloutRow.generation < number_of(page_token))
        with self._database.read() as session:
            rows = list(session.scalars(wanted.limit(limit + 1)))
            token = str(rows[limit - 1].generation) if len(rows) > limit else ""
            return Page(tuple(_rollout_of(session, row) for row in rows[:limit]), token)

    def _begin(
        self, system: str, changes: Mapping[str, str], base_generation: int | None, canary: float | None,
        gate: Mapping[str, Any] | None, key: str, *, undoes: bool,
    ) -> Rollout:  # fmt: skip
        if len(key) > KEY_LENGTH:
            raise InvalidRequest(f"{len(key)} characters, at most {KEY_LENGTH} expected", "idempotency_key")
        with self._database.write() as session:
            row = lock_system(session, system)
            known = _by_key(session, system, key)
            if known is not None:
                if (known.changes, known.undoes) != (dict(changes), undoes):
                    raise AlreadyExists("it was used for another rollout", "idempotency_key")
                return _rollout_of(session, known)
            live = _base(session, row, base_generation)
            slots = _previous_slots(session, system) if undoes else _changed(live, changes)
            after = add_set(session, row, slots)
            now = time.time()
            rollout = RolloutRow(
                id=uuid.uuid4().hex, system=system, base_generation=live.generation, generation=after.generation,
                changes=dict(changes), state=PENDING, why="", undoes=undoes, canary=canary,
                gate=None if gate is None else dict(gate), scores={}, details={}, key=key or None,
                began_at=now, updated_at=now,
            )  # fmt: skip
            session.add(rollout)
            row.rollout = rollout.id
            note(session, row, PENDING, rollout.id)
            return _rollout_of(session, rollout)


def _checked(details: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(json.dumps(details, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"cannot be written as JSON: {error}", "details") from error
    if size > MAX_DETAIL_CHARACTERS:
        raise InvalidRequest(f"{size} characters, at most {MAX_DETAIL_CHARACTERS} expected", "details")
    return details


def _by_key(session: Session, system: str, key: str) -> RolloutRow | None:
    if not key:
        return None
    return session.scalar(select(RolloutRow).where(RolloutRow.system == system, RolloutRow.key == key))


def _base(session: Session, row: SystemRow, base_generation: int | None) -> VersionSet:
    """Return the live set, if a rollout may begin from it."""
    where = f"system {row.name}"
    live = find_alias(session, row.name, LIVE)
    if live is None:
        raise NotFound(f"no system {row.name!r} was applied")
    if row.rollout:
        raise FailedPrecondition(f"rollout {row.rollout} is under way: wait for it, or roll it back", where)
    if base_generation is not None and base_generation != live.generation:
        raise FailedPrecondition(f"generation {live.generation} is live, {base_generation} expected", where)
    return live


def _previous_slots(session: Session, system: str) -> Mapping[str, str]:
    previous = find_alias(session, system, PREVIOUS)
    if previous is None:
        raise FailedPrecondition("there is no previous set to go back to", f"system {system}")
    return previous.slots


def _changed(live: VersionSet, changes: Mapping[str, str]) -> dict[str, str]:
    slots = {slot: version for slot, version in {**live.slots, **changes}.items() if version}
    if slots == dict(live.slots):
        raise FailedPrecondition(f"generation {live.generation} has these versions already", "slots")
    return slots


def _lock_rollout(session: Session, rollout_id: str) -> tuple[RolloutRow, SystemRow]:
    found = session.get(RolloutRow, rollout_id)
    if found is None:
        raise NotFound(f"no rollout {rollout_id[:64]!r}")
    # The system first, as everywhere; then the rollout again, as it is now that nobody else can change it.
    system = lock_system(session, found.system)
    session.refresh(found)
    return found, system


def _rollout_of(session: Session, row: RolloutRow) -> Rollout:
    return Rollout(
        row.id, row.system, row.changes, find_set(session, row.system, row.base_generation),
        find_set(session, row.system, row.generation), row.state, row.why, row.undoes, row.canary, row.gate,
        row.scores, row.details, row.key or "", row.began_at, row.updated_at,
    )  # fmt: skip
