"""LLaVA checkpoints in Hugging Face format, taken apart into encoder, projector and backbone.

Source: Liu et al. 2023, arXiv 2310.03744, as implemented by transformers' ``LlavaForConditionalGeneration``.
"""

from __future__ import annotations

from typing import Any

from graph.errors import InvalidRequest
from services.artifacts import ArtifactStore
from services.checkpoints.clip import encoder_config, preprocess_config, tower_name
from services.checkpoints.decoder import decoder_name, load_tokenizer, put_decoder
from services.checkpoints.directory import CheckpointDirectory, plain_config

_TOWER, _PROJECTOR, _LANGUAGE = "vision_tower.", "multi_modal_projector.", "language_model."
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}


def import_llava(checkpoint: CheckpointDirectory, store: ArtifactStore) -> dict[str, str]:
    """Import a LLaVA checkpoint.

    Returns:
        Versions of the slots ``see``, ``see_in`` and ``think``.

    Raises:
        InvalidRequest: Another architecture, or a variant that these components do not have.
    """
    from transformers import LlavaConfig

    config: Any = LlavaConfig.from_pretrained(checkpoint.path, local_files_only=True)
    _check(checkpoint, config)
    provenance = {"provenance": {"checkpoint": checkpoint.source}}
    see = store.put(
        kind="encoder",
        type="clip_vision",
        config=encoder_config(
            plain_config(config.vision_config),
            preprocess_config(checkpoint),
            output_layer=config.vision_feature_layer,
            drop_cls=config.vision_feature_select_strategy == "default",
        ),
        tensors=checkpoint.load_tensors(_vision_name),
        annotations=provenance,
    )
    see_in = store.put(
        kind="input_projector",
        type="mlp",
        config={
            "feature_width": config.vision_config.hidden_size,
            "hidden_width": config.text_config.hidden_size,
            "output_width": config.text_config.hidden_size,
            "activation": _ACTIVATIONS[config.projector_hidden_act],
            "bias": config.multimodal_projector_bias,
        },
        tensors=checkpoint.load_tensors(_projector_name),
        annotations=provenance,
    )
    decoder = {**plain_config(config.text_config), "tie_word_embeddings": config.tie_word_embeddings}
    media_token = load_tokenizer(checkpoint).convert_ids_to_tokens(config.image_token_index)
    # The processor puts the begin token in front of what the chat template wrote.
    settings = {"media_token": media_token, "template_adds_bos": True}
    think = put_decoder(checkpoint, store, decoder, checkpoint.load_tensors(_language_name), settings)
    return {"see": see, "see_in": see_in, "think": think}


def _check(checkpoint: CheckpointDirectory, config: Any) -> None:  # noqa: ANN401 - transformers' LlavaConfig
    where = f"checkpoint {checkpoint.source}"
    if config.vision_config.model_type != "clip_vision_model":
        raise InvalidRequest(f"{where}: vision tower {config.vision_config.model_type!r}, a CLIP tower expected")
    if not isinstance(config.vision_feature_layer, int):
        raise InvalidRequest(f"{where}: features of several layers joined, one layer expected")
    if config.projector_hidden_act not in _ACTIVATIONS:
        raise InvalidRequest(
            f"{where}: projector_hidden_act {config.projector_hidden_act!r}, one of {sorted(_ACTIVATIONS)} expected"
        )


def _vision_name(name: str) -> str | None:
    bare = name.removeprefix("model.")
    return tower_name(bare.removeprefix(_TOWER)) if bare.startswith(_TOWER) else None


def _projector_name(name: str) -> str | None:
    bare = name.removeprefix("model.")
    return bare.removeprefix(_PROJECTOR) if bare.startswith(_PROJECTOR) else None


def _language_name(name: str) -> str | None:
    """Both layouts: ``language_model.model.X`` and ``model.language_model.X``; ``lm_head`` inside or outside."""
    if name.startswith("model.language_model."):
        return decoder_name("model." + name.removeprefix("model.language_model."))
    if name.startswith(_LANGUAGE):
        return decoder_name(name.removeprefix(_LANGUAGE))
    return name if name.startswith("lm_head.") else None
