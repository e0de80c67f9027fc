"""The gateway's gRPC server, and the Serve deployment that keeps it running."""

from __future__ import annotations

import asyncio
import logging

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from anyplex.v1 import gateway_pb2_grpc, media_pb2_grpc
from graph.errors import Unavailable
from graph.profile import GatewaySettings
from services.gateway.media import MediaStore
from services.gateway.runner import Runner
from services.gateway.service import GatewayFace, MediaFace
from services.runtime.caller import GrpcCaller
from services.runtime.directory import Routes, answers
from services.runtime.interceptors import interceptors
from services.runtime.server import SERVER_OPTIONS, listen, token_metadata
from services.runtime.settings import RuntimeSettings
from services.runtime.telemetry import Metrics, MetricsServer, Tracing, set_up_logging
from services.runtime.tensors import ChannelPool

logger = logging.getLogger("anyplex.gateway")

SERVICES = ("anyplex.v1.GatewayService", "anyplex.v1.MediaService")
MESSAGE_SLACK_BYTES = 2**20
MAX_INLINE_MEDIA = 8
CALLS_PER_PLACE = 4
"""Open calls for each request that may run or wait: room for idle conversations, and an end to it."""


class GatewayServer:
    """The public edge of a cluster.

    Args:
        routes: Systems and replicas there are.
        settings: Limits, host, port.
        runtime: Tokens, TLS, tracing of the public edge.
        component_token: Token that components ask for.
    """

    def __init__(
        self, routes: Routes, settings: GatewaySettings, runtime: RuntimeSettings, component_token: str = ""
    ) -> None:
        self.routes = routes
        self.settings = settings
        self.runtime = runtime
        self.metrics = Metrics("gateway", "gateway")
        self.tracing = Tracing("gateway", runtime.trace_endpoint)
        self.media = MediaStore(
            settings.upload_bytes, settings.upload_total_bytes, settings.upload_keep_s, settings.upload_max_keep_s
        )
        self.channels = ChannelPool()
        self.channels.metadata = token_metadata(component_token)
        caller = GrpcCaller(routes, self.channels)
        self.runner = Runner(routes, caller, settings, self.media, self.metrics, self.tracing)
        self.address = ""
        self.metrics_address = ""
        self._health = health_aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._metrics_server: MetricsServer | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Open the server and return its address.

        Raises:
            Unavailable: The port is taken.
        """
        settings, runtime = self.settings, self.runtime
        cap = MAX_INLINE_MEDIA * settings.inline_media_bytes + MESSAGE_SLACK_BYTES
        options = [*dict(SERVER_OPTIONS).items()]
        options = [(key, cap if key == "grpc.max_receive_message_length" else value) for key, value in options]
        server = grpc.aio.server(
            interceptors=interceptors(self.metrics, self.tracing, (runtime.data_token,), runtime.control_token),
            options=options,
            maximum_concurrent_rpcs=CALLS_PER_PLACE * (settings.max_concurrent + settings.queue_limit),
        )
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server(GatewayFace(self.runner), server)
        media_pb2_grpc.add_MediaServiceServicer_to_server(MediaFace(self.media), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        port = listen(server, settings.host, range(settings.port, settings.port + 1), runtime)
        await server.start()
        self._server = server
        self.address = f"{settings.host}:{port}"
        if runtime.metrics:
            self._metrics_server = MetricsServer(
                self.metrics.registry, runtime.metrics_host, runtime.metrics_port, self._targets
            )
            self.metrics_address = self._metrics_server.address
        for name in ("", *SERVICES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._sweeper = asyncio.create_task(self._sweep())
        logger.info("gateway serves on %s", self.address)
        return self.address

    async def stop(self, grace_s: float | None = None) -> None:
        """Let the requests in flight end, then close."""
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self.runtime.max_deadline_s if grace_s is None else grace_s)
        self._server = None
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._metrics_server is not None:
            self._metrics_server.close()
        await asyncio.to_thread(self.tracing.close)
        await self.channels.close()
        self.media.close()

    async def healthy(self) -> None:
        """Check that the server answers.

        Raises:
            Unavailable: It does not.
        """
        if self.runtime.tls is None and not await answers(self.address, timeout_s=5.0):
            raise Unavailable("the gateway does not answer its own health check")

    def _targets(self) -> list[dict[str, object]]:
        """Return what Prometheus' HTTP service discovery expects: every metrics server of the cluster."""
        targets: list[dict[str, object]] = [
            {"targets": [entry.metrics_address], "labels": {"component": entry.component}}
            for entry in self.routes.snapshot.entries
            if entry.metrics_address
        ]
        return [*targets, {"targets": [self.metrics_address], "labels": {"component": "gateway"}}]

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.media.sweep()
            self.metrics.running.set(self.runner.gate.running)
            self.metrics.waiting.set(self.runner.gate.waiting)


class GatewayHost:
    """The Serve deployment around the gateway.

    Args:
        settings: Limits, host, port.
        runtime: Tokens, TLS, tracing of the public edge.
        component_token: Token that components ask for.
    """

    async def __init__(  # type: ignore[misc]
        self, settings: GatewaySettings, runtime: RuntimeSettings, component_token: str
    ) -> None:
        from services.runtime.cluster import ClusterRoutes

        set_up_logging(runtime.log_level)
        self._server: GatewayServer | None = None
        self._routes = ClusterRoutes(keep_systems=True)
        await self._routes.start()
        server = GatewayServer(self._routes, settings, runtime, component_token)
        self._routes.in_use = server.runner.pinning.in_use
        self._routes.compared = server.runner.canaries.compared
        await server.start()
        self._server = server

    async def addresses(self) -> tuple[str, str]:
        """Return the addresses of the gateway and of its metrics."""
        if self._server is None:
            raise Unavailable("the gateway is stopping")
        return self._server.address, self._server.metrics_address

    async def check_health(self) -> None:
        """Raise when the gateway cannot serve: Serve then replaces it."""
        if self._server is not None:
            await self._server.healthy()

    async def __del__(self) -> None:
        """Let the requests in flight end, then stop. Serve calls and awaits this."""
        if self._server is not None:
            await self._server.stop()
