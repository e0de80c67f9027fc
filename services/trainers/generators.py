"""From the stages that train generators to artifacts, and from artifacts to what the next stage builds on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from services.artifacts import Artifact
from services.playroom.films import FRAME_RATE_HZ, N_FRAMES
from services.playroom.sounds import SOUND_S
from services.playroom.words import IMAGE_SIDE_PX
from services.trainers.autoencoding import PictureAutoencoderStage, build_autoencoder
from services.trainers.diffusing import DiffusionStage
from services.trainers.recipe import Recipe
from services.trainers.results import Trained, Weights, float_tensors
from services.trainers.spectrograms import SoundAutoencoderStage, build_vocoder
from services.trainers.studio import Studio

TYPES: Final = {"image": "stable_diffusion", "video": "text_to_video", "audio": "audioldm"}
_SHAPES: Final[dict[str, dict[str, float]]] = {
    "image": {"height": IMAGE_SIDE_PX, "width": IMAGE_SIDE_PX},
    "video": {"height": IMAGE_SIDE_PX, "width": IMAGE_SIDE_PX, "frames": N_FRAMES, "fps": FRAME_RATE_HZ},
    "audio": {"seconds": SOUND_S},
}


def _prefixed(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": tensor for key, tensor in tensors.items()}


def _part(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def autoencoder_results(recipe: Recipe, stage: PictureAutoencoderStage | SoundAutoencoderStage) -> list[Trained]:
    """What a finished autoencoder stage stores: an artifact that trainers alone read."""
    scaling = {"scaling_factor": stage.scaling_factor()}
    config = {**recipe.model, "vae": {**recipe.model["vae"], **scaling}}
    if isinstance(stage, SoundAutoencoderStage):
        tensors = stage.trained.state_dict()
    else:
        tensors = _prefixed("vae", stage.trained.state_dict())
    return [Trained(recipe.writes["autoencoder"], "autoencoder", "kl", config, tensors, {})]


def open_studio(modality: str, artifact: Artifact) -> Studio:
    """Opens the autoencoder (and vocoder) of an artifact."""
    tensors = float_tensors(artifact)
    autoencoder = build_autoencoder(artifact.config["vae"])
    autoencoder.load_state_dict(_part("vae", tensors))
    vocoder = None
    if "vocoder" in artifact.config:
        vocoder = build_vocoder(artifact.config["vocoder"])
        vocoder.load_state_dict(_part("vocoder", tensors))
    return Studio(modality, autoencoder, artifact.config["vae"]["scaling_factor"], vocoder)


def generator_results(recipe: Recipe, stage: DiffusionStage, autoencoder: Artifact) -> list[Trained]:
    """What a finished diffusion stage stores.

    A generator never encodes, so the encoder's half of the autoencoder stays behind.
    """
    modality = recipe.model["modality"]
    tensors = _prefixed("unet", stage.averaged.state_dict())
    kept = {
        name: tensor
        for name, tensor in float_tensors(autoencoder).items()
        if not name.startswith(("vae.encoder.", "vae.quant_conv."))
    }
    options = recipe.options
    defaults: dict[str, Any] = {"steps": int(options["steps"]), "guidance": options["guidance"], **_SHAPES[modality]}
    config = {
        **autoencoder.config,
        "unet": recipe.model["unet"],
        "scheduler": recipe.model["scheduler"],
        "defaults": defaults,
    }
    return [Trained(recipe.writes["generator"], "generator", TYPES[modality], config, {**tensors, **kept}, {})]


def make_diffusion_stage(recipe: Recipe, weights: Weights, device: torch.device) -> DiffusionStage:
    """Builds the stage of a recipe on the autoencoder that it reads."""
    return DiffusionStage(
        recipe, device, open_studio(recipe.model["modality"], weights.find(recipe.reads["autoencoder"]))
    )
