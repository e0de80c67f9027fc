"""Generators of every type, small and random but seeded: as artifacts, and as the parts of diffusers they come from."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from services.artifacts import ArtifactStore

TEXT_WIDTH = 24
EMBED_WIDTH = 12
TOKENS = 5
_UNET: dict[str, Any] = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": [16, 32],
    "norm_num_groups": 8, "attention_head_dim": 8, "cross_attention_dim": TEXT_WIDTH,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
}  # fmt: skip
_VAE: dict[str, Any] = {
    "in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 1, "sample_size": 16,
    "block_out_channels": [8, 16], "norm_num_groups": 8,
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
}  # fmt: skip
DDIM: dict[str, Any] = {
    "_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "stable_diffusion": {
        "unet": _UNET, "vae": _VAE, "scheduler": DDIM, "defaults": {"steps": 4, "height": 16, "width": 16},
    },
    "unclip": {
        "unet": {
            **_UNET, "class_embed_type": "projection", "projection_class_embeddings_input_dim": 2 * EMBED_WIDTH,
        },
        "vae": _VAE,
        "scheduler": DDIM,
        "image_noising_scheduler": {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2"},
        "defaults": {"steps": 4, "height": 16, "width": 16, "noise_level": 50, "text_tokens": 3},
    },
    "text_to_video": {
        "unet": {
            **_UNET, "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
            "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
        },
        "vae": _VAE,
        "scheduler": DDIM,
        "defaults": {"steps": 3, "height": 16, "width": 16, "frames": 4, "fps": 4},
    },
    "audioldm": {
        "unet": {
            **_UNET, "cross_attention_dim": [16, 32], "class_embed_type": "simple_projection",
            "projection_class_embeddings_input_dim": EMBED_WIDTH, "class_embeddings_concat": True,
        },
        "vae": {**_VAE, "in_channels": 1, "out_channels": 1},
        "scheduler": DDIM,
        "vocoder": {
            "model_in_dim": 16, "sampling_rate": 16_000, "upsample_initial_channel": 16, "upsample_rates": [4, 4],
            "upsample_kernel_sizes": [8, 8], "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]],
            "normalize_before": False,
        },
        "defaults": {"steps": 4, "seconds": 0.05, "guidance": 2.5},
    },
}  # fmt: skip

# The same parts, run by diffusers itself.
CONFIGS["diffusers"] = {
    "pipeline": "StableDiffusionPipeline",
    "modality": "image",
    "models": {
        "unet": {"library": "diffusers", "class": "UNet2DConditionModel", "config": _UNET},
        "vae": {"library": "diffusers", "class": "AutoencoderKL", "config": _VAE},
    },
    "schedulers": {"scheduler": DDIM},
    "absent": ["text_encoder", "tokenizer", "safety_checker", "feature_extractor"],
    "arguments": {"requires_safety_checker": False},
    "conditions": {"prompt_embeds": {"sizes": [0, TEXT_WIDTH], "optional": False}},
    "defaults": {"steps": 4, "height": 16, "width": 16},
    "caps": {"steps": 999},
}


def redraw(module: nn.Module, seed: int) -> None:
    """Draw the weights anew so that what comes out depends visibly on what goes in."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim >= 2:
                spread = 1.0 / parameter[0].numel() ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)


def generator(store: ArtifactStore, type_name: str, seed: int = 0, **changed: Any) -> str:
    """A generator; ``changed`` replaces parts of its config."""
    from services.generators.diffusers_pipeline import LoadedPipeline
    from services.generators.models import build_generator

    config = {**CONFIGS[type_name], **changed}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LoadedPipeline(config) if type_name == "diffusers" else build_generator(type_name, config)
    redraw(model, seed)
    return store.put(kind="generator", type=type_name, config=config, tensors=model.state_dict())
