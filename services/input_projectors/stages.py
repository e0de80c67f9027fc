"""Token shapers that run before a projection: fewer tokens, wider tokens, tokens that know their time."""

# B media, N frames of a medium, T tokens of a frame, F feature width

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

MAX_SIZE = 4096
POSITION_STD = 0.02


def space_to_depth(features_TF: Tensor, side: int) -> Tensor:
    """Joins each side×side neighborhood of a square raster into one token of width side²·F.

    Shapes:
        features_TF: [..., tokens, width]; what stands before stays.

    Raises:
        ValueError: The tokens are no square raster, or it does not divide.
    """
    *before, n_tokens, width = features_TF.shape
    raster = math.isqrt(n_tokens)
    if raster * raster != n_tokens or raster % side:
        raise ValueError(f"space_to_depth {side}: {n_tokens} tokens are no square raster that divides by it")
    blocks = raster // side
    grid = features_TF.reshape(-1, blocks, side, blocks, side, width)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(*before, blocks * blocks, side * side * width)


def concat_adjacent(features_TF: Tensor, count: int) -> Tensor:
    """Joins every `count` tokens that follow each other into one of width count·F.

    Shapes:
        features_TF: [..., tokens, width]; what stands before stays.

    Raises:
        ValueError: The tokens do not divide.
    """
    *before, n_tokens, width = features_TF.shape
    _check_divides("concat_adjacent", n_tokens, count)
    return features_TF.reshape(*before, n_tokens // count, count * width)


def mean_pool(features_TF: Tensor, count: int) -> Tensor:
    """Makes one token of every `count` that follow each other: their mean.

    Shapes:
        features_TF: [..., tokens, width]; what stands before stays.

    Raises:
        ValueError: The tokens do not divide.
    """
    *before, n_tokens, width = features_TF.shape
    _check_divides("mean_pool", n_tokens, count)
    return features_TF.reshape(*before, n_tokens // count, count, width).mean(-2)


def _check_divides(name: str, n_tokens: int, count: int) -> None:
    if n_tokens % count:
        raise ValueError(f"{name} {count}: {n_tokens} tokens do not divide by it")


_SHAPERS = {"space_to_depth": space_to_depth, "concat_adjacent": concat_adjacent, "mean_pool": mean_pool}
STAGES = (*_SHAPERS, "add_time_positions", "concat_items")


class Stages(nn.Module):
    """A row of token shapers, such as `[{"space_to_depth": 2}, {"concat_items": 1}]`.

    `space_to_depth`, `concat_adjacent` and `mean_pool` shape the tokens of every frame by itself.
    `add_time_positions: n` adds a learned vector to all tokens of a frame, by its index, for at most n frames.
    `concat_items: 1` lets the frames of a medium follow each other as one row of tokens.

    Attributes:
        output_width: Width of a token that comes out.
        max_frames: Most frames of a medium; 0 means any number.
        joins_frames: Whether all frames come out as one.
        time_positions: One vector a frame (`add_time_positions`); None where no stage wants them.
    """

    def __init__(self, stages: Sequence[Mapping[str, int]], feature_width: int) -> None:
        super().__init__()
        self._steps: list[tuple[str, int]] = []
        self.output_width = feature_width
        self.max_frames = 0
        self.joins_frames = False
        self.time_positions: nn.Parameter | None = None
        for index, stage in enumerate(stages):
            for name, size in stage.items():
                self._add(name, size, f"stages[{index}]: {name}: {size}")

    def _add(self, name: str, size: int, what: str) -> None:
        most = 1 if name == "concat_items" else MAX_SIZE
        if name not in STAGES or type(size) is not int or not 1 <= size <= most:
            raise ValueError(f"{what}; expected one of {', '.join(STAGES)} and a count from 1 to {most}")
        if name in ("add_time_positions", "concat_items") and any(
            step in ("concat_items", name) for step, _ in self._steps
        ):
            raise ValueError(f"{what}; expected once, and before concat_items: there are no frames left behind it")
        self.joins_frames |= name == "concat_items"
        if name == "add_time_positions":
            self.max_frames = size
            self.time_positions = nn.Parameter(torch.randn(size, self.output_width) * POSITION_STD)
        self.output_width *= {"space_to_depth": size * size, "concat_adjacent": size}.get(name, 1)
        self._steps.append((name, size))

    def shape_for(self, n_tokens: int, n_frames: int = 1) -> tuple[int, int]:
        """How many frames come out, and how many tokens each.

        Raises:
            ValueError: So many tokens do not divide, or there are too many frames.
        """
        for name, size in self._steps:
            if name == "add_time_positions":
                _check_frames(n_frames, size)
            elif name == "concat_items":
                n_frames, n_tokens = 1, n_frames * n_tokens
            else:
                joined = size * size if name == "space_to_depth" else size
                if n_tokens % joined:
                    raise ValueError(f"{name} {size}: {n_tokens} tokens do not divide by {joined}")
                n_tokens //= joined
        return n_frames, n_tokens

    def forward(self, features: Tensor) -> Tensor:
        """Runs the shapers in order.

        Shapes:
            features: BTF for media without time, or BNTF; as many axes come out, B first, width last.

        Raises:
            ValueError: The tokens do not divide, or there are too many frames.
        """
        features_BNTF = features if features.ndim == 4 else features[:, None]
        for name, size in self._steps:
            if name == "add_time_positions" and self.time_positions is not None:
                n_frames = features_BNTF.shape[1]
                _check_frames(n_frames, size)
                features_BNTF = features_BNTF + self.time_positions[:n_frames, None]
            elif name == "concat_items":
                features_BNTF = features_BNTF.flatten(1, 2)[:, None]
            else:
                features_BNTF = _SHAPERS[name](features_BNTF, size)
        return features_BNTF if features.ndim == 4 else features_BNTF[:, 0]


def _check_frames(n_frames: int, most: int) -> None:
    if n_frames > most:
        raise ValueError(f"add_time_positions {most}: {n_frames} frames, at most {most} have a position")
