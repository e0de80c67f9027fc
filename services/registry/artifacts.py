"""Artifacts that were registered, and what is said of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from graph.errors import AlreadyExists, InvalidRequest, NotFound
from services.registry.database import Database
from services.registry.records import LIVE, KnownArtifact, Page
from services.registry.tables import NAME_LENGTH, AliasRow, AnnotationRow, ArtifactRow, SlotRow

MAX_LIMIT = 1000
MAX_ARTIFACTS = 100
MAX_ANNOTATION_BYTES = 64 * 2**10
"""Of all that is said of one artifact; what is larger stays beside the artifact itself."""


class ArtifactBook:
    """The artifacts in a database.

    Args:
        database: Which.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def put_artifact(
        self, version: str, kind: str, type: str, config_hash: str, annotations: Mapping[str, Any] | None = None
    ) -> KnownArtifact:
        """Make an artifact known; again is harmless, and merges annotations.

        Raises:
            InvalidRequest: Something is empty, too long, or no JSON.
            AlreadyExists: The version is known as something else.
            Unavailable: The database cannot be reached.
        """
        for name, text in (("version", version), ("kind", kind), ("type", type), ("config_hash", config_hash)):
            _check_text(name, text)
        row = {"version": version, "kind": kind, "type": type, "config_hash": config_hash}
        with self._database.write() as session:
            known = _insert_or_get(session, ArtifactRow(**row, registered_at=time.time()), version)
            if any(getattr(known, name) != text for name, text in row.items()):
                raise AlreadyExists(f"{version} is known as a {known.kind} {known.type}", "version")
            _annotate(session, version, annotations or {})
            return _known(session, [known])[0]

    def artifact(self, version: str) -> KnownArtifact:
        """Return one artifact.

        Raises:
            NotFound: It was never registered.
            Unavailable: The database cannot be reached.
        """
        with self._database.read() as session:
            row = session.get(ArtifactRow, version)
            if row is None:
                raise NotFound(f"version {version[:64]!r} was never registered")
            return _known(session, [row])[0]

    def artifacts(
        self, *, system: str = "", kind: str = "", limit: int = MAX_ARTIFACTS, page_token: str = ""
    ) -> Page[KnownArtifact]:
        """List artifacts by version: all, those of a kind, those that any set of a system has had.

        Raises:
            InvalidRequest: The limit is not from 1 to 100.
            Unavailable: The database cannot be reached.
        """
        check_limit(limit, MAX_ARTIFACTS)
        wanted = select(ArtifactRow).where(ArtifactRow.version > page_token).order_by(ArtifactRow.version)
        if kind:
            wanted = wanted.where(ArtifactRow.kind == kind)
        if system:
            wanted = wanted.where(ArtifactRow.version.in_(select(SlotRow.version).where(SlotRow.system == system)))
        with self._database.read() as session:
            rows = list(session.scalars(wanted.limit(limit + 1)))
            token = rows[limit - 1].version if len(rows) > limit else ""
            return Page(tuple(_known(session, rows[:limit])), token)

    def annotate(self, version: str, key: str, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Say something of an artifact; what was said under that key is replaced.

        Raises:
            InvalidRequest: It is no JSON, or too much is said of this artifact.
            NotFound: It was never registered.
            Unavailable: The database cannot be reached.
        """
        with self._database.write() as session:
            if session.get(ArtifactRow, version, with_for_update=True) is None:
                raise NotFound(f"version {version[:64]!r} was never registered")
            _annotate(session, version, {key: value})


def check_limit(limit: int, most: int = MAX_LIMIT) -> None:
    """Check how many are asked for.

    Raises:
        InvalidRequest: Too few or too many.
    """
    if not 1 <= limit <= most:
        raise InvalidRequest(f"{limit}, 1 to {most} expected", "limit")


def _check_text(name: str, text: str, most: int = NAME_LENGTH) -> None:
    if not 1 <= len(text) <= most:
        raise InvalidRequest(f"{len(text)} characters, 1 to {most} expected", name)


def _insert_or_get(session: Session, row: ArtifactRow, version: str) -> ArtifactRow:
    found = session.get(ArtifactRow, version, with_for_update=True)
    if found is not None:
        return found
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        # Somebody else was faster; where only one writes at a time that does not happen.
        return session.get_one(ArtifactRow, version, with_for_update=True)
    return row


def _annotate(session: Session, version: str, annotations: Mapping[str, Any]) -> None:
    rows = {row.key: row for row in session.scalars(select(AnnotationRow).where(AnnotationRow.version == version))}
    for key, value in annotations.items():
        _check_text("annotation", key)
        if (row := rows.get(key)) is None:
            rows[key] = row = AnnotationRow(version=version, key=key)
            session.add(row)
        row.value, row.updated_at = value, time.time()
    try:
        size = sum(len(json.dumps(row.value, allow_nan=False)) + len(key) for key, row in rows.items())
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"cannot be written as JSON: {error}", "annotations") from error
    if size > MAX_ANNOTATION_BYTES:
        raise InvalidRequest(f"{size} bytes, at most {MAX_ANNOTATION_BYTES} expected", "annotations")


def _known(session: Session, rows: list[ArtifactRow]) -> list[KnownArtifact]:
    session.flush()
    versions = [row.version for row in rows]
    said: dict[str, dict[str, Any]] = {version: {} for version in versions}
    for item in session.scalars(select(AnnotationRow).where(AnnotationRow.version.in_(versions))):
        said[item.version][item.key] = item.value
    live: dict[str, list[str]] = {version: [] for version in versions}
    of_live = (AliasRow.system == SlotRow.system) & (AliasRow.generation == SlotRow.generation)
    used = select(SlotRow).join(AliasRow, of_live).where(AliasRow.name == LIVE, SlotRow.version.in_(versions))
    for slot in session.scalars(used):
        live[slot.version].append(f"{slot.system}:{slot.slot}")
    return [
        KnownArtifact(
            row.version, row.kind, row.type, row.config_hash, row.registered_at,
            said[row.version], tuple(sorted(live[row.version])),
        )
        for row in rows
    ]  # fmt: skip
