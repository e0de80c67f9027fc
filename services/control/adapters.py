"""The coordinator's ports in a cluster: the directory's actor, replicas over gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import ray

from anyplex.v1 import component_pb2, component_pb2_grpc
from graph.errors import Unavailable
from graph.plan import Place, SystemPlan
from services.runtime.cluster import ClusterRoutes, directory_actor
from services.runtime.component import Held
from services.runtime.directory import Entry, Snapshot
from services.runtime.live_sets import Stamp
from services.runtime.status import error_from_rpc
from services.runtime.tally import Compared
from services.runtime.tensors import ChannelPool

LOAD_S = 120.0
UNLOAD_S = 330.0


class ClusterDirectory:
    """The directory's actor."""

    def __init__(self) -> None:
        self._routes = ClusterRoutes()
        self._actor: Any = None

    async def _call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401 - any method
        try:
            if self._actor is None:
                self._actor = await asyncio.to_thread(directory_actor)
            return await getattr(self._actor, method).remote(*arguments)
        except (ray.exceptions.RayError, ValueError) as error:
            self._actor = None
            raise Unavailable("the directory does not answer") from error

    async def snapshot(self) -> Snapshot:
        """Return what is known now."""
        found: Snapshot = await self._call("snapshot")
        return found

    async def restore(
        self, systems: dict[str, SystemPlan], kept: dict[str, tuple[SystemPlan, ...]], leaving: frozenset[Place]
    ) -> None:
        """Tell a directory that has restarted what was live before."""
        await self._call("restore", systems, kept, leaving)

    async def publish_systems(self, systems: dict[str, SystemPlan]) -> None:
        """Set the plans that gateways run."""
        await self._call("publish_systems", systems)

    async def keep(self, system: str, plans: tuple[SystemPlan, ...]) -> Stamp:
        """Set the plans whose versions replicas load beside the live ones."""
        stamp: Stamp = await self._call("keep", system, plans)
        return stamp

    async def flip(self, plan: SystemPlan, expected: int, kept: tuple[SystemPlan, ...]) -> Stamp | None:
        """Make a plan live where the generation expected is."""
        stamp: Stamp | None = await self._call("flip", plan, expected, kept)
        return stamp

    async def leave(self, places: frozenset[Place]) -> Stamp:
        """Set the versions that no request may be pinned to any more."""
        stamp: Stamp = await self._call("leave", places)
        return stamp

    async def behind(self, stamp: Stamp, timeout_s: float) -> list[str]:
        """Wait until every gateway has taken a snapshot over."""
        found: list[str] = await self._call("behind", stamp, timeout_s)
        return found

    async def busy(self, stamp: Stamp, places: frozenset[Place], timeout_s: float) -> list[str]:
        """Wait until no request needs one of these places."""
        found: list[str] = await self._call("busy", stamp, places, timeout_s)
        return found

    async def compared(self, rollout: str) -> Compared:
        """Return what gateways have seen of a canary, and of the live set meanwhile."""
        found: Compared = await self._call("compared", rollout)
        return found

    async def wake(self, component: str) -> None:
        """Ask for a replica of a component that has none."""
        await self._routes.wake(component)


class GrpcReplicas:
    """Replicas over gRPC.

    Args:
        channels: Channels to them; they carry the token for changes.
    """

    def __init__(self, channels: ChannelPool) -> None:
        self._channels = channels

    async def load(self, entry: Entry, held: Held) -> None:
        """Load a version beside those there are."""
        request = component_pb2.LoadVersionRequest(version=held.version, adapter=held.adapter)
        await self._call(entry, "LoadVersion", request, LOAD_S)

    async def unload(self, entry: Entry, version: str) -> None:
        """Drop a version when its last request has left."""
        await self._call(entry, "UnloadVersion", component_pb2.UnloadVersionRequest(version=version), UNLOAD_S)

    async def _call(self, entry: Entry, method: str, request: Any, timeout_s: float) -> None:  # noqa: ANN401
        stub = self._channels.stub(component_pb2_grpc.ComponentServiceStub, entry.address)
        try:
            await getattr(stub, method)(request, timeout=timeout_s, metadata=self._channels.metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                self._channels.drop(entry.address)
            raise error_from_rpc(error, entry.component) from error
