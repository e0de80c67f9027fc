"""``anyplex status`` on a terminal updates in place."""

from __future__ import annotations

import os

import pytest

from services.cli import status
from services.deploy.state import ClusterState
from tests.fakes.gateway import FakeGateway
from tests.unit.cli.conftest import Cli

UP = "\x1b[1A"
ERASE = "\x1b[2K"


def test_status_updates_in_place(cli: Cli, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TERM", "xterm"), ("FORCE_COLOR", "1"), ("COLUMNS", "200"), ("LINES", "60")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(status, "PERIOD_S", 0.0)
    seen = 0

    def cluster_state(name: str) -> ClusterState | None:
        nonlocal seen
        seen += 1
        phase = "starting" if seen < 4 else "ready"
        line = "component think loads" if phase == "starting" else ""
        state = ClusterState(
            "default", os.getpid(), gateway.address, systems=("next-gpt",), profile="local", phase=phase, line=line,
            components={"sleeper": ["backbone", "decoder"]},
        )  # fmt: skip
        return state if seen < 8 else None

    monkeypatch.setattr(status, "cluster_state", cluster_state)
    ran = cli("status", "--watch")
    assert ran.code == 0, ran.err
    first, _, rest = ran.out.partition(UP)
    assert "default: starting" in first
    assert "component think loads" in first
    assert ERASE in first or ERASE in rest
    assert "default: ready" in rest
    assert "next-gpt (default)" in rest
    assert "no cluster 'default' runs here any more" in rest.rpartition(UP)[2] + rest
    assert ran.out.count(UP) >= 4, "each picture is drawn over the one before"


def test_ctrl_c_leaves_it(cli: Cli, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    state = ClusterState("default", os.getpid(), gateway.address, phase="ready")
    monkeypatch.setattr(status, "cluster_state", lambda name: state)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", interrupt)
    ran = cli("status", "--watch")
    assert (ran.code, ran.err) == (0, "")
    assert "default: ready" in ran.out
