"""What is written down about a running cluster, so that other commands find it: one file a cluster."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.runtime.directory import Entry


@dataclass(frozen=True)
class Replica:
    """Where one replica is.

    Attributes:
        component: Component it belongs to.
        address: host:port of its gRPC server.
        versions: Artifact versions it holds.
    """

    component: str
    address: str
    versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClusterState:
    """A cluster that somebody started.

    Attributes:
        name: Its name.
        pid: Process that keeps it running.
        address: host:port of the gateway.
        token: Token that the gateway asks for; "" for none.
        component_token: Token that components ask for.
        log_path: Where the process writes its log; "" when it has a terminal.
        started_at: Seconds since 1970.
        systems: Systems it runs.
        profile: Profile it runs them with.
        phase: "starting", "ready", "stopping", "failed".
        line: What it is doing, or why it failed.
        code: Code of the error it failed with.
        metrics_address: host:port of the gateway's metrics.
        components: Component to (kind, type, "system.node", …).
        replicas: Replicas there are.
    """

    name: str
    pid: int
    address: str
    token: str = ""
    component_token: str = ""
    log_path: str = ""
    started_at: float = field(default_factory=time.time)
    systems: tuple[str, ...] = ()
    profile: str = ""
    phase: str = "starting"
    line: str = ""
    code: str = ""
    metrics_address: str = ""
    components: dict[str, list[str]] = field(default_factory=dict)
    replicas: tuple[Replica, ...] = ()

    def alive(self) -> bool:
        """Return whether its process runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return not _is_zombie(self.pid)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def home() -> Path:
    """Return the directory where clusters, imported weights and logs are kept."""
    return Path(os.environ.get("ANYPLEX_HOME", "") or Path.home() / ".anyplex")


def _path(name: str) -> Path:
    return home() / "clusters" / f"{name}.json"


def write_state(state: ClusterState) -> None:
    """Write a state, readable by its owner only: it holds tokens."""
    path = _path(state.name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, scratch = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w") as file:
        json.dump(dataclasses.asdict(state), file, indent=1)
    os.replace(scratch, path)


def read_state(name: str = "default") -> ClusterState | None:
    """Return the state of a cluster; None when there is none, or its process is gone without having failed."""
    try:
        content = json.loads(_path(name).read_text())
        content["systems"] = tuple(content["systems"])
        content["replicas"] = tuple(
            Replica(item["component"], item["address"], tuple(item["versions"])) for item in content["replicas"]
        )
        state = ClusterState(**content)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return state if state.alive() or state.phase == "failed" else None


def remove_state(name: str) -> None:
    """Forget a cluster."""
    _path(name).unlink(missing_ok=True)


def replicas_of(entries: Sequence[Entry]) -> tuple[Replica, ...]:
    """Return what is written down about replicas."""
    return tuple(Replica(entry.component, entry.address, tuple(sorted(entry.versions))) for entry in entries)
