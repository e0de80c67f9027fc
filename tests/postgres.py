"""A PostgreSQL server of one's own, in a temporary folder, run by somebody without rights."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 60.0


def postgres_folder() -> Path | None:
    """Return the folder of PostgreSQL's programs; None where it is not installed."""
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    if found := shutil.which("initdb"):
        folders.insert(0, Path(found).resolve().parent)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def _somebody() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.getuid():
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """Run a server that listens on a socket in its own folder alone; gives its URL without the database's name."""
    folder, somebody = Path(tempfile.mkdtemp(prefix="anyplex-postgres-")), _somebody()
    try:
        if somebody is not None:
            shutil.chown(folder, somebody)
        data = folder / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "anyplex", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
            check=True, capture_output=True, user=somebody, cwd=folder,
        )  # fmt: skip
        settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", folder, *settings],
                stdout=log, stderr=log, user=somebody, cwd=folder,
            )  # fmt: skip
        try:
            url = f"postgresql+psycopg://anyplex@/{{database}}?host={folder}"
            _until_up(url.format(database="postgres"), folder)
            yield url
        finally:
            server.terminate()
            server.wait(timeout=START_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def create_database(url: str, name: str) -> str:
    """Make an empty database and return its URL."""
    from sqlalchemy import create_engine, text

    engine = create_engine(url.format(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.format(database=name)


def _until_up(url: str, folder: Path) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError

    engine, give_up = create_engine(url), time.monotonic() + START_S
    while True:
        try:
            engine.connect().close()
            break
        except OperationalError:
            if time.monotonic() > give_up:
                raise AssertionError((folder / "log").read_text()) from None
    engine.dispose()
