"""The encoder component: features of pictures and videos, versions side by side, sizes kept in bounds."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from graph import messages as m
from graph.errors import FailedPrecondition, InvalidRequest
from services.artifacts import ArtifactStore
from services.encoders.clip_vision import ClipVision
from services.encoders.images import decode_image
from services.encoders.picture_reader import check_scaled
from services.runtime.component import Held
from services.runtime.tensors import to_torch
from tests.fakes import tiny
from tests.fakes.components import make_component, started

ANY = m.VersionRef()


def picture(seed: int, size: tuple[int, int] = (50, 40), format_name: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_name)
    return buffer.getvalue()


def image(data: bytes) -> m.Media:
    return m.Media("image", data=data)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    torch.set_num_threads(1)
    return ArtifactStore(tmp_path)


async def test_features_are_the_model_s(store: ArtifactStore) -> None:
    version = tiny.clip_vision(store)
    model = ClipVision.from_config(tiny.CLIP_CONFIG)
    model.load_state_dict(store.get(version).load_tensors())
    model.eval()
    data = [picture(seed, size) for seed, size in enumerate([(50, 40), (32, 32), (20, 90), (1, 1)])]
    with torch.inference_mode():
        expected = model(model.preprocess([decode_image(one) for one in data]))
    async with started(make_component(store, Held(version), max_batch=3)) as encoder:
        features = await encoder.encode(ANY, [image(one) for one in data], 0, "lease")
    for one, expected_TF in zip(features, expected, strict=True):
        torch.testing.assert_close(to_torch(one.tensor), expected_TF, rtol=1e-4, atol=1e-5)
        assert one.tensor.dims == ("tokens", "width")


async def test_the_same_pixels_have_the_same_hash(store: ArtifactStore) -> None:
    async with started(make_component(store, Held(tiny.clip_vision(store)))) as encoder:
        found = await encoder.encode(
            ANY, [image(picture(1)), image(picture(1, format_name="BMP")), image(picture(2))], 0, "lease"
        )
    assert found[0].content_hash == found[1].content_hash != found[2].content_hash


async def test_versions_are_served_side_by_side(store: ArtifactStore) -> None:
    versions = [tiny.clip_vision(store, seed) for seed in (0, 1)]
    async with started(make_component(store, *map(Held, versions))) as encoder:
        item = [image(picture(1))]
        alone = [(await encoder.encode(m.VersionRef(v), item, 0, "l"))[0].tensor for v in versions]
        together = await asyncio.gather(*(encoder.encode(m.VersionRef(v), item, 0, "l") for v in versions))
        assert alone[0].data != alone[1].data
        assert [one[0].tensor.data for one in together] == [tensor.data for tensor in alone]


async def test_frames_of_a_video(store: ArtifactStore) -> None:
    frames = [Image.new("RGB", (40, 40), (20 * index, 0, 90)) for index in range(9)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=250)
    async with started(make_component(store, Held(tiny.clip_vision(store)))) as encoder:
        (found,) = await encoder.encode(ANY, [m.Media("video", data=buffer.getvalue())], 3, "lease")
        count = encoder.card().token_counts["video"]
    assert found.tensor.shape == (3, 16, tiny.FEATURE_WIDTH)
    assert found.tensor.dims == ("frames", "tokens", "width")
    assert found.times_s == (0.0, 1.0, 2.0)
    assert (count.unit, count.fixed_tokens + 3 * count.tokens_per_unit) == ("frame", 3 * 16)


async def test_bfloat16(store: ArtifactStore) -> None:
    async with started(make_component(store, Held(tiny.clip_vision(store)), dtype="bfloat16")) as encoder:
        (found,) = await encoder.encode(ANY, [image(picture(1))], 0, "lease")
    assert found.tensor.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("items", "where"),
    [
        ([image(picture(1)), image(b"no picture")], "items[1].image"),
        ([m.Media("audio", data=b"x")], "items[0].modality"),
        ([m.Media("image", handle="x")], "items[0]"),
        ([], "items"),
    ],
)
async def test_a_bad_item_is_named(items: list[m.Media], where: str, store: ArtifactStore) -> None:
    async with started(make_component(store, Held(tiny.clip_vision(store)))) as encoder:
        with pytest.raises(InvalidRequest) as caught:
            await encoder.encode(ANY, items, 0, "lease")
        assert caught.value.where == where
        assert encoder.load.running == encoder.load.waiting == 0


async def test_an_adapter_is_refused(store: ArtifactStore) -> None:
    component = make_component(store, Held(tiny.clip_vision(store)))
    with pytest.raises(FailedPrecondition, match="no adapters"):
        await component.load_version(Held(tiny.adapter(store), adapter=True))


@pytest.mark.parametrize(
    ("size", "settings", "fits"),
    [
        ((4096, 4096), {"resize": {"shortest_edge": 336}, "pad_to_square": False}, True),
        ((16_000_000, 1), {"resize": {"shortest_edge": 336}, "pad_to_square": False}, False),
        ((1, 16_000_000), {"resize": {"shortest_edge": 336}, "pad_to_square": True}, False),
        ((5000, 3000), {"resize": 336, "pad_to_square": True}, True),
        ((16_000_000, 1), {"resize": 64, "pad_to_square": False}, True),
    ],
)
def test_thin_pictures_do_not_blow_up(size: tuple[int, int], settings: dict[str, object], fits: bool) -> None:
    if fits:
        check_scaled(*size, settings)
        return
    with pytest.raises(InvalidRequest, match="before the crop"):
        check_scaled(*size, settings)
