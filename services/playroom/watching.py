"""The judge of films: reads object, motion and background back from frames, or says that it cannot.

The strongest difference to the background is the object's color, and the share of it in a pixel how much the object
covers there. Area and center of what is covered follow the motion; drawings of all shapes with that area at that
center tell the shape. Shapes that are close rivals are redrawn, sent through JPEG and compared again: what differs
from the background in chroma alone loses its edges in any codec that keeps chroma half as fine.
"""

# F frames, H height, W width, C channels, B pixels of the border

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import pi, sin, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.playroom.filming import Pixels, cover_disc, path_of
from services.playroom.films import N_FRAMES, FilmFacts
from services.playroom.fitting import (
    CHROMA_WEIGHT,
    CLEAR_LEAD,
    MIN_FIT,
    TO_YCC,
    Floats,
    blurred,
    halved,
    nearest_background,
    nearest_color,
    through_jpeg,
)
from services.playroom.words import IMAGE_SIDE_PX, SIZES

_BORDER_PX = 3
_MIN_CONTRAST = 40.0
_MAX_OFF_COLOR = 0.5
"""Largest share of what is seen that may have another color than the object."""
_MIN_COVER = 0.15
"""What covers less than this is noise."""
_MIN_AREA_PX = 15.0
_MIN_MOVE_PX = 24.0
_MAX_DRIFT_PX = 6.0
_MAX_BEND_PX = 4.0
_MIN_GROWTH = 1.8
_MAX_GROWTH_AT_REST = 1.35
_TILE_PX = 32
_RADIUS_FACTORS = (0.9, 1.0, 1.1)
_FINENESS = 4
"""Drawings are kept for quarters of a pixel."""

_AREA_OF_UNIT: Final[dict[str, float]] = {
    "circle": pi,
    "square": 1.8**2,
    "triangle": 3 * sqrt(3) / 4 * 1.1**2,
    "star": 5 * 1.1 * 0.45 * sin(pi / 5),
    "cross": 4 * 2 * 0.3 - 0.6**2,
    "ring": pi * (1 - 0.55**2),
}


def _at_world_size(frames_FHWC: Pixels) -> Floats:
    """Eight frames of 64×64."""
    if len(frames_FHWC) != N_FRAMES:
        chosen = np.rint(np.linspace(0, len(frames_FHWC) - 1, N_FRAMES)).astype(int)
        frames_FHWC = frames_FHWC[chosen]
    side = IMAGE_SIDE_PX
    if frames_FHWC.shape[1:3] != (side, side):
        resized = [Image.fromarray(frame).resize((side, side), Image.Resampling.BOX) for frame in frames_FHWC]
        frames_FHWC = np.stack([np.asarray(frame) for frame in resized])
    return frames_FHWC.astype(np.float32)


def _background(pixels_FHWC: Floats) -> tuple[str, Floats] | None:
    """Name and color (C) of what is along the border in every frame."""
    near = _BORDER_PX
    sides = (pixels_FHWC[:, :near], pixels_FHWC[:, -near:], pixels_FHWC[:, :, :near], pixels_FHWC[:, :, -near:])
    border_BC = np.concatenate([side.reshape(-1, 3) for side in sides])
    level_C: Floats = np.median(border_BC, axis=0).astype(np.float32)
    name = nearest_background(level_C)
    return (name, level_C) if name is not None else None


def _covered(pixels_FHWC: Floats, level_C: Floats) -> tuple[Floats, Floats] | None:
    """How much the object covers of each pixel (FHW), and its color (C); None where nothing stands out."""
    contrast_FHWC = pixels_FHWC - level_C
    strength_FHW = np.square(contrast_FHWC).sum(-1)
    n_strongest = N_FRAMES * round(_MIN_AREA_PX)
    threshold = np.partition(strength_FHW.reshape(-1), -n_strongest)[-n_strongest]
    contrast_C = np.median(contrast_FHWC[strength_FHW >= threshold], axis=0)
    if np.abs(contrast_C).max() < _MIN_CONTRAST:
        return None
    cover_FHW = contrast_FHWC @ contrast_C / np.square(contrast_C).sum()
    # what differs from the background in another direction is no part of this object
    off_FHW = np.square(contrast_FHWC - cover_FHW[..., None] * contrast_C).sum(-1)
    if off_FHW.sum() > _MAX_OFF_COLOR * strength_FHW.sum():
        return None
    solid = (cover_FHW > 0.85) & (cover_FHW < 1.15)
    color_C = level_C + np.median(contrast_FHWC[solid], axis=0) if solid.any() else level_C + contrast_C
    return cover_FHW.astype(np.float32), color_C.astype(np.float32)


