"""What is written down about a running cluster, so that other commands find it: one file a cluster."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from graph.errors import InvalidRequest
from services.runtime.directory import Entry

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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
        process_start: When that process started, in ticks since the machine did: a number may be used again.
        address: host:port of the gateway.
        token: Token that the gateway asks for; "" for none.
        component_token: Token that components ask for.
        control_address: host:port of the control service.
        control_token: Token that it asks for.
        registry_url: Database of the registry that it writes to.
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
    process_start: int = 0
    control_address: str = ""
    control_token: str = ""
    registry_url: str = ""

    def alive(self) -> bool:
        """Return whether its process runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        state, start = _process(self.pid)
        return state != "Z" and self.process_start in (0, start)


def registry_of(name: str) -> str:
    """Return the registry of a cluster: what ``ANYPLEX_REGISTRY`` names, else a file of its own."""
    return os.environ.get("ANYPLEX_REGISTRY", "") or f"sqlite:///{home() / 'registry' / f'{name}.db'}"


def _process(pid: int) -> tuple[str, int]:
    """Return the state letter of a process and when it started; ("Z", 0) when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return "Z", 0


def process_start(pid: int) -> int:
    """Return when a process started, in ticks since the machine did."""
    return _process(pid)[1]


def home() -> Path:
    """Return the directory where clusters, imported weights and logs are kept."""
    return Path(os.environ.get("ANYPLEX_HOME", "") or Path.home() / ".anyplex")


def check_name(name: str) -> None:
    """Check the name of a cluster: it becomes part of paths.

    Raises:
        InvalidRequest: It has other characters than letters, digits, '.', '_' and '-'.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidRequest(
            f"{name[:40]!r}: letters, digits, '.', '_' and '-' expected, a letter or digit first", "--name"
        )


def _path(name: str) -> Path:
    check_name(name)
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


def remove_state(name: str, pid: int | None = None) -> None:
    """Forget a cluster; with ``pid`` only if it is that process's."""
    path = _path(name)
    if pid is not None:
        try:
            if json.loads(path.read_text()).get("pid") != pid:
                return
        except (OSError, ValueError):
            return
    path.unlink(missing_ok=True)


def replicas_of(entries: Sequence[Entry]) -> tuple[Replica, ...]:
    """Return what is written down about replicas."""
    return tuple(Replica(entry.component, entry.address, tuple(sorted(entry.versions))) for entry in entries)
