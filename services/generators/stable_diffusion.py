"""Stable Diffusion: pictures from a sequence of vectors that the denoiser attends to."""

# B batch, C channels, H height, W width

from __future__ import annotations

import numpy as np
import torch

from services.generators.encoding import Medium
from services.generators.engine import ConditionShape
from services.generators.latent_diffusion import Conditions, LatentDiffusion
from services.generators.plans import MediumPlan


class StableDiffusion(LatentDiffusion):
    """The parts of ``StableDiffusionPipeline``.

    Source: arXiv 2112.10752.
    """

    def conditions(self) -> dict[str, ConditionShape]:
        """Return what it reads."""
        return {"prompt_embeds": ConditionShape(0, int(self._unet_config.cross_attention_dim))}

    def latent_shape(self, plan: MediumPlan) -> tuple[int, ...]:
        """Return the shape of one picture's latents, CHW."""
        return (self._unet_config.in_channels, plan.height // self.vae_scale, plan.width // self.vae_scale)

    def unet_inputs(
        self, positive: Conditions, negative: Conditions, generator: torch.Generator
    ) -> tuple[Conditions, Conditions]:
        """Return what the denoiser attends to."""
        like = positive["prompt_embeds"]
        unlike = negative.get("prompt_embeds", self.negative_of("prompt_embeds", like))
        return {"encoder_hidden_states": like[None]}, {"encoder_hidden_states": unlike[None]}

    def finish(self, latents_B: torch.Tensor, plans: list[MediumPlan]) -> list[Medium]:
        """Decode pictures."""
        pixels_BHWC = self.decode_pixels(latents_B).permute(0, 2, 3, 1)
        return [Medium(np.ascontiguousarray(picture.numpy())) for picture in pixels_BHWC]
