"""Decoders of transformers with their tokenizers, as ``decoder`` artifacts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graph.errors import InvalidRequest
from services.artifacts import ArtifactStore
from services.checkpoints.directory import CheckpointDirectory, plain_config

if TYPE_CHECKING:
    from torch import Tensor

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "generation_config.json",
)  # fmt: skip
# Saved by old versions of transformers; recomputed by the models themselves.
_COMPUTED_SUFFIXES = (".rotary_emb.inv_freq", ".masked_bias", ".attn.bias")


def import_decoder(checkpoint: CheckpointDirectory, store: ArtifactStore) -> str:
    """Import a text decoder."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=False, local_files_only=True)
    return put_decoder(
        checkpoint,
        store,
        plain_config(config),
        checkpoint.load_tensors(decoder_name),
        {"template_adds_bos": False},
    )


def decoder_name(name: str) -> str | None:
    """Name of a decoder's tensor in its artifact; None for what models compute themselves."""
    return None if name.endswith(_COMPUTED_SUFFIXES) else name


def put_decoder(
    checkpoint: CheckpointDirectory,
    store: ArtifactStore,
    decoder: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    settings: Mapping[str, Any],
) -> str:
    """Write the artifact of a decoder."""
    context = decoder.get("max_position_embeddings") or decoder.get("n_positions") or 2048
    return store.put(
        kind="backbone",
        type="decoder",
        config={"decoder": dict(decoder), "signals": {}, "context_tokens": int(context), **settings},
        tensors=_fitted(checkpoint, decoder, tensors),
        files=tokenizer_files(checkpoint),
        annotations={"provenance": {"checkpoint": checkpoint.source}},
    )


def _fitted(
    checkpoint: CheckpointDirectory, decoder: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Hold the tensors against the decoder that their config describes, without making its weights.

    Raises:
        InvalidRequest: Tensors are missing, unknown or of another shape.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = dict(decoder)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    # Some checkpoints were saved without their head, and their names lack the prefix.
    prefix = f"{model.base_model_prefix}."
    named = {name if name in expected else prefix + name: tensor for name, tensor in tensors.items()}
    if decoder.get("tie_word_embeddings"):
        named.pop("lm_head.weight", None)
        expected.pop("lm_head.weight", None)
    found = {name: tuple(tensor.shape) for name, tensor in named.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise InvalidRequest(
            f"checkpoint {checkpoint.source}: {len(wrong)} tensors are missing, unknown or of another shape than its "
            f"config says, {wrong[0]!r} first"
        )
    return named


def tokenizer_files(checkpoint: CheckpointDirectory) -> dict[str, bytes]:
    """Gather the tokenizer, its chat template and the generation defaults.

    Raises:
        InvalidRequest: There is no tokenizer, or one that cannot be turned into a fast one.
    """
    files = checkpoint.files(TOKENIZER_FILES)
    if "tokenizer.json" not in files:
        files = {**files, **_converted(checkpoint)}
    if "chat_template.jinja" not in files:
        # Older processors kept it in a JSON file of its own.
        template = (checkpoint.read_json("chat_template.json") or {}).get("chat_template")
        template = template or (checkpoint.read_json("processor_config.json") or {}).get("chat_template")
        if isinstance(template, str):
            files["chat_template.jinja"] = template.encode()
    return files


def load_tokenizer(checkpoint: CheckpointDirectory) -> Any:  # noqa: ANN401 - a tokenizer of transformers
    """Load the tokenizer as transformers does.

    Raises:
        InvalidRequest: It cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(checkpoint.path, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise InvalidRequest(f"checkpoint {checkpoint.source}: its tokenizer cannot be loaded") from error


def _converted(checkpoint: CheckpointDirectory) -> dict[str, bytes]:
    tokenizer = load_tokenizer(checkpoint)
    if not tokenizer.is_fast:
        raise InvalidRequest(f"checkpoint {checkpoint.source}: a fast tokenizer (tokenizer.json) expected")
    with tempfile.TemporaryDirectory(prefix="tokenizer-") as scratch:
        tokenizer.save_pretrained(scratch)
        return {
            name: (Path(scratch) / name).read_bytes() for name in TOKENIZER_FILES if (Path(scratch) / name).is_file()
        }
