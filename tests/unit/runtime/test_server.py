"""The server around a component, and the gateway's: tokens on every method there is, health, reflection, draining."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from anyplex.v1 import component_pb2, component_pb2_grpc
from graph.errors import Exhausted, Unavailable
from graph.profile import GatewaySettings
from services.artifacts import ArtifactStore
from services.gateway.server import GatewayServer
from services.runtime.component import Component, ComponentContext
from services.runtime.directory import Routes
from services.runtime.interceptors import CONTROL_METHODS
from services.runtime.server import ComponentServer
from services.runtime.settings import RuntimeSettings
from services.runtime.tensors import TensorStore
from tests.waiting import until

DATA, CONTROL = "data-token", "control-token"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


class Idle(Component):
    """A component that serves nothing of its own, slowly."""

    def __init__(self, context: ComponentContext) -> None:
        super().__init__(context)
        self.stopped = False
        self.described = asyncio.Event()
        self.proceed = asyncio.Event()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        self.stopped = True

    def card(self) -> component_pb2.ContractCard:
        return component_pb2.ContractCard(contract="v1", kind="encoder", type="idle")

    def add_to(self, server: grpc.aio.Server) -> str:
        from anyplex.v1 import encoder_pb2, encoder_pb2_grpc

        class Face(encoder_pb2_grpc.EncoderServiceServicer):
            async def Encode(face, request: Any, context: Any) -> encoder_pb2.EncodeResponse:  # noqa: N802, N805
                self.described.set()
                await self.proceed.wait()
                return encoder_pb2.EncodeResponse()

        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(Face(), server)
        return "anyplex.v1.EncoderService"


def idle(tmp_path: Path, **settings: Any) -> Idle:
    store = ArtifactStore(tmp_path)
    return Idle(ComponentContext("idle", "encoder", "idle", store, (), TensorStore(), **settings))


@dataclass
class Served:
    channel: grpc.aio.Channel
    server: Any
    metrics_address: str


@pytest.fixture(params=["component", "gateway"])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    runtime = RuntimeSettings(data_token=DATA, control_token=CONTROL)
    server: Any
    if request.param == "component":
        server = ComponentServer(idle(tmp_path), runtime)
    else:
        server = GatewayServer(Routes(), GatewaySettings(port=0), runtime)
    address = await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield Served(channel, server, server.metrics_address)
    await server.stop(grace_s=0.0)


async def reflected(channel: grpc.aio.Channel, request: Any, token: str = DATA) -> Any:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    return await anext(aiter(stub.ServerReflectionInfo(iter([request]), metadata=bearer(token))))


async def methods_of(channel: grpc.aio.Channel) -> list[str]:
    """Every method of every service of a server, as its reflection tells."""
    Request = reflection_pb2.ServerReflectionRequest
    listed = await reflected(channel, Request(list_services=""))
    methods = []
    for service in listed.list_services_response.service:
        found = await reflected(channel, Request(file_containing_symbol=service.name))
        for data in found.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            for one in file.service:
                if f"{file.package}.{one.name}" == service.name:
                    methods += [f"/{service.name}/{method.name}" for method in one.method]
    return methods


async def code_of(channel: grpc.aio.Channel, path: str, metadata: Any) -> grpc.StatusCode:
    """How a method answers an empty message; streams are read to their end."""
    call = channel.stream_stream(path, bytes, bytes)(iter([b""]), metadata=metadata, timeout=1.0)
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_every_method_of_every_service_asks_for_a_token(served: Served) -> None:
    methods = await methods_of(served.channel)
    guarded = [method for method in methods if not method.startswith("/grpc.health.v1.")]
    assert len(guarded) >= 7
    refused = 0
    for method in guarded:
        for metadata in ((), bearer("wrong"), bearer("")):
            assert await code_of(served.channel, method, metadata) is grpc.StatusCode.UNAUTHENTICATED, method
            refused += 1
        is_control = method.startswith(CONTROL_METHODS)
        with_data = await code_of(served.channel, method, bearer(DATA))
        assert (with_data is grpc.StatusCode.PERMISSION_DENIED) is is_control, method
        denied = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
        assert await code_of(served.channel, method, bearer(CONTROL)) not in denied, method
    print(f"figure: row 32: {refused} of {refused} calls without a valid token refused, {len(guarded)} methods")


async def test_health_is_open_and_says_which_services_serve(served: Served) -> None:
    stub = health_pb2_grpc.HealthStub(served.channel)
    own = {"component": "anyplex.v1.EncoderService", "gateway": "anyplex.v1.GatewayService"}
    name = own["component" if isinstance(served.server, ComponentServer) else "gateway"]
    for service in ("", name):
        reply = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_metrics_are_served_under_the_names_of_vllm(served: Served) -> None:
    def read(path: str) -> str:
        with urllib.request.urlopen(f"http://{served.metrics_address}{path}", timeout=5) as reply:  # noqa: S310
            return str(reply.read().decode())

    page = await asyncio.to_thread(read, "/metrics")
    for name in (
        "anyplex:time_to_first_token_seconds", "anyplex:inter_token_latency_seconds",
        "anyplex:request_queue_time_seconds", "anyplex:e2e_request_latency_seconds", "anyplex:num_requests_running",
        "anyplex:num_requests_waiting", "anyplex:prompt_tokens_total", "anyplex:generation_tokens_total",
    ):  # fmt: skip
        assert name in page


async def test_a_taken_port_is_told(tmp_path: Path) -> None:
    server = GatewayServer(Routes(), GatewaySettings(port=0), RuntimeSettings())
    port = int((await server.start()).rpartition(":")[2])
    try:
        with pytest.raises(Unavailable, match=str(port)):
            await GatewayServer(Routes(), GatewaySettings(port=port), RuntimeSettings()).start()
        second = ComponentServer(idle(tmp_path), RuntimeSettings(port_range=(port, port)))
        with pytest.raises(Unavailable, match="no free port"):
            await second.start()
    finally:
        await server.stop(grace_s=0.0)


async def test_the_next_port_of_the_range_is_taken(tmp_path: Path) -> None:
    first = ComponentServer(idle(tmp_path), RuntimeSettings(metrics=False))
    port = int((await first.start()).rpartition(":")[2])
    second = ComponentServer(idle(tmp_path), RuntimeSettings(port_range=(port, min(port + 20, 65535)), metrics=False))
    try:
        assert int((await second.start()).rpartition(":")[2]) > port
    finally:
        await first.stop(grace_s=0.0)
        await second.stop(grace_s=0.0)


async def test_stopping_lets_calls_in_flight_end(tmp_path: Path) -> None:
    from anyplex.v1 import encoder_pb2, encoder_pb2_grpc

    component = idle(tmp_path)
    server = ComponentServer(component, RuntimeSettings(metrics=False))
    async with grpc.aio.insecure_channel(await server.start()) as channel:
        calling = asyncio.ensure_future(
            encoder_pb2_grpc.EncoderServiceStub(channel).Encode(encoder_pb2.EncodeRequest())
        )
        await component.described.wait()
        stopping = asyncio.create_task(server.stop(grace_s=10.0))
        await asyncio.sleep(0.05)
        assert not stopping.done()
        component.proceed.set()
        await calling
        await stopping
    assert component.stopped


async def test_stats_tell_the_load(tmp_path: Path) -> None:
    component = idle(tmp_path)
    component.load.waiting, component.load.running, component.load.finished = 3, 2, 7
    server = ComponentServer(component, RuntimeSettings())
    async with grpc.aio.insecure_channel(await server.start()) as channel:
        stub = component_pb2_grpc.ComponentServiceStub(channel)
        stats = await stub.GetStats(component_pb2.GetStatsRequest())
        assert (stats.waiting, stats.running, stats.finished) == (3, 2, 7)
        assert stats.resident_bytes > 10 * 2**20

        def gauges() -> bool:
            value = server.metrics.registry.get_sample_value
            labels = {"component": "idle", "kind": "encoder"}
            return value("anyplex:num_requests_waiting", labels) == 3.0

        await until(gauges)
    await server.stop(grace_s=0.0)


def test_more_than_may_wait_is_refused_at_once(tmp_path: Path) -> None:
    component = idle(tmp_path, queue_limit=2)
    component.admit()
    component.admit()
    with pytest.raises(Exhausted) as full:
        component.admit()
    assert full.value.retry_after_s > 0
    assert component.load.waiting == 2
