"""Stable unCLIP: pictures from one picture embedding, and text to attend to beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from graph.errors import FailedPrecondition
from services.generators.engine import ConditionShape
from services.generators.latent_diffusion import Conditions, scheduler_class
from services.generators.stable_diffusion import StableDiffusion


class Normalizer(nn.Module):
    """Mean and spread of the embeddings the denoiser was trained with."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(1, width))
        self.std = nn.Parameter(torch.ones(1, width))


class UnClip(StableDiffusion):
    """The parts of ``StableUnCLIPImg2ImgPipeline``, driven by a picture embedding.

    The config's ``image_noising_scheduler`` adds ``noise_level`` to the embedding; the level is told along with it.

    Source: arXiv 2204.06125; CoDi-2 (arXiv 2311.18775) sets the level to half of the most.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        both = self._unet_config.projection_class_embeddings_input_dim
        if not both or both % 2:
            raise FailedPrecondition("unclip: a denoiser that reads an embedding and its noise level expected")
        self.width = both // 2
        self.image_normalizer = Normalizer(self.width)
        noising = dict(config.get("image_noising_scheduler") or {"_class_name": "DDPMScheduler"})
        self._noising = scheduler_class(noising).from_config(noising)
        most = int(self._noising.config.num_train_timesteps) - 1
        if not 0 <= self.defaults.noise_level <= most:
            raise FailedPrecondition(f"unclip: noise_level {self.defaults.noise_level}, 0 to {most} expected")

    def conditions(self) -> dict[str, ConditionShape]:
        """Return what it reads."""
        width = int(self._unet_config.cross_attention_dim)
        return {
            "image_embeds": ConditionShape(None, self.width),
            "prompt_embeds": ConditionShape(0, width, optional=True),
        }

    def unet_inputs(
        self, positive: Conditions, negative: Conditions, generator: torch.Generator
    ) -> tuple[Conditions, Conditions]:
        """Return text to attend to, and the noised embedding with its level: zeros on the negative side."""
        text = positive.get("prompt_embeds")
        if text is None:
            width = int(self._unet_config.cross_attention_dim)
            stored = self.negative.get("prompt_embeds")
            text = torch.zeros(self.defaults.text_tokens, width) if stored is None else stored
        labels = self._noised(positive["image_embeds"][None], generator)
        unlike_text = negative.get("prompt_embeds", self.negative_of("prompt_embeds", text))
        unlike = torch.zeros_like(labels)
        if "image_embeds" in negative:
            unlike[:, : self.width] = negative["image_embeds"]
        return (
            {"encoder_hidden_states": text[None], "class_labels": labels},
            {"encoder_hidden_states": unlike_text[None], "class_labels": unlike},
        )

    def _noised(self, embeds_1D: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise_1D = torch.randn(embeds_1D.shape, generator=generator)
        level_1 = torch.tensor([self.defaults.noise_level])
        mean, std = self.image_normalizer.mean.float().cpu(), self.image_normalizer.std.float().cpu()
        noisy_1D = self._noising.add_noise((embeds_1D - mean) / std, timesteps=level_1, noise=noise_1D)
        return torch.cat([noisy_1D * std + mean, level_embedding(level_1, self.width)], 1)


def level_embedding(levels_B: torch.Tensor, width: int) -> torch.Tensor:
    """Return the sinusoids that tell a level, cosines first."""
    half = width // 2
    waves = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32) / half)
    angles = levels_B[:, None].float() * waves[None]
    return nn.functional.pad(torch.cat([angles.cos(), angles.sin()], 1), (0, width % 2))
