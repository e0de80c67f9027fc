"""Sounds as pictures of their frequencies, an autoencoder for these, and the vocoder that makes them sound again.

Both learn at once: the vocoder reads what the autoencoder gives back, so that it gets to know its mistakes. It is
judged by spectra of several lengths, and never by phases, which nobody hears. It plays in tune, whatever it reads.

Source: Liu et al. 2023, arXiv 2301.12503, section 3; the loss of the vocoder: Yamamoto et al. 2020, arXiv 1910.11480.
"""

# B sounds, T samples, L frames of 23 ms, M mel bins, C latent channels, F frequencies

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from services.playroom.listening import read_sound
from services.playroom.scenes import Split, seed_of
from services.playroom.sounds import ALL_SOUNDS, SAMPLE_RATE_HZ, SWEEP, draw_sound, sound_from
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

HOP: Final = 364
"""Samples of a frame. What does not change from frame to frame, a vocoder can render with the period of a frame alone:
it hits multiples of 44 Hz and nothing between them. Every pitch of the playroom in tune is such a multiple."""
N_FRAMES: Final = 88
N_MELS: Final = 64
_WINDOW: Final = 1024
_FLOOR: Final = 1e-4
_CENTER: Final = -4.5
_SCALE: Final = 4.0
_SCALE_BATCHES: Final = 8
_SEGMENT: Final = 22
"""Frames that the vocoder learns on at once: it sees no further, and whole sounds cost four times as much."""
_RESOLUTIONS: Final = ((2048, 512), (1024, 256), (256, 64))
_EMPHASIS: Final = {SWEEP: 4.0, "buzz": 2.0}
"""How much oftener sounds are shown that are hard to render: nothing of a sweep stays, a buzz has faint partials."""
_WEIGHTS: Final = np.array([_EMPHASIS.get(facts.timbre, 1.0) for facts in ALL_SOUNDS])
_SHARES: Final = _WEIGHTS / _WEIGHTS.sum()
_QUIET: Final = 1e-3
_INAUDIBLE: Final = 1e-3
"""Of the loudest magnitude of a sound."""
FINAL_SOUNDS: Final = 1000


@cache
def _mel_filters() -> Tensor:
    from transformers.audio_utils import mel_filter_bank

    filters_FM = mel_filter_bank(
        _WINDOW // 2 + 1, N_MELS, 0.0, SAMPLE_RATE_HZ / 2, SAMPLE_RATE_HZ, norm="slaney", mel_scale="slaney"
    )
    return torch.from_numpy(filters_FM).float()


def spectrograms_of(samples_BT: Tensor) -> Tensor:
    """Logarithms of mel spectrograms, about between -1.5 and 1.5 (B1LM); one frame for every `HOP` samples."""
    before = (_WINDOW - HOP) // 2
    after = (N_FRAMES - 1) * HOP + _WINDOW - before - samples_BT.shape[1]
    padded_BT = F.pad(samples_BT[:, None], (before, after), mode="reflect")[:, 0]
    window = torch.hann_window(_WINDOW)
    magnitude_BFL = torch.stft(padded_BT, _WINDOW, HOP, window=window, center=False, return_complex=True).abs()
    mel_BLM = magnitude_BFL.transpose(1, 2) @ _mel_filters()
    return ((mel_BLM.clamp_min(_FLOOR).log() - _CENTER) / _SCALE)[:, None]


def spectral_loss(given_BT: Tensor, wanted_BT: Tensor) -> Tensor:
    """Distance of magnitudes and of their logarithms, over windows of several lengths.

    Every sound is measured by its own loudness: loud ones would drown the others, and noise nobody hears the tones.
    """
    parts = []
    for n_window, hop in _RESOLUTIONS:
        window = torch.hann_window(n_window)
        given_BFL, wanted_BFL = (
            torch.stft(samples, n_window, hop, window=window, return_complex=True).abs()
            for samples in (given_BT, wanted_BT)
        )
        norm_B = wanted_BFL.flatten(1).norm(dim=1).clamp_min(_QUIET)
        parts.append(((given_BFL - wanted_BFL).flatten(1).norm(dim=1) / norm_B).mean())
        peak_B11 = wanted_BFL.amax((1, 2), keepdim=True).clamp_min(_QUIET)
        given_log, wanted_log = ((one / peak_B11 + _INAUDIBLE).log() for one in (given_BFL, wanted_BFL))
        parts.append(F.l1_loss(given_log, wanted_log))
    return torch.stack(parts).sum() / len(_RESOLUTIONS)


def build_vocoder(config: Mapping[str, Any]) -> SpeechT5HifiGan:
    """Builds the vocoder of a config, with random weights."""
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    return SpeechT5HifiGan(SpeechT5HifiGanConfig(**config))


@dataclass
class SoundBatch:
    """Spectrograms of sounds (B1LM), and samples of the same sounds in tune (BT)."""

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
        sounds = [
            sound_from(rng, ALL_SOUNDS[int(which)]) for which in rng.choice(len(ALL_SOUNDS), self.batch, p=_SHARES)
        ]
        in_tune_BT = torch.from_numpy(render_sounds([replace(sound, pitch_factor=1.0) for sound in sounds]))
        in_tune_BT = F.pad(in_tune_BT, (0, N_FRAMES * HOP - in_tune_BT.shape[1]))
        return SoundBatch(in_tune_BT, spectrograms_of(torch.from_numpy(render_sounds(sounds))))


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
