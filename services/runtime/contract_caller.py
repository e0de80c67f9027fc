"""The executor's port in terms of the contracts, whatever the way to the components is."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc.aio

from anyplex.v1 import (
    backbone_pb2_grpc,
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
from graph.errors import DeadlineExceeded, Internal
from services.runtime import convert, convert_nodes
from services.runtime.interceptors import NODE, REQUEST_ID, TRACE_PARENT

Answer = TypeVar("Answer")
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Method:
    """One method of a component's contract.

    Attributes:
        stub: Makes the stub of its service.
        service: Name of the service.
        name: Name of the method.
    """

    stub: Callable[[grpc.aio.Channel], Any]
    service: str
    name: str

    @property
    def path(self) -> str:
        """The name by which gRPC knows it."""
        return f"/anyplex.v1.{self.service}/{self.name}"


ENCODE = Method(encoder_pb2_grpc.EncoderServiceStub, "EncoderService", "Encode")
PROJECT = Method(input_projector_pb2_grpc.InputProjectorServiceStub, "InputProjectorService", "Project")
DECODE = Method(backbone_pb2_grpc.BackboneServiceStub, "BackboneService", "Decode")
CONDITION = Method(output_projector_pb2_grpc.OutputProjectorServiceStub, "OutputProjectorService", "Condition")
RENDER = Method(generator_pb2_grpc.GeneratorServiceStub, "GeneratorService", "Render")


def metadata_for(call: Call, token: Metadata = ()) -> Metadata:
    """Return what travels beside a call: token, request id, node, trace context."""
    metadata = [*token, (REQUEST_ID, call.request_id), (NODE, call.node)]
    if call.trace_parent:
        metadata.append((TRACE_PARENT, call.trace_parent))
    return tuple(metadata)


def time_left_s(call: Call) -> float | None:
    """Return the seconds until a call's deadline; None when it has none.

    Raises:
        DeadlineExceeded: They are over.
    """
    left_s = call.deadline_s - time.monotonic()
    if left_s <= 0:
        raise DeadlineExceeded("the deadline passed", f"node {call.node}")
    return None if left_s == float("inf") else left_s


class ContractCaller(ABC):
    """The executor's port in terms of the contracts: converts, and leaves the way to the component to its heirs."""

    async def encode(self, call: Call, items: Sequence[m.Media], frames: int = 0) -> list[m.Features]:
        """Encode media."""
        request = encoder_pb2.EncodeRequest(
            version=convert.version_to_proto(call.version), items=map(convert.media_to_proto, items), frames=frames
        )

        response: encoder_pb2.EncodeResponse = await self._unary(call, ENCODE, request)
        features = [convert.features_from_proto(item) for item in response.items]
        return self._expect(call, features, len(items))

    async def project(self, call: Call, items: Sequence[m.Features], prompt: str = "") -> list[m.Segment]:
        """Project features."""
        request = input_projector_pb2.ProjectRequest(
            version=convert.version_to_proto(call.version), items=map(convert.features_to_proto, items), prompt=prompt
        )

        response: input_projector_pb2.ProjectResponse = await self._unary(call, PROJECT, request)
        return self._expect(call, [convert.segment_from_proto(item) for item in response.segments], len(items))

    async def condition(self, call: Call, block: m.SignalBlock) -> m.Conditioning:
        """Turn a signal block into conditioning."""
        request = output_projector_pb2.ConditionRequest(
            version=convert.version_to_proto(call.version), block=convert_nodes.block_to_proto(block)
        )

        return convert_nodes.conditioning_from_proto(await self._unary(call, CONDITION, request))

    async def decode(self, call: Call, request: m.DecodeRequest) -> AsyncIterator[m.DecodeEvent]:
        """Decode."""
        message = convert.decode_to_proto(request, call.version)

        async with contextlib.aclosing(self._stream(call, DECODE, message)) as stream:
            async for event in stream:
                yield convert_nodes.decode_event_from_proto(event)

    async def render(self, call: Call, request: m.RenderRequest) -> AsyncIterator[m.RenderEvent]:
        """Make one medium."""
        message = convert_nodes.render_to_proto(request, call.version)

        async with contextlib.aclosing(self._stream(call, RENDER, message)) as stream:
            async for event in stream:
                yield convert_nodes.render_event_from_proto(event)

    async def release(self, request_id: str) -> None:
        """End the leases of a request wherever it left tensors."""

    @abstractmethod
    async def _unary(self, call: Call, method: Method, request: Any) -> Any:  # noqa: ANN401 - any contract's messages
        """Call a method that answers once."""

    @abstractmethod
    def _stream(self, call: Call, method: Method, request: Any) -> AsyncGenerator[Any, None]:  # noqa: ANN401
        """Call a method that answers with a stream."""

    @staticmethod
    def _expect(call: Call, answers: list[Answer], count: int) -> list[Answer]:
        if len(answers) != count:
            raise Internal(f"{len(answers)} answers for {count} items", f"node {call.node}")
        return answers
