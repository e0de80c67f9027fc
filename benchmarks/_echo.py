"""Not a benchmark of its own: what ``hop`` runs inside Serve's replicas.

A component and a plain Serve class, both doing nothing, and the caller of both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio

from anyplex.v1 import component_pb2, input_projector_pb2, input_projector_pb2_grpc, types_pb2
from graph.caller import Call
from graph.messages import Features, Tensor
from services.runtime.component import Component

PAYLOAD = bytes(100)


class EchoFace(input_projector_pb2_grpc.InputProjectorServiceServicer):
    """Answers every item with its own tensor."""

    def __init__(self, component: EchoComponent) -> None:
        self.component = component

    async def Project(  # noqa: N802 - name fixed by the contract
        self, request: input_projector_pb2.ProjectRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> input_projector_pb2.ProjectResponse:
        """Answer."""
        self.component.admit()
        self.component.load.waiting -= 1
        segments = [types_pb2.Segment(embeddings=item.tensor) for item in request.items]
        return input_projector_pb2.ProjectResponse(segments=segments)


class EchoComponent(Component):
    """An input projector that gives back what it gets."""

    async def start(self) -> None:
        """Nothing to load."""

    def card(self) -> component_pb2.ContractCard:
        """Return a card without widths."""
        return component_pb2.ContractCard(contract="v1", kind="input_projector", type="echo")

    def add_to(self, server: grpc.aio.Server) -> str:
        """Add the service."""
        input_projector_pb2_grpc.add_InputProjectorServiceServicer_to_server(EchoFace(self), server)
        return "anyplex.v1.InputProjectorService"


class EchoDeployment:
    """The same as a plain Serve deployment."""

    async def project(self, data: bytes) -> bytes:
        """Answer."""
        return data


class Bench:
    """Calls both ways from inside a Serve replica.

    Args:
        component: Component to call.
        token: Token it asks for.
        handle: Handle of the Serve deployment to call.
    """

    def __init__(self, component: str, token: str, handle: Any) -> None:  # noqa: ANN401
        self._component, self._token, self._handle = component, token, handle
        self._caller: Any = None

    async def start(self) -> None:
        """Find the component."""
        from services.runtime.caller import GrpcCaller
        from services.runtime.cluster import ClusterRoutes
        from services.runtime.server import token_metadata
        from services.runtime.tensors import ChannelPool

        routes = ClusterRoutes()
        await routes.start()
        channels = ChannelPool()
        channels.metadata = token_metadata(self._token)
        self._caller = GrpcCaller(routes, channels)
        await self.own()
        await self.serve()

    async def own(self) -> None:
        """One call of ours."""
        call = Call("bench", "echo", self._component, deadline_s=time.monotonic() + 60.0)
        segments = await self._caller.project(call, [Features(Tensor("uint8", (100,), (), PAYLOAD))])
        if segments[0].embeddings is None or segments[0].embeddings.data != PAYLOAD:
            raise ValueError("the echo is not what was said")

    async def serve(self) -> None:
        """One call through a Serve handle."""
        if await self._handle.project.remote(PAYLOAD) != PAYLOAD:
            raise ValueError("the echo is not what was said")

    async def round(self, which: str, calls: int, at_once: int) -> list[float]:
        """Return the seconds of each call, and the seconds of the whole round last."""
        one: Callable[[], Awaitable[None]] = self.own if which == "own" else self.serve
        took: list[float] = []
        left = iter(range(calls))

        async def worker() -> None:
            for _ in left:
                begun = time.perf_counter()
                await one()
                took.append(time.perf_counter() - begun)

        begun = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(at_once)))
        return [*took, time.perf_counter() - begun]
