"""Audio encoders of Whisper checkpoints in Hugging Face format, as ``whisper`` artifacts.

Source: Radford et al. 2022, arXiv 2212.04356, as implemented by transformers' ``WhisperEncoder``; tensors get the names
that openai-whisper has for them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from graph.errors import InvalidRequest
from services.artifacts import ArtifactStore
from services.artifacts.whisper_dims import (
    DIMENSIONS,
    HOP_SAMPLES,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_POSITION,
    check_dims,
)
from services.checkpoints.directory import CheckpointDirectory

if TYPE_CHECKING:
    from torch import Tensor

# The front end, which has no other settings here.
FRONT_END: dict[str, float] = {"sampling_rate": SAMPLE_RATE_HZ, "hop_length": HOP_SAMPLES, "n_fft": 400}
SILENT = {"padding_value": 0.0, "dither": 0.0, "do_normalize": False}

_LAYER = re.compile(r"layers\.(\d+)\.(.+)\.(weight|bias)")
_TOP = {"conv1": "conv1", "conv2": "conv2", "layer_norm": "ln_post"}
_PARTS = {
    "self_attn.q_proj": "attn.query", "self_attn.k_proj": "attn.key", "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out", "self_attn_layer_norm": "attn_ln", "fc1": "mlp.0", "fc2": "mlp.2",
    "final_layer_norm": "mlp_ln",
}  # fmt: skip


def import_whisper(checkpoint: CheckpointDirectory, store: ArtifactStore) -> str:
    """Import the encoder of a Whisper checkpoint; what belongs to its decoder or a classifier is left.

    Raises:
        InvalidRequest: Its front end, its layers or its tensors are not Whisper's.
    """
    dims = _dims(checkpoint)
    _check_front_end(checkpoint, dims)
    tensors = checkpoint.load_tensors(tower_name)
    _check_tensors(checkpoint, dims, tensors)
    return store.put(
        kind="encoder",
        type="whisper",
        # Whisper hears its whole window, however short the sound in it is.
        config={"dims": dims, "trim_to": 0},
        tensors=tensors,
        annotations={"provenance": {"checkpoint": checkpoint.source}},
    )


def tower_name(name: str) -> str | None:
    """Name of a Whisper checkpoint's tensor in a ``whisper`` artifact; None for those behind the encoder."""
    bare = name.removeprefix("model.")
    if not bare.startswith("encoder."):
        return None
    bare = bare.removeprefix("encoder.")
    if bare == "embed_positions.weight":
        return "encoder.positional_embedding"
    match = _LAYER.fullmatch(bare)
    if match and match[2] in _PARTS:
        return f"encoder.blocks.{match[1]}.{_PARTS[match[2]]}.{match[3]}"
    part, _, kind = bare.rpartition(".")
    # Unknown names stay as they are, and are then refused.
    return f"encoder.{_TOP.get(part, part)}.{kind}"


def _dims(checkpoint: CheckpointDirectory) -> dict[str, int]:
    from transformers import WhisperConfig

    config: Any = WhisperConfig.from_pretrained(checkpoint.path, local_files_only=True)
    where = f"checkpoint {checkpoint.source}"
    if config.activation_function != "gelu":
        raise InvalidRequest(f"{where}: activation_function {config.activation_function!r}, 'gelu' expected")
    if config.encoder_ffn_dim != 4 * config.d_model:
        raise InvalidRequest(f"{where}: encoder_ffn_dim {config.encoder_ffn_dim}, {4 * config.d_model} expected")
    dims: dict[str, int] = {
        "n_mels": config.num_mel_bins,
        "n_audio_ctx": config.max_source_positions,
        "n_audio_state": config.d_model,
        "n_audio_head": config.encoder_attention_heads,
        "n_audio_layer": config.encoder_layers,
    }
    try:
        check_dims(dims)
    except ValueError as error:
        raise InvalidRequest(f"{where}: {error}") from error
    return dims


def _check_front_end(checkpoint: CheckpointDirectory, dims: dict[str, int]) -> None:
    """Hold the feature extractor of a checkpoint against the front end there is.

    Raises:
        InvalidRequest: There is none, or it does something else.
    """
    found = checkpoint.read_json("preprocessor_config.json")
    if found is None:
        found = (checkpoint.read_json("processor_config.json") or {}).get("feature_extractor")
    if found is None:
        raise InvalidRequest(f"checkpoint {checkpoint.source}: no preprocessor_config.json")
    where = f"checkpoint {checkpoint.source}: feature extractor"
    window_s = dims["n_audio_ctx"] * SAMPLES_PER_POSITION / SAMPLE_RATE_HZ
    expected = {"feature_size": dims["n_mels"], "chunk_length": window_s, **FRONT_END, **SILENT}
    defaults = {"feature_size": 80, "chunk_length": 30, **FRONT_END, **SILENT}
    for name, value in expected.items():
        stated = found.get(name, defaults[name])
        if stated != value:
            raise InvalidRequest(f"{where}: {name} {stated!r}, {value!r} expected")


def _check_tensors(checkpoint: CheckpointDirectory, dims: dict[str, int], tensors: dict[str, Tensor]) -> None:
    """Hold the tensors against the encoder that the config describes, without making its weights.

    Raises:
        InvalidRequest: Tensors are missing, unknown or of another shape.
    """
    import torch
    from whisper.model import AudioEncoder

    with torch.device("meta"):
        tower = AudioEncoder(*(dims[name] for name in DIMENSIONS))
    expected = {f"encoder.{name}": tuple(tensor.shape) for name, tensor in tower.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise InvalidRequest(
            f"checkpoint {checkpoint.source}: {len(wrong)} tensors of its encoder are missing, unknown or of another "
            f"shape than its config says, {wrong[0]!r} first"
        )
