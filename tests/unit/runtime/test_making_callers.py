"""A system that makes, whole and small, over gRPC and inside one process: from words to files."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from graph.caller import Caller
from graph.cards import check_cards
from graph.executor import Executor
from graph.messages import (
    Event,
    Finished,
    MediaChunk,
    MediaFailed,
    MediaParameters,
    MediaStarted,
    Message,
    Part,
    Request,
    Sampling,
    TextDelta,
)
from services.artifacts import ArtifactStore
from services.playroom.codecs import decode_film, decode_sound
from services.runtime.convert import card_from_proto
from tests.fakes import tiny
from tests.fakes.systems import SmallSystem

STARTS = {"image": b"\x89PNG", "audio": b"RIFF", "video": b""}
# Levels of 256, of a film after its codec; of sounds, shares of the loudest.
MOST_APART = {"image": 2, "audio": 1e-3, "video": 16}


class Studio(SmallSystem):
    """The small system that makes."""

    def __init__(self, store: ArtifactStore) -> None:
        super().__init__(store, tiny.MAKING, lora=True)

    def request(self, *outputs: str, **sampling: object) -> Request:
        numbers = Sampling(**{"max_tokens": 48, "seed": 5, **sampling})  # type: ignore[arg-type]
        quick = {modality: MediaParameters(steps=2) for modality in STARTS}
        said = (Message("user", (Part(text="what colour is it?"),)),)
        return Request("r1", "making", said, self.versions, numbers, tuple(outputs), quick)

    async def ask(self, caller: Caller, request: Request) -> list[Event]:
        run = Executor(caller).run(self.plan, request, time.monotonic() + 60)
        async with contextlib.aclosing(run) as events:
            return [event async for event in events]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    return ArtifactStore(tmp_path_factory.mktemp("making"))


@pytest.fixture
def studio(store: ArtifactStore) -> Studio:
    return Studio(store)


@pytest.fixture(params=["local", "grpc"])
def way(request: pytest.FixtureRequest, studio: Studio) -> Callable[[], contextlib.AbstractAsyncContextManager[Caller]]:
    return {"local": studio.local, "grpc": studio.grpc}[request.param]


def files(events: list[Event]) -> dict[int, tuple[str, bytes]]:
    """Modality and bytes of every medium that came whole."""
    found: dict[int, tuple[str, bytes]] = {}
    whole: set[int] = set()
    for event in events:
        if isinstance(event.body, MediaStarted):
            found[event.body.media_index] = (event.body.modality, b"")
        elif isinstance(event.body, MediaChunk):
            modality, data = found[event.body.media_index]
            found[event.body.media_index] = (modality, data + event.body.data)
            whole |= {event.body.media_index} if event.body.last else set()
    assert whole == set(found)
    return found


def assert_alike(some: dict[int, tuple[str, bytes]], others: dict[int, tuple[str, bytes]]) -> None:
    """Check that media are the same, but for what floats lose when other requests share a denoising batch or none."""
    assert {index: modality for index, (modality, _) in some.items()} == {i: made for i, (made, _) in others.items()}
    for index, (modality, data) in some.items():
        one, other = (_values(modality, each) for each in (data, others[index][1]))
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= MOST_APART[modality]


def _values(modality: str, data: bytes) -> NDArray[np.float64]:
    if modality == "image":
        return np.asarray(Pillow.open(io.BytesIO(data)), np.float64)
    values = decode_sound(data)[0] if modality == "audio" else decode_film(data)
    return np.asarray(values, np.float64)


async def test_every_medium_that_must_come_comes(studio: Studio, way: Callable[[], object]) -> None:
    async with way() as caller:  # type: ignore[attr-defined]
        events = await studio.ask(caller, studio.request("image", "video", "audio"))
        again = await studio.ask(caller, studio.request("image", "video", "audio"))
        other = await studio.ask(caller, replace(studio.request("image"), sampling=Sampling(max_tokens=48, seed=6)))
        assert studio.held_tensors() == 0
    assert not [event.body for event in events if isinstance(event.body, MediaFailed)]
    made = files(events)
    assert {"image", "video", "audio"} <= {modality for modality, _ in made.values()}
    assert all(data.startswith(STARTS[modality]) and data for modality, data in made.values())
    assert isinstance(events[-1].body, Finished)
    assert_alike(files(again), made)
    assert files(other) != made
    assert "<|" not in "".join(event.body.text for event in events if isinstance(event.body, TextDelta))


async def test_cards_of_the_whole_system_agree(studio: Studio) -> None:
    async with studio.local():
        cards = {name: card_from_proto(component.card()) for name, component in studio.components.items()}
        assert check_cards(studio.plan, cards) == []


async def test_text_alone(studio: Studio) -> None:
    async with studio.local() as caller:
        events = await studio.ask(caller, studio.request("text", max_tokens=40))
    assert not files(events)
    assert isinstance(events[-1].body, Finished)


async def test_a_generator_that_refuses_leaves_the_rest_alone(studio: Studio) -> None:
    request = studio.request("image", "audio")
    request = replace(request, media_parameters={**request.media_parameters, "image": MediaParameters(steps=10**6)})
    async with studio.local() as caller:
        events = await studio.ask(caller, request)
    failed = [event for event in events if isinstance(event.body, MediaFailed)]
    assert {event.node for event in failed} == {"draw"}
    assert "audio" in {modality for modality, _ in files(events).values()}
    assert isinstance(events[-1].body, Finished)
