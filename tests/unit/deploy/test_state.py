from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from graph.errors import InvalidRequest
from services.deploy.state import (
    ClusterState,
    Replica,
    home,
    process_start,
    read_state,
    remove_state,
    write_state,
)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANYPLEX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


STATE = ClusterState(
    "test", os.getpid(), "127.0.0.1:1", token="t", component_token="c", systems=("a", "b"), phase="ready",
    components={"see": ["encoder", "clip_vision", "a.see"]}, replicas=(Replica("see", "127.0.0.1:2", ("v",)),),
)  # fmt: skip


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_was_written_is_read(own_home: Path) -> None:
    assert home() == own_home
    write_state(STATE)
    assert read_state("test") == STATE
    assert read_state("other") is None


def test_only_the_owner_may_read_it(own_home: Path) -> None:
    write_state(STATE)
    path = own_home / "clusters" / "test.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert [entry.name for entry in path.parent.iterdir()] == ["test.json"], "no scratch file may stay"


def test_a_cluster_whose_process_is_gone_is_none() -> None:
    write_state(dataclasses.replace(STATE, pid=dead_pid()))
    assert read_state("test") is None


def test_a_cluster_that_failed_says_so_after_its_process_is_gone() -> None:
    failed = dataclasses.replace(STATE, pid=dead_pid(), phase="failed", line="no weights")
    write_state(failed)
    assert read_state("test") == failed


def test_a_zombie_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not dataclasses.replace(STATE, pid=process.pid).alive()
    process.wait()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"name": 1}', "\x00"])
def test_a_damaged_file_is_none(own_home: Path, content: str) -> None:
    write_state(STATE)
    (own_home / "clusters" / "test.json").write_text(content)
    assert read_state("test") is None


def test_removing_twice_is_harmless() -> None:
    write_state(STATE)
    remove_state("test")
    remove_state("test")
    assert read_state("test") is None


def test_a_process_that_only_has_the_number_is_another_one() -> None:
    own = process_start(os.getpid())
    assert own > 0
    assert ClusterState("x", os.getpid(), "127.0.0.1:1", process_start=own).alive()
    assert not ClusterState("x", os.getpid(), "127.0.0.1:1", process_start=own + 1).alive()


def test_only_the_process_that_wrote_it_removes_it() -> None:
    write_state(ClusterState("default", os.getpid(), "127.0.0.1:1"))
    remove_state("default", os.getpid() + 1)
    assert read_state() is not None
    remove_state("default", os.getpid())
    assert read_state() is None


@pytest.mark.parametrize("name", ["../../x", "", ".hidden", "a/b", "a" * 65])
def test_names_that_would_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        write_state(ClusterState(name, os.getpid(), "127.0.0.1:1"))
