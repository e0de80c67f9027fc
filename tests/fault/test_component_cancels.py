"""Row 14 within one component: a thousand requests given up while waiting, at work and in the middle of a stream."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import torch

from graph import messages as m
from services.artifacts import ArtifactStore
from services.runtime.component import Held
from services.runtime.telemetry import resident_bytes
from tests.contract.calls import picture
from tests.fakes import tiny
from tests.fakes.components import make_component, started

CANCELS = 1_000
AT_ONCE = 50


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    torch.set_num_threads(1)
    return ArtifactStore(tmp_path)


async def cancel_many(call: Any, component: Any, draw: random.Random) -> None:
    """Start calls in waves; give each up after a few turns of the loop."""

    async def one() -> None:
        task = asyncio.ensure_future(call())
        for _ in range(draw.randrange(40)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    grown = [resident_bytes()]
    for _ in range(CANCELS // AT_ONCE):
        await asyncio.gather(*(one() for _ in range(AT_ONCE)))
        grown.append(resident_bytes())
    assert (component.load.running, component.load.waiting) == (0, 0)
    growth_mib = (grown[-1] - grown[len(grown) // 2]) / 2**20
    print(f"{CANCELS} cancels: nothing in flight afterwards, {growth_mib:+.1f} MiB in the second half")
    assert growth_mib < 50


async def test_backbone(store: ArtifactStore) -> None:
    async with started(make_component(store, Held(tiny.decoder(store)), queue_limit=64)) as backbone:
        request = m.DecodeRequest((m.Turn("user", (m.Segment(text="what?"),)),), m.Sampling(max_tokens=200))

        async def call() -> None:
            async with aclosing(backbone.decode(m.VersionRef(), request, "lease")) as events:
                async for _ in events:
                    pass

        await cancel_many(call, backbone, random.Random(1))
        await call()
        assert backbone.engine.decoding == 0


async def test_encoder_and_projector(store: ArtifactStore) -> None:
    see, see_in = tiny.clip_vision(store), tiny.projector(store, "linear")
    item = m.Media("image", data=picture())
    async with (
        started(make_component(store, Held(see), max_batch=4)) as encoder,
        started(make_component(store, Held(see_in), max_batch=4)) as projector,
    ):
        features = await encoder.encode(m.VersionRef(), [item], 0, "lease")
        await cancel_many(lambda: encoder.encode(m.VersionRef(), [item], 0, "lease"), encoder, random.Random(1))
        await cancel_many(lambda: projector.project(m.VersionRef(), features, "", "l"), projector, random.Random(1))
        assert await encoder.encode(m.VersionRef(), [item], 0, "lease") == features
