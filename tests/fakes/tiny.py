"""Artifacts of every built-in type, small and random but seeded: contracts and engines are tested on them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graph.spec import SystemSpec
from services.artifacts import ArtifactStore
from tests.fakes import tiny_generators
from tests.fakes.tiny_generators import EMBED_WIDTH, TEXT_WIDTH, TOKENS

EVERYTHING = Path(__file__).parent / "everything.yaml"
"""A system that reads text, pictures, films and sounds."""
MAKING = Path(__file__).parent / "making.yaml"
"""One that reads text and pictures, and makes pictures, films and sounds."""
FEATURE_WIDTH = 32
BACKBONE_WIDTH = 48
CONTEXT_TOKENS = 256
SIGNALS = {"image": 4, "audio": 8, "video": 24}
"""Those of `next-gpt`, whose components are filled with these artifacts too."""
LINES = [
    "a large red circle at the top left and a small blue square at the center, on a white background",
    "what colour is the small ring? orange. how many squares are there? two.",
]
CLIP_CONFIG: dict[str, Any] = {
    "clip": {
        "hidden_size": FEATURE_WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "image_size": 32, "patch_size": 8, "projection_dim": 16,
    },
    "output_layer": -2,
    "drop_cls": True,
    "preprocess": {
        "resize": {"shortest_edge": 32}, "crop": 32, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
        "pad_to_square": False, "resample": "bicubic",
    },
}  # fmt: skip
# Windows of one second: a sound of the playroom is two.
WHISPER_CONFIG: dict[str, Any] = {
    "dims": {
        "n_mels": 80, "n_audio_ctx": 50, "n_audio_state": FEATURE_WIDTH, "n_audio_head": 4, "n_audio_layer": 2,
    },
    "trim_to": 5,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": BACKBONE_WIDTH, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT_TOKENS,
    "tie_word_embeddings": True,
}  # fmt: skip
WIDTHS = {"feature_width": FEATURE_WIDTH, "output_width": BACKBONE_WIDTH}
PROJECTORS: dict[str, dict[str, Any]] = {
    "linear": {**WIDTHS, "stages": [{"space_to_depth": 2}]},
    "mlp": {**WIDTHS, "hidden_width": BACKBONE_WIDTH},
    "query_transformer": {
        **WIDTHS, "hidden_width": 24, "n_queries": 5, "layers": 2, "heads": 4, "text_vocab": 256,
    },
}  # fmt: skip
# What a projector of the playroom's films and sounds does with their tokens first.
STAGES: dict[str, list[dict[str, int]]] = {
    "video": [{"space_to_depth": 2}, {"add_time_positions": 64}, {"mean_pool": 4}, {"concat_items": 1}],
    "audio": [{"concat_adjacent": 5}],
}
SIGNAL_WIDTHS = {"input_width": BACKBONE_WIDTH, "output_width": TEXT_WIDTH}
OUTPUT_PROJECTORS: dict[str, dict[str, Any]] = {
    "transformer": {
        **SIGNAL_WIDTHS, "hidden_width": 32, "n_queries": TOKENS, "layers": 2, "heads": 4, "ff_width": 64,
    },
    "mlp_transformer": {**SIGNAL_WIDTHS, "n_queries": TOKENS, "layers": 2, "heads": 4, "ff_width": 48},
    "mlp": {**SIGNAL_WIDTHS, "output_width": EMBED_WIDTH, "hidden_width": 32},
}  # fmt: skip
# What the output projector of a modality has beside what its type has.
OUTPUTS: dict[str, dict[str, Any]] = {
    "audio": {"n_queries": 1, "vector": True, "normalize": True, "output_width": EMBED_WIDTH},
}
# Parts in their order, whatever the bundled weights' own template does.
CHAT_TEMPLATE = (
    "<|begin|>{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}<|media_begin|><|media|><|media_end|>{% endif %}"
    "{% endfor %}{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ADAPTER: dict[str, Any] = {"rank": 4, "alpha": 8.0, "targets": ["q_proj", "v_proj", "down_proj"]}


@functools.cache
def tokenizer_files() -> dict[str, bytes]:
    """A byte-level tokenizer with chat template, signal and media tokens."""
    from services.backbone.tokenizer import train_tokenizer

    return {**train_tokenizer(LINES, 1024, SIGNALS), "chat_template.jinja": CHAT_TEMPLATE.encode()}


def randomized(module: nn.Module, seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """Tensors of a module, redrawn so that outputs depend visibly on inputs."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in module.state_dict().items():
        if tensor.ndim < 2 or not tensor.is_floating_point():
            tensors[name] = tensor.clone()
            continue
        spread = scale / tensor.shape[-1] ** 0.5
        tensors[name] = torch.randn(tensor.shape, generator=generator) * spread
    return tensors


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make what modules draw when they are built the same every time: versions are hashes of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def clip_vision(store: ArtifactStore, seed: int = 0) -> str:
    """A vision encoder."""
    from services.encoders.clip_vision import ClipVision

    with seeded(seed):
        module = ClipVision.from_config(CLIP_CONFIG)
    return store.put(kind="encoder", type="clip_vision", config=CLIP_CONFIG, tensors=randomized(module, seed))


