"""Alembic's entry: migrates over the connection it is given, within the transaction that is under way there."""

from alembic import context

from services.registry.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
