"""Rows of an adapter's own for the signal tokens: what they are read as, and what they are chosen by.

A backbone stays as it is while others learn to make media with it: an adapter brings trained rows of the embedding and
of the head for the signal tokens alone, which stand in for the backbone's while that adapter is active. Embedding and
head may be one matrix in the backbone; here the two may differ.

Source: Zheng et al. 2023 (MiniGPT-5), arXiv 2310.02239, section 3.2: only rows of new tokens are trained.
"""

# S signal tokens, D width, V vocabulary

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from services.modules.adapters import Adapted, AdapterPart

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EMBEDDINGS = "signal_embeddings"
HEAD = "signal_head"
SIGNAL_TENSORS = (EMBEDDINGS, HEAD)
"""Names in an adapter's artifact; one row for each signal token, in ascending order of their ids. Either may miss."""
_ATTRIBUTE = "signal_tokens"


class SignalRows(AdapterPart):
    """The rows of one adapter; None where it leaves the backbone's."""

    def __init__(self, embeddings_SD: Tensor | None, head_SD: Tensor | None) -> None:
        super().__init__()
        self.embeddings_SD = None if embeddings_SD is None else nn.Parameter(embeddings_SD)
        self.head_SD = None if head_SD is None else nn.Parameter(head_SD)

    def artifact_tensors(self, path: str) -> dict[str, Tensor]:
        """Its tensors; they have the same names wherever they lie."""
        rows = {EMBEDDINGS: self.embeddings_SD, HEAD: self.head_SD}
        return {name: tensor.detach() for name, tensor in rows.items() if tensor is not None}


class SignalTokens(Adapted):
    """The rows of all adapters of a model, put in by hooks: whatever classes its embedding and head are.

    Args:
        ids: The signal tokens.
        vocabulary: How many tokens the model knows.
    """

    ids: Tensor
    places: Tensor

    def __init__(self, ids: Collection[int], vocabulary: int) -> None:
        super().__init__()
        ids_S = torch.tensor(sorted(ids))
        places_V = torch.full((vocabulary,), -1)
        places_V[ids_S] = torch.arange(len(ids_S))
        self.register_buffer("ids", ids_S, persistent=False)
        self.register_buffer("places", places_V, persistent=False)
        self.adapters = nn.ModuleDict()

    def embedded(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Puts in the rows of the active adapter; a hook of the embedding."""
        part = self.active_part()
        if not isinstance(part, SignalRows) or part.embeddings_SD is None:
            return output
        places = self.places[args[0]]
        rows = part.embeddings_SD[places.clamp(min=0)].to(output.dtype)
        return torch.where((places >= 0)[..., None], rows, output)

    def scored(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Puts in the logits by the rows of the active adapter; a hook of the head."""
        part = self.active_part()
        if not isinstance(part, SignalRows) or part.head_SD is None:
            return output
        hidden: Tensor = args[0]
        logits = hidden @ part.head_SD.to(hidden.dtype).T
        return output.index_copy(-1, self.ids, logits.to(output.dtype))


def add_signal_rows(
    model: PreTrainedModel, name: str, ids: Collection[int], tensors: Mapping[str, Tensor] | None = None
) -> SignalRows:
    """Gives an adapter rows of its own: those of an artifact, or new ones that start as the model's.

    Raises:
        ValueError: There are no signal tokens, or the rows have the wrong shape or are not finite.
    """
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not ids:
        raise ValueError("rows of signal tokens for a model that has none")
    ordered = sorted(ids)
    bare = {EMBEDDINGS: embedding.weight.detach()[ordered], HEAD: head.weight.detach()[ordered]}
    if tensors is None:
        tensors = {EMBEDDINGS: embedding(torch.tensor(ordered, device=embedding.weight.device)), HEAD: bare[HEAD]}
    for key, rows_SD in tensors.items():
        if key not in bare:
            raise ValueError(f"adapter tensor {key!r} is unknown; {list(SIGNAL_TENSORS)} expected")
        if rows_SD.shape != bare[key].shape:
            raise ValueError(f"adapter tensor {key}: {tuple(rows_SD.shape)}, expected {tuple(bare[key].shape)}")
        if not torch.isfinite(rows_SD).all():
            raise ValueError(f"adapter tensor {key}: NaN or Inf")
    rows = {key: tensors[key].detach().to(torch.float32).clone() for key in tensors}
    part = SignalRows(rows.get(EMBEDDINGS), rows.get(HEAD)).to(embedding.weight.device)
    _signal_tokens(model, embedding, head, ordered).adapters[name] = part
    return part


def _signal_tokens(model: nn.Module, embedding: nn.Module, head: nn.Module, ids: list[int]) -> SignalTokens:
    """Where the rows of a model's adapters lie; made once."""
    there = getattr(model, _ATTRIBUTE, None)
    if isinstance(there, SignalTokens):
        if there.ids.tolist() != ids:
            raise ValueError(f"signal tokens {ids[:4]}…, those of the adapters before it expected")
        return there
    weight: Any = embedding.weight
    fresh = SignalTokens(ids, weight.shape[0]).to(weight.device)
    embedding.register_forward_hook(fresh.embedded)
    head.register_forward_hook(fresh.scored)
    setattr(model, _ATTRIBUTE, fresh)
    return fresh
