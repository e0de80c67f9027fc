"""A cluster for one command is gone however the command ends."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from services.cli.temporary import temporary_cluster
from services.deploy import launch


def test_it_is_stopped_where_the_command_is_terminated(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[str] = []

    def start(options: launch.UpOptions, say: Any) -> str:
        return options.name

    def stop(name: str, say: Any) -> None:
        stopped.append(name)

    monkeypatch.setattr(launch, "start_detached", start)
    monkeypatch.setattr(launch, "stop", stop)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), temporary_cluster(("s",), "test"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped == [f"test-{os.getpid()}"]
    assert signal.getsignal(signal.SIGTERM) is before
