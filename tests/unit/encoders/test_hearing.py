"""The encoder component for sounds: windows that follow each other, whatever the file and the company."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graph import messages as m
from graph.errors import FailedPrecondition, InvalidRequest
from services.artifacts import ArtifactStore
from services.artifacts.whisper_dims import SAMPLES_PER_POSITION
from services.encoders.sounds import MAX_SECONDS
from services.encoders.whisper import WhisperEncoder
from services.runtime.component import Held
from services.runtime.tensors import to_torch
from tests.fakes import tiny
from tests.fakes.components import make_component, started
from tests.sounds import RATE_HZ, Samples, encoded, noise, tone

ANY = m.VersionRef()


def audio(samples: Samples, form: str = "WAV", subtype: str = "PCM_16", rate_hz: int = RATE_HZ) -> m.Media:
    return m.Media("audio", data=encoded(samples, form, subtype, rate_hz))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    torch.set_num_threads(1)
    return ArtifactStore(tmp_path)


def reference(store: ArtifactStore, version: str) -> WhisperEncoder:
    artifact = store.get(version)
    model = WhisperEncoder.from_config(artifact.config)
    model.load_state_dict(artifact.load_tensors())
    return model.eval()


@pytest.mark.parametrize("seconds", [0.0001, 0.1, 0.35, 1.0, 1.05, 3.7])
async def test_features_are_the_model_s(seconds: float, store: ArtifactStore) -> None:
    version = tiny.whisper(store)
    model = reference(store, version)
    samples = noise(max(1, round(seconds * RATE_HZ)))[:, 0]
    with torch.inference_mode():
        expected = torch.cat([model(mel[None])[0] for mel in model.preprocess(model.windows_of(samples))])
    async with started(make_component(store, Held(version), max_batch=3)) as encoder:
        (found,) = await encoder.encode(ANY, [audio(samples, subtype="FLOAT")], 0, "lease")
    assert found.tensor.dims == ("tokens", "width")
    assert found.times_s == ()
    run = 5 * SAMPLES_PER_POSITION / RATE_HZ
    assert found.tensor.shape == (5 * max(1, int(np.ceil(round(seconds / run, 6)))), tiny.FEATURE_WIDTH)
    torch.testing.assert_close(to_torch(found.tensor), expected, rtol=1e-4, atol=1e-5)


async def test_sounds_of_any_length_share_batches(store: ArtifactStore) -> None:
    items = [audio(noise(length, seed)[:, 0]) for seed, length in enumerate((1, 4_000, 16_000, 40_000, 15_999))]
    async with started(make_component(store, Held(tiny.whisper(store)), max_batch=4)) as encoder:
        alone = [(await encoder.encode(ANY, [item], 0, "l"))[0] for item in items]
        batched = await encoder.encode(ANY, items, 0, "l")
        together = await asyncio.gather(*(encoder.encode(ANY, [item], 0, "l") for item in items))
    for one, other, third in zip(alone, batched, together, strict=True):
        torch.testing.assert_close(to_torch(one.tensor), to_torch(other.tensor), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(to_torch(one.tensor), to_torch(third[0].tensor), rtol=1e-4, atol=1e-5)


async def test_the_card_says_how_long_a_prompt_will_be(store: ArtifactStore) -> None:
    async with started(make_component(store, Held(tiny.whisper(store)))) as encoder:
        card = encoder.card()
        lengths = [
            (await encoder.encode(ANY, [audio(tone(seconds))], 0, "l"))[0].tensor.shape[0]
            for seconds in (0.1, 0.95, 1.0, 2.01)
        ]
    count = card.token_counts["audio"]
    assert (list(card.modalities), card.output_width) == (["audio"], tiny.FEATURE_WIDTH)
    assert (count.unit, count.tokens_per_unit, count.max_units) == ("second", 50, MAX_SECONDS)
    assert lengths == [5, 50, 50, 105]
    assert all(length <= 50 * started_s for length, started_s in zip(lengths, (1, 1, 1, 3), strict=True))
    assert (card.tokens_per_item, card.max_tokens_per_item) == (0, 50 * MAX_SECONDS)


async def test_the_longest_sound_is_heard(store: ArtifactStore) -> None:
    samples = tone(MAX_SECONDS, rate_hz=2_000)
    async with started(make_component(store, Held(tiny.whisper(store)))) as encoder:
        (found,) = await encoder.encode(ANY, [audio(samples, rate_hz=2_000)], 0, "lease")
        assert found.tensor.shape == (50 * MAX_SECONDS, tiny.FEATURE_WIDTH)
        with pytest.raises(InvalidRequest, match="at most 120 s"):
            await encoder.encode(ANY, [audio(np.zeros(121 * 2_000, np.float32), rate_hz=2_000)], 0, "lease")


async def test_the_same_samples_have_the_same_hash(store: ArtifactStore) -> None:
    samples = (noise(3_000)[:, 0] * 32_767).astype(np.int16)
    items = [
        m.Media("audio", data=encoded(samples, "WAV", "PCM_16")),
        m.Media("audio", data=encoded(samples, "FLAC", "PCM_16")),
        m.Media("audio", data=encoded(samples[:-1], "FLAC", "PCM_16")),
    ]
    async with started(make_component(store, Held(tiny.whisper(store)))) as encoder:
        found = await encoder.encode(ANY, items, 0, "lease")
    longer = {**tiny.WHISPER_CONFIG, "trim_to": 10}
    async with started(make_component(store, Held(tiny.whisper(store, config=longer)))) as encoder:
        (other,) = await encoder.encode(ANY, items[:1], 0, "lease")
    assert found[0].content_hash == found[1].content_hash != found[2].content_hash
    assert other.content_hash != found[0].content_hash


@pytest.mark.parametrize("peak", [0.0, 1e-30, 1.0])
async def test_silence_and_noise_give_numbers(peak: float, store: ArtifactStore) -> None:
    async with started(make_component(store, Held(tiny.whisper(store)))) as encoder:
        (found,) = await encoder.encode(ANY, [audio(tone(0.5, peak=peak), subtype="FLOAT")], 0, "lease")
    assert to_torch(found.tensor).isfinite().all()


async def test_bfloat16(store: ArtifactStore) -> None:
    async with started(make_component(store, Held(tiny.whisper(store)), dtype="bfloat16")) as encoder:
        (found,) = await encoder.encode(ANY, [audio(tone())], 0, "lease")
    assert found.tensor.dtype == "bfloat16"


async def test_versions_are_served_side_by_side(store: ArtifactStore) -> None:
    versions = [tiny.whisper(store, seed) for seed in (0, 1)]
    item = [audio(tone())]
    async with started(make_component(store, *map(Held, versions))) as encoder:
        alone = [(await encoder.encode(m.VersionRef(v), item, 0, "l"))[0].tensor for v in versions]
        together = await asyncio.gather(*(encoder.encode(m.VersionRef(v), item, 0, "l") for v in versions))
    assert alone[0].data != alone[1].data
    assert [one[0].tensor.data for one in together] == [tensor.data for tensor in alone]


@pytest.mark.parametrize(
    ("items", "where"),
    [
        ([audio(tone()), m.Media("audio", data=b"no sound")], "items[1].audio"),
        ([m.Media("image", data=b"x")], "items[0].modality"),
        ([m.Media("audio", handle="x")], "items[0]"),
        ([], "items"),
    ],
)
async def test_a_bad_item_is_named(items: list[m.Media], where: str, store: ArtifactStore) -> None:
    async with started(make_component(store, Held(tiny.whisper(store)))) as encoder:
        with pytest.raises(InvalidRequest) as caught:
            await encoder.encode(ANY, items, 0, "lease")
        assert caught.value.where == where
        assert encoder.load.running == encoder.load.waiting == 0


@pytest.mark.parametrize(
    "changed",
    [{"n_mels": 40}, {"n_audio_state": 33}, {"n_audio_head": 5}, {"n_audio_ctx": 51}, {"n_audio_layer": 0}, {"x": 1}],
)
async def test_a_config_that_makes_no_encoder_is_refused(changed: dict[str, Any], store: ArtifactStore) -> None:
    config = {**tiny.WHISPER_CONFIG, "dims": {**tiny.WHISPER_CONFIG["dims"], **changed}}
    version = store.put(kind="encoder", type="whisper", config=config, tensors={"a": torch.zeros(1)})
    with pytest.raises(FailedPrecondition, match="config does not make a 'whisper'"):
        await make_component(store, Held(version)).start()
