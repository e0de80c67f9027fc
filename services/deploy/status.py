"""How loaded the replicas of a running cluster are, as they say themselves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from services.deploy.state import ClusterState


@dataclass(frozen=True)
class ReplicaStatus:
    """Load of one replica, as it reports it; ``error`` says why there is none."""

    address: str
    versions: tuple[str, ...] = ()
    waiting: int = 0
    running: int = 0
    finished: int = 0
    failed: int = 0
    resident_bytes: int = 0
    uptime_s: float = 0.0
    cold_start_s: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class ComponentStatus:
    """One component and its replicas."""

    component: str
    kind: str
    type: str
    uses: tuple[str, ...]
    replicas: tuple[ReplicaStatus, ...]


def component_stats(state: ClusterState) -> list[ComponentStatus]:
    """Ask every replica of a cluster for its load."""
    return asyncio.run(_component_stats(state))


async def _component_stats(state: ClusterState) -> list[ComponentStatus]:
    import grpc.aio

    from anyplex.v1 import component_pb2, component_pb2_grpc
    from services.runtime.server import token_metadata

    metadata = token_metadata(state.component_token)

    async def one(address: str, versions: tuple[str, ...]) -> ReplicaStatus:
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = component_pb2_grpc.ComponentServiceStub(channel)
            try:
                s = await stub.GetStats(component_pb2.GetStatsRequest(), timeout=2.0, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                return ReplicaStatus(address, versions, error=error.code().name.lower())
            return ReplicaStatus(
                address, versions, s.waiting, s.running, s.finished, s.failed,
                s.resident_bytes, s.uptime_s, s.cold_start_s,
            )  # fmt: skip

    statuses: list[ComponentStatus] = []
    for component, (kind, type_, *uses) in state.components.items():
        mine = [replica for replica in state.replicas if replica.component == component]
        replicas = await asyncio.gather(*(one(replica.address, replica.versions) for replica in mine))
        statuses.append(ComponentStatus(component, kind, type_, tuple(uses), tuple(replicas)))
    return statuses
