"""What the judges of pictures and of films share: light and color apart, what codecs do to color, nearest words."""

# N tiles, H height, W width, C channels

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.playroom.words import BACKGROUND_LEVEL, COLOR_RGB

Floats: TypeAlias = NDArray[np.float32]

MAX_BACKGROUND_ERROR: Final = 40.0
MAX_COLOR_ERROR: Final = 75.0
MIN_FIT: Final = 0.7
"""Smallest share of what is seen that the best drawing has to explain."""
CLEAR_LEAD: Final = 2.0
"""A drawing that leaves less than this many times the best one's remainder is a rival: codecs may have swapped them."""
TO_YCC: Final = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32)
CHROMA_WEIGHT: Final = 4.0
"""A halved chroma pixel stands for four."""
_JPEG_QUALITY: Final = 80


def halved(tiles_NHW: Floats) -> Floats:
    """Means of 2×2 pixels."""
    n_tiles, height, width = tiles_NHW.shape
    means: Floats = tiles_NHW.reshape(n_tiles, height // 2, 2, width // 2, 2).mean((2, 4))
    return means


def blurred(tiles_NHW: Floats) -> Floats:
    """What halving makes of chroma that a decoder has interpolated."""
    for axis in (1, 2):
        n = tiles_NHW.shape[axis]
        padded = np.pad(tiles_NHW, [(0, 0), *((1, 1) if axis == other else (0, 0) for other in (1, 2))])
        neighbors = padded.take(range(n), axis) + padded.take(range(2, n + 2), axis)
        tiles_NHW = (0.75 * tiles_NHW + 0.125 * neighbors).astype(np.float32)
    return tiles_NHW


def through_jpeg(pixels_HWC: Floats) -> Floats:
    """What JPEG makes of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.rint(pixels_HWC), 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return np.asarray(Image.open(buffer), np.float32)


def nearest_background(level_C: Floats) -> str | None:
    """The background of that color; None where none is near."""
    return _nearest(level_C, BACKGROUND_LEVEL, MAX_BACKGROUND_ERROR)


def nearest_color(color_C: Floats) -> str | None:
    """The color of an object; None where none is near."""
    return _nearest(color_C, COLOR_RGB, MAX_COLOR_ERROR)


def _nearest(color_C: Floats, known: Mapping[str, int | tuple[int, int, int]], most: float) -> str | None:
    errors = {name: float(np.abs(color_C - np.array(nominal)).max()) for name, nominal in known.items()}
    best = min(errors, key=lambda name: errors[name])
    return best if errors[best] <= most else None
