"""Text-to-video diffusion: films from a sequence of vectors that the denoiser attends to in every frame."""

# B batch, F frames, C channels, H height, W width

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import torch

from services.generators.encoding import Medium
from services.generators.plans import Defaults, MediumPlan
from services.generators.stable_diffusion import StableDiffusion

DEFAULT_FRAMES = 16


class TextToVideo(StableDiffusion):
    """The parts of ``TextToVideoSDPipeline``.

    Source: arXiv 2308.06571.
    """

    modality: ClassVar[str] = "video"

    def latent_shape(self, plan: MediumPlan) -> tuple[int, ...]:
        """Return the shape of one film's latents, CFHW."""
        channels, height, width = super().latent_shape(plan)
        return (channels, plan.frames, height, width)

    def to_pictures(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the frames as a batch: what a scheduler draws is drawn in that order."""
        return latents[0].transpose(0, 1).contiguous()

    def from_pictures(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the film that frames are."""
        return latents.transpose(0, 1)[None]

    def preview_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the middle frame."""
        return latents[:, latents.shape[1] // 2]

    def finish(self, latents_B: torch.Tensor, plans: list[MediumPlan]) -> list[Medium]:
        """Decode films, frame by frame."""
        latents_BFCHW = latents_B.transpose(1, 2)
        pixels = self.decode_pixels(latents_BFCHW.flatten(0, 1)).permute(0, 2, 3, 1)
        films_BFHWC = pixels.reshape(*latents_BFCHW.shape[:2], *pixels.shape[1:])
        return [
            Medium(np.ascontiguousarray(film.numpy()), plan.fps)
            for film, plan in zip(films_BFHWC, plans, strict=True)
        ]  # fmt: skip

    def _unet_class(self) -> Any:  # noqa: ANN401 - untyped in diffusers
        from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel

        return UNet3DConditionModel

    def _complete(self, defaults: Defaults) -> Defaults:
        completed = super()._complete(defaults)
        return dataclasses.replace(completed, frames=completed.frames or DEFAULT_FRAMES)
