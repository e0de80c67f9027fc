"""Token shapers that run before a projection: fewer, wider tokens."""

# B pictures, T tokens, F feature width

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn


def space_to_depth(features_BTF: Tensor, side: int) -> Tensor:
    """Joins each side×side neighborhood of a square raster into one token of width side²·F.

    Raises:
        ValueError: The tokens are no square raster, or it does not divide.
    """
    n_pictures, n_tokens, width = features_BTF.shape
    raster = math.isqrt(n_tokens)
    if raster * raster != n_tokens or raster % side:
        raise ValueError(f"space_to_depth {side}: {n_tokens} tokens are no square raster that divides by it")
    blocks = raster // side
    grid = features_BTF.reshape(n_pictures, blocks, side, blocks, side, width)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(n_pictures, blocks * blocks, side * side * width)


def concat_adjacent(features_BTF: Tensor, count: int) -> Tensor:
    """Joins every `count` tokens that follow each other into one of width count·F.

    Raises:
        ValueError: The tokens do not divide.
    """
    n_pictures, n_tokens, width = features_BTF.shape
    if n_tokens % count:
        raise ValueError(f"concat_adjacent {count}: {n_tokens} tokens do not divide by it")
    return features_BTF.reshape(n_pictures, n_tokens // count, count * width)


_STAGES = {"space_to_depth": space_to_depth, "concat_adjacent": concat_adjacent}


def _joined(name: str, size: int) -> int:
    """How many tokens a stage makes one of."""
    return size**2 if name == "space_to_depth" else size


class Stages(nn.Module):
    """A row of token shapers, such as `[{"space_to_depth": 2}]`."""

    def __init__(self, stages: Sequence[Mapping[str, int]]) -> None:
        super().__init__()
        self._steps: list[tuple[str, int]] = []
        for index, stage in enumerate(stages):
            for name, size in stage.items():
                if name not in _STAGES or size < 1:
                    raise ValueError(f"stages[{index}]: {name}: {size}; expected {', '.join(_STAGES)} and a count ≥ 1")
                self._steps.append((name, size))

    def width_for(self, feature_width: int) -> int:
        """Width of a token that comes out."""
        return feature_width * math.prod(_joined(name, size) for name, size in self._steps)

    def tokens_for(self, n_tokens: int) -> int:
        """How many tokens come out.

        Raises:
            ValueError: So many do not divide.
        """
        for name, size in self._steps:
            if n_tokens % _joined(name, size):
                raise ValueError(f"{name} {size}: {n_tokens} tokens do not divide by {_joined(name, size)}")
            n_tokens //= _joined(name, size)
        return n_tokens

    def forward(self, features_BTF: Tensor) -> Tensor:
        """Runs the shapers in order."""
        for name, size in self._steps:
            features_BTF = _STAGES[name](features_BTF, size)
        return features_BTF
