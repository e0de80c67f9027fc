"""The same plan over gRPC and inside one process: the same answer, the same errors, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from graph.caller import Caller
from graph.errors import DeadlineExceeded, InvalidRequest
from graph.executor import Executor
from graph.messages import Finished, Media, Message, Part, Request, Sampling, TextDelta
from services.artifacts import ArtifactStore
from tests import films, sounds
from tests.fakes import tiny
from tests.fakes.systems import SmallSystem


def picture(color: str) -> Media:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(buffer, "PNG")
    return Media("image", data=buffer.getvalue())


def film(frames: Iterable[int]) -> Part:
    shown = films.grays(12)
    return Part(media=Media("video", data=films.film([shown[index] for index in frames])))


def sound(pitch_hz: float) -> Part:
    return Part(media=Media("audio", data=sounds.encoded(sounds.tone(0.7, pitch_hz))))


def request(world: SmallSystem, *parts: Part, max_tokens: int = 12) -> Request:
    sampling = Sampling(max_tokens=max_tokens, seed=5)
    return Request("r1", "everything", (Message("user", parts),), world.versions, sampling)


async def ask(caller: Caller, world: SmallSystem, asked: Request, time_s: float = 30.0) -> str:
    text, ends = "", 0
    run = Executor(caller).run(world.plan, asked, time.monotonic() + time_s)
    async with contextlib.aclosing(run) as events:
        async for event in events:
            text += event.body.text if isinstance(event.body, TextDelta) else ""
            ends += isinstance(event.body, Finished)
    assert ends == 1
    return text


@pytest.fixture
def world(tmp_path: Path) -> SmallSystem:
    return SmallSystem(ArtifactStore(tmp_path), tiny.EVERYTHING)


async def test_the_way_to_a_component_does_not_change_the_answer(world: SmallSystem) -> None:
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
async def test_a_bad_picture_is_named_by_its_place_in_the_request(world: SmallSystem, way: str) -> None:
    async with getattr(world, way)() as caller:
        asked = request(world, Part(text="And this?"), Part(media=Media("image", data=b"no picture")))
        with pytest.raises(InvalidRequest) as caught:
            await ask(caller, world, asked)
        assert caught.value.where == "request.messages[0].parts[1].image"
        assert "items" not in caught.value.message


@pytest.mark.parametrize("way", ["local", "grpc"])
async def test_a_deadline_stops_the_backbone(world: SmallSystem, way: str) -> None:
    async with getattr(world, way)() as caller:
        with pytest.raises(DeadlineExceeded):
            await ask(caller, world, request(world, Part(text="Go on."), max_tokens=400), time_s=0.05)
        backbone = world.components[world.plan.backbone.component]
        async with asyncio.timeout(5.0):
            while backbone.load.running or backbone.load.waiting:  # noqa: ASYNC110 - the state of another thread
                await asyncio.sleep(0.01)
