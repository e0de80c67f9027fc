"""A backbone version in memory: decoder, text codec, and what the engine must know of both."""

# T tokens, D backbone width

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graph.errors import FailedPrecondition
from services.artifacts.store import Artifact
from services.backbone.codec import TextCodec
from services.backbone.model import build_decoder
from services.modules.lora import adapter_modules, add_adapter, remove_adapter, use_adapter
from services.modules.signal_rows import SIGNAL_TENSORS, add_signal_rows
from services.runtime.resident import fill_module

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

GENERATION_FILE = "generation_config.json"
# Not every decoder of transformers takes these; those that do not find them out by themselves.
_OPTIONAL_ARGUMENTS = ("position_ids", "logits_to_keep")


@dataclass(frozen=True)
class AdapterWeights:
    """A LoRA adapter, ready to be put beside the layers of a decoder.

    Attributes:
        version: Artifact version.
        rank: Rank of its matrices.
        alpha: Their scale, times the rank.
        targets: Names of the layers they lie beside.
        tensors: The matrices, by PEFT's names.
        signal_rows: Rows of its own for the signal tokens, as in ``modules.signal_rows``; empty: the backbone's.
    """

    version: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    tensors: Mapping[str, torch.Tensor]
    signal_rows: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> AdapterWeights:
        """Read the artifact of an adapter."""
        config, tensors = artifact.config, artifact.load_tensors()
        rows = {name: tensors.pop(name) for name in SIGNAL_TENSORS if name in tensors}
        return cls(
            artifact.version, int(config["rank"]), float(config["alpha"]), tuple(config["targets"]), tensors, rows
        )


@dataclass(eq=False)
class LoadedBackbone:
    """One version.

    Attributes:
        version: Artifact version.
        model: The decoder.
        codec: Its text codec.
        stop_ids: Tokens that end an answer.
        context_tokens: Longest sequence.
        adds_input_embeddings: Whether signal blocks carry the tokens' input embeddings.
        feeds_blocks: Whether the tokens of a signal block are read in one forward pass, not one by one.
        adapters: Versions of the adapters beside it.
    """

    version: str
    model: PreTrainedModel
    codec: TextCodec
    stop_ids: frozenset[int]
    context_tokens: int
    adds_input_embeddings: bool = False
    feeds_blocks: bool = False
    adapters: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        accepted = inspect.signature(self.model.forward).parameters
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
        self.arguments = frozenset(name for name in _OPTIONAL_ARGUMENTS if name in accepted or open_ended)
        self._embedding: Any = self.model.get_input_embeddings()
        families = self.codec.signal_ids.values()
        self.signal_ids = frozenset(number for family in families for number in family)
        # Blocks begin with their first token, so no other one is ever the model's to choose.
        self.forced_only_ids = tuple(sorted(number for family in families for number in family[1:]))
        self.longest_block = max(map(len, families), default=0)
        if max(self.signal_ids, default=0) >= self.vocabulary:
            raise FailedPrecondition(
                f"artifact {self.version}: its tokenizer has signal tokens up to {max(self.signal_ids)}, its decoder "
                f"knows {self.vocabulary} tokens"
            )

    @classmethod
    def from_artifact(cls, artifact: Artifact, dtype: str, device: str) -> LoadedBackbone:
        """Load a version.

        Raises:
            FailedPrecondition: Its tensors, tokenizer or config are wrong.
        """
        model = build_decoder(artifact.config)
        if getattr(model, "_is_stateful", False):
            raise FailedPrecondition(
                f"artifact {artifact.version}: {model.config.model_type!r} keeps a state other than keys and values, "
                "which this engine does not"
            )
        fill_module(model, artifact, dtype, device)
        codec = TextCodec.from_artifact(artifact)
        most = getattr(model.config, "max_position_embeddings", None)
        return cls(
            version=artifact.version,
            model=model,
            codec=codec,
            stop_ids=frozenset(_stop_ids(artifact, model, codec)),
            context_tokens=int(artifact.config.get("context_tokens") or most or 2048),
            # Small beside what they spare: a backbone need not know which projectors will read its blocks.
            adds_input_embeddings=bool(artifact.config.get("adds_input_embeddings", bool(codec.signal_ids))),
            feeds_blocks=_feeds_blocks(artifact),
        )

    @property
    def width(self) -> int:
        """Width of the embeddings that are spliced in."""
        return int(self._embedding.weight.shape[1])

    @property
    def vocabulary(self) -> int:
        """Number of ids the decoder knows."""
        return int(self._embedding.weight.shape[0])

    @property
    def dtype(self) -> torch.dtype:
        """Element type it computes in."""
        dtype: torch.dtype = self._embedding.weight.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = self._embedding.weight.device
        return device

    def embed(self, ids: Collection[int], adapter: str = "") -> torch.Tensor:
        """Return the input embeddings of ids, TD, as they are under an adapter."""
        import torch

        with use_adapter(self.model, adapter or None):
            embedded: torch.Tensor = self._embedding(torch.tensor(list(ids), device=self.device))
        return embedded

    def add_adapter(self, weights: AdapterWeights) -> None:
        """Put an adapter beside the layers; again is harmless.

        Raises:
            FailedPrecondition: It does not fit this decoder.
        """
        if weights.version in self.adapters:
            return
        try:
            add_adapter(
                self.model, weights.version, rank=weights.rank, alpha=weights.alpha, targets=weights.targets,
                tensors=weights.tensors,
            )  # fmt: skip
            if weights.signal_rows:
                add_signal_rows(self.model, weights.version, self.signal_ids, weights.signal_rows)
        except ValueError as error:
            remove_adapter(self.model, weights.version)
            raise FailedPrecondition(
                f"adapter {weights.version} does not fit backbone {self.version}: {error}"
            ) from error
        modules = adapter_modules(self.model, weights.version)
        modules.to(self.device, self.dtype).eval().requires_grad_(False)
        self.adapters.add(weights.version)

    def remove_adapter(self, version: str) -> None:
        """Take an adapter away."""
        remove_adapter(self.model, version)
        self.adapters.discard(version)


def _feeds_blocks(artifact: Artifact) -> bool:
    # The same states either way: the tokens are known. At once spares a model step for all but one of them.
    feed = artifact.config.get("signal_feed", "block")
    if feed not in ("token", "block"):
        raise FailedPrecondition(f"artifact {artifact.version}: signal_feed {feed!r}, 'token' or 'block' expected")
    return bool(feed == "block")


def _stop_ids(artifact: Artifact, model: PreTrainedModel, codec: TextCodec) -> list[int]:
    stated: Any = None
    if GENERATION_FILE in artifact.file_digests:
        stated = json.loads(artifact.read_file(GENERATION_FILE)).get("eos_token_id")
    if stated is None:
        stated = artifact.config.get("decoder", {}).get("eos_token_id")
    if stated is None:
        stated = getattr(model.config, "eos_token_id", None)
    if stated is None:
        stated = codec.eos_id
    if stated is None:
        return []
    return [int(one) for one in stated] if isinstance(stated, list | tuple) else [int(stated)]
