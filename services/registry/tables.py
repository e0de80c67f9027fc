"""The registry's tables. A change here needs a migration: a test compares the two."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, Double, ForeignKey, ForeignKeyConstraint, Index, Integer, MetaData, String, Text
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
VERSION_LENGTH = 64
SYSTEM_LENGTH = 100
SLOT_LENGTH = 200
KEY_LENGTH = 128
ID_LENGTH = 32
NAME_LENGTH = 200


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=NAMES)


class ArtifactRow(Base):
    """An artifact that was registered."""

    __tablename__ = "artifact"
    version: Mapped[str] = mapped_column(String(VERSION_LENGTH), primary_key=True)
    kind: Mapped[str] = mapped_column(String(NAME_LENGTH), index=True)
    type: Mapped[str] = mapped_column(String(NAME_LENGTH))
    config_hash: Mapped[str] = mapped_column(String(VERSION_LENGTH))
    registered_at: Mapped[float] = mapped_column(Double)


class AnnotationRow(Base):
    """One thing that is said of an artifact."""

    __tablename__ = "annotation"
    version: Mapped[str] = mapped_column(ForeignKey("artifact.version"), primary_key=True)
    key: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)
    updated_at: Mapped[float] = mapped_column(Double)


class SystemRow(Base):
    """A system; its row is what writers of its sets, rollouts and history hold for themselves."""

    __tablename__ = "system"
    name: Mapped[str] = mapped_column(String(SYSTEM_LENGTH), primary_key=True)
    system_yaml: Mapped[str] = mapped_column(Text)
    profile_yaml: Mapped[str] = mapped_column(Text)
    last_generation: Mapped[int] = mapped_column(Integer)
    last_number: Mapped[int] = mapped_column(Integer)
    rollout: Mapped[str] = mapped_column(String(ID_LENGTH))


class SetRow(Base):
    """A version set."""

    __tablename__ = "version_set"
    system: Mapped[str] = mapped_column(ForeignKey("system.name"), primary_key=True)
    generation: Mapped[int] = mapped_column(Integer, primary_key=True)
    made_at: Mapped[float] = mapped_column(Double)


class SlotRow(Base):
    """What one slot of a version set runs."""

    __tablename__ = "version_slot"
    __table_args__ = (
        ForeignKeyConstraint(["system", "generation"], ["version_set.system", "version_set.generation"]),
        Index("ix_version_slot_version", "version"),
    )
    system: Mapped[str] = mapped_column(String(SYSTEM_LENGTH), primary_key=True)
    generation: Mapped[int] = mapped_column(Integer, primary_key=True)
    slot: Mapped[str] = mapped_column(String(SLOT_LENGTH), primary_key=True)
    version: Mapped[str] = mapped_column(ForeignKey("artifact.version"))


class AliasRow(Base):
    """Which set is live, a canary, or the previous one."""

    __tablename__ = "alias"
    __table_args__ = (ForeignKeyConstraint(["system", "generation"], ["version_set.system", "version_set.generation"]),)
    system: Mapped[str] = mapped_column(String(SYSTEM_LENGTH), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    generation: Mapped[int] = mapped_column(Integer)


class RolloutRow(Base):
    """A rollout."""

    __tablename__ = "rollout"
    __table_args__ = (Unique("system", "generation"), Unique("system", "key", name="uq_rollout_key"))
    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    system: Mapped[str] = mapped_column(ForeignKey("system.name"))
    base_generation: Mapped[int] = mapped_column(Integer)
    generation: Mapped[int] = mapped_column(Integer)
    changes: Mapped[dict[str, str]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(NAME_LENGTH))
    why: Mapped[str] = mapped_column(Text)
    undoes: Mapped[bool] = mapped_column(Boolean)
    canary: Mapped[float | None] = mapped_column(Double)
    gate: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    scores: Mapped[dict[str, float]] = mapped_column(JSON)
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    key: Mapped[str | None] = mapped_column(String(KEY_LENGTH))
    began_at: Mapped[float] = mapped_column(Double)
    updated_at: Mapped[float] = mapped_column(Double)


class HistoryRow(Base):
    """A line of a system's history."""

    __tablename__ = "history"
    system: Mapped[str] = mapped_column(ForeignKey("system.name"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[float] = mapped_column(Double)
    what: Mapped[str] = mapped_column(String(NAME_LENGTH))
    rollout: Mapped[str] = mapped_column(String(ID_LENGTH))
    live: Mapped[int] = mapped_column(Integer)
    why: Mapped[str] = mapped_column(Text)
