"""The control service's process: its gRPC server, and the Serve deployment that keeps it running."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from anyplex.v1 import control_pb2_grpc
from graph.errors import AnyplexError, Unavailable
from services.artifacts import ArtifactStore
from services.control.adapters import ClusterDirectory, GrpcReplicas
from services.control.coordinator import Coordinator
from services.control.ports import ComponentsPort, PlansPort, Ports, ShelfPort, SuitesPort
from services.control.recorded import RegistryLog
from services.control.service import ControlFace
from services.registry import Registry
from services.runtime.directory import answers
from services.runtime.interceptors import interceptors
from services.runtime.server import SERVER_OPTIONS, listen, token_metadata
from services.runtime.settings import RuntimeSettings
from services.runtime.telemetry import Metrics, Tracing, set_up_logging
from services.runtime.tensors import ChannelPool

logger = logging.getLogger("anyplex.control")

SERVICE = "anyplex.v1.ControlService"
TEND_S = 2.0
MOST_CALLS = 512


class ControlHost:
    """The Serve deployment of the control service. Traffic does not need it.

    Args:
        address: Host and port to listen on.
        registry_url: Database of the registry.
        store_paths: Where artifacts are.
        settings: Tokens.
        components: How components are started and removed.
        shelf: What artifacts are.
        suites: Asks evaluation suites of canaries.
        plans: What files ask for.
    """

    async def __init__(  # type: ignore[misc]
        self,
        address: tuple[str, int],
        registry_url: str,
        store_paths: tuple[str, ...],
        settings: RuntimeSettings,
        components: ComponentsPort,
        shelf: ShelfPort,
        suites: SuitesPort,
        plans: PlansPort,
    ) -> None:
        set_up_logging(settings.log_level)
        channels = ChannelPool()
        channels.metadata = token_metadata(settings.control_token)
        directory = ClusterDirectory()
        registry = await asyncio.to_thread(Registry, registry_url)
        store = ArtifactStore(*store_paths)
        log = await asyncio.to_thread(RegistryLog, registry, store)
        ports = Ports(directory, GrpcReplicas(channels), components, shelf, suites)
        self._coordinator = Coordinator(ports, log)
        self.address = f"{address[0]}:{address[1]}"
        server = grpc.aio.server(
            interceptors=interceptors(
                Metrics("control", "control"), Tracing("control", settings.trace_endpoint), (settings.data_token,),
                settings.control_token,
            ),
            options=list(SERVER_OPTIONS),
            maximum_concurrent_rpcs=MOST_CALLS,
        )  # fmt: skip
        control_pb2_grpc.add_ControlServiceServicer_to_server(
            ControlFace(self._coordinator, directory, registry, store, plans), server
        )
        health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        listen(server, address[0], range(address[1], address[1] + 1), replace(settings, tls=None))
        await server.start()
        for name in ("", SERVICE):
            await health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._server = server
        self._tending = asyncio.create_task(self._tend())

    async def _tend(self) -> None:
        while True:
            try:
                await self._coordinator.tend()
            except AnyplexError as error:
                logger.warning("%s", error)
            await asyncio.sleep(TEND_S)

    async def check_health(self) -> None:
        """Raise when it does not answer, or does not look after things any more: Serve then replaces it."""
        if self._tending.done() or not await answers(self.address, timeout_s=5.0):
            raise Unavailable("the control service does not answer its own health check")

    async def __del__(self) -> None:
        """Stop at once: what is under way goes on when it starts again."""
        self._tending.cancel()
        await self._server.stop(0.5)
