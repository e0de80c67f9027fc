"""A small system, whole, inside this process: reachable directly, and over gRPC."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from graph.caller import Caller
from graph.compile import compile_system
from graph.plan import SystemPlan
from graph.profile import load_profile
from graph.validate import load_system
from services.artifacts import ArtifactStore
from services.deploy.versions import architectures
from services.runtime.caller import GrpcCaller
from services.runtime.component import Component
from services.runtime.directory import Entry, Routes
from services.runtime.local_caller import LocalCaller
from services.runtime.server import ComponentServer
from services.runtime.settings import RuntimeSettings
from services.runtime.tensors import ChannelPool
from tests.fakes import tiny
from tests.fakes.components import components_of


class SmallSystem:
    """One small system with random weights, reachable both ways."""

    def __init__(self, store: ArtifactStore, path: Path, *, lora: bool = False) -> None:
        spec = load_system(path)
        self.versions = tiny.fill(store, spec)
        if lora:
            self.versions["think/lora"] = tiny.adapter(store, signals=True)
        self.plan: SystemPlan = compile_system(
            spec, load_profile("local"), self.versions, architectures(store, self.versions)
        )
        self._store = store
        self.components: dict[str, Component] = {}
        self.build()

    def build(self) -> None:
        """Make the components anew: one that was stopped stays stopped."""
        self.components = components_of(self._store, self.plan)

    @contextlib.asynccontextmanager
    async def local(self) -> AsyncIterator[Caller]:
        self.build()
        for component in self.components.values():
            await component.start()
        yield LocalCaller(self.components)
        for component in self.components.values():
            await component.stop()

    @contextlib.asynccontextmanager
    async def grpc(self) -> AsyncIterator[Caller]:
        self.build()
        servers = [ComponentServer(component, RuntimeSettings()) for component in self.components.values()]
        addresses = [await server.start() for server in servers]
        versions = frozenset(self.versions.values())
        entries = tuple(
            Entry(address, component, address, versions=versions)
            for component, address in zip(self.components, addresses, strict=True)
        )
        channels = ChannelPool()
        # Features, signal states and conditioning travel by reference here, so that leases are exercised too.
        for component in self.components.values():
            component.context.tensors.inline_bytes = 64
        yield GrpcCaller(Routes(entries), channels)
        await channels.close()
        for server in servers:
            await server.stop(grace_s=1.0)

    def held_tensors(self) -> int:
        return sum(len(component.context.tensors) for component in self.components.values())
