"""The stages that train generators, tiny: from recipe to artifacts that the next stage reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from services.generators.models import load_generator
from services.playroom.listening import read_sound
from services.playroom.scenes import draw_scene
from services.playroom.sounds import PITCH_HZ, SAMPLE_RATE_HZ, draw_sound
from services.playroom.synthesis import render_sounds
from services.trainers import autoencoding, diffusing, spectrograms
from services.trainers.autoencoding import PixelBatches, busy_crops, to_pixels, to_signed
from services.trainers.generators import TYPES
from services.trainers.results import Weights
from services.trainers.run import run_recipe

RECIPES = Path(__file__).parents[3] / "weights" / "recipes"
MEDIA = {"picture": ("image", "draw", "pictures"), "film": ("video", "film", "pictures"),
         "sound": ("audio", "play", "sounds")}  # fmt: skip


def _tiny(name: str, folder: Path) -> Path:
    recipe: dict[str, Any] = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    recipe |= {"batch": 4, "budget": {"samples": 8}, "bf16": False}
    model = recipe["model"]
    if "vae" in model:
        model["vae"]["block_out_channels"] = [8] * len(model["vae"]["block_out_channels"])
        model["vae"] |= {"latent_channels": 4, "norm_num_groups": 4}
    if "vocoder" in model:
        model["vocoder"]["upsample_initial_channel"] = 32
    if "unet" in model:
        widths = [16] * len(model["unet"]["block_out_channels"])
        model["unet"] |= {"block_out_channels": widths, "in_channels": 4, "out_channels": 4, "norm_num_groups": 4}
        if recipe["model"]["modality"] == "audio":
            model["unet"]["cross_attention_dim"] = widths
        recipe["options"]["steps"] = 2
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(autouse=True)
def _few_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoding, "FINAL_PICTURES", 4)
    monkeypatch.setattr(spectrograms, "FINAL_SOUNDS", 4)
    monkeypatch.setattr(diffusing, "FINAL_SAMPLES", 4)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("medium", MEDIA)
def test_autoencoder_and_diffusion_become_a_generator_that_serves(medium: str, tmp_path: Path) -> None:
    modality, slot, autoencoder = MEDIA[medium]
    first = "sound-autoencoder" if medium == "sound" else "picture-autoencoder"
    for name in (first, f"{medium}-diffusion"):
        run_recipe(_tiny(name, tmp_path), out=tmp_path / "weights", runs=tmp_path / "runs")
    weights = Weights(tmp_path / "weights")
    assert set(weights.slots("training")) == {autoencoder}
    artifact = weights.find(f"next-gpt:{slot}")
    assert (artifact.kind, artifact.type) == ("generator", TYPES[modality])
    assert not any(name.startswith("vae.encoder.") for name in artifact.tensor_digests)
    assert load_generator(artifact, "float32", "cpu").modality == modality


def test_pixels_survive_the_way_to_an_autoencoder_and_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    assert np.array_equal(to_pixels(to_signed(pixels)), pixels)


def test_crops_show_what_there_is_to_see() -> None:
    whole = PixelBatches(seed=1, batch=16, films=0.25, noisy=0.5)(0)
    assert whole.clean.shape == (16, 3, 64, 64)
    cut = busy_crops(whole.clean, 32, np.random.default_rng(0))
    assert cut.shape == (16, 3, 32, 32)
    assert float(cut.flatten(2).std(-1).mean()) > 1.2 * float(whole.clean.flatten(2).std(-1).mean())


def test_noise_is_in_what_goes_in_and_not_in_what_comes_out() -> None:
    batch = PixelBatches(seed=1, batch=4, films=0.0, noisy=1.0)(0)
    assert 0 < float((batch.noisy - batch.clean).std()) < 0.04
    assert draw_scene(1)  # scenes of the split that trains


def test_spectrograms_have_as_many_frames_as_the_vocoder_renders() -> None:
    samples = torch.from_numpy(render_sounds([draw_sound(index) for index in range(4)]))
    seen = spectrograms.spectrograms_of(samples)
    assert seen.shape == (4, 1, spectrograms.N_FRAMES, spectrograms.N_MELS)
    assert float(seen.abs().max()) < 2.5
    assert spectrograms.spectral_loss(samples, samples) == 0
    assert spectrograms.spectral_loss(samples.roll(1, 0), samples) > 0.5
    assert read_sound(samples[0].numpy()) == draw_sound(0).facts


def test_sounds_to_render_are_in_tune_whatever_is_read() -> None:
    batch = spectrograms.SoundBatches(seed=1, batch=4)(0)
    assert batch.samples.shape == (4, spectrograms.N_FRAMES * spectrograms.HOP)
    assert batch.spectrograms.shape[2] == spectrograms.N_FRAMES
    for hertz in PITCH_HZ.values():  # near enough to a multiple of the rate of frames
        lines = hertz / (SAMPLE_RATE_HZ / spectrograms.HOP)
        assert abs(lines - round(lines)) < 0.05
