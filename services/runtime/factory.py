"""From what a plan says about a component to a component: imports its factory late, in the process that serves it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graph.errors import Internal
from services.artifacts import ArtifactStore
from services.runtime.component import Component, ComponentContext, Held
from services.runtime.tensors import TensorStore


@dataclass(frozen=True)
class ComponentSpec:
    """Everything a process needs to build a component; picklable.

    Attributes:
        component: Id in the plan.
        kind: Kind of node.
        type: Type in the catalog.
        factory: "module:attribute" of what builds it.
        store_paths: Directories or URLs of artifacts, searched in order.
        held: Versions to load at the start.
        options: The node's options.
        dtype: Element type to compute in.
        device: torch device.
        threads: Threads for torch.
        max_batch: Most items in one model step.
        queue_limit: Most requests that may wait.
        tensor_bytes: Most bytes of tensors kept for others.
    """

    component: str
    kind: str
    type: str
    factory: str
    store_paths: tuple[str, ...]
    held: tuple[Held, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    max_batch: int = 16
    queue_limit: int = 64
    tensor_bytes: int = 512 * 2**20

    def build(self) -> Component:
        """Build the component, not started.

        Raises:
            Internal: The factory cannot be imported.
        """
        module, _, attribute = self.factory.partition(":")
        try:
            factory = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise Internal(f"component type {self.type!r} cannot be built: {error}") from error
        component: Component = factory(
            ComponentContext(
                component=self.component,
                kind=self.kind,
                type=self.type,
                store=ArtifactStore(*self.store_paths),
                held=self.held,
                tensors=TensorStore(max_bytes=self.tensor_bytes),
                options=self.options,
                dtype=self.dtype,
                device=self.device,
                threads=self.threads,
                max_batch=self.max_batch,
                queue_limit=self.queue_limit,
            )
        )
        return component
