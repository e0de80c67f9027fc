"""Base generators: latent diffusion of pictures, films and sounds, conditioned on captions.

Conditions are disturbed a little and now and then left out, so that generators
take what projectors make of signals, and guidance has something to compare with.
Each medium is seen at several noise levels at once: drawing and encoding it takes a quarter of a step.

Source: Rombach et al. 2022, arXiv 2112.10752; velocities: Salimans & Ho 2022, arXiv 2202.00512; a schedule that
ends in pure noise: Lin et al. 2023, arXiv 2305.08891.
"""

# B samples, C latent channels, N frames, K tokens of a caption, D conditioning width

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from services.trainers.captions import CaptionEncoder
from services.trainers.recipe import Recipe
from services.trainers.studio import MadeBatch, MadeBatches, Studio

_EMA: Final = 0.999
_EMA_WARMUP: Final = 10.0
_TRAIN_STEPS: Final = 1000
FINAL_SAMPLES: Final = 400


def build_denoiser(config: Mapping[str, Any]) -> nn.Module:
    """Builds the UNet of a config, with random weights."""
    import diffusers
    from diffusers.models.attention_processor import AttnProcessor

    unet: Any = getattr(diffusers, config["_class_name"]).from_config(dict(config))
    # Two products and a softmax: in bfloat16 on a CPU, torch's fused attention is ten times slower backwards.
    unet.set_attn_processor(AttnProcessor())
    built: nn.Module = unet
    for module in built.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # every sample is new: there is nothing to learn by heart
    return built


def build_scheduler(config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - schedulers share no class
    """Builds the scheduler of a config."""
    import diffusers

    return getattr(diffusers, config["_class_name"]).from_config(dict(config))


@dataclass(frozen=True)
class Conditioning:
    """How a UNet is told what to make: tokens to attend to, or one vector instead of a class."""

    is_class: bool

    def arguments(self, tokens_BKD: Tensor) -> dict[str, Tensor | None]:
        """Keyword arguments of the UNet."""
        if self.is_class:
            return {"encoder_hidden_states": None, "class_labels": tokens_BKD[:, 0]}
        return {"encoder_hidden_states": tokens_BKD}


class DiffusionStage:
    """Trains the UNet of a generator; autoencoder and the codes of captions are frozen."""

    def __init__(
        self, recipe: Recipe, device: torch.device, studio: Studio, earlier: Mapping[str, Tensor] | None = None
    ) -> None:
        self.recipe = recipe
        self.device = device
        self.studio = studio
        torch.manual_seed(recipe.seed)
        self.unet = build_denoiser(recipe.model["unet"])
        self.captions = CaptionEncoder(studio.modality, int(recipe.model["caption_width"])).to(device)
        self.averaged = copy.deepcopy(self.unet).requires_grad_(False)
        self.averaged.register_buffer("n_steps", torch.zeros(()), persistent=False)
        self.trained = nn.ModuleDict({"unet": self.unet, "averaged": self.averaged}).to(device)
        if earlier is not None:
            self.trained.load_state_dict(earlier)
        self.scheduler = build_scheduler(recipe.model["scheduler"])
        self.conditioning = Conditioning(is_class=studio.modality == "audio")
        self.kept_share_S = self.scheduler.alphas_cumprod.to(device)

    def batch_maker(self) -> Callable[[int], MadeBatch]:
        """Returns the recipe's batches."""
        options = self.recipe.options
        return MadeBatches(self.studio.modality, self.recipe.seed, self.recipe.batch, options.get("partial", 0.0))

    @torch.no_grad()
    def _average(self) -> None:
        """Follows the weights; slowly, once there is something to follow."""
        counter = self.averaged.get_buffer("n_steps")
        counter += 1
        n_steps = float(counter)
        keep = min(_EMA, n_steps / (_EMA_WARMUP + n_steps))
        for mean, new in zip(self.averaged.parameters(), self.unet.parameters(), strict=True):
            mean.lerp_(new, 1 - keep)

    def loss(self, batch: MadeBatch) -> Tensor:
        """Squared error of the velocity."""
        options = self.recipe.options
        self._average()
        noises = int(options["noises"])
        latents = self.studio.latents(batch, self.device).repeat_interleave(noises, 0)
        tokens_BKD = self.captions(batch.word_ids.to(self.device)).repeat_interleave(noises, 0)
        left_out = torch.rand(len(latents), device=self.device) < options["left_out"]
        tokens_BKD = torch.where(left_out[:, None, None], self.captions.encode([""]), tokens_BKD)
        tokens_BKD = tokens_BKD + options["disturbance"] * torch.randn_like(tokens_BKD)
        # one stratum for each sample: fewer accidents of the draw
        spots = (torch.randperm(len(latents)) + torch.rand(len(latents))) / len(latents)
        timesteps = (spots * _TRAIN_STEPS).long().clamp_max(_TRAIN_STEPS - 1).to(self.device)
        noise = torch.randn_like(latents)
        shape = (-1, *([1] * (latents.ndim - 1)))
        alphas = self.kept_share_S[timesteps].view(shape)
        noisy = alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
        velocity = alphas.sqrt() * noise - (1 - alphas).sqrt() * latents
        given = self.unet(noisy, timesteps, **self.conditioning.arguments(tokens_BKD)).sample
        return F.mse_loss(given.float(), velocity)

    @torch.no_grad()
    def sample(self, captions: Sequence[str], seed: int, steps: int, guidance: float) -> Tensor:
        """Makes latents of captions by the averaged weights."""
        unet = self.averaged
        tokens_BKD = self.captions.encode(captions)
        empty_BKD = self.captions.encode([""]).expand_as(tokens_BKD)
        generator = torch.Generator().manual_seed(seed)
        latents = torch.randn(len(captions), *self.studio.latent_shape, generator=generator).to(self.device)
        scheduler = build_scheduler(self.recipe.model["scheduler"])
        scheduler.set_timesteps(steps)
        for timestep in scheduler.timesteps:
            given = unet(latents, timestep, **self.conditioning.arguments(tokens_BKD)).sample
            if guidance > 1:
                empty = unet(latents, timestep, **self.conditioning.arguments(empty_BKD)).sample
                given = empty + guidance * (given - empty)
            latents = scheduler.step(given.float(), timestep, latents).prev_sample
        return latents

    def score(self, final: bool) -> dict[str, float]:
        """Share of what is made that the judges read as what was asked for, by groups of the studio."""
        options = self.recipe.options
        count = FINAL_SAMPLES if final else 96
        scores: dict[str, float] = {}
        for group, wishes in self.studio.wishes(count).items():
            right = 0
            for first in range(0, len(wishes), 48):
                part = wishes[first : first + 48]
                captions = [wish.caption for wish in part]
                latents = self.sample(captions, first, int(options["steps"]), options["guidance"])
                right += sum(self.studio.judged(latents, part))
            scores[group] = round(right / len(wishes), 4)
        return scores
