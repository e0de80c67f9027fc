"""The gRPC server around one component: contract, health, reflection, tensors, draining. Knows nothing of Ray."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from anyplex.v1 import component_pb2, component_pb2_grpc
from graph.errors import Unavailable
from services.runtime.component import Component, Held
from services.runtime.interceptors import AUTHORIZATION, interceptors
from services.runtime.settings import RuntimeSettings
from services.runtime.telemetry import Metrics, MetricsServer, Stopwatch, Tracing, resident_bytes
from services.runtime.tensors import TensorFace

logger = logging.getLogger("anyplex.server")

COMPONENT_SERVICE = "anyplex.v1.ComponentService"
TENSOR_SERVICE = "anyplex.v1.TensorService"
UNLISTED_S = 0.1
SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 128 * 2**20),
    ("grpc.max_send_message_length", 128 * 2**20),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


def listen(server: grpc.aio.Server, host: str, ports: range, settings: RuntimeSettings) -> int:
    """Bind a server to the first free port of a range, and return it.

    Raises:
        Unavailable: Every port is taken.
    """
    for port in ports:
        address = f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
        try:
            if settings.tls is not None:
                return server.add_secure_port(address, settings.tls.server_credentials())
            return server.add_insecure_port(address)
        except RuntimeError:
            continue
    raise Unavailable(f"no free port on {host} between {ports.start} and {ports.stop - 1}")


class ComponentFace(component_pb2_grpc.ComponentServiceServicer):
    """What every replica answers, whatever its kind."""

    def __init__(self, server: ComponentServer) -> None:
        self.server = server
        self._changes: set[asyncio.Task[None]] = set()

    async def Describe(  # noqa: N802 - name fixed by the contract
        self, request: component_pb2.DescribeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> component_pb2.DescribeResponse:
        """Return the contract card."""
        return component_pb2.DescribeResponse(card=self.server.component.card())

    async def LoadVersion(  # noqa: N802 - name fixed by the contract
        self, request: component_pb2.LoadVersionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> component_pb2.LoadVersionResponse:
        """Load a version beside those there are."""
        await asyncio.shield(self._keep(self._load(Held(request.version, request.adapter))))
        return component_pb2.LoadVersionResponse(card=self.server.component.card())

    async def UnloadVersion(  # noqa: N802 - name fixed by the contract
        self, request: component_pb2.UnloadVersionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> component_pb2.UnloadVersionResponse:
        """Drop a version when its last request has left."""
        await asyncio.shield(self._keep(self._unload(request.version)))
        return component_pb2.UnloadVersionResponse(card=self.server.component.card())

    def _keep(self, change: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let a change of versions end even when its caller is gone: what is listed must be what is held."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return task

    async def _load(self, held: Held) -> None:
        await self.server.component.load_version(held)
        await self.server.announce()

    async def _unload(self, version: str) -> None:
        dropping = asyncio.ensure_future(self.server.component.unload_version(version))
        # It takes no new requests from its first step on, and may have old ones for long: said at once.
        await asyncio.wait([dropping], timeout=UNLISTED_S)
        await self.server.announce()
        await dropping
        await self.server.announce()

    async def GetStats(  # noqa: N802 - name fixed by the contract
        self, request: component_pb2.GetStatsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> component_pb2.GetStatsResponse:
        """Return the load right now."""
        server, load = self.server, self.server.component.load
        tensors = server.component.context.tensors
        return component_pb2.GetStatsResponse(
            waiting=load.waiting,
            running=load.running,
            finished=load.finished,
            failed=load.failed,
            tensors=len(tensors),
            tensor_bytes=tensors.bytes_held,
            resident_bytes=resident_bytes(),
            uptime_s=server.uptime.seconds(),
            cold_start_s=server.cold_start_s,
        )


class ComponentServer:
    """Serves one component.

    Args:
        component: The component, not started yet.
        settings: Where to listen, which tokens to ask for.
    """

    def __init__(self, component: Component, settings: RuntimeSettings) -> None:
        self.component = component
        self.settings = settings
        self.metrics = Metrics(component.context.component, component.context.kind)
        self.tracing = Tracing(component.context.component, settings.trace_endpoint)
        self.uptime = Stopwatch()
        self.cold_start_s = 0.0
        self.address = ""
        self.metrics_address = ""
        self.on_change: Any = None
        self._metrics_server: MetricsServer | None = None
        self._health = health_aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Load the component, open the server, and return its address.

        Raises:
            AnyplexError: The component cannot be loaded, or no port is free.
        """
        clock = Stopwatch()
        component, settings = self.component, self.settings
        component.metrics = self.metrics
        await component.start()
        tokens = (settings.data_token,)
        server = grpc.aio.server(
            interceptors=interceptors(self.metrics, self.tracing, tokens, settings.control_token),
            options=list(SERVER_OPTIONS),
        )
        component_pb2_grpc.add_ComponentServiceServicer_to_server(ComponentFace(self), server)
        component_pb2_grpc.add_TensorServiceServicer_to_server(TensorFace(component.context.tensors), server)
        names = [component.add_to(server), COMPONENT_SERVICE, TENSOR_SERVICE]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection([*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
                                             reflection.SERVICE_NAME], server)  # fmt: skip
        host = settings.host or node_address()
        port = listen(server, host, settings.ports(), settings)
        await server.start()
        self._server = server
        self.address = component.context.tensors.address = f"{host}:{port}"
        component.context.tensors.channels.metadata = token_metadata(settings.data_token)
        if settings.metrics:
            self._metrics_server = MetricsServer(self.metrics.registry, settings.metrics_host)
            self.metrics_address = self._metrics_server.address
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._sweeper = asyncio.create_task(self._sweep())
        self.cold_start_s = clock.seconds()
        self.uptime = Stopwatch()
        logger.info("%s serves on %s after %.1f s", component.context.component, self.address, self.cold_start_s)
        return self.address

    async def announce(self) -> None:
        """Tell whoever listens that the versions held have changed."""
        if self.on_change is not None:
            await self.on_change()

    async def stop(self, grace_s: float | None = None) -> None:
        """Say goodbye in the health service, let the calls in flight end, then close."""
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self.settings.max_deadline_s if grace_s is None else grace_s)
        self._server = None
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._metrics_server is not None:
            self._metrics_server.close()
        await asyncio.to_thread(self.tracing.close)
        await self.component.context.tensors.channels.close()
        await self.component.stop()

    async def _sweep(self) -> None:
        load, metrics = self.component.load, self.metrics
        while True:
            await asyncio.sleep(1.0)
            self.component.context.tensors.sweep()
            metrics.running.set(load.running)
            metrics.waiting.set(load.waiting)


def token_metadata(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata that carries a token; nothing when there is none."""
    return ((AUTHORIZATION, f"Bearer {token}"),) if token else ()


def node_address() -> str:
    """Return this node's own address, as Ray knows it; loopback where there is no Ray."""
    return os.environ.get("ANYPLEX_NODE_ADDRESS", "127.0.0.1")