def _path(cover_FHW: Floats) -> NDArray[np.float64] | None:
    """Center (x, y) and square root of the area of what is covered in each frame (F3)."""
    seen_FHW = np.where(cover_FHW > _MIN_COVER, np.minimum(cover_FHW, 1.0), 0.0)
    area_F = seen_FHW.sum((1, 2))
    if area_F.min() < _MIN_AREA_PX:
        return None
    places = np.arange(IMAGE_SIDE_PX) + 0.5
    x_F, y_F = (seen_FHW.sum(axis) @ places / area_F for axis in (1, 2))
    return np.stack([x_F, y_F, np.sqrt(area_F)], axis=1)


def _motion(path_F3: NDArray[np.float64]) -> str | None:
    """Names the motion; None where it is none of the world's."""
    step = np.arange(N_FRAMES) - (N_FRAMES - 1) / 2
    slope_3 = step @ path_F3 / np.square(step).sum()
    bend = np.abs(path_F3 - path_F3.mean(0) - step[:, None] * slope_3).max(0)
    move_x, move_y, _ = slope_3 * (N_FRAMES - 1)
    first, last = (float(size) for size in (path_F3[:2, 2].mean(), path_F3[-2:, 2].mean()))
    growth = last / first
    if bend[:2].max() > _MAX_BEND_PX:
        return None
    near, far = sorted((abs(move_x), abs(move_y)))
    steady = 1 / _MAX_GROWTH_AT_REST < growth < _MAX_GROWTH_AT_REST
    if far >= _MIN_MOVE_PX and near <= _MAX_DRIFT_PX and steady:
        if abs(move_x) > abs(move_y):
            return "moving right" if move_x > 0 else "moving left"
        return "moving down" if move_y > 0 else "moving up"
    if far > _MAX_DRIFT_PX:
        return None
    if growth >= _MIN_GROWTH:
        return "growing"
    if growth <= 1 / _MIN_GROWTH:
        return "shrinking"
    return "standing still" if steady else None


@lru_cache(maxsize=16384)
def _drawing(shape: str, x_steps: int, y_steps: int, radius_steps: int) -> Floats:
    """A shape around the middle of a tile, moved by steps of a quarter pixel (HW)."""
    middle = _TILE_PX / 2
    return cover_disc(
        shape, middle + x_steps / _FINENESS, middle + y_steps / _FINENESS, radius_steps / _FINENESS, _TILE_PX
    )


@dataclass(frozen=True)
class _Fit:
    """A shape on a path, with the color (R, G, B, against the background) in which it explains most of what is seen."""

    shape: str
    path: list[tuple[float, float, float]]
    contrast: Floats
    unexplained: float


def _explained(seen_FHW: NDArray[np.floating], drawn_FHW: NDArray[np.floating]) -> tuple[float, float]:
    """How much of what is seen a drawing explains with the best factor for all frames before it, and that factor."""
    overlap, size = float(np.vdot(seen_FHW, drawn_FHW)), float(np.vdot(drawn_FHW, drawn_FHW))
    return (overlap**2 / size, overlap / size) if size > 0 else (0.0, 0.0)


