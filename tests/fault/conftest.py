"""One cluster for all faults: small weights, replicas that may double, one component that may sleep."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from anyplex import Client
from anyplex.v1 import gateway_pb2
from tests.cluster import SYSTEMS, Cluster, make_tiny_weights, running, write_profile
from tests.fakes import tiny
from tests.fault.bad_requests import whole
from tests.fault.wire import SENDABLE

# Well above what eight clients put on one component, so that only a test that means to makes it scale.
TARGET_ONGOING = 12


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    root = tmp_path_factory.mktemp("fault")
    weights = root / "weights"
    weights.mkdir()
    # One more that shares what it has in common with the systems that come along.
    systems = (*SYSTEMS, str(tiny.EVERYTHING))
    make_tiny_weights(weights, systems)
    scaling = {"target_ongoing": TARGET_ONGOING, "upscale_delay_s": 1, "downscale_delay_s": 4}
    profile = write_profile(
        root / "profile.yaml",
        {"llava-1.5.see_in": {"replicas": {"min": 0, "max": 2}, "autoscaling": {**scaling, "downscale_delay_s": 2}}},
        replicas={"min": 1, "max": 2},
        autoscaling=scaling,
    )
    with running(root / "home", profile, name="fault", weights=weights, systems=systems) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with cluster.client(retry=False) as client:
        yield client


@pytest.fixture(scope="package")
def channel(cluster: Cluster) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(cluster.address, SENDABLE) as channel:
        yield channel


@pytest.fixture(scope="package")
def live(cluster: Cluster) -> dict[str, str]:
    with cluster.client() as client:
        systems = {system.name: system for system in client.systems()}
    return dict(systems["next-gpt"].versions)


@pytest.fixture(scope="package")
def base(live: dict[str, str]) -> gateway_pb2.GenerateRequest:
    return whole(live)
