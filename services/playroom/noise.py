"""Gaussian noise, many times faster than one draw after another: 16 random bits choose a quantile."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]

_LEVELS = 1 << 16


@lru_cache(maxsize=1)
def _quantiles() -> Floats:
    """Values of a standard normal variable, all equally likely; the outermost is 4.3."""
    from scipy.special import ndtri

    quantiles: Floats = ndtri((np.arange(_LEVELS) + 0.5) / _LEVELS).astype(np.float32)
    quantiles.setflags(write=False)
    return quantiles


def fill_with_noise(out: Floats, seed: int) -> None:
    """Fills an array with standard normal noise."""
    bits = np.random.default_rng(seed).integers(0, _LEVELS, out.shape, np.uint16)
    np.take(_quantiles(), bits, out=out, mode="clip")
