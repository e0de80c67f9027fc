"""Behind a gate a worse version is taken back by itself and a good one promoted, under traffic."""

from __future__ import annotations

import json
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from anyplex import AnyplexError
from services.artifacts import ArtifactStore
from services.deploy.versions import WEIGHTS_DIR
from tests.cluster import Cluster, are_bundled_weights_complete, running, write_profile
from tests.pictures import picture
from tests.waiting import wait_until

SYSTEM = "llava-1.5"
SHARE = 0.2
CLIENTS = 2
GATE = (
    "--gate", "pictures", "--threshold", "caption/test=0.6", "--threshold", "question/test=0.6",
    "--gate-limit", "cases=12", "--gate-limit", "min_requests=8", "--gate-limit", "max_requests=16",
    "--gate-limit", "latency_ratio=50",
)  # fmt: skip

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not are_bundled_weights_complete(), reason="the weights that come along are not whole"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    root = tmp_path_factory.mktemp("canary")
    shutil.copytree(WEIGHTS_DIR, root / "weights")
    profile = write_profile(root / "profile.yaml", {"backbone": {"threads": 2, "max_batch": 16}})
    with running(root / "home", profile, name="canary", weights=root / "weights", systems=(SYSTEM,)) as cluster:
        yield cluster


def changed(cluster: Cluster, version: str, change: Callable[[torch.Tensor], torch.Tensor]) -> str:
    assert cluster.weights is not None
    store = ArtifactStore(cluster.weights / "artifacts")
    artifact = store.get(version)
    tensors = {name: change(tensor) for name, tensor in artifact.load_tensors().items()}
    files = {name: artifact.read_file(name) for name in artifact.file_digests}
    return store.put(kind=artifact.kind, type=artifact.type, config=artifact.config, tensors=tensors, files=files)


def last(cluster: Cluster) -> dict[str, object]:
    done = cluster.anyplex("rollout", SYSTEM, "--json", "--name", "canary")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)["rollouts"][0]
    return found


class Sessions:
    """Clients, each request a session of its own; remembers which versions answered."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.seen: list[str] = []
        self.errors: list[AnyplexError] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(CLIENTS)]

    def __enter__(self) -> Sessions:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, number: int) -> None:
        turn = 0
        with self.cluster.client(retry=False) as client:
            while not self._stopping.is_set():
                turn += 1
                session = f"{number}-{turn}-{time.time_ns()}"
                try:
                    parts = ["what is this?", picture(turn)]
                    reply = client.generate(parts, system=SYSTEM, session_id=session, max_tokens=8)
                    self.seen.append(reply.versions["see_in"])
                except AnyplexError as error:
                    self.errors.append(error)


def rolled_out(cluster: Cluster, version: str) -> tuple[dict[str, object], float, Sessions]:
    """Offer a version behind the gate until that is decided; return the rollout, the share it had, and who asked."""
    with Sessions(cluster) as sessions:
        wait_until(lambda: len(sessions.seen) > 4, 60)
        asked = ("swap", SYSTEM, f"see_in={version}", "--canary", str(SHARE), *GATE, "--name", "canary", "--json")
        done = cluster.anyplex(*asked)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["state"] == "canary"
        first = len(sessions.seen)
        wait_until(lambda: last(cluster)["state"] in ("live", "rolled_back", "failed"), 240)
        touched = [seen == version for seen in sessions.seen[first:]]
    return last(cluster), sum(touched) / len(touched), sessions


def test_a_worse_version_is_taken_back_and_a_good_one_promoted(cluster: Cluster) -> None:
    with cluster.client() as client:
        before = dict(next(system for system in client.systems() if system.name == SYSTEM).versions)
    worse = changed(cluster, before["see_in"], torch.zeros_like)
    rollout, share, sessions = rolled_out(cluster, worse)
    print(f"figure: damaged weights: {rollout['state']} ({rollout['why']}); {share:.1%} of requests touched them, "
          f"{len(sessions.errors)} of {len(sessions.seen)} failed")  # fmt: skip
    assert (rollout["state"], sessions.errors) == ("rolled_back", [])
    assert share <= SHARE + 3 * math.sqrt(SHARE * (1 - SHARE) / len(sessions.seen))
    with cluster.client() as client:
        assert dict(next(system for system in client.systems() if system.name == SYSTEM).versions) == before
    alike = changed(cluster, before["see_in"], lambda tensor: tensor * 1.01)
    rollout, share, sessions = rolled_out(cluster, alike)
    print(f"figure: weights as good: {rollout['state']} ({rollout['why']}); {share:.1%} had them before")
    assert (rollout["state"], sessions.errors) == ("live", [])
