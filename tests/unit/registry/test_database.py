from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from graph.errors import FailedPrecondition, InvalidRequest, Unavailable
from services.registry import Registry
from services.registry.tables import Base

PROCESSES = 6
OPEN = (
    "import sys; from services.registry import Registry; Registry(sys.argv[1]).put_artifact(sys.argv[2], 'k', 't', 'h')"
)


def test_migrations_lead_to_the_tables_of_the_code(registry: Registry, url: str) -> None:
    with create_engine(url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_several_may_start_at_once(url: str) -> None:
    root = Path(__file__).resolve().parents[3]
    env = {**os.environ, "PYTHONPATH": f"{root}:{root / 'protos'}"}
    started = [
        subprocess.Popen([sys.executable, "-c", OPEN, url, f"v{number}"], env=env, stderr=subprocess.PIPE, text=True)
        for number in range(PROCESSES)
    ]
    ended = [(process.communicate()[1], process.returncode) for process in started]
    assert ended == [("", 0)] * PROCESSES
    assert [item.version for item in Registry(url).artifacts().items] == [f"v{number}" for number in range(PROCESSES)]
    print(f"figure: {PROCESSES} of {PROCESSES} processes opened one new database at once")


def test_what_was_written_is_there_when_it_is_opened_again(url: str) -> None:
    Registry(url).put_artifact("v", "k", "t", "h", {"a": [1, "größer"]})
    assert Registry(url).artifact("v").annotations == {"a": [1, "größer"]}


def test_tables_of_newer_code_are_left_alone(registry: Registry, url: str) -> None:
    with create_engine(url).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(FailedPrecondition, match="tables are not those of this version"):
        Registry(url)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "nonsense", "nothing://x", "mysql+nothing://x/y", ""]
)
def test_urls_that_make_no_sense_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        Registry(url)


def test_a_database_that_is_not_there_says_so_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as refused:
        Registry(f"postgresql+psycopg://somebody:secret@/x?host={tmp_path}")
    assert "secret" not in str(refused.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(Unavailable):
        Registry(f"sqlite:///{tmp_path}/folder")


def test_a_database_that_goes_away_is_unavailable(tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/registry.db")
    registry.close()
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(Unavailable, match="no such table"):
        registry.live("s")
