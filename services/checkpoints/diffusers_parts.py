"""Any pipeline of diffusers as an artifact of type ``diffusers``: models and schedulers, without what reads text."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graph.errors import InvalidRequest
from services.artifacts import ArtifactStore
from services.checkpoints.diffusers import DIFFUSION_STEM, SCHEDULER_FILE, model_config, scheduler_config
from services.checkpoints.directory import CheckpointDirectory

if TYPE_CHECKING:
    from torch import Tensor

# Embeddings come from outside: what would make them, or look at what was made, stays behind.
LEFT_BEHIND = (
    "text_encoder", "tokenizer", "feature_extractor", "image_encoder", "language_model", "safety_checker",
    "image_processor", "processor",
)  # fmt: skip
WIDTH_KEYS = ("cross_attention_dim", "joint_attention_dim", "caption_channels", "text_embed_dim")
DEFAULT_STEPS = 20


def import_any(
    checkpoint: CheckpointDirectory, pipeline: str, index: Mapping[str, Any], store: ArtifactStore
) -> tuple[str, str]:
    """Import a pipeline as it is; return its modality and version.

    Raises:
        InvalidRequest: diffusers knows no such pipeline or part, or it cannot be driven by embeddings.
    """
    arguments = _call_arguments(checkpoint, pipeline)
    config: dict[str, Any] = {
        "pipeline": pipeline, "modality": _modality(arguments), "models": {}, "schedulers": {}, "absent": [],
        "arguments": {},
    }  # fmt: skip
    tensors: dict[str, Tensor] = {}
    for name, value in index.items():
        if name.startswith("_"):
            continue
        if not isinstance(value, list) or len(value) != 2:
            config["arguments"][name] = value
        elif value[0] is None or name.startswith(LEFT_BEHIND):
            config["absent"].append(name)
        else:
            tensors |= _import_part(checkpoint, name, str(value[0]), str(value[1]), config)
    config["conditions"] = _conditions(checkpoint, arguments, config["models"])
    config["defaults"] = {"steps": DEFAULT_STEPS, **_sizes(config)}
    version = store.put(
        kind="generator",
        type="diffusers",
        config=config,
        tensors=tensors,
        annotations={"provenance": {"checkpoint": checkpoint.source}},
    )
    return config["modality"], version


def _call_arguments(checkpoint: CheckpointDirectory, pipeline: str) -> list[str]:
    import diffusers

    found = getattr(diffusers, pipeline, None)
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        raise InvalidRequest(f"checkpoint {checkpoint.source}: {pipeline[:64]!r} is no pipeline of diffusers")
    return list(inspect.signature(found.__call__).parameters)


def _modality(arguments: list[str]) -> str:
    if any(name.startswith("audio_") for name in arguments):
        return "audio"
    return "video" if "num_frames" in arguments else "image"


def _import_part(
    checkpoint: CheckpointDirectory, name: str, library: str, kind: str, config: dict[str, Any]
) -> dict[str, Tensor]:
    part = checkpoint.inside(name, "model" if library == "transformers" else DIFFUSION_STEM)
    if (part.path / SCHEDULER_FILE).is_file():
        config["schedulers"][name] = scheduler_config(checkpoint, name)
        return {}
    library = "transformers" if library == "transformers" else "diffusers"
    config["models"][name] = {"library": library, "class": kind, "config": model_config(part)}
    return part.load_tensors(lambda tensor: f"parts.{name}.{tensor}")


def _conditions(
    checkpoint: CheckpointDirectory, arguments: list[str], models: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the embeddings that the pipeline takes; widths where a model's config says them, else any."""
    if "prompt_embeds" not in arguments:
        raise InvalidRequest(f"checkpoint {checkpoint.source}: its pipeline cannot be driven by embeddings")
    found: dict[str, dict[str, Any]] = {"prompt_embeds": {"sizes": [0, _width(models)], "optional": False}}
    for name in arguments:
        is_other = name.startswith(("negative_", "ip_adapter_")) or name == "prompt_embeds"
        if is_other or not name.endswith(("_embeds", "attention_mask")):
            continue
        flat = name.startswith(("pooled_", "image_")) or name.endswith("_mask")
        found[name] = {"sizes": [0] if flat else [0, 0], "optional": True}
    return found


def _width(models: Mapping[str, Any]) -> int:
    for name in ("unet", "transformer", "prior"):
        config = models.get(name, {}).get("config", {})
        for key in WIDTH_KEYS:
            if isinstance(config.get(key), int):
                return int(config[key])
    return 0


def _sizes(config: Mapping[str, Any]) -> dict[str, float]:
    """Return what a medium measures when nothing is asked for, as far as the configs say."""
    if config["modality"] == "audio":
        return {"seconds": 5.0}
    models = config["models"]
    denoiser = models.get("unet") or models.get("transformer") or {"config": {}}
    size = denoiser["config"].get("sample_size") or 64
    height, width = (size, size) if isinstance(size, int) else size
    levels = len(models.get("vae", {}).get("config", {}).get("block_out_channels", ())) or 4
    scale = 2 ** (levels - 1)
    frames = {"frames": 16} if config["modality"] == "video" else {}
    return {"height": max(8, height * scale // 8 * 8), "width": max(8, width * scale // 8 * 8), **frames}
