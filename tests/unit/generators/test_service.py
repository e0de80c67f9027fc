"""The generator component: what it refuses, what it sends, what it takes for granted."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from graph import messages as m
from graph.errors import Exhausted, FailedPrecondition, InvalidRequest, Unimplemented
from services.artifacts import ArtifactStore
from services.generators import service
from services.generators.models import build_generator
from services.generators.service import GeneratorComponent
from services.runtime.component import Held
from services.runtime.tensors import from_torch
from tests.fakes import tiny_generators
from tests.fakes.components import make_component, started
from tests.fakes.tiny_generators import TEXT_WIDTH, TOKENS

ANY = m.VersionRef()


def embeds(seed: int = 0, *shape: int) -> m.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return from_torch(torch.randn(shape or (TOKENS, TEXT_WIDTH), generator=generator))


def asked(seed: int = 0, negative: m.Tensor | None = None, **parameters: Any) -> m.RenderRequest:
    unlike = {} if negative is None else {"prompt_embeds": negative}
    conditioning = m.Conditioning({"prompt_embeds": embeds(seed)}, unlike)
    return m.RenderRequest(conditioning, m.MediaParameters(**parameters), seed)


async def file_of(component: GeneratorComponent, request: m.RenderRequest, version: m.VersionRef = ANY) -> bytes:
    async with aclosing(component.render(version, request)) as events:
        return b"".join([event.data async for event in events if isinstance(event, m.RenderChunk)])


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    torch.set_num_threads(1)
    return ArtifactStore(tmp_path)


@pytest.fixture
async def component(store: ArtifactStore) -> AsyncIterator[GeneratorComponent]:
    version = tiny_generators.generator(store, "stable_diffusion")
    async with started(make_component(store, Held(version), max_batch=2, queue_limit=2)) as component:
        yield component


async def test_a_picture_comes_in_chunks(component: GeneratorComponent, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await file_of(component, asked(1))
    assert Image.open(io.BytesIO(whole)).size == (16, 16)
    monkeypatch.setattr(service, "CHUNK_BYTES", 100)
    async with aclosing(component.render(ANY, asked(1))) as events:
        chunks = [event async for event in events if isinstance(event, m.RenderChunk)]
    assert b"".join(chunk.data for chunk in chunks) == whole
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert all(len(chunk.data) == 100 for chunk in chunks[:-1])


async def test_size_and_seed_are_as_asked(component: GeneratorComponent) -> None:
    assert Image.open(io.BytesIO(await file_of(component, asked(1, width=24, height=8)))).size == (24, 8)
    assert await file_of(component, asked(1)) == await file_of(component, asked(1))
    assert await file_of(component, asked(1)) != await file_of(component, asked(2))


async def test_an_axis_of_one_in_front_is_no_harm(component: GeneratorComponent) -> None:
    batch = m.Conditioning({"prompt_embeds": embeds(1, 1, TOKENS, TEXT_WIDTH)})
    plain = m.Conditioning({"prompt_embeds": embeds(1)})
    files = [await file_of(component, m.RenderRequest(given, m.MediaParameters(), 3)) for given in (batch, plain)]
    assert files[0] == files[1]


async def test_guidance_of_one_asks_for_no_negative_side(component: GeneratorComponent) -> None:
    alone = await file_of(component, asked(1, guidance_scale=1.0))
    assert alone == await file_of(component, asked(1, negative=embeds(5), guidance_scale=1.0))
    guided = await file_of(component, asked(1, guidance_scale=5.0))
    assert guided != alone
    assert guided == await file_of(component, asked(1, negative=from_torch(torch.zeros(TOKENS, TEXT_WIDTH)),
                                                    guidance_scale=5.0))  # fmt: skip
    assert guided != await file_of(component, asked(1, negative=embeds(5), guidance_scale=5.0))


async def test_the_negative_side_that_comes_with_the_weights(store: ArtifactStore) -> None:
    config = {**tiny_generators.CONFIGS["stable_diffusion"], "negative": {"prompt_embeds": [TOKENS, TEXT_WIDTH]}}
    model = build_generator("stable_diffusion", config)
    tiny_generators.redraw(model, 0)
    tensors = {**model.state_dict(), "negative.prompt_embeds": torch.randn(TOKENS, TEXT_WIDTH)}
    version = store.put(kind="generator", type="stable_diffusion", config=config, tensors=tensors)
    async with started(make_component(store, Held(version))) as component:
        own = await file_of(component, asked(1))
        given = await file_of(component, asked(1, negative=from_torch(tensors["negative.prompt_embeds"])))
        assert own == given
        assert own != await file_of(component, asked(1, negative=embeds(9)))


@pytest.mark.parametrize(
    ("positive", "negative", "where"),
    [
        ({}, {}, "conditioning"),
        ({"prompt_embeds": embeds(0, TOKENS, TEXT_WIDTH + 1)}, {}, "conditioning[prompt_embeds]"),
        ({"prompt_embeds": embeds(0, TEXT_WIDTH)}, {}, "conditioning[prompt_embeds]"),
        ({"prompt_embeds": embeds(0, 2, TOKENS, TEXT_WIDTH)}, {}, "conditioning[prompt_embeds]"),
        ({"prompt_embeds": embeds(), "smell": embeds()}, {}, "conditioning[smell]"),
        ({"prompt_embeds": embeds()}, {"prompt_embeds": embeds(0, 3, TEXT_WIDTH)}, "negative[prompt_embeds]"),
        ({"prompt_embeds": embeds()}, {"smell": embeds()}, "negative[smell]"),
        ({"prompt_embeds": from_torch(torch.full((2, TEXT_WIDTH), float("nan")))}, {}, "conditioning[prompt_embeds]"),
        ({"prompt_embeds": m.Tensor("int32", (1, TEXT_WIDTH), (), bytes(4 * TEXT_WIDTH))}, {},
         "conditioning[prompt_embeds]"),
    ],
)  # fmt: skip
async def test_conditioning_that_does_not_fit_is_refused(
    component: GeneratorComponent, positive: dict[str, m.Tensor], negative: dict[str, m.Tensor], where: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await file_of(component, m.RenderRequest(m.Conditioning(positive, negative), m.MediaParameters(), 1))
    assert caught.value.where == where
    assert (component.load.running, component.load.waiting) == (0, 0)


async def test_what_it_does_not_do_it_says(component: GeneratorComponent) -> None:
    conditioning = m.Conditioning({"prompt_embeds": embeds()})
    handed_in = m.RenderRequest(conditioning, m.MediaParameters(), 1, references=(m.Media("image", data=b"x"),))
    with pytest.raises(Unimplemented):
        await file_of(component, handed_in)
    with pytest.raises(FailedPrecondition):
        await file_of(component, asked(), m.VersionRef("", "0" * 20))
    with pytest.raises(FailedPrecondition):
        await component.load_version(Held("0" * 20, adapter=True))


async def test_media_that_nobody_fetches_are_few(component: GeneratorComponent) -> None:
    """Who does not read leaves its medium lying here; at most as many may as may wait or be made."""
    stalled = []
    for seed in range(4):
        events = component.render(ANY, asked(seed))
        assert isinstance(await anext(events), m.RenderStarted)
        stalled.append(events)
    while component.engine.denoising:  # noqa: ASYNC110 - the engine tells nobody
        await asyncio.sleep(0.01)
    with pytest.raises(Exhausted) as caught:
        await file_of(component, asked(9))
    assert caught.value.retry_after_s > 0
    for events in stalled:
        await events.aclose()
    assert (component.load.running, component.load.waiting) == (0, 0)
    await file_of(component, asked(9))


async def test_unclip_takes_an_embedding_alone(store: ArtifactStore) -> None:
    version = tiny_generators.generator(store, "unclip")
    async with started(make_component(store, Held(version))) as component:
        alone = m.Conditioning({"image_embeds": embeds(1, tiny_generators.EMBED_WIDTH)})
        zeros = {"image_embeds": from_torch(torch.zeros(tiny_generators.EMBED_WIDTH))}
        first = await file_of(component, m.RenderRequest(alone, m.MediaParameters(), 1))
        assert first == await file_of(
            component, m.RenderRequest(m.Conditioning(alone.positive, zeros), m.MediaParameters(), 1)
        )
        pixels = np.asarray(Image.open(io.BytesIO(first)))
        assert pixels.std() > 1


async def test_weights_that_make_nothing_are_refused_at_the_start(store: ArtifactStore) -> None:
    config = {**tiny_generators.CONFIGS["stable_diffusion"], "scheduler": {"_class_name": "os.system"}}
    tensors = build_generator("stable_diffusion", tiny_generators.CONFIGS["stable_diffusion"]).state_dict()
    version = store.put(kind="generator", type="stable_diffusion", config=config, tensors=tensors)
    component = make_component(store, Held(version))
    with pytest.raises(FailedPrecondition, match="scheduler"):
        await component.start()
    await component.stop()
