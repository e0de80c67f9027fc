"""Drawing scenes: exact coverage by supersampling, blended over the background, then noise.

Every object stays inside its 20×20 px cell, so each is drawn in a tile of its own; drawing at `SUPERSAMPLE`
times the size and scaling down with a box filter is the mean of the inside test over a pixel's samples.
"""

# N objects, S samples along a pixel row of a tile, P pixels along a tile

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.playroom.scenes import Scene, SceneObject
from services.playroom.words import (
    BACKGROUND_LEVEL,
    CELL_CENTERS_PX,
    CELL_SIDE_PX,
    COLOR_RGB,
    IMAGE_SIDE_PX,
    RADIUS_PX,
    SHAPES,
)

SUPERSAMPLE = 4
_FIRST_CELL_PX = CELL_CENTERS_PX[0] - CELL_SIDE_PX // 2

Floats: TypeAlias = NDArray[np.float32]
Bools: TypeAlias = NDArray[np.bool_]


@lru_cache(maxsize=8)
def _sample_offsets(scale: int) -> Floats:
    """Sample positions along one side of a tile, in px of the 64 px picture, from the tile's center."""
    n_samples = CELL_SIDE_PX * scale * SUPERSAMPLE
    step = 1.0 / (scale * SUPERSAMPLE)
    return ((np.arange(n_samples) + 0.5) * step - CELL_SIDE_PX / 2).astype(np.float32)


def _inside_polygon(x: Floats, y: Floats, corners: Sequence[tuple[float, float]]) -> Bools:
    """Even-odd test of points against a polygon around the origin."""
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=bool)
    for i, (x0, y0) in enumerate(corners):
        x1, y1 = corners[i - 1]
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


def _around(angles_deg: Sequence[float], radii: Sequence[float]) -> list[tuple[float, float]]:
    """Corners at angles clockwise from straight up; y grows downwards."""
    return [
        (float(r * np.sin(np.radians(a))), float(-r * np.cos(np.radians(a))))
        for a, r in zip(angles_deg, radii, strict=True)
    ]


_TRIANGLE = _around([0, 120, 240], [1.1] * 3)
_STAR = _around([36 * i for i in range(10)], [1.1, 0.45] * 5)


def inside_shape(shape: str, x: Floats, y: Floats) -> Bools:
    """Tells which points lie in a shape of radius 1 around the origin (y downwards).

    Raises:
        ValueError: There is no such shape.
    """
    match shape:
        case "circle":
            return x * x + y * y <= 1.0
        case "square":
            return np.maximum(np.abs(x), np.abs(y)) <= 0.9
        case "triangle":
            return _inside_polygon(x, y, _TRIANGLE)
        case "star":
            return _inside_polygon(x, y, _STAR)
        case "cross":
            near, far = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
            return (near <= 0.3) & (far <= 1.0)
        case "ring":
            squared = x * x + y * y
            return (squared <= 1.0) & (squared >= 0.55**2)
        case _:
            raise ValueError(f"no such shape: {shape!r}; expected one of {', '.join(SHAPES)}")


def coverage_of(shape: str, objects: Sequence[SceneObject], scale: int) -> Floats:
    """Covered part of each pixel of the tiles of objects that share a shape (NPP)."""
    offsets_S = _sample_offsets(scale)
    radius_N = np.array([RADIUS_PX[o.size] for o in objects], np.float32)
    shift_N2 = np.array([o.shift_px for o in objects], np.float32)
    x = ((offsets_S[None, :] - shift_N2[:, :1]) / radius_N[:, None])[:, None, :]
    y = ((offsets_S[None, :] - shift_N2[:, 1:]) / radius_N[:, None])[:, :, None]
    inside_NSS = inside_shape(shape, x, y)
    side = CELL_SIDE_PX * scale
    tiles = inside_NSS.reshape(len(objects), side, SUPERSAMPLE, side, SUPERSAMPLE)
    covered: Floats = tiles.mean(axis=(2, 4), dtype=np.float32)
    return covered


def draw_scenes(scenes: Sequence[Scene], scale: int = 1) -> NDArray[np.uint8]:
    """Draws scenes at 64·scale px a side, noise included.

    Shapes:
        Result: scenes, height, width, 3 (RGB).
    """
    side = IMAGE_SIDE_PX * scale
    levels = np.array([BACKGROUND_LEVEL[s.background] for s in scenes], np.float32)
    canvas = np.empty((len(scenes), side, side, 3), np.float32)
    canvas[:] = levels[:, None, None, None]
    by_shape: dict[str, list[tuple[int, SceneObject]]] = {}
    for index, scene in enumerate(scenes):
        for item in scene.objects:
            by_shape.setdefault(item.shape, []).append((index, item))
    tile = CELL_SIDE_PX * scale
    for shape, members in by_shape.items():
        coverage_NPP = coverage_of(shape, [item for _, item in members], scale)
        for (index, item), cover in zip(members, coverage_NPP, strict=True):
            top = (_FIRST_CELL_PX + CELL_SIDE_PX * item.row) * scale
            left = (_FIRST_CELL_PX + CELL_SIDE_PX * item.column) * scale
            color = np.add(COLOR_RGB[item.color], item.color_offset, dtype=np.float32)
            patch = canvas[index, top : top + tile, left : left + tile]
            patch += cover[..., None] * (color - levels[index])
    for index, scene in enumerate(scenes):
        if scene.noise_sigma > 0:
            noise = np.random.default_rng(scene.noise_seed).standard_normal((side, side, 3), np.float32)
            canvas[index] += noise * np.float32(scene.noise_sigma)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def picture_of(scene: Scene, scale: int = 1) -> Image.Image:
    """Draws one scene as a picture."""
    return Image.fromarray(draw_scenes([scene], scale)[0])


def encode_picture(picture: Image.Image, quality: int | None = None) -> bytes:
    """Writes a picture as PNG, or as JPEG of a quality."""
    buffer = io.BytesIO()
    if quality is None:
        picture.save(buffer, "PNG")
    else:
        picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
