"""What tests are told of a cluster whose replicas come and go while they are asked."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from anyplex.v1 import component_pb2, component_pb2_grpc
from services.deploy.state import ClusterState, Replica
from tests.cluster import Cluster, free_ports

NOBODY = f"127.0.0.1:{free_ports(1)}"


class Busy(component_pb2_grpc.ComponentServiceServicer):
    def GetStats(self, request: object, context: grpc.ServicerContext) -> component_pb2.GetStatsResponse:  # noqa: N802
        return component_pb2.GetStatsResponse(running=2, tensors=1)


class Broken(component_pb2_grpc.ComponentServiceServicer):
    def GetStats(self, request: object, context: grpc.ServicerContext) -> component_pb2.GetStatsResponse:  # noqa: N802
        context.abort(grpc.StatusCode.INTERNAL, "broken")
        raise AssertionError


class Listed(Cluster):
    """A cluster whose list of replicas is another one each time it is read."""

    lists: list[tuple[Replica, ...]]

    @property
    def state(self) -> ClusterState:
        replicas = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        return ClusterState("some", 1, "", replicas=replicas)


def listed(*lists: tuple[Replica, ...]) -> Listed:
    cluster = Listed("some", Path())
    cluster.lists = list(lists)
    return cluster


@pytest.fixture
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    component_pb2_grpc.add_ComponentServiceServicer_to_server(getattr(request, "param", Busy)(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def test_who_has_left_meanwhile_has_nothing_in_flight(address: str) -> None:
    there, gone = Replica("see", address), Replica("see", NOBODY)
    # The second list is what tokens are read from, the last what is looked up once nobody answered.
    cluster = listed((there, gone), (there, gone), (there, gone), (there,))
    assert cluster.in_flight() == {"see": 3}


def test_who_is_listed_and_silent_counts_as_busy(address: str) -> None:
    cluster = listed((Replica("see", address), Replica("think", NOBODY)))
    assert cluster.in_flight() == {"see": 3, "think": 1}


@pytest.mark.parametrize("address", [Broken], indirect=True)
def test_who_breaks_is_not_hidden(address: str) -> None:
    with pytest.raises(grpc.RpcError, match="broken"):
        listed((Replica("see", address),)).in_flight()
