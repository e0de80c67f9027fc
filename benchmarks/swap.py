"""Swaps of every kind of component under traffic: what requests notice, how long a swap and a rollback take.

Clients keep asking about pictures and for pictures. Each kind is swapped to weights that differ a little, and back.
What the slowest request is held against is the p99 while an unrelated process imports the same libraries, in the same
run. After that two slots change together, there and back, while short requests are watched.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from anyplex import AnyplexError
from anyplex.v1 import control_pb2, control_pb2_grpc
from benchmarks._results import Bar, draw, judge, write
from services.artifacts import ArtifactStore
from services.cli.memory import resident_tree
from services.deploy.versions import WEIGHTS_DIR
from services.runtime.server import token_metadata
from tests.cluster import Cluster, running, write_profile
from tests.pictures import picture

SYSTEM = "next-gpt"
KINDS = {
    "encoder": "see", "input projector": "see_in", "backbone's adapter": "think/lora", "backbone": "think",
    "output projector": "draw_out", "generator": "draw",
}  # fmt: skip
TOGETHER = ("see_in", "think/lora")
REPLICAS = 3
CLIENTS = 2
WATCHED = 5000
MOST_OVER_MS = 100.0
IMPORTS = "import torch, transformers, diffusers, grpc, ray"
PATIENCE_S = 120.0
NUMBERS = itertools.count(1)


@dataclass
class Asked:
    """One request: when, how long, which versions answered, or why none did."""

    begun_s: float
    took_s: float
    versions: dict[str, str] = field(default_factory=dict)
    error: str = ""


class Clients:
    """Clients that keep asking; every second one wants a picture drawn."""

    def __init__(self, cluster: Cluster, count: int, short: bool = False) -> None:
        self.asked: list[Asked] = []
        self._cluster, self._short = cluster, short
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _ask(self, number: int) -> None:
        parts: list[Any] = ["what is this?", picture(number)]
        options: dict[str, Any] = {"max_tokens": 24}
        if number % 2:
            parts = ["draw a small red circle at the top left"]
        if self._short:
            parts, options = ["hello"], {"max_tokens": 1}
        with self._cluster.client(retry=False) as client:
            while not self._stopping.is_set():
                begun_s = time.monotonic()
                try:
                    reply = client.generate(parts, system=SYSTEM, **options)
                    self.asked.append(Asked(begun_s, time.monotonic() - begun_s, dict(reply.versions)))
                except AnyplexError as error:
                    self.asked.append(Asked(begun_s, time.monotonic() - begun_s, error=str(error)))

    def since(self, moment_s: float) -> list[Asked]:
        """Return the requests that ended after a moment."""
        return [asked for asked in list(self.asked) if asked.begun_s + asked.took_s >= moment_s]

    def first_s(self, slot: str, version: str, moment_s: float) -> float:
        """Wait for the first reply of a version; return how long after a moment it came."""
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            for asked in self.since(moment_s):
                if asked.versions.get(slot) == version and asked.begun_s >= moment_s:
                    return asked.begun_s + asked.took_s - moment_s
            time.sleep(0.02)
        raise RuntimeError(f"no reply of {version} came")


class Control:
    """The control service of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._channel = grpc.insecure_channel(cluster.state.control_address)
        self._stub = control_pb2_grpc.ControlServiceStub(self._channel)
        self._metadata = token_metadata(cluster.state.control_token)

    def swap(self, slots: dict[str, str]) -> tuple[float, float]:
        """Swap; return when the new set was everywhere, and when the old one had left, in seconds."""
        begun_s, live_s = time.monotonic(), 0.0
        for step in self._stub.Swap(control_pb2.SwapRequest(system=SYSTEM, slots=slots), metadata=self._metadata):
            if step.phase == "draining":
                live_s = time.monotonic() - begun_s
        return live_s, time.monotonic() - begun_s

    def roll_back(self) -> float:
        """Go back; return when that was everywhere."""
        begun_s = time.monotonic()
        self._stub.RollBack(control_pb2.RollBackRequest(system=SYSTEM), metadata=self._metadata)
        return time.monotonic() - begun_s


@contextmanager
def importing() -> Iterator[None]:
    """Let an unrelated process import the same libraries, again and again."""
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            subprocess.run([sys.executable, "-c", IMPORTS], check=False, capture_output=True)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    stopping.set()
    thread.join(PATIENCE_S)


def other(cluster: Cluster, version: str) -> str:
    """Put a version beside one that differs from it a little."""
    store = ArtifactStore((cluster.weights or WEIGHTS_DIR) / "artifacts")
    artifact = store.get(version)
    tensors = artifact.load_tensors()
    name = next(name for name, tensor in sorted(tensors.items()) if tensor.is_floating_point())
    # As much as bfloat16 can tell apart, and another number each time.
    tensors[name] = tensors[name] * (1 + 0.01 * next(NUMBERS))
    files = {name: artifact.read_file(name) for name in artifact.file_digests}
    return store.put(kind=artifact.kind, type=artifact.type, config=artifact.config, tensors=tensors, files=files)


def quantile(took_s: list[float], share: float) -> float:
    """Return a quantile of what requests took, in milliseconds."""
    return sorted(took_s)[min(len(took_s) - 1, int(share * len(took_s)))] * 1000


def resident_mib(cluster: Cluster) -> float:
    """Return what all processes of a cluster hold."""
    return sum(process.resident_bytes for process in resident_tree(cluster.state.pid)) / 2**20