def whisper(store: ArtifactStore, seed: int = 0, config: Mapping[str, Any] = WHISPER_CONFIG) -> str:
    """An audio encoder."""
    from services.encoders.whisper import WhisperEncoder

    with seeded(seed):
        module = WhisperEncoder.from_config(config)
    return store.put(kind="encoder", type="whisper", config=dict(config), tensors=randomized(module, seed))


def projector(store: ArtifactStore, type_name: str, seed: int = 0, modality: str = "image") -> str:
    """An input projector of what encoders make of a modality."""
    from services.input_projectors.models import build_projector

    config = PROJECTORS[type_name]
    if modality in STAGES:
        config = {**config, "stages": STAGES[modality]}
    with seeded(seed):
        module = build_projector(type_name, config)
    return store.put(kind="input_projector", type=type_name, config=config, tensors=randomized(module, seed))


def output_projector(store: ArtifactStore, type_name: str, seed: int = 0, modality: str = "image") -> str:
    """An output projector of a modality's signals."""
    from services.output_projectors.models import build_projector

    config = {**OUTPUT_PROJECTORS[type_name], "signals": {modality: SIGNALS[modality]}}
    if type_name == "transformer":
        config |= OUTPUTS.get(modality, {})
    with seeded(seed):
        module = build_projector(type_name, config)
    tensors = randomized(module, seed)
    if "negative" in tensors:
        tensors["negative"] = torch.randn(tensors["negative"].shape, generator=torch.Generator().manual_seed(seed))
    return store.put(kind="output_projector", type=type_name, config=config, tensors=tensors)


def decoder_config(decoder: Mapping[str, Any] = LLAMA) -> dict[str, Any]:
    """Config of a backbone artifact around a decoder of transformers."""
    return {
        "decoder": {**decoder, "vocab_size": 1024, "eos_token_id": 2},
        "media_token": "<|media|>",
        "signals": SIGNALS,
        "context_tokens": CONTEXT_TOKENS,
    }


def decoder(store: ArtifactStore, seed: int = 0, config: Mapping[str, Any] | None = None) -> str:
    """A backbone; a tiny Llama unless told otherwise."""
    from services.backbone.model import build_decoder

    config = config or decoder_config()
    with seeded(seed):
        model = build_decoder(config)
    tensors = randomized(model, seed)
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    return store.put(kind="backbone", type="decoder", config=config, tensors=tensors, files=tokenizer_files())


def adapter(store: ArtifactStore, seed: int = 0, signals: bool = False) -> str:
    """A LoRA adapter of ``decoder``; with ``signals`` it has rows of its own for them, and likes to begin blocks."""
    from services.backbone.model import build_decoder
    from services.modules.lora import adapter_tensors, add_adapter

    model = build_decoder(decoder_config())
    add_adapter(model, "new", **ADAPTER)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(tensor.shape, generator=generator) * 0.3
        for name, tensor in adapter_tensors(model, "new").items()
    }
    if signals:
        shape = (sum(SIGNALS.values()), BACKBONE_WIDTH)
        tensors["signal_embeddings"] = torch.randn(shape, generator=generator)
        tensors["signal_head"] = torch.randn(shape, generator=generator) * 0.7
    return store.put(kind="adapter", type="lora", config=ADAPTER, tensors=tensors)


def fill(store: ArtifactStore, spec: SystemSpec, seed: int = 0) -> dict[str, str]:
    """A version set for a system file; what is alike in two systems is the same artifact, but for the adapter."""
    versions: dict[str, str] = {}
    for node in spec.nodes.values():
        if node.kind == "input_projector":
            versions[node.slot] = projector(store, node.type, modality=spec.nodes[node.inputs[0]].modality)
        elif node.kind == "output_projector":
            versions[node.slot] = output_projector(store, node.type, modality=node.signal)
        else:
            versions[node.slot] = make(store, node.kind, node.type)
        if node.adapter_slot:
            versions[node.adapter_slot] = adapter(store, seed)
    return versions


def make(store: ArtifactStore, kind: str, type_name: str, seed: int = 0) -> str:
    """The artifact of any built-in type of the catalog."""
    if kind == "encoder":
        return whisper(store, seed) if type_name == "whisper" else clip_vision(store, seed)
    if kind == "input_projector":
        return projector(store, type_name, seed)
    if kind == "output_projector":
        return output_projector(store, type_name, seed)
    if kind == "generator":
        return tiny_generators.generator(store, type_name, seed)
    return decoder(store, seed)
