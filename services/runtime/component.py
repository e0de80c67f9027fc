"""The base of every component: what a kind's gRPC face has to implement.

A component lives in one process, behind one gRPC server (``services.runtime.server``), with or without Ray.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from anyplex.v1 import component_pb2
from graph.errors import Exhausted, Unimplemented
from services.artifacts import ArtifactStore
from services.runtime.telemetry import Metrics
from services.runtime.tensors import TensorStore


@dataclass(frozen=True)
class Held:
    """A version a component must hold.

    Attributes:
        version: Artifact version.
        adapter: True for a LoRA adapter of another version.
    """

    version: str
    adapter: bool = False


@dataclass(frozen=True)
class ComponentContext:
    """What a component is started with.

    Attributes:
        component: Id of the component in the plan.
        kind: Kind of node it serves.
        type: Its type in the catalog.
        store: Where its artifacts are.
        held: Versions to load at the start.
        tensors: Where it keeps tensors for others, and reads those of others.
        options: The node's options from the system file.
        dtype: "float32" or "bfloat16".
        device: torch device.
        threads: Threads for torch.
        max_batch: Most items in one model step.
        queue_limit: Most requests that may wait; one more is refused.
    """

    component: str
    kind: str
    type: str
    store: ArtifactStore
    held: tuple[Held, ...]
    tensors: TensorStore
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    max_batch: int = 16
    queue_limit: int = 64


@dataclass
class Load:
    """What is going on in a component right now, and what happened since its start."""

    waiting: int = 0
    running: int = 0
    finished: int = 0
    failed: int = 0


class Component(ABC):
    """One component: loads versions, gives its card, adds its service to a server.

    Args:
        context: What it is started with.

    Attributes:
        load: What goes on in it; kept by the component.
        metrics: Where it observes token times; set by the server before ``start``.
    """

    def __init__(self, context: ComponentContext) -> None:
        self.context = context
        self.load = Load()
        self.metrics: Metrics | None = None

    @abstractmethod
    async def start(self) -> None:
        """Load every version of ``context.held`` and warm up; afterwards calls are answered.

        Raises:
            AnyplexError: An artifact is missing, damaged or of another kind, type or shape.
        """

    async def stop(self) -> None:
        """Free what ``start`` took. Called after the last request has left."""

    @abstractmethod
    def card(self) -> component_pb2.ContractCard:
        """Return the contract card, with the versions held now."""

    @abstractmethod
    def add_to(self, server: grpc.aio.Server) -> str:
        """Add the service of its kind to a server and return the service's full name."""

    async def load_version(self, held: Held) -> None:
        """Load one more version beside those there are."""
        raise Unimplemented(f"a {self.context.type} component cannot load versions while it runs")

    async def unload_version(self, version: str) -> None:
        """Drop a version once its last request has left."""
        raise Unimplemented(f"a {self.context.type} component cannot drop versions while it runs")

    def admit(self) -> None:
        """Count one more waiting request, or refuse it at once.

        Raises:
            Exhausted: ``queue_limit`` requests wait already.
        """
        if self.load.waiting >= self.context.queue_limit:
            raise Exhausted(
                f"{self.context.component}: {self.load.waiting} requests wait, the limit is reached", "", 1.0
            )
        self.load.waiting += 1
