"""Systems, their version sets, and which of them is live, a canary, or the previous one."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from graph.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound
from services.registry.artifacts import ArtifactBook, check_limit
from services.registry.records import ALIASES, LIVE, PREVIOUS, Change, KnownSystem, Page, VersionSet
from services.registry.tables import (
    SLOT_LENGTH,
    SYSTEM_LENGTH,
    AliasRow,
    ArtifactRow,
    HistoryRow,
    SetRow,
    SlotRow,
    SystemRow,
)

MAX_SLOTS = 1000
MAX_YAML_CHARACTERS = 2**20
MAX_WHY_CHARACTERS = 4000


class SystemBook(ArtifactBook):
    """The systems in a database."""

    def establish(
        self, system: str, slots: Mapping[str, str], *, system_yaml: str = "", profile_yaml: str = ""
    ) -> VersionSet:
        """Give a system its first live set; the same again is harmless.

        Raises:
            InvalidRequest: Names, slots or files are empty or too long.
            NotFound: A version was never registered.
            AlreadyExists: Another set is live: that takes a rollout.
            Unavailable: The database cannot be reached.
        """
        if not 1 <= len(system) <= SYSTEM_LENGTH:
            raise InvalidRequest(f"{len(system)} characters, 1 to {SYSTEM_LENGTH} expected", "system")
        _check_files(system_yaml, profile_yaml)
        with self._database.write() as session:
            row = _insert_or_lock(session, system)
            live = find_alias(session, system, LIVE)
            if live is not None:
                if dict(live.slots) != dict(slots):
                    raise AlreadyExists(f"generation {live.generation} is live: swap what differs", f"system {system}")
                return live
            row.system_yaml, row.profile_yaml = system_yaml, profile_yaml
            made = add_set(session, row, slots)
            point(session, system, LIVE, made.generation)
            note(session, row, "established")
            return made

    def adopt(self, system: str, slots: Mapping[str, str]) -> VersionSet:
        """Take note of the set that a system runs, whatever was known of it: it was started anew with other weights.

        Raises:
            InvalidRequest: Names or slots are empty or too long.
            NotFound: A version was never registered.
            FailedPrecondition: Another set is known to be live, and a rollout from it is under way.
            Unavailable: The database cannot be reached.
        """
        try:
            return self.establish(system, slots)
        except AlreadyExists:
            pass
        with self._database.write() as session:
            row = lock_system(session, system)
            if row.rollout:
                raise FailedPrecondition(f"rollout {row.rollout} is under way", f"system {system}")
            made = add_set(session, row, slots)
            point(session, system, LIVE, made.generation)
            # Nobody holds what was before that: there is nothing to go back to in one flip.
            point(session, system, PREVIOUS, None)
            note(session, row, "adopted")
            return made

    def apply_files(self, system: str, system_yaml: str, profile_yaml: str) -> bool:
        """Write down the files that a system was applied with.

        Returns:
            Whether they were others before.

        Raises:
            InvalidRequest: They are too long.
            NotFound: No such system.
            Unavailable: The database cannot be reached.
        """
        _check_files(system_yaml, profile_yaml)
        with self._database.write() as session:
            row = lock_system(session, system)
            if (row.system_yaml, row.profile_yaml) == (system_yaml, profile_yaml):
                return False
            row.system_yaml, row.profile_yaml = system_yaml, profile_yaml
            note(session, row, "applied")
            return True

    def delete_system(self, system: str) -> None:
        """Take a system away; its history stays, and goes on if it comes back.

        Raises:
            NotFound: No such system.
            FailedPrecondition: A rollout is under way.
            Unavailable: The database cannot be reached.
        """
        with self._database.write() as session:
            row = lock_system(session, system)
            if row.rollout:
                raise FailedPrecondition(f"rollout {row.rollout} is under way", f"system {system}")
            session.execute(delete(AliasRow).where(AliasRow.system == system))
            note(session, row, "deleted")

    def system(self, system: str) -> KnownSystem:
        """Return one system.

        Raises:
            NotFound: No such system.
            Unavailable: The database cannot be reached.
        """
        with self._database.read() as session:
            row = session.get(SystemRow, system)
            found = None if row is None else _system_of(session, row)
        if found is None or not found.sets:
            raise NotFound(f"no system {system[:SYSTEM_LENGTH]!r} was applied")
        return found

    def systems(self, *, limit: int = 100, page_token: str = "") -> Page[KnownSystem]:
        """List systems by name.

        Raises:
            InvalidRequest: The limit is not from 1 to 100.
            Unavailable: The database cannot be reached.
        """
        check_limit(limit, 100)
        live = select(AliasRow.system).where(AliasRow.name == LIVE)
        wanted = select(SystemRow).where(SystemRow.name > page_token, SystemRow.name.in_(live))
        with self._database.read() as session:
            rows = list(session.scalars(wanted.order_by(SystemRow.name).limit(limit + 1)))
            token = rows[limit - 1].name if len(rows) > limit else ""
            return Page(tuple(_system_of(session, row) for row in rows[:limit]), token)

    def live(self, system: str) -> VersionSet | None:
        """Return the set that is live; None when there is none."""
        return self.alias(system, LIVE)

    def previous(self, system: str) -> VersionSet | None:
        """Return the set that was live before; None when there is none."""
        return self.alias(system, PREVIOUS)

    def alias(self, system: str, name: str) -> VersionSet | None:
        """Return the set that "live", "canary" or "previous" stands for; None when there is none.

        Raises:
            InvalidRequest: It is none of these.
            Unavailable: The database cannot be reached.
        """
        if name not in ALIASES:
            raise InvalidRequest(f"{name[:40]!r}, one of {', '.join(ALIASES)} expected", "alias")
        with self._database.read() as session:
            return find_alias(session, system, name)

    def history(self, system: str, limit: int = 100, page_token: str = "") -> Page[Change]:
        """List what happened to a system, the last first.

        Raises:
            InvalidRequest: The limit is not from 1 to 1000, or the token is none.
            Unavailable: The database cannot be reached.
        """
        check_limit(limit)
        wanted = select(HistoryRow).where(HistoryRow.system == system).order_by(HistoryRow.number.desc())
        if page_token:
            wanted = wanted.where(HistoryRow.number < number_of(page_token))
        with self._database.read() as session:
            rows = list(session.scalars(wanted.limit(limit + 1)))
            token = str(rows[limit - 1].number) if len(rows) > limit else ""
            items = (Change(row.number, row.at, row.what, row.rollout, row.live, row.why) for row in rows[:limit])
            return Page(tuple(items), token)


def number_of(page_token: str) -> int:
    """Return the number that a page goes on from.

    Raises:
        InvalidRequest: The token is none that was given out.
    """
    if not page_token.isascii() or not page_token.isdigit() or len(page_token) > 9:
        raise InvalidRequest(f"{page_token[:40]!r} is none that was given out", "page_token")
    return int(page_token)


def lock_system(session: Session, system: str) -> SystemRow:
    """Get a system's row for oneself, until the transaction ends.

    Raises:
        NotFound: No such system, or it was deleted.
    """
    row = session.get(SystemRow, system, with_for_update=True)
    if row is None or session.get(AliasRow, (system, LIVE)) is None:
        raise NotFound(f"no system {system[:SYSTEM_LENGTH]!r} was applied")
    return row


def find_set(session: Session, system: str, generation: int) -> VersionSet:
    """Return a set that exists."""
    rows = session.scalars(select(SlotRow).where(SlotRow.system == system, SlotRow.generation == generation))
    return VersionSet(generation, {row.slot: row.version for row in rows})


def find_alias(session: Session, system: str, name: str) -> VersionSet | None:
    """Return the set that an alias stands for."""
    row = session.get(AliasRow, (system, name))
    return None if row is None else find_set(session, system, row.generation)


def point(session: Session, system: str, name: str, generation: int | None) -> None:
    """Let an alias stand for a set; None takes it away."""
    row = session.get(AliasRow, (system, name))
    if generation is None:
        if row is not None:
            session.delete(row)
    elif row is None:
        session.add(AliasRow(system=system, name=name, generation=generation))
    else:
        row.generation = generation
    session.flush()


def add_set(session: Session, row: SystemRow, slots: Mapping[str, str]) -> VersionSet:
    """Add a set with the next generation.

    Raises:
        InvalidRequest: No slots, too many, or one with a name too long.
        NotFound: A version was never registered.
    """
    if not 1 <= len(slots) <= MAX_SLOTS:
        raise InvalidRequest(f"{len(slots)} slots, 1 to {MAX_SLOTS} expected", "slots")
    for slot in slots:
        if not 1 <= len(slot) <= SLOT_LENGTH:
            raise InvalidRequest(f"{len(slot)} characters, 1 to {SLOT_LENGTH} expected", f"slots[{slot[:40]!r}]")
    asked = set(slots.values())
    known = set(session.scalars(select(ArtifactRow.version).where(ArtifactRow.version.in_(asked))))
    if unknown := sorted(asked - known):
        raise NotFound(f"never registered: {', '.join(unknown[:5])[:400]}", "slots")
    row.last_generation += 1
    session.add(SetRow(system=row.name, generation=row.last_generation, made_at=time.time()))
    session.flush()
    session.add_all(
        SlotRow(system=row.name, generation=row.last_generation, slot=slot, version=version)
        for slot, version in slots.items()
    )
    session.flush()
    return VersionSet(row.last_generation, dict(slots))


def note(session: Session, row: SystemRow, what: str, rollout: str = "", why: str = "") -> None:
    """Write a line of a system's history."""
    session.flush()
    live = session.get(AliasRow, (row.name, LIVE))
    row.last_number += 1
    session.add(
        HistoryRow(
            system=row.name, number=row.last_number, at=time.time(), what=what, rollout=rollout,
            live=0 if live is None else live.generation, why=why[:MAX_WHY_CHARACTERS],
        )
    )  # fmt: skip
    session.flush()


def _insert_or_lock(session: Session, system: str) -> SystemRow:
    found = session.get(SystemRow, system, with_for_update=True)
    if found is not None:
        return found
    row = SystemRow(name=system, system_yaml="", profile_yaml="", last_generation=0, last_number=0, rollout="")
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        # Somebody else was faster; where only one writes at a time that does not happen.
        return session.get_one(SystemRow, system, with_for_update=True)
    return row


def _check_files(*files: str) -> None:
    if any(len(file) > MAX_YAML_CHARACTERS for file in files):
        raise InvalidRequest(f"more than {MAX_YAML_CHARACTERS} characters", "file")


def _system_of(session: Session, row: SystemRow) -> KnownSystem:
    sets = {name: found for name in ALIASES if (found := find_alias(session, row.name, name)) is not None}
    return KnownSystem(row.name, row.system_yaml, row.profile_yaml, sets, row.rollout)
