"""A component in a process without Ray, started by hand: joins a system by its address, keeps the same contract."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from graph.errors import FailedPrecondition, Unavailable
from graph.spec import find_system
from graph.validate import load_system
from services.artifacts import ArtifactStore
from services.deploy.plans import plan_deployment
from tests.cluster import Cluster, free_ports, kill, make_tiny_weights, pid_at, running, write_profile
from tests.fakes import tiny
from tests.pictures import picture
from tests.waiting import wait_until

pytestmark = pytest.mark.cluster
NEXT_GPT = load_system(find_system("next-gpt"))
TOKEN = "by-hand"
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class ByHand:
    """A component that somebody started."""

    root: Path
    weights: Path
    version: str
    port: int
    process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Run the command line; return once it serves."""
        command = [
            sys.executable, "-m", "services.cli.main", "component", "serve", "--kind", "encoder",
            "--type", "clip_vision", "--weights", self.version, "--store", str(self.weights / "artifacts"),
            "--port", str(self.port),
        ]  # fmt: skip
        env = {**os.environ, "ANYPLEX_COMPONENT_TOKEN": TOKEN, "ANYPLEX_HOME": str(self.root / "home")}
        self.process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert self.address in line, line

    def stop(self) -> int:
        """End it as a person would."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    root = tmp_path_factory.mktemp("by-hand")
    weights = root / "weights"
    weights.mkdir()
    version = make_tiny_weights(weights)["next-gpt"]["see"]
    component = ByHand(root, weights, version, free_ports(1))
    component.start()
    yield component
    component.stop()


@pytest.fixture(scope="module")
def joined(by_hand: ByHand) -> Iterator[Cluster]:
    profile = write_profile(by_hand.root / "profile.yaml", {"see": {"address": by_hand.address}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYPLEX_COMPONENT_TOKEN", TOKEN)
        home = by_hand.root / "home"
        with running(home, profile, name="joined", weights=by_hand.weights, systems=("next-gpt",)) as cluster:
            yield cluster


def test_it_runs_without_ray(by_hand: ByHand) -> None:
    process = psutil.Process(pid_at(by_hand.address))
    assert not any("/ray/_raylet" in mapped.path for mapped in process.memory_maps())


def test_it_passes_the_contract_suite_of_the_built_in_ones(by_hand: ByHand) -> None:
    store = ArtifactStore(by_hand.weights / "artifacts")
    other = tiny.clip_vision(store, seed=1)
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "tests/contract", "-q", "-p", "no:cacheprovider",
            "--component-address", by_hand.address, "--component-token", TOKEN, "--component-other-version", other,
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    print("figure: contract suite over a component started by hand:", done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_system_joins_it_by_its_address(joined: Cluster, by_hand: ByHand) -> None:
    component = joined.component("next-gpt.see")
    assert [replica.address for replica in joined.replicas(component)] == [by_hand.address]
    before = joined.stats(by_hand.address).finished
    with joined.client() as client:
        reply = client.generate(["what is this?", picture()], max_tokens=8)
        described = client.describe("next-gpt")
    assert reply.usage.media_tokens > 0
    assert joined.stats(by_hand.address).finished == before + 1
    assert {node.name: node.replicas for node in described.nodes} == dict.fromkeys(NEXT_GPT.nodes, 1)


def test_it_comes_back_by_itself_after_it_was_killed(joined: Cluster, by_hand: ByHand) -> None:
    component = joined.component("next-gpt.see")
    kill(by_hand.address)
    assert by_hand.process is not None
    by_hand.process.wait()
    gone_s = wait_until(lambda: not joined.replicas(component))
    by_hand.start()
    back_s = wait_until(lambda: bool(joined.replicas(component)))
    print(f"figure: a component started by hand left after {gone_s:.2f} s and was back {back_s:.2f} s after its start")
    with joined.client() as client:
        assert client.generate(["what is this?", picture()], max_tokens=4).usage.media_tokens > 0


def test_another_component_at_that_address_is_refused(joined: Cluster, by_hand: ByHand, tmp_path: Path) -> None:
    from services.deploy.rollout import static_entry

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYPLEX_WEIGHTS", str(by_hand.weights))
        for node, address, refusal in (
            ("see_in", by_hand.address, FailedPrecondition), ("see", "127.0.0.1:9", Unavailable),
        ):  # fmt: skip
            profile = write_profile(tmp_path / f"{node}.yaml", {node: {"address": address}})
            plans = plan_deployment(("next-gpt",), str(profile), store=tmp_path / "own").components
            with pytest.raises(refusal) as refused:
                static_entry(next(plan for plan in plans if plan.settings.address), TOKEN)
            assert address in str(refused.value)
