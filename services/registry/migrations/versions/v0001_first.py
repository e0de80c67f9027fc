"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Make them."""
    _artifacts()
    _sets()
    _rollouts()


def downgrade() -> None:
    """Drop them."""
    for name in ("history", "rollout", "alias", "version_slot", "version_set", "system", "annotation", "artifact"):
        op.drop_table(name)


def _artifacts() -> None:
    op.create_table(
        "artifact",
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(200), nullable=False),
        sa.Column("type", sa.String(200), nullable=False),
        sa.Column("config_hash", sa.String(64), nullable=False),
        sa.Column("registered_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_artifact"),
    )
    op.create_index("ix_artifact_kind", "artifact", ["kind"])
    op.create_table(
        "annotation",
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["artifact.version"], name="fk_annotation_version"),
        sa.PrimaryKeyConstraint("version", "key", name="pk_annotation"),
    )


def _sets() -> None:
    op.create_table(
        "system",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("system_yaml", sa.Text(), nullable=False),
        sa.Column("profile_yaml", sa.Text(), nullable=False),
        sa.Column("last_generation", sa.Integer(), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("rollout", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_system"),
    )
    op.create_table(
        "version_set",
        sa.Column("system", sa.String(100), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["system"], ["system.name"], name="fk_version_set_system"),
        sa.PrimaryKeyConstraint("system", "generation", name="pk_version_set"),
    )
    op.create_table(
        "version_slot",
        sa.Column("system", sa.String(100), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("slot", sa.String(200), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        _of_set("version_slot"),
        sa.ForeignKeyConstraint(["version"], ["artifact.version"], name="fk_version_slot_version"),
        sa.PrimaryKeyConstraint("system", "generation", "slot", name="pk_version_slot"),
    )
    op.create_index("ix_version_slot_version", "version_slot", ["version"])
    op.create_table(
        "alias",
        sa.Column("system", sa.String(100), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        _of_set("alias"),
        sa.PrimaryKeyConstraint("system", "name", name="pk_alias"),
    )


def _of_set(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["system", "generation"], ["version_set.system", "version_set.generation"], name=f"fk_{table}_system"
    )


def _rollouts() -> None:
    op.create_table(
        "rollout",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("system", sa.String(100), nullable=False),
        sa.Column("base_generation", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("changes", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(200), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("undoes", sa.Boolean(), nullable=False),
        sa.Column("canary", sa.Double(), nullable=True),
        sa.Column("gate", sa.JSON(), nullable=True),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("key", sa.String(128), nullable=True),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["system"], ["system.name"], name="fk_rollout_system"),
        sa.PrimaryKeyConstraint("id", name="pk_rollout"),
        sa.UniqueConstraint("system", "generation", name="uq_rollout_system"),
        sa.UniqueConstraint("system", "key", name="uq_rollout_key"),
    )
    op.create_table(
        "history",
        sa.Column("system", sa.String(100), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("what", sa.String(200), nullable=False),
        sa.Column("rollout", sa.String(32), nullable=False),
        sa.Column("live", sa.Integer(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["system"], ["system.name"], name="fk_history_system"),
        sa.PrimaryKeyConstraint("system", "number", name="pk_history"),
    )
