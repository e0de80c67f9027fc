"""The targets of the contract suite: one for every type of the catalog, or one component given from outside.

A component started by hand, in any language, is held to the same contract:
``pytest tests/contract --component-address HOST:PORT [--component-token TOKEN] [--component-other-version V]``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import torch

from anyplex.v1 import component_pb2, component_pb2_grpc
from graph.catalog import ComponentType, load_catalog
from services.artifacts import ArtifactStore
from services.runtime.component import Held
from services.runtime.factory import ComponentSpec
from services.runtime.server import ComponentServer, token_metadata
from services.runtime.settings import RuntimeSettings
from tests.contract.calls import Calls, calls_for
from tests.fakes import tiny

QUEUE_LIMIT = 4
MAX_BATCH = 2


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("component contract")
    group.addoption("--component-address", help="host:port of a component to test instead of the built-in ones")
    group.addoption("--component-token", help="token it asks for")
    group.addoption("--component-other-version", help="a version in its store that it does not hold yet")


@dataclass
class Target:
    """A component under test.

    Attributes:
        channel: To its server.
        card: Its contract card at the start.
        calls: Good and bad calls of its kind.
        other_version: In its store and not loaded; empty when unknown.
        misfit_version: In its store, of another kind; empty when unknown.
        metadata: Its token.
    """

    channel: grpc.aio.Channel
    card: component_pb2.ContractCard
    calls: Calls
    other_version: str
    misfit_version: str
    metadata: tuple[tuple[str, str], ...]

    @property
    def component(self) -> component_pb2_grpc.ComponentServiceStub:
        """What every component answers."""
        return component_pb2_grpc.ComponentServiceStub(self.channel)

    async def describe(self) -> component_pb2.ContractCard:
        """Its card now."""
        reply = await self.component.Describe(component_pb2.DescribeRequest(), metadata=self.metadata)
        return reply.card

    async def stats(self) -> component_pb2.GetStatsResponse:
        """Its load now."""
        return await self.component.GetStats(component_pb2.GetStatsRequest(), metadata=self.metadata)

    async def until_idle(self) -> None:
        """Wait until nothing waits or runs."""
        while (stats := await self.stats()).waiting or stats.running:
            pass


def external_address(config: pytest.Config) -> str:
    return str(config.getoption("--component-address", default=None) or os.environ.get("COMPONENT_ADDRESS", ""))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a component given from outside, leave out what needs a version that nobody has named."""
    if not external_address(config):
        return
    unknown = {"misfit_version"}
    if not config.getoption("--component-other-version", default=None):
        unknown.add("other_version")
    left_out = [item for item in items if unknown & set(getattr(item, "fixturenames", ()))]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "component_type" not in metafunc.fixturenames:
        return
    if external_address(metafunc.config):
        metafunc.parametrize("component_type", [None], ids=["given"])
        return
    types = [item for item in load_catalog().values() if item.factory.startswith("services.")]
    metafunc.parametrize("component_type", types, ids=[f"{item.kind}-{item.type}" for item in types])


async def _open(address: str, metadata: tuple[tuple[str, str], ...], other: str, misfit: str) -> Target:
    channel = grpc.aio.insecure_channel(address)
    stub = component_pb2_grpc.ComponentServiceStub(channel)
    reply = await stub.Describe(component_pb2.DescribeRequest(), metadata=metadata, timeout=20)
    calls = calls_for(reply.card, channel, metadata)
    return Target(channel, reply.card, calls, other, misfit, metadata)


async def _serve(component_type: ComponentType, path: Path) -> tuple[ComponentServer, str, str]:
    torch.set_num_threads(1)
    store = ArtifactStore(path)
    version = tiny.make(store, component_type.kind, component_type.type)
    other = tiny.make(store, component_type.kind, component_type.type, seed=1)
    is_encoder = component_type.kind == "encoder"
    misfit = tiny.projector(store, "linear", seed=2) if is_encoder else tiny.clip_vision(store, seed=2)
    spec = ComponentSpec(
        component="under-test", kind=component_type.kind, type=component_type.type, factory=component_type.factory,
        store_paths=(str(path),), held=(Held(version),), max_batch=MAX_BATCH, queue_limit=QUEUE_LIMIT,
    )  # fmt: skip
    return ComponentServer(spec.build(), RuntimeSettings(metrics=False)), other, misfit


@pytest.fixture
async def target(
    component_type: ComponentType | None, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Target]:
    """A running component; the built-in ones are started for each test."""
    if component_type is None:
        options: Any = request.config.getoption
        metadata = token_metadata(options("--component-token", default=None) or "")
        other = options("--component-other-version", default=None) or ""
        target = await _open(external_address(request.config), metadata, other, "")
        yield target
        await target.channel.close()
        return
    server, other, misfit = await _serve(component_type, tmp_path)
    target = await _open(await server.start(), (), other, misfit)
    try:
        yield target
    finally:
        await target.channel.close()
        await server.stop(grace_s=0.0)


@pytest.fixture
def other_version(target: Target) -> str:
    """In the component's store and not loaded."""
    return target.other_version


@pytest.fixture
def misfit_version(target: Target) -> str:
    """In the component's store, of another kind."""
    return target.misfit_version
