"""Sounds as pictures of their frequencies, an autoencoder for these, and the vocoder that makes them sound again.

Both learn at once: the vocoder reads what the autoencoder gives back, so that it gets to know its mistakes. It is
judged by spectra of several lengths, and never by phases, which nobody hears.

Source: Liu et al. 2023, arXiv 2301.12503, section 3; the loss of the vocoder: Yamamoto et al. 2020, arXiv 1910.11480.
"""

# B sounds, T samples, L frames of 20 ms, M mel bins, C latent channels, F frequencies

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from services.playroom.listening import read_sound
from services.playroom.scenes import Split, seed_of
from services.playroom.sounds import SAMPLE_RATE_HZ, draw_sound, sound_from
from services.playroom.synthesis import render_sounds
from services.trainers.autoencoding import (
    build_autoencoder,
    decoded,
    encoded,
    forgiving_latents,
    scaling_factor_of,
    spread_penalty,
)
from services.trainers.recipe import Recipe

if TYPE_CHECKING:
    from transformers import SpeechT5HifiGan

HOP: Final = 320
N_MELS: Final = 64
_WINDOW: Final = 1024
_FLOOR: Final = 1e-4
_CENTER: Final = -4.5
_SCALE: Final = 4.0
_SCALE_BATCHES: Final = 8
_SEGMENT: Final = 24
"""Frames that the vocoder learns on at once: it sees no further, and whole sounds cost four times as much."""
_RESOLUTIONS: Final = ((2048, 512), (1024, 256), (256, 64))
FINAL_SOUNDS: Final = 1000


@cache
def _mel_filters() -> Tensor:
    from transformers.audio_utils import mel_filter_bank

    filters_FM = mel_filter_bank(
        _WINDOW // 2 + 1, N_MELS, 0.0, SAMPLE_RATE_HZ / 2, SAMPLE_RATE_HZ, norm="slaney", mel_scale="slaney"
    )
    return torch.from_numpy(filters_FM).float()


def spectrograms_of(samples_BT: Tensor) -> Tensor:
    """Logarithms of mel spectrograms, about between -1.5 and 1.5 (B1LM); one frame for every 320 samples."""
    padded_BT = F.pad(samples_BT, ((_WINDOW - HOP) // 2, (_WINDOW - HOP) // 2), mode="reflect")
    window = torch.hann_window(_WINDOW)
    magnitude_BFL = torch.stft(padded_BT, _WINDOW, HOP, window=window, center=False, return_complex=True).abs()
    mel_BLM = magnitude_BFL.transpose(1, 2) @ _mel_filters()
    return ((mel_BLM.clamp_min(_FLOOR).log() - _CENTER) / _SCALE)[:, None]


def spectral_loss(given_BT: Tensor, wanted_BT: Tensor) -> Tensor:
    """Distance of magnitudes and of their logarithms, over windows of several lengths."""
    parts = []
    for n_window, hop in _RESOLUTIONS:
        window = torch.hann_window(n_window)
        given, wanted = (
            torch.stft(samples, n_window, hop, window=window, return_complex=True).abs().clamp_min(1e-5)
            for samples in (given_BT, wanted_BT)
        )
        parts.append((given - wanted).norm() / wanted.norm() + F.l1_loss(given.log(), wanted.log()))
    return torch.stack(parts).mean()


def build_vocoder(config: Mapping[str, Any]) -> SpeechT5HifiGan:
    """Builds the vocoder of a config, with random weights."""
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    return SpeechT5HifiGan(SpeechT5HifiGanConfig(**config))


@dataclass
class SoundBatch:
    """Samples (BT) and their spectrograms (B1LM)."""

    samples: Tensor
    spectrograms: Tensor


@dataclass(frozen=True)
class SoundBatches:
    """Makes batches of fresh sounds."""

    seed: int
    batch: int

    def __call__(self, index: int) -> SoundBatch:
        """Plays batch `index`."""
        rng = np.random.default_rng((self.seed, index))
        samples = torch.from_numpy(render_sounds([sound_from(rng) for _ in range(self.batch)]))
        return SoundBatch(samples, spectrograms_of(samples))


class SoundAutoencoderStage:
    """Trains an `AutoencoderKL` for spectrograms together with a vocoder."""

    def __init__(self, recipe: Recipe, device: torch.device, earlier: Mapping[str, Tensor] | None = None) -> None:
        self.recipe = recipe
        self.device = device
        torch.manual_seed(recipe.seed)
        self.vae = build_autoencoder(recipe.model["vae"])
        self.vocoder = build_vocoder(recipe.model["vocoder"])
        self.trained = nn.ModuleDict({"vae": self.vae, "vocoder": self.vocoder}).to(device)
        if earlier is not None:
            self.trained.load_state_dict(earlier)

    def batch_maker(self) -> Callable[[int], SoundBatch]:
        """Returns the recipe's batches."""
        return SoundBatches(self.recipe.seed, self.recipe.batch)

    def loss(self, batch: SoundBatch) -> Tensor:
        """Distance of spectrograms, and of what is heard of them."""
        options = self.recipe.options
        wanted = batch.spectrograms.to(self.device)
        mean_BCLM = encoded(self.vae, wanted)
        given = decoded(self.vae, forgiving_latents(mean_BCLM, options["disturbance"])).float()
        loss = F.l1_loss(given, wanted) + F.mse_loss(given, wanted) + options["spread"] * spread_penalty(mean_BCLM)
        first = int(torch.randint(given.shape[2] - _SEGMENT + 1, ()))
        with torch.autocast(self.device.type, enabled=False):  # spectra want precision
            heard_BT = self.vocoder(given.detach()[:, 0, first : first + _SEGMENT])
            wanted_BT = batch.samples[:, first * HOP : (first + _SEGMENT) * HOP].to(self.device)
            total: Tensor = loss + options["heard"] * spectral_loss(heard_BT, wanted_BT)
        return total

    @torch.no_grad()
    def score(self, final: bool) -> dict[str, float]:
        """Share of sounds that the judge reads right after autoencoder and vocoder, and after the vocoder alone."""
        count = FINAL_SOUNDS if final else 200
        sounds = [draw_sound(seed_of(Split.VALIDATION, index)) for index in range(count)]
        spectrograms = spectrograms_of(torch.from_numpy(render_sounds(sounds)))
        scores = {}
        for name in ("sounds", "vocoder_alone"):
            right = 0
            for first in range(0, count, 50):
                given = spectrograms[first : first + 50]
                if name == "sounds":
                    given = decoded(self.vae, encoded(self.vae, given))
                for samples_T, sound in zip(self.vocoder(given[:, 0]).numpy(), sounds[first : first + 50], strict=True):
                    right += read_sound(samples_T) == sound.facts
            scores[name] = right / count
        return scores

    @torch.no_grad()
    def scaling_factor(self) -> float:
        """One over the standard deviation of latents: what diffusers calls `scaling_factor`."""
        make = self.batch_maker()
        batches = [make(2**40 + index).spectrograms.to(self.device) for index in range(_SCALE_BATCHES)]
        return scaling_factor_of([encoded(self.vae, some) for some in batches])
