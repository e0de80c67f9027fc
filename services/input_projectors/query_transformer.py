"""Learned queries that read the features, and the prompt if there is one: a fixed number of tokens comes out.

Source: Li et al. 2023 (BLIP-2), arXiv 2301.12597, section 3.1; Dai et al. 2023 (InstructBLIP), arXiv 2305.06500,
section 2.3 for the prompt. Layers are post-norm, as in BERT.
"""

# B items, T features, F feature width, Q queries, L prompt tokens, S queries and prompt, H hidden width

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from services.input_projectors.projector import InputProjector, check_keys
from services.input_projectors.stages import Stages

if TYPE_CHECKING:
    from typing import Self

PAD_ID = -1


class _Attention(nn.Module):
    """Multi-head attention with its residual and norm; keys may have another width."""

    def __init__(self, width: int, key_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(key_width, width)
        self.value = nn.Linear(key_width, width)
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden_BSH: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Lets `hidden_BSH` read `memory`; `mask` (B1 1 keys) is true where it may."""
        query, key, value = (
            layer(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, states in ((self.query, hidden_BSH), (self.key, memory), (self.value, memory))
        )
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        normed: Tensor = self.norm(hidden_BSH + self.output(read.transpose(1, 2).flatten(2)))
        return normed


class _FeedForward(nn.Module):
    """Two layers with their residual and norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, 4 * width)
        self.outer = nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden_BSH: Tensor) -> Tensor:
        """Transforms every position by itself."""
        normed: Tensor = self.norm(hidden_BSH + self.outer(F.gelu(self.inner(hidden_BSH))))
        return normed


class _Layer(nn.Module):
    """Queries and prompt read each other; queries read the features; each has a feed-forward of its own."""

    def __init__(self, width: int, feature_width: int | None, heads: int, with_text: bool) -> None:
        super().__init__()
        self.attention = _Attention(width, width, heads)
        self.cross_attention = _Attention(width, feature_width, heads) if feature_width else None
        self.feed_forward = _FeedForward(width)
        self.text_feed_forward = _FeedForward(width) if with_text else None

    def forward(self, hidden_BSH: Tensor, features_BTF: Tensor, n_queries: int, mask: Tensor | None) -> Tensor:
        """Runs one layer."""
        hidden_BSH = self.attention(hidden_BSH, hidden_BSH, mask)
        queries, text = hidden_BSH[:, :n_queries], hidden_BSH[:, n_queries:]
        if self.cross_attention is not None:
            queries = self.cross_attention(queries, features_BTF)
        queries = cast(Tensor, self.feed_forward(queries))
        if self.text_feed_forward is None or text.shape[1] == 0:
            return queries
        return torch.cat([queries, self.text_feed_forward(text)], dim=1)


class QueryTransformer(InputProjector):
    """Learned queries through layers of attention, then one linear layer: type `query_transformer`."""

    def __init__(self, config: Mapping[str, Any], stages: Stages) -> None:
        super().__init__(config["feature_width"], config["output_width"], stages)
        width, text_vocabulary = config["hidden_width"], config.get("text_vocab", 0)
        self.n_queries: int = config["n_queries"]
        self.reads_prompt = text_vocabulary > 0
        self.queries = nn.Parameter(torch.zeros(1, self.n_queries, width).normal_(std=0.02))
        self.input_norm = nn.LayerNorm(width)
        self.text_embedding = nn.Embedding(text_vocabulary, width) if text_vocabulary else None
        self.text_positions = nn.Embedding(config.get("text_positions", 512), width) if text_vocabulary else None
        every, feature_width = config.get("cross_attention_every", 1), stages.output_width
        self.layers = nn.ModuleList(
            _Layer(width, None if index % every else feature_width, config["heads"], self.reads_prompt)
            for index in range(config["layers"])
        )
        self.projection = nn.Linear(width, self.output_width)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds it; `text_vocab` above zero makes it read the prompt."""
        check_keys(
            config,
            {"feature_width", "hidden_width", "output_width", "n_queries", "layers", "heads"},
            {"stages", "cross_attention_every", "text_vocab", "text_positions"},
        )
        return cls(config, Stages(config.get("stages", []), config["feature_width"]))

    def tokens_for(self, n_tokens: int, n_frames: int = 1) -> int:
        """As many as there are queries, for each frame that is still by itself behind the stages."""
        frames_left, _ = self.stages.shape_for(n_tokens, n_frames)
        return frames_left * self.n_queries

    def project(self, features_BTF: Tensor, prompt_ids_BL: Tensor | None = None) -> Tensor:
        """Lets the queries read features, and the prompt (padded by `PAD_ID`) where the config has text."""
        hidden_BSH = self.queries.expand(len(features_BTF), -1, -1)
        mask = None
        if self.text_embedding is not None and self.text_positions is not None and prompt_ids_BL is not None:
            prompt_ids_BL = prompt_ids_BL[:, : self.text_positions.num_embeddings]
            positions = torch.arange(prompt_ids_BL.shape[1], device=prompt_ids_BL.device)
            text = self.text_embedding(prompt_ids_BL.clamp(min=0)) + self.text_positions(positions)
            hidden_BSH = torch.cat([hidden_BSH, text], dim=1)
            seen = torch.ones(len(features_BTF), self.n_queries, dtype=torch.bool, device=prompt_ids_BL.device)
            mask = torch.cat([seen, prompt_ids_BL != PAD_ID], dim=1)[:, None, None, :]
        hidden_BSH = self.input_norm(hidden_BSH)
        for layer in self.layers:
            hidden_BSH = layer(hidden_BSH, features_BTF, self.n_queries, mask)
        projected: Tensor = self.projection(hidden_BSH[:, : self.n_queries])
        return projected