def _fit(ycc_FHWC: Floats, shape: str, path: list[tuple[float, float, float]]) -> _Fit:
    """Holds a shape on a path against what is seen.

    Codecs keep chroma half as fine as luma, so the two are looked at apart. Even corners of the tiles keep the
    pixels of chroma whole.
    """
    corners = [(int(x) // 2 * 2, int(y) // 2 * 2) for x, y, _ in path]
    tiles_FHWC = np.stack(
        [
            frame[top : top + _TILE_PX, left : left + _TILE_PX]
            for frame, (left, top) in zip(ycc_FHWC, corners, strict=True)
        ]
    )
    steps = [
        (round((x - left) * _FINENESS), round((y - top) * _FINENESS), round(radius * _FINENESS))
        for (x, y, radius), (left, top) in zip(path, corners, strict=True)
    ]
    drawn_FHW = np.stack([_drawing(shape, *step) for step in steps])
    sharp_FHW = halved(drawn_FHW)
    chromas = [halved(tiles_FHWC[..., channel]) for channel in (1, 2)]
    energy = np.square(tiles_FHWC[..., 0]).sum() + CHROMA_WEIGHT * sum(np.square(each).sum() for each in chromas)
    in_luma, luma = _explained(tiles_FHWC[..., 0], drawn_FHW)
    in_chroma, chroma = max(
        (sum(part for part, _ in found), [factor for _, factor in found])
        for found in ([_explained(each, drawn) for each in chromas] for drawn in (sharp_FHW, blurred(sharp_FHW)))
    )
    contrast_C = np.linalg.solve(TO_YCC, np.array([luma, *chroma])).astype(np.float32)
    return _Fit(shape, path, contrast_C, 1 - (in_luma + CHROMA_WEIGHT * in_chroma) / float(energy))


def _film_through_jpeg(frames_FHWC: Floats) -> Floats:
    """What JPEG makes of frames, all of them as one tall picture."""
    n_frames, height, width, _ = frames_FHWC.shape
    return through_jpeg(frames_FHWC.reshape(n_frames * height, width, 3)).reshape(frames_FHWC.shape)


def _redrawn(contrast_FHWC: Floats, level_C: Floats, fit: _Fit) -> float:
    """What is left unexplained by a film that shows a fit, seen through JPEG, strong and weak colors alike."""
    cover_FHW = np.stack([cover_disc(fit.shape, *place) for place in fit.path])
    redrawn = (_film_through_jpeg(level_C + cover_FHW[..., None] * fit.contrast) - level_C) @ TO_YCC.T
    seen = contrast_FHWC @ TO_YCC.T
    explained = [_explained(seen[..., channel], redrawn[..., channel])[0] for channel in range(3)]
    return float(np.square(seen).sum()) - sum(explained)


def _shape(contrast_FHWC: Floats, level_C: Floats, path_F3: NDArray[np.float64], motion: str) -> str | None:
    """The shape whose drawings leave least unexplained; None where that is too much.

    It is tried where and as large as it was measured, and as the world has it: codecs blur weak colors, and then
    the measured area is off by some percent.
    """
    half = _TILE_PX // 2
    ycc_FHWC = np.pad(contrast_FHWC @ TO_YCC.T, ((0, 0), (half, half), (half, half), (0, 0)))
    fits: list[_Fit] = []
    for shape, unit_area in _AREA_OF_UNIT.items():
        measured = [[(x, y, f * root / sqrt(unit_area)) for x, y, root in path_F3] for f in _RADIUS_FACTORS]
        fits += [_fit(ycc_FHWC, shape, path) for path in (*measured, *(path_of(motion, size) for size in SIZES))]
    best = min(fits, key=lambda fit: fit.unexplained)
    if best.unexplained > 1 - MIN_FIT:
        return None
    rivals = [fit for fit in fits if fit.unexplained < CLEAR_LEAD * best.unexplained]
    if len({fit.shape for fit in rivals}) > 1:
        best = min(rivals, key=lambda fit: _redrawn(contrast_FHWC, level_C, fit))
    return best.shape


def read_film(frames_FHWC: Pixels) -> FilmFacts | None:
    """Reads what a film shows, None where it cannot tell. Takes what any decoder gives.

    A film of another length is read in eight frames, evenly; larger ones are scaled to 64×64 with a box filter.
    """
    if frames_FHWC.ndim != 4 or frames_FHWC.shape[-1] != 3 or not len(frames_FHWC):
        return None
    pixels_FHWC = _at_world_size(frames_FHWC)
    background = _background(pixels_FHWC)
    if background is None:
        return None
    found = _covered(pixels_FHWC, background[1])
    if found is None:
        return None
    cover_FHW, color_C = found
    path_F3 = _path(cover_FHW)
    color = nearest_color(color_C)
    if path_F3 is None or color is None:
        return None
    motion = _motion(path_F3)
    shape = _shape(pixels_FHWC - background[1], background[1], path_F3, motion) if motion else None
    if motion is None or shape is None:
        return None
    return FilmFacts(color, shape, motion, background[0])
