"""One cluster for the tests that ask it: both systems, a token, the weights that come along where they are whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anyplex import Client
from tests.cluster import Cluster, are_bundled_weights_complete, make_tiny_weights, running, write_profile


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    root = tmp_path_factory.mktemp("e2e")
    weights = None
    if not are_bundled_weights_complete():
        weights = root / "weights"
        weights.mkdir()
        make_tiny_weights(weights)
    profile = write_profile(root / "profile.yaml", {"backbone": {"threads": 2, "max_batch": 32}})
    with running(root / "home", profile, name="e2e", weights=weights, token="test-token") as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with cluster.client() as client:
        yield client
