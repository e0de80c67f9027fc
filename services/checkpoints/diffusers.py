"""Pipelines of diffusers as generator artifacts: their parts, without what reads text.

A pipeline whose denoising this project does itself becomes an artifact of that type; any other one becomes an artifact
of type ``diffusers``, parts and all, and is run by diffusers. Classes are looked up by name in diffusers and
transformers alone: nothing that a directory brings along is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graph.errors import InvalidRequest
from services.artifacts import ArtifactStore
from services.checkpoints.directory import PIPELINE_FILE, CheckpointDirectory

if TYPE_CHECKING:
    from torch import Tensor

DIFFUSION_STEM = "diffusion_pytorch_model"
SCHEDULER_FILE = "scheduler_config.json"
SLOTS = {"image": "draw", "video": "film", "audio": "play"}
PIPELINES = {
    "StableDiffusionPipeline": "stable_diffusion",
    "StableUnCLIPImg2ImgPipeline": "unclip",
    "TextToVideoSDPipeline": "text_to_video",
    "AudioLDMPipeline": "audioldm",
}
MODALITIES = {"stable_diffusion": "image", "unclip": "image", "text_to_video": "video", "audioldm": "audio"}
UNETS = {"text_to_video": "UNet3DConditionModel"}
# What the pipelines do when nothing else is asked for.
DEFAULTS: dict[str, dict[str, float]] = {
    "stable_diffusion": {"steps": 50, "guidance": 7.5},
    "unclip": {"steps": 20, "guidance": 10.0},
    "text_to_video": {"steps": 50, "guidance": 9.0, "frames": 16, "fps": 8.0},
    "audioldm": {"steps": 10, "guidance": 2.5},
}
# What a denoiser may ask for beside latents, time and text; only the loops of diffusers know about it.
SPECIAL = ("time_cond_proj_dim", "addition_embed_type", "encoder_hid_dim_type", "encoder_hid_dim")
# Names that the attention of autoencoders had before diffusers 0.17.
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def import_pipeline(checkpoint: CheckpointDirectory, store: ArtifactStore) -> tuple[str, str]:
    """Import a pipeline's directory; return the slot it is for and its version.

    Raises:
        InvalidRequest: It is no pipeline, lacks a part, or one of its files cannot be used; pickles never are.
    """
    index = checkpoint.read_json(PIPELINE_FILE) or {}
    name = index.get("_class_name")
    if not isinstance(name, str) or not name.isidentifier():
        raise InvalidRequest(f"checkpoint {checkpoint.source}: {PIPELINE_FILE} names no pipeline")
    type_name = PIPELINES.get(name, "diffusers")
    if type_name != "diffusers" and _is_plain(checkpoint, index, type_name):
        version = _import_known(checkpoint, type_name, store)
        return SLOTS[MODALITIES[type_name]], version
    from services.checkpoints.diffusers_parts import import_any

    modality, version = import_any(checkpoint, name, index, store)
    return SLOTS[modality], version


def model_config(part: CheckpointDirectory) -> dict[str, Any]:
    """Return the config of a model, without what says nothing of it."""
    return {key: value for key, value in part.config.items() if not key.startswith("_")}


def scheduler_config(checkpoint: CheckpointDirectory, name: str = "scheduler") -> dict[str, Any]:
    """Return the config of a scheduler, and its class.

    Raises:
        InvalidRequest: There is none.
    """
    config = checkpoint.inside(name, "").read_json(SCHEDULER_FILE)
    if config is None or not isinstance(config.get("_class_name"), str):
        raise InvalidRequest(f"checkpoint {checkpoint.source}: no {name}/{SCHEDULER_FILE} that names its class")
    return {key: value for key, value in config.items() if key in ("_class_name",) or not key.startswith("_")}


def new_attention_name(name: str) -> str:
    """Return the name that a tensor of an autoencoder has today."""
    stem, _, rest = name.rpartition(".")
    head, _, last = stem.rpartition(".")
    return f"{head}.{OLD_ATTENTION[last]}.{rest}" if ".attentions." in name and last in OLD_ATTENTION else name


def _is_plain(checkpoint: CheckpointDirectory, index: Mapping[str, Any], type_name: str) -> bool:
    """Whether the pipeline's parts are those that the loops of our own know."""
    expected = {"unet": UNETS.get(type_name, "UNet2DConditionModel"), "vae": "AutoencoderKL"}
    for part in expected:
        if not (isinstance(index.get(part), list) and len(index[part]) == 2):
            raise InvalidRequest(f"checkpoint {checkpoint.source}: {PIPELINE_FILE} names no {part}")
    if any(index[part][1] != name for part, name in expected.items()):
        return False
    config = checkpoint.inside("unet", DIFFUSION_STEM).config
    classes = config.get("class_embed_type")
    special = any(config.get(key) for key in SPECIAL)
    wanted = {"unclip": "projection", "audioldm": "simple_projection"}.get(type_name)
    return not special and classes == wanted


def _import_known(checkpoint: CheckpointDirectory, type_name: str, store: ArtifactStore) -> str:
    unet, vae = checkpoint.inside("unet", DIFFUSION_STEM), checkpoint.inside("vae", DIFFUSION_STEM)
    config: dict[str, Any] = {
        "unet": model_config(unet),
        "vae": model_config(vae),
        "scheduler": scheduler_config(checkpoint),
        "defaults": DEFAULTS[type_name],
    }
    tensors: dict[str, Tensor] = unet.load_tensors(lambda name: f"unet.{name}")
    tensors |= vae.load_tensors(_decoder_name)
    if type_name == "audioldm":
        vocoder = checkpoint.inside("vocoder", "model")
        config["vocoder"] = model_config(vocoder)
        tensors |= vocoder.load_tensors(lambda name: f"vocoder.{name}")
    if type_name == "unclip":
        config["image_noising_scheduler"] = scheduler_config(checkpoint, "image_noising_scheduler")
        normalizer = checkpoint.inside("image_normalizer", DIFFUSION_STEM)
        tensors |= normalizer.load_tensors(lambda name: f"image_normalizer.{name}")
    return store.put(
        kind="generator",
        type=type_name,
        config=config,
        tensors=tensors,
        annotations={"provenance": {"checkpoint": checkpoint.source}},
    )


def _decoder_name(name: str) -> str | None:
    """Name of an autoencoder's tensor in an artifact; None for those that only training needs."""
    encodes = name.startswith(("encoder.", "quant_conv."))
    return None if encodes else f"vae.{new_attention_name(name)}"
