"""The database behind the registry: opened by URL, migrated when it is opened, short transactions."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from graph.errors import FailedPrecondition, InvalidRequest, Unavailable

BUSY_S = 30.0
CONNECTIONS = 8
MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x616E79706C6578
"""Any number that nobody else locks: "anyplex"."""


class Database:
    """A database with the registry's tables, as this version of the code wants them.

    Args:
        url: As SQLAlchemy has them: ``sqlite:////var/lib/anyplex/registry.db``, ``postgresql+psycopg://…``.

    Raises:
        InvalidRequest: The URL makes no sense, or its driver is not installed.
        Unavailable: The database cannot be reached.
        FailedPrecondition: Newer code has migrated it.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            self._engine = create_engine(parsed, pool_size=CONNECTIONS, max_overflow=CONNECTIONS, pool_pre_ping=True)
        except (ArgumentError, ImportError, TypeError) as error:
            raise InvalidRequest(f"{type(error).__name__}: {str(error)[:200]}", "registry URL") from error
        lock: AbstractContextManager[None] = nullcontext()
        if parsed.get_backend_name() == "sqlite":
            if parsed.database in (None, "", ":memory:"):
                raise InvalidRequest("a database that several connections share expected: a file", "registry URL")
            path = Path(parsed.database or "")
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _prepare_sqlite(self._engine)
            lock = _file_lock(path.with_name(path.name + ".lock"))
        self._writer = self._engine.execution_options(writes=True)
        with lock, _reached(), self._writer.begin() as connection:
            _migrate(connection)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session that sees one state of the database."""
        with _reached(), Session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give a session whose changes are kept if nothing is raised, all of them or none.

        In SQLite it is the only one that writes; elsewhere its rows are its own once it has locked them.
        """
        with _reached(), Session(self._writer) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


@contextmanager
def _reached() -> Iterator[None]:
    """Turn what goes wrong on the way to the database into one error; what is not allowed there goes on."""
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, NoConnection) as error:
        reason = str(error.orig) if isinstance(error, DBAPIError) else "no connection is free"
        raise Unavailable(f"{type(error).__name__}: {reason.splitlines()[0][:200]}", "registry", 1.0) from error


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # Transactions are begun by the listener below: the driver would begin one only before the first change.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Open one at a time: turning the write-ahead log on does not wait for others as everything else does."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _migrate(connection: Connection) -> None:
    """Bring the tables to what this code wants; one of those who start at once does, the others wait."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise FailedPrecondition(f"its tables are not those of this version: {error}", "registry") from error
