"""A cluster of its own for tests: own home, own ports, small weights unless told otherwise; gone when they are done."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import yaml

from anyplex import Client
from anyplex.v1 import component_pb2, component_pb2_grpc
from graph.spec import find_system
from graph.validate import load_system
from services.artifacts import ArtifactStore
from services.deploy.launch import UpOptions, start_detached, stop
from services.deploy.state import ClusterState, Replica, read_state
from services.deploy.versions import WEIGHTS_DIR
from tests.waiting import wait_until

SYSTEMS = ("next-gpt", "llava-1.5")
PORTS = 60
GATEWAY = "gateway"
# How a call ends at a replica that has left: nobody listens there, or it stops while it is asked.
GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def free_ports(count: int) -> int:
    """Return the first of so many neighboring ports that nobody uses, below those the system gives out itself."""
    rng = random.Random(os.getpid() + time.time_ns())
    for _ in range(200):
        first = rng.randrange(20_000, 31_000)
        if all(map(_is_free, range(first, first + count))):
            return first
    raise OSError(f"no {count} free ports in a row")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def are_bundled_weights_complete() -> bool:
    """Return whether the weights that come along fill every slot of the systems."""
    for system in SYSTEMS:
        path = WEIGHTS_DIR / "sets" / f"{system}.yaml"
        slots = yaml.safe_load(path.read_text())["slots"] if path.exists() else {}
        if set(load_system(find_system(system)).slots()) - set(slots):
            return False
    return True


def make_tiny_weights(root: Path, systems: Sequence[str] = SYSTEMS) -> dict[str, dict[str, str]]:
    """Write small random weights for systems, sharing what is alike in them; return their version sets by name."""
    from tests.fakes import tiny

    store = ArtifactStore(root / "artifacts")
    (root / "sets").mkdir()
    sets: dict[str, dict[str, str]] = {}
    for number, system in enumerate(systems):
        spec = load_system(find_system(system))
        sets[spec.name] = tiny.fill(store, spec, seed=number)
        content = {"system": spec.name, "slots": sets[spec.name]}
        (root / "sets" / f"{spec.name}.yaml").write_text(yaml.safe_dump(content))
    return sets


def write_profile(path: Path, components: dict[str, Any] | None = None, **defaults: Any) -> Path:
    """Write a profile with ports of its own."""
    first = free_ports(PORTS)
    settings = {"cpus": 0.1, "threads": 1, "replicas": 1, "queue_limit": 64, "max_batch": 16, **defaults}
    content = {
        "profile": "test", "host": "127.0.0.1", "port_range": [first, first + PORTS - 1], "defaults": settings,
        "components": components or {}, "gateway": {"max_concurrent": 64, "queue_limit": 2000},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return path


@dataclass
class Cluster:
    """A running cluster.

    Attributes:
        name: Its name.
        home: Where its state is kept.
        token: Token of the gateway; empty for none.
        weights: Directory of its weights; None for those that come along.
        deployed_at: When its components were told to start, seconds since 1970.
        cold_start_s: How long each took from then until it served.
    """

    name: str
    home: Path
    token: str = ""
    weights: Path | None = None
    deployed_at: float = 0.0
    cold_start_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def env(self) -> Iterator[None]:
        """Make this cluster's home the one in use."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ANYPLEX_HOME", str(self.home))
            if self.weights is not None:
                patch.setenv("ANYPLEX_WEIGHTS", str(self.weights))
            yield

    @property
    def state(self) -> ClusterState:
        """What is written down about it now."""
        with self.env():
            state = read_state(self.name)
        assert state is not None, "the cluster is gone"
        return state

    @property
    def address(self) -> str:
        """Address of the gateway."""
        return self.state.address

    def client(self, **options: Any) -> Client:
        """Connect to the gateway."""
        return Client(self.address, token=self.token, **options)

    def component(self, node: str) -> str:
        """Return the component that serves a node, as ``system.node``."""
        return next(name for name, (_, _, *uses) in self.state.components.items() if node in uses)

    def replicas(self, component: str) -> list[Replica]:
        """Return the replicas of a component."""
        return [replica for replica in self.state.replicas if replica.component == component]

    def address_of(self, node: str) -> str:
        """Return the address of one replica of the component that serves a node, once there is one."""
        component = self.component(node)
        found: list[Replica] = []

        def there_is_one() -> bool:
            found[:] = self.replicas(component)
            return bool(found)

        wait_until(there_is_one)
        return found[0].address

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What components ask for."""
        return (("authorization", f"Bearer {self.state.component_token}"),)

    def stats(self, address: str) -> component_pb2.GetStatsResponse:
        """Ask one replica for its load."""
        with grpc.insecure_channel(address) as channel:
            stub = component_pb2_grpc.ComponentServiceStub(channel)
            return stub.GetStats(component_pb2.GetStatsRequest(), metadata=self.metadata, timeout=10.0)

    def is_listed(self, address: str) -> bool:
        """Return whether the directory lists a replica now."""
        return any(replica.address == address for replica in self.state.replicas)

    def all_stats(self) -> Iterator[tuple[Replica, component_pb2.GetStatsResponse | None]]:
        """Ask every replica for its load.

        A replica may leave between being read and being asked. One that is not listed any more is left out; one that
        is listed and cannot be reached comes without load.
        """
        for replica in self.state.replicas:
            try:
                yield replica, self.stats(replica.address)
            except grpc.RpcError as error:
                if error.code() not in GONE:
                    raise
                if self.is_listed(replica.address):
                    yield replica, None

    def in_flight(self) -> dict[str, int]:
        """Return what waits, runs or is held, by component that has any; who is listed and silent counts as busy."""
        found: Counter[str] = Counter()
        for replica, stats in self.all_stats():
            found[replica.component] += 1 if stats is None else stats.waiting + stats.running + stats.tensors
        return {component: count for component, count in found.items() if count}

    def anyplex(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return subprocess.run(
            [sys.executable, "-m", "services.cli.main", *arguments],
            env={**os.environ, "ANYPLEX_HOME": str(self.home)}, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip


def pid_at(address: str) -> int:
    """Return the process that listens at an address."""
    port = int(address.rpartition(":")[2])
    for connection in psutil.net_connections("tcp"):
        listens = connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN
        # A process that is just dying has its sockets still, and no number any more.
        if listens and connection.pid is not None:
            return int(connection.pid)
    raise LookupError(f"nobody listens at port {port}")


def kill(address: str) -> int:
    """Kill the process that listens at an address, as an operating system does that is short of memory."""
    pid = pid_at(address)
    os.kill(pid, signal.SIGKILL)
    return pid


@contextmanager
def running(
    home: Path, profile: Path, *, name: str, weights: Path | None = None, token: str = "",
    systems: tuple[str, ...] = SYSTEMS,
) -> Iterator[Cluster]:  # fmt: skip
    """Start a cluster, and take it down for sure."""
    cluster = Cluster(name, home, token, weights)
    lines: list[str] = []
    begun_s = time.monotonic()

    def report(line: str) -> None:
        lines.append(line)
        if line.endswith("components and the gateway"):
            cluster.deployed_at = time.time()

    try:
        with cluster.env():
            options = UpOptions(systems, profile=str(profile), port=free_ports(1), token=token, name=name)
            start_detached(options, report)
        cluster.cold_start_s[GATEWAY] = time.time() - cluster.deployed_at
        for replica, stats in cluster.all_stats():
            if stats is not None:  # what may sleep may have gone to sleep already
                cluster.cold_start_s[replica.component] = time.time() - stats.uptime_s - cluster.deployed_at
        print(f"figure: cluster {name} ready after {time.monotonic() - begun_s:.1f} s")
        yield cluster
    finally:
        log = home / "logs" / f"{name}.log"
        with cluster.env():
            state = read_state(name)
            processes = psutil.Process(state.pid).children(recursive=True) if state is not None else []
            begun_s = time.monotonic()
            stop(name, lines.append)
        print("\n".join(lines[-3:]), json.dumps(log.read_text()[-500:]) if log.exists() else "")
        # Whatever a test has done to it: nothing of a cluster stays, neither processes nor what they wrote.
        wait_until(lambda: not any(process.is_running() for process in processes), 60)
        if state is not None:
            took_s = time.monotonic() - begun_s
            print(f"figure: cluster {name}, {len(processes)} processes, gone {took_s:.1f} s after it was stopped")
            assert list(Path(tempfile.gettempdir()).glob(f"apx-*/session_*_{state.pid}")) == []


@contextmanager
def running_tiny(root: Path, name: str, system: str) -> Iterator[Cluster]:
    """Start a cluster of one system with small random weights, and take it down for sure."""
    weights = root / "weights"
    weights.mkdir()
    make_tiny_weights(weights, [system])
    profile = write_profile(root / "profile.yaml")
    with running(root / "home", profile, name=name, weights=weights, systems=(system,)) as cluster:
        yield cluster
