"""A gateway over scripted components, in this process, behind a real gRPC server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest

from anyplex.v1 import gateway_pb2, gateway_pb2_grpc, media_pb2_grpc, types_pb2
from graph.profile import GatewaySettings
from services.gateway.media import MediaStore
from services.gateway.runner import Runner
from services.gateway.service import GatewayFace, MediaFace
from services.runtime.directory import Entry, Routes, Snapshot
from services.runtime.interceptors import interceptors
from services.runtime.telemetry import Metrics, Tracing
from tests.fakes.caller import FakeCaller
from tests.unit.graph.worlds import compiled

SYSTEM = "full"
VERSIONS = {"see": "v-see", "think": "v-think", "think/lora": "v-lora"}


def ask(*parts: types_pb2.Part, **rest: Any) -> gateway_pb2.GenerateRequest:
    """A request of one turn; words alone unless parts are given."""
    turn = types_pb2.Message(parts=parts or (types_pb2.Part(text="hello"),))
    return gateway_pb2.GenerateRequest(system=SYSTEM, messages=[turn], **rest)


def picture(data: bytes = b"picture", **rest: Any) -> types_pb2.Part:
    source = {"inline": data} if not {"handle", "features"} & set(rest) else {}
    return types_pb2.Part(media=types_pb2.Media(modality="image", **source, **rest))


@dataclass
class Gateway:
    """A gateway under test."""

    caller: FakeCaller = field(default_factory=FakeCaller)
    settings: GatewaySettings = field(default_factory=lambda: GatewaySettings(inline_media_bytes=1000))

    def __post_init__(self) -> None:
        plan = compiled(versions=VERSIONS)
        entries = tuple(
            Entry(component, component, f"127.0.0.1:{40000 + index}", versions=frozenset(VERSIONS.values()))
            for index, component in enumerate(sorted({node.component for node in plan.nodes}))
        )
        self.plan = plan
        self.routes = Routes()
        self.routes.update(Snapshot("epoch", 1, entries, {SYSTEM: plan}))
        self.media = MediaStore(10_000, 100_000, 60.0, 600.0)
        self.metrics, self.tracing = Metrics("gateway", "gateway"), Tracing("gateway", "")
        self.runner = Runner(self.routes, self.caller, self.settings, self.media, self.metrics, self.tracing)

    async def run(self, request: gateway_pb2.GenerateRequest, owner: str = "me") -> list[gateway_pb2.Event]:
        """Take a request in and run it to its end."""
        accepted = self.runner.accept(request, owner, "r1", None)
        return [event async for event in self.runner.run(accepted)]


@dataclass
class Served:
    """A gateway under test, behind its server."""

    gateway: Gateway
    stub: Any
    media: Any
    channel: grpc.aio.Channel


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    yield gateway
    gateway.media.close()


@pytest.fixture
async def served(gateway: Gateway) -> AsyncIterator[Served]:
    server = grpc.aio.server(interceptors=interceptors(gateway.metrics, gateway.tracing, ("secret",)))
    gateway_pb2_grpc.add_GatewayServiceServicer_to_server(GatewayFace(gateway.runner), server)
    media_pb2_grpc.add_MediaServiceServicer_to_server(MediaFace(gateway.media), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(
            gateway, gateway_pb2_grpc.GatewayServiceStub(channel), media_pb2_grpc.MediaServiceStub(channel), channel
        )
    await server.stop(0)
