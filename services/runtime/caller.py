"""The executor's port over gRPC: deadline, request id, trace context and token in metadata, safe retries."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import grpc.aio
from anyplex.v1 import (
    backbone_pb2_grpc,
    component_pb2,
    component_pb2_grpc,
    encoder_pb2,
    encoder_pb2_grpc,
    generator_pb2_grpc,
    input_projector_pb2,
    input_projector_pb2_grpc,
    output_projector_pb2,
    output_projector_pb2_grpc,
)

from graph import messages as m
from graph.caller import Call
from graph.errors import DeadlineExceeded, Internal, Unavailable
from services.runtime import convert
from services.runtime.directory import Entry, Routes
from services.runtime.interceptors import NODE, REQUEST_ID, TRACE_PARENT
from services.runtime.routing import Router
from services.runtime.status import error_from_rpc
from services.runtime.tensors import ChannelPool

logger = logging.getLogger("anyplex.caller")

MAX_TRIES = 3
MAX_LEASES = 4096
RECONNECT_S = 0.2
Answer = TypeVar("Answer")
StubClass = Callable[[grpc.aio.Channel], Any]


class GrpcCaller:
    """Calls components over gRPC.

    A call is tried again on another replica only while nothing of its answer has been received, and only when the
    replica was lost (UNAVAILABLE) or refused for a full queue while others may have room.

    Args:
        routes: Where replicas are listed.
        channels: Channels to them; carries the cluster's token.
        wait_s: Longest wait for a replica where there is none.
    """

    def __init__(self, routes: Routes, channels: ChannelPool, wait_s: float = 60.0) -> None:
        self.routes = routes
        self.channels = channels
        self.router = Router(routes, wait_s)
        self._producers: OrderedDict[str, set[str]] = OrderedDict()

    async def encode(self, call: Call, items: Sequence[m.Media], frames: int = 0) -> list[m.Features]:
        """Encode media."""
        request = encoder_pb2.EncodeRequest(
            version=convert.version_to_proto(call.version), items=map(convert.media_to_proto, items), frames=frames
        )

        stub = encoder_pb2_grpc.EncoderServiceStub
        response: encoder_pb2.EncodeResponse = await self._unary(call, stub, "Encode", request)
        features = [convert.features_from_proto(item) for item in response.items]
        return self._expect(call, features, len(items))

    async def project(self, call: Call, items: Sequence[m.Features], prompt: str = "") -> list[m.Segment]:
        """Project features."""
        request = input_projector_pb2.ProjectRequest(
            version=convert.version_to_proto(call.version), items=map(convert.features_to_proto, items), prompt=prompt
        )

        stub = input_projector_pb2_grpc.InputProjectorServiceStub
        response: input_projector_pb2.ProjectResponse = await self._unary(call, stub, "Project", request)
        return self._expect(call, [convert.segment_from_proto(item) for item in response.segments], len(items))

    async def condition(self, call: Call, block: m.SignalBlock) -> m.Conditioning:
        """Turn a signal block into conditioning."""
        request = output_projector_pb2.ConditionRequest(
            version=convert.version_to_proto(call.version), block=convert.block_to_proto(block)
        )

        stub = output_projector_pb2_grpc.OutputProjectorServiceStub
        return convert.conditioning_from_proto(await self._unary(call, stub, "Condition", request))

    async def decode(self, call: Call, request: m.DecodeRequest) -> AsyncIterator[m.DecodeEvent]:
        """Decode."""
        message = convert.decode_to_proto(request, call.version)

        stub = backbone_pb2_grpc.BackboneServiceStub
        async with contextlib.aclosing(self._stream(call, stub, "Decode", message)) as stream:
            async for event in stream:
                yield convert.decode_event_from_proto(event)

    async def render(self, call: Call, request: m.RenderRequest) -> AsyncIterator[m.RenderEvent]:
        """Make one medium."""
        message = convert.render_to_proto(request, call.version)

        stub = generator_pb2_grpc.GeneratorServiceStub
        async with contextlib.aclosing(self._stream(call, stub, "Render", message)) as stream:
            async for event in stream:
                yield convert.render_event_from_proto(event)

    async def release(self, request_id: str) -> None:
        """End the leases of a request wherever it left tensors."""
        addresses = self._producers.pop(request_id, set())
        message = component_pb2.ReleaseRequest(lease_id=request_id)

        async def one(address: str) -> None:
            stub = self.channels.stub(component_pb2_grpc.TensorServiceStub, address)
            # A producer that is gone has freed its tensors with everything else.
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub.Release(message, timeout=2.0, metadata=self.channels.metadata)

        await asyncio.gather(*map(one, addresses))

    # ---- how a call is made ------------------------------------------------------------------------------

    def _options(self, call: Call) -> dict[str, Any]:
        metadata = [*self.channels.metadata, (REQUEST_ID, call.request_id), (NODE, call.node)]
        if call.trace_parent:
            metadata.append((TRACE_PARENT, call.trace_parent))
        left_s = call.deadline_s - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded("the deadline passed", f"node {call.node}")
        return {"metadata": tuple(metadata), "timeout": None if left_s == float("inf") else left_s}

    async def _unary(self, call: Call, make_stub: StubClass, method: str, request: object) -> Any:  # noqa: ANN401
        tried: list[str] = []
        while True:
            entry = await self.router.pick(call, tried)
            self._note_producer(call, entry)
            self.router.in_flight[entry.replica_id] += 1
            try:
                stub = self.channels.stub(make_stub, entry.address)
                return await getattr(stub, method)(request, **self._options(call))
            except grpc.aio.AioRpcError as error:
                await self._retry_or_raise(call, entry, tried, error)
            finally:
                self.router.in_flight[entry.replica_id] -= 1

    async def _stream(
        self, call: Call, make_stub: StubClass, method: str, request: object
    ) -> AsyncGenerator[Any, None]:
        tried: list[str] = []
        received = False
        while True:
            entry = await self.router.pick(call, tried)
            self._note_producer(call, entry)
            options = self._options(call)
            self.router.in_flight[entry.replica_id] += 1
            stream = getattr(self.channels.stub(make_stub, entry.address), method)(request, **options)
            try:
                async for event in stream:
                    received = True
                    yield event
                return
            except grpc.aio.AioRpcError as error:
                if received:
                    await self._lost(entry, error)
                    raise error_from_rpc(error, call.node) from error
                await self._retry_or_raise(call, entry, tried, error)
            finally:
                stream.cancel()
                self.router.in_flight[entry.replica_id] -= 1

    async def _retry_or_raise(self, call: Call, entry: Entry, tried: list[str], error: grpc.aio.AioRpcError) -> None:
        """Return when the call may be tried again; ``tried`` then holds the replica to avoid.

        Raises:
            AnyplexError: It may not.
        """
        await self._lost(entry, error)
        translated = error_from_rpc(error, call.node)
        tried.append(entry.replica_id)
        if len(tried) >= MAX_TRIES or time.monotonic() >= call.deadline_s:
            raise translated from error
        if isinstance(translated, Unavailable):
            logger.warning("call to %s was lost, trying again", call.component)
            if self.router.choose(call, tried) is None and self.router.choose(call) is not None:
                # It was the connection that broke: the only replica there is still answers the directory.
                await asyncio.sleep(RECONNECT_S)
                tried[:] = [""] * len(tried)
            return
        if translated.code == "exhausted" and self.router.choose(call, tried) is not None:
            return
        raise translated from error

    async def _lost(self, entry: Entry, error: grpc.aio.AioRpcError) -> None:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            await self.routes.report_lost(entry.address)

    def _note_producer(self, call: Call, entry: Entry) -> None:
        self._producers.setdefault(call.request_id, set()).add(entry.address)
        if len(self._producers) > MAX_LEASES:
            # Leases end by themselves too; forgetting the oldest only frees later.
            self._producers.popitem(last=False)

    @staticmethod
    def _expect(call: Call, answers: list[Answer], count: int) -> list[Answer]:
        if len(answers) != count:
            raise Internal(f"{len(answers)} answers for {count} items", f"node {call.node}")
        return answers
