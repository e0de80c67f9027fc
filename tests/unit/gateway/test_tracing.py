"""One span a node and request, all of one trace, sent to a collector; nothing without one."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from PIL import Image

from anyplex import AsyncClient
from anyplex import Image as Picture
from graph.compile import compile_system
from graph.plan import SystemPlan
from graph.profile import GatewaySettings, load_profile
from graph.spec import find_system
from graph.validate import load_system
from services.artifacts import ArtifactStore
from services.gateway.server import GatewayServer
from services.runtime.component import Component
from services.runtime.directory import Entry, Routes
from services.runtime.server import ComponentServer
from services.runtime.settings import RuntimeSettings
from tests.fakes import tiny
from tests.fakes.components import components_of


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


def system(store: ArtifactStore) -> tuple[SystemPlan, dict[str, Component]]:
    spec = load_system(find_system("llava-1.5"))
    plan = compile_system(spec, load_profile("local"), tiny.fill(store, spec))
    return plan, components_of(store, plan)


@pytest.mark.parametrize("traced", [True, False])
async def test_every_node_of_a_request_is_a_span_of_one_trace(tmp_path: Path, traced: bool) -> None:
    collector, receiver = Collector(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, receiver)
    port = receiver.add_insecure_port("127.0.0.1:0")
    await receiver.start()
    runtime = RuntimeSettings(trace_endpoint=f"http://127.0.0.1:{port}" if traced else "")
    plan, components = system(ArtifactStore(tmp_path))
    servers = {name: ComponentServer(component, runtime) for name, component in components.items()}
    entries = [
        Entry(name, name, await server.start(), versions=frozenset(plan.versions.values()))
        for name, server in servers.items()
    ]
    routes = Routes(tuple(entries))
    routes.update(dataclasses.replace(routes.snapshot, systems={plan.system: plan}))
    gateway = GatewayServer(routes, GatewaySettings(port=0), runtime)
    address = await gateway.start()
    buffer = io.BytesIO()
    Image.new("RGB", (30, 30), "red").save(buffer, "PNG")
    async with AsyncClient(address) as client:
        reply = await client.generate(["What is this?", Picture(buffer.getvalue())], max_tokens=4)
    await gateway.stop(1.0)
    for server in servers.values():
        await server.stop(1.0)
    await receiver.stop(1.0)
    if not traced:
        assert not collector.spans
        return
    nodes = [span for span in collector.spans if span.name in {"see", "see_in", "think"}]
    assert sorted(span.name for span in nodes) == ["see", "see_in", "think"]
    assert len({span.trace_id for span in nodes}) == 1
    root = next(span for span in collector.spans if span.name == "request")
    assert {span.parent_span_id for span in nodes} == {root.span_id}
    ids = {a.value.string_value for span in [*nodes, root] for a in span.attributes if a.key == "request_id"}
    assert ids == {reply.request_id}