def live(cluster: Cluster) -> dict[str, str]:
    """Return the versions that are live."""
    with cluster.client() as client:
        return dict(next(system for system in client.systems() if system.name == SYSTEM).versions)


def swap_kind(cluster: Cluster, control: Control, slot: str) -> dict[str, Any]:
    """Swap one slot there and back under traffic."""
    before = live(cluster)
    version = other(cluster, before[slot])
    with Clients(cluster, CLIENTS) as clients:
        time.sleep(2.0)
        begun_s = time.monotonic()
        live_s, done_s = control.swap({slot: version})
        first_s = clients.first_s(slot, version, begun_s)
        time.sleep(1.0)
        back_s = control.roll_back()
        clients.first_s(slot, before[slot], time.monotonic())
        time.sleep(1.0)
        asked = clients.since(begun_s)
    sets = [before, {**before, slot: version}]
    return {
        "live_s": live_s, "done_s": done_s, "first_s": first_s, "back_s": back_s, "requests": len(asked),
        "failed": [a.error for a in asked if a.error],
        "mixed": sum(not a.error and a.versions not in sets for a in asked),
        "slowest_ms": max(a.took_s for a in asked) * 1000,
    }  # fmt: skip


def swap_together(cluster: Cluster, control: Control, watched: int) -> dict[str, Any]:
    """Swap two slots there and back until so many short requests were watched."""
    before = live(cluster)
    changes = {slot: other(cluster, before[slot]) for slot in TOGETHER}
    swaps = 0
    with Clients(cluster, 2 * CLIENTS, short=True) as clients:
        give_up_s = time.monotonic() + 2 * PATIENCE_S
        while len(clients.asked) < watched and time.monotonic() < give_up_s:
            control.swap(changes)
            control.roll_back()
            swaps += 2
    sets = [before, {**before, **changes}]
    return {
        "requests": len(clients.asked), "swaps": swaps, "failed": [a.error for a in clients.asked if a.error],
        "mixed": sum(not a.error and a.versions not in sets for a in clients.asked),
    }  # fmt: skip


def measure(root: Path, watched: int) -> dict[str, Any]:
    """Start a cluster with the weights that come along and swap everything."""
    shutil.copytree(WEIGHTS_DIR, root / "weights")
    profile = write_profile(root / "profile.yaml", {f"{SYSTEM}.see_in": {"replicas": REPLICAS}})
    with running(root / "home", profile, name="bench-swap", weights=root / "weights", systems=(SYSTEM,)) as cluster:
        control = Control(cluster)
        with Clients(cluster, CLIENTS) as clients:
            time.sleep(5.0)
            begun_s = time.monotonic()
            with importing():
                time.sleep(30.0)
            beside = [asked.took_s for asked in clients.since(begun_s)]
        # Once each before memory is counted: allocators keep what the first swap needed.
        found = {kind: swap_kind(cluster, control, slot) for kind, slot in KINDS.items()}
        before_mib = resident_mib(cluster)
        for _ in range(5):
            slot = KINDS["input projector"]
            control.swap({slot: other(cluster, live(cluster)[slot])})
            control.roll_back()
        time.sleep(3.0)
        after_mib = resident_mib(cluster)
        together = swap_together(cluster, control, watched)
    return {
        "beside_imports_p99_ms": quantile(beside, 0.99), "beside_imports_requests": len(beside), "kinds": found,
        "memory_mib": [before_mib, after_mib], "together": together,
    }  # fmt: skip


def main(arguments: list[str]) -> int:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(prog="swap", description=__doc__)
    parser.add_argument("--watched", type=int, default=WATCHED)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), given.watched)
    write("swap", result)
    kinds, together = result["kinds"], result["together"]
    print(f"beside imports: p99 {result['beside_imports_p99_ms']:.0f} ms of {result['beside_imports_requests']}")
    for kind, one in kinds.items():
        print(f"{kind:20} live {one['live_s']:.2f} s, first reply {one['first_s']:.2f} s, "
              f"back {one['back_s'] * 1000:.0f} ms, {one['requests']} requests, {len(one['failed'])} failed, "
              f"slowest {one['slowest_ms']:.0f} ms")  # fmt: skip

    def paint(axes: Any) -> None:  # noqa: ANN401 - matplotlib's axes
        axes[0].barh(list(kinds), [one["live_s"] for one in kinds.values()])
        axes[0].set_xlabel("seconds from the command to the new set everywhere")

    draw("swap", 1, paint)
    projector, (before, after) = kinds["input projector"], result["memory_mib"]
    over = max(one["slowest_ms"] for one in kinds.values()) - result["beside_imports_p99_ms"]
    back_ms = 1000 * statistics.median(one["back_s"] for one in kinds.values())
    return judge([
        Bar("requests that failed", sum(len(one["failed"]) for one in kinds.values()), most=0),
        Bar("replies that mix sets", sum(one["mixed"] for one in kinds.values()), most=0),
        Bar("slowest request over p99 beside imports", over, most=MOST_OVER_MS, unit="ms"),
        Bar("memory after ten swaps", 100 * (after / before - 1), most=3.0, unit="%"),
        Bar(f"projector, {REPLICAS} replicas: first new reply", projector["first_s"], most=1.0, unit="s"),
        Bar("rollback, median over kinds", back_ms, most=100.0, unit="ms"),
        Bar("two slots together: requests watched", together["requests"], least=given.watched),
        Bar("two slots together: mixed or failed", together["mixed"] + len(together["failed"]), most=0),
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
