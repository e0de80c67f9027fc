"""CLIP vision towers and their preprocessing, as ``clip_vision`` artifacts describe them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graph.errors import InvalidRequest
from services.artifacts import ArtifactStore
from services.checkpoints.directory import CheckpointDirectory, plain_config

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# Numbers that Pillow and transformers give to filters.
_FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}
_TOWER = "vision_model."


def import_clip(checkpoint: CheckpointDirectory, store: ArtifactStore) -> str:
    """Import the vision tower of a CLIP checkpoint; the class token stays, the last layer is read."""
    from transformers import CLIPVisionConfig

    config = checkpoint.config
    clip = CLIPVisionConfig(**config.get("vision_config", config))
    tensors = checkpoint.load_tensors(tower_name)
    return store.put(
        kind="encoder",
        type="clip_vision",
        config=encoder_config(plain_config(clip), preprocess_config(checkpoint), output_layer=-1, drop_cls=False),
        tensors=tensors,
        annotations={"provenance": {"checkpoint": checkpoint.source}},
    )


def tower_name(name: str) -> str | None:
    """Name of a CLIP checkpoint's tensor in a ``clip_vision`` artifact; None for those of the text half."""
    bare = name.removeprefix("model.")
    if bare.startswith(("text_model.", "text_projection", "visual_projection", "logit_scale")):
        return None
    bare = bare.removeprefix(_TOWER)
    return None if bare == "embeddings.position_ids" else _TOWER + bare


def encoder_config(
    clip: Mapping[str, Any], preprocess: Mapping[str, Any], output_layer: int, drop_cls: bool
) -> dict[str, Any]:
    """Return the config of a ``clip_vision`` artifact."""
    return {
        "clip": dict(clip),
        "output_layer": output_layer,
        "drop_cls": drop_cls,
        "preprocess": dict(preprocess),
    }


def preprocess_config(checkpoint: CheckpointDirectory) -> dict[str, Any]:
    """Translate the image processor of a checkpoint.

    Raises:
        InvalidRequest: It does something that this project's preprocessing does not.
    """
    found = checkpoint.read_json("preprocessor_config.json")
    if found is None:
        found = (checkpoint.read_json("processor_config.json") or {}).get("image_processor")
    if found is None:
        raise InvalidRequest(f"checkpoint {checkpoint.source}: no preprocessor_config.json")
    where = f"checkpoint {checkpoint.source}: image processor"
    for switch in ("do_resize", "do_rescale"):
        if not found.get(switch, True):
            raise InvalidRequest(f"{where}: {switch}: false is not supported")
    if abs(float(found.get("rescale_factor", 1 / 255)) * 255 - 1) > 1e-6:
        raise InvalidRequest(f"{where}: rescale_factor {found['rescale_factor']}, 1/255 expected")
    number = int(found.get("resample", 3))
    if number not in _FILTERS:
        raise InvalidRequest(f"{where}: resample {number}, one of {sorted(_FILTERS)} expected")
    resize = _resize(found.get("size", {"shortest_edge": 224}), where)
    normalizes = found.get("do_normalize", True)
    return {
        "resize": resize,
        "crop": _crop(found, resize, where),
        "pad_to_square": bool(found.get("do_pad", False)),
        "mean": list(found.get("image_mean") or CLIP_MEAN) if normalizes else [0.0, 0.0, 0.0],
        "std": list(found.get("image_std") or CLIP_STD) if normalizes else [1.0, 1.0, 1.0],
        "resample": _FILTERS[number],
    }


def _resize(size: int | Mapping[str, int], where: str) -> int | dict[str, int]:
    if isinstance(size, int):
        return {"shortest_edge": size}
    if "shortest_edge" in size and "longest_edge" not in size:
        return {"shortest_edge": int(size["shortest_edge"])}
    if size.get("height") and size.get("height") == size.get("width"):
        return int(size["height"])
    raise InvalidRequest(f"{where}: size {dict(size)}, a shortest edge or a square expected")


def _crop(found: Mapping[str, Any], resize: int | Mapping[str, int], where: str) -> int:
    if not found.get("do_center_crop", True):
        if isinstance(resize, int):
            return resize
        raise InvalidRequest(f"{where}: pictures of many sizes come out, a center crop expected")
    crop = found.get("crop_size", {"height": 224, "width": 224})
    if isinstance(crop, int):
        return crop
    if crop.get("height") != crop.get("width"):
        raise InvalidRequest(f"{where}: crop_size {dict(crop)}, a square expected")
    return int(crop["height"])
