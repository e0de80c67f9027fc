"""Small random pipelines of diffusers: saved as directories, and called directly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.fakes.tiny_generators import CONFIGS, DDIM, EMBED_WIDTH, TEXT_WIDTH, TOKENS, redraw

SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDIM": DDIM,
    "Euler": {"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", "beta_end": 0.012},
    "ancestral": {"_class_name": "EulerAncestralDiscreteScheduler", "beta_schedule": "scaled_linear"},
    "DPM++": {"_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "scaled_linear"},
    "PNDM": {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "skip_prk_steps": True},
    "Heun": {"_class_name": "HeunDiscreteScheduler", "beta_schedule": "scaled_linear"},
    "DDPM": {"_class_name": "DDPMScheduler", "beta_schedule": "scaled_linear", "clip_sample": False},
}


class TextStub:
    """Stands where AudioLDM's text encoder would: only its type is read."""

    dtype = torch.float32


def make_pipeline(type_name: str, scheduler: str = "DDIM", seed: int = 0) -> Any:
    """Build a pipeline of a type, its text encoder left out."""
    import diffusers

    config = CONFIGS[type_name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet_class = diffusers.UNet3DConditionModel if type_name == "text_to_video" else diffusers.UNet2DConditionModel
        parts: dict[str, Any] = {
            "unet": unet_class(**config["unet"]), "vae": diffusers.AutoencoderKL(**config["vae"]),
            "scheduler": make_scheduler(SCHEDULERS[scheduler]), "tokenizer": None, "text_encoder": None,
        }  # fmt: skip
        parts |= _others(type_name, config)
    for name in ("unet", "vae", "vocoder"):
        if name in parts:
            redraw(parts[name], seed)
            parts[name].eval()
    pipeline = getattr(diffusers, PIPELINE_CLASSES[type_name])(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


PIPELINE_CLASSES = {
    "stable_diffusion": "StableDiffusionPipeline",
    "unclip": "StableUnCLIPImg2ImgPipeline",
    "text_to_video": "TextToVideoSDPipeline",
    "audioldm": "AudioLDMPipeline",
}


def make_lcm(seed: int = 0) -> Any:
    """Build a pipeline whose loop is not one of ours."""
    import diffusers

    config = CONFIGS["stable_diffusion"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = diffusers.UNet2DConditionModel(**config["unet"], time_cond_proj_dim=8)
        vae = diffusers.AutoencoderKL(**config["vae"])
    redraw(unet, seed)
    redraw(vae, seed)
    pipeline = diffusers.LatentConsistencyModelPipeline(
        unet=unet.eval(), vae=vae.eval(), scheduler=diffusers.LCMScheduler(), text_encoder=None, tokenizer=None,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_scheduler(config: dict[str, Any]) -> Any:
    """Build a scheduler by its config."""
    import diffusers

    rest = {key: value for key, value in config.items() if key != "_class_name"}
    return getattr(diffusers, config["_class_name"])(**rest)


def _others(type_name: str, config: dict[str, Any]) -> dict[str, Any]:
    if type_name == "stable_diffusion":
        return {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if type_name == "audioldm":
        from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

        return {"vocoder": SpeechT5HifiGan(SpeechT5HifiGanConfig(**config["vocoder"])), "text_encoder": TextStub()}
    if type_name == "unclip":
        return _unclip_parts(config)
    return {}


def _unclip_parts(config: dict[str, Any]) -> dict[str, Any]:
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    normalizer = StableUnCLIPImageNormalizer(EMBED_WIDTH)
    with torch.no_grad():
        normalizer.mean.uniform_(-1, 1)
        normalizer.std.uniform_(0.5, 2)
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4,
        projection_dim=EMBED_WIDTH,
    )  # fmt: skip
    return {
        "image_normalizer": normalizer,
        "image_noising_scheduler": make_scheduler(config["image_noising_scheduler"]),
        "image_encoder": CLIPVisionModelWithProjection(vision),
        "feature_extractor": None,
    }


def save(pipeline: Any, path: Path) -> None:
    """Write a pipeline in diffusers' format."""
    stub = getattr(pipeline, "text_encoder", None)
    if isinstance(stub, TextStub):
        pipeline.register_modules(text_encoder=None)
    pipeline.save_pretrained(path, safe_serialization=True)
    if isinstance(stub, TextStub):
        pipeline.register_modules(text_encoder=stub)


def make_embeds(type_name: str, seed: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Draw conditioning and its negative side, as the generator reads them."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    if type_name == "audioldm":
        return {"prompt_embeds": draw(EMBED_WIDTH)}, {"prompt_embeds": draw(EMBED_WIDTH)}
    positive, negative = {"prompt_embeds": draw(TOKENS, TEXT_WIDTH)}, {"prompt_embeds": draw(TOKENS, TEXT_WIDTH)}
    if type_name == "unclip":
        positive["image_embeds"] = draw(EMBED_WIDTH)
    return positive, negative


def call(
    pipeline: Any, type_name: str, seed: int, steps: int, guidance: float, embeds_seed: int, **size: Any
) -> torch.Tensor:
    """Call a pipeline directly: pictures HWC and films FHWC from 0 to 1, samples T."""
    positive, negative = make_embeds(type_name, embeds_seed)
    embeds = {name: tensor[None] for name, tensor in positive.items()}
    embeds |= {f"negative_{name}": tensor[None] for name, tensor in negative.items()}
    output = pipeline(
        **embeds, num_inference_steps=steps, guidance_scale=guidance, output_type="np",
        generator=torch.Generator().manual_seed(seed), return_dict=False, **size,
    )  # fmt: skip
    return torch.as_tensor(output[0][0])
