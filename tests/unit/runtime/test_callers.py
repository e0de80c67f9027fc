"""The same plan over gRPC and inside one process: the same answer, the same errors, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from PIL import Image

from graph.caller import Caller
from graph.compile import compile_system
from graph.errors import DeadlineExceeded, InvalidRequest
from graph.executor import Executor
from graph.messages import Finished, Media, Message, Part, Request, Sampling, TextDelta
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
from tests import films, sounds
from tests.fakes import tiny
from tests.fakes.components import components_of


class World:
    """One small system, reachable both ways."""

    def __init__(self, store: ArtifactStore) -> None:
        spec = load_system(tiny.EVERYTHING)
        self.versions = tiny.fill(store, spec)
        shapes = architectures(store, self.versions)
        self.plan: SystemPlan = compile_system(spec, load_profile("local"), self.versions, shapes)
        self._store = store
        self.components: dict[str, Component] = {}

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
        entries = tuple(
            Entry(address, component, address, versions=frozenset(self.versions.values()))
            for component, address in zip(self.components, addresses, strict=True)
        )
        channels = ChannelPool()
        # Small features travel by reference here, so that the lease is exercised too.
        for component in self.components.values():
            component.context.tensors.inline_bytes = 64
        yield GrpcCaller(Routes(entries), channels)
        await channels.close()
        for server in servers:
            await server.stop(grace_s=1.0)

    def held_tensors(self) -> int:
        return sum(len(component.context.tensors) for component in self.components.values())


def picture(color: str) -> Media:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(buffer, "PNG")
    return Media("image", data=buffer.getvalue())


def film(frames: Iterable[int]) -> Part:
    shown = films.grays(12)
    return Part(media=Media("video", data=films.film([shown[index] for index in frames])))


def sound(pitch_hz: float) -> Part:
    return Part(media=Media("audio", data=sounds.encoded(sounds.tone(0.7, pitch_hz))))


def request(world: World, *parts: Part, max_tokens: int = 12) -> Request:
    sampling = Sampling(max_tokens=max_tokens, seed=5)
    return Request("r1", "everything", (Message("user", parts),), world.versions, sampling)


async def ask(caller: Caller, world: World, asked: Request, time_s: float = 30.0) -> str:
    text, ends = "", 0
    run = Executor(caller).run(world.plan, asked, time.monotonic() + time_s)
    async with contextlib.aclosing(run) as events:
        async for event in events:
            text += event.body.text if isinstance(event.body, TextDelta) else ""
            ends += isinstance(event.body, Finished)
    assert ends == 1
    return text


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(ArtifactStore(tmp_path))


async def test_the_way_to_a_component_does_not_change_the_answer(world: World) -> None:
    asked = [
        request(world, Part(text="What is this?"), Part(media=picture("red"))),
        request(world, Part(media=picture("blue")), Part(text="and"), Part(media=picture("green"))),
        request(world, Part(text="No picture.")),
        request(world, film(range(8)), Part(text="What moves?")),
        request(world, film(range(7, -1, -1)), Part(text="What moves?")),
        request(world, sound(440.0), Part(text="How high?")),
        request(world, sound(880.0), Part(text="How high?")),
        request(world, Part(media=picture("red")), film(range(3)), Part(text="and"), sound(440.0), film(range(8))),
        request(world, film(range(8)), sound(440.0), film(range(3)), Part(text="and"), Part(media=picture("red"))),
    ]
    answers: list[list[str]] = []
    for way in (world.local, world.grpc):
        async with way() as caller:
            answers.append([await ask(caller, world, item) for item in asked])
            assert world.held_tensors() == 0
    assert answers[0] == answers[1]
    assert len(set(answers[0])) == len(asked)


@pytest.mark.parametrize("way", ["local", "grpc"])
async def test_a_bad_picture_is_named_by_its_place_in_the_request(world: World, way: str) -> None:
    async with getattr(world, way)() as caller:
        asked = request(world, Part(text="And this?"), Part(media=Media("image", data=b"no picture")))
        with pytest.raises(InvalidRequest) as caught:
            await ask(caller, world, asked)
        assert caught.value.where == "request.messages[0].parts[1].image"
        assert "items" not in caught.value.message


@pytest.mark.parametrize("way", ["local", "grpc"])
async def test_a_deadline_stops_the_backbone(world: World, way: str) -> None:
    async with getattr(world, way)() as caller:
        with pytest.raises(DeadlineExceeded):
            await ask(caller, world, request(world, Part(text="Go on."), max_tokens=400), time_s=0.05)
        backbone = world.components[world.plan.backbone.component]
        async with asyncio.timeout(5.0):
            while backbone.load.running or backbone.load.waiting:  # noqa: ASYNC110 - the state of another thread
                await asyncio.sleep(0.01)
