"""AudioLDM: sounds from one vector; latents are of a mel spectrogram that a vocoder plays."""

# B batch, C channels, H time of the spectrogram, W mel bands, T samples

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from services.generators.encoding import Medium
from services.generators.engine import ConditionShape
from services.generators.latent_diffusion import Conditions, LatentDiffusion
from services.generators.plans import Caps, Defaults, MediumPlan


class AudioLdm(LatentDiffusion):
    """The parts of ``AudioLDMPipeline``.

    Source: arXiv 2301.12503.
    """

    modality: ClassVar[str] = "audio"

    def __init__(self, config: Mapping[str, Any]) -> None:
        from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

        self._vocoder_config = SpeechT5HifiGanConfig(**config["vocoder"])
        super().__init__(config)
        self.vocoder: nn.Module = SpeechT5HifiGan(self._vocoder_config)
        self.caps: Caps = dataclasses.replace(self.caps, pixels=0, side=0)

    @property
    def rate_hz(self) -> int:
        """Samples a second."""
        return int(self._vocoder_config.sampling_rate)

    @property
    def hop(self) -> int:
        """Samples that one column of the spectrogram becomes."""
        return math.prod(self._vocoder_config.upsample_rates)

    def conditions(self) -> dict[str, ConditionShape]:
        """Return what it reads."""
        width = self._unet_config.projection_class_embeddings_input_dim
        return {"prompt_embeds": ConditionShape(None, int(width))}

    def latent_shape(self, plan: MediumPlan) -> tuple[int, ...]:
        """Return the shape of one sound's latents, CHW; the time is made up to whole latents and cut afterwards."""
        columns = int(plan.seconds / (self.hop / self.rate_hz))
        bands = int(self._vocoder_config.model_in_dim) // self.vae_scale
        return (self._unet_config.in_channels, max(1, math.ceil(columns / self.vae_scale)), bands)

    def unet_inputs(
        self, positive: Conditions, negative: Conditions, generator: torch.Generator
    ) -> tuple[Conditions, Conditions]:
        """Return the vector that joins the time's embedding."""
        like = positive["prompt_embeds"]
        unlike = negative.get("prompt_embeds", self.negative_of("prompt_embeds", like))
        return {"class_labels": like[None]}, {"class_labels": unlike[None]}

    def finish(self, latents_B: torch.Tensor, plans: list[MediumPlan]) -> list[Medium]:
        """Decode spectrograms and play them."""
        vocoder: Any = self.vocoder
        mels_BHW = self.decode_latents(latents_B).squeeze(1)
        samples_BT = vocoder(mels_BHW.to(self.device, self.dtype)).float().cpu()
        return [
            Medium(samples_T[: int(plan.seconds * self.rate_hz)].contiguous().numpy(), self.rate_hz)
            for samples_T, plan in zip(samples_BT, plans, strict=True)
        ]

    def preview(self, latents: torch.Tensor, plan: MediumPlan) -> NDArray[np.uint8]:
        """Return the spectrogram as a picture in gray: time to the right, low bands below."""
        mel_HW = self.decode_latents(latents[None])[0, 0].numpy()
        low, high = float(mel_HW.min()), float(mel_HW.max())
        shades: NDArray[np.uint8] = ((mel_HW - low) / max(high - low, 1e-6) * 255).round().astype(np.uint8)
        return np.ascontiguousarray(shades.T[::-1])

    def _complete(self, defaults: Defaults) -> Defaults:
        seconds = defaults.seconds
        if not seconds:
            size = self._unet_config.sample_size or 0
            rows = size if isinstance(size, int) else size[0]
            seconds = (rows or 128) * self.vae_scale * self.hop / self.rate_hz
        return dataclasses.replace(defaults, height=0, width=0, frames=0, seconds=seconds)
