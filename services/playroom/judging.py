"""The judge of pictures: reads objects and background back from pixels, by rules, or says that it cannot.

Every cell is held against drawings of all shapes in all sizes at shifts of a quarter pixel. A drawing is the
part of each pixel that is covered, so the best color for it follows by least squares, and what it leaves
unexplained tells how well it fits. JPEG blurs color more than light, so both are fitted apart, and drawings that
are close rivals are redrawn, sent through JPEG and compared again.
"""

# K templates, P luma pixels of a cell (400), Q chroma pixels (100)

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.playroom.captions import CaptionFacts
from services.playroom.drawing import coverage_of
from services.playroom.fitting import (
    CHROMA_WEIGHT,
    CLEAR_LEAD,
    MIN_FIT,
    TO_YCC,
    blurred,
    halved,
    nearest_background,
    nearest_color,
    through_jpeg,
)
from services.playroom.scenes import SceneObject
from services.playroom.words import (
    CELL_CENTERS_PX,
    CELL_SIDE_PX,
    IMAGE_SIDE_PX,
    MAX_SHIFT_PX,
    PLACES,
    SHAPES,
    SIZES,
)

_EMPTY_CONTRAST = 22.0
"""Mean difference of a cell's twenty strongest pixels to the background below which it is empty."""
_SHIFTS = np.arange(-MAX_SHIFT_PX, MAX_SHIFT_PX + 0.01, 0.25)


@dataclass(frozen=True)
class _Templates:
    """Drawings as they cover luma pixels (KP) and, half as fine, chroma pixels (KQ): sharp, and as JPEG blurs them."""

    luma: NDArray[np.float32]
    chroma: NDArray[np.float32]
    names: list[tuple[str, str]]


@lru_cache(maxsize=1)
def _templates() -> _Templates:
    covers, names = [], []
    for shape in SHAPES:
        for size in SIZES:
            items = [SceneObject(shape, "red", size, 0, (float(x), float(y))) for x in _SHIFTS for y in _SHIFTS]
            covers.append(coverage_of(shape, items, 1))
            names += [(shape, size)] * len(items)
    cover = np.concatenate(covers)
    sharp = halved(cover)
    luma = np.concatenate([cover, cover]).reshape(2 * len(cover), -1)
    chroma = np.concatenate([sharp, blurred(sharp)]).reshape(2 * len(cover), -1)
    return _Templates(luma, chroma, names * 2)


@dataclass(frozen=True)
class _Fit:
    """The best drawing of one shape in one size: which template, and its color (R, G, B)."""

    template: int
    color: NDArray[np.float32]
    unexplained: float


def _fits(contrast: NDArray[np.float32], level: NDArray[np.float32]) -> tuple[float, list[_Fit]]:
    """Energy of a cell, and the best fit of each shape in each size, best first.

    Args:
        contrast: Difference of a 20×20 cell to the background, in luma and chroma (Y, Cb, Cr).
        level: The background (R, G, B).
    """
    luma_P = contrast[..., 0].reshape(-1)
    chroma_Q2 = halved(contrast[..., 1:].transpose(2, 0, 1)).reshape(2, -1).T
    energy = float(np.square(luma_P).sum() + CHROMA_WEIGHT * np.square(chroma_Q2).sum())
    templates = _templates()
    luma_K, luma_squares_K = templates.luma @ luma_P, np.square(templates.luma).sum(1)
    chroma_K2, chroma_squares_K = templates.chroma @ chroma_Q2, np.square(templates.chroma).sum(1)
    explained_K = np.square(luma_K) / luma_squares_K
    explained_K += CHROMA_WEIGHT * np.square(chroma_K2).sum(1) / chroma_squares_K
    fits: dict[tuple[str, str], _Fit] = {}
    for index in np.argsort(-explained_K):
        name = templates.names[index]
        if name not in fits:
            ycc = np.array([luma_K[index] / luma_squares_K[index], *(chroma_K2[index] / chroma_squares_K[index])])
            color = np.linalg.solve(TO_YCC, ycc) + level
            fits[name] = _Fit(int(index), color, energy - float(explained_K[index]))
            if len(fits) == len(SHAPES) * len(SIZES):
                break
    return energy, list(fits.values())


def _redrawn(pixels: NDArray[np.float32], where: tuple[slice, slice], fit: _Fit, level: NDArray[np.float32]) -> float:
    """What is left unexplained by a picture with that drawing in a cell, seen through JPEG, strong and weak alike."""
    cover = _templates().luma[fit.template].reshape(CELL_SIDE_PX, CELL_SIDE_PX, 1)
    redrawn = pixels.copy()
    redrawn[where] = level + cover * (fit.color - level)
    drawn, seen = ((picture[where] - level) @ TO_YCC.T for picture in (through_jpeg(redrawn), pixels))
    left = 0.0
    for channel in range(3):
        size = float(np.square(drawn[..., channel]).sum())
        overlap = float((drawn[..., channel] * seen[..., channel]).sum())
        left += float(np.square(seen[..., channel]).sum()) - (overlap**2 / size if size > 0 else 0.0)
    return left


def _read_cell(
    pixels: NDArray[np.float32], where: tuple[slice, slice], level: NDArray[np.float32]
) -> tuple[str, str, str] | None | bool:
    """Reads (shape, color, size) of a cell; False where it is empty, None where nothing fits."""
    contrast = ((pixels[where] - level) @ TO_YCC.T).astype(np.float32)
    strongest = np.sort(np.abs(contrast).max(-1).reshape(-1))[-20:]
    if strongest.mean() < _EMPTY_CONTRAST:
        return False
    energy, fits = _fits(contrast, level)
    best = fits[0]
    rivals = [fit for fit in fits if fit.unexplained < CLEAR_LEAD * best.unexplained]
    if len(rivals) > 1:
        best = min(rivals, key=lambda fit: _redrawn(pixels, where, fit, level))
    if best.unexplained > (1 - MIN_FIT) * energy:
        return None
    color = nearest_color(best.color)
    if color is None:
        return None
    shape, size = _templates().names[best.template]
    return (shape, color, size)


def read_picture(picture: Image.Image) -> CaptionFacts | None:
    """Reads what a picture shows, None where it cannot tell.

    A picture of another size is scaled to 64×64 with a box filter first.
    """
    picture = picture.convert("RGB")
    if picture.size != (IMAGE_SIDE_PX, IMAGE_SIDE_PX):
        picture = picture.resize((IMAGE_SIDE_PX, IMAGE_SIDE_PX), Image.Resampling.BOX)
    pixels = np.asarray(picture, np.float32)
    first, last = CELL_CENTERS_PX[0] - CELL_SIDE_PX // 2, CELL_CENTERS_PX[-1] + CELL_SIDE_PX // 2
    frame = np.concatenate([part.reshape(-1, 3) for part in (pixels[:first], pixels[last:], pixels[:, :first])])
    level = np.median(frame, axis=0)
    background = nearest_background(level)
    if background is None:
        return None
    objects = set()
    for cell, place in enumerate(PLACES):
        top, left = (first + CELL_SIDE_PX * index for index in divmod(cell, 3))
        where = (slice(top, top + CELL_SIDE_PX), slice(left, left + CELL_SIDE_PX))
        found = _read_cell(pixels, where, level)
        if found is None:
            return None
        if isinstance(found, tuple):
            objects.add((*found, place))
    return CaptionFacts(frozenset(objects), background)
