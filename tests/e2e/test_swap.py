"""Versions change under traffic: projector and adapter together, back again, and what is not fit is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from anyplex import AnyplexError
from services.artifacts import ArtifactStore
from tests.cluster import Cluster, kill, make_tiny_weights, running, write_profile
from tests.pictures import picture
from tests.waiting import wait_until

SYSTEM = "llava-1.5"
CLIENTS = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    root = tmp_path_factory.mktemp("swap")
    weights = root / "weights"
    weights.mkdir()
    make_tiny_weights(weights, [SYSTEM])
    profile = write_profile(root / "profile.yaml", {f"{SYSTEM}.see_in": {"replicas": 2}})
    with running(root / "home", profile, name="swap", weights=weights, systems=(SYSTEM,)) as cluster:
        yield cluster


def other(cluster: Cluster, version: str, poison: float | None = None) -> str:
    """Put a version of the same architecture beside one; with a poisoned number in it if one is given."""
    assert cluster.weights is not None
    store = ArtifactStore(cluster.weights / "artifacts")
    artifact = store.get(version)
    tensors = {name: tensor * 1.01 + time.time_ns() % 97 * 1e-6 if tensor.is_floating_point() else tensor
               for name, tensor in artifact.load_tensors().items()}  # fmt: skip
    if poison is not None:
        first = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
        tensors[first].view(-1)[0] = poison
    files = {name: artifact.read_file(name) for name in artifact.file_digests}
    return store.put(kind=artifact.kind, type=artifact.type, config=artifact.config, tensors=tensors, files=files)


def live(cluster: Cluster) -> dict[str, str]:
    with cluster.client() as client:
        return dict(next(system for system in client.systems() if system.name == SYSTEM).versions)


class Watched:
    """Clients that keep asking, and remember which versions answered."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.seen: list[dict[str, str]] = []
        self.errors: list[AnyplexError] = []
        self.slowest_s = 0.0
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(CLIENTS)]

    def __enter__(self) -> Watched:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, number: int) -> None:
        with self.cluster.client(retry=False) as client:
            while not self._stopping.is_set():
                begun_s = time.monotonic()
                try:
                    reply = client.generate(["what is this?", picture(number)], system=SYSTEM, max_tokens=8)
                    self.seen.append(dict(reply.versions))
                except AnyplexError as error:
                    self.errors.append(error)
                self.slowest_s = max(self.slowest_s, time.monotonic() - begun_s)

    def until(self, versions: dict[str, str]) -> None:
        wait_until(lambda: bool(self.seen) and self.seen[-1] == versions, 60)


def test_two_slots_change_together_under_traffic_and_back(cluster: Cluster) -> None:
    before = live(cluster)
    slots = [slot for slot in ("see_in", "think/lora") if slot in before]
    assert "see_in" in slots
    slots = slots if len(slots) == 2 else ["see_in", "think"]
    changes = {slot: other(cluster, before[slot]) for slot in slots}
    after = {**before, **changes}
    with Watched(cluster) as watched:
        watched.until(before)
        begun_s = time.monotonic()
        done = cluster.anyplex("swap", SYSTEM, *(f"{slot}={v}" for slot, v in changes.items()), "--name", "swap")
        assert done.returncode == 0, done.stderr
        swapped_s = time.monotonic() - begun_s
        watched.until(after)
        begun_s = time.monotonic()
        done = cluster.anyplex("rollback", SYSTEM, "--name", "swap")
        assert done.returncode == 0, done.stderr
        back_s = time.monotonic() - begun_s
        watched.until(before)
    print(f"figure: swap {swapped_s:.2f} s, rollback {back_s:.2f} s (both with the start of a command), "
          f"{len(watched.seen)} requests, slowest {watched.slowest_s:.2f} s")  # fmt: skip
    assert watched.errors == []
    assert {tuple(sorted(seen.items())) for seen in watched.seen} == {
        tuple(sorted(before.items())), tuple(sorted(after.items())),
    }  # fmt: skip


def test_what_is_not_fit_is_refused_and_the_old_set_serves(cluster: Cluster) -> None:
    before = live(cluster)
    assert cluster.weights is not None
    damaged = other(cluster, before["see_in"])
    path = cluster.weights / "artifacts" / damaged / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-8:] = bytes(8) if any(data[-8:]) else bytes([1] * 8)
    path.write_bytes(data)
    cases = {
        other(cluster, before["see_in"], poison=float("nan")): "NaN",
        damaged: "damaged",
        before["think"]: "input_projector",
        "0" * 20: "no artifact",
    }
    with Watched(cluster) as watched:
        watched.until(before)
        for version, why in cases.items():
            done = cluster.anyplex("swap", SYSTEM, f"see_in={version}", "--name", "swap")
            assert done.returncode in (5, 9), done.stderr
            assert why in done.stderr
            assert live(cluster) == before
    assert watched.errors == []
    assert all(seen == before for seen in watched.seen)
    print(f"figure: {len(cases)} unfit versions refused, {len(watched.seen)} requests, 0 failed")


def test_the_control_service_is_killed_while_it_swaps(cluster: Cluster) -> None:
    before = live(cluster)
    version = other(cluster, before["see_in"])
    after = {**before, "see_in": version}
    with Watched(cluster) as watched:
        watched.until(before)
        thread = threading.Thread(
            target=cluster.anyplex, args=("swap", SYSTEM, f"see_in={version}", "--name", "swap"), daemon=True
        )
        thread.start()
        time.sleep(1.0)
        kill(cluster.state.control_address)
        begun_s = time.monotonic()
        thread.join(60)
        done = cluster.anyplex("swap", SYSTEM, f"see_in={version}", "--name", "swap")
        took_s = time.monotonic() - begun_s
        assert done.returncode in (0, 3), done.stderr
        watched.until(after)
    print(f"figure: one set again {took_s:.1f} s after the control service was killed, {len(watched.seen)} requests")
    assert watched.errors == []
    assert all(seen in (before, after) for seen in watched.seen)


def test_a_replica_is_killed_while_it_swaps(cluster: Cluster) -> None:
    before = live(cluster)
    version = other(cluster, before["see_in"])
    component = cluster.component(f"{SYSTEM}.see_in")
    wait_until(lambda: len(cluster.replicas(component)) == 2, 60)
    thread = threading.Thread(
        target=cluster.anyplex, args=("swap", SYSTEM, f"see_in={version}", "--name", "swap"), daemon=True
    )
    thread.start()
    kill(cluster.replicas(component)[0].address)
    begun_s = time.monotonic()
    thread.join(90)
    now = live(cluster)
    assert now in (before, {**before, "see_in": version})
    wait_until(
        lambda: (
            len(cluster.replicas(component)) == 2
            and all(now["see_in"] in replica.versions for replica in cluster.replicas(component))
        ),
        60,
    )
    print(f"figure: both replicas hold the live set {time.monotonic() - begun_s:.1f} s after one was killed")
