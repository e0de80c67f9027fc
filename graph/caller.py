"""The port through which the executor reaches components.

Three adapters implement it: ``services.runtime.caller.GrpcCaller`` (the cluster),
``services.runtime.local_caller.LocalCaller`` (components in this process) and the fakes of the tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from graph.messages import (
    Conditioning,
    DecodeEvent,
    DecodeRequest,
    Features,
    Media,
    RenderEvent,
    RenderRequest,
    Segment,
    SignalBlock,
    VersionRef,
)


@dataclass(frozen=True)
class Call:
    """Which node is called, for which request, until when.

    Attributes:
        request_id: Names the request in metadata, logs, leases.
        node: Path of the node, for errors and spans.
        component: Component that serves it.
        version: Weights to run.
        deadline_s: ``time.monotonic()`` at which the caller gives up.
        session_id: For affinity; empty means none.
        trace_parent: W3C trace context; empty means none.
    """

    request_id: str
    node: str
    component: str
    version: VersionRef = field(default_factory=VersionRef)
    deadline_s: float = float("inf")
    session_id: str = ""
    trace_parent: str = ""


class Caller(Protocol):
    """Calls components.

    Every method raises the errors of ``graph.errors`` with ``where`` naming the node, stops its component within
    one model step when cancelled, and never outlives ``call.deadline_s``.
    """

    async def encode(self, call: Call, items: Sequence[Media], frames: int = 0) -> list[Features]:
        """Encode media (inline only); one result an item, in order."""
        ...

    async def project(self, call: Call, items: Sequence[Features], prompt: str = "") -> list[Segment]:
        """Project features; one segment an item, in order."""
        ...

    def decode(self, call: Call, request: DecodeRequest) -> AsyncIterator[DecodeEvent]:
        """Decode; ``DecodeStarted`` first, one ``DecodeFinished`` for each of the n answers."""
        ...

    async def condition(self, call: Call, block: SignalBlock) -> Conditioning:
        """Turn a signal block into conditioning."""
        ...

    def render(self, call: Call, request: RenderRequest) -> AsyncIterator[RenderEvent]:
        """Make one medium; ``RenderStarted`` first, the last ``RenderChunk`` last."""
        ...

    async def release(self, request_id: str) -> None:
        """End the leases of a request at every producer that was touched; never raises."""
        ...
